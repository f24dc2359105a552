//! Processes that are killed from outside at any moment: in the middle of fork, clone, exec and exit,
//! while the recorder works on them, and before it knows them. The recording goes on, and no process
//! stays stopped for ever.

use std::time::{Duration, Instant};

use rr_tests::rr::words;
use rr_tests::{Guest, Rr, full, run};

#[test]
fn killed_from_outside_at_any_moment() {
    let rr = Rr::new().with_limit(Duration::from_secs(90));
    let (storm, killer) = (
        Guest::build("death_storm").path,
        Guest::build("outside_killer").path,
    );
    let milliseconds = if full() { "10000" } else { "600" };
    for options in [
        &[][..],
        &["--checkpoint-interval", "1e"],
        &["--checkpoint-interval", "7e"],
        &["--checkpoint-interval", "100e"],
    ] {
        let program = words([storm.as_os_str(), "0".as_ref(), milliseconds.as_ref()]);
        let (started, dir) = rr.start_recording(options, &program, &rr.new_dir());
        let deadline = Instant::now() + Duration::from_secs(30);
        let root = loop {
            let out = String::from_utf8(started.stdout_so_far()).unwrap();
            if let Some(root) = out.strip_prefix("root ").and_then(|o| o.strip_suffix('\n')) {
                break root.to_owned();
            }
            assert!(Instant::now() < deadline && !started.ended(), "no root: {out:?}");
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut command = std::process::Command::new(&killer);
        run(command.arg(root).arg(milliseconds), rr.limit).expect_success();
        let recording = rr.recording_from(dir, started.finish(rr.limit));
        let run = &recording.run;
        assert!(
            run.shell_status() == 0 && run.out().ends_with("nobody is left\n"),
            "{options:?}\n{}",
            run.describe()
        );
        assert!(recording.info().complete);
        let replay = recording.replay(&[]).expect_success();
        assert_eq!(replay.stdout, run.stdout);
        recording.verify();
        recording.remove();
    }
}

/// The recorder of a debug build kills one of its tracees at the n-th moment of its work (`rr_tracee`'s
/// `death`), in the full run for all n, here for some.
#[test]
fn killed_at_every_moment() {
    if std::env::var_os("RR_BIN").is_some() || !cfg!(debug_assertions) {
        return;
    }
    let rr = Rr::new().with_limit(Duration::from_secs(30));
    let program = words([Guest::build("mortal").path.as_os_str()]);
    let ways: [(&[&str], &str, usize); 5] = [
        (&[], "", 61),
        (&[], ",late", 67),
        (&["-n"], "", 71),
        (&[], ",parent", 151),
        (
            &["--checkpoint-interval", "3e", "--checkpoint-wait"],
            ",late",
            223,
        ),
    ];
    for (options, how, step) in ways {
        for moment in (1..).step_by(if full() { 1 } else { step }) {
            let dir = rr.new_trace();
            let mut command = rr.command(["record"].iter().chain(options));
            command.current_dir(rr.new_dir());
            command.env("RR_TEST_KILL_AT", format!("{moment}{how}"));
            // A frozen fork of a failed capture must not mislead the next capture.
            command.env("RR_TEST_BASELINE_MIN", "0");
            let run = run(command.arg("-o").arg(&dir).args(&program), rr.limit);
            let what = || format!("{options:?} {moment}{how}\n{}", run.describe());
            if !run.err().contains("rr: test: moment") {
                assert!(moment > 1000, "the program has only so many moments: {}", what());
                break;
            }
            if run.shell_status() == 69 && run.err().contains("it ended before it began") {
                continue;
            }
            assert!(!run.err().contains("the recording failed"), "{}", what());
            let what = what();
            let recording = rr.recording_from(dir, run);
            assert!(recording.info().complete, "{what}");
            let replay = recording.replay(&[]);
            assert_eq!(replay.shell_status(), 0, "{what}\n{}", replay.describe());
            assert_eq!(replay.stdout, recording.run.stdout, "{what}");
            if !options.is_empty() {
                recording.verify();
            }
            recording.remove();
        }
    }
}
