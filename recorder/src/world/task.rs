//! The recorder's state of one task.

use std::time::Duration;

use rr_trace::event::CloneInfo;
use rr_tracee::digest::ChunkSum;
use rr_tracee::syscalls::{self, Creation, Part, Spec};
use rr_tracee::task::SigInfo;
use rr_tracee::{Addr, AddrRange, ExtendedState, Memory, Registers, Running, SpaceId, Stop, Stopped, Tid};

use crate::buffer::ring::Taken;
use crate::call::rseq::registration::Rseq;
use crate::call::user_dispatch::region::Region;
use crate::memory::unfinished::Unfinished;
use crate::point::interrupt::Purpose;
use crate::point::patience::Patience;
use crate::ptrace::{Tracee, Wait};
use crate::seccomp::Confined;
use crate::signal::forced::{Action, Actions};
use crate::task::exit::Leaving;

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
    pub placed: Option<Vec<Addr>>,
    /// Extended state at the entry, if a checkpoint may be taken while the call blocks.
    pub xstate: Option<ExtendedState>,
    /// The action that the call sets if it succeeds, for a signal that the kernel forces because of rr.
    pub action: Option<(i32, Action)>,
    /// The task that the call asks for, if it creates one.
    pub creation: Option<Creation>,
    /// The tid of the task that the call has created, once reported.
    pub created: Option<Tid>,
    /// The task that the call has created, until the call's event is recorded. `None` if that task has
    /// died already.
    pub new_task: Option<(CloneInfo, Box<Task>)>,
    /// True if the parent waits for the child to execute a program or exit (`vfork`).
    pub vfork: bool,
    /// True if the descriptor is a pipe or socket, and not our standard output or error.
    pub of_stream: bool,
    /// State of the call if it waits for children or tracees.
    pub wait: Option<Wait>,
}

impl Call {
    /// A call of which nothing but its registers at the entry is known.
    pub fn new(entry: Registers) -> Call {
        Call {
            spec: syscalls::lookup(entry.syscall()),
            entry,
            described_by: entry,
            parts: Vec::new(),
            placed: None,
            xstate: None,
            action: None,
            creation: None,
            created: None,
            new_task: None,
            vfork: false,
            of_stream: false,
            wait: None,
        }
    }
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
    /// Its scratch memory in that space, if its last call needed some.
    pub scratch: Option<AddrRange>,
    /// The task's state.
    pub state: State,
    /// Its memory.
    pub memory: Memory,
    /// The program that it executes.
    pub exe: String,
    /// Registers after its last event (`orig_rax` is −1).
    pub boundary: Registers,
    /// The current system call.
    pub call: Option<Call>,
    /// The current call's changes of memory that another process shares.
    pub unfinished: Option<Box<Unfinished>>,
    /// The kernel's writes into the old memory if the task executes a program now.
    pub leaving: Option<Box<Leaving>>,
    /// True if the `SyscallEnter` event of the current call has been recorded.
    pub entered: bool,
    /// The call that the kernel will restart, unless a signal handler comes first.
    pub restarting: Option<Box<Call>>,
    /// True if a signal was pending when the task was last resumed: the next stop comes before any
    /// instruction.
    pub due: bool,
    /// The entry of the system call from which the task was turned back to take a stashed signal.
    pub turned_back: Option<Registers>,
    /// True if the task was sent back to repeat a system call that failed because of rr.
    pub retrying: bool,
    /// Extended state in a group stop, if checkpoints are taken.
    pub group_stop: Option<ExtendedState>,
    /// True if the task was asked to stop (`PTRACE_INTERRUPT`), and that stop may still be to come.
    pub interrupted: bool,
    /// True if the task is stopped in the middle of an interval, at a place that has no name.
    pub between: bool,
    /// True if the task has been resumed since its last event: the code executed since is part of no
    /// event.
    pub ran: bool,
    /// Number of ticks since the last event while the task ran.
    pub ticks: u32,
    /// The time, and the processor time of its process, at the first of these ticks.
    pub clocked: Option<(Duration, Duration)>,
    /// Time that others wait for the task before it is interrupted.
    pub patience: Patience,
    /// Number of short ticks since the last event while the task ran and other tasks existed.
    pub short_ticks: u32,
    /// Number of short ticks at which the task is checked for spinning.
    pub look_at: u32,
    /// Purpose of the last interrupt.
    pub interrupted_for: Purpose,
    /// Number of calls that the library made for the task in the last interval.
    pub calls: u64,
    /// The state in which the task was last seen to spin.
    pub spun_at: Option<Box<(Registers, Vec<ChunkSum>)>>,
    /// Records of the buffered calls of its interval, for the event that ends the interval.
    pub buffered: Taken,
    /// True if the task's last action is that its library left a call to us, because the call may have
    /// to wait for the other end of a pipe or socket (which is not our standard output or error).
    pub left: bool,
    /// Signals that arrived where no event was. They are delivered at the next one.
    pub stash: Vec<SigInfo>,
    /// The carriers of stashed signals that were sent to the task and have not arrived, bit n−1 for signal n
    /// ([`crate::signal::wakeup_signal`]). There can be several: another signal's handler may block a pending one.
    pub carriers: u64,
    /// The blocked signals among those that the kernel forces on the task because of rr. `None` if they
    /// must be read.
    pub blocked: Option<u64>,
    /// The actions of these signals in the task's process.
    pub actions: Actions,
    /// Address of the word that the kernel clears when the task exits (`set_tid_address(2)`); null for
    /// none.
    pub clear_child_tid: Addr,
    /// True if the program wants reads of the time-stamp counter to trap (`PR_SET_TSC`). Exec keeps that.
    pub is_counter_denied: bool,
    /// The calls that become signals, if the task has asked for that.
    pub dispatch: Option<Region>,
    /// The structure that the task has registered with rseq(2).
    pub rseq: Option<Rseq>,
    /// The task that this one waits for to execute a program or exit (`vfork(2)`).
    pub held_by: Option<Tid>,
    /// True if the task's `Exit` event has been recorded.
    pub exited: bool,
    /// CPU mask that the program has set, for the answer of its `sched_getaffinity`.
    pub affinity: Option<Vec<u8>>,
    /// The tid in the task's events until its exec is recorded, if that exec has changed the tid.
    pub recorded_as: Option<Tid>,
    /// The task's seccomp mode and filters.
    pub confined: Confined,
    /// True if the tracer has seen the call that the task enters, and lets it be made, as a filter
    /// required.
    pub is_filter_passed: bool,
    /// State of tracing, if another recorded task traces this one.
    pub tracee: Option<Box<Tracee>>,
    /// The task's parent by birth.
    pub parent: Option<Tid>,
}

impl Task {
    /// A task at an event boundary.
    pub fn new(stopped: Stopped, tgid: Tid, space: SpaceId, boundary: Registers) -> Task {
        let tid = stopped.tid();
        Task {
            tid,
            tgid,
            space,
            scratch: None,
            state: State::Ready(stopped),
            memory: Memory::of(tid),
            exe: String::new(),
            boundary,
            call: None,
            unfinished: None,
            leaving: None,
            entered: false,
            restarting: None,
            due: false,
            turned_back: None,
            retrying: false,
            group_stop: None,
            interrupted: false,
            ticks: 0,
            clocked: None,
            between: false,
            ran: false,
            patience: Patience::new(false),
            short_ticks: 0,
            look_at: 1,
            interrupted_for: Purpose::Else,
            calls: 0,
            spun_at: None,
            buffered: Taken::default(),
            left: false,
            stash: Vec::new(),
            carriers: 0,
            blocked: None,
            actions: Actions::default(),
            clear_child_tid: Addr::NULL,
            is_counter_denied: false,
            dispatch: None,
            rseq: None,
            held_by: None,
            exited: false,
            affinity: None,
            recorded_as: None,
            confined: Confined::default(),
            is_filter_passed: false,
            tracee: None,
            parent: None,
        }
    }

    /// Takes the state out for handling.
    pub fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Busy)
    }

    /// Returns whether the task was stopped between two events: it has executed code that no event has
    /// ended yet.
    pub fn is_mid_interval(&self) -> bool {
        self.turned_back.is_some() || self.retrying || self.between
    }

    /// Returns whether the task is stopped for another recorded task, which traces it.
    pub fn is_stopped_for_tracer(&self) -> bool {
        self.tracee.as_ref().is_some_and(|tracee| tracee.is_stopped())
    }

    /// Returns whether the kernel would restart a call if the tracer had not set registers for now. The
    /// task then makes no remote calls until it continues, because these would end the interruption.
    pub fn has_call_put_off(&self) -> bool {
        self.tracee
            .as_ref()
            .is_some_and(|tracee| tracee.put_off.is_some())
    }

    /// Returns whether the scheduler can do something with the task now.
    pub fn is_runnable(&self) -> bool {
        match self.state {
            State::Ready(_) => self.held_by.is_none() && !self.exited && !self.is_stopped_for_tracer(),
            State::Reported(..) => !self.is_stopped_for_tracer(),
            State::InKernel(_) | State::Busy => false,
        }
    }
}
