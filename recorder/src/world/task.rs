//! The recorder's state of one task.

use std::time::Duration;

use rr_tracee::digest::ChunkDigest;
use rr_tracee::task::SigInfo;
use rr_tracee::{Addr, AddrRange, ExtendedState, Memory, Registers, Running, SpaceId, Stop, Stopped, Tid};

use crate::buffer::ring::IntervalRecords;
use crate::call::aio::requests::Submission;
use crate::call::rseq::registration::Rseq;
use crate::call::user_dispatch::region::Region;
use crate::point::patience::{Patience, Purpose};
use crate::ptrace::tracee::Tracee;
use crate::seccomp::Confined;
use crate::signal::actions::Actions;
use crate::userfault::state::PageWait;
use crate::world::call::Call;
use crate::world::unfinished::{Leaving, Unfinished};

/// State of a task.
#[derive(Debug)]
pub enum State {
    /// Stopped after its last event, with nothing to be handled: the task can continue.
    Ready(Stopped),
    /// Stopped for a reason that has not been handled yet.
    Reported(Stopped, Stop),
    /// In the kernel: in a system call that has not returned, in a group stop, or dying.
    InKernel(Running),
    /// Being handled: other code holds the `Stopped`.
    Busy,
}

/// A task's signals.
#[derive(Debug)]
pub struct Signals {
    /// Signals that arrived where no event was. They are delivered at the next one.
    pub deferred: Vec<SigInfo>,
    /// The wakeup signals that were sent to the task and have not arrived, bit n−1 for signal n
    /// ([`crate::signal::wakeup_signal`]). There can be several: another signal's handler may block a pending one.
    pub wakeups: u64,
    /// The blocked signals among those that the kernel forces on the task because of rr. `None` if they
    /// must be read.
    pub blocked: Option<u64>,
    /// The actions of these signals in the task's process.
    pub actions: Actions,
    /// True if a signal was pending when the task was last resumed: the next stop comes before any
    /// instruction.
    pub is_due: bool,
    /// The entry of the system call from which the task was turned back to take a deferred signal.
    pub turned_back: Option<Registers>,
    /// Extended state in a group stop, if checkpoints are taken.
    pub group_stop: Option<ExtendedState>,
}

/// What a task has done since its last event.
#[derive(Debug)]
pub struct Interval {
    /// Registers after its last event (`orig_rax` is −1).
    pub boundary: Registers,
    /// True if the task is stopped in the middle of an interval, at a place that has no name.
    pub between: bool,
    /// True if the task has been resumed since its last event: the code executed since is part of no
    /// event.
    pub ran: bool,
    /// Number of calls that the library made for the task in the last interval.
    pub calls: u64,
    /// Records of the buffered calls of its interval, for the event that ends the interval.
    pub buffered: IntervalRecords,
    /// True if the task's last action is that its library left a call to us, because the call may have
    /// to wait for the other end of a pipe or socket (which is not our standard output or error).
    pub left: bool,
    pub ticks: Ticks,
}

/// A task that executes user code without an event, as seen at ticks.
#[derive(Debug)]
pub struct Ticks {
    /// Why the task was asked to stop (`PTRACE_INTERRUPT`), while that stop may still be to come.
    pub interrupt: Option<Purpose>,
    /// Number of ticks since the last event while the task ran.
    pub long: u32,
    /// The time, and the processor time of its process, at the first of these ticks.
    pub clocked: Option<(Duration, Duration)>,
    /// Time that others wait for the task before it is interrupted.
    pub patience: Patience,
    /// Number of short ticks since the last event while the task ran and other tasks existed.
    pub short_ticks: u32,
    /// Number of short ticks at which the task is checked for spinning.
    pub look_at: u32,
    /// The state in which the task was last seen to spin.
    pub spun_at: Option<Box<(Registers, Vec<ChunkDigest>)>>,
}

/// What is known beside the current call, or remains of the last one.
#[derive(Debug)]
pub struct AtCall {
    /// Its scratch memory in that space, if its last call needed some.
    pub scratch: Option<AddrRange>,
    /// The current call's changes of memory that another process shares.
    pub unfinished: Option<Box<Unfinished>>,
    /// The kernel's writes into the old memory if the task executes a program now.
    pub leaving: Option<Box<Leaving>>,
    /// The requests of the current call, if it is `io_submit`.
    pub submission: Option<Box<Submission>>,
    /// True if the `SyscallEnter` event of the current call has been recorded.
    pub entered: bool,
    /// The call that the kernel will restart, unless a signal handler comes first.
    pub restarting: Option<Box<Call>>,
    /// True if the task was sent back to repeat a system call that failed because of rr.
    pub retrying: bool,
    /// True if the tracer has seen the call that the task enters, and lets it be made, as a filter
    /// required.
    pub is_filter_passed: bool,
}

/// What the program has asked of the kernel for the task.
#[derive(Debug)]
pub struct Settings {
    /// Address of the word that the kernel clears when the task exits (`set_tid_address(2)`); null for
    /// none.
    pub clear_child_tid: Addr,
    /// True if the program wants reads of the time-stamp counter to trap (`PR_SET_TSC`). Exec keeps that.
    pub is_counter_denied: bool,
    /// True if the program wants `cpuid` to trap (`ARCH_SET_CPUID`). Exec ends that.
    pub is_cpuid_denied: bool,
    /// True if what the task maps readable is executable, too (`READ_IMPLIES_EXEC` of personality(2)). Exec ends that.
    pub read_implies_exec: bool,
    /// The calls that become signals, if the task has asked for that.
    pub dispatch: Option<Region>,
    /// The structure that the task has registered with rseq(2).
    pub rseq: Option<Rseq>,
    /// CPU mask that the program has set, for the answer of its `sched_getaffinity`.
    pub affinity: Option<Vec<u8>>,
    /// The task's seccomp mode and filters.
    pub confined: Confined,
}

/// Where a task comes from, and how it ends.
#[derive(Debug)]
pub struct Life {
    /// The program that it executes.
    pub exe: String,
    /// The task's parent by birth.
    pub parent: Option<Tid>,
    /// The task that this one waits for to execute a program or exit (`vfork(2)`).
    pub held_by: Option<Tid>,
    /// Its wait for a page, which another task is to provide (`userfaultfd(2)`).
    pub page_wait: Option<Box<PageWait>>,
    /// True if the task's `Exit` event has been recorded.
    pub exited: bool,
    /// The tid in the task's events until its exec is recorded, if that exec has changed the tid.
    pub recorded_as: Option<Tid>,
}

/// One recorded task.
#[derive(Debug)]
pub struct Task {
    /// Its tid.
    pub tid: Tid,
    /// Its thread group.
    pub tgid: Tid,
    /// Its address space.
    pub space: SpaceId,
    /// Its memory.
    pub memory: Memory,
    /// The task's state.
    pub state: State,
    /// The current system call.
    pub call: Option<Call>,
    /// State of tracing, if another recorded task traces this one.
    pub tracee: Option<Box<Tracee>>,
    pub signals: Signals,
    pub interval: Interval,
    pub at_call: AtCall,
    pub settings: Settings,
    pub life: Life,
}

impl Task {
    /// A task at an event boundary.
    pub fn new(stopped: Stopped, tgid: Tid, space: SpaceId, boundary: Registers) -> Task {
        let tid = stopped.tid();
        Task {
            tid,
            tgid,
            space,
            memory: Memory::of(tid),
            state: State::Ready(stopped),
            call: None,
            tracee: None,
            signals: Signals {
                deferred: Vec::new(),
                wakeups: 0,
                blocked: None,
                actions: Actions::default(),
                is_due: false,
                turned_back: None,
                group_stop: None,
            },
            interval: Interval {
                boundary,
                between: false,
                ran: false,
                calls: 0,
                buffered: IntervalRecords::default(),
                left: false,
                ticks: Ticks {
                    interrupt: None,
                    long: 0,
                    clocked: None,
                    patience: Patience::new(false),
                    short_ticks: 0,
                    look_at: 1,
                    spun_at: None,
                },
            },
            at_call: AtCall {
                scratch: None,
                unfinished: None,
                leaving: None,
                submission: None,
                entered: false,
                restarting: None,
                retrying: false,
                is_filter_passed: false,
            },
            settings: Settings {
                clear_child_tid: Addr::NULL,
                is_counter_denied: false,
                is_cpuid_denied: false,
                read_implies_exec: false,
                dispatch: None,
                rseq: None,
                affinity: None,
                confined: Confined::default(),
            },
            life: Life {
                exe: String::new(),
                parent: None,
                held_by: None,
                page_wait: None,
                exited: false,
                recorded_as: None,
            },
        }
    }

    /// Takes the state out for handling.
    pub fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Busy)
    }

    /// Returns whether the task was stopped between two events: it has executed code that no event has
    /// ended yet. (The three reasons end at different events, and can hold at once.)
    pub fn is_mid_interval(&self) -> bool {
        self.signals.turned_back.is_some() || self.at_call.retrying || self.interval.between
    }

    /// Returns whether the task is stopped for another recorded task, which traces it.
    pub fn is_stopped_for_tracer(&self) -> bool {
        self.tracee.as_ref().is_some_and(|tracee| tracee.is_stopped())
    }

    /// Returns whether the kernel would restart a call if the tracer had not set registers for now. The
    /// task then makes no remote calls until it continues, because these would end the interruption.
    pub fn has_held_restart(&self) -> bool {
        self.tracee
            .as_ref()
            .is_some_and(|tracee| tracee.last_call.held_restart.is_some())
    }

    /// Returns whether the scheduler can do something with the task now.
    pub fn is_runnable(&self) -> bool {
        match self.state {
            State::Ready(_) => {
                self.life.held_by.is_none() && !self.life.exited && !self.is_stopped_for_tracer()
            }
            State::Reported(..) => !self.is_stopped_for_tracer(),
            State::InKernel(_) | State::Busy => false,
        }
    }
}
