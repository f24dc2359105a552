//! Execution points where recording them is hard: while signals come all the time, and while others want the processor.

// A broken expectation in a test is a failed test.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use rr_tests::Rr;
use rr_tests::guest::{Ending, Guest};
use rr_tests::matrix::{Plan, check_recording};

/// Does something while other threads want all processors.
fn while_others_compute<T>(what: impl FnOnce() -> T) -> T {
    /// Sets the flag also if the test fails: else its threads would never end.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads = 3 * std::thread::available_parallelism().unwrap().get();
        for _ in 0..threads {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let _over = Over(&over);
        what()
    })
}

/// A stop makes the recorder look for a point, by single steps; a continue stops the program once more, be it between a step
/// and the trap that ends it. That trap is not the program's.
#[test]
fn stops_and_continues_come_while_the_program_is_stepped() {
    let rr = Rr::new().with_limit(Duration::from_secs(60));
    let guest = Guest::build("spin_stopped");
    let program = [rr.reachable(&guest.path).into_os_string()];
    let (mut started, trace) = rr.start_recording(&[], &program, &rr.new_dir());
    let pid = started.written_pid(rr.limit);
    let begin = Instant::now();
    while_others_compute(|| {
        while !started.ended() && begin.elapsed() < rr.limit {
            std::thread::sleep(Duration::from_millis(7));
            // It may have ended.
            let _ = kill(pid, Signal::SIGSTOP);
            for _ in 0..50 {
                std::thread::sleep(Duration::from_micros(60));
                let _ = kill(pid, Signal::SIGCONT);
            }
        }
    });
    let run = started.finish(rr.limit).expect_status(5);
    let recording = rr.recording_from(trace, run);
    check_recording(&recording, &Plan::guest(Ending::Exit(5)), None);
}

/// What tells one turn of a loop from another is seen only if the program runs while it is watched.
#[test]
fn a_point_is_unique_though_others_want_the_processor() {
    /// Looks at what may be the point; without the counter of the turns in its name it takes thousands.
    const LOOKS_MAX: u64 = 100;
    let rr = Rr::new();
    let guest = Guest::build("loop_same");
    let program = [rr.reachable(&guest.path).into_os_string(), "nice".into()];
    let recording = while_others_compute(|| rr.record(&[], &program));
    let replay = recording.replay(&["--log", "rr_replayer=debug"]);
    let text = replay.expect_success().err();
    let looks: Vec<u64> = text
        .lines()
        .filter_map(|line| {
            line.split_once(" found after ")?
                .1
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .collect();
    assert!(!looks.is_empty(), "no execution point: {text}");
    assert!(looks.iter().sum::<u64>() <= LOOKS_MAX, "{text}");
}
