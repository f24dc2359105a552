//! `ReplaySession`: plays the events of a trace back into tasks.
//!
//! Invariant I7: before an event is applied, the task has run to the place of the event, and its
//! registers are compared with the recorded ones. Nothing is retried or skipped.

mod tasks;

use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;

use rr_trace::event::{Event, EventKind, EventNumber, MemWrite, ObjectWrite, OutputSource, Stdio, TaskOp};
use rr_trace::{EventPosition, EventSource, TraceReader};
use rr_tracee::payload::Sent;
use rr_tracee::{AddrRange, ExtendedState, Registers, SpaceOp, Tid, tsc};

use crate::affinity;
use crate::buffer;
use crate::code::Code;
use crate::error::{Divergence, Error, Result, bad, failed};
use crate::events::Events;
use crate::family::Family;
use crate::frozen;
use crate::halt::{Halt, Pace};
use crate::interrupt::Never;
use crate::interval::Interval;
use crate::pending::{Pending, Stage};
use crate::position::Progress;
use crate::space::{close, collect, hits_our_code, perform};
use crate::sprint::Sprints;
use crate::stoppoints::Stoppoints;
use crate::task::Task;
use crate::world::World;
use crate::zygote;

/// One replay.
///
/// A session belongs to the thread that made it, because ptrace does. Its tasks end with the session.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use rr_replayer::{ReplaySession, cpu_for_replay};
/// use rr_trace::TraceReader;
/// use rr_tracee::cpus::Cpus;
///
/// let reader = Arc::new(TraceReader::open("trace".as_ref())?);
/// let cpu = cpu_for_replay(&Cpus::survey(), reader.header());
/// let mut session = ReplaySession::start(Arc::clone(&reader), Some(cpu))?;
/// while let Some(replayed) = session.step()? {
///     if let Some((_, bytes)) = replayed.output {
///         print!("{}", String::from_utf8_lossy(&bytes));
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ReplaySession {
    pub(crate) events: Events,
    pub(crate) world: World,
    pub(crate) code: Code,
    pub(crate) stoppoints: Stoppoints,
    pub(crate) interval: Interval,
    /// State of fast runs to execution points.
    pub(crate) sprints: Sprints,
    /// Forbids this thread to read the time-stamp counter: set at the first step, because the same
    /// thread makes all steps.
    without_tsc: Option<tsc::GivenUp>,
}

/// One replayed event.
#[derive(Debug)]
pub struct Replayed {
    /// The event.
    pub event: Arc<Event>,
    /// Bytes that the program wrote to standard output or error.
    pub output: Option<(Stdio, Vec<u8>)>,
}

impl ReplaySession {
    /// Starts a replay at the first event, with the replayed tasks bound to `cpu`.
    pub fn start(reader: Arc<TraceReader>, cpu: Option<usize>) -> Result<ReplaySession> {
        if reader.begins_at().is_some() {
            let first = reader.first_event();
            return Err(Error::NoBeginning { first });
        }
        let cursor = EventSource::new(Arc::clone(&reader)).from(EventNumber(1))?;
        let family = Family::new(&reader, cpu)?;
        Ok(ReplaySession::empty(reader, cursor, family))
    }

    /// Makes a session without tasks, whose next event is the cursor's.
    pub(crate) fn empty(
        reader: Arc<TraceReader>,
        cursor: EventPosition,
        family: Rc<Family>,
    ) -> ReplaySession {
        ReplaySession {
            events: Events::new(reader, cursor),
            world: World::new(family),
            code: Code::default(),
            stoppoints: Stoppoints::default(),
            interval: Interval::default(),
            sprints: Sprints::default(),
            without_tsc: None,
        }
    }

    /// Returns the last event that has been replayed.
    pub fn last_event(&self) -> EventNumber {
        self.events.last
    }

    /// Binds the replayed tasks, and future ones, to another CPU.
    pub fn bind(&mut self, cpu: usize) -> Result<()> {
        let tasks = self
            .world
            .tasks
            .values()
            .try_for_each(|task| affinity::bind(task.real, cpu));
        tasks
            .and_then(|()| self.world.backings.family.bind(cpu))
            .map_err(|errno| Error::Os {
                what: format!("binding a replayed task to CPU {cpu}"),
                source: errno.into(),
            })
    }

    /// Replays the next event. Returns `None` at the end of the trace.
    pub fn step(&mut self) -> Result<Option<Replayed>> {
        if !self.fetch()? {
            return Ok(None);
        }
        // Breakpoints are not looked for here: a caller that stops at breakpoints does not step by
        // events.
        if !self.sprint()? {
            while self.proceed(Pace::Free, &mut Never)? != Halt::Arrived {}
        }
        self.apply()
    }

    /// Makes sure that the next event is known. Returns `false` at the end of the trace.
    pub(crate) fn fetch(&mut self) -> Result<bool> {
        self.without_tsc.get_or_insert_with(tsc::GivenUp::new);
        tsc::renew();
        if self.interval.pending.is_none() {
            self.interval.pending = self.events.cursor.next()?.map(Pending::new);
        }
        Ok(self.interval.pending.is_some())
    }

    /// Gives the pending event's task the results of the buffered calls of its interval.
    pub(crate) fn load(&mut self) -> Result<()> {
        let Some(pending) = &self.interval.pending else {
            return Ok(());
        };
        if pending.stage != Stage::Fetched {
            return Ok(());
        }
        let event = Arc::clone(&pending.event);
        let mut changes = Vec::new();
        if !event.buffered.is_empty() {
            if event.kind.before().is_none() {
                return Err(bad(
                    &event,
                    "it has buffered calls, but nothing is executed before it",
                ));
            }
            let loaded = buffer::load(&self.task(&event)?.memory(), &event.buffered);
            changes = loaded.map_err(|f| f.at(event.number))?;
        }
        self.check_entered(&event)?;
        if let Some(pending) = &mut self.interval.pending {
            pending.changes = changes.into();
            pending.stage = Stage::Running;
        }
        Ok(())
    }

    /// Checks that a system call is entered once, and returns once.
    fn check_entered(&mut self, event: &Event) -> Result<()> {
        let EventKind::Syscall { entry, .. } = &event.kind else {
            return Ok(());
        };
        if entry.is_some() == self.task(event)?.in_syscall {
            return Err(bad(
                event,
                "a system call returns that was not entered, or is entered twice",
            ));
        }
        Ok(())
    }

    /// Applies the pending event, whose task has arrived.
    pub(crate) fn apply(&mut self) -> Result<Option<Replayed>> {
        let Some(pending) = &self.interval.pending else {
            return Ok(None);
        };
        let event = Arc::clone(&pending.event);
        let output = self.apply_event(&event)?;
        self.interval.pending = None;
        self.interval.progress = Progress::default();
        self.arm_marks();
        self.events.last = event.number;
        self.events.time_ns = event.time_ns;
        Ok(Some(Replayed { event, output }))
    }

    fn apply_event(&mut self, event: &Event) -> Result<Option<(Stdio, Vec<u8>)>> {
        let number = event.number;
        match &event.kind {
            EventKind::Start { exec, after, xstate } => {
                self.begin(event.tid, exec, number)?;
                self.settle(event, after, Some(xstate))?;
            }
            EventKind::SyscallEnter { .. } => self.task(event)?.in_syscall = true,
            EventKind::Syscall {
                entry,
                after,
                xstate,
                task: task_op,
                output,
                payload,
            } => {
                let task = self.task(event)?;
                let payload = match payload {
                    Some(recorded) => {
                        let entered = match entry {
                            Some(entry) => *entry,
                            None => task.regs().map_err(|source| failed(event, source))?,
                        };
                        Some((Sent::by(&entered, after.result()), *recorded))
                    }
                    None => None,
                };
                task.in_syscall = false;
                task.note_name(entry.as_ref());
                let output = match output {
                    Some(output) => Some((
                        output.stream,
                        match &output.source {
                            OutputSource::Memory(ranges) => {
                                collect(&task.memory(), ranges).map_err(|f| f.at(number))?
                            }
                            OutputSource::Bytes(bytes) => bytes.to_vec(),
                        },
                    )),
                    None => None,
                };
                match task_op {
                    Some(TaskOp::Clone(info)) => self.clone_task(event, info)?,
                    Some(TaskOp::Exec(info)) => {
                        return self.exec(event, info, after, xstate.as_ref()).map(|()| output);
                    }
                    None => {}
                }
                self.settle(event, after, xstate.as_ref())?;
                if let Some((sent, recorded)) = payload {
                    self.check_payload(event, &sent, recorded)?;
                }
                return Ok(output);
            }
            EventKind::Restart { after } => {
                self.task(event)?.in_syscall = false;
                self.settle(event, after, None)?;
            }
            EventKind::SetRegisters { after, xstate } => self.settle(event, after, xstate.as_ref())?,
            EventKind::Trap { after, .. } => self.settle(event, after, None)?,
            EventKind::Signal { after, xstate, .. } => self.settle(event, after, xstate.as_ref())?,
            EventKind::Point { .. } => {}
            EventKind::Exit { .. } => {
                self.perform(event, &event.ops)?;
                self.write_all(event)?;
                self.exit(event.tid);
            }
        }
        Ok(None)
    }

    /// Makes the next change of the address space by the interval's buffered calls: the task has
    /// reached the call.
    pub(crate) fn make_change(&mut self, event: &Event) -> Result<()> {
        let change = self.interval.pending.as_mut().and_then(|p| p.changes.pop_front());
        if let Some((_, Some(op))) = change {
            let ops = [op];
            self.perform(event, &ops)?;
            self.follow_ops(event.tid, &ops);
        }
        Ok(())
    }

    /// The task has arrived: checks that it has made all buffered calls of the interval.
    pub(crate) fn check_used_up(&mut self, event: &Event) -> Result<()> {
        if event.buffered.is_empty() {
            return Ok(());
        }
        let task = self.task(event)?;
        let left = buffer::left_over(&task.memory(), &event.buffered);
        match left.map_err(|source| Error::Tracee {
            event: event.number,
            source,
        })? {
            None => Ok(()),
            Some(seen) => Err(Error::Divergence(Box::new(Divergence {
                event: event.number,
                tid: event.tid,
                expected: "all buffered calls of the interval made".into(),
                seen,
                registers: vec![],
            }))),
        }
    }

    pub(crate) fn task(&mut self, event: &Event) -> Result<&mut Task> {
        self.world
            .tasks
            .get_mut(&event.tid)
            .ok_or_else(|| bad(event, "there is no such task"))
    }

    /// Carries out steps 3 to 5 of an event: operations, writes, registers.
    fn settle(&mut self, event: &Event, after: &Registers, xstate: Option<&ExtendedState>) -> Result<()> {
        let failed = |source| Error::Tracee {
            event: event.number,
            source,
        };
        self.perform(event, &event.ops)?;
        self.write_all(event)?;
        let stopped = self.task(event)?.stopped().map_err(failed)?;
        stopped.set_regs(after).map_err(failed)?;
        if let Some(xstate) = xstate {
            stopped.set_xstate(xstate).map_err(failed)?;
        }
        Ok(())
    }

    /// Carries out operations on the address space of the event's task: either all of the event, or one
    /// of its interval.
    fn perform(&mut self, event: &Event, ops: &[SpaceOp]) -> Result<()> {
        if ops.is_empty() {
            return Ok(());
        }
        self.copy_exposed(event, ops)?;
        self.perform_by(event, event.tid, ops)
    }

    /// Carries out operations on the address space of another task.
    fn perform_by(&mut self, event: &Event, tid: Tid, ops: &[SpaceOp]) -> Result<()> {
        let missing = || bad(event, "there is no such task");
        let id = self.world.tasks.get(&tid).ok_or_else(missing)?.space;
        self.code_is_mapped(id, ops)
            .map_err(|source| failed(event, source))?;
        let task = self.world.tasks.get_mut(&tid).ok_or_else(missing)?;
        let stopped = task.take().map_err(|source| Error::Tracee {
            event: event.number,
            source,
        })?;
        let creates = |op: &SpaceOp| matches!(op, SpaceOp::CreateObject { .. });
        let unused = if ops.iter().any(creates) {
            let unused = self.world.backings.forget_unmapped(self.world.spaces.values());
            self.world
                .objects
                .retain(|id| self.world.backings.objects.contains_key(&id));
            unused
        } else {
            Vec::new()
        };
        let stopped = close(stopped, &unused).map_err(|source| Error::Tracee {
            event: event.number,
            source,
        })?;
        let stopped = perform(stopped, ops, &mut self.world.backings, &self.events.reader)
            .map_err(|f| f.at(event.number))?;
        task.give(stopped);
        let model = self
            .world
            .spaces
            .get_mut(&task.space)
            .ok_or_else(|| bad(event, "there is no such address space"))?;
        ops.iter().for_each(|op| model.apply(op));
        Ok(())
    }

    /// Carries out the event's operations on other address spaces.
    fn perform_others(&mut self, event: &Event) -> Result<()> {
        for same in event.others.chunk_by(|a, b| a.0 == b.0) {
            let id = same[0].0;
            let task = self.world.tasks.values().find(|t| t.space == id);
            let tid = task.map(|t| t.tid);
            let tid = tid.ok_or_else(|| bad(event, "it changes an address space that does not exist"))?;
            let ops: Vec<SpaceOp> = same.iter().map(|(_, op)| op.clone()).collect();
            self.perform_by(event, tid, &ops)?;
        }
        Ok(())
    }

    fn write_all(&mut self, event: &Event) -> Result<()> {
        self.perform_others(event)?;
        self.copy_written(event)?;
        for write in &event.object_writes {
            self.write_to_object(event, write)?;
        }
        for write in &event.writes {
            let range = AddrRange::sized(write.addr, write.data.len() as u64);
            self.code_changes(write.space, range)
                .map_err(|source| failed(event, source))?;
            self.write(event, write)?;
        }
        self.follow_ops(event.tid, &event.ops);
        self.follow_writes(event);
        Ok(())
    }

    fn write_to_object(&self, event: &Event, write: &ObjectWrite) -> Result<()> {
        let object = self.world.backings.objects.get(&write.object);
        let object = object.ok_or_else(|| bad(event, "it writes into an object that does not exist"))?;
        let end = write.offset.checked_add(write.data.len() as u64);
        let size = object.file.metadata().map(|m| m.len()).unwrap_or(0);
        if end.is_none_or(|end| end > size) {
            return Err(bad(event, "it writes beyond the end of a shared memory object"));
        }
        let written = object.file.write_all_at(&write.data, write.offset);
        written.map_err(|source| Error::Os {
            what: format!("writing to shared memory object {}", write.object.0),
            source,
        })
    }

    fn write(&self, event: &Event, write: &MemWrite) -> Result<()> {
        if hits_our_code(write.addr, write.data.len()) {
            return Err(bad(event, "it writes into rr's own code"));
        }
        let mut owners = self.world.tasks.values().filter(|t| t.space == write.space);
        let Some(owner) = owners.next() else {
            return Err(bad(event, "it writes into an address space that does not exist"));
        };
        let written = owner.memory().write(write.addr, &write.data);
        if written.is_err() && self.write_object(write) {
            return Ok(());
        }
        written.map_err(|source| Error::Tracee {
            event: event.number,
            source,
        })
    }

    /// Writes into a shared memory object that the task itself may only read. Returns `false` if there
    /// is no such object, or if the write does not fit.
    fn write_object(&self, write: &MemWrite) -> bool {
        let mapping = self
            .world
            .spaces
            .get(&write.space)
            .and_then(|space| space.at(write.addr));
        let Some((mapping, (object, at))) = mapping.and_then(|m| Some((m, m.shared_at(write.addr)?))) else {
            return false;
        };
        let Some(object) = self.world.backings.objects.get(&object) else {
            return false;
        };
        let fits = write.data.len() as u64 <= mapping.range.end - write.addr;
        fits && object.file.write_all_at(&write.data, at).is_ok()
    }

    /// Returns the process (thread group) of a task, if the task exists.
    pub fn process_of(&self, tid: Tid) -> Option<Tid> {
        self.world.tasks.get(&tid).map(|task| task.tgid)
    }

    /// Returns the registers of a task at the current position, if the task exists.
    pub fn registers(&self, tid: Tid) -> Option<Registers> {
        let regs = self.world.tasks.get(&tid)?.regs().ok()?;
        Some(regs.of_program())
    }
}

impl Drop for ReplaySession {
    fn drop(&mut self) {
        let tasks: Vec<Tid> = self.world.tasks.values().map(|task| task.real).collect();
        zygote::end_all(&tasks);
        frozen::reap();
        let family = &self.world.backings.family;
        // If this is the family's last session, all its processes end anyway, and no descriptor stays
        // open. (The same is true if the zygote has died.)
        if Rc::strong_count(family) > 1 {
            let objects = self.world.backings.objects.values();
            let _ = family.close(objects.filter(|o| !o.original).map(|o| o.fd).collect());
        }
    }
}
