//! One replayed task, and how it runs to its next event.

use rr_trace::Header;
use rr_trace::event::EventNumber;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::task::{Resume, Waited, si_code};
use rr_tracee::{Error as TraceeError, ExtendedState, Memory, Registers, SpaceId, Stop, Stopped, Tid};

use crate::buffer;
use crate::error::{Divergence, Error, Result, register_divergence};

/// After the library's `syscall` instruction.
const PAST_CALL: u64 = rr_preload::layout::SYSCALL + 2;

/// A replayed task.
#[derive(Debug)]
pub(crate) struct Task {
    /// The recorded tid.
    pub tid: Tid,
    /// The recorded thread group.
    pub tgid: Tid,
    /// Its address space.
    pub space: SpaceId,
    /// The program that it executes.
    pub exe: String,
    /// It is inside a system call whose return is an event to come.
    pub in_syscall: bool,
    /// The real task; absent only while it is in the hands of other code.
    stopped: Option<Stopped>,
    /// Its real tid.
    pub real: Tid,
}

/// What a task is expected to run to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// The entry of a system call, with these registers.
    Entry(&'a Registers),
    /// An instruction that traps with this signal, in this state.
    Fault(i32, &'a Registers),
    /// Where the library asks that the change which a call of this number makes to the address space be carried out.
    Change(i64),
}

impl Task {
    pub fn new(tid: Tid, tgid: Tid, space: SpaceId, exe: String, stopped: Stopped) -> Task {
        Task {
            tid,
            tgid,
            space,
            exe,
            in_syscall: false,
            real: stopped.tid(),
            stopped: Some(stopped),
        }
    }

    /// Gives the real task away; it must be given back.
    pub fn take(&mut self) -> rr_tracee::Result<Stopped> {
        self.stopped.take().ok_or(TraceeError::Died(self.real))
    }

    /// Gets the real task back, or another one in its place.
    pub fn give(&mut self, stopped: Stopped) {
        self.real = stopped.tid();
        self.stopped = Some(stopped);
    }

    pub fn stopped(&mut self) -> rr_tracee::Result<&mut Stopped> {
        self.stopped.as_mut().ok_or(TraceeError::Died(self.real))
    }

    pub fn memory(&self) -> Memory {
        Memory::of(self.real)
    }

    /// Its general registers as an image has them.
    pub fn regs(&self) -> rr_tracee::Result<Registers> {
        let regs = self
            .stopped
            .as_ref()
            .ok_or(TraceeError::Died(self.real))?
            .regs()?;
        Ok(if self.in_syscall {
            regs
        } else {
            regs.outside_call()
        })
    }

    /// Its extended state.
    pub fn xstate(&self) -> rr_tracee::Result<ExtendedState> {
        self.stopped
            .as_ref()
            .ok_or(TraceeError::Died(self.real))?
            .xstate()
    }

    /// Runs the task from where it is to where it was when `event` was recorded, or to a place before, and compares (I7).
    pub fn run_to(&mut self, event: EventNumber, target: Target<'_>, header: &Header) -> Result<()> {
        let failed = |source| Error::Tracee { event, source };
        let diverged = |expected: String, seen: String| {
            Error::Divergence(Box::new(Divergence {
                event,
                tid: self.tid,
                expected,
                seen,
                registers: vec![],
            }))
        };
        let mut stopped = self.stopped.take().ok_or(failed(TraceeError::Died(self.real)))?;
        loop {
            let running = stopped.resume(Resume::Sysemu, None).map_err(failed)?;
            let (now, stop) = match running.wait().map_err(failed)? {
                Waited::Stopped(stopped, stop) => (stopped, stop),
                Waited::Gone(status) => {
                    return Err(diverged(
                        describe(target),
                        format!("the task died (wait status {status:#x})"),
                    ));
                }
            };
            let regs = now.regs().map_err(failed)?;
            let here = match target {
                Target::Entry(entry) => regs == *entry,
                Target::Change(number) => regs.rip == PAST_CALL && regs.syscall() == number,
                Target::Fault(..) => false,
            };
            if let (false, Some(after)) = (here, refusal(header, stop, &regs)) {
                stopped = now;
                stopped.set_regs(&after).map_err(failed)?;
                continue;
            }
            let outcome = match (stop, target) {
                (Stop::Syscall, _) if here => Ok(()),
                (Stop::Syscall, Target::Entry(entry)) => {
                    let name = rr_tracee::syscalls::name(entry.syscall());
                    Err(register_divergence(
                        event,
                        self.tid,
                        &format!("entry of {name}"),
                        entry,
                        &regs,
                    ))
                }
                (Stop::Signal(signal), Target::Fault(expected, at)) if signal == expected => {
                    let regs = regs.outside_call();
                    let same = regs == *at;
                    same.then_some(()).ok_or_else(|| {
                        register_divergence(event, self.tid, &format!("signal {signal}"), at, &regs)
                    })
                }
                (stop, _) if is_from_outside(&now, stop) => {
                    stopped = now;
                    continue;
                }
                (Stop::Syscall, _) => {
                    let name = rr_tracee::syscalls::name(regs.syscall());
                    Err(diverged(
                        describe(target),
                        format!("entry of {name} at {:#x}", regs.rip),
                    ))
                }
                (stop, _) => Err(match buffer::mismatch(&Memory::of(self.real), regs.rip) {
                    Some((expected, seen)) => diverged(expected, seen),
                    None => diverged(describe(target), format!("{stop:?} at {:#x}", regs.rip)),
                }),
            };
            self.stopped = Some(now);
            return outcome;
        }
    }
}

/// Whether a signal that somebody outside sends is why the task has stopped: it is not part of the recording. (A SIGCONT
/// stops it besides, ptrace(2).)
pub(crate) fn is_from_outside(stopped: &Stopped, stop: Stop) -> bool {
    match stop {
        Stop::Event => true,
        // A trap has the kernel's code; only what a process sent has none above zero.
        Stop::Signal(_) => stopped.siginfo().is_ok_and(|info| si_code(&info) <= 0),
        _ => false,
    }
}

/// If the task stands at the entry of a system call that a filter refused while this was recorded: the registers after it.
pub(crate) fn refusal(header: &Header, stop: Stop, entry: &Registers) -> Option<Registers> {
    if stop != Stop::Syscall {
        return None;
    }
    let errno = header.refused.get(&entry.syscall())?;
    Some(Registers {
        rax: -i64::from(*errno) as u64,
        orig_rax: NOT_IN_SYSCALL,
        ..*entry
    })
}

fn describe(target: Target<'_>) -> String {
    match target {
        Target::Entry(regs) => {
            format!(
                "entry of {} at {:#x}",
                rr_tracee::syscalls::name(regs.syscall()),
                regs.rip
            )
        }
        Target::Fault(signal, regs) => format!("signal {signal} at {:#x}", regs.rip),
        Target::Change(number) => format!("the buffered call {}", rr_tracee::syscalls::name(number)),
    }
}
