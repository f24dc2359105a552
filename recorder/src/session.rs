//! `RecordSession`: the tasks, and running one of them to its next stop.
//!
//! Keeps I1: at most one tracee executes user code at any time. One task runs until it blocks in the
//! kernel or the scheduler ends its turn. The other tasks are checked only then. Recorder and tracees
//! share one CPU, where handing over takes 3 µs. So one `sched_yield` lets a resumed task run first,
//! and shows if it has blocked.

pub use crate::drive::end::{Crash, End, Summary};

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rr_preload::layout::Counter;
use rr_trace::event::EventNumber;
use rr_trace::{FileStore, TraceWriter};
use rr_tracee::task::{Report, Resume, Waited, wait, wait_for_tick};
use rr_tracee::ticker::{Ticker, take_tick};
use rr_tracee::{
    Addr, AddrRange, AddressSpace, FileId, Objects, Running, SpaceId, SpaceOp, Stop, Stopped, Tid, limits,
    procfs, tsc,
};

use crate::buffer::control::Library;
use crate::buffer::known_sites::KnownSites;
use crate::call::scratch::Scratch;
use crate::checkpoint::baseline::Baseline;
use crate::checkpoint::capture::Capture;
use crate::drive::contention::Contention;
use crate::drive::scheduler::{Schedule, Scheduler};
use crate::error::{Error, Result};
use crate::log::pending::PendingEntry;
use crate::memory::mapped::Mapped;
use crate::memory::private_files::Besides;
use crate::point::patience::Patience;
use crate::policy::stats::Stats;
use crate::ptrace::{Phase, Tracers};
use crate::start::launch::{self, Command};
use crate::world::table::Tasks;
use crate::world::task::{State, Task};

/// Options of a recording.
#[derive(Debug)]
pub struct Options {
    /// Wait for all processes, not just the first.
    pub wait_for_all: bool,
    /// At every event, compare the model of the address space with `/proc/PID/maps`.
    pub check_maps: bool,
    /// CPU mask that the program is told it may use (that of rr before it bound itself to one CPU).
    pub affinity: Vec<u8>,
    /// Number of CPUs that the program is shown, numbered from 0 (`affinity` is then all of them).
    pub cores: Option<usize>,
    /// A signal that never reaches the program.
    pub ignored_signal: Option<i32>,
    /// A signal that does not kill a program that does not handle it.
    pub survived_signal: Option<i32>,
    /// Write `[rr PID EVENT]` before everything that the program writes to our standard output and
    /// error.
    pub mark_stdio: bool,
    /// Parameters of the scheduler.
    pub schedule: Schedule,
    /// Let a library in the tracees make the calls that need no stop.
    pub buffered: bool,
    /// Maximum time of the recording. Then the recording ends where the tasks are ([`End::TimeLimit`]).
    pub time_limit: Option<Duration>,
    /// Measurement of the time-stamp counter's rate. It begins as early as possible, so that nobody has
    /// to wait for its end.
    pub measurement: tsc::Measurement,
}

/// An address space of the recording.
#[derive(Debug, Default)]
pub(crate) struct Space {
    pub model: AddressSpace,
    /// The program break as the program set it.
    pub brk: u64,
    /// The main stack, including the room below it.
    pub stack: Option<AddrRange>,
    /// The program's loader (`ld.so`), if it has one.
    pub loader: Option<FileId>,
    /// True if the program has asked not to be dumped (`PR_SET_DUMPABLE`). The kernel is not told,
    /// because rr reads the memory.
    pub not_dumpable: bool,
    /// Memory for the outputs of calls that may block.
    pub scratch: Scratch,
    /// State of the library.
    pub library: Library,
    /// Snapshots that the checkpoint writer reads in place. They must be replaced by forks before a
    /// task of this space continues.
    pub in_place: Vec<rr_checkpoint::SharedSource>,
    /// The last checkpoint, if the changes since then can be told.
    pub baseline: Option<Baseline>,
}

impl Space {
    /// Applies a change: its sites are no longer rewritten. Returns the bytes to be restored.
    #[must_use]
    pub fn apply(&mut self, op: &SpaceOp) -> Vec<(Addr, u8)> {
        let restored = self.library.sites.follow(op);
        self.baseline.take_if(|baseline| !baseline.follow(op));
        self.model.apply(op);
        restored
    }
}

/// One recording.
pub struct RecordSession {
    pub(crate) tasks: Tasks,
    pub(crate) spaces: BTreeMap<SpaceId, Space>,
    pub(crate) mapped: Mapped,
    pub(crate) known_sites: KnownSites,
    /// The shared memory objects as the events describe them.
    pub(crate) objects: Objects,
    /// Changes by the next event in other address spaces, and of objects.
    pub(crate) besides: Besides,
    pub(crate) capture: Capture,
    pub(crate) options: Options,
    pub(crate) files: Arc<FileStore>,
    pub(crate) last_space: u32,
    pub(crate) writer: TraceWriter,
    /// Time at which the recording began ([`tsc::now`]).
    pub(crate) started: Duration,
    pub(crate) number: EventNumber,
    pub(crate) last_time_ns: u64,
    pub(crate) scheduler: Scheduler,
    /// The task that executed user code last.
    pub(crate) current: Tid,
    pub(crate) root: Tid,
    pub(crate) root_status: Option<i32>,
    /// The task that was resumed last: until `current` is, another one.
    pub(crate) last_run: Option<Tid>,
    program: String,
    /// Tasks that entered a system call whose `SyscallEnter` is not recorded yet, in order of their intervals.
    pub(crate) pending_entries: Vec<PendingEntry>,
    /// Reports about tasks that the kernel attached before we know them.
    pub(crate) early: HashMap<Tid, Report>,
    /// State of tasks that trace others.
    pub(crate) tracers: Tracers,
    /// True if the current task has called `sched_yield`: others go first.
    pub(crate) yields: bool,
    /// True if some task has opened `/proc/PID/mem`.
    pub(crate) memory_files: bool,
    /// True if a `status` of `/proc` has been opened, which would show rr.
    pub(crate) status_files: bool,
    /// True if some task may have a limit of the size of files (`RLIMIT_FSIZE`): a write beyond it
    /// causes a signal.
    pub(crate) file_sizes_limited: bool,
    /// System calls (and ioctl requests) that the user has been warned about.
    pub(crate) warned: std::collections::HashSet<i64>,
    pub(crate) stats: Stats,
    /// The signals that killed processes, the first [`CRASHES`] of them.
    pub(crate) crashes: Vec<Crash>,
    /// The ticker, while the recording goes on.
    pub(crate) ticker: Option<Ticker>,
    /// Number of short ticks since the last long one.
    pub(crate) short_ticks: u32,
    /// The tasks that wait for locks.
    pub(crate) contention: Contention,
    /// The address of a lock that was just dropped, if a task waits for it in vain.
    pub(crate) handed_over: Option<Addr>,
    /// Time at which all reports of tasks were last handled, as a time of [`tsc::now`].
    pub(crate) noted: Duration,
    /// States of tasks in the kernel.
    pub(crate) states: procfs::States,
    /// The counter that `rdtsc` reads, once it is needed.
    counter: OnceCell<Counter>,
}

impl RecordSession {
    /// Starts `command`. `writer` gets the events; `capture` the checkpoints.
    pub fn start(
        command: &Command,
        options: Options,
        writer: TraceWriter,
        capture: Capture,
    ) -> Result<RecordSession> {
        let launched = launch::launch(command)?;
        let tid = launched.task.tid();
        let mut session = RecordSession {
            tasks: Tasks::default(),
            spaces: BTreeMap::new(),
            mapped: Mapped::default(),
            known_sites: KnownSites::default(),
            objects: Objects::default(),
            besides: Besides::default(),
            capture,
            files: Arc::clone(writer.files()),
            scheduler: Scheduler::new(options.schedule),
            options,
            last_space: 0,
            writer,
            started: tsc::now(),
            number: EventNumber(0),
            last_time_ns: 0,
            current: tid,
            root: tid,
            root_status: None,
            last_run: None,
            program: launched.program.display().to_string(),
            pending_entries: Vec::new(),
            early: HashMap::new(),
            tracers: Tracers::default(),
            yields: false,
            memory_files: false,
            status_files: false,
            file_sizes_limited: limits_file_sizes(0),
            warned: Default::default(),
            stats: Stats::default(),
            crashes: Vec::new(),
            ticker: None,
            short_ticks: 0,
            contention: Contention::default(),
            handed_over: None,
            noted: Duration::ZERO,
            states: procfs::States::default(),
            counter: OnceCell::new(),
        };
        session.first_exec(launched.task)?;
        Ok(session)
    }

    /// The counter that `rdtsc` reads.
    pub(crate) fn counter(&self) -> Counter {
        *self.counter.get_or_init(|| self.options.measurement.end())
    }

    /// The program's file, for messages.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    /// The program's first process.
    pub fn root(&self) -> Tid {
        self.root
    }

    /// Handles the error that a task was killed while the recorder worked on it (`tid` ran last): its
    /// end will be reported.
    pub(crate) fn survive(&mut self, tid: Tid, result: Result<()>) -> Result<()> {
        match result {
            Err(Error::Tracee(rr_tracee::Error::Died(dead))) if self.tasks.contains_key(&dead) => {
                self.dying(dead);
                match wait(Some(dead), true) {
                    Some(report) => self.note(report),
                    // Reaped already, in the middle of something else: then no report will come. (The
                    // task may still exist, for its parent.)
                    None if nix::errno::Errno::last() == nix::errno::Errno::ECHILD => {
                        self.gone(dead, libc::SIGKILL)
                    }
                    None => Ok(()),
                }
            }
            // Its end has already been noticed and recorded, in the middle of something else.
            Err(Error::Tracee(rr_tracee::Error::Died(dead))) if dead == tid => Ok(()),
            // A dying task has no memory, which causes strange errors.
            Err(e @ (Error::Tracee(_) | Error::Unexpected { .. })) => match is_dying(tid) {
                Some(report) => self.note(report),
                None => Err(e),
            },
            other => other,
        }
    }

    fn dying(&mut self, tid: Tid) {
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.state = State::InKernel(Running::newborn(tid));
        }
    }

    /// Makes one step of a runnable task: resumes it, or handles its stop. If the stop was reported
    /// just now (`fresh`), it is known to be its last.
    pub(crate) fn advance(&mut self, tid: Tid, fresh: bool) -> Result<()> {
        // Another task may have killed this one meanwhile (exec, exit_group). Then it stands at its
        // exit stop, which must not be taken for the known stop: if a leader were resumed from there,
        // it would be gone and never be reported.
        if !fresh
            && self.tasks.len() > 1
            && let Some(report) = wait(Some(tid), true)
        {
            self.note(report)?;
            if !self.tasks.contains_key(&tid) {
                return Ok(());
            }
        }
        match self.task_mut(tid)?.take_state() {
            State::Ready(stopped) if self.is_stop_due(tid)? => {
                self.task_mut(tid)?.state = State::Ready(stopped);
                self.stop_as_due(tid)
            }
            State::Ready(mut stopped) => {
                self.abort_if_preempted(tid, &mut stopped)?;
                if self.wants_step(tid)? {
                    self.begin_step(tid, &mut stopped)?;
                }
                self.go_on(tid, stopped)
            }
            State::Reported(stopped, stop) => self.handle(tid, stopped, stop),
            state @ (State::InKernel(_) | State::Busy) => {
                self.task_mut(tid)?.state = state;
                Ok(())
            }
        }
    }

    /// The time since the recording began.
    pub(crate) fn now(&self) -> Duration {
        tsc::now() - self.started
    }

    /// Lets a task run to its next stop.
    fn go_on(&mut self, tid: Tid, stopped: Stopped) -> Result<()> {
        let stopped = self.settle_snapshots(tid, stopped)?;
        let stopped = self.give_ring(tid, stopped)?;
        self.tell_due(tid)?;
        self.tell_library(tid)?;
        // In the middle of an interval, "before the next instruction" does not name a place.
        let due = !self.task(tid)?.between && stopped.signal_due()?;
        self.ask_mask(tid, &stopped)?;
        let task = self.task_mut(tid)?;
        task.due = due;
        task.ran = true;
        self.last_run = Some(tid);
        let running = stopped.resume(Resume::Cont, None)?;
        self.await_stop(tid, running)
    }

    fn is_in_kernel(&self, tid: Tid) -> bool {
        matches!(self.task(tid).map(|t| &t.state), Ok(State::InKernel(_)))
    }

    /// Waits until the task stops. Other tasks need not be checked, because it executes user code, or a
    /// call that cannot block.
    pub(crate) fn await_stop(&mut self, tid: Tid, running: Running) -> Result<()> {
        let several = self.tasks.len() > 1;
        if let Some(ticker) = &mut self.ticker {
            ticker.make_short(several)?;
        }
        let task = self.task_mut(tid)?;
        task.state = State::InKernel(running);
        // If a task stops again and again, ticks come while the recorder works, and none ends the wait.
        if task.call.is_none() && take_tick() {
            self.on_tick(tid)?;
            if !self.is_in_kernel(tid) {
                return Ok(());
            }
        }
        loop {
            match wait_for_tick(Some(tid), false) {
                Some(report) => return self.note(report),
                None if nix::errno::Errno::last() == nix::errno::Errno::EINTR => {
                    take_tick();
                    if Running::newborn(tid).is_lost() {
                        return Ok(());
                    }
                    self.on_tick(tid)?;
                }
                None => return Ok(()),
            }
            // Handling the other tasks may have reported this one.
            if !self.is_in_kernel(tid) {
                return Ok(());
            }
        }
    }

    /// Waits until the task stops or is found to sleep in the kernel. Then others can run.
    pub(crate) fn await_call(&mut self, tid: Tid, running: Running) -> Result<()> {
        self.task_mut(tid)?.state = State::InKernel(running);
        // No other task could run. (A dead task that we have not reaped counts, because its parent may
        // wait for it.)
        while self.tasks.len() == 1 && !self.is_time_over() {
            match self.sleep() {
                Some(report) => {
                    self.note(report)?;
                    if report.tid == tid {
                        return Ok(());
                    }
                }
                None if nix::errno::Errno::last() == nix::errno::Errno::ECHILD => return Ok(()),
                None => {}
            }
        }
        loop {
            // SAFETY: sched_yield has no arguments.
            unsafe { libc::sched_yield() };
            if let Some(report) = wait(Some(tid), true) {
                return self.note(report);
            }
            match self.states.of(tid) {
                Ok('R') => {}
                // The task waits for a disk, or for a lock in the kernel. Neither takes long. After the
                // lock it may sleep for another task, so its state is checked again.
                Ok('D') => std::thread::sleep(std::time::Duration::from_micros(20)),
                // A stop that the next wait reports.
                Ok('t') => {}
                _ => break,
            }
        }
        self.note_pending_entry(tid);
        Ok(())
    }

    /// The task stays in the kernel while others run.
    pub(crate) fn enter_kernel(&mut self, tid: Tid, running: Running) -> Result<()> {
        self.task_mut(tid)?.state = State::InKernel(running);
        self.note_pending_entry(tid);
        Ok(())
    }

    /// Handles the report of a wait.
    pub(crate) fn note(&mut self, report: Report) -> Result<()> {
        let tid = report.tid;
        let Some(task) = self.tasks.get_mut(&tid) else {
            return self.note_stranger(report);
        };
        let waited = match task.take_state() {
            State::InKernel(running) => running.waited(report),
            State::Ready(stopped) | State::Reported(stopped, _) => stopped.overtaken(report),
            State::Busy => Running::newborn(tid).waited(report),
        };
        match waited {
            Ok(Waited::Stopped(stopped, stop)) => {
                if let (Stop::Exiting, Some(tracee)) = (stop, &mut task.tracee) {
                    // Death also ends a stop for a tracer.
                    tracee.phase = Phase::Running;
                }
                task.state = State::Reported(stopped, stop);
                Ok(())
            }
            Ok(Waited::Gone(status)) => self.gone(tid, status),
            Err(rr_tracee::Error::Died(_)) => {
                self.dying(tid);
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) fn gone(&mut self, tid: Tid, status: i32) -> Result<()> {
        if self.tasks.get(&tid).is_some_and(|t| !t.exited) {
            // If the task was on its way into a call, that ended its interval.
            self.flush_entries()?;
            let (mut ops, mut left) = self.left_in_objects(tid)?;
            let (more, writes) = self.left_in_space(tid, true)?;
            ops.extend(more);
            left.extend(writes);
            if libc::WIFSIGNALED(status) {
                let tgid = self.task(tid)?.tgid;
                self.group_is_dying(tgid);
            }
            self.record_exit(tid, status, ops, left)?;
        }
        self.tracee_is_gone(tid, status)?;
        self.tasks.remove(&tid);
        self.scheduler.remove(tid);
        self.contention.forget(tid);
        if tid == self.root {
            self.root_status = Some(status);
        }
        Ok(())
    }

    /// Removes an address space that has no task any more.
    pub(crate) fn leave_space(&mut self, id: SpaceId) {
        if !self.tasks.is_inhabited(id) {
            self.spaces.remove(&id);
            self.capture.let_go(id);
        }
    }

    /// Lets the parent that waited for `child` (`vfork`) continue.
    pub(crate) fn release_vfork(&mut self, child: Tid) -> Result<()> {
        let mut released = Vec::new();
        for task in self.tasks.matching_mut(|t| t.held_by == Some(child)) {
            task.held_by = None;
            released.push(task.tid);
        }
        released
            .into_iter()
            .try_for_each(|tid| self.tracee_is_released(tid, child))
    }

    pub(crate) fn task(&self, tid: Tid) -> Result<&Task> {
        self.tasks
            .get(&tid)
            .ok_or(Error::Tracee(rr_tracee::Error::Died(tid)))
    }

    pub(crate) fn task_mut(&mut self, tid: Tid) -> Result<&mut Task> {
        self.tasks
            .get_mut(&tid)
            .ok_or(Error::Tracee(rr_tracee::Error::Died(tid)))
    }

    pub(crate) fn space_mut(&mut self, id: SpaceId) -> &mut Space {
        self.spaces.entry(id).or_default()
    }

    /// A thread has taken over the tid of its group's leader (exec): `thread` was `former` and is now
    /// `tid`. The events up to that of the exec still have the former tid.
    pub(crate) fn rename_task(&mut self, tid: Tid, former: Tid, mut thread: Task) {
        thread.tid = tid;
        thread.memory = rr_tracee::Memory::of(tid);
        thread.recorded_as = Some(former);
        for pending in &mut self.pending_entries {
            if pending.tid == former {
                pending.tid = tid;
            }
        }
        let is_ready = thread.is_runnable();
        self.tasks.insert(tid, thread);
        self.rename_tracer(tid, former);
        // News of the leader must not count for the thread.
        self.tell_scheduler();
        self.scheduler.rename(former, tid);
        self.scheduler.set_ready(tid, is_ready);
    }

    /// Adds a new task.
    pub(crate) fn add_task(&mut self, mut task: Task) {
        let (tid, is_ready) = (task.tid, task.is_runnable());
        task.patience = Patience::new(self.options.schedule.chaos.is_some());
        self.tasks.insert(tid, task);
        // News of a task that had this tid before must not count for this one.
        self.tell_scheduler();
        self.scheduler.add(tid, procfs::nice(tid));
        self.scheduler.set_ready(tid, is_ready);
    }

    /// After a call that changes nice values: only the kernel knows whose.
    pub(crate) fn refresh_priorities(&mut self) {
        for tid in self.tasks.keys() {
            self.scheduler.set_nice(*tid, procfs::nice(*tid));
        }
    }
}

/// Returns whether a process (0: our own) has a limit of the size of files.
pub(crate) fn limits_file_sizes(pid: i32) -> bool {
    limits::soft(Tid(pid), libc::RLIMIT_FSIZE).is_some_and(|limit| limit != libc::RLIM_INFINITY)
}

/// The report of a task's end, if that comes soon.
fn is_dying(tid: Tid) -> Option<Report> {
    const NEAR: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + NEAR;
    while Instant::now() < deadline {
        if let Some(report) = wait(Some(tid), true) {
            let exiting = report.status >> 16 == libc::PTRACE_EVENT_EXIT;
            return (exiting || report.is_gone()).then_some(report);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}
