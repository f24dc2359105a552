//! The interface between the server and a replay.
//!
//! The server speaks the remote protocol and knows nothing of traces; a [`Target`] knows nothing of packets. Every
//! number here is a recorded one (tids, pids), every address the program's.

use std::sync::Arc;

use rr_replayer::condition::Program;
use rr_tracee::{Addr, AddrRange, ExtendedState, Registers, Tid};

/// A thread of the debugged process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thread {
    /// Its tid.
    pub tid: Tid,
    /// Its name (`comm`), if it is known.
    pub name: String,
}

/// All registers of a thread.
#[derive(Clone, PartialEq, Debug)]
pub struct RegisterFile {
    /// General registers, segments, `orig_rax`, `fs_base`, `gs_base`.
    pub general: Registers,
    /// x87, SSE, AVX, AVX-512, PKRU: the XSAVE area in standard format.
    pub extended: ExtendedState,
}

/// A direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// As the program ran.
    Forward,
    /// Back in time.
    Backward,
}

/// The end of a movement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// To the next stop.
    Continue,
    /// One instruction of this thread. Other threads may run before, in their recorded order.
    Step(Tid),
    /// Steps of this thread while its instruction pointer is in the range (forward only; `vCont;r`).
    StepRange(Tid, AddrRange),
}

/// The stops of a program besides breakpoints.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StopOptions {
    /// Signals that are not reported (`QPassSignals`).
    pub pass_signals: Vec<i32>,
    /// System calls that are reported (`QCatchSyscalls`): none, all (`Some(vec![])`), or these numbers.
    pub catch_syscalls: Option<Vec<i64>>,
    /// Report fork and clone of a process, vfork, exec.
    pub fork_events: bool,
    /// See `fork_events`.
    pub vfork_events: bool,
    /// See `fork_events`.
    pub exec_events: bool,
}

/// Kinds of breakpoints and watchpoints (`Z0` to `Z4`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum PointKind {
    /// `Z0`
    Software,
    /// `Z1`
    Hardware,
    /// `Z2`
    Write,
    /// `Z3` (on x86 an access watchpoint)
    Read,
    /// `Z4`
    Access,
}

/// Decides whether a breakpoint that was hit stops the program.
pub trait Condition: std::fmt::Debug + Send + Sync {
    /// Evaluated with the thread at the breakpoint. An error in the evaluation counts as true.
    fn holds(&self, registers: &Registers, read: &mut dyn FnMut(Addr, &mut [u8]) -> bool) -> bool;
    /// The same in a form that the task can evaluate itself, if there is one.
    fn program(&self) -> Option<Arc<Program>> {
        None
    }
}

/// The reason why the program stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // `tid` is the thread that stopped; the variants say what the others are
pub enum Stop {
    /// A breakpoint was hit.
    Breakpoint { tid: Tid, addr: Addr, hardware: bool },
    /// A watchpoint was hit: the address as it was given when the watchpoint was set.
    Watchpoint { tid: Tid, addr: Addr, kind: PointKind },
    /// The steps are done.
    Stepped { tid: Tid },
    /// A signal is about to be delivered.
    Signal { tid: Tid, signo: i32 },
    /// A system call is entered or has returned.
    Syscall { tid: Tid, number: i64, entry: bool },
    /// The process forked.
    Forked { tid: Tid, child: Tid, vfork: bool },
    /// A vforked child has given the memory back.
    VforkDone { tid: Tid },
    /// The process executes another program.
    Executed { tid: Tid, path: String },
    /// The interrupt was noticed.
    Interrupted { tid: Tid },
    /// The last thread of the process is about to exit: as if it had got a SIGKILL. (Forward; a `continue` from here
    /// gives [`Stop::Exited`].)
    Exiting { tid: Tid },
    /// The beginning of the history was reached (`replaylog:begin`).
    HistoryBegin { tid: Tid },
    /// The end of the recording was reached, and the process still lives (`replaylog:end`).
    HistoryEnd { tid: Tid },
    /// The process is gone; status as in wait(2).
    Exited { status: i32 },
}

/// The destination of a command that moves the program: `run` (`vRun`), `restart`, `seek`, `back`, `forward`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// The place where the session began, or where the last restart went.
    Last,
    /// A checkpoint by number (`c3`).
    Checkpoint(u64),
    /// An event (`1200`).
    Event(u64),
    /// The stop before the last one (`back`).
    Back,
    /// The stop that `back` came from (`forward`).
    Forward,
}

/// The reason why something did not work.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is no such thread.
    #[error("there is no thread {0}")]
    NoThread(Tid),
    /// It cannot be done here; the session is as it was. Said to the user.
    #[error("{0}")]
    Refused(String),
    /// There are not enough debug registers.
    #[error("no hardware resources are left for this watchpoint")]
    NoResources,
    /// The replay cannot go on (a divergence, for example). The present state can still be looked at. The user is told.
    #[error("{0}")]
    Failed(String),
}

/// Asked from time to time while the target runs; true if the user wants it to stop.
pub trait Interrupt {
    /// Says if the program is to stop now.
    fn is_requested(&mut self) -> bool;
}

/// A process that can be looked at, run, and moved in time.
pub trait Target {
    /// The pid of the debugged process.
    fn process(&self) -> Tid;
    /// Its threads, in order of their tids. None if it is gone.
    fn threads(&self) -> Vec<Thread>;
    /// The thread of the last stop.
    fn current(&self) -> Option<Tid>;
    /// The registers of a thread.
    fn registers(&self, tid: Tid) -> Result<RegisterFile, TargetError>;
    /// Changes registers: in a throw-away copy of the session, which begins with this if there is none yet.
    fn set_registers(&mut self, tid: Tid, registers: &RegisterFile) -> Result<(), TargetError>;
    /// Reads memory of the process, as the program has it; returns how many bytes could be read.
    fn read_memory(&self, addr: Addr, buf: &mut [u8]) -> usize;
    /// Changes memory: in a throw-away copy, as [`Target::set_registers`].
    fn write_memory(&mut self, addr: Addr, bytes: &[u8]) -> Result<(), TargetError>;
    /// The auxiliary vector (getauxval(3)) as the kernel gave it; empty if it is not known.
    fn auxv(&self) -> Vec<u8>;
    /// The program that it executes, as a path.
    fn exec_file(&self) -> String;
    /// `siginfo_t` of the signal that a thread is stopped at.
    fn siginfo(&self, tid: Tid) -> Option<Vec<u8>>;
    /// The text that /proc/PID/maps would show.
    fn maps(&self) -> String;

    /// Runs the program. On an error it stands where it can be looked at.
    fn resume(
        &mut self,
        action: Action,
        direction: Direction,
        options: &StopOptions,
        interrupt: &mut dyn Interrupt,
    ) -> Result<Stop, TargetError>;
    /// Goes somewhere else: breakpoints that are set stay.
    fn restart(&mut self, to: Restart, interrupt: &mut dyn Interrupt) -> Result<Stop, TargetError>;

    /// Sets a breakpoint or watchpoint; stops if one of the conditions holds, or if there are none. One more at the
    /// same place with the same kind and length takes the place of the first.
    fn insert_point(
        &mut self,
        kind: PointKind,
        addr: Addr,
        len: u64,
        conditions: Vec<Box<dyn Condition>>,
    ) -> Result<(), TargetError>;
    /// Takes it away; no error if there is none.
    fn remove_point(&mut self, kind: PointKind, addr: Addr, len: u64) -> Result<(), TargetError>;

    /// A command of rr's (`when`, `checkpoint`, …): its name, the thread it is about, its arguments. The answer is
    /// printed as it is.
    fn command(&mut self, name: &str, tid: Option<Tid>, args: &[String]) -> Result<String, TargetError>;
    /// Opens a file of the recording by the name that the program knew it by (`vFile:open`).
    fn open_file(&self, path: &str) -> Option<rr_trace::Member>;
}
