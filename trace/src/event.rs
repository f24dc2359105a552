//! Events: the recorded steps of a run, and what replay does for each.
//!
//! An event stands at the end of an *interval*: the instructions that a task has executed since its previous event. The event
//! says what the task did there, and holds everything that entered the program there (I2). Replay does the same for each event,
//! whatever system call has caused it:
//!
//! 1. give the task the results of the interval's buffered calls ([`Event::buffered`]), run it to the place of the event, and
//!    compare its registers ([`EventKind::before`]; a few kinds run nothing);
//! 2. carry out the [`TaskOp`] (clone, exec);
//! 3. carry out the [`SpaceOp`]s: [`Event::ops`] in the task's address space (after an exec: in the new one), then
//!    [`Event::others`] in other spaces;
//! 4. store the [`MemWrite`]s and the [`ObjectWrite`]s;
//! 5. set the registers ([`EventKind::after`]), and the extended state if there is one;
//! 6. compare the bytes that the call has handed to the outside world ([`rr_preload::payload`]).
//!
//! Intervals happened one after the other (I1), in the order of the events that end them.

use std::fmt;
use std::sync::Arc;

pub use rr_preload::payload::Digest;
use rr_tracee::digest::ChunkDigest;
use rr_tracee::{Addr, ExtendedState, ObjectId, Registers, SpaceId, SpaceOp, Tid};

use crate::bytes::Bytes;

/// The number of an event: from 1, in trace order. 0 is "before the first event".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct EventNumber(pub u64);

impl EventNumber {
    /// The number after this one.
    pub fn next(self) -> EventNumber {
        EventNumber(self.0 + 1)
    }
}

impl fmt::Display for EventNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One recorded step of one task.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Its number.
    pub number: EventNumber,
    /// When it was recorded: nanoseconds since the recording began (`CLOCK_MONOTONIC`).
    pub time_ns: u64,
    /// The task that made the step.
    pub tid: Tid,
    /// The kind of event, with the state in which it left the task.
    pub kind: EventKind,
    /// The results of the interval's buffered system calls, in order: records of the library inside the task
    /// (`preload/src/layout.rs`).
    pub buffered: Bytes,
    /// Changes of the task's address space, in order.
    pub ops: Vec<SpaceOp>,
    /// Changes of other address spaces, after `ops`.
    pub others: Vec<(SpaceId, SpaceOp)>,
    /// Memory that the kernel wrote, in order.
    pub writes: Vec<MemWrite>,
    /// Bytes that came into shared memory objects at places that nobody has mapped shared.
    pub object_writes: Vec<ObjectWrite>,
}

impl Event {
    /// Says if the event changes memory beyond its registers and beyond the work of the interval.
    pub fn changes_memory(&self) -> bool {
        !self.ops.is_empty()
            || !self.others.is_empty()
            || !self.writes.is_empty()
            || !self.object_writes.is_empty()
    }

    /// The number of buffered calls in its interval.
    pub fn buffered_calls(&self) -> u64 {
        let mut count = 0;
        self.buffered.each_record(|_| count += 1);
        count
    }
}

/// Bytes that the kernel wrote into a tracee.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemWrite {
    /// Into which address space.
    pub space: SpaceId,
    /// From which address on.
    pub addr: Addr,
    /// The bytes.
    pub data: Vec<u8>,
}

/// Bytes that came into a shared memory object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectWrite {
    /// Into which object.
    pub object: ObjectId,
    /// From which of its bytes on.
    pub offset: u64,
    /// The bytes.
    pub data: Vec<u8>,
}

/// The kind of an event, and the state in which the event left the task.
#[derive(Clone, PartialEq, Debug)]
#[allow(clippy::large_enum_variant)] // nearly all events are the largest variant, `Syscall`
pub enum EventKind {
    /// The first event: the program's first process stands at its entry point.
    Start {
        /// The program that was executed.
        exec: ExecInfo,
        /// Registers at the entry point.
        after: Registers,
        /// Extended state at the entry point.
        xstate: ExtendedState,
    },
    /// The task ran to a system call and entered it, and other tasks went on before it returned.
    SyscallEnter {
        /// Registers at the entry (`orig_rax` is the number, `rax` is −ENOSYS).
        entry: Registers,
    },
    /// A system call returned: one entered before, if `entry` is `None`; else the task ran to it and it
    /// was entered and left with nothing between.
    Syscall {
        /// Registers at the entry.
        entry: Option<Registers>,
        /// Registers after it (`orig_rax` is −1).
        after: Registers,
        /// Extended state after it, when the call changed it (`rt_sigreturn`, `execve`).
        xstate: Option<ExtendedState>,
        /// A task was created or replaced its program.
        task: Option<TaskOp>,
        /// The call wrote to the recording's own standard output or error.
        output: Option<Output>,
        /// Digest of what it has handed to the outside world, as memory has it after the event.
        payload: Option<Digest>,
    },
    /// A call interrupted by a signal goes back to its `syscall` instruction (nothing is run in replay).
    Restart {
        /// Registers to restart with.
        after: Registers,
    },
    /// Another task, which traces this one (ptrace(2)), has set its registers while it stood still (nothing is run in replay).
    SetRegisters {
        /// The registers that it has now: those at the entry of a system call if it is in one.
        after: Registers,
        /// Its extended state now, if that was set.
        xstate: Option<ExtendedState>,
    },
    /// The task ran to an instruction that reads the outside world (`rdtsc`), which was carried out for it. Or the instruction
    /// faulted on a page that the program itself provides (`userfaultfd(2)`), and will be executed again: see
    /// [`EventKind::is_page_fault`].
    Trap {
        /// Registers at the instruction.
        at: Registers,
        /// Registers after it.
        after: Registers,
    },
    /// A signal was delivered.
    Signal {
        /// Its number.
        signo: i32,
        /// `siginfo_t`, 128 bytes.
        info: Vec<u8>,
        /// The place where it hit the task.
        place: SignalPlace,
        /// The effect of the signal.
        disposition: Disposition,
        /// Registers after it (at the handler's first instruction if there is one).
        after: Registers,
        /// Extended state after it, when a handler begins.
        xstate: Option<ExtendedState>,
    },
    /// The interval was ended where no event came: at an execution point. The task ran to this very state.
    Point {
        /// Registers there (`orig_rax` is −1).
        at: Registers,
        /// The rest of the state.
        point: Box<Point>,
    },
    /// The task is gone. Nothing is run in replay: an interval cut short by death has no effect that lasts.
    Exit {
        /// Status as `wait(2)` gives it.
        status: i32,
    },
}

impl EventKind {
    /// The registers that the task has when it arrives at the event: what replay compares (I7).
    pub fn before(&self) -> Option<&Registers> {
        match self {
            EventKind::SyscallEnter { entry } => Some(entry),
            EventKind::Syscall { entry, .. } => entry.as_ref(),
            EventKind::Trap { at, .. } | EventKind::Point { at, .. } => Some(at),
            EventKind::Signal {
                place: SignalPlace::Fault(regs) | SignalPlace::Entry(regs),
                ..
            } => Some(regs),
            EventKind::Signal {
                place: SignalPlace::Here,
                ..
            }
            | EventKind::Start { .. }
            | EventKind::Restart { .. }
            | EventKind::SetRegisters { .. }
            | EventKind::Exit { .. } => None,
        }
    }

    /// The extended state in it.
    pub fn extended_state_mut(&mut self) -> Option<&mut ExtendedState> {
        match self {
            EventKind::Start { xstate, .. } => Some(xstate),
            EventKind::Syscall { xstate, .. }
            | EventKind::SetRegisters { xstate, .. }
            | EventKind::Signal { xstate, .. } => xstate.as_mut(),
            EventKind::Point { point, .. } => Some(&mut point.xstate),
            EventKind::SyscallEnter { .. }
            | EventKind::Restart { .. }
            | EventKind::Trap { .. }
            | EventKind::Exit { .. } => None,
        }
    }

    /// Says if the task stands at the instruction that ended the interval, because the instruction's page is missing or may not be
    /// written.
    pub fn is_page_fault(&self) -> bool {
        matches!(self, EventKind::Trap { at, after } if at.rip == after.rip)
    }

    /// The registers that the event leaves the task with, if it sets them.
    pub fn after(&self) -> Option<&Registers> {
        match self {
            EventKind::Start { after, .. }
            | EventKind::Syscall { after, .. }
            | EventKind::Restart { after }
            | EventKind::SetRegisters { after, .. }
            | EventKind::Trap { after, .. }
            | EventKind::Signal { after, .. } => Some(after),
            EventKind::SyscallEnter { .. } | EventKind::Point { .. } | EventKind::Exit { .. } => None,
        }
    }
}

/// An execution point beside its registers: a moment of a deterministic interval, named by its state. If two moments
/// have all of it equal, the continuation from both is the same; so landing on either is right.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    /// Extended state.
    pub xstate: ExtendedState,
    /// Words of memory that change often near the point, and what they held.
    pub discriminators: Vec<(Addr, u64)>,
    /// Digest of the memory that the task could have written.
    pub digests: Vec<ChunkDigest>,
    /// About how much processor time the task had in the interval, in microseconds; 0 if that is not known. It is no part of the
    /// name.
    pub ran_us: u32,
}

/// The place where a signal hit a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SignalPlace {
    /// The task ran to an instruction that faulted, in this state.
    Fault(Registers),
    /// The task ran to its next system call instruction; the call is not entered yet. State as at the
    /// entry stop.
    Entry(Registers),
    /// The place of the task after its previous event.
    Here,
}

/// The effect of a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// Nothing.
    Ignored,
    /// A handler was called; its frame is among the event's writes.
    Handler,
    /// It kills the thread group; `Exit` events follow.
    Fatal,
    /// It stopped the thread group (job control).
    Stopped,
}

/// A change in the set of tasks.
#[derive(Clone, PartialEq, Debug)]
pub enum TaskOp {
    /// A new task was created.
    Clone(CloneInfo),
    /// The task executes another program.
    Exec(ExecInfo),
}

/// A new task.
#[derive(Clone, PartialEq, Debug)]
pub struct CloneInfo {
    /// Its tid.
    pub child: Tid,
    /// Its thread group.
    pub tgid: Tid,
    /// Its address space: the parent's, or a new one that is a copy of it.
    pub space: SpaceId,
    /// `CLONE_*` flags of the call (`fork` and `vfork` as their equivalents).
    pub flags: u64,
    /// Its first registers.
    pub regs: Registers,
}

/// A program that was executed. The event's ops build its address space from nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExecInfo {
    /// The program's file as the kernel names it.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The new address space.
    pub space: SpaceId,
    /// The task takes over this tid (that of the thread group's leader); other tasks of the group are gone.
    pub tid: Tid,
}

/// One of the recording's own streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stdio {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Bytes that a call wrote to standard output or error; replay shows them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// To which stream.
    pub stream: Stdio,
    /// The bytes.
    pub source: OutputSource,
}

/// The place of the bytes of an [`Output`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OutputSource {
    /// In the task's memory (address, length), in this order.
    Memory(Vec<(Addr, u64)>),
    /// They never were in memory (`sendfile`, `splice`): here.
    Bytes(Arc<[u8]>),
}
