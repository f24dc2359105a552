//! The current system call of a task.

use rr_tracee::syscalls::{self, Creation, Part, Spec};
use rr_tracee::{Addr, ExtendedState, Registers, Tid};

use crate::signal::actions::Action;
use crate::world::wait::Wait;

/// A current system call.
#[derive(Debug)]
pub struct Call {
    /// The call's table entry. `None` if the call is not in the table.
    pub spec: Option<&'static Spec>,
    /// Registers at the entry, with the program's own arguments.
    pub entry: Registers,
    /// The registers that describe the call: those at its entry, or for `restart_syscall` those at the
    /// entry of the call that is restarted.
    pub described_by: Registers,
    /// The memory that the call refers to.
    pub parts: Vec<Part>,
    /// Address in scratch memory of each part, if the parts were moved (I3).
    pub redirected: Option<Vec<Addr>>,
    /// Extended state at the entry, if a checkpoint may be taken while the call blocks.
    pub xstate: Option<ExtendedState>,
    /// The action that the call sets if it succeeds, for a signal that the kernel forces because of rr.
    pub action: Option<(i32, Action)>,
    /// The task that the call asks for, if it creates one.
    pub creation: Option<Creation>,
    /// The tid of the task that the call has created, once reported.
    pub created: Option<Tid>,
    /// True if the descriptor is a pipe or socket, and not our standard output or error.
    pub of_stream: bool,
    /// State of the call if it waits for children or tracees.
    pub wait: Option<Wait>,
    /// True if the call was interrupted by a stop that the task makes without rr, too: of its group, or for the program's
    /// own tracer. So the restart of the call is the program's.
    pub is_stopped: bool,
}

impl Call {
    /// Returns whether the kernel restarts this call by the call with these registers only because rr traces the task.
    /// (Under a tracer, even an ignored signal interrupts a call.)
    pub fn is_restarted_for_us(&self, entry: &Registers) -> bool {
        entry.syscall() == libc::SYS_restart_syscall && !self.is_stopped
    }

    /// A call of which nothing but its registers at the entry is known.
    pub fn new(entry: Registers) -> Call {
        Call {
            spec: syscalls::lookup(entry.syscall()),
            entry,
            described_by: entry,
            parts: Vec::new(),
            redirected: None,
            xstate: None,
            action: None,
            creation: None,
            created: None,
            of_stream: false,
            wait: None,
            is_stopped: false,
        }
    }
}
