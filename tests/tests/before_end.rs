//! The checkpoint before the end: whatever kills a program that has run for a while, replay can start
//! just before its death.

use std::ffi::OsString;

use rr_tests::{Guest, Recording, Rr, full};

/// A checkpoint interval that never ends.
const NEVER: [&str; 2] = ["--checkpoint-interval", "3600s"];

/// Ways in which the guest dies, and the signals.
const DEATHS: [(&str, i32); 12] = [
    ("null", libc::SIGSEGV),
    ("blocked", libc::SIGSEGV),
    ("ignored", libc::SIGSEGV),
    ("divide", libc::SIGFPE),
    ("illegal", libc::SIGILL),
    ("trap", libc::SIGTRAP),
    ("stack", libc::SIGSEGV),
    ("abort", libc::SIGABRT),
    ("term", libc::SIGTERM),
    ("handler", libc::SIGSEGV),
    ("thread-null", libc::SIGSEGV),
    ("thread-abort", libc::SIGABRT),
];

fn program(how: &str, ms: &str, more: &[&str]) -> Vec<OsString> {
    let path = Guest::build("late_death").path.into_os_string();
    let args = [&[how, ms], more].concat();
    std::iter::once(path)
        .chain(args.into_iter().map(Into::into))
        .collect()
}

fn checkpoints(recording: &Recording<'_>) -> Vec<u64> {
    recording.info().checkpoints.iter().map(|c| c.event).collect()
}

fn dump(recording: &Recording<'_>) -> String {
    recording.rr(&["dump", "-e"]).expect_success().out()
}

/// The events of signals.
fn signals(recording: &Recording<'_>) -> Vec<u64> {
    let dump = dump(recording);
    let signals = dump.lines().filter(|line| line.contains("event:`SIGNAL: "));
    let number = |line: &str| {
        let (_, number) = line.split_once("global_time:")?;
        number.split_once(',')?.0.parse().ok()
    };
    signals.filter_map(number).collect()
}

/// Checks that the checkpoint is at the signal's event, that only exits follow, and that replay from it
/// is right.
#[track_caller]
fn check(recording: &Recording<'_>) {
    let all = checkpoints(recording);
    let [at] = all[..] else {
        panic!("{all:?}: {}", recording.run.describe());
    };
    assert_eq!(signals(recording), [at]);
    recording.replay(&["-v", "-g", &at.to_string()]).expect_success();
    recording.verify();
}

#[test]
fn whatever_kills_it() {
    let rr = Rr::new();
    for (how, signal) in DEATHS {
        for options in [&NEVER[..], &[&NEVER[..], &["-n"]].concat()] {
            let recording = rr.record(options, &program(how, "320", &[]));
            assert_eq!(
                recording.run.shell_status(),
                128 + signal,
                "{how}: {}",
                recording.run.describe()
            );
            eprintln!("{how} {options:?}");
            check(&recording);
            if !full() {
                break;
            }
        }
    }
}

/// The interval is counted in every unit.
#[test]
fn with_every_unit() {
    let rr = Rr::new();
    for interval in ["auto", "1000000", "1000000e"] {
        let options = ["--checkpoint-interval", interval];
        check(&rr.record(&options, &program("thread-null", "320", &[])));
    }
}

#[test]
fn of_one_process_among_others() {
    let rr = Rr::new();
    for how in ["null", "abort"] {
        let recording = rr.record(&NEVER, &program(how, "320", &["child"]));
        let signal = if how == "null" {
            libc::SIGSEGV
        } else {
            libc::SIGABRT
        };
        let run = &recording.run;
        assert!(
            run.out().ends_with(&format!("killed by {signal}\n")),
            "{}",
            run.describe()
        );
        check(&recording);
    }
}

#[test]
fn not_where_one_is_near_or_none_is_wanted() {
    let rr = Rr::new();
    let brief = rr.record(&NEVER, &program("null", "1", &[]));
    assert!(checkpoints(&brief).is_empty());
    let without = rr.record(&rr_tests::NO_CHECKPOINTS, &program("null", "320", &[]));
    assert!(checkpoints(&without).is_empty());
    let dense = rr.record(&["--checkpoint-interval", "100ms"], &program("null", "320", &[]));
    let all = checkpoints(&dense);
    let death = signals(&dense)[0];
    assert!(!all.is_empty(), "dead at {death}");
    if all.contains(&death) {
        // The machine was so busy that the one before was not near.
        let dump = dump(&dense);
        let before = all.iter().copied().filter(|at| *at < death).max();
        let age = seconds_at(&dump, death) - before.map_or(0.0, |at| seconds_at(&dump, at));
        // (A dump rounds to microseconds.)
        assert!(age > 0.299998, "{all:?}, dead at {death}, {age} s later");
    }
}

/// The time of an event, in seconds.
fn seconds_at(dump: &str, event: u64) -> f64 {
    let number = format!("global_time:{event},");
    let line = dump
        .lines()
        .find(|line| line.contains(&number))
        .expect("the event");
    let (_, time) = line.split_once("real_time:").expect("a time");
    let (time, _) = time.split_once(' ').expect("more fields");
    time.parse().expect("a number")
}
