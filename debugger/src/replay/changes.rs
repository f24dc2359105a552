//! The throw-away copy that the user's changes live in.
//!
//! gdb calls a function by writing registers and memory, letting the thread run to a breakpoint, and writing the
//! registers back. So the copy begins with the first write. It is what goes on as long as the registers are not those of
//! the replay; when the user goes on with registers as they were, they mean the replay, and the copy ends.

use std::collections::BTreeMap;
use std::io::Write;

use rr_replayer::ReplaySession;
use rr_replayer::diversion::{Diversion, Diverted};
use rr_tracee::{Addr, Registers, Tid};

use super::{Asked, ReplayTarget, failed};
use crate::target::{Action, Direction, Interrupt, RegisterFile, Stop, Target, TargetError};

/// The copy.
#[derive(Debug)]
pub(super) struct Changes {
    diversion: Diversion,
    /// The registers of the replay, of the threads whose registers were changed.
    original: BTreeMap<Tid, Registers>,
}

impl Changes {
    pub fn session(&mut self) -> &mut ReplaySession {
        self.diversion.session()
    }

    pub fn set_registers(&mut self, tid: Tid, registers: &RegisterFile) -> Result<(), TargetError> {
        let now = self.session().registers(tid).ok_or(TargetError::NoThread(tid))?;
        self.original.entry(tid).or_insert(now);
        self.diversion
            .set_registers(tid, &registers.general, &registers.extended)
            .map_err(failed)
    }

    pub fn write_memory(&mut self, tid: Tid, addr: Addr, bytes: &[u8]) -> Result<(), TargetError> {
        let written = self.diversion.write_memory(tid, addr, bytes);
        written.map_err(|_| TargetError::Refused(format!("no memory that can be written at {addr}")))
    }

    /// Says if all registers are as in the replay.
    fn is_as_replayed(&mut self) -> bool {
        let original: Vec<_> = self.original.iter().map(|(tid, regs)| (*tid, *regs)).collect();
        original.into_iter().all(|(tid, regs)| {
            let now = self.session().registers(tid);
            now.is_some_and(|now| now.outside_call() == regs.outside_call())
        })
    }
}

impl ReplayTarget {
    /// Makes sure that there is a copy.
    pub(super) fn begin_changes(&mut self, tid: Tid) -> Result<(), TargetError> {
        if self.changes.get_mut().is_some() {
            return Ok(());
        }
        let copy = self.timeline.get_mut().diversion().map_err(failed)?;
        let diversion = Diversion::new(copy, tid).map_err(failed)?;
        self.changes.replace(Some(Changes {
            diversion,
            original: BTreeMap::new(),
        }));
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
