//! The choice of the task that runs: chaos mode, `--always-switch`, and the CPUs that the program sees.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rr_tests::matrix::{Plan, as_strs, check_recording, record_options};
use rr_tests::rr::words;
use rr_tests::{Guest, Recording, Rr};
use rr_trace::event::{EventKind, EventNumber};
use rr_trace::{EventSource, TraceReader};

use crate::points::looks;

fn program(name: &str) -> Vec<OsString> {
    words([Guest::build(name).path])
}

/// Records with each of this number of seeds. Returns the number of runs that showed the bug (status 1). Every
/// trace of such a run must replay.
fn found_by_chaos(guest: &str, seeds: u64) -> usize {
    let rr = Rr::new();
    let mut found = 0;
    for seed in 0..seeds {
        let seed = seed.to_string();
        let recording = rr.record(&["--chaos-seed", &seed], &program(guest));
        let status = recording.run.shell_status();
        assert!(status <= 1, "{}", recording.run.describe());
        if status == 1 {
            found += 1;
            let replay = recording.replay(&[]).expect_success();
            assert_eq!(replay.out(), recording.run.out());
        }
        recording.remove();
    }
    found
}

/// Most runs in the usual order do not show the bug. (On a busy machine, a turn may end by the clock
/// right where it does.)
fn seldom_found_by_default(guest: &str) {
    const RUNS: usize = 10;
    let rr = Rr::new();
    let mut found = 0;
    for _ in 0..RUNS {
        let recording = rr.record(&[], &program(guest));
        let status = recording.run.shell_status();
        assert!(status <= 1, "{}", recording.run.describe());
        found += usize::from(status == 1);
        recording.remove();
    }
    assert!(found < RUNS / 2, "found {found} times");
}

#[test]
fn chaos_finds_a_lost_update() {
    seldom_found_by_default("race_lost_update");
    let found = found_by_chaos("race_lost_update", 30);
    assert!((1..30).contains(&found), "found {found} times");
}

#[test]
fn chaos_finds_a_thread_that_starts_early() {
    seldom_found_by_default("race_early_start");
    let found = found_by_chaos("race_early_start", 30);
    assert!((1..30).contains(&found), "found {found} times");
}

/// Chaos mode preempts threads between two instructions, where the usual order never switches.
#[test]
fn chaos_finds_a_race_between_instructions() {
    seldom_found_by_default("race_plain");
    let found = found_by_chaos("race_plain", 150);
    assert!((1..100).contains(&found), "found {found} times");
}

#[test]
fn always_switch_finds_a_lost_update_every_time() {
    let rr = Rr::new();
    for options in [&["-s"][..], &["-c", "5000"]] {
        let recording = rr.record(options, &program("race_lost_update"));
        recording.run.expect_status(1);
    }
}

/// The events of a recording, with tasks numbered in order of appearance.
fn decisions(recording: &Recording<'_>) -> Vec<(usize, String)> {
    let dump = recording.rr(&["dump", "-r"]).expect_success().out();
    let mut tasks = HashMap::new();
    let lines = dump.lines().map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let next = tasks.len();
        let task = *tasks.entry(fields[1].to_owned()).or_insert(next);
        (task, fields[2].to_owned())
    });
    lines.collect()
}

#[test]
fn the_same_seed_makes_the_same_decisions() {
    let rr = Rr::new();
    let record = |guest, seed| {
        let recording = rr.record(&["--chaos-seed", seed], &program(guest));
        let decisions = decisions(&recording);
        recording.remove();
        decisions
    };
    for guest in ["race_lost_update", "race_plain", "futex", "thread_pipes"] {
        let mut different = 0;
        for seed in ["1", "2", "3"] {
            let first = record(guest, seed);
            assert_eq!(first, record(guest, seed), "{guest} with seed {seed}");
            different += usize::from(first != record(guest, "4"));
        }
        assert!(different > 0, "{guest}: all seeds are alike");
    }
}

#[test]
fn chaos_says_its_seed_if_the_program_fails_and_the_trace_knows_it() {
    let rr = Rr::new();
    let info = |recording: &rr_tests::Recording<'_>| -> serde_json::Value {
        serde_json::from_slice(&recording.rr(&["traceinfo"]).expect_success().stdout).unwrap()
    };
    let recording = rr.record(&["--chaos-seed", "77"], &program("hello"));
    assert_eq!(recording.run.err(), "", "the program has succeeded");
    let known = info(&recording);
    assert_eq!(
        (&known["chaosMode"], &known["chaosSeed"]),
        (&true.into(), &77.into())
    );

    let fails = ["sh", "-c", "exit 3"].map(Into::into);
    let crashes = ["sh", "-c", "sh -c 'kill -SEGV $$'; exit 0"].map(Into::into);
    for program in [fails, crashes] {
        let recording = rr.record(&["-h"], &program);
        let seed = &info(&recording)["chaosSeed"];
        let said = format!("rr: Chaos seed {seed} (repeat with --chaos-seed {seed})\n");
        assert!(
            recording.run.err().ends_with(&said),
            "{}",
            recording.run.describe()
        );
    }

    let recording = rr.record(&[], &program("hello"));
    let known = info(&recording);
    assert_eq!(
        (&known["chaosMode"], &known["chaosSeed"]),
        (&false.into(), &serde_json::Value::Null)
    );
}

/// The execution points of a trace: their number, and the processor time of the intervals that they end.
fn points(trace: &Path) -> (usize, Duration) {
    let reader = Arc::new(TraceReader::open(trace).unwrap());
    let mut events = EventSource::new(reader).from(EventNumber(1)).unwrap();
    let (mut number, mut ran) = (0, Duration::ZERO);
    while let Some(event) = events.next().unwrap() {
        if let EventKind::Point { point, .. } = &event.kind {
            number += 1;
            ran += Duration::from_micros(point.ran_us.into());
        }
    }
    (number, ran)
}

/// A task that spins gives its turn away after milliseconds: with the turns of computing tasks, the 90
/// turns of the first guest would take at least nine seconds of processor time. The second guest's loops
/// count, so it is not certain that they spin. In chaos mode a counting task runs on for 50 ms to 0.4 s.
/// Replay finds each of the points with few looks at the task.
#[test]
fn hand_over_by_spinning_costs_milliseconds() {
    const LOOKS_MOST: u64 = 10;
    let rr = Rr::new();
    for (name, turns) in [("spin_hands", 80), ("spin_counts", 12)] {
        for (options, most) in [(&["-n"][..], 1), (&[], 1), (&["--chaos-seed", "5"], 5)] {
            let recording = rr.record(options, &program(name));
            assert_eq!(recording.run.shell_status(), 0, "{}", recording.run.describe());
            let replay = recording.replay(&["--log", "rr_replayer=debug"]).expect_success();
            assert_eq!(replay.out(), recording.run.out());
            let (number, ran) = points(&recording.dir);
            let looks: u64 = looks(&replay.err()).iter().sum();
            let found = format!("{name} {options:?}: {number} points, {ran:?}, {looks} looks");
            assert!(number >= turns, "{found}");
            assert!(ran < Duration::from_secs(most), "{found}");
            assert!(looks <= LOOKS_MOST * number as u64, "{found}");
            recording.remove();
        }
    }
}

/// A thread that waits for a lock gets it although another thread takes and drops it all the time.
/// (Without help this takes minutes, or never ends.)
#[test]
fn a_lock_reaches_those_who_starve_for_it() {
    let rr = Rr::new().with_limit(Duration::from_secs(60));
    for options in [&["-n"][..], &[]] {
        let begin = Instant::now();
        let recording = rr.record(options, &program("lock_starved"));
        let took = begin.elapsed();
        assert_eq!(recording.run.shell_status(), 0, "{}", recording.run.describe());
        assert!(took < Duration::from_secs(10), "{options:?}: {took:?}");
        let replay = recording.replay(&[]).expect_success();
        assert_eq!(replay.out(), recording.run.out());
        recording.remove();
    }
}

/// A wake at a lock costs the same however many threads wait there. (When each wake looked at all waiting threads, five times the
/// threads cost 28 times as much. Now they cost about ten times as much; the same program without rr seven times.)
#[test]
fn a_crowd_before_a_lock_costs_no_more_for_each() {
    const MOST: u32 = 16;
    let rr = Rr::new();
    let recorded = |threads: &str| {
        let words = [program("lock_crowd"), vec![threads.into()]].concat();
        rr.record(&[], &words)
    };
    let few = recorded("300").run.processor_time;
    let recording = recorded("1500");
    let many = recording.run.processor_time;
    assert!(many < few * MOST, "300 threads: {few:?}, 1500 threads: {many:?}");
    let replay = recording.replay(&[]).expect_success();
    assert_eq!(replay.out(), recording.run.out());
}

/// Orders that only chaos mode produces must replay like all others, from every checkpoint.
#[test]
fn unusual_orders_replay() {
    let rr = Rr::new();
    for name in [
        "threads",
        "thread_pipes",
        "thread_signals",
        "thread_exits",
        "thread_exec",
        "thread_fork",
        "fork_many",
        "shared_spin",
        "wait_variants",
        "sigchld_count",
    ] {
        let guest = Guest::build(name);
        for (option, interval) in [
            ("--always-switch", None),
            ("--chaos-seed=1", Some(7)),
            ("--chaos-seed=2", Some(1)),
        ] {
            let mut plan = Plan::guest(guest.ending);
            plan.options = vec![option.to_owned()];
            plan.replays = 2;
            let options = record_options(&plan, interval);
            let recording = rr.record(&as_strs(&options), &words([guest.path.clone()]));
            check_recording(&recording, &plan, interval);
            recording.remove();
        }
    }
}

#[test]
fn the_program_sees_as_many_cpus_as_it_is_told() {
    let rr = Rr::new();
    for (cores, list) in [("1", "0"), ("3", "0-2"), ("100", "0-99"), ("128", "0-127")] {
        let recording = rr.record(&["--num-cores", cores], &program("cpus"));
        let expected = format!("{cores} {cores} {cores} {list}\n");
        assert_eq!(recording.run.out(), expected, "{}", recording.run.describe());
        assert_eq!(recording.replay(&[]).expect_success().out(), expected);
        let recording = rr.record(&["--num-cores", cores], &words(["nproc"]));
        assert_eq!(recording.run.out(), format!("{cores}\n"));
    }
    for bad in ["0", "129", "x"] {
        let run = rr.rr(["record", "--num-cores", bad, "true"]);
        assert_eq!(run.shell_status(), 1, "{}", run.describe());
    }
}

#[test]
fn chaos_pretends_one_to_eight_cpus() {
    let rr = Rr::new();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..12 {
        let recording = rr.record(&["--chaos-seed", &seed.to_string()], &words(["nproc"]));
        let cores: usize = recording.run.out().trim().parse().unwrap();
        assert!((1..=8).contains(&cores), "{}", recording.run.describe());
        seen.insert(cores);
    }
    assert!(seen.len() > 2, "{seen:?}");
    let recording = rr.record(&["--chaos", "--num-cores=5"], &words(["nproc"]));
    assert_eq!(recording.run.out(), "5\n");
}
