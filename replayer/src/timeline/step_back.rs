//! One step back: to the place of a thread before its last instruction.
//!
//! A position named by single steps has a predecessor: one step less. Any other position is approached
//! from before. Instructions executed near some place of the interval are likely to be executed near
//! its end again. So a few instructions are stepped through, and the last execution of one of them
//! before the end is nearer to the end. When only few instructions are left, they are counted by single
//! steps.
//!
//! ```text
//!  ●──── steps ────┐                                      ● end
//!     A  B  C  A   │        … A … B … C …        C        │
//!                  └──────── run, counting ──────► last ──┤ steps, counted
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use rr_trace::event::{Disposition, Event, EventKind, EventNumber, SignalPlace};
use rr_tracee::code::{WINDOW_MAX, Window};
use rr_tracee::{Addr, AddrRange, Tid};

use super::kept::split_last;
use super::seek::{Walk, Way};
use super::{Stop, Timeline};
use crate::affinity::Beside;
use crate::breakpoints::Halting;
use crate::drive::{proceed, set_counting_stops, set_goal, set_stops};
use crate::error::{Error, Result};
use crate::halt::{Halt, Pace};
use crate::interrupt::{Interrupt, Never};
use crate::place::Goal;
use crate::position::{Mark, Move, Path, Position};
use crate::probe::{Stub, WhereTrue};
use crate::probed::probed;
use crate::session::ReplaySession;

/// Number of steps before the way is shortened. It doubles if that does not help.
const FEW_STEPS: u64 = 48;
const MANY_STEPS: u64 = 1 << 14;
/// Maximum number of instructions whose last execution is searched at a time.
const CANDIDATES: usize = 12;
/// Numbers of passes before the last one at which live checkpoints are left behind.
const RUNGS: [u64; 5] = [1 << 20, 1 << 16, 1 << 12, 256, 16];

/// The end of a part of an interval.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The task arrives at its event.
    Arrival,
    /// The mark occurs for the n-th time from the beginning of the part.
    Met(Mark, u64),
}

impl Timeline {
    /// Goes back by one instruction of a thread. If interrupted, the user's place is unchanged.
    pub fn reverse_step(&mut self, tid: Tid, user: &mut dyn Interrupt) -> Result<Stop> {
        let _beside = Beside::cpu(self.cpu);
        let Some(here) = self.here(user)? else {
            return Ok(Stop::Interrupted);
        };
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

    /// The position one instruction before another, of the task that executed last. `None` at the
    /// beginning of the recording.
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

    /// The position of a thread before its last step. `None` if it has made none.
    fn step_before(
        &mut self,
        tid: Tid,
        here: &Position,
        user: &mut dyn Interrupt,
    ) -> Result<Result<Option<Position>, Way>> {
        // In the current interval.
        if (!here.path.is_empty() || here.arrived)
            && let Some(event) = self.session.event(here.last.next())?
            && event.tid == tid
        {
            match self.inside(here, user)? {
                Ok(None) => {}
                found => return Ok(found),
            }
        }
        // In an earlier interval.
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

    /// The position one instruction before a position that is inside an interval, or at its end. `None`
    /// if no instruction is executed before it.
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

    /// Approaches the end of a part of an interval that begins at `base`.
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
            && let Some((nearer, left)) = self.kept.counting_before(here, mark)
        {
            from = nearer;
            end = End::Met(mark, left);
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
            let mut walk = Walk::new(self.process, None, &mut self.kept, user);
            let last = match last_of(&mut again, &steps, end, &mut walk)? {
                Ok(last) => last,
                Err(way) => return Ok(Err(way)),
            };
            let Some((addr, count, passed)) = last else {
                most = (most * 2).min(MANY_STEPS);
                continue;
            };
            let Some(there) = self.climb(&from, addr, count, user)? else {
                return Ok(Err(Way::Interrupted));
            };
            session = there;
            if let End::Met(_, left) = &mut end {
                *left -= passed;
            }
            // Code without loops is approached only by steps.
            most = (most * 2).min(MANY_STEPS);
        }
    }
}

impl Timeline {
    /// A session at the n-th execution of `addr` after a position. Leaves live checkpoints behind at
    /// shrinking distances before it, which the next step backwards from there needs.
    fn climb(
        &mut self,
        from: &Position,
        addr: Addr,
        count: u64,
        user: &mut dyn Interrupt,
    ) -> Result<Option<ReplaySession>> {
        let at = |count| {
            let mut position = from.clone();
            position.path.push(Move::Until(Mark::Execute(addr), count));
            position
        };
        let mut goals = RUNGS
            .iter()
            .filter(|rung| count > 2 * **rung)
            .map(|rung| at(count - rung));
        let first = goals.next().unwrap_or_else(|| at(count));
        let Some(mut session) = self.session_at(&first, user)? else {
            return Ok(None);
        };
        for goal in goals.chain([at(count)]) {
            self.kept.add(session.freeze()?);
            let mut walk = Walk::new(self.process, None, &mut self.kept, user);
            match walk.to(&mut session, &goal)? {
                Way::Done => {}
                Way::Interrupted => return Ok(None),
            }
        }
        Ok(Some(session))
    }
}

/// Result of single steps.
enum Stepped {
    /// The end was reached, with this many steps.
    End(u64),
    /// All steps were made. These instructions were executed.
    More(Vec<Addr>),
}

/// Steps to the end of a part of an interval, with at most `most` steps.
fn steps_to(session: &mut ReplaySession, end: End, most: u64) -> Result<Stepped> {
    let (breakpoints, watches) = match end {
        End::Met(Mark::Access(watch), _) => (Halting::new(), vec![watch]),
        _ => Default::default(),
    };
    let Some(event) = session.next_event()? else {
        return Ok(Stepped::End(0));
    };
    let owner = session.process_of(event.tid).unwrap_or(event.tid);
    set_stops(session, owner, breakpoints, watches)?;
    let mut met = 0;
    let mut visited = Vec::new();
    // Counts the mark, then makes one step.
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
        // The first occurrence at the beginning of an interval counts.
        if steps == 0
            && let End::Met(Mark::Execute(addr), count) = end
            && rip == addr
            && !session.interval.progress.is_reported()
        {
            met += 1;
            if met == count {
                return Ok(Stepped::End(0));
            }
        }
        visited.push(rip);
        match proceed(session, Pace::Step, &mut Never)? {
            Halt::Arrived => {
                return match end {
                    // The task may have arrived without executing anything.
                    End::Arrival if steps == 0 && is_unmoved(session, &event.kind, rip) => {
                        Ok(Stepped::End(0))
                    }
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

/// Returns whether a task has arrived at its event without executing anything: only possible at an
/// execution point.
fn is_unmoved(session: &ReplaySession, kind: &EventKind, before: Addr) -> bool {
    matches!(kind, EventKind::Point { at, .. } if Addr(at.rip) == before) && session.position().arrived
}

/// The instruction among these that is executed last before the end, the number of its executions from
/// here on, and the number of occurrences of the end's mark up to there. `None` if none is executed
/// again.
#[allow(clippy::type_complexity)]
fn last_of(
    session: &mut ReplaySession,
    visited: &[Addr],
    end: End,
    walk: &mut Walk<'_>,
) -> Result<Result<Option<(Addr, u64, u64)>, Way>> {
    let Some(event) = session.next_event()? else {
        return Ok(Ok(None));
    };
    let owner = session.process_of(event.tid).unwrap_or(event.tid);
    let (goal, enough) = match end {
        End::Met(mark, count) => (Some(mark), count),
        End::Arrival => (None, 0),
    };
    let mut watches = Vec::new();
    let mut kept_clear = None;
    match goal {
        Some(Mark::Execute(addr)) => kept_clear = Some(addr),
        Some(Mark::Access(watch)) => watches.push(watch),
        None => {}
    }
    let candidates = candidates(session, &event, visited, kept_clear);
    let mut counted: BTreeMap<Addr, bool> = candidates.into_iter().map(|addr| (addr, true)).collect();
    if let Some(addr) = kept_clear {
        counted.entry(addr).or_insert(false);
    }
    set_counting_stops(session, owner, Halting::new(), WhereTrue::Stops, watches, counted)?;
    let before = goal.map_or(0, |mark| session.interval.progress.counted(mark));
    if let Some(Mark::Execute(addr)) = goal {
        set_goal(session, Goal::Count(addr, before + enough))?;
    }
    let mut passed = 0;
    let mut last = None;
    loop {
        let halt = walk.proceed(session, Pace::Free)?;
        if let Some(pass) = walk.passed.take() {
            // Accesses halt the task, so all passes since the last halt follow the same number of them.
            let goals = match goal {
                Some(Mark::Execute(_)) => pass.goals - before,
                _ => passed,
            };
            last = Some((pass.addr, pass.count, goals));
        }
        passed = goal.map_or(0, |mark| session.interval.progress.counted(mark) - before);
        match halt {
            Err(way) => return Ok(Err(way)),
            Ok(Halt::Arrived) => break,
            Ok(_) if goal.is_some() && passed >= enough => break,
            Ok(_) => {}
        }
    }
    Ok(Ok(last))
}

/// The window at an address, in the program's own code.
fn window_at(session: &mut ReplaySession, tid: Tid, at: Addr) -> Option<Window> {
    let mut code = [0; WINDOW_MAX];
    let got = session.read_memory(tid, at, &mut code);
    Window::new(&code[..got], at)
}

/// Instructions to look for: the last ones executed, because they are the likeliest to be near the end.
/// If possible, only instructions that can be counted in the task itself: none is in the window of
/// another, or in the way of the goal, and no jump leads into a window.
fn candidates(session: &mut ReplaySession, event: &Event, visited: &[Addr], goal: Option<Addr>) -> Vec<Addr> {
    let tid = event.tid;
    let probed = probed(session, event);
    let point = probed
        .map(|window| window.start)
        .filter(|at| visited.contains(at));
    let mut all: Vec<Addr> = Vec::new();
    for addr in point.iter().chain(visited.iter().rev()) {
        if !all.contains(addr) {
            all.push(*addr);
        }
    }
    let leads_into = |window: AddrRange| {
        visited.windows(2).any(|pair| {
            let inside = AddrRange::new(window.start + 1, window.end);
            inside.contains(pair[1]) && !AddrRange::new(window.start, pair[1]).contains(pair[0])
        })
    };
    let range_of = |window: &Window, addr| AddrRange::sized(addr, window.len() as u64);
    let of_goal = goal.and_then(|addr| window_at(session, tid, addr).map(|w| range_of(&w, addr)));
    let mut chosen: Vec<AddrRange> = Vec::new();
    for addr in &all {
        if chosen.len() == CANDIDATES {
            break;
        }
        let Some(window) = window_at(session, tid, *addr) else {
            continue;
        };
        let range = range_of(&window, *addr);
        let is_apart = |other: &AddrRange| other.start >= range.end || other.end <= range.start;
        if !window.begins_with_repeat()
            && !window.shows_place()
            && window.leads_on()
            && session
                .space_of(tid)
                .is_some_and(|space| Stub::fits(&window, *addr, space))
            && probed.is_none_or(|probed| probed.start == *addr || is_apart(&probed))
            && of_goal.is_none_or(|goal| goal.start == *addr || is_apart(&goal))
            && goal.is_none_or(|goal| goal == *addr || !range.contains(goal))
            && chosen.iter().all(is_apart)
            && !leads_into(range)
        {
            chosen.push(range);
        }
    }
    match chosen.is_empty() {
        true => all.into_iter().take(CANDIDATES).collect(),
        false => chosen.into_iter().map(|range| range.start).collect(),
    }
}

impl ReplaySession {
    /// An event of the trace by its number.
    pub(crate) fn event(&self, number: EventNumber) -> Result<Option<Arc<rr_trace::event::Event>>> {
        Ok(self.events.cursor.source().get(number)?)
    }
}
