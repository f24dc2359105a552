//! Applying an event whose task has arrived: its operations, its writes, and its registers.
//!
//! Invariant I7: what an event says must be possible in the model, or the trace is rejected as bad. Nothing
//! is skipped.

use std::sync::Arc;

use rr_trace::event::{Event, EventKind, OutputSource, Stdio, TaskOp};
use rr_tracee::payload::Sent;
use rr_tracee::{AddrRange, ExtendedState, Registers, SpaceOp, Tid};

use crate::buffer;
use crate::code_changes::{code_changes, code_is_mapped};
use crate::error::{Divergence, Error, Result, bad, failed};
use crate::marks::arm_marks;
use crate::payload::check_payload;
use crate::pending::Stage;
use crate::position::Progress;
use crate::session::{ReplaySession, Replayed};
use crate::space::{close, collect, perform};
use crate::tasks::{begin_program, clone_task, end_task, exec_task};

/// Gives the pending event's task the results of the buffered calls of its interval.
pub(crate) fn load_buffered(session: &mut ReplaySession) -> Result<()> {
    let Some(pending) = &session.interval.pending else {
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
        let loaded = buffer::load(&session.world.task(&event)?.memory(), &event.buffered);
        changes = loaded.map_err(|f| f.at(event.number))?;
    }
    check_entered(session, &event)?;
    if let Some(pending) = &mut session.interval.pending {
        pending.changes = changes.into();
        pending.stage = Stage::Running;
    }
    Ok(())
}

/// Checks that a system call is entered once, and returns once.
fn check_entered(session: &mut ReplaySession, event: &Event) -> Result<()> {
    let EventKind::Syscall { entry, .. } = &event.kind else {
        return Ok(());
    };
    if entry.is_some() == session.world.task(event)?.in_syscall {
        return Err(bad(
            event,
            "a system call returns that was not entered, or is entered twice",
        ));
    }
    Ok(())
}

/// Applies the pending event, whose task has arrived.
pub(crate) fn apply_pending(session: &mut ReplaySession) -> Result<Option<Replayed>> {
    let Some(pending) = &session.interval.pending else {
        return Ok(None);
    };
    let event = Arc::clone(&pending.event);
    let output = apply_event(session, &event)?;
    session.interval.pending = None;
    session.interval.progress = Progress::default();
    arm_marks(session);
    session.events.last = event.number;
    session.events.time_ns = event.time_ns;
    Ok(Some(Replayed { event, output }))
}

fn apply_event(session: &mut ReplaySession, event: &Event) -> Result<Option<(Stdio, Vec<u8>)>> {
    let number = event.number;
    match &event.kind {
        EventKind::Start { exec, after, xstate } => {
            begin_program(session, number, event.tid, exec)?;
            settle(session, event, after, Some(xstate))?;
        }
        EventKind::SyscallEnter { .. } => session.world.task(event)?.in_syscall = true,
        EventKind::Syscall {
            entry,
            after,
            xstate,
            task: task_op,
            output,
            payload,
        } => {
            let task = session.world.task(event)?;
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
                Some(TaskOp::Clone(info)) => clone_task(session, event, info)?,
                Some(TaskOp::Exec(info)) => {
                    let renamed = exec_task(session, event, info)?;
                    settle(session, &renamed, after, xstate.as_ref())?;
                    return Ok(output);
                }
                None => {}
            }
            settle(session, event, after, xstate.as_ref())?;
            if let Some((sent, recorded)) = payload {
                check_payload(session, event, &sent, recorded)?;
            }
            return Ok(output);
        }
        EventKind::Restart { after } => {
            session.world.task(event)?.in_syscall = false;
            settle(session, event, after, None)?;
        }
        EventKind::SetRegisters { after, xstate } => settle(session, event, after, xstate.as_ref())?,
        EventKind::Trap { after, .. } => settle(session, event, after, None)?,
        EventKind::Signal { after, xstate, .. } => settle(session, event, after, xstate.as_ref())?,
        EventKind::Point { .. } => {}
        EventKind::Exit { .. } => {
            perform_ops(session, event, &event.ops)?;
            write_all(session, event)?;
            end_task(session, event.tid);
        }
    }
    Ok(None)
}

/// Makes the next change of the address space by the interval's buffered calls: the task has
/// reached the call.
pub(crate) fn make_change(session: &mut ReplaySession, event: &Event) -> Result<()> {
    let change = session
        .interval
        .pending
        .as_mut()
        .and_then(|p| p.changes.pop_front());
    if let Some((_, Some(op))) = change {
        let ops = [op];
        perform_ops(session, event, &ops)?;
        session.world.follow_ops(event.tid, &ops);
    }
    Ok(())
}

/// The task has arrived: checks that it has made all buffered calls of the interval.
pub(crate) fn check_used_up(session: &mut ReplaySession, event: &Event) -> Result<()> {
    if event.buffered.is_empty() {
        return Ok(());
    }
    let task = session.world.task(event)?;
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

/// Carries out steps 3 to 5 of an event: operations, writes, registers.
pub(crate) fn settle(
    session: &mut ReplaySession,
    event: &Event,
    after: &Registers,
    xstate: Option<&ExtendedState>,
) -> Result<()> {
    let failed = |source| Error::Tracee {
        event: event.number,
        source,
    };
    perform_ops(session, event, &event.ops)?;
    write_all(session, event)?;
    let stopped = session.world.task(event)?.stopped().map_err(failed)?;
    stopped.set_regs(after).map_err(failed)?;
    if let Some(xstate) = xstate {
        stopped.set_xstate(xstate).map_err(failed)?;
    }
    Ok(())
}

/// Carries out operations on the address space of the event's task: either all of the event, or one
/// of its interval.
fn perform_ops(session: &mut ReplaySession, event: &Event, ops: &[SpaceOp]) -> Result<()> {
    if ops.is_empty() {
        return Ok(());
    }
    session.world.copy_exposed(&session.events.reader, event, ops)?;
    perform_ops_of(session, event, event.tid, ops)
}

/// Carries out operations on the address space of another task.
fn perform_ops_of(session: &mut ReplaySession, event: &Event, tid: Tid, ops: &[SpaceOp]) -> Result<()> {
    let missing = || bad(event, "there is no such task");
    let id = session.world.tasks.get(&tid).ok_or_else(missing)?.space;
    code_is_mapped(session, id, ops).map_err(|source| failed(event, source))?;
    let task = session.world.tasks.get_mut(&tid).ok_or_else(missing)?;
    let stopped = task.take().map_err(|source| Error::Tracee {
        event: event.number,
        source,
    })?;
    let creates = |op: &SpaceOp| matches!(op, SpaceOp::CreateObject { .. });
    let unused = if ops.iter().any(creates) {
        let unused = session
            .world
            .backings
            .forget_unmapped(session.world.spaces.values());
        session
            .world
            .objects
            .retain(|id| session.world.backings.objects.contains_key(&id));
        unused
    } else {
        Vec::new()
    };
    let stopped = close(stopped, &unused).map_err(|source| Error::Tracee {
        event: event.number,
        source,
    })?;
    let stopped = perform(stopped, ops, &mut session.world.backings, &session.events.reader)
        .map_err(|f| f.at(event.number))?;
    task.give(stopped);
    let model = session
        .world
        .spaces
        .get_mut(&task.space)
        .ok_or_else(|| bad(event, "there is no such address space"))?;
    ops.iter().for_each(|op| model.apply(op));
    Ok(())
}

/// Carries out the event's operations on other address spaces.
fn perform_others(session: &mut ReplaySession, event: &Event) -> Result<()> {
    for same in event.others.chunk_by(|a, b| a.0 == b.0) {
        let id = same[0].0;
        let task = session.world.tasks.values().find(|t| t.space == id);
        let tid = task.map(|t| t.tid);
        let tid = tid.ok_or_else(|| bad(event, "it changes an address space that does not exist"))?;
        let ops: Vec<SpaceOp> = same.iter().map(|(_, op)| op.clone()).collect();
        perform_ops_of(session, event, tid, &ops)?;
    }
    Ok(())
}

fn write_all(session: &mut ReplaySession, event: &Event) -> Result<()> {
    perform_others(session, event)?;
    session.world.copy_written(&session.events.reader, event)?;
    for write in &event.object_writes {
        session.world.write_to_object(event, write)?;
    }
    for write in &event.writes {
        let range = AddrRange::sized(write.addr, write.data.len() as u64);
        code_changes(session, write.space, range).map_err(|source| failed(event, source))?;
        session.world.write(event, write)?;
    }
    session.world.follow_ops(event.tid, &event.ops);
    session.world.follow_writes(event);
    Ok(())
}
