//! Events: their numbers, their order, and writing them to the trace.
//!
//! Events come in the order of their intervals: before an event of one task come the entries of others
//! into system calls that they made earlier. An entry is held back until then, because usually the call
//! returns before another task runs. Then entry and exit are one event.

use std::time::Duration;

use rr_trace::Lend;
use rr_trace::event::{Event, EventKind, EventNumber, MemWrite};
use rr_tracee::objects::exposed;
use rr_tracee::{AddrRange, ObjectId, SpaceOp, Tid};

use crate::buffer::ring::Taken;
use crate::error::Result;
use crate::log::pending::PendingEntry;
use crate::memory::private_files::Besides;
use crate::session::RecordSession;

impl RecordSession {
    /// The number of the last event.
    pub fn last_event(&self) -> EventNumber {
        self.number
    }

    pub(crate) fn stored_bytes(&self) -> u64 {
        self.writer.stored_bytes()
    }

    pub(crate) fn last_time_ns(&self) -> u64 {
        self.last_time_ns
    }

    /// Notes that other tasks run while this task is in a system call: the call's entry must be
    /// recorded before their next event.
    pub(crate) fn note_pending_entry(&mut self, tid: Tid) {
        let known = self.pending_entries.iter().any(|pending| pending.tid == tid);
        if known || self.tasks.get(&tid).is_some_and(|t| t.entered) {
            return;
        }
        if let Some(call) = self.tasks.get(&tid).and_then(|t| t.call.as_ref()) {
            let entry = call.entry;
            let write = self.lock_word(tid, &entry);
            self.pending_entries.push(PendingEntry { tid, entry, write });
        }
    }

    pub(crate) fn start_segment(&mut self) -> Result<()> {
        Ok(self.writer.start_segment()?)
    }

    /// The event that will record a system call entered now, the whole call or only its entry. Earlier
    /// entries that are not recorded yet come first.
    pub(crate) fn next_entry(&self) -> EventNumber {
        let events = self.pending_entries.iter().map(PendingEntry::events).sum::<u64>();
        EventNumber(self.number.0 + events + 1)
    }

    /// Records the entries into system calls that must come before the next event of `tid`. Returns
    /// whether the call of `tid` can be recorded as one event, because no other task has run since its
    /// entry.
    pub(crate) fn settle_entry(&mut self, tid: Tid) -> Result<bool> {
        if self.pending_entries.last().is_some_and(|last| last.tid == tid) {
            self.pending_entries.pop();
        }
        self.flush_entries()?;
        Ok(!std::mem::take(&mut self.task_mut(tid)?.entered))
    }

    /// Records the entries into system calls that are not recorded yet.
    pub(crate) fn flush_entries(&mut self) -> Result<()> {
        for PendingEntry { tid, entry, write } in std::mem::take(&mut self.pending_entries) {
            let Some(task) = self.tasks.get_mut(&tid) else {
                continue;
            };
            task.entered = true;
            let kind = EventKind::SyscallEnter { entry };
            self.append(tid, kind, Vec::new(), Besides::default())?;
            if let Some(write) = write {
                let (after, xstate) = (entry, None);
                let besides = Besides {
                    writes: vec![write],
                    ..Besides::default()
                };
                self.append(
                    tid,
                    EventKind::SetRegisters { after, xstate },
                    Vec::new(),
                    besides,
                )?;
            }
        }
        Ok(())
    }

    /// Time since the last event of any task. No other task has executed user code since.
    pub(crate) fn since_last_event(&self) -> Duration {
        self.now()
            .saturating_sub(Duration::from_nanos(self.last_time_ns()))
    }

    /// Records an event of `tid`, after the entries of other tasks that ran before.
    pub(crate) fn emit(
        &mut self,
        tid: Tid,
        kind: EventKind,
        ops: Vec<SpaceOp>,
        writes: Vec<MemWrite>,
    ) -> Result<()> {
        self.flush_entries()?;
        let took = self.since_last_event();
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.between = false;
            task.interrupted = false;
            task.ticks = 0;
            task.clocked = None;
            task.short_ticks = 0;
            task.look_at = (task.look_at / 2).max(1);
            if !matches!(kind, EventKind::Point { .. }) {
                task.patience.note_event(took);
            }
        }
        for object in self.newly_exposed(tid, &ops) {
            self.map_object_privately(object)?;
        }
        let mut besides = std::mem::take(&mut self.besides);
        besides.writes.extend(writes);
        self.append(tid, kind, ops, besides)
    }

    /// The objects that these operations of `tid` change, or let the program change, and that could not
    /// be changed before.
    fn newly_exposed(&self, tid: Tid, ops: &[SpaceOp]) -> Vec<ObjectId> {
        let Some(space) = self.tasks.get(&tid).and_then(|t| self.spaces.get(&t.space)) else {
            return Vec::new();
        };
        let clean = |object: &ObjectId| {
            self.objects
                .get(*object)
                .is_none_or(|state| state.content.is_some())
        };
        let exposed = ops.iter().flat_map(|op| exposed(op, &space.model));
        exposed.filter(clean).collect()
    }

    fn append(&mut self, tid: Tid, kind: EventKind, ops: Vec<SpaceOp>, besides: Besides) -> Result<()> {
        let Besides {
            others,
            writes,
            object_writes,
        } = besides;
        self.number = self.number.next();
        self.last_time_ns = self.now().as_nanos() as u64;
        self.note_crash(&kind, self.number, tid);
        if let Some(space) = self.tasks.get(&tid).and_then(|t| self.spaces.get(&t.space)) {
            self.objects.follow(&ops, &space.model);
        }
        for write in &object_writes {
            self.objects.written_directly(write.object);
        }
        for write in &writes {
            if let Some(space) = self.spaces.get(&write.space) {
                let range = AddrRange::sized(write.addr, write.data.len() as u64);
                self.objects.written(&space.model, range);
            }
        }
        let task = self.tasks.get_mut(&tid);
        let mut buffered = Taken::default();
        if let Some(task) = task {
            task.ran = false;
            buffered = std::mem::take(&mut task.buffered);
        }
        if matches!(kind, EventKind::Exit { .. }) {
            // An interval that death cut short is not replayed.
            buffered = Taken::default();
        }
        let (buffered, lent) = buffered.into_parts();
        let tid = self.tasks.get(&tid).and_then(|t| t.recorded_as).unwrap_or(tid);
        let event = Event {
            number: self.number,
            time_ns: self.last_time_ns,
            tid,
            kind,
            buffered: buffered.into(),
            ops,
            others,
            writes,
            object_writes,
        };
        let lent = lent.map(|lent| Box::new(lent) as Box<dyn Lend>);
        Ok(self.writer.append_with(event, lent)?)
    }

    /// Records the end of a task and releases its resources.
    pub(crate) fn record_exit(
        &mut self,
        tid: Tid,
        status: i32,
        ops: Vec<SpaceOp>,
        writes: Vec<MemWrite>,
    ) -> Result<()> {
        self.forget_call(tid);
        self.emit(tid, EventKind::Exit { status }, ops, writes)?;
        self.release_scratch(tid);
        let task = self.task_mut(tid)?;
        task.exited = true;
        let space = task.space;
        self.leave_space(space);
        self.release_vfork(tid)?;
        self.tracer_ends(tid)?;
        Ok(())
    }
}
