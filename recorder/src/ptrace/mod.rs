//! ptrace(2) between recorded tasks, emulated.
//!
//! A task can have one tracer, and that is the recorder. So what a recorded task (the *tracer*) asks of another one (the *tracee*), the
//! recorder does for it. The tracer's requests are events like any answered call. What they change is recorded where it changes: memory
//! as writes, registers as [`SetRegisters`](rr_trace::event::EventKind::SetRegisters) of the tracee. So replay knows nothing of tracers.
//!
//! Keeps: *a tracee stops for its tracer only at an event of its own* ([`Tracee::phase`]), or right after one: there its registers are
//! the program's, and what the tracer changes has a place in the order of intervals. Where it has executed something since its last
//! event (a fault, a signal at a system call), the stop is that event. A tracee that is stopped for its tracer does not go on
//! ([`Task::is_runnable`](crate::task::Task::is_runnable)); to the kernel it is in one of the recorder's stops.
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
//! | `request` | the call: who may ask whom for what |
//! | `relation` | attaching, detaching, and the end of either |
//! | `memory` | words of the tracee's memory |
//! | `registers` | its registers |
//! | `stops` | stopping for the tracer, and telling it |
//! | `resume` | going on, with a signal or without |
//! | `calls` | stops at the entry and the exit of system calls |
//! | `steps` | single steps |
//! | `watches` | debug registers |
//! | `family` | tasks that are born, execute a program or end while they are traced |
//! | `wait` | wait4(2) and waitid(2) of tracers |
//! | `info` | what is made up: siginfo |

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

use crate::task::Call;
use steps::Step;

/// A task that another one traces.
#[derive(Debug)]
pub struct Tracee {
    /// The task that attached to it: it alone may make requests.
    pub tracer: Tid,
    /// By `PTRACE_SEIZE`: it stops otherwise, and can be interrupted.
    pub is_seized: bool,
    /// It is a child of the tracer's process: the kernel reports its end there.
    pub is_child: bool,
    /// `PTRACE_O_*`.
    pub options: u64,
    /// What `PTRACE_GETEVENTMSG` says.
    pub message: u64,
    /// Stops that it is to make, in this order, before it executes another instruction.
    pub due: VecDeque<Cause>,
    /// Whether it is stopped for its tracer.
    pub phase: Phase,
    /// How far it goes when it is let go on.
    pub pace: Pace,
    /// A step of one instruction.
    pub step: Step,
    /// The call that it enters is not made.
    skips_call: bool,
    /// The number of its last call.
    pub last_call: u64,
    /// Its tracer has seen the entry of the call that it is in.
    pub is_entry_seen: bool,
    /// Its tracer has seen that it is about to end.
    pub is_end_seen: bool,
    /// The signal that the tracer lets through: it does not stop for that again.
    pub passed: Option<i32>,
    /// A call that the kernel would have restarted, but for the registers that the tracer has set; it may set them back.
    pub put_off: Option<Box<Call>>,
    /// The call that the one at whose entry it is stopped restarts (`restart_syscall`).
    restarted: Option<Box<Call>>,
}

/// Whether a tracee is stopped for its tracer.
#[derive(Debug)]
pub enum Phase {
    /// It goes on.
    Running,
    /// It is stopped.
    Stopped(TracerStop),
    /// It stays stopped with its group, but its tracer may ask it for nothing (`PTRACE_LISTEN`).
    Listening,
}

/// How far a tracee goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// To a signal or an event.
    Freely,
    /// To the next entry or exit of a system call.
    ToCall,
    /// To the next entry of a system call, which is not made (`PTRACE_SYSEMU`).
    ToEmulatedCall,
    /// One instruction.
    Step,
}

/// Why a tracee is to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// `PTRACE_ATTACH`: it stops as if a `SIGSTOP` were to be delivered.
    Attached,
    /// `PTRACE_INTERRUPT`.
    Interrupted,
    /// It is new, and traced because its creator is.
    Born,
    /// One of `PTRACE_EVENT_*`, with its message.
    Event(i32, u64),
    /// It has executed a program, and its tracer has not asked for an event: as if a `SIGTRAP` were to be delivered.
    Executed,
    /// A system call has returned.
    CallExit,
    /// An instruction has been executed that is an event of its own.
    Stepped,
}

/// A stop as the tracer sees it.
#[derive(Clone, Debug)]
pub struct TracerStop {
    /// Which kind.
    pub kind: StopKind,
    /// The upper bytes of the wait status: a signal, and perhaps an event.
    pub code: i32,
    /// What `PTRACE_GETSIGINFO` says.
    pub info: SigInfo,
    /// The tracer has waited for it.
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

/// What is known of tracers beside their tracees.
#[derive(Debug, Default)]
pub(crate) struct Tracers {
    /// Tracees that are gone, for whom their tracer has not waited yet.
    dead: Vec<Dead>,
    /// Tasks that are to wait for tracees without the kernel: it knows of no child that they could wait for.
    paused: std::collections::HashSet<Tid>,
}

/// A tracee that is gone.
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

    /// Whether its tracer wants to know of an event (`PTRACE_EVENT_*`).
    fn wants(&self, event: i32) -> bool {
        self.options & 1 << event != 0
    }

    /// Whether its tracer suspends its filters (`PTRACE_O_SUSPEND_SECCOMP`).
    pub fn has_no_filters(&self) -> bool {
        self.options & libc::PTRACE_O_SUSPEND_SECCOMP as u64 != 0
    }

    /// Whether it is stopped for its tracer.
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
