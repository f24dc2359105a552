//! Going to a position, from the nearest checkpoint before it, or from a session's place.
//!
//! A *walk* takes a session forwards to a position. On its way it leaves live checkpoints behind. If
//! requested, it reports the stops that the user would have seen on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rr_trace::event::{Event, EventNumber};
use rr_tracee::task::Watch;
use rr_tracee::{Addr, Tid, tsc};

use super::forward::apply;
use super::kept::Kept;
use super::paced::{Paced, due_after};
use super::stops::programs;
use super::{Stop, Stops, Timeline};
use crate::affinity::Beside;
use crate::breakpoints::{Halting, is_breakpoint};
use crate::drive::{proceed, set_counting_stops, set_goal, take_last_pass};
use crate::error::{Error, Result};
use crate::halt::{Halt, Pace};
use crate::interrupt::Interrupt;
use crate::passes::LastPass;
use crate::place::Goal;
use crate::position::{Mark, Move, Position};
use crate::probe::WhereTrue;
use crate::session::ReplaySession;

/// Distances from the end of many steps at which live checkpoints are left behind.
const RUNGS: [u64; 4] = [16, 128, 1024, 8192];

/// Result of a walk or a search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(super) enum Way {
    /// The walk or search has reached its end.
    Done,
    /// The user has interrupted the walk or search.
    Interrupted,
}

/// The stop that the user would have seen on the way, and its place.
#[derive(Clone, Debug)]
pub(super) struct Met {
    pub stop: Stop,
    pub position: Position,
}

/// The state of a walk.
pub(super) struct Walk<'a> {
    pub process: Tid,
    /// The stops to look for; `None` if they are not wanted.
    pub stops: Option<&'a Stops>,
    /// The collection for live checkpoints left behind.
    pub kept: &'a mut Kept,
    pub user: &'a mut dyn Interrupt,
    /// The last stop that was met.
    pub met: Option<Met>,
    /// The last pass, in the last run, of a breakpoint that is only counted.
    pub passed: Option<LastPass>,
    due: Duration,
    /// The end of the walk.
    goal: Option<Position>,
    /// Stops at the goal count, too: the goal is not the user's place, but the place where a later search began.
    counts_goal: bool,
    /// True if the current move ends at the goal, whatever the place's name is then.
    is_last_move: bool,
}

impl<'a> Walk<'a> {
    pub fn new(
        process: Tid,
        stops: Option<&'a Stops>,
        kept: &'a mut Kept,
        user: &'a mut dyn Interrupt,
    ) -> Walk<'a> {
        Walk {
            process,
            stops,
            kept,
            user,
            met: None,
            passed: None,
            due: due_after(Duration::ZERO),
            goal: None,
            counts_goal: false,
            is_last_move: false,
        }
    }

    /// Lets stops at the goal count if `counts` is true. A session that begins at a checkpoint does not meet the stop whose event
    /// the checkpoint was taken after: that stop belongs to the stretch before.
    pub fn counting_goal(self, counts: bool) -> Walk<'a> {
        Walk {
            counts_goal: counts,
            ..self
        }
    }

    /// Takes a session to a position, which must not be before the session's place.
    pub fn to(&mut self, session: &mut ReplaySession, goal: &Position) -> Result<Way> {
        self.goal = Some(goal.clone());
        while session.last_event() < goal.last {
            if self.event(session)? == Way::Interrupted {
                return Ok(Way::Interrupted);
            }
        }
        if session.last_event() > goal.last {
            return Err(lost(session, goal));
        }
        if goal.arrived {
            return self.arrive(session);
        }
        let left = session.interval.progress.remainder(&goal.path);
        let left = left.ok_or_else(|| lost(session, goal))?;
        let moves = left.len();
        for (n, next) in left.into_iter().enumerate() {
            self.is_last_move = n + 1 == moves;
            let way = match next {
                Move::Until(mark, count) => self.until(session, mark, count, goal)?,
                Move::Step(count) => self.steps(session, count, goal)?,
                Move::Interrupted(_) => return Err(lost(session, goal)),
            };
            if way == Way::Interrupted {
                return Ok(way);
            }
        }
        Ok(Way::Done)
    }

    /// Arms the wanted stops, and `mark`. Breakpoints without a condition are only counted, because
    /// only their last pass matters. Breakpoints with a condition are counted, too, if the task itself
    /// can evaluate it; otherwise they halt.
    fn arm(&self, session: &mut ReplaySession, mark: Option<Mark>) -> Result<()> {
        let mut breakpoints = Halting::new();
        let mut counted: BTreeMap<Addr, bool> = BTreeMap::new();
        let mut watches: Vec<Watch> = Vec::new();
        if let Some(stops) = self.stops {
            for (addr, conditions) in &stops.breakpoints {
                match conditions.is_empty() {
                    true => drop(counted.insert(*addr, true)),
                    false => drop(breakpoints.insert(*addr, programs(conditions))),
                }
            }
            watches = stops.debug_registers().unwrap_or_default();
        }
        let mut process = self.process;
        match mark {
            Some(Mark::Execute(addr)) => {
                if !breakpoints.contains_key(&addr) {
                    counted.entry(addr).or_insert(false);
                }
                process = owner(session)?.unwrap_or(process);
            }
            Some(Mark::Access(watch)) => {
                if !watches.contains(&watch) {
                    // There are few debug registers: the mark of the path goes first.
                    watches.truncate(rr_tracee::task::WATCHES - 1);
                    watches.push(watch);
                }
                process = owner(session)?.unwrap_or(process);
            }
            None => {}
        }
        set_counting_stops(session, process, breakpoints, WhereTrue::Notes, watches, counted)
    }

    /// Notes the last pass of a breakpoint that is only counted.
    fn meet_pass(&mut self, session: &mut ReplaySession) -> Result<()> {
        self.passed = take_last_pass(session);
        let Some(pass) = self.passed.clone() else {
            return Ok(());
        };
        let Some(event) = session.next_event()? else {
            return Ok(());
        };
        let (tid, addr) = (event.tid, pass.addr);
        if self.stops.is_some() && session.process_of(tid) == Some(self.process) {
            let position = Position {
                last: session.last_event(),
                path: session.interval.progress.path_at(Mark::Execute(addr), pass.count),
                arrived: false,
            };
            let stop = Stop::Breakpoint { tid, addr };
            self.met = Some(Met { stop, position });
        }
        Ok(())
    }

    /// Notes a stop. At the user's place, only an access counts, because the place lies behind it.
    fn meet(&mut self, session: &ReplaySession, stop: Stop) {
        let position = session.position();
        let is_before = self.counts_goal || self.goal.as_ref() != Some(&position);
        if is_before || matches!(stop, Stop::Watchpoint { .. }) {
            self.met = Some(Met { stop, position });
        }
    }

    /// Notes a halt on the way.
    fn meet_halt(&mut self, session: &mut ReplaySession, tid: Tid, halt: Halt) {
        if let Some(stops) = self.stops
            && let Some(stop) = stops.at_halt(session, self.process, tid, halt)
        {
            self.meet(session, stop);
        }
    }

    /// Lets the session run on. The clock halts it, too, and then a live checkpoint is left behind.
    pub fn proceed(&mut self, session: &mut ReplaySession, pace: Pace) -> Result<Result<Halt, Way>> {
        let mut paced = Paced::until(self.user, self.due);
        let halt = proceed(session, pace, &mut paced)?;
        let is_asked = paced.user_has_asked();
        self.meet_pass(session)?;
        // Whatever else has halted it at the same time.
        if is_asked {
            return Ok(Err(Way::Interrupted));
        }
        if halt == Halt::Interrupted {
            self.keep(session)?;
        }
        Ok(Ok(halt))
    }

    /// Leaves a live checkpoint behind.
    fn keep(&mut self, session: &mut ReplaySession) -> Result<()> {
        let began = tsc::now();
        self.kept.add(session.freeze()?);
        self.due = due_after(tsc::now() - began);
        Ok(())
    }

    /// Replays the rest of one event.
    pub fn event(&mut self, session: &mut ReplaySession) -> Result<Way> {
        let Some(event) = session.next_event()? else {
            return Err(lost(session, &session.position()));
        };
        if event.number.0 % 16 == 0 {
            if self.user.is_requested() {
                return Ok(Way::Interrupted);
            }
            if tsc::now() >= self.due {
                self.keep(session)?;
            }
        }
        if self.arrive(session)? == Way::Interrupted {
            return Ok(Way::Interrupted);
        }
        if let Some(stops) = self.stops
            && let Some(stop) = stops.before(session, self.process, &event)
            && !matches!(stop, Stop::Exiting { .. })
        {
            self.meet(session, stop);
        }
        let none = Stops::default();
        let stops = self.stops.unwrap_or(&none);
        let stop = apply(session, stops, self.process, &event, &mut |_, _| {})?;
        if let Some(stop) = stop.filter(|stop| self.stops.is_some() && !matches!(stop, Stop::Exited { .. })) {
            self.meet(session, stop);
        }
        Ok(Way::Done)
    }

    /// Lets the next event's task arrive.
    fn arrive(&mut self, session: &mut ReplaySession) -> Result<Way> {
        let Some(event) = session.next_event()? else {
            return Ok(Way::Done);
        };
        self.arm(session, None)?;
        loop {
            match self.proceed(session, Pace::Free)? {
                Err(way) => return Ok(way),
                Ok(Halt::Arrived) => return Ok(Way::Done),
                Ok(halt) => self.meet_halt(session, event.tid, halt),
            }
        }
    }

    /// Runs until a mark has occurred this many times.
    fn until(&mut self, session: &mut ReplaySession, mark: Mark, count: u64, goal: &Position) -> Result<Way> {
        let event = expect_event(session, goal)?;
        self.arm(session, Some(mark))?;
        let enough = session.interval.progress.counted(mark) + count;
        if let Mark::Execute(addr) = mark {
            set_goal(session, Goal::Count(addr, enough))?;
        }
        loop {
            match self.proceed(session, Pace::Free)? {
                Err(way) => return Ok(way),
                Ok(Halt::Arrived) => return Err(lost(session, goal)),
                Ok(halt) if session.interval.progress.counted(mark) >= enough => {
                    if !self.is_last_move || matches!(halt, Halt::Watchpoint(_)) {
                        self.meet_halt(session, event.tid, halt);
                    }
                    return Ok(Way::Done);
                }
                Ok(halt) => self.meet_halt(session, event.tid, halt),
            }
        }
    }

    /// Makes this many steps.
    fn steps(&mut self, session: &mut ReplaySession, count: u64, goal: &Position) -> Result<Way> {
        let event = expect_event(session, goal)?;
        self.arm(session, None)?;
        for n in 1..=count {
            let halt = loop {
                match self.proceed(session, Pace::Step)? {
                    Err(way) => return Ok(way),
                    Ok(Halt::Arrived) => return Err(lost(session, goal)),
                    // Halted by the clock, before the step.
                    Ok(Halt::Interrupted) => {}
                    Ok(halt) => break halt,
                }
            };
            let is_goal = self.is_last_move && n == count;
            if !is_goal || matches!(halt, Halt::Watchpoint(_)) {
                self.meet_halt(session, event.tid, halt);
            }
            let rip = session.registers(event.tid).map(|regs| Addr(regs.rip));
            if let Some(rip) = rip
                .filter(|_| !is_goal)
                .filter(|rip| is_breakpoint(session, event.tid, *rip))
            {
                self.meet_halt(session, event.tid, Halt::Breakpoint(rip));
            }
            if count > RUNGS[0] && RUNGS.contains(&(count - n)) {
                self.keep(session)?;
            }
        }
        Ok(Way::Done)
    }
}

/// The process of the pending event's task.
fn owner(session: &mut ReplaySession) -> Result<Option<Tid>> {
    let event = session.next_event()?;
    Ok(event.and_then(|event| session.process_of(event.tid)))
}

fn expect_event(session: &mut ReplaySession, goal: &Position) -> Result<Arc<Event>> {
    match session.next_event()? {
        Some(event) => Ok(event),
        None => Err(lost(session, goal)),
    }
}

/// The error that a position was not found.
pub(super) fn lost(session: &ReplaySession, goal: &Position) -> Error {
    Error::Lost {
        goal: goal.to_string(),
        here: session.position().to_string(),
    }
}

impl Timeline {
    /// A session at a position. The user's session is not changed.
    pub(super) fn session_at(
        &mut self,
        goal: &Position,
        user: &mut dyn Interrupt,
    ) -> Result<Option<ReplaySession>> {
        let mut session = self.start_for(goal)?;
        let mut walk = Walk::new(self.process, None, &mut self.kept, user);
        Ok(match walk.to(&mut session, goal)? {
            Way::Done => Some(session),
            Way::Interrupted => None,
        })
    }

    /// A session from which a position can be reached.
    fn start_for(&mut self, goal: &Position) -> Result<ReplaySession> {
        let stored = self.stored.before(goal.last);
        if let Some((live, at)) = self.kept.nearest(goal)
            && stored.is_none_or(|stored| stored <= at)
        {
            return live.thaw();
        }
        match stored {
            Some(stored) => self.load(stored),
            None => self.at_start(),
        }
    }

    /// A session at a stored checkpoint. If that cannot be used, at an earlier one or at the start.
    pub(super) fn load(&mut self, at: EventNumber) -> Result<ReplaySession> {
        let mut near = self
            .stored
            .session_near(at, |at| self.stored.session(at, self.cpu))?;
        near.unusable.into_iter().for_each(|at| self.stored.forget(at));
        let event = near.session.last_event();
        if event.0 > 0 {
            tracing::debug!("starting from the checkpoint at event {event}");
            self.kept.add(near.session.freeze()?);
        }
        Ok(near.session)
    }

    pub(super) fn at_start(&mut self) -> Result<ReplaySession> {
        ReplaySession::start(Arc::clone(&self.reader), self.cpu)
    }

    /// Moves the user to a position. `false` means interrupted: the user's place is unchanged.
    pub fn seek(&mut self, goal: &Position, user: &mut dyn Interrupt) -> Result<bool> {
        let _beside = Beside::cpu(self.cpu);
        if self.session.position() == *goal {
            return Ok(true);
        }
        let Some(goal) = self.named(goal, user)? else {
            return Ok(false);
        };
        match self.session_at(&goal, user)? {
            Some(session) => {
                self.session = session;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}
