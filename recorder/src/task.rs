//! What the recorder knows of one task.

use std::time::Duration;

use rr_trace::event::CloneInfo;
use rr_tracee::digest::ChunkSum;
use rr_tracee::syscalls::{Part, Spec};
use rr_tracee::task::SigInfo;
use rr_tracee::{Addr, AddrRange, ExtendedState, Memory, Registers, Running, SpaceId, Stop, Stopped, Tid};

use crate::forced::{Action, Actions};
use crate::point::{Patience, Purpose};
use crate::ptrace::{Tracee, Wait};
use crate::ring::Taken;
use crate::seccomp::Confined;
use crate::tasks::Leaving;
use crate::unfinished::Unfinished;

/// Where a task is.
#[derive(Debug)]
pub enum State {
    /// Stopped after its last event, with nothing to be handled: it can go on.
    Ready(Stopped),
    /// Stopped for a reason that has not been handled yet.
    Reported(Stopped, Stop),
    /// In the kernel: in a system call that has not returned, in a group stop, or dying.
    InKernel(Running),
    /// Being handled: the `Stopped` is in the hands of the code that handles it.
    Busy,
}

/// A system call under way.
#[derive(Debug)]
pub struct Call {
    /// What the table says; `None` for calls that are not in it.
    pub spec: Option<&'static Spec>,
    /// Registers at the entry, with the program's own arguments.
    pub entry: Registers,
    /// The registers that describe the call: those at the entry, or for `restart_syscall` at that of the call
    /// that it restarts.
    pub described_by: Registers,
    /// The memory that it refers to.
    pub parts: Vec<Part>,
    /// Where in scratch memory each part lies, if the parts were moved (I3).
    pub placed: Option<Vec<Addr>>,
    /// Extended state at the entry, if a checkpoint may have to be taken while the call blocks.
    pub xstate: Option<ExtendedState>,
    /// What it will have set, if it succeeds, as the action of a signal that the kernel forces for our sake.
    pub action: Option<(i32, Action)>,
    /// The tid of the task that it created, as soon as we are told.
    pub created: Option<Tid>,
    /// The task that it created, until the call's event is recorded; none if it has died already.
    pub new_task: Option<(CloneInfo, Box<Task>)>,
    /// The parent waits for the child to execute a program or exit (`vfork`).
    pub vfork: bool,
    /// Its descriptor is a pipe or socket, and not our standard output or error.
    pub of_stream: bool,
    /// It waits for children, or for tracees.
    pub wait: Option<Wait>,
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
    /// Where it is.
    pub state: State,
    /// Its memory.
    pub memory: Memory,
    /// The program that it executes.
    pub exe: String,
    /// Registers after its last event (`orig_rax` is −1).
    pub boundary: Registers,
    /// The system call under way.
    pub call: Option<Call>,
    /// What it is doing to memory that another process shares.
    pub unfinished: Option<Box<Unfinished>>,
    /// What the kernel writes into the memory that it leaves if it executes a program now.
    pub leaving: Option<Box<Leaving>>,
    /// The `SyscallEnter` event of the call under way has been recorded.
    pub entered: bool,
    /// The kernel will restart this call, unless a signal handler comes first.
    pub restarting: Option<Box<Call>>,
    /// A signal was pending when the task was last resumed: the next stop comes before any instruction.
    pub due: bool,
    /// The task was turned back from this system call entry to take a stashed signal.
    pub turned_back: Option<Registers>,
    /// It was sent back to repeat a system call that failed through our fault.
    pub retrying: bool,
    /// Extended state in a group stop, if checkpoints are taken.
    pub group_stop: Option<ExtendedState>,
    /// It was asked to stop (`PTRACE_INTERRUPT`), and that stop may be still to come.
    pub interrupted: bool,
    /// It is stopped in the middle of an interval, at a place that has no name.
    pub between: bool,
    /// It has been let go on since its last event: what it has executed by now is part of no event.
    pub ran: bool,
    /// Ticks since its last event while it ran.
    pub ticks: u32,
    /// At the first of them: the time, and the processor time of its process.
    pub clocked: Option<(Duration, Duration)>,
    /// How long others wait for it before it is interrupted.
    pub patience: Patience,
    /// Short ticks since its last event while it ran and other tasks were.
    pub short_ticks: u32,
    /// At which of them it is looked at whether it spins.
    pub look_at: u32,
    /// What it was interrupted for last.
    pub interrupted_for: Purpose,
    /// Calls that the library made for it in the interval that ended last.
    pub calls: u64,
    /// The point at which it was last seen to spin.
    pub spun_at: Option<Box<(Registers, Vec<ChunkSum>)>>,
    /// What the buffered calls of its interval gave, for the event that ends it.
    pub buffered: Taken,
    /// The last thing that it did is that its library left a call to us, as it may have to wait for the other end of a pipe or
    /// socket (which is not our standard output or error).
    pub left: bool,
    /// Signals that hit it where no event was; delivered at the next one.
    pub stash: Vec<SigInfo>,
    /// The carriers of stashed signals that were sent to it and have not come yet, bit n−1 for signal n ([`crate::carrier`]). There
    /// can be several: another signal's handler may block one that is pending.
    pub carriers: u64,
    /// Which of the signals that the kernel forces on it for our sake are blocked; `None` if that is to be asked.
    pub blocked: Option<u64>,
    /// What its process does with these.
    pub actions: Actions,
    /// Where the kernel clears a word when the task exits (`set_tid_address(2)`); null for none.
    pub clear_child_tid: Addr,
    /// Waits for this task to execute a program or exit (`vfork(2)`).
    pub held_by: Option<Tid>,
    /// Its `Exit` event has been recorded.
    pub exited: bool,
    /// CPU mask that the program has set, as its own `sched_getaffinity` shall answer.
    pub affinity: Option<Vec<u8>>,
    /// The tid that its events bear until its exec is recorded, if it changed by that exec.
    pub recorded_as: Option<Tid>,
    /// What it has confined itself with.
    pub confined: Confined,
    /// Its tracer has seen the call that it enters, and lets it be made, as a filter wanted.
    pub is_filter_passed: bool,
    /// Another recorded task traces it.
    pub tracee: Option<Box<Tracee>>,
    /// The task that is its parent by birth.
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

    /// Takes the state for handling.
    pub fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Busy)
    }

    /// Whether it was stopped between two events: it has executed what no event has ended yet.
    pub fn is_mid_interval(&self) -> bool {
        self.turned_back.is_some() || self.retrying || self.between
    }

    /// Whether it is stopped for another recorded task, which traces it.
    pub fn is_stopped_for_tracer(&self) -> bool {
        self.tracee.as_ref().is_some_and(|tracee| tracee.is_stopped())
    }

    /// Whether the kernel would restart a call, but for the registers that its tracer has set for the time being: it makes no remote
    /// calls until it goes on, as these would end the interruption.
    pub fn has_call_put_off(&self) -> bool {
        self.tracee
            .as_ref()
            .is_some_and(|tracee| tracee.put_off.is_some())
    }

    /// Whether the scheduler can do something with it now.
    pub fn is_runnable(&self) -> bool {
        match self.state {
            State::Ready(_) => self.held_by.is_none() && !self.exited && !self.is_stopped_for_tracer(),
            State::Reported(..) => !self.is_stopped_for_tracer(),
            State::InKernel(_) | State::Busy => false,
        }
    }
}
