//! The way into the throw-away copy, on in it, and out of it (`changes`).
//!
//! Keeps: the replay itself is where it was, whatever happens in the copy.

use std::io::Write;

use rr_replayer::diversion::Diverted;
use rr_tracee::{Addr, Tid};

use super::ReplayTarget;
use super::asked::Asked;
use super::changes::Changes;
use super::failed::failed;
use crate::target::{Action, Direction, Interrupt, Stop, Target, TargetError};

impl ReplayTarget {
    /// Makes sure that there is a copy.
    pub(super) fn begin_changes(&mut self, tid: Tid) -> Result<(), TargetError> {
        if self.changes.get_mut().is_some() {
            return Ok(());
        }
        let copy = self.timeline.get_mut().diversion().map_err(failed)?;
        self.changes.replace(Some(Changes::new(copy, tid)?));
        Ok(())
    }

    /// Lets the copy go on, if that is what the user means; else it ends.
    pub(super) fn resume_changes(
        &mut self,
        action: Action,
        direction: Direction,
        interrupt: &mut dyn Interrupt,
    ) -> Result<Option<Stop>, TargetError> {
        let current = self.current.unwrap_or(self.process());
        let breakpoints = self.points.breakpoints().collect();
        let Some(changes) = self.changes.get_mut() else {
            return Ok(None);
        };
        if changes.is_as_replayed() {
            self.changes.replace(None);
            return Ok(None);
        }
        if direction == Direction::Backward {
            // There is no way back in a copy.
            return Ok(Some(Stop::Stepped { tid: current }));
        }
        let (tid, step) = match action {
            Action::Continue => (current, false),
            Action::Step(tid) | Action::StepRange(tid, _) => (tid, true),
        };
        changes.diversion.set_breakpoints(breakpoints);
        let mut asked = Asked::new(interrupt);
        let stop = loop {
            let diverted = changes.diversion.run(tid, step, &mut asked).map_err(failed)?;
            if let (Diverted::Stepped, Action::StepRange(_, range)) = (diverted, action)
                && let Some(regs) = changes.session().registers(tid)
                && range.contains(Addr(regs.rip))
            {
                continue;
            }
            break diverted;
        };
        let output = changes.diversion.take_output();
        // Output of the called function is for the user's eyes.
        let _ = std::io::stdout()
            .write_all(&output)
            .and_then(|()| std::io::stdout().flush());
        self.current = Some(tid);
        Ok(Some(match stop {
            Diverted::Breakpoint(addr) => Stop::Breakpoint {
                tid,
                addr,
                hardware: false,
            },
            Diverted::Stepped => Stop::Stepped { tid },
            Diverted::Signal(signo) => Stop::Signal { tid, signo },
            Diverted::Interrupted => Stop::Interrupted { tid },
            Diverted::Exited(_) => {
                // The copy is gone; the replay is where it was.
                self.changes.replace(None);
                Stop::Signal {
                    tid,
                    signo: libc::SIGKILL,
                }
            }
        }))
    }
}
