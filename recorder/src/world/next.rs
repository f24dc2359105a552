//! `Next`: the way in which a task goes on after its stop. The handler of the stop returns it.
//!
//! A handler changes the model. It neither waits for the task nor sets the task's state: the drive does,
//! in one place, so no handler can leave a stopped task that nobody resumes.

use rr_trace::event::{MemWrite, Output, TaskOp};
use rr_tracee::{ExtendedState, Registers, Running, SpaceOp, Stop, Stopped};

/// The way in which a task goes on after its stop.
#[derive(Debug)]
#[must_use]
pub(crate) enum Next {
    /// The task can continue.
    Ready(Stopped),
    /// The task's call is over: this is recorded, and then the task can continue.
    Record(Stopped, Box<Record>),
    /// This stop is handled when the task's tracer or the scheduler lets the task go on.
    Stop(Stopped, Stop),
    /// The task was resumed, and the drive waits for it.
    Wait(Running, Until),
    /// The task stays in the kernel, in a group stop or because it dies, until it reports.
    InKernel(Running),
    /// The task is gone, or its state is that of a report which came while the stop was handled.
    Reported,
}

/// The next news of a task that a handler has resumed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Until {
    /// Its next stop: it executes user code, or a call that cannot block.
    Stop,
    /// Its next stop, or the wait in its call: others may run then.
    Wait,
    /// Others run at once, because they must do something before the task stops.
    OthersHaveRun,
}

/// A system call that is over, as its event records it.
#[derive(Debug)]
pub(crate) struct Record {
    /// The registers at the entry.
    pub entry: Registers,
    /// The registers after the call.
    pub after: Registers,
    /// Extended state, if the call has changed it.
    pub xstate: Option<ExtendedState>,
    /// The change in the set of tasks.
    pub task: Option<TaskOp>,
    /// The changes of the address space.
    pub ops: Vec<SpaceOp>,
    /// The memory that was written.
    pub writes: Vec<MemWrite>,
    /// The bytes that the call has written to our own standard output or error.
    pub output: Option<Output>,
}

impl Record {
    /// A call that only returns.
    pub fn of(entry: &Registers, after: Registers) -> Record {
        Record {
            entry: *entry,
            after,
            xstate: None,
            task: None,
            ops: Vec::new(),
            writes: Vec::new(),
            output: None,
        }
    }

    /// The task that has made the call is stopped behind it, and nothing else is to be done.
    pub fn then_ready(self, stopped: Stopped) -> Next {
        Next::Record(stopped, Box::new(self))
    }
}
