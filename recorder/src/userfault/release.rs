//! The end of an object: its last descriptor is closed.
//!
//! Its ranges are no longer registered, and all tasks that wait are woken. The kernel does that in the middle of whatever closes the
//! descriptor: a call, or the end of a process. So an event without a change of registers follows at the next possible place, before
//! any task goes on.

use rr_trace::event::EventKind;
use rr_tracee::{SpaceId, Tid, digest};

use super::key::ObjectKey;
use super::rights::set_rights;
use super::wait::wake;
use crate::error::Result;
use crate::log::events::{emit, flush_entries};
use crate::session::RecordSession;
use crate::world::task::{State, Task};

/// Releases the objects whose descriptors are closed.
pub(crate) fn release_closed(session: &mut RecordSession) -> Result<()> {
    if !session.world.must_trace.userfaults {
        return Ok(());
    }
    let objects = session.world.spaces.iter().flat_map(|(id, space)| {
        let objects = space.userfaults.objects.iter();
        let closed = objects.filter(|(_, object)| object.is_closed());
        closed.map(|(key, _)| (*id, *key))
    });
    let closed: Vec<_> = objects.collect();
    if !closed.is_empty() {
        flush_entries(session)?;
    }
    for (id, key) in closed {
        release(session, id, key)?;
    }
    let mut spaces = session.world.spaces.values();
    session.world.must_trace.userfaults = spaces.any(|space| !space.userfaults.objects.is_empty());
    Ok(())
}

fn release(session: &mut RecordSession, id: SpaceId, key: ObjectKey) -> Result<()> {
    let userfaults = &session.world.space_mut(id).userfaults;
    let ranges = userfaults.regions.of(key);
    let tid = task_for_event(session, id);
    if tid.is_none() && !ranges.is_empty() {
        // At the next event.
        return Ok(());
    }
    wake(&mut session.world, id, key, digest::ALL)?;
    let userfaults = &mut session.world.space_mut(id).userfaults;
    userfaults.objects.remove(&key);
    let gone = ranges
        .iter()
        .flat_map(|range| userfaults.regions.unregister(*range));
    let rights = gone.map(|region| (region.range, region.prot)).collect();
    let ops = set_rights(&mut session.world, id, rights);
    if ops.is_empty() {
        return Ok(());
    }
    let Some(tid) = tid else { return Ok(()) };
    let task = session.world.task(tid)?;
    let after = match &task.call {
        Some(call) => call.entry,
        None => task.interval.boundary,
    };
    emit(
        session,
        tid,
        EventKind::SetRegisters { after, xstate: None },
        ops,
        vec![],
    )
}

/// A task of the address space that stands at an event, or in a call whose entry is recorded.
fn task_for_event(session: &RecordSession, id: SpaceId) -> Option<Tid> {
    let stands = |task: &Task| match &task.state {
        State::Ready(_) => task.call.is_none() && !task.is_mid_interval(),
        State::InKernel(_) => task.life.page_wait.is_some() || (task.call.is_some() && task.at_call.entered),
        State::Reported(..) | State::Busy => false,
    };
    let mut tasks = session.world.tasks.values();
    tasks
        .find(|task| task.space == id && !task.life.exited && stands(task))
        .map(|task| task.tid)
}
