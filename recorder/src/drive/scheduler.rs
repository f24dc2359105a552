//! The scheduler: chooses the task that runs next.
//!
//! Tasks of higher priority (lower nice value) go first; among equals, the task that has waited
//! longest. A new task waits from its birth on, so tasks that are born one after the other do not pass
//! over anybody. A turn ends at an event: after a number of them, when a task of higher priority can
//! run, or, at the next tick, when a task has come out of a call that it waited in. Two rules soften
//! this, because programs wait in loops for each other: `sched_yield` gives all other tasks a turn,
//! whatever their priority, and a task that was passed over for many turns gets one.
//!
//! *A turn must not always end at the same place of a loop*: the task might hold a lock there that
//! others need. So turns differ a little in length, and after every eighth `sched_yield` the next turn
//! of the task ends some events after its beginning. If a task still starves for a lock, it gets the
//! next turn when the lock is free (`contention`). A task without events is interrupted (`point`), and
//! soon if that helps.
//!
//! Invariant: a decision depends on the program's actions, on priorities and on the seed of chaos mode,
//! not on tids. (Only outside of chaos mode, a turn can also end by the clock.)

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use rr_trace::event::EventNumber;
use rr_tracee::{Tid, tsc};

use crate::drive::chaos::Chaos;

/// Maximum time that a task may run while others are ready, if its events are far apart.
const TURN_TIME: Duration = Duration::from_millis(100);
/// Number of calls of `sched_yield` after which a task's next turn is a short one.
const YIELDS: u64 = 8;
/// Maximum number of events of a short turn.
const SHORT: u64 = 4;
/// Maximum number of turns for which a ready task of low priority is passed over.
const PATIENCE: u64 = 8;

/// Parameters of the scheduler.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Maximum number of events of a turn.
    pub turn_events: u64,
    /// The seed of chaos mode. `None` means the usual order.
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

/// State of a task in the scheduler.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// Age of its wait: the count at its birth, or at the end of its last turn. (Tids differ between
    /// two runs.)
    since: u64,
    /// The kernel's nice value.
    nice: i32,
    /// Priority in chaos mode.
    lot: i32,
    /// Maximum number of events of its next turn; 0 for no such limit.
    short: u64,
    /// True if the task can run.
    is_ready: bool,
    /// Value of [`Class::passed`] when the task became ready, or its turn began.
    passed: u64,
}

/// The tasks of one priority.
#[derive(Debug, Default)]
struct Class {
    /// Number of tasks.
    members: usize,
    /// Number of turns that tasks of higher priority got instead.
    passed: u64,
    /// The ready tasks, by [`Member::since`].
    by_age: BTreeSet<(u64, Tid)>,
    /// The ready tasks, by [`Member::passed`], and then by age.
    by_passed: BTreeSet<(u64, u64, Tid)>,
}

impl Class {
    fn is_ready(&self) -> bool {
        !self.by_age.is_empty()
    }

    /// The ready task that was passed over most often, if that was too often, with its age.
    fn starving(&self) -> Option<(u64, Tid)> {
        let (passed, since, tid) = *self.by_passed.first()?;
        (self.passed - passed >= PATIENCE).then_some((since, tid))
    }
}

/// A task's turn.
#[derive(Debug)]
struct Turn {
    tid: Tid,
    until: EventNumber,
    /// Time at which the turn ends, as a time of [`tsc::now`]; `None` in chaos mode.
    deadline: Option<Duration>,
    /// True if the turn was given in spite of the task's priority: others do not cut it short.
    granted: bool,
    /// True if the turn ends after a few events.
    short: bool,
}

/// The next action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    /// Let this task run.
    Run(Tid),
    /// Wait until a task comes out of the kernel, with a maximum time if one is given.
    Wait(Option<Duration>),
}

/// Chooses between tasks.
#[derive(Debug)]
pub(crate) struct Scheduler {
    schedule: Schedule,
    chaos: Option<Chaos>,
    members: HashMap<Tid, Member>,
    /// The classes of the tasks, by priority. No class is empty.
    classes: BTreeMap<i32, Class>,
    /// Number of ready tasks.
    ready: usize,
    /// Number of births and ends of turns so far.
    count: u64,
    /// Number of calls of `sched_yield` so far.
    yields: u64,
    turn: Option<Turn>,
    /// Tasks that go first, before priorities count again: after a `sched_yield`, or because a lock
    /// that they wait for is free.
    round: VecDeque<Tid>,
}

impl Scheduler {
    pub fn new(schedule: Schedule) -> Scheduler {
        Scheduler {
            schedule,
            chaos: schedule.chaos.map(Chaos::new),
            members: HashMap::new(),
            classes: BTreeMap::new(),
            ready: 0,
            count: 0,
            yields: 0,
            turn: None,
            round: VecDeque::new(),
        }
    }

    /// Adds a new task.
    pub fn add(&mut self, tid: Tid, nice: i32) {
        let lot = self.chaos.as_mut().map_or(0, Chaos::priority);
        let since = self.count;
        self.count += 1;
        self.remove(tid);
        let member = Member {
            since,
            nice,
            lot,
            short: 0,
            is_ready: false,
            passed: 0,
        };
        self.enter(tid, member);
    }

    /// Removes a task that is gone.
    pub fn remove(&mut self, tid: Tid) {
        self.leave(tid);
    }

    /// Changes the tid of a task.
    pub fn rename(&mut self, former: Tid, tid: Tid) {
        if let Some(member) = self.leave(former) {
            self.remove(tid);
            self.enter(tid, member);
        }
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.tid == former) {
            turn.tid = tid;
        }
    }

    /// Sets the nice value of a task.
    pub fn set_nice(&mut self, tid: Tid, nice: i32) {
        self.change(tid, |member| member.nice = nice);
    }

    /// Sets whether a task can run.
    pub fn set_ready(&mut self, tid: Tid, is_ready: bool) {
        if self.is_ready(tid) != is_ready {
            self.change(tid, |member| member.is_ready = is_ready);
        }
    }

    fn is_ready(&self, tid: Tid) -> bool {
        self.members.get(&tid).is_some_and(|m| m.is_ready)
    }

    /// Returns whether another task can run.
    pub fn others_are_ready(&self, tid: Tid) -> bool {
        self.ready > usize::from(self.is_ready(tid))
    }

    /// Changes the state of a task, and with it its place in the order.
    fn change(&mut self, tid: Tid, change: impl FnOnce(&mut Member)) {
        if let Some(mut member) = self.leave(tid) {
            change(&mut member);
            self.enter(tid, member);
        }
    }

    fn enter(&mut self, tid: Tid, mut member: Member) {
        let class = self.classes.entry(self.priority_of(&member)).or_default();
        class.members += 1;
        member.passed = class.passed;
        if member.is_ready {
            class.by_age.insert((member.since, tid));
            class.by_passed.insert((member.passed, member.since, tid));
            self.ready += 1;
        }
        self.members.insert(tid, member);
    }

    fn leave(&mut self, tid: Tid) -> Option<Member> {
        let member = self.members.remove(&tid)?;
        let priority = self.priority_of(&member);
        if let Some(class) = self.classes.get_mut(&priority) {
            class.members -= 1;
            if member.is_ready {
                class.by_age.remove(&(member.since, tid));
                class.by_passed.remove(&(member.passed, member.since, tid));
                self.ready -= 1;
            }
            if class.members == 0 {
                self.classes.remove(&priority);
            }
        }
        Some(member)
    }

    /// The task whose turn it is, if the turn is not over.
    pub fn turn(&self) -> Option<Tid> {
        self.turn.as_ref().map(|turn| turn.tid)
    }

    /// Returns whether only the seed decides.
    pub fn is_chaotic(&self) -> bool {
        self.chaos.is_some()
    }

    /// Returns whether a task that goes on after this event may be preempted before its next one.
    pub fn can_preempt(&self, now: EventNumber) -> bool {
        self.chaos.as_ref().is_some_and(|chaos| chaos.can_preempt(now))
    }

    /// The number of instructions after which the task that goes on after this event is preempted, if the dice say so.
    pub fn preemption(&mut self, now: EventNumber) -> Option<u64> {
        self.chaos.as_mut()?.preemption(now)
    }

    /// Returns whether decisions depend on the exact set of ready tasks: then no task may be on its way
    /// out of the kernel.
    pub fn is_exact(&self) -> bool {
        self.chaos.is_some() || self.classes.len() > 1
    }

    /// Returns whether a task has a higher priority than the current one, and may come to need the CPU.
    pub fn has_rivals(&self) -> bool {
        let Some(turn) = self.turn.as_ref().filter(|turn| !turn.granted) else {
            return false;
        };
        let own = self.priority(turn.tid);
        self.classes.range(..own).next().is_some()
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

    /// The current task has had its event `now`, at that `time` (of [`tsc::now`]). `yields` says if it
    /// has called `sched_yield`. Returns whether its turn is over.
    pub fn turn_is_over(&mut self, now: EventNumber, time: Duration, yields: bool) -> bool {
        let Some(turn) = &self.turn else { return true };
        let tid = turn.tid;
        // There is no other task.
        if self.members.len() <= 1 {
            return false;
        }
        let own = self.priority(tid);
        let preempted = !turn.granted && self.classes.range(..own).any(|(_, class)| class.is_ready());
        let over = yields
            || preempted
            || now >= turn.until
            || turn.deadline.is_some_and(|deadline| time >= deadline);
        if over {
            if yields {
                self.note_yield(tid);
            }
            if yields && self.round.is_empty() {
                self.round = self.all_ready();
                self.round.retain(|other| *other != tid);
            }
            self.end_turn(now);
        }
        over
    }

    /// Ends the turn in favour of this task.
    pub fn hand_over(&mut self, now: EventNumber, to: Tid) {
        self.round.push_front(to);
        self.end_turn(now);
    }

    /// Counts a `sched_yield`.
    fn note_yield(&mut self, tid: Tid) {
        self.yields += 1;
        if self.chaos.is_none()
            && self.yields.is_multiple_of(YIELDS)
            && let Some(member) = self.members.get_mut(&tid)
        {
            member.short = 1 + self.yields / YIELDS % SHORT;
        }
    }

    /// Returns whether the turn ends a few events from its beginning: then every call must be an event.
    pub fn counts_events(&self) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.short)
    }

    /// Ends the turn at the next event, because a task has come out of a call that it waited in.
    pub fn cut_short(&mut self) {
        if let Some(turn) = &mut self.turn
            && let Some(deadline) = &mut turn.deadline
        {
            *deadline = Duration::ZERO;
        }
    }

    /// The ready tasks, whatever their priority, in order of their wait.
    fn all_ready(&self) -> VecDeque<Tid> {
        let mut all: Vec<(u64, Tid)> = self
            .classes
            .values()
            .flat_map(|class| class.by_age.iter().copied())
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, tid)| tid).collect()
    }

    /// Chooses the next turn.
    pub fn choose(&mut self, now: EventNumber) -> Choice {
        while let Some(tid) = self.round.pop_front() {
            if self.is_ready(tid) {
                return self.begin(tid, now, true);
            }
        }
        if self.chaos.as_ref().is_some_and(Chaos::in_interval) {
            match self.classes.get(&0) {
                Some(high) if high.is_ready() => {}
                Some(_) => return Choice::Wait(self.chaos.as_mut().map(Chaos::patience)),
                None => self.end_interval(),
            }
        }
        let ready = self.classes.iter().find(|(_, class)| class.is_ready());
        let Some((&best, class)) = ready else {
            return Choice::Wait(None);
        };
        if let Some(chaos) = &mut self.chaos {
            let n = chaos.one_of(class.by_age.len());
            return match class.by_age.iter().nth(n) {
                Some(&(_, tid)) => self.begin(tid, now, false),
                None => Choice::Wait(None),
            };
        }
        let oldest = class.by_age.first().map(|(_, tid)| *tid);
        let starving = self.classes.values().filter_map(Class::starving).min();
        if let Some((_, starving)) = starving {
            return self.begin(starving, now, true);
        }
        for (_, class) in self.classes.range_mut(best.saturating_add(1)..) {
            class.passed += 1;
        }
        match oldest {
            Some(tid) => self.begin(tid, now, false),
            None => Choice::Wait(None),
        }
    }

    fn begin(&mut self, tid: Tid, now: EventNumber, granted: bool) -> Choice {
        let most = self.schedule.turn_events;
        let (events, deadline) = match &mut self.chaos {
            Some(chaos) => (chaos.turn(most), None),
            None => (most, Some(tsc::now() + TURN_TIME)),
        };
        // Up to a quarter fewer, a different number every time.
        let less = if deadline.is_some() {
            self.count % (events / 4 + 1)
        } else {
            0
        };
        let mut events = events - less;
        let mut short = false;
        // (The count of its passed-over turns is reset, too.)
        self.change(tid, |member| {
            let most = std::mem::take(&mut member.short);
            if most > 0 {
                (events, short) = (events.min(most), true);
            }
        });
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

    /// Ends the turn, also if the task cannot run.
    pub fn end_turn(&mut self, now: EventNumber) {
        let Some(turn) = self.turn.take() else { return };
        let since = self.count;
        if self.members.contains_key(&turn.tid) {
            self.count += 1;
        }
        self.change(turn.tid, |member| member.since = since);
        if let Some(chaos) = &mut self.chaos {
            let lot = chaos.redraws().then(|| chaos.priority());
            chaos.turn_over(now);
            if let Some(lot) = lot {
                self.change(turn.tid, |member| member.lot = lot);
            }
        }
    }

    /// The time of a [`Choice::Wait`] has passed in vain.
    pub fn end_interval(&mut self) {
        if let Some(chaos) = &mut self.chaos {
            chaos.end_interval();
        }
    }
}

#[cfg(test)]
mod tests;
