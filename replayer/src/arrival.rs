//! The end of an event's interval: the recorded state to which its task must run (I7).

use std::fmt;

use rr_trace::event::{EventKind, SignalPlace};
use rr_tracee::{Registers, syscalls};

/// The state to which a task must run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// The entry of a system call, with these registers.
    Entry(&'a Registers),
    /// An instruction that traps with this signal, in this state.
    Fault(i32, &'a Registers),
    /// An execution point, with these registers and a digest.
    Point(&'a Registers),
    /// The library's request to make a change of the address space, for a call of this number.
    Change(i64),
}

impl Target<'_> {
    /// The target of an event; `None` if nothing is executed before it.
    pub fn of(kind: &EventKind) -> Option<Target<'_>> {
        match kind {
            EventKind::SyscallEnter { entry } => Some(Target::Entry(entry)),
            EventKind::Syscall { entry, .. } => entry.as_ref().map(Target::Entry),
            EventKind::Trap { at, .. } => Some(Target::Fault(libc::SIGSEGV, at)),
            EventKind::Signal { signo, place, .. } => match place {
                SignalPlace::Here => None,
                SignalPlace::Fault(at) => Some(Target::Fault(*signo, at)),
                SignalPlace::Entry(at) => Some(Target::Entry(at)),
            },
            EventKind::Point { at, .. } => Some(Target::Point(at)),
            EventKind::Start { .. }
            | EventKind::Restart { .. }
            | EventKind::SetRegisters { .. }
            | EventKind::Exit { .. } => None,
        }
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Entry(regs) => {
                write!(
                    f,
                    "entry of {} at {:#x}",
                    syscalls::name(regs.syscall()),
                    regs.rip
                )
            }
            Target::Fault(signal, regs) => write!(f, "signal {signal} at {:#x}", regs.rip),
            Target::Point(regs) => write!(f, "execution point at {:#x}", regs.rip),
            Target::Change(number) => write!(f, "the buffered call {}", syscalls::name(*number)),
        }
    }
}
