//! I5, flushed is safe: the recorder is killed with SIGKILL at random moments, and the trace left
//! behind replays.

use std::time::Duration;

use nix::sys::signal::Signal;
use rr_tests::programs::{self, Random, shell};
use rr_tests::run::no_process_left_in;
use rr_tests::{Rr, full};

/// Kills the recorder of the sqlite run at random moments (50 in the full run).
#[test]
fn recorder_killed_while_sqlite_runs() {
    let rr = Rr::new().with_limit(Duration::from_secs(600));
    let (rounds, rows) = if full() { (50, 100_000) } else { (6, 8000) };
    let sql = programs::sql(rows);
    let program = shell("sqlite3 test.db < in.sql");
    let options = ["--checkpoint-interval", "20e"];
    let prepare = || {
        let dir = rr.new_dir();
        std::fs::write(dir.join("in.sql"), &sql).unwrap();
        dir
    };

    let complete = rr.record_in(&options, &program, &prepare());
    let whole = complete.run.elapsed;
    assert_eq!(complete.run.shell_status(), 0, "{}", complete.run.describe());
    complete.remove();

    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    eprintln!("seed {seed}, a whole recording takes {whole:?}");
    let mut random = Random::new(seed);
    let mut with_checkpoints = 0;
    for round in 0..rounds {
        let dir = prepare();
        let moment = whole.mul_f64((random.below(1000) as f64 + 1.0) / 1000.0);
        let (started, trace) = rr.start_recording(&options, &program, &dir);
        std::thread::sleep(moment);
        started.signal(Signal::SIGKILL);
        let run = started.finish(rr.limit);
        no_process_left_in(&dir);
        let what = format!("round {round} (seed {seed}), killed after {moment:?}");
        if run.status.success() {
            continue; // the recording was complete before the signal came
        }
        assert_eq!(run.shell_status(), 137, "{what}\n{}", run.describe());
        let recording = rr.recording_from(trace, run);
        let info = recording.rr(&["traceinfo"]);
        if !info.status.success() && moment < Duration::from_millis(300) {
            // Killed before the trace existed: rr prints an error message.
            assert!(
                info.status.code().is_some() && !info.err().contains("panicked"),
                "{what}\n{}",
                info.describe()
            );
            continue;
        }
        let info = recording.info();
        if info.complete {
            // The trace was complete, and the recorder was waiting for its last checkpoints: nothing is
            // missing.
            let replay = recording.replay(&[]).expect_success();
            assert_eq!(replay.out(), recording.run.out(), "{what}");
            assert!(
                !replay.err().contains("incomplete"),
                "{what}\n{}",
                replay.describe()
            );
            continue;
        }
        with_checkpoints += usize::from(!info.checkpoints.is_empty());
        let replay = recording.replay(&[]);
        assert_eq!(
            replay.shell_status(),
            0,
            "{what}: replay up to the last flushed event\n{}",
            replay.describe()
        );
        assert!(
            replay.err().contains("incomplete"),
            "{what}: replay does not say so\n{}",
            replay.describe()
        );
        let out = &recording.run.stdout;
        // Output that was shown but not flushed is lost. Replay must not show other output.
        assert!(
            out.starts_with(&replay.stdout),
            "{what}: replay shows something else\n{}",
            replay.describe()
        );
        let verify = recording.rr(&["verify"]);
        assert_eq!(verify.shell_status(), 0, "{what}: verify\n{}", verify.describe());
        for checkpoint in info.checkpoints.iter().rev().take(2) {
            let from = recording.replay(&["-g", &checkpoint.event.to_string()]);
            assert_eq!(
                from.shell_status(),
                0,
                "{what}: checkpoint {}\n{}",
                checkpoint.event,
                from.describe()
            );
        }
        recording.remove();
        let _ = std::fs::remove_dir_all(dir);
    }
    assert!(with_checkpoints > 0, "no round got as far as a checkpoint");
}
