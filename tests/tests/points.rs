//! Execution points that are hard to record: while signals come all the time, and while other processes
//! want the processor.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use rr_replayer::{ReplaySession, Sprints};
use rr_tests::guest::{Ending, Guest};
use rr_tests::matrix::{Plan, check_guest, check_recording};
use rr_tests::{Recording, Rr};
use rr_trace::TraceReader;

/// Runs `what` while other threads want all processors.
fn while_others_compute<T>(what: impl FnOnce() -> T) -> T {
    /// Sets the flag even if the test fails: otherwise its threads would never end.
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

/// A stop signal makes the recorder look for a point by single steps. A continue stops the program once
/// more, perhaps between a step and the trap that ends the step. That trap does not belong to the
/// program.
#[test]
fn stops_and_continues_come_while_the_program_is_stepped() {
    let rr = Rr::new().with_limit(Duration::from_secs(60));
    let guest = Guest::build("spin_stopped");
    let program = [rr.reachable(&guest.path).into_os_string()];
    let (mut started, trace) = rr.start_recording(&rr_tests::NO_CHECKPOINTS, &program, &rr.new_dir());
    let pid = started.written_pid(rr.limit);
    let begin = Instant::now();
    while_others_compute(|| {
        while !started.ended() && begin.elapsed() < rr.limit {
            std::thread::sleep(Duration::from_millis(7));
            // The program may have ended.
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

/// The number of times that a replay has looked at the task, for each execution point, from its debug log.
pub(crate) fn looks(log: &str) -> Vec<u64> {
    let of = |line: &str| {
        let (_, looks) = line.split_once(" found after ")?;
        looks.split(' ').next()?.parse().ok()
    };
    log.lines().filter_map(of).collect()
}

/// Maximum number of comparisons for all points of a replay. Without the counter of the turns in a point's
/// name there are thousands.
const LOOKS_MAX: u64 = 100;

/// A replay of the recording finds its points with few looks at the task.
fn assert_few_looks(recording: &Recording<'_>) {
    let replay = recording.replay(&["--log", "rr_replayer=debug"]);
    let text = replay.expect_success().err();
    let looks = looks(&text);
    assert!(!looks.is_empty(), "no execution point: {text}");
    assert!(looks.iter().sum::<u64>() <= LOOKS_MAX, "{text}");
}

/// A value that distinguishes the turns of a loop is seen only if the program runs while it is watched.
#[test]
fn a_point_is_unique_though_others_want_the_processor() {
    let rr = Rr::new();
    let guest = Guest::build("loop_same");
    let program = [rr.reachable(&guest.path).into_os_string(), "nice".into()];
    assert_few_looks(&while_others_compute(|| rr.record(&[], &program)));
}

/// What counts the turns is found although the recorder's steps do not come to it.
#[test]
fn turns_longer_than_the_recorders_steps_are_distinguished() {
    let rr = Rr::new();
    let guest = Guest::build("long_turns");
    let program = [rr.reachable(&guest.path).into_os_string()];
    assert_few_looks(&rr.record(&rr_tests::NO_CHECKPOINTS, &program));
}

/// Points in long loops, with and without checkpoints between them.
#[test]
fn points_in_long_loops() {
    let guest = Guest::build("long_loops");
    let mut plan = Plan::guest(Ending::Exit(0));
    plan.intervals = vec![None, Some(7)];
    plan.traced = vec![1];
    check_guest(&Rr::new(), &guest, &plan);
}

/// Points in code that is written in the same interval, also through another mapping.
#[test]
fn points_in_generated_code() {
    let guest = Guest::build("jit_point");
    let mut plan = Plan::guest(Ending::Exit(0));
    plan.intervals = vec![None, Some(7)];
    plan.traced = vec![];
    check_guest(&Rr::new(), &guest, &plan);
}

/// A part of a long interval is replayed without a probe.
#[test]
fn long_intervals_are_replayed_by_sprints() {
    /// So short that no point is passed, even if this machine is slower while it records.
    const SHARE: f64 = 0.2;
    let rr = Rr::new();
    let guest = Guest::build("long_loops");
    let program = [rr.reachable(&guest.path).into_os_string()];
    let recording = rr.record(&[], &program);
    let (found, out) = replayed_with_share(&recording.dir, SHARE);
    assert_eq!(out, recording.run.out());
    assert!(found > 0);
}

/// The recorded time of an interval may be much too short, if the machine was busy. In code that the program
/// could write to, but does not, the search for the point goes on all the same.
#[test]
fn a_point_in_generated_code_is_not_given_up() {
    let rr = Rr::new();
    let guest = Guest::build("jit_once");
    let program = [rr.reachable(&guest.path).into_os_string()];
    let recording = rr.record(&rr_tests::NO_CHECKPOINTS, &program);
    let (missed, out) = replayed(&recording.dir, Sprints::impatient(), |sprints| {
        sprints.missed() > 0
    });
    assert_eq!(out, recording.run.out());
    assert_eq!(missed, 0);
}

/// Where the program overwrites its flags unread, the probe may change them, and there are no sprints.
/// At other instructions it must keep them.
#[test]
fn flags_are_changed_only_where_nothing_reads_them() {
    let rr = Rr::new();
    let guest = Guest::build("tight_loops");
    let program = [rr.reachable(&guest.path).into_os_string()];
    let recording = rr.record(&[], &program);
    let replay = recording.replay(&["--log", "rr_replayer=debug"]).expect_success();
    assert_eq!(replay.out(), recording.run.out());
    let log = replay.err();
    let found = log
        .lines()
        .filter(|line| line.contains("execution point of event"));
    let (unread, kept): (Vec<_>, Vec<_>) = found.partition(|line| line.contains("flags that nothing reads"));
    assert!(!unread.is_empty() && !kept.is_empty(), "{log}");
}

/// After a sprint that passed a point, the session returns to the sprint's start, and nothing shows.
#[test]
fn sprints_that_go_too_far_are_undone() {
    let rr = Rr::new();
    let guest = Guest::build("long_loops");
    let program = [rr.reachable(&guest.path).into_os_string()];
    let recording = rr.record(&[], &program);
    // Over twenty times the interval: the task comes to another event, or to its end.
    let (found, out) = replayed_with_share(&recording.dir, 20.0);
    assert_eq!(out, recording.run.out());
    assert_eq!(found, 0);
}

/// Replays a trace. Each sprint begins with this share of the recorded time. Returns the number of
/// sprints that found their points, and what the program wrote.
fn replayed_with_share(trace: &Path, share: f64) -> (usize, String) {
    replayed(trace, Sprints::with_share(share), |sprints| {
        sprints.share() > share
    })
}

/// Replays a trace, and begins each event with these `sprints`. Returns the number of events after which
/// `is_counted` is true of them, and what the program wrote.
fn replayed(trace: &Path, sprints: Sprints, is_counted: impl Fn(&Sprints) -> bool) -> (usize, String) {
    let reader = Arc::new(TraceReader::open(trace).unwrap());
    let cpu = reader.header().bound_cpu.map_or(0, |cpu| cpu as usize);
    let mut session = ReplaySession::start(Arc::clone(&reader), Some(cpu)).unwrap();
    let mut out = Vec::new();
    let mut found = 0;
    loop {
        *session.sprints() = sprints;
        let Some(replayed) = session.step().unwrap() else {
            break;
        };
        found += usize::from(is_counted(session.sprints()));
        out.extend(replayed.output.map_or(Vec::new(), |(_, bytes)| bytes));
    }
    assert_eq!(session.last_event(), reader.last_event());
    (found, String::from_utf8_lossy(&out).into_owned())
}

/// Loops that only count are distinguished by the count. The count is compared first, in a register or
/// in memory.
#[test]
fn loops_that_count_are_replayed_in_seconds() {
    let rr = Rr::new().with_limit(Duration::from_secs(60));
    let guest = Guest::build("spin_counts");
    let program = [rr.reachable(&guest.path).into_os_string()];
    for options in [&["-n"][..], &[]] {
        let recording = rr.record(options, &program);
        let replay = recording.replay(&[]).expect_success();
        assert_eq!(replay.out(), recording.run.out());
        recording.remove();
    }
}
