//! Ways to run a task, and reasons why it has stopped.

use rr_tracee::Addr;

/// The way to run a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// Run until a stop must be handled.
    Free,
    /// Execute one instruction of the program.
    Step,
}

/// The reason why the task has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Halt {
    /// The task is at the place of the event, which is not applied yet.
    Arrived,
    /// The task has executed one instruction.
    Stepped,
    /// The task is about to execute an instruction with a breakpoint.
    Breakpoint(Addr),
    /// The task has executed an instruction that accessed watched places (bit n for watch n).
    Watchpoint(u8),
    /// The user has interrupted the task.
    Interrupted,
}
