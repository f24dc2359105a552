//! `--checkpoint-interval`: the units that count.

use rr_tests::gdb::Program;
use rr_tests::rr::Recording;
use rr_tests::{Rr, TraceInfo};

fn record<'a>(rr: &'a Rr, options: &[&str], args: [&str; 2]) -> (Recording<'a>, TraceInfo) {
    let program = Program::c("steady").arg(args[0]).arg(args[1]);
    let options = [options, &["--checkpoint-wait"]].concat();
    let recording = rr.record(&options, &program.words);
    assert!(recording.run.status.success(), "{}", recording.run.describe());
    recording.verify().expect_success();
    let info = recording.info();
    (recording, info)
}

/// Checks that a replay can start at the last checkpoint.
fn starts_at_the_last(recording: &Recording<'_>, info: &TraceInfo) {
    let last = info.checkpoints.last().unwrap().event.to_string();
    let run = recording.replay(&["-g", &last]).expect_success();
    assert!(recording.run.stdout.ends_with(&run.stdout), "{}", run.describe());
}

/// An interval means about the same with and without the buffer.
#[test]
fn buffered_calls_count() {
    let rr = Rr::new();
    for options in [&[][..], &["-n"]] {
        let options = [options, &["--checkpoint-interval", "200"]].concat();
        let (recording, info) = record(&rr, &options, ["calls", "20000"]);
        // The calls of the program's start are extra, and a checkpoint may be up to an eighth late.
        let count = info.checkpoints.len();
        assert!((85..=105).contains(&count), "{options:?}: {count}");
        starts_at_the_last(&recording, &info);
    }
    // There are few events apart from buffered calls.
    let (_, info) = record(&rr, &["--checkpoint-interval", "200e"], ["calls", "20000"]);
    assert!(info.checkpoints.len() <= 1, "{:?}", info.checkpoints);
}

#[test]
fn an_interval_of_one_call_is_the_shortest() {
    let rr = Rr::new();
    let (recording, info) = record(&rr, &["--checkpoint-interval", "1"], ["calls", "100"]);
    let count = info.checkpoints.len();
    assert!(count >= 50, "{count}");
    starts_at_the_last(&recording, &info);
}

#[test]
fn time_counts_where_nothing_else_happens() {
    let rr = Rr::new();
    let (recording, info) = record(&rr, &["--checkpoint-interval", "100ms"], ["computes", "1000"]);
    // The guest computes this long so that the machine's other work matters little. At least every
    // other checkpoint must exist.
    let count = info.checkpoints.len();
    assert!(count >= 5, "{count}");
    starts_at_the_last(&recording, &info);
    let (recording, info) = record(&rr, &["--checkpoint-interval", "auto"], ["computes", "2500"]);
    assert!(!info.checkpoints.is_empty());
    starts_at_the_last(&recording, &info);
}

#[test]
fn sleep_does_not_count() {
    let rr = Rr::new();
    let (_, info) = record(&rr, &["--checkpoint-interval", "200ms"], ["sleeps", "50"]);
    assert!(info.checkpoints.len() <= 2, "{:?}", info.checkpoints);
}

#[test]
fn what_is_no_interval_is_refused() {
    let rr = Rr::new();
    for text in ["0", "0ms", "1.5s", "10m", "-3", "always"] {
        let run = rr.rr(["record", &format!("--checkpoint-interval={text}"), "true"]);
        assert_eq!(run.status.code(), Some(1), "{}", run.describe());
        assert!(
            String::from_utf8_lossy(&run.stderr).contains("not an interval"),
            "{}",
            run.describe()
        );
    }
}
