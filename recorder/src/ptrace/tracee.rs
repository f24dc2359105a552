//! The state of tracees and tracers.

use std::collections::VecDeque;

use rr_tracee::Tid;
use rr_tracee::pid_namespace::{Vpid, number_for};
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::task::SigInfo;

use crate::world::call::Call;

/// The event of a call that a filter leaves to the tracer, in the form of a wait status.
pub(crate) const EVENT_SECCOMP: i32 = libc::SIGTRAP | libc::PTRACE_EVENT_SECCOMP << 8;
/// The code of a `SIGTRAP` that a debug register causes (sigaction(2)).
pub(crate) const TRAP_HWBKPT: i32 = 4;

/// A task that another one traces.
#[derive(Debug)]
pub struct Tracee {
    /// The task that attached to the tracee: only that task may make requests.
    pub tracer: Tid,
    /// How the tracer knows the tracee.
    pub to_tracer: ToTracer,
    /// True after `PTRACE_SEIZE`: the tracee stops differently, and can be interrupted.
    pub is_seized: bool,
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
    /// What the tracer has seen of the tracee's call, or of its end.
    pub seen: Seen,
    pub last_call: LastCall,
    /// The signal that the tracer lets through: the tracee does not stop for it again.
    pub passed: Option<i32>,
}

/// The tracee from its tracer's side.
#[derive(Clone, Copy, Debug)]
pub struct ToTracer {
    /// The tracee's number for its tracer.
    pub number: Vpid,
    /// True if the tracee is a child of the tracer's process: the kernel reports its end there.
    pub is_child: bool,
}

/// What the tracer has seen of the tracee's call, or of its end.
#[derive(Debug)]
pub enum Seen {
    /// Nothing.
    Nothing,
    /// The entry of the current call.
    Entry {
        /// True if the call is not made (`PTRACE_SYSEMU`).
        is_skipped: bool,
        /// The call that is restarted by this one (`restart_syscall`).
        restarted: Option<Box<Call>>,
    },
    /// The tracee is about to end.
    End,
}

/// The last call of a tracee.
#[derive(Debug)]
pub struct LastCall {
    /// Its number.
    pub number: u64,
    /// The call itself, if the kernel would have restarted it had the tracer not set registers. The tracer
    /// may set them back.
    pub held_restart: Option<Box<Call>>,
}

impl Tracee {
    /// Code of a stop at a call.
    pub(super) fn call_code(&self) -> i32 {
        if self.options & libc::PTRACE_O_TRACESYSGOOD as u64 != 0 {
            libc::SIGTRAP | 0x80
        } else {
            libc::SIGTRAP
        }
    }

    /// Returns whether the tracer wants to see each call.
    pub fn shows_calls(&self) -> bool {
        self.pace.shows_entries()
    }
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
    /// The next instruction. If the instruction is a system call, its entry, and the call is not made
    /// (`PTRACE_SYSEMU_SINGLESTEP`).
    StepOrEmulatedCall,
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
    pub(crate) dead: Vec<Dead>,
    /// Tasks that must wait for tracees without the kernel, which knows no child that they could wait
    /// for.
    pub(crate) paused: std::collections::HashSet<Tid>,
}

/// A dead tracee.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dead {
    pub(crate) tracer: Tid,
    pub(crate) tid: Tid,
    pub(crate) tgid: Tid,
    /// Its number for its tracer.
    pub(crate) number: Vpid,
    pub(crate) status: i32,
}

impl Tracee {
    /// The task `tid` becomes a tracee.
    pub(crate) fn new(tid: Tid, tracer: Tid, is_seized: bool, is_child: bool, options: u64) -> Tracee {
        Tracee {
            tracer,
            to_tracer: ToTracer {
                number: number_for(tracer, tid),
                is_child,
            },
            is_seized,
            options,
            message: 0,
            due: VecDeque::new(),
            phase: Phase::Running,
            pace: Pace::Freely,
            step: Step::No,
            seen: Seen::Nothing,
            last_call: LastCall {
                number: NOT_IN_SYSCALL,
                held_restart: None,
            },
            passed: None,
        }
    }

    /// Returns whether the tracer has seen the entry of the current call.
    pub fn has_shown_entry(&self) -> bool {
        matches!(self.seen, Seen::Entry { .. })
    }

    /// Returns whether the tracer wants an event (`PTRACE_EVENT_*`).
    pub(crate) fn wants(&self, event: i32) -> bool {
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

    pub(crate) fn stop(&self) -> Option<&TracerStop> {
        match &self.phase {
            Phase::Stopped(stop) => Some(stop),
            Phase::Running | Phase::Listening => None,
        }
    }
}

/// A step of a tracee.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// No step.
    No,
    /// The tracee must make a step.
    Wanted,
    /// The tracee makes a step, with the trap flag set. The value says if the flag was set before.
    Flagged(bool),
    /// The tracee executes an instruction that is an event.
    Event,
}

impl Pace {
    /// Returns whether the tracer wants to see the entry of each call.
    pub(super) fn shows_entries(self) -> bool {
        self == Pace::ToCall || self.skips_calls()
    }

    /// Returns whether calls are not made.
    pub(super) fn skips_calls(self) -> bool {
        matches!(self, Pace::ToEmulatedCall | Pace::StepOrEmulatedCall)
    }

    /// Returns whether the tracee stops after one instruction.
    pub(super) fn steps(self) -> bool {
        matches!(self, Pace::Step | Pace::StepOrEmulatedCall)
    }
}

impl TracerStop {
    pub(super) fn new(kind: StopKind, code: i32, info: SigInfo) -> TracerStop {
        TracerStop {
            kind,
            code,
            info,
            is_reported: false,
        }
    }
}
