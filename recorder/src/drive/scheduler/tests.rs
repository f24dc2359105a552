//! Tests of what the scheduler guarantees.

use rr_tracee::task::{Resume, Waited, kill};
use rr_tracee::{Running, Stop};

use super::*;

const A: Tid = Tid(30);
const B: Tid = Tid(20);
const C: Tid = Tid(10);

fn scheduler(schedule: Schedule, nice: [i32; 3]) -> Scheduler {
    let mut scheduler = Scheduler::new(schedule);
    for (tid, nice) in [A, B, C].into_iter().zip(nice) {
        scheduler.add(tid, nice);
        scheduler.set_ready(tid, true);
    }
    scheduler
}

/// Makes exactly these of the three tasks ready.
fn only(scheduler: &mut Scheduler, ready: &[Tid]) {
    for tid in [A, B, C] {
        scheduler.set_ready(tid, ready.contains(&tid));
    }
}

/// All tasks are always ready. Returns the task that runs at each event.
fn run(scheduler: &mut Scheduler, events: std::ops::Range<u64>, yields: impl Fn(Tid) -> bool) -> Vec<Tid> {
    let mut ran = Vec::new();
    for event in events {
        let now = EventNumber(event);
        let tid = match scheduler.turn() {
            Some(tid) => tid,
            None => match scheduler.choose(now) {
                Choice::Run(tid) => tid,
                Choice::Wait(_) => panic!("all are ready"),
            },
        };
        ran.push(tid);
        scheduler.turn_is_over(EventNumber(event + 1), Duration::ZERO, yields(tid));
    }
    ran
}

fn turns_of(events: u64) -> Schedule {
    Schedule {
        turn_events: events,
        chaos: None,
    }
}

#[test]
fn equals_take_turns_in_the_order_of_their_coming() {
    let mut scheduler = scheduler(turns_of(2), [0; 3]);
    assert!(!scheduler.is_exact());
    let ran = run(&mut scheduler, 0..8, |_| false);
    assert_eq!(ran, [A, A, B, B, C, C, A, A]);
}

#[test]
fn lower_nice_values_go_first_and_cut_turns_short() {
    let mut scheduler = scheduler(turns_of(5), [5, 0, 5]);
    only(&mut scheduler, &[A]);
    assert_eq!(scheduler.choose(EventNumber(0)), Choice::Run(A));
    assert!(scheduler.has_rivals() && scheduler.is_exact());
    assert!(!scheduler.others_are_ready(A) && scheduler.others_are_ready(B));
    assert!(!scheduler.turn_is_over(EventNumber(1), Duration::ZERO, false));
    only(&mut scheduler, &[A, B]);
    assert!(scheduler.turn_is_over(EventNumber(2), Duration::ZERO, false));
    only(&mut scheduler, &[A, B, C]);
    assert_eq!(scheduler.choose(EventNumber(2)), Choice::Run(B));
    assert!(!scheduler.has_rivals());
}

#[test]
fn whoever_yields_lets_everybody_go_first() {
    let mut scheduler = scheduler(turns_of(2), [-5, 0, 5]);
    let ran = run(&mut scheduler, 0..6, |tid| tid == A);
    assert_eq!(ran, [A, B, B, C, C, A]);
}

#[test]
fn the_newborn_wait_like_all_others() {
    let mut scheduler = scheduler(turns_of(1), [0; 3]);
    let mut ran = Vec::new();
    for n in 0..6 {
        let now = EventNumber(n);
        let Choice::Run(tid) = scheduler.choose(now) else {
            panic!("all are ready")
        };
        ran.push(tid);
        // Each has a child, and exits.
        scheduler.add(Tid(100 + n as i32), 0);
        scheduler.set_ready(Tid(100 + n as i32), true);
        scheduler.end_turn(now);
        scheduler.remove(tid);
    }
    assert_eq!(ran, [A, B, C, Tid(100), Tid(101), Tid(102)]);
    scheduler.add(A, 0);
    scheduler.set_ready(A, true);
    assert_eq!(scheduler.choose(EventNumber(9)), Choice::Run(Tid(103)));
}

#[test]
fn turns_end_at_different_places() {
    let mut scheduler = scheduler(turns_of(100), [0; 3]);
    let ran = run(&mut scheduler, 0..10_000, |_| false);
    let lengths: std::collections::BTreeSet<usize> = ran.chunk_by(|a, b| a == b).map(<[Tid]>::len).collect();
    assert!(
        lengths.len() > 10 && lengths.iter().skip(1).all(|n| (75..=100).contains(n)),
        "{lengths:?}"
    );
}

#[test]
fn who_yields_again_and_again_has_short_turns_between() {
    // Its second event is always a yield, unless its turn ends before.
    let mut scheduler = scheduler(turns_of(100), [0; 3]);
    let (mut event, mut lengths) = (0, std::collections::BTreeSet::new());
    for _ in 0..100 {
        let Choice::Run(tid) = scheduler.choose(EventNumber(event)) else {
            panic!("all are ready")
        };
        let begin = event;
        loop {
            event += 1;
            let yields = tid == A && event - begin == 2;
            if scheduler.turn_is_over(EventNumber(event), Duration::ZERO, yields) {
                break;
            }
        }
        if tid == A {
            lengths.insert(event - begin);
        }
    }
    assert_eq!(lengths, [1, 2].into());
}

#[test]
fn who_is_woken_cuts_a_turn_short() {
    let mut scheduler = scheduler(turns_of(100), [0; 3]);
    scheduler.choose(EventNumber(0));
    assert!(!scheduler.turn_is_over(EventNumber(1), Duration::ZERO, false));
    scheduler.cut_short();
    assert!(scheduler.turn_is_over(EventNumber(2), Duration::ZERO, false));
}

#[test]
fn nobody_is_passed_over_for_ever() {
    let mut scheduler = scheduler(turns_of(1), [-5, 0, 5]);
    let ran = run(&mut scheduler, 0..40, |_| false);
    assert!(ran.iter().filter(|tid| **tid == A).count() > 30);
    assert!(ran.contains(&B) && ran.contains(&C));
}

#[test]
fn who_starves_is_the_one_passed_over_most_often() {
    let mut scheduler = scheduler(turns_of(1), [-5, 0, 0]);
    only(&mut scheduler, &[A, C]);
    let mut ran = run(&mut scheduler, 0..4, |_| false);
    // B waits longer, but has been ready only since now.
    scheduler.set_ready(B, true);
    ran.extend(run(&mut scheduler, 4..20, |_| false));
    let turn = |tid| ran.iter().position(|t| *t == tid);
    assert_eq!((turn(C), turn(B)), (Some(8), Some(13)));
}

/// The number of instructions that `work` executes, counted by single steps of a child. At most `most`.
fn instructions(most: u64, work: impl FnOnce()) -> u64 {
    // SAFETY: the child only works in its own copy of the memory, and ends.
    let child = match unsafe { libc::fork() } {
        -1 => panic!("fork failed"),
        0 => {
            // SAFETY: raise and _exit take plain numbers.
            unsafe { libc::raise(libc::SIGSTOP) };
            work();
            // SAFETY: as above.
            unsafe { libc::_exit(0) }
        }
        pid => Tid(pid),
    };
    let mut waited = Running::seize(child).unwrap().wait().unwrap();
    let mut steps = 0;
    while let Waited::Stopped(stopped, stop) = waited {
        if steps == most {
            kill(child);
        }
        steps += u64::from(stop == Stop::Signal(libc::SIGTRAP));
        waited = stopped.resume(Resume::Step, None).unwrap().wait().unwrap();
    }
    steps
}

#[test]
fn a_turn_costs_the_same_among_many() {
    const TURNS: u64 = 3;
    let work = |tasks: i32, most: u64| {
        let mut scheduler = Scheduler::new(turns_of(1));
        for n in 0..tasks {
            scheduler.add(Tid(n), n % 3);
            scheduler.set_ready(Tid(n), true);
        }
        instructions(most, || {
            run(&mut scheduler, 0..TURNS, |_| false);
        })
    };
    let few = work(30, u64::MAX);
    let many = work(30_000, few * 4);
    assert!(few > TURNS * 100, "{few}");
    assert!(many < few * 4, "{few} and {many}");
}

#[test]
fn the_seed_and_nothing_else_decides_in_chaos() {
    let with = |seed| {
        let schedule = Schedule {
            turn_events: 500,
            chaos: Some(seed),
        };
        run(&mut scheduler(schedule, [0; 3]), 0..20_000, |_| false)
    };
    assert_eq!(with(1), with(1));
    assert_ne!(with(1), with(2));
    let ran = with(1);
    assert!([A, B, C].iter().all(|tid| ran.contains(tid)));
}

#[test]
fn in_an_interval_only_high_priorities_run() {
    let mut scheduler = scheduler(
        Schedule {
            turn_events: 5,
            chaos: Some(1),
        },
        [0; 3],
    );
    only(&mut scheduler, &[B, C]);
    for (tid, lot) in [(A, 0), (B, 1), (C, 1)] {
        scheduler.change(tid, |member| member.lot = lot);
    }
    let chaos = scheduler.chaos.as_mut().unwrap();
    while !chaos.in_interval() {
        chaos.turn_over(EventNumber(0));
    }
    // The waits for a task that sleeps again and again become shorter.
    let waits = |scheduler: &mut Scheduler| match scheduler.choose(EventNumber(0)) {
        Choice::Wait(Some(patience)) => patience,
        other => panic!("{other:?}"),
    };
    let first = waits(&mut scheduler);
    assert!(waits(&mut scheduler) < first);
    scheduler.end_interval();
    assert!(matches!(scheduler.choose(EventNumber(0)), Choice::Run(_)));
}
