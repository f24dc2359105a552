//! One step back: to where a thread was before its last instruction.
//!
//! A position that is named by single steps has a predecessor: one step less. Any other is approached from before: what
//! is executed near a place of the interval is likely to be executed near its end again. So a few instructions are
//! stepped through, and the last time that one of them is executed before the end is nearer to it. When only few
//! instructions are left, they are counted by single steps.
//!
//! ```text
//!  ●──── steps ────┐                                      ● end
//!     A  B  C  A   │        … A … B … C …        C        │
//!                  └──────── run, counting ──────► last ──┤ steps, counted
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use rr_trace::event::{Disposition, EventKind, EventNumber, SignalPlace};
use rr_tracee::{Addr, Tid};

use super::kept::split_last;
use super::seek::Way;
use super::{Stop, Timeline};
use crate::error::{Error, Result};
use crate::position::{Mark, Move, Path, Position};
use crate::run::{Halt, Interrupt, Never, Pace};
use crate::session::ReplaySession;

/// Steps before the way is shortened; it doubles when that does not help.
const FEW_STEPS: u64 = 48;
const MANY_STEPS: u64 = 1 << 14;
/// The most instructions whose last execution is looked for at a time.
const CANDIDATES: usize = 12;

/// What ends a stretch of an interval.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The task arrives at its event.
    Arrival,
    /// This is met for the n-th time from where the stretch begins.
    Met(Mark, u64),
}

impl Timeline {
    /// Goes back by one instruction of a thread. If it is interrupted, the user is where they were.
    pub fn reverse_step(&mut self, tid: Tid, user: &mut dyn Interrupt) -> Result<Stop> {
        let here = self.session.position();
        let position = match self.step_before(tid, &here, user)? {
            Ok(position) => position,
            Err(Way::Interrupted | Way::Done) => return Ok(Stop::Interrupted),
        };
        let Some(position) = position.filter(|p| p.last >= self.begin) else {
            self.seek(&Position::at_event(self.begin), user)?;
            return Ok(Stop::HistoryBegin);
        };
        match self.seek(&position, user)? {
            true => Ok(Stop::Stepped { tid }),
            false => Ok(Stop::Interrupted),
        }
    }

    /// The position one instruction of whoever executed last before another one; `None` at the beginning of everything.
    pub(super) fn one_before(
        &mut self,
        here: &Position,
        user: &mut dyn Interrupt,
    ) -> Result<Result<Option<Position>, Way>> {
        let number = match here.path.is_empty() && !here.arrived {
            true => here.last,
            false => here.last.next(),
        };
        match self.session.event(number)? {
            Some(event) => self.step_before(event.tid, here, user),
            None => Ok(Ok(None)),
        }
    }

    /// The position of a thread before its last step; `None` if it has made none.
    fn step_before(
        &mut self,
        tid: Tid,
        here: &Position,
        user: &mut dyn Interrupt,
    ) -> Result<Result<Option<Position>, Way>> {
        // In the interval under way.
        if (!here.path.is_empty() || here.arrived)
            && let Some(event) = self.session.event(here.last.next())?
            && event.tid == tid
        {
            match self.inside(here, user)? {
                Ok(None) => {}
                found => return Ok(found),
            }
        }
        // In one of the intervals before.
        let mut number = here.last;
        while number >= self.begin && number.0 > 0 {
            if user.is_requested() {
                return Ok(Err(Way::Interrupted));
            }
            let Some(event) = self.session.event(number)? else {
                return Ok(Ok(None));
            };
            let before = EventNumber(number.0 - 1);
            if event.tid == tid {
                let is_handler = matches!(
                    event.kind,
                    EventKind::Signal {
                        place: SignalPlace::Here,
                        disposition: Disposition::Handler,
                        ..
                    }
                );
                if is_handler {
                    return Ok(Ok(Some(Position::at_event(before))));
                }
                if event.kind.before().is_some() {
                    match self.inside(&Position::before_event(before), user)? {
                        Ok(None) => {}
                        found => return Ok(found),
                    }
                }
                if matches!(event.kind, EventKind::Start { .. }) {
                    return Ok(Ok(None));
                }
            }
            number = before;
        }
        Ok(Ok(None))
    }

    /// The position one instruction before one that is inside an interval, or at its end; `None` if no instruction is
    /// executed before it.
    fn inside(&mut self, here: &Position, user: &mut dyn Interrupt) -> Result<Result<Option<Position>, Way>> {
        if let Some((mut path, Move::Step(steps))) = split_last(&here.path) {
            if steps > 1 {
                path.push(Move::Step(steps - 1));
            }
            let (last, arrived) = (here.last, false);
            return Ok(Ok(Some(Position { last, path, arrived })));
        }
        let base = Position {
            last: here.last,
            path: split_last(&here.path).map_or(Path::default(), |(path, _)| path),
            arrived: false,
        };
        let end = match here.path.0.last() {
            Some(Move::Until(mark, count)) => End::Met(*mark, *count),
            _ => End::Arrival,
        };
        self.approach(&base, end, here, user)
    }

    /// Comes ever nearer to the end of a stretch that begins at `base`.
    fn approach(
        &mut self,
        base: &Position,
        mut end: End,
        here: &Position,
        user: &mut dyn Interrupt,
    ) -> Result<Result<Option<Position>, Way>> {
        let mut from = base.clone();
        // A checkpoint may be nearer.
        if let End::Met(mark, _) = end
            && let Some(nearer) = self.kept.named_before(here)
            && let Some(left) = super::kept::only_move(&nearer, here)
            && left.0 == mark
        {
            from = nearer;
            end = End::Met(mark, left.1);
        }
        let Some(mut session) = self.session_at(&from, user)? else {
            return Ok(Err(Way::Interrupted));
        };
        let mut most = FEW_STEPS;
        loop {
            self.kept.add(session.freeze()?);
            let from = session.position();
            let steps = match steps_to(&mut session, end, most)? {
                Stepped::End(0) => return Ok(Ok(None)),
                Stepped::End(steps) => {
                    let mut position = from;
                    if steps > 1 {
                        position.path.push(Move::Step(steps - 1));
                    }
                    return Ok(Ok(Some(position)));
                }
                Stepped::More(visited) => visited,
            };
            if user.is_requested() {
                return Ok(Err(Way::Interrupted));
            }
            let Some(mut again) = self.session_at(&from, user)? else {
                return Ok(Err(Way::Interrupted));
            };
            let last = match last_of(&mut again, &steps, end, user)? {
                Ok(last) => last,
                Err(way) => return Ok(Err(way)),
            };
            let Some((addr, count, passed)) = last else {
                most = (most * 2).min(MANY_STEPS);
                continue;
            };
            let mut nearer = from;
            nearer.path.push(Move::Until(Mark::Execute(addr), count));
            let Some(there) = self.session_at(&nearer, user)? else {
                return Ok(Err(Way::Interrupted));
            };
            session = there;
            if let End::Met(_, left) = &mut end {
                *left -= passed;
            }
            // Code without loops comes no nearer this way than by its steps.
            most = (most * 2).min(MANY_STEPS);
        }
    }
}

/// Where single steps have led.
enum Stepped {
    /// To the end, with so many.
    End(u64),
    /// They are used up; these instructions were executed.
    More(Vec<Addr>),
}

/// Steps to the end of a stretch, with `most` steps.
fn steps_to(session: &mut ReplaySession, end: End, most: u64) -> Result<Stepped> {
    let (breakpoints, watches) = match end {
        End::Met(Mark::Access(watch), _) => (BTreeSet::new(), vec![watch]),
        _ => Default::default(),
    };
    let Some(event) = session.next_event()? else {
        return Ok(Stepped::End(0));
    };
    let owner = session.process_of(event.tid).unwrap_or(event.tid);
    session.set_stops(owner, breakpoints, watches)?;
    let mut met = 0;
    let mut visited = Vec::new();
    for steps in 0..=most {
        let rip = session.registers(event.tid).map_or(Addr::NULL, |r| Addr(r.rip));
        if steps > 0
            && let End::Met(Mark::Execute(addr), count) = end
            && rip == addr
        {
            met += 1;
            if met == count {
                return Ok(Stepped::End(steps));
            }
        }
        // The first time at the beginning of an interval counts.
        if steps == 0
            && let End::Met(Mark::Execute(addr), count) = end
            && rip == addr
            && !session.progress.is_reported()
        {
            met += 1;
            if met == count {
                return Ok(Stepped::End(0));
            }
        }
        visited.push(rip);
        match session.proceed(Pace::Step, &mut Never)? {
            Halt::Arrived => {
                return match end {
                    // It may be there without having executed anything.
                    End::Arrival if steps == 0 && is_unmoved(session, &event.kind, rip) => Ok(Stepped::End(0)),
                    End::Arrival => Ok(Stepped::End(steps + 1)),
                    End::Met(..) => Err(Error::Lost {
                        goal: format!("{end:?}"),
                        here: session.position().to_string(),
                    }),
                };
            }
            Halt::Watchpoint(_) if matches!(end, End::Met(Mark::Access(_), _)) => {
                met += 1;
                if let End::Met(_, count) = end
                    && met == count
                {
                    return Ok(Stepped::End(steps + 1));
                }
            }
            _ => {}
        }
    }
    Ok(Stepped::More(visited))
}

/// Whether a task has arrived at its event without executing anything: only an execution point can be so.
fn is_unmoved(session: &ReplaySession, kind: &EventKind, before: Addr) -> bool {
    matches!(kind, EventKind::Point { at, .. } if Addr(at.rip) == before) && session.position().arrived
}

/// Which of these instructions is executed last before the end: how often it is executed from here on, and how often
/// what the end is counted by is met up to there. `None` if none is executed again.
#[allow(clippy::type_complexity)]
fn last_of(
    session: &mut ReplaySession,
    visited: &[Addr],
    end: End,
    user: &mut dyn Interrupt,
) -> Result<Result<Option<(Addr, u64, u64)>, Way>> {
    let Some(event) = session.next_event()? else {
        return Ok(Ok(None));
    };
    let owner = session.process_of(event.tid).unwrap_or(event.tid);
    // The ones that were come by last are the likeliest to be near the end.
    let mut candidates: Vec<Addr> = Vec::new();
    for addr in visited.iter().rev() {
        if candidates.len() < CANDIDATES && !candidates.contains(addr) {
            candidates.push(*addr);
        }
    }
    let mut breakpoints: BTreeSet<Addr> = candidates.iter().copied().collect();
    let (goal, enough) = match end {
        End::Met(mark, count) => (Some(mark), count),
        End::Arrival => (None, 0),
    };
    let mut watches = Vec::new();
    match goal {
        Some(Mark::Execute(addr)) => {
            breakpoints.insert(addr);
        }
        Some(Mark::Access(watch)) => watches.push(watch),
        None => {}
    }
    session.set_stops(owner, breakpoints, watches)?;
    let before = goal.map_or(0, |mark| session.progress.counted(mark));
    let passed = |session: &ReplaySession| goal.map_or(0, |mark| session.progress.counted(mark) - before);
    let mut last = None;
    loop {
        match session.proceed(Pace::Free, user)? {
            Halt::Interrupted => return Ok(Err(Way::Interrupted)),
            Halt::Arrived => break,
            _ if goal.is_some() && passed(session) >= enough => break,
            Halt::Breakpoint(addr) => {
                let count = session.progress.counted(Mark::Execute(addr));
                last = Some((addr, count, passed(session)));
            }
            Halt::Watchpoint(_) | Halt::Stepped => {}
        }
    }
    Ok(Ok(last))
}

impl ReplaySession {
    /// An event of the trace by its number.
    pub(crate) fn event(&self, number: EventNumber) -> Result<Option<Arc<rr_trace::event::Event>>> {
        Ok(self.cursor.source().get(number)?)
    }
}
