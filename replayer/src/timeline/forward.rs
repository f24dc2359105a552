//! Going forwards: the user's session runs to the next stop.

use std::sync::Arc;

use rr_trace::event::{Event, EventKind};
use rr_tracee::{Addr, Tid, tsc};

use super::paced::Paced;
use super::stops::is_step;
use super::{Action, Stop, Timeline};
use crate::affinity::Beside;
use crate::apply::apply_pending;
use crate::drive::proceed;
use crate::error::Result;
use crate::halt::{Halt, Pace};
use crate::interrupt::Interrupt;
use crate::position::Move;
use crate::session::ReplaySession;

/// Number of events between two questions to the user (each is a system call).
const ASKED_EVERY: u64 = 16;

impl Timeline {
    /// Runs to the next stop. Live checkpoints are left behind, so that going back is quick.
    pub fn resume(&mut self, action: Action, interrupt: &mut dyn Interrupt) -> Result<Stop> {
        // A waiting thread on another CPU costs more to wake than the stop itself.
        let _beside = Beside::cpu(self.cpu);
        let stop = self.go_on(action, interrupt);
        let remembered = self.remember_interrupt();
        stop.and_then(|stop| remembered.map(|()| stop))
    }

    fn go_on(&mut self, action: Action, interrupt: &mut dyn Interrupt) -> Result<Stop> {
        self.stops.arm(&mut self.session, self.process)?;
        let mut paced = Paced::new(interrupt);
        let steps = match action {
            Action::Continue => None,
            Action::Step(tid) | Action::StepRange(tid, _) => Some(tid),
        };
        loop {
            let Some(event) = self.session.next_event()? else {
                return Ok(match self.session.threads_of(self.process).is_empty() {
                    true => Stop::Exited { status: 0 },
                    false => Stop::HistoryEnd,
                });
            };
            if self.stops.until.is_some_and(|until| event.number > until) {
                return Ok(Stop::HistoryEnd);
            }
            let arrived = self.session.interval.has_arrived();
            if !arrived && event.number.0 % ASKED_EVERY == 0 {
                if paced.ask_user() {
                    return Ok(Stop::Interrupted);
                }
                if paced.is_due() {
                    self.leave_behind(&mut paced)?;
                }
            }
            let is_stepping = steps == Some(event.tid);
            let stop = match arrived {
                true => self.apply(&event, is_stepping)?,
                false => self.halt(&event, is_stepping, &mut paced)?,
            };
            match stop {
                Some(Stop::Stepped { tid }) if self.is_in_range(action, tid) => {}
                Some(stop) => return Ok(stop),
                None => {}
            }
        }
    }

    /// Returns whether the steps of a range continue.
    fn is_in_range(&mut self, action: Action, tid: Tid) -> bool {
        let Action::StepRange(_, range) = action else {
            return false;
        };
        let rip = self.session.registers(tid).map(|regs| Addr(regs.rip));
        rip.is_some_and(|rip| range.contains(rip) && !self.stops.holds(&mut self.session, tid, rip))
    }

    /// Lets the event's task continue inside its interval.
    fn halt(&mut self, event: &Event, step: bool, paced: &mut Paced<'_>) -> Result<Option<Stop>> {
        let pace = if step { Pace::Step } else { Pace::Free };
        let halt = proceed(&mut self.session, pace, paced)?;
        Ok(match halt {
            Halt::Arrived => self.stops.before(&self.session, self.process, event),
            Halt::Interrupted if paced.user_has_asked() => Some(Stop::Interrupted),
            Halt::Interrupted => {
                self.leave_behind(paced)?;
                None
            }
            Halt::Stepped => Some(Stop::Stepped { tid: event.tid }),
            halt => self
                .stops
                .at_halt(&mut self.session, self.process, event.tid, halt),
        })
    }

    /// Leaves a live checkpoint behind.
    fn leave_behind(&mut self, paced: &mut Paced<'_>) -> Result<()> {
        let began = tsc::now();
        self.kept.add(self.session.freeze()?);
        paced.next_after(tsc::now() - began);
        Ok(())
    }

    /// Keeps the place where an interrupt, by the user or the clock, has stopped the user's session,
    /// until it has a name.
    fn remember_interrupt(&mut self) -> Result<()> {
        if let Some(Move::Interrupted(number)) = self.session.position().path.0.last()
            && !self.names.knows(*number)
        {
            let live = self.session.freeze()?;
            self.names.add(*number, live);
        }
        Ok(())
    }

    fn apply(&mut self, event: &Arc<Event>, step: bool) -> Result<Option<Stop>> {
        let applied = apply(
            &mut self.session,
            &self.stops,
            self.process,
            event,
            &mut self.show,
        )?;
        Ok(applied.or((step && is_step(&event.kind)).then_some(Stop::Stepped { tid: event.tid })))
    }
}

/// Applies the event at which a session has arrived. Returns the stop, if the event stops the process.
pub(super) fn apply(
    session: &mut ReplaySession,
    stops: &super::Stops,
    process: Tid,
    event: &Event,
    show: &mut dyn FnMut(&ReplaySession, crate::Replayed),
) -> Result<Option<Stop>> {
    let own = session.process_of(event.tid) == Some(process);
    let watched = !session.watches().is_empty() && event.changes_memory();
    let before = if watched {
        session.watched_values()
    } else {
        Vec::new()
    };
    let number = match &event.kind {
        EventKind::Syscall {
            entry: Some(entry), ..
        } => Some(entry.syscall()),
        EventKind::Syscall { entry: None, .. } => session.system_call_of(event.tid),
        _ => None,
    };
    let was_alive = own && !session.threads_of(process).is_empty();
    let Some(replayed) = apply_pending(session)? else {
        return Ok(None);
    };
    show(session, replayed);
    if was_alive
        && let EventKind::Exit { status } = &event.kind
        && session.threads_of(process).is_empty()
    {
        return Ok(Some(Stop::Exited { status: *status }));
    }
    if watched && let Some((range, kind)) = stops.changed(session, &before) {
        let tid = match own {
            true => event.tid,
            false => session.threads_of(process).first().copied().unwrap_or(event.tid),
        };
        return Ok(Some(Stop::Watchpoint { tid, range, kind }));
    }
    Ok(own.then(|| stops.after(process, event, number)).flatten())
}
