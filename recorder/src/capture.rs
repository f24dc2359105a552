//! Checkpoints while recording: freezing the processes.
//!
//! At the first event at which it is possible after every N events, each address space gets a source of its
//! pages: a fork of a stopped task (made by a remote `clone`, kept frozen), or, if all its tasks are blocked in
//! the kernel, the process itself, read in place until one of them stops (I3). The image says what replay
//! would have at this event (I4). Then the writer has it all, and recording goes on.
//!
//! *A frozen fork must be invisible to the program.* It
//! * is a child of ours, not of the program's: it is made by a helper that dies at once, and is reaped there
//!   and then. So no `SIGCHLD` comes, no `wait4` sees it, and it is not among the process's children;
//! * shares the descriptor table for a moment (`CLONE_FILES`), and then takes an empty one of its own
//!   (`close_range` with `CLOSE_RANGE_UNSHARE`): it never holds a pipe, a socket or a lock;
//! * has its own process group, so that `kill(0, …)` does not reach it;
//! * is killed as soon as its pages are read, or when a file that it keeps busy is to be written or sealed.
//!
//! Processes in a pid namespace of their own cannot be forked without a trace: they are read in place, and wait for it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rr_checkpoint::{
    CaptureRequest, CheckpointWriter, ObjectImage, ObjectSource, Outcome, SessionImage, SharedSource,
    SpaceImage, SpaceSource, TaskImage, copy_unforkable,
};
use rr_tracee::memory::ReadMemory;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::remote::Remote;
use rr_tracee::task::{Report, Resume, Waited, wait};
use rr_tracee::{Backing, Memory, ObjectId, ObjectState, Registers, Running, SpaceId, Stop, Stopped, Tid};

use crate::error::Result;
use crate::session::RecordSession;
use crate::syscall::is_restart;
use crate::task::{State, Task};

const CLOSE_RANGE_UNSHARE: u64 = 2;
const CLONE_FILES: u64 = libc::CLONE_FILES as u64;

/// The checkpoints of one recording.
#[derive(Debug, Default)]
pub struct Capture {
    writer: Option<CheckpointWriter>,
    interval: u64,
    next_at: u64,
    /// Rather let the program wait for the writer than skip a checkpoint.
    patient: bool,
    /// Frozen forks that are alive.
    forks: BTreeSet<Tid>,
    /// Processes of the program that have made themselves subreapers.
    subreapers: BTreeSet<Tid>,
    /// What the writer reads, or has read.
    sources: Vec<SharedSource>,
    /// Checkpoints that were due but could not be taken.
    skipped: u64,
}

impl Capture {
    /// No checkpoints.
    pub fn off() -> Capture {
        Capture::default()
    }

    /// A checkpoint every `interval` events, given to `writer`. If that falls behind, checkpoints are skipped, or
    /// the program waits for it (`patient`).
    pub fn every(interval: u64, writer: CheckpointWriter, patient: bool) -> Capture {
        Capture {
            writer: Some(writer),
            interval,
            next_at: interval,
            patient,
            ..Capture::default()
        }
    }

    /// Whether checkpoints are taken at all.
    pub(crate) fn is_on(&self) -> bool {
        self.writer.is_some()
    }

    /// How many checkpoints were skipped because the writer was behind or a process could not be forked.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Waits for the writer.
    pub(crate) fn finish(&mut self) -> Vec<Outcome> {
        if self.skipped > 0 {
            tracing::warn!(
                "{} checkpoints were skipped: the writer was behind or a fork failed",
                self.skipped
            );
        }
        match self.writer.take().map(CheckpointWriter::finish) {
            Some(Ok(summary)) => summary.outcomes,
            Some(Err(e)) => {
                tracing::warn!("{e}");
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// Gives up what is not written yet.
    pub(crate) fn abandon(&mut self) {
        // The writer ends early when it is dropped.
        self.writer = None;
    }

    /// A process is a subreaper (prctl(2)) now, or is none any more.
    pub(crate) fn note_subreaper(&mut self, tgid: Tid, on: bool) {
        if on {
            self.subreapers.insert(tgid);
        } else {
            self.subreapers.remove(&tgid);
        }
    }

    /// Takes a report if it is about a frozen fork.
    pub(crate) fn fork_is_gone(&mut self, report: Report) -> bool {
        if report.is_gone() {
            self.forks.remove(&report.tid)
        } else {
            self.forks.contains(&report.tid)
        }
    }

    /// Makes a frozen fork of a stopped task. `None` if the kernel does not allow another process.
    ///
    /// ```text
    /// task ──clone(VM)──► helper ──clone──► frozen
    ///                     exits             becomes a child of rr, its subreaper for this moment
    /// ```
    fn fork(&mut self, tgid: Tid, stopped: Stopped) -> Result<(Stopped, Option<Tid>)> {
        let (stopped, helper) = clone_task(stopped, tgid, CLONE_FILES | libc::CLONE_VM as u64)?;
        let Some(helper) = helper else {
            return Ok((stopped, None));
        };
        let helper_tid = helper.tid();
        let frozen = clone_task(helper, helper_tid, CLONE_FILES).map(|(_, frozen)| frozen);
        subreaper(true);
        rr_tracee::task::kill(helper_tid);
        while wait(Some(helper_tid), false).is_some_and(|report| !report.is_gone()) {}
        subreaper(false);
        let args = [
            helper_tid.0 as u64,
            0,
            (libc::__WALL | libc::WNOHANG) as u64,
            0,
            0,
            0,
        ];
        // If the helper was killed, there is no fork; if the task is, the fork must not be forgotten.
        let frozen = frozen.unwrap_or(None);
        self.forks.extend(frozen.as_ref().map(Stopped::tid));
        let reaped = Remote::new(stopped, tgid)
            .and_then(|remote| remote.call(libc::SYS_wait4, args))
            .and_then(|(remote, _)| remote.finish());
        if let (Err(_), Some(frozen)) = (&reaped, &frozen) {
            rr_tracee::task::kill(frozen.tid());
        }
        let stopped = reaped?;
        let Some(frozen) = frozen else {
            return Ok((stopped, None));
        };
        let tid = frozen.tid();
        let prepared = Remote::new(frozen, tid)
            .and_then(|r| {
                r.must(
                    "close_range",
                    libc::SYS_close_range,
                    [0, u32::MAX.into(), CLOSE_RANGE_UNSHARE, 0, 0, 0],
                )
            })
            .and_then(|(r, _)| r.must("setpgid", libc::SYS_setpgid, [0; 6]))
            .and_then(|(r, _)| r.finish().map(drop));
        if let Err(e) = prepared {
            tracing::warn!("cannot prepare a frozen fork: {e}");
            rr_tracee::task::kill(tid);
            return Ok((stopped, None));
        }
        Ok((stopped, Some(tid)))
    }

    /// Kills all frozen forks, at the end of the recording.
    pub(crate) fn kill_forks(&mut self) {
        self.forks.iter().for_each(|fork| rr_tracee::task::kill(*fork));
    }

    /// Ends all frozen forks, after a moment of patience for the writer. Says whether there were any.
    pub(crate) fn release_forks(&mut self) -> bool {
        if self.forks.is_empty() {
            return false;
        }
        let patience = Instant::now() + Duration::from_millis(100);
        for source in std::mem::take(&mut self.sources) {
            while !source.is_finished() && Instant::now() < patience {
                std::thread::sleep(Duration::from_micros(200));
            }
            source.abandon("the program wants to write to an executable that its frozen processes kept busy");
        }
        for fork in std::mem::take(&mut self.forks) {
            rr_tracee::task::kill(fork);
            while wait(Some(fork), false).is_some_and(|report| !report.is_gone()) {}
        }
        true
    }
}

/// Lets a stopped task clone itself; the clone is stopped and tells us nothing but what we ask for.
fn clone_task(stopped: Stopped, tgid: Tid, flags: u64) -> Result<(Stopped, Option<Stopped>)> {
    let (mut remote, _) = Remote::new(stopped, tgid)?.call(libc::SYS_clone, [flags, 0, 0, 0, 0, 0])?;
    let child = remote.take_child();
    let stopped = remote.finish()?;
    let Some(child) = child else {
        return Ok((stopped, None));
    };
    // Killed meanwhile? Then there is no fork, and its end is reported to whoever waits next.
    let first = match Running::newborn(child).wait() {
        Ok(Waited::Stopped(new, Stop::Event)) => Some(new),
        Ok(Waited::Stopped(dying, _)) => {
            dying.resume(Resume::Cont, None)?;
            None
        }
        Ok(Waited::Gone(_)) | Err(_) => None,
    };
    // Above all, its death must not wait for us.
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
    let new = first.filter(|new| new.set_options(options).is_ok());
    Ok((stopped, new))
}

/// Whether orphans among our descendants become our children (prctl(2), `PR_SET_CHILD_SUBREAPER`).
fn subreaper(on: bool) {
    // SAFETY: prctl with plain numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(on), 0, 0, 0) };
}

/// Whether a task is in a state that an image can describe.
fn is_capturable(task: &Task) -> bool {
    match &task.state {
        // While a signal is about to be delivered with the mask of a sigsuspend or ppoll, the task may make no calls
        // for us: they would put the old mask back.
        State::Ready(_) => {
            !task.is_mid_interval()
                && task.restarting.is_none()
                && task.boundary.result() != -i64::from(libc::EINTR)
        }
        State::Reported(_, stop) => *stop == Stop::Syscall && task.call.is_some(),
        State::InKernel(_) => {
            task.exited
                || task.call.as_ref().is_some_and(|c| c.xstate.is_some())
                // Stopped by job control after an event, until a continue comes.
                || (task.group_stop.is_some() && !task.is_mid_interval())
        }
        State::Busy => false,
    }
}

impl RecordSession {
    /// Takes a checkpoint if one is due and `current`, which has just had an event, and all others allow it.
    pub(crate) fn checkpoint_if_due(&mut self, current: Tid) -> Result<()> {
        if !self.capture.is_on() || self.last_event().0 < self.capture.next_at {
            return Ok(());
        }
        let ready = self
            .tasks
            .get(&current)
            .is_some_and(|t| matches!(t.state, State::Ready(_)));
        if !ready || !self.tasks.values().all(is_capturable) {
            return Ok(());
        }
        self.capture.next_at = self.last_event().0 + self.capture.interval;
        while self.capture.patient && self.capture.writer.as_mut().is_some_and(|w| !w.has_room()) {
            std::thread::sleep(Duration::from_micros(200));
        }
        if self.capture.writer.as_mut().is_some_and(|w| !w.has_room()) {
            self.capture.skipped += 1;
            return Ok(());
        }
        let began = Instant::now();
        self.flush_entries()?;
        let Some(mut request) = self.freeze()? else {
            self.capture.skipped += 1;
            return Ok(());
        };
        request.pause_us = began.elapsed().as_micros() as u64;
        self.start_segment()?;
        self.capture.sources.retain(|source| !source.is_finished());
        self.capture
            .sources
            .extend(request.spaces.iter().map(|s| s.source.clone()));
        if let Some(writer) = &mut self.capture.writer
            && !writer.submit(request)
        {
            self.capture.skipped += 1;
        }
        Ok(())
    }

    /// Lets the program's own subreapers be none for a moment, or be some again; `stopped` is a task of `tgid`.
    /// `false` if one of them is blocked in the kernel and cannot be asked, or some task is dying.
    fn set_subreapers(&mut self, on: bool, tgid: Tid, mut stopped: Stopped) -> Result<(Stopped, bool)> {
        let args = [libc::PR_SET_CHILD_SUBREAPER as u64, u64::from(on), 0, 0, 0, 0];
        // A task that is on its way out may be leaving orphans just now: they belong to the program's reaper.
        if !on && !self.capture.subreapers.is_empty() && self.tasks.values().any(|t| t.exited) {
            return Ok((stopped, false));
        }
        for reaper in self.capture.subreapers.clone() {
            if reaper == tgid {
                stopped = Remote::new(stopped, tgid)?
                    .call(libc::SYS_prctl, args)?
                    .0
                    .finish()?;
                continue;
            }
            let stopped_one = |t: &&Task| t.tgid == reaper && !t.exited && matches!(t.state, State::Ready(_));
            let Some(tid) = self.tasks.values().find(stopped_one).map(|t| t.tid) else {
                if self.tasks.values().any(|t| t.tgid == reaper && !t.exited) {
                    return Ok((stopped, false));
                }
                self.capture.subreapers.remove(&reaper);
                continue;
            };
            if let State::Ready(other) = self.task_mut(tid)?.take_state() {
                let other = Remote::new(other, reaper)?
                    .call(libc::SYS_prctl, args)?
                    .0
                    .finish()?;
                self.task_mut(tid)?.state = State::Ready(other);
            }
        }
        Ok((stopped, true))
    }

    /// Freezes everything; `None` if a process could not be forked.
    fn freeze(&mut self) -> Result<Option<CaptureRequest>> {
        let image = self.image()?;
        let mut request = CaptureRequest {
            image,
            spaces: Vec::new(),
            objects: Vec::new(),
            pause_us: 0,
        };
        let ids: Vec<SpaceId> = self.spaces.keys().copied().collect();
        for id in ids {
            let Some(leader) = self.leader(id) else { continue };
            let extra = copy_unforkable(leader, &self.spaces[&id].model)?;
            let forkable = is_forkable(leader);
            let source = match self.task_mut(leader)?.take_state() {
                State::Ready(stopped) if forkable => {
                    let (stopped, fork) = self.fork_task(leader, stopped)?;
                    self.task_mut(leader)?.state = State::Ready(stopped);
                    fork.map(SharedSource::frozen)
                }
                State::Reported(stopped, stop) if forkable && may_call(&stopped)? => {
                    let (stopped, fork) = self.fork_task(leader, stopped)?;
                    self.task_mut(leader)?.state = State::Reported(stopped, stop);
                    fork.map(SharedSource::frozen)
                }
                state => {
                    self.task_mut(leader)?.state = state;
                    let source = SharedSource::in_place(leader);
                    self.space_mut(id).in_place.push(source.clone());
                    Some(source)
                }
            };
            let Some(source) = source else { return Ok(None) };
            request.spaces.push(SpaceSource {
                space: id,
                source,
                extra,
            });
        }
        for object in request.image.objects.iter().filter(|o| o.content.is_none()) {
            let source = match self.mapped.file(object.id) {
                Some(file) => {
                    let parts = request.image.mapped_parts(object.id);
                    let failed = |e: std::io::Error| rr_tracee::Error::Proc {
                        path: format!("shared memory object {}", object.id.0),
                        why: e.to_string(),
                    };
                    ObjectSource::from_file(object.id, file, &parts).map_err(failed)?
                }
                None => ObjectSource {
                    object: object.id,
                    pages: self.mapped_pages(object.id)?,
                },
            };
            request.objects.push(source);
        }
        Ok(Some(request))
    }

    /// The contents of an object that is no file, from one of its mappings (which show all of it).
    fn mapped_pages(&self, object: ObjectId) -> Result<Vec<(u64, Vec<u8>)>> {
        for (id, space) in &self.spaces {
            let shows = |m: &&rr_tracee::Mapping| m.backing == Backing::Shared { object, offset: 0 };
            if let (Some(mapping), Some(leader)) = (space.model.iter().find(shows), self.leader(*id)) {
                let bytes = Memory::of(leader).read_vec(mapping.range.start, mapping.range.len() as usize)?;
                return Ok(vec![(0, bytes)]);
            }
        }
        Ok(Vec::new())
    }

    fn fork_task(&mut self, tid: Tid, stopped: Stopped) -> Result<(Stopped, Option<Tid>)> {
        let tgid = self.task(tid)?.tgid;
        // A frozen fork shall become our child and nobody else's.
        let (stopped, possible) = self.set_subreapers(false, tgid, stopped)?;
        let (stopped, fork) = if possible {
            self.capture.fork(tgid, stopped)?
        } else {
            (stopped, None)
        };
        let (stopped, _) = self.set_subreapers(true, tgid, stopped)?;
        Ok((stopped, fork))
    }

    /// The task to fork for an address space: a stopped one if there is one.
    pub(crate) fn leader(&self, space: SpaceId) -> Option<Tid> {
        let rank = |t: &Task| match t.state {
            State::Ready(_) => 0,
            State::Reported(..) => 1,
            State::InKernel(_) | State::Busy => 2,
        };
        self.tasks
            .values()
            .filter(|t| t.space == space && !t.exited)
            .min_by_key(|t| rank(t))
            .map(|t| t.tid)
    }

    /// The image that replay would have after the last event.
    fn image(&self) -> Result<SessionImage> {
        let spaces: Vec<SpaceImage> = self
            .spaces
            .iter()
            .map(|(id, space)| SpaceImage {
                id: *id,
                space: space.model.clone(),
            })
            .collect();
        let mut tasks = Vec::new();
        for task in self.tasks.values().filter(|t| !t.exited) {
            let (in_syscall, regs) = match &task.call {
                Some(call) => (true, call.entry),
                None => (
                    false,
                    Registers {
                        orig_rax: NOT_IN_SYSCALL,
                        ..task.boundary
                    },
                ),
            };
            let at_entry = task.call.as_ref().and_then(|c| c.xstate.clone());
            let known = at_entry.or_else(|| task.group_stop.clone());
            let xstate = match (known, &task.state) {
                (Some(xstate), _) => xstate,
                (None, State::Ready(stopped) | State::Reported(stopped, _)) => stopped.xstate()?,
                (None, State::InKernel(_) | State::Busy) => Default::default(),
            };
            tasks.push(TaskImage {
                tid: task.tid,
                tgid: task.tgid,
                space: task.space,
                exe: task.exe.clone(),
                in_syscall,
                regs,
                xstate,
            });
        }
        let views = spaces.iter().flat_map(|s| s.space.objects());
        let mapped: BTreeSet<ObjectId> = views.map(|(object, ..)| object).collect();
        let objects = mapped
            .into_iter()
            .filter_map(|id| Some((id, self.objects.get(id)?)))
            .map(|(id, ObjectState { size, content })| ObjectImage { id, size, content })
            .collect();
        Ok(SessionImage {
            event: self.last_event(),
            time_ns: self.last_time_ns(),
            spaces,
            tasks,
            objects,
        })
    }

    /// Before a task of this space goes on: what the writer reads in place becomes a fork.
    pub(crate) fn settle_snapshots(&mut self, tid: Tid, stopped: Stopped) -> Result<Stopped> {
        let id = self.task(tid)?.space;
        let sources = match self.spaces.get_mut(&id) {
            Some(space) if !space.in_place.is_empty() => std::mem::take(&mut space.in_place),
            _ => return Ok(stopped),
        };
        if !may_call(&stopped)? || !is_forkable(tid) {
            self.await_readers(&sources);
            return Ok(stopped);
        }
        let mut held = Some(stopped);
        let mut failure = None;
        for source in sources {
            source.replace_with(|| {
                let (stopped, fork) = self
                    .fork_task(tid, held.take()?)
                    .map_err(|e| failure = Some(e))
                    .ok()?;
                held = Some(stopped);
                fork
            });
        }
        match (held, failure) {
            (Some(stopped), _) => Ok(stopped),
            (None, Some(e)) => Err(e),
            (None, None) => Err(rr_tracee::Error::Died(tid).into()),
        }
    }

    /// A task of this space dies. What is read in place is let finish for a moment, then given up.
    pub(crate) fn lose_snapshots(&mut self, id: SpaceId) {
        let Some(space) = self.spaces.get_mut(&id) else {
            return;
        };
        let sources = std::mem::take(&mut space.in_place);
        self.await_readers(&sources);
    }

    /// Lets the writer finish what it reads in place, for a moment; then gives these checkpoints up. Where none is to
    /// be skipped, the moment is as long as it takes.
    fn await_readers(&self, sources: &[SharedSource]) {
        let moment = if self.capture.patient { 60_000 } else { 50 };
        let patience = Instant::now() + Duration::from_millis(moment);
        for source in sources {
            while !source.is_finished() && Instant::now() < patience {
                std::thread::sleep(Duration::from_micros(200));
            }
            source.replace_with(|| None);
        }
    }
}

/// Whether a task can be forked for a snapshot unnoticed: not if its children are in another pid namespace than ours.
/// There the helper would take a number that the program's own children count on, or be the namespace's first
/// process and end it with its own end; and orphans would not become our children.
fn is_forkable(tid: Tid) -> bool {
    let ours = std::fs::read_link("/proc/self/ns/pid");
    // It leads nowhere while the new namespace has no process yet.
    let theirs = std::fs::read_link(format!("/proc/{tid}/ns/pid_for_children"));
    matches!((ours, theirs), (Ok(ours), Ok(theirs)) if ours == theirs)
}

/// Whether a task stopped at the exit of a system call can make remote calls now: not if the call was interrupted
/// (see [`is_capturable`]).
fn may_call(stopped: &Stopped) -> Result<bool> {
    let result = stopped.regs()?.result();
    Ok(!is_restart(result) && result != -i64::from(libc::EINTR))
}
