//! How a task is to go on, and why it has stopped.

use rr_tracee::Addr;

/// How the task goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// Until something is to be looked at.
    Free,
    /// One instruction of the program.
    Step,
}

/// Why the task has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Halt {
    /// It is where the event happened; the event is not applied yet.
    Arrived,
    /// It has executed one instruction.
    Stepped,
    /// It is about to execute an instruction with a breakpoint.
    Breakpoint(Addr),
    /// It has executed an instruction that accessed watched places (bit n for watch n).
    Watchpoint(u8),
    /// The user wants it to stop.
    Interrupted,
}
