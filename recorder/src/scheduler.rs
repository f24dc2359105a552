//! The scheduler: whose turn it is.
//!
//! Tasks of higher priority (lower nice value) go first; of those of the same priority the one that has waited longest: a new task
//! waits from its birth on, so those that are born one after the other pass over nobody. A turn ends at an
//! event: after a number of them, when a task of higher priority can go on, or, at the next tick, when a task has
//! come out of a call that it waited in. Two things soften the strictness, for programs wait in loops for each other:
//! `sched_yield` gives everybody else a turn, whatever their priority; and who was passed over for many turns gets one.
//!
//! *A turn must not end at the same place of a loop always*: that could be where the task holds a lock that others need. So turns
//! differ a little in length, and after every eighth `sched_yield` the next turn of the task ends some events after its beginning.
//!
//! Keeps: a decision depends on what the program did, on priorities and on the seed of chaos mode, not on tids. (Only
//! a turn outside of chaos mode also ends by the clock.)

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rr_trace::event::EventNumber;
use rr_tracee::{Tid, tsc};

use crate::chaos::Chaos;

/// How long a task may go on while others are ready, if its events are far apart.
const TURN_TIME: Duration = Duration::from_millis(100);
/// After every so many calls of `sched_yield`, the next turn is a short one.
const YIELDS: u64 = 8;
/// So many events a short turn has at most.
const SHORT: u64 = 4;
/// So many turns of others a ready task of low priority is passed over at most.
const PATIENCE: u32 = 8;

/// How to schedule.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The most events of a turn.
    pub turn_events: u64,
    /// The seed of chaos mode; `None`: the usual order.
    pub chaos: Option<u64>,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule {
            turn_events: 500,
            chaos: None,
        }
    }
}

/// What the scheduler knows of a task.
#[derive(Debug)]
struct Member {
    /// Since when it has had no turn: tasks are counted as they come, and again as their turns end. (Tids are not the same in two runs.)
    since: u64,
    /// The kernel's nice value.
    nice: i32,
    /// Priority in chaos mode.
    lot: i32,
    /// So many events its next turn has at most; 0 for no such limit.
    short: u64,
    /// Turns for which it was ready and others of higher priority went.
    passed_over: u32,
}

/// A task's turn.
#[derive(Debug)]
struct Turn {
    tid: Tid,
    until: EventNumber,
    /// A time of [`tsc::now`]; `None` in chaos mode.
    deadline: Option<Duration>,
    /// Given in spite of its priority: others do not cut it short.
    granted: bool,
    /// It ends after a few events.
    short: bool,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    /// Let this task run.
    Run(Tid),
    /// Wait until a task comes out of the kernel; at most so long, if a time is given.
    Wait(Option<Duration>),
}

/// Chooses between tasks.
#[derive(Debug)]
pub(crate) struct Scheduler {
    schedule: Schedule,
    chaos: Option<Chaos>,
    members: HashMap<Tid, Member>,
    /// Counts births, and ends of turns.
    count: u64,
    /// Counts calls of `sched_yield`.
    yields: u64,
    turn: Option<Turn>,
    /// Who goes after a `sched_yield`, before priorities count again.
    round: VecDeque<Tid>,
}

impl Scheduler {
    pub fn new(schedule: Schedule) -> Scheduler {
        Scheduler {
            schedule,
            chaos: schedule.chaos.map(Chaos::new),
            members: HashMap::new(),
            count: 0,
            yields: 0,
            turn: None,
            round: VecDeque::new(),
        }
    }

    /// A task has come into being.
    pub fn add(&mut self, tid: Tid, nice: i32) {
        let lot = self.chaos.as_mut().map_or(0, Chaos::priority);
        let member = Member {
            since: self.count,
            nice,
            lot,
            short: 0,
            passed_over: 0,
        };
        self.count += 1;
        self.members.insert(tid, member);
    }

    /// A task is gone.
    pub fn remove(&mut self, tid: Tid) {
        self.members.remove(&tid);
    }

    /// A task has another tid now.
    pub fn rename(&mut self, former: Tid, tid: Tid) {
        if let Some(member) = self.members.remove(&former) {
            self.members.insert(tid, member);
        }
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.tid == former) {
            turn.tid = tid;
        }
    }

    /// Takes notice of a nice value.
    pub fn set_nice(&mut self, tid: Tid, nice: i32) {
        if let Some(member) = self.members.get_mut(&tid) {
            member.nice = nice;
        }
    }

    /// Whose turn it is, if it is not over.
    pub fn turn(&self) -> Option<Tid> {
        self.turn.as_ref().map(|turn| turn.tid)
    }

    /// Whether it matters for decisions who exactly can go on: then nobody must be on the way out of the kernel.
    pub fn is_exact(&self) -> bool {
        let mut nice = self.members.values().map(|m| m.nice);
        let first = nice.next();
        self.chaos.is_some() || nice.any(|nice| Some(nice) != first)
    }

    /// Whether somebody has a higher priority than the task whose turn it is, and may come to need the CPU.
    pub fn has_rivals(&self) -> bool {
        let Some(turn) = self.turn.as_ref().filter(|turn| !turn.granted) else {
            return false;
        };
        let own = self.priority(turn.tid);
        self.chaos.is_none() && self.members.values().any(|m| m.nice < own)
    }

    fn priority(&self, tid: Tid) -> i32 {
        self.members.get(&tid).map_or(0, |m| self.priority_of(m))
    }

    fn priority_of(&self, member: &Member) -> i32 {
        if self.chaos.is_some() {
            member.lot
        } else {
            member.nice
        }
    }

    /// The task whose turn it is has had its event `now`, at that `time` (of [`tsc::now`]), and may have called
    /// `sched_yield` with it. Returns whether its turn is over.
    pub fn turn_is_over(
        &mut self,
        now: EventNumber,
        time: Duration,
        yields: bool,
        ready: impl Fn(Tid) -> bool,
    ) -> bool {
        let Some(turn) = &self.turn else { return true };
        let tid = turn.tid;
        // Alone.
        if self.members.len() <= 1 {
            return false;
        }
        let own = self.priority(tid);
        let preempted = !turn.granted
            && self
                .members
                .iter()
                .any(|(tid, m)| self.priority_of(m) < own && ready(*tid));
        let over = yields
            || preempted
            || now >= turn.until
            || turn.deadline.is_some_and(|deadline| time >= deadline);
        if over {
            if yields {
                self.note_yield(tid);
            }
            if yields && self.round.is_empty() {
                self.round = self.in_order(&ready).into();
                self.round.retain(|other| *other != tid);
            }
            self.end_turn(now);
        }
        over
    }

    /// Takes notice of a `sched_yield`.
    fn note_yield(&mut self, tid: Tid) {
        self.yields += 1;
        if self.chaos.is_none()
            && self.yields.is_multiple_of(YIELDS)
            && let Some(member) = self.members.get_mut(&tid)
        {
            member.short = 1 + self.yields / YIELDS % SHORT;
        }
    }

    /// Whether the turn ends a few events from its beginning: then every call is to be one.
    pub fn counts_events(&self) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.short)
    }

    /// Somebody waits who has come out of a call that it waited in: the turn is over at the next event.
    pub fn cut_short(&mut self) {
        if let Some(turn) = &mut self.turn
            && let Some(deadline) = &mut turn.deadline
        {
            *deadline = Duration::ZERO;
        }
    }

    /// The ready tasks; first those that have waited longest.
    fn in_order(&self, ready: impl Fn(Tid) -> bool) -> Vec<Tid> {
        let mut all: Vec<(u64, Tid)> = self
            .members
            .iter()
            .filter(|(tid, _)| ready(**tid))
            .map(|(tid, m)| (m.since, *tid))
            .collect();
        all.sort();
        all.into_iter().map(|(_, tid)| tid).collect()
    }

    /// Gives the next turn. `ready` says which tasks can go on.
    pub fn choose(&mut self, now: EventNumber, ready: impl Fn(Tid) -> bool) -> Choice {
        while let Some(tid) = self.round.pop_front() {
            if self.members.contains_key(&tid) && ready(tid) {
                return self.begin(tid, now, true);
            }
        }
        let mut able = self.in_order(&ready);
        if self.chaos.as_ref().is_some_and(Chaos::in_interval) {
            let high = |tid: &Tid| self.priority(*tid) == 0;
            if able.iter().any(high) {
                able.retain(high);
            } else if self.members.keys().any(|tid| high(tid) && !ready(*tid)) {
                return Choice::Wait(self.chaos.as_mut().map(Chaos::patience));
            } else {
                self.end_interval();
            }
        }
        let Some(best) = able.iter().map(|tid| self.priority(*tid)).min() else {
            return Choice::Wait(None);
        };
        let passed_over = |tid: &&Tid| self.members.get(*tid).is_some_and(|m| m.passed_over >= PATIENCE);
        if self.chaos.is_none()
            && let Some(&starving) = able.iter().find(passed_over)
        {
            return self.begin(starving, now, true);
        }
        for tid in &able {
            if self.priority(*tid) > best
                && let Some(member) = self.members.get_mut(tid)
            {
                member.passed_over += 1;
            }
        }
        able.retain(|tid| self.priority(*tid) == best);
        let n = match &mut self.chaos {
            Some(chaos) => chaos.one_of(able.len()),
            None => 0,
        };
        self.begin(able[n], now, false)
    }

    fn begin(&mut self, tid: Tid, now: EventNumber, granted: bool) -> Choice {
        let most = self.schedule.turn_events;
        let (events, deadline) = match &mut self.chaos {
            Some(chaos) => (chaos.turn(most), None),
            None => (most, Some(tsc::now() + TURN_TIME)),
        };
        // Up to a quarter less, another number every time.
        let less = if deadline.is_some() {
            self.count % (events / 4 + 1)
        } else {
            0
        };
        let mut events = events - less;
        let mut short = false;
        if let Some(member) = self.members.get_mut(&tid) {
            member.passed_over = 0;
            let most = std::mem::take(&mut member.short);
            if most > 0 {
                (events, short) = (events.min(most), true);
            }
        }
        let until = EventNumber(now.0 + events);
        self.turn = Some(Turn {
            tid,
            until,
            deadline,
            granted,
            short,
        });
        Choice::Run(tid)
    }

    /// The turn is over, be it that the task cannot go on.
    pub fn end_turn(&mut self, now: EventNumber) {
        let Some(turn) = self.turn.take() else { return };
        if let Some(member) = self.members.get_mut(&turn.tid) {
            member.since = self.count;
            self.count += 1;
        }
        if let Some(chaos) = &mut self.chaos {
            if chaos.redraws()
                && let Some(member) = self.members.get_mut(&turn.tid)
            {
                member.lot = chaos.priority();
            }
            chaos.turn_over(now);
        }
    }

    /// The wait of a [`Choice::Wait`] with a time was in vain.
    pub fn end_interval(&mut self) {
        if let Some(chaos) = &mut self.chaos {
            chaos.end_interval();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Tid = Tid(30);
    const B: Tid = Tid(20);
    const C: Tid = Tid(10);

    fn scheduler(schedule: Schedule, nice: [i32; 3]) -> Scheduler {
        let mut scheduler = Scheduler::new(schedule);
        for (tid, nice) in [A, B, C].into_iter().zip(nice) {
            scheduler.add(tid, nice);
        }
        scheduler
    }

    /// Lets all tasks be ready always; who runs at which event.
    fn run(
        scheduler: &mut Scheduler,
        events: std::ops::Range<u64>,
        yields: impl Fn(Tid) -> bool,
    ) -> Vec<Tid> {
        let mut ran = Vec::new();
        for event in events {
            let now = EventNumber(event);
            let tid = match scheduler.turn() {
                Some(tid) => tid,
                None => match scheduler.choose(now, |_| true) {
                    Choice::Run(tid) => tid,
                    Choice::Wait(_) => panic!("all are ready"),
                },
            };
            ran.push(tid);
            scheduler.turn_is_over(EventNumber(event + 1), Duration::ZERO, yields(tid), |_| true);
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
        let only_a = |tid| tid == A;
        assert_eq!(scheduler.choose(EventNumber(0), only_a), Choice::Run(A));
        assert!(scheduler.has_rivals() && scheduler.is_exact());
        assert!(!scheduler.turn_is_over(EventNumber(1), Duration::ZERO, false, only_a));
        assert!(scheduler.turn_is_over(EventNumber(2), Duration::ZERO, false, |tid| tid != C));
        assert_eq!(scheduler.choose(EventNumber(2), |_| true), Choice::Run(B));
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
            let Choice::Run(tid) = scheduler.choose(now, |_| true) else {
                panic!("all are ready")
            };
            ran.push(tid);
            // Each has a child, and is gone.
            scheduler.add(Tid(100 + n as i32), 0);
            scheduler.end_turn(now);
            scheduler.remove(tid);
        }
        assert_eq!(ran, [A, B, C, Tid(100), Tid(101), Tid(102)]);
        scheduler.add(A, 0);
        assert_eq!(scheduler.choose(EventNumber(9), |_| true), Choice::Run(Tid(103)));
    }

    #[test]
    fn turns_end_at_different_places() {
        let mut scheduler = scheduler(turns_of(100), [0; 3]);
        let ran = run(&mut scheduler, 0..10_000, |_| false);
        let lengths: std::collections::BTreeSet<usize> =
            ran.chunk_by(|a, b| a == b).map(<[Tid]>::len).collect();
        assert!(
            lengths.len() > 10 && lengths.iter().skip(1).all(|n| (75..=100).contains(n)),
            "{lengths:?}"
        );
    }

    #[test]
    fn who_yields_again_and_again_has_short_turns_between() {
        // Its second event is a yield always, unless its turn ends before.
        let mut scheduler = scheduler(turns_of(100), [0; 3]);
        let (mut event, mut lengths) = (0, std::collections::BTreeSet::new());
        for _ in 0..100 {
            let Choice::Run(tid) = scheduler.choose(EventNumber(event), |_| true) else {
                panic!("all are ready")
            };
            let begin = event;
            loop {
                event += 1;
                let yields = tid == A && event - begin == 2;
                if scheduler.turn_is_over(EventNumber(event), Duration::ZERO, yields, |_| true) {
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
        scheduler.choose(EventNumber(0), |_| true);
        assert!(!scheduler.turn_is_over(EventNumber(1), Duration::ZERO, false, |_| true));
        scheduler.cut_short();
        assert!(scheduler.turn_is_over(EventNumber(2), Duration::ZERO, false, |_| true));
    }

    #[test]
    fn nobody_is_passed_over_for_ever() {
        let mut scheduler = scheduler(turns_of(1), [-5, 0, 5]);
        let ran = run(&mut scheduler, 0..40, |_| false);
        assert!(ran.iter().filter(|tid| **tid == A).count() > 30);
        assert!(ran.contains(&B) && ran.contains(&C));
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
        let low = |tid: Tid| tid != A;
        for (tid, lot) in [(A, 0), (B, 1), (C, 1)] {
            scheduler.members.get_mut(&tid).unwrap().lot = lot;
        }
        let chaos = scheduler.chaos.as_mut().unwrap();
        while !chaos.in_interval() {
            chaos.turn_over(EventNumber(0));
        }
        // Whoever sleeps again and again is waited for less and less.
        let waits = |scheduler: &mut Scheduler| match scheduler.choose(EventNumber(0), low) {
            Choice::Wait(Some(patience)) => patience,
            other => panic!("{other:?}"),
        };
        let first = waits(&mut scheduler);
        assert!(waits(&mut scheduler) < first);
        scheduler.end_interval();
        assert!(matches!(scheduler.choose(EventNumber(0), low), Choice::Run(_)));
    }
}
