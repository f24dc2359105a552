//! ptrace(2) between recorded tasks, emulated.
//!
//! A task can have only one tracer, which is the recorder. So if a recorded task (the *tracer*) makes
//! requests about another one (the *tracee*), the recorder carries them out. The tracer's requests are
//! events like any answered call. Their changes are recorded where they happen: memory as writes,
//! registers as [`SetRegisters`](rr_trace::event::EventKind::SetRegisters) of the tracee. So replay
//! knows nothing of tracers.
//!
//! Invariant: *a tracee stops for its tracer only at an event of its own* ([`Tracee::phase`]), or right
//! after one. There its registers are the program's, and the tracer's changes have a place in the order
//! of intervals. If the tracee has executed something since its last event (a fault, a signal at a
//! system call), the stop is that event. A tracee that is stopped for its tracer does not continue
//! ([`Task::is_runnable`](crate::world::task::Task::is_runnable)). For the kernel it is in one of the
//! recorder's stops.
//!
//! ```text
//!            PTRACE_ATTACH                             signal, asked for
//!  untraced ───────────────► Running ◄──────────────────────────────────────► Stopped ───► wait4(2) of the tracer
//!       ▲                      │  ▲                   PTRACE_CONT                │
//!       │                      │  └───────────────────────────────────────────── ┤
//!       └──────────────────────┴──── PTRACE_DETACH, the tracer dies ◄────────────┘
//! ```
//!
//! | module | concept |
//! |---|---|
//! | `request` | the call: permissions and dispatch |
//! | `relation` | attaching, detaching, and the end of either |
//! | `memory` | words of the tracee's memory |
//! | `registers` | the tracee's registers |
//! | `stops` | stopping for the tracer, and telling it |
//! | `resume` | continuing, with a signal or without |
//! | `calls` | stops at the entry and the exit of system calls |
//! | `steps` | single steps |
//! | `watches` | debug registers |
//! | `family` | traced tasks that create tasks, execute a program or end |
//! | `wait` | wait4(2) and waitid(2) of tracers |
//! | `info` | siginfo made by the recorder |

mod calls;
mod family;
mod info;
mod memory;
mod registers;
mod relation;
mod request;
mod resume;
mod steps;
mod stops;
mod wait;
mod watches;

pub use wait::Wait;
pub(crate) use watches::TRAP_HWBKPT;

use std::collections::VecDeque;

use rr_tracee::Tid;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::task::SigInfo;

use crate::world::task::Call;
use steps::Step;

/// A task that another one traces.
#[derive(Debug)]
pub struct Tracee {
    /// The task that attached to the tracee: only that task may make requests.
    pub tracer: Tid,
    /// True after `PTRACE_SEIZE`: the tracee stops differently, and can be interrupted.
    pub is_seized: bool,
    /// True if the tracee is a child of the tracer's process: the kernel reports its end there.
    pub is_child: bool,
    /// `PTRACE_O_*`.
    pub options: u64,
    /// The value that `PTRACE_GETEVENTMSG` returns.
    pub message: u64,
    /// The stops that the tracee must make, in this order, before it executes another instruction.
    pub due: VecDeque<Cause>,
    /// Says if the tracee is stopped for its tracer.
    pub phase: Phase,
    /// The next place where it stops when it is resumed.
    pub pace: Pace,
    /// State of a single step.
    pub step: Step,
    /// True if the call that it enters is not made.
    skips_call: bool,
    /// The number of its last call.
    pub last_call: u64,
    /// True if the tracer has seen the entry of the current call.
    pub is_entry_seen: bool,
    /// True if the tracer has seen that the tracee is about to end.
    pub is_end_seen: bool,
    /// The signal that the tracer lets through: the tracee does not stop for it again.
    pub passed: Option<i32>,
    /// A call that the kernel would have restarted if the tracer had not set registers. The tracer may
    /// set them back.
    pub put_off: Option<Box<Call>>,
    /// The call that is restarted by the call at whose entry the tracee is stopped (`restart_syscall`).
    restarted: Option<Box<Call>>,
}

/// Says if a tracee is stopped for its tracer.
#[derive(Debug)]
pub enum Phase {
    /// The tracee continues.
    Running,
    /// The tracee is stopped.
    Stopped(TracerStop),
    /// The tracee stays stopped with its group, but its tracer may make no requests (`PTRACE_LISTEN`).
    Listening,
}

/// The next place where a resumed tracee stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// A signal or an event.
    Freely,
    /// The next entry or exit of a system call.
    ToCall,
    /// The next entry of a system call, which is not made (`PTRACE_SYSEMU`).
    ToEmulatedCall,
    /// The next instruction.
    Step,
}

/// The reason why a tracee must stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// `PTRACE_ATTACH`: the tracee stops as if a `SIGSTOP` were to be delivered.
    Attached,
    /// `PTRACE_INTERRUPT`.
    Interrupted,
    /// The task is new, and traced because its creator is.
    Born,
    /// One of `PTRACE_EVENT_*`, with its message.
    Event(i32, u64),
    /// The tracee has executed a program, and its tracer has not asked for an event: it stops as if a
    /// `SIGTRAP` were to be delivered.
    Executed,
    /// A system call has returned.
    CallExit,
    /// An instruction that is an event of its own has been executed.
    Stepped,
}

/// A stop as the tracer sees it.
#[derive(Clone, Debug)]
pub struct TracerStop {
    /// Kind of the stop.
    pub kind: StopKind,
    /// The upper bytes of the wait status: a signal, and perhaps an event.
    pub code: i32,
    /// The value that `PTRACE_GETSIGINFO` returns.
    pub info: SigInfo,
    /// True if the tracer has waited for the stop.
    pub is_reported: bool,
}

/// The kinds of stops (ptrace(2), "Stopped states").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopKind {
    /// A signal is about to be delivered.
    Signal,
    /// An event, such as the answer to `PTRACE_INTERRUPT`.
    Event,
    /// Its group is stopped (job control).
    Group,
    /// The entry of a system call.
    CallEntry,
    /// The exit of a system call.
    CallExit,
}

/// State of tracers beside their tracees.
#[derive(Debug, Default)]
pub(crate) struct Tracers {
    /// Dead tracees that their tracers have not waited for yet.
    dead: Vec<Dead>,
    /// Tasks that must wait for tracees without the kernel, which knows no child that they could wait
    /// for.
    paused: std::collections::HashSet<Tid>,
}

/// A dead tracee.
#[derive(Clone, Copy, Debug)]
struct Dead {
    tracer: Tid,
    tid: Tid,
    tgid: Tid,
    status: i32,
}

impl Tracee {
    fn new(tracer: Tid, is_seized: bool, is_child: bool, options: u64) -> Tracee {
        Tracee {
            tracer,
            is_seized,
            is_child,
            options,
            message: 0,
            due: VecDeque::new(),
            phase: Phase::Running,
            pace: Pace::Freely,
            step: Step::No,
            skips_call: false,
            last_call: NOT_IN_SYSCALL,
            is_entry_seen: false,
            is_end_seen: false,
            passed: None,
            put_off: None,
            restarted: None,
        }
    }

    /// Returns whether the tracer wants an event (`PTRACE_EVENT_*`).
    fn wants(&self, event: i32) -> bool {
        self.options & 1 << event != 0
    }

    /// Returns whether the tracer suspends the tracee's filters (`PTRACE_O_SUSPEND_SECCOMP`).
    pub fn has_no_filters(&self) -> bool {
        self.options & libc::PTRACE_O_SUSPEND_SECCOMP as u64 != 0
    }

    /// Returns whether the tracee is stopped for its tracer.
    pub fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped(_))
    }

    fn stop(&self) -> Option<&TracerStop> {
        match &self.phase {
            Phase::Stopped(stop) => Some(stop),
            Phase::Running | Phase::Listening => None,
        }
    }
}
