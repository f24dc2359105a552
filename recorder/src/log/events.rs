//! Events: their numbers, their order, and writing them to the trace.
//!
//! Events come in the order of their intervals: before an event of one task come the entries of others
//! into system calls that they made earlier. An entry is held back until then, because usually the call
//! returns before another task runs. Then entry and exit are one event.

use rr_trace::Lend;
use rr_trace::event::{Event, EventKind, MemWrite};
use rr_tracee::objects::exposed;
use rr_tracee::{AddrRange, ObjectId, SpaceOp, Tid};

use crate::buffer::ring::IntervalRecords;
use crate::call::pi_futex::lock_word;
use crate::error::Result;
use crate::log::pending::PendingEntry;
use crate::memory::private_files::map_object_privately;
use crate::session::RecordSession;
use crate::world::besides::Besides;
use crate::world::model::World;

/// Notes that other tasks run while this task is in a system call: the call's entry must be
/// recorded before their next event.
pub(crate) fn note_pending_entry(session: &mut RecordSession, tid: Tid) {
    let known = session.log.entries.iter().any(|pending| pending.tid == tid);
    if known || session.world.tasks.get(&tid).is_some_and(|t| t.at_call.entered) {
        return;
    }
    if let Some(call) = session.world.tasks.get(&tid).and_then(|t| t.call.as_ref()) {
        let entry = call.entry;
        let write = lock_word(&session.world, tid, &entry);
        session.log.entries.push(PendingEntry { tid, entry, write });
    }
}

/// Records the entries into system calls that must come before the next event of `tid`. Returns
/// whether the call of `tid` can be recorded as one event, because no other task has run since its
/// entry.
pub(crate) fn close_entry(session: &mut RecordSession, tid: Tid) -> Result<bool> {
    if session.log.entries.last().is_some_and(|last| last.tid == tid) {
        session.log.entries.pop();
    }
    flush_entries(session)?;
    Ok(!std::mem::take(&mut session.world.task_mut(tid)?.at_call.entered))
}

/// Records the entries into system calls that are not recorded yet.
pub(crate) fn flush_entries(session: &mut RecordSession) -> Result<()> {
    for PendingEntry { tid, entry, write } in std::mem::take(&mut session.log.entries) {
        let Some(task) = session.world.tasks.get_mut(&tid) else {
            continue;
        };
        task.at_call.entered = true;
        let kind = EventKind::SyscallEnter { entry };
        append_event(session, tid, kind, Vec::new(), Besides::default())?;
        if let Some(write) = write {
            let (after, xstate) = (entry, None);
            let besides = Besides {
                writes: vec![write],
                ..Besides::default()
            };
            append_event(
                session,
                tid,
                EventKind::SetRegisters { after, xstate },
                Vec::new(),
                besides,
            )?;
        }
    }
    Ok(())
}

/// Records an event of `tid`, after the entries of other tasks that ran before.
pub(crate) fn emit(
    session: &mut RecordSession,
    tid: Tid,
    kind: EventKind,
    ops: Vec<SpaceOp>,
    writes: Vec<MemWrite>,
) -> Result<()> {
    flush_entries(session)?;
    let took = session.log.since_last_event();
    if let Some(task) = session.world.tasks.get_mut(&tid) {
        task.interval.between = false;
        task.interval.ticks.interrupt = None;
        task.interval.ticks.long = 0;
        task.interval.ticks.clocked = None;
        task.interval.ticks.short_ticks = 0;
        task.interval.ticks.look_at = (task.interval.ticks.look_at / 2).max(1);
        if !matches!(kind, EventKind::Point { .. }) {
            task.interval.ticks.patience.note_event(took);
        }
    }
    for object in newly_exposed(&session.world, tid, &ops) {
        map_object_privately(session, object)?;
    }
    let mut besides = std::mem::take(&mut session.world.besides);
    besides.writes.extend(writes);
    append_event(session, tid, kind, ops, besides)
}

/// The objects that these operations of `tid` change, or let the program change, and that could not
/// be changed before.
fn newly_exposed(world: &World, tid: Tid, ops: &[SpaceOp]) -> Vec<ObjectId> {
    let Some(space) = world.tasks.get(&tid).and_then(|t| world.spaces.get(&t.space)) else {
        return Vec::new();
    };
    let clean = |object: &ObjectId| {
        world
            .objects
            .get(*object)
            .is_none_or(|state| state.content.is_some())
    };
    let exposed = ops.iter().flat_map(|op| exposed(op, &space.model));
    exposed.filter(clean).collect()
}

fn append_event(
    session: &mut RecordSession,
    tid: Tid,
    mut kind: EventKind,
    ops: Vec<SpaceOp>,
    besides: Besides,
) -> Result<()> {
    let Besides {
        others,
        writes,
        object_writes,
    } = besides;
    session.log.number = session.log.number.next();
    session.log.last_time_ns = session.log.now().as_nanos() as u64;
    if let (Some(level), Some(state)) = (
        session.policy.options.processor.portable,
        kind.extended_state_mut(),
    ) {
        *state = state.portable(level);
    }
    session.log.note_crash(&kind, session.log.number, tid);
    if let Some(space) = session
        .world
        .tasks
        .get(&tid)
        .and_then(|t| session.world.spaces.get(&t.space))
    {
        session.world.objects.follow(&ops, &space.model);
    }
    for write in &object_writes {
        session.world.objects.written_directly(write.object);
    }
    for write in &writes {
        if let Some(space) = session.world.spaces.get(&write.space) {
            let range = AddrRange::sized(write.addr, write.data.len() as u64);
            session.world.objects.written(&space.model, range);
        }
    }
    let task = session.world.tasks.get_mut(&tid);
    let mut buffered = IntervalRecords::default();
    if let Some(task) = task {
        task.interval.ran = false;
        buffered = std::mem::take(&mut task.interval.buffered);
    }
    if matches!(kind, EventKind::Exit { .. }) {
        // An interval that death cut short is not replayed.
        buffered = IntervalRecords::default();
    }
    let (buffered, lent) = buffered.into_parts();
    let tid = session
        .world
        .tasks
        .get(&tid)
        .and_then(|t| t.life.recorded_as)
        .unwrap_or(tid);
    let event = Event {
        number: session.log.number,
        time_ns: session.log.last_time_ns,
        tid,
        kind,
        buffered: buffered.into(),
        ops,
        others,
        writes,
        object_writes,
    };
    let lent = lent.map(|lent| Box::new(lent) as Box<dyn Lend>);
    Ok(session.log.writer.append_with(event, lent)?)
}
