//! The table of processes at the end of a recording says what the events say, whatever happened to the recording.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use rr_tests::rr::words;
use rr_tests::{Guest, Rr};
use rr_trace::TraceReader;
use rr_trace::processes::{Process, all, read_all};

/// The processes of a trace, from its table if it has one, compared with those that its events tell.
#[track_caller]
fn processes(trace: &Path) -> Vec<Process> {
    let reader = TraceReader::open(trace).unwrap();
    let found = all(&reader).unwrap();
    assert_eq!(found, read_all(&reader).unwrap());
    assert!(!found.is_empty());
    found
}

#[test]
fn of_programs_that_end() {
    let rr = Rr::new();
    for name in [
        "fork_tree",
        "exec_chain",
        "thread_exec",
        "thread_exec_race",
        "exit_group_race",
        "vfork_killed",
        "sigkill_self",
        "zombie",
        "processes_100",
        "namespace_init",
    ] {
        let recording = rr.record(&[], &words([Guest::build(name).path]));
        let there = processes(&recording.dir);
        let pack = recording.dir.with_extension("rrpack");
        let names = [recording.dir.to_str().unwrap(), pack.to_str().unwrap()];
        rr.rr(["pack", names[0], "-o", names[1]]).expect_success();
        assert_eq!(processes(&pack), there, "{name}, packed");
        let unpacked = rr.new_trace();
        rr.rr(["unpack", names[1], "-o", unpacked.to_str().unwrap()])
            .expect_success();
        assert_eq!(processes(&unpacked), there, "{name}, unpacked");
        recording.remove();
    }
}

#[test]
fn of_recordings_that_end_early_or_begin_late() {
    let rr = Rr::new();
    let server = words([Guest::build("flight").path.into_os_string(), "0".into()]);
    for (options, signal) in [
        (&[][..], Signal::SIGKILL),
        (&[], Signal::SIGTERM),
        (
            &["--keep-last", "300ms", "--checkpoint-interval", "20ms"],
            Signal::SIGKILL,
        ),
        (
            &["--keep-last", "300ms", "--checkpoint-interval", "20ms"],
            Signal::SIGTERM,
        ),
    ] {
        let (started, trace) = rr.start_recording(options, &server, &rr.new_dir());
        // Some of the programs that it starts have ended.
        let deadline = std::time::Instant::now() + Duration::from_secs(120);
        while started.stdout_so_far().iter().filter(|b| **b == b'\n').count() < 600 {
            assert!(
                !started.ended() && std::time::Instant::now() < deadline,
                "the program stands still"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        started.signal(signal);
        let run = started.finish(Duration::from_secs(120));
        let there = processes(&trace);
        assert!(there.len() >= 2, "{options:?} {signal}: {there:?}");
        let reader = TraceReader::open(&trace).unwrap();
        assert_eq!(
            reader.is_complete(),
            signal == Signal::SIGTERM,
            "{}",
            run.describe()
        );
        assert_eq!(
            reader.begins_at().is_some(),
            !options.is_empty(),
            "{}",
            run.describe()
        );
        rr.recording_from(trace, run).remove();
    }
}
