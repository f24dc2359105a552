//! Checkpoints while recording: freezing the processes.
//!
//! A checkpoint is taken at the first possible event after one is due ([`Schedule`]). Each address
//! space gets a source of its pages: a fork of a stopped task (made by a remote `clone`, kept frozen),
//! or, if all its tasks are blocked in the kernel, the process itself, read in place until one of its
//! tasks stops (I3). The image describes the state that replay would have at this event (I4). Then the
//! writer gets all of this, and recording goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rr_checkpoint::schedule::Progress;
use rr_checkpoint::{
    CaptureRequest, CheckpointWriter, Interval, ObjectSource, Outcome, Schedule, SessionImage, SharedSource,
    SpaceSource, TaskImage, copy_unforkable,
};
use rr_trace::event::EventNumber;
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Backing, Memory, ObjectId, SpaceId, Stop, Stopped, Tid, tsc};

use crate::call::syscall::is_restart;
use crate::checkpoint::baseline::Captured;
use crate::checkpoint::forks::is_forkable;
use crate::error::Result;
use crate::session::RecordSession;
use crate::world::task::{State, Task};

/// The checkpoints of one recording.
#[derive(Debug, Default)]
pub struct Capture {
    /// The writer of checkpoints. `None` if there are no checkpoints.
    pub(crate) writer: Option<CheckpointWriter>,
    pub(crate) schedule: Option<Schedule>,
    /// Number of buffered calls so far.
    calls: u64,
    /// Total time that the program has slept.
    slept: Duration,
    /// Time at which a task was interrupted in the middle of an interval for a due checkpoint.
    interrupted: Option<Duration>,
    /// True if the program waits for the writer instead of skipping a checkpoint.
    pub(crate) patient: bool,
    /// Live frozen forks.
    pub(crate) forks: BTreeSet<Tid>,
    /// Processes of the program that have made themselves subreapers.
    pub(crate) subreapers: BTreeSet<Tid>,
    /// Sources that the writer reads, or has read.
    pub(crate) sources: Vec<SharedSource>,
    /// Forks that live on after they were read, and forks that will, by address space ([`baseline`]).
    pub(crate) kept: BTreeMap<SpaceId, Vec<SharedSource>>,
    /// Number of checkpoints that were due but could not be taken.
    skipped: u64,
    /// Number of checkpoints that could not be written.
    failed: u64,
    /// Maximum number of bytes of events in the trace from one checkpoint to the next, whatever the schedule says.
    most_bytes: Option<u64>,
    /// Bytes of events in the trace, now and at the last checkpoint.
    bytes: u64,
    bytes_then: u64,
}

impl Capture {
    /// A recording without checkpoints.
    pub fn off() -> Capture {
        Capture::default()
    }

    /// A checkpoint every `interval`, given to `writer`. If the writer falls behind, checkpoints are
    /// skipped, or the program waits for it (`patient`).
    pub fn every(interval: Interval, writer: CheckpointWriter, patient: bool) -> Capture {
        Capture {
            writer: Some(writer),
            schedule: Some(Schedule::new(interval)),
            patient,
            ..Capture::default()
        }
    }

    /// Makes a checkpoint due also after so many bytes of events in the trace.
    pub fn with_most_bytes(mut self, bytes: Option<u64>) -> Capture {
        self.most_bytes = bytes;
        self
    }

    /// Returns whether the events since the last checkpoint take so many bytes that one is due.
    fn is_much(&self) -> bool {
        self.most_bytes
            .is_some_and(|most| self.bytes - self.bytes_then >= most)
    }

    /// Returns whether checkpoints are taken at all.
    pub(crate) fn is_on(&self) -> bool {
        self.writer.is_some()
    }

    /// Counts buffered calls.
    pub(crate) fn count_calls(&mut self, calls: u64) {
        self.calls += calls;
    }

    /// Counts time that the program has slept.
    pub(crate) fn count_sleep(&mut self, time: Duration) {
        self.slept += time;
    }

    /// Number of buffered calls until a checkpoint is due, if calls make it due. If a checkpoint is due
    /// already but could not be taken at the last event, it is tried again after a few calls.
    pub(crate) fn calls_left(&self, last: EventNumber) -> Option<u64> {
        let left = self.schedule.as_ref()?.calls_left(self.progress(last, 0))?;
        Some(if left == 0 { self.slack().max(1) } else { left })
    }

    /// Error that libraries' counts may have.
    pub(crate) fn slack(&self) -> u64 {
        self.schedule.as_ref().map_or(0, Schedule::slack)
    }

    /// Called when a task has executed user code without an event until `now` (since the recording
    /// began). Returns whether the task must be interrupted for a checkpoint: once for each checkpoint.
    pub(crate) fn must_interrupt(&mut self, now: Duration) -> bool {
        let time = now.saturating_sub(self.slept);
        let is_due = self.schedule.as_ref().is_some_and(|s| s.is_time(time));
        let is_wanted = is_due && self.interrupted.is_none();
        if is_wanted {
            self.interrupted = Some(now);
        }
        is_wanted
    }

    /// Waits until the checkpoint writer has read all frozen processes.
    pub(crate) fn wait_until_read(&self) {
        if let Some(writer) = &self.writer {
            writer.wait_until_read();
        }
    }

    pub(crate) fn progress(&self, last: EventNumber, time_ns: u64) -> Progress {
        Progress {
            events: last.0,
            calls: self.calls,
            time: Duration::from_nanos(time_ns).saturating_sub(self.slept),
        }
    }

    /// Number of checkpoints skipped because the writer was behind or a process could not be forked.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Skips a checkpoint that was due.
    fn miss(&mut self, now: Progress) {
        self.skipped += 1;
        self.bytes_then = self.bytes;
        if let Some(schedule) = &mut self.schedule {
            schedule.missed(now);
        }
    }

    /// Counts the checkpoints that could not be written. The outcomes do not pile up in a long recording.
    fn note_outcomes(&mut self) {
        if let Some(writer) = &mut self.writer {
            self.failed += failures(&writer.poll_done());
        }
    }

    /// Waits for the writer. Returns the number of checkpoints that could not be written.
    pub(crate) fn finish(&mut self) -> u64 {
        // An adaptive schedule has promised no number of checkpoints.
        let is_promised = self.schedule.as_ref().is_some_and(|s| !s.is_adaptive());
        if self.skipped > 0 && is_promised {
            tracing::warn!(
                "{} checkpoints were skipped: the writer was behind or a fork failed",
                self.skipped
            );
        }
        match self.writer.take().map(CheckpointWriter::finish) {
            Some(Ok(summary)) => self.failed += failures(&summary.outcomes),
            Some(Err(e)) => tracing::warn!("{e}"),
            None => {}
        }
        self.failed
    }

    /// Gives up checkpoints that are not written yet.
    pub(crate) fn abandon(&mut self) {
        // The writer ends early when it is dropped.
        self.writer = None;
    }
}

fn failures(outcomes: &[Outcome]) -> u64 {
    outcomes.iter().filter(|outcome| outcome.result.is_err()).count() as u64
}

/// Returns whether an image can describe a task's current state.
fn is_capturable(task: &Task) -> bool {
    match &task.state {
        // While a signal is about to be delivered with the mask of a sigsuspend or ppoll, the task must
        // not make remote calls, because they would restore the old mask.
        State::Ready(_) => {
            !task.is_mid_interval()
                && (task.is_stopped_for_tracer()
                    || task.restarting.is_none() && task.boundary.result() != -i64::from(libc::EINTR))
        }
        State::Reported(_, stop) => *stop == Stop::Syscall && task.call.is_some(),
        State::InKernel(_) => {
            task.exited
                || task.call.as_ref().is_some_and(|c| c.xstate.is_some())
                // Stopped by job control after an event, until a SIGCONT comes.
                || (task.group_stop.is_some() && !task.is_mid_interval())
        }
        State::Busy => false,
    }
}

impl RecordSession {
    /// Takes a checkpoint if one is due and `current`, which has just had an event, and all others allow it.
    pub(crate) fn checkpoint_if_due(&mut self, current: Tid) -> Result<()> {
        let now = self.capture.progress(self.last_event(), self.last_time_ns());
        self.capture.bytes = self.stored_bytes();
        let is_due = self.capture.schedule.as_ref().is_some_and(|s| s.is_due(now));
        if !is_due && !self.capture.is_much() {
            return Ok(());
        }
        self.checkpoint(current, now).map(drop)
    }

    /// Takes a checkpoint, if `current`, which has just had an event, and all others allow it. Returns
    /// whether it was tried.
    pub(crate) fn checkpoint(&mut self, current: Tid, now: Progress) -> Result<bool> {
        // Handle tasks that were killed meanwhile: they are not part of the checkpoint.
        self.note_all()?;
        let ready = self
            .tasks
            .get(&current)
            .is_some_and(|t| matches!(t.state, State::Ready(_)));
        if !ready || !self.tasks.values().all(is_capturable) {
            return Ok(false);
        }
        let interrupted = self.capture.interrupted.take();
        if let Some(writer) = self.capture.writer.as_ref().filter(|_| self.capture.patient) {
            writer.wait_for_room();
        }
        let has_room = self
            .capture
            .writer
            .as_mut()
            .is_some_and(CheckpointWriter::has_room);
        let began = tsc::now();
        if !has_room {
            self.capture.miss(now);
            return Ok(false);
        }
        self.flush_entries()?;
        let Some((mut request, captured)) = self.freeze()? else {
            self.capture.miss(now);
            return Ok(true);
        };
        let pause = tsc::now() - began;
        request.pause_us = pause.as_micros() as u64;
        // The time to name a place in the middle of an interval is part of the checkpoint's price.
        let to_point = interrupted.map_or(Duration::ZERO, |at| self.now().saturating_sub(pause + at));
        self.start_segment()?;
        self.capture.sources.retain(|source| !source.is_finished());
        self.capture
            .sources
            .extend(request.spaces.iter().map(|s| s.source.clone()));
        self.capture.bytes_then = self.capture.bytes;
        let (event, is_exposed) = (request.image.event, request.is_exposed());
        self.capture.note_outcomes();
        let submitted = self.capture.writer.as_mut().is_some_and(|w| w.submit(request));
        if submitted {
            self.set_baselines(event, captured);
        }
        if is_exposed {
            self.capture.wait_until_read();
        }
        match (submitted, &mut self.capture.schedule) {
            (true, Some(schedule)) => schedule.taken(now, pause + to_point),
            _ => self.capture.miss(now),
        }
        Ok(true)
    }

    /// Freezes everything. `None` if a process could not be forked.
    fn freeze(&mut self) -> Result<Option<(CaptureRequest, Vec<Captured>)>> {
        let image = self.image()?;
        let mut request = CaptureRequest {
            image,
            spaces: Vec::new(),
            objects: Vec::new(),
            pause_us: 0,
        };
        let mut captured = Vec::new();
        // Address spaces: a fork of each, or the process itself if it cannot be forked now.
        let ids: Vec<SpaceId> = self.spaces.keys().copied().collect();
        for id in ids {
            let Some(leader) = self.leader(id) else { continue };
            let extra = copy_unforkable(leader, &self.spaces[&id].model)?;
            let changes = self.changes(id, leader);
            let mut is_fork = true;
            let forkable = is_forkable(leader) && !self.task(leader)?.has_call_put_off();
            let source = match self.task_mut(leader)?.take_state() {
                State::Ready(stopped) if forkable && may_call(&stopped)? => {
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
                    is_fork = false;
                    let source = SharedSource::in_place(leader);
                    self.space_mut(id).in_place.push(source.clone());
                    Some(source)
                }
            };
            let Some(source) = source else { return Ok(None) };
            let one = Captured::new(id, &source, &self.task(leader)?.state, is_fork);
            one.keep(&changes);
            captured.push(one);
            request.spaces.push(SpaceSource {
                space: id,
                source,
                extra,
                changes,
            });
        }
        // Shared memory objects whose contents are not in the trace.
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
        Ok(Some((request, captured)))
    }

    /// The contents of an object that is no file, read from one of its mappings that show all of it.
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

    /// The task to fork for an address space: a stopped one if possible.
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
        let mut tasks = Vec::new();
        for task in self.tasks.values().filter(|t| !t.exited) {
            let (in_syscall, regs) = match &task.call {
                Some(call) => (true, call.entry),
                None => (false, task.boundary.outside_call()),
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
        let spaces = self.spaces.iter().map(|(id, space)| (*id, &space.model));
        let (event, time_ns) = (self.last_event(), self.last_time_ns());
        Ok(SessionImage::new(event, time_ns, spaces, tasks, &self.objects))
    }

    /// Before a task of this space continues: forks for the writer what it reads in place.
    pub(crate) fn settle_snapshots(&mut self, tid: Tid, stopped: Stopped) -> Result<Stopped> {
        let id = self.task(tid)?.space;
        self.disturb(id);
        let sources = match self.spaces.get_mut(&id) {
            Some(space) if !space.in_place.is_empty() => std::mem::take(&mut space.in_place),
            _ => return Ok(stopped),
        };
        if !may_call(&stopped)? || !is_forkable(tid) || self.task(tid)?.has_call_put_off() {
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

    /// A task of this space dies. The writer gets a moment to finish reading in place, and is then cut
    /// off.
    pub(crate) fn lose_snapshots(&mut self, id: SpaceId) {
        self.disturb(id);
        let Some(space) = self.spaces.get_mut(&id) else {
            return;
        };
        let sources = std::mem::take(&mut space.in_place);
        self.await_readers(&sources);
    }

    /// Notes that the memory of this space may change from now on.
    fn disturb(&mut self, id: SpaceId) {
        if let Some(baseline) = self.spaces.get_mut(&id).and_then(|space| space.baseline.as_mut()) {
            baseline.disturb();
        }
    }

    /// Gives the writer a moment to finish reading in place, then gives these checkpoints up. If no
    /// checkpoint may be skipped, the moment is as long as needed.
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

/// Returns whether a task stopped at the exit of a system call can make remote calls now: not if the
/// call was interrupted (see [`is_capturable`]).
pub(crate) fn may_call(stopped: &Stopped) -> Result<bool> {
    let result = stopped.regs()?.result();
    Ok(!is_restart(result) && result != -i64::from(libc::EINTR))
}
