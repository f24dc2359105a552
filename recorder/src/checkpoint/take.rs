//! Taking a checkpoint: freezing everything at an event.
//!
//! A checkpoint is taken at the first possible event after one is due ([`crate::checkpoint::capture`]). Each
//! address space gets a source of its pages: a fork of a stopped task (made by a remote `clone`, kept
//! frozen), or, if all its tasks are blocked in the kernel, the process itself, read in place until one of
//! its tasks stops (I3). The image describes the state that replay would have at this event (I4). Then the
//! writer gets all of this, and recording goes on.

use std::time::Duration;

use rr_checkpoint::schedule::Progress;
use rr_checkpoint::{
    CaptureRequest, CheckpointWriter, ObjectSource, SessionImage, SharedSource, SpaceSource, TaskImage,
    copy_unforkable,
};
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Backing, Memory, ObjectId, SpaceId, Stop, Tid, tsc};

use crate::checkpoint::baseline::Captured;
use crate::checkpoint::changes::{changes_since_baseline, set_baselines};
use crate::checkpoint::forks::{fork_task, is_forkable};
use crate::checkpoint::snapshots::may_call;
use crate::drive::reports::note_all_reports;
use crate::error::Result;
use crate::log::events::flush_entries;
use crate::session::RecordSession;
use crate::world::model::World;
use crate::world::task::{State, Task};

/// Returns whether an image can describe a task's current state.
fn is_capturable(task: &Task) -> bool {
    match &task.state {
        // While a signal is about to be delivered with the mask of a sigsuspend or ppoll, the task must
        // not make remote calls, because they would restore the old mask.
        State::Ready(_) => {
            !task.is_mid_interval()
                && (task.is_stopped_for_tracer()
                    || task.at_call.restarting.is_none()
                        && task.interval.boundary.result() != -i64::from(libc::EINTR))
        }
        State::Reported(_, stop) => *stop == Stop::Syscall && task.call.is_some(),
        State::InKernel(_) => {
            task.life.exited
                || task.call.as_ref().is_some_and(|c| c.xstate.is_some())
                || task.life.page_wait.as_ref().is_some_and(|wait| wait.hidden_xstate().is_some())
                // Stopped by job control after an event, until a SIGCONT comes.
                || (task.signals.group_stop.is_some() && !task.is_mid_interval())
        }
        State::Busy => false,
    }
}

/// Takes a checkpoint if one is due and `current`, which has just had an event, and all others allow it.
pub(crate) fn checkpoint_if_due(session: &mut RecordSession, current: Tid) -> Result<()> {
    let now = session
        .checkpoints
        .progress(session.log.last_event(), session.log.last_time_ns());
    session.checkpoints.bytes.now = session.log.stored_bytes();
    let is_due = session
        .checkpoints
        .schedule
        .as_ref()
        .is_some_and(|s| s.is_due(now));
    if !is_due && !session.checkpoints.is_much() {
        return Ok(());
    }
    take_checkpoint(session, current, now).map(drop)
}

/// Takes a checkpoint, if `current`, which has just had an event, and all others allow it. Returns
/// whether it was tried.
pub(crate) fn take_checkpoint(session: &mut RecordSession, current: Tid, now: Progress) -> Result<bool> {
    // Handle tasks that were killed meanwhile: they are not part of the checkpoint.
    note_all_reports(session)?;
    let ready = session
        .world
        .tasks
        .get(&current)
        .is_some_and(|t| matches!(t.state, State::Ready(_)));
    if !ready || !session.world.tasks.values().all(is_capturable) {
        return Ok(false);
    }
    let interrupted = session.checkpoints.interrupted.take();
    if let Some(writer) = session
        .checkpoints
        .writer
        .as_ref()
        .filter(|_| session.checkpoints.patient)
    {
        writer.wait_for_room();
    }
    let has_room = session
        .checkpoints
        .writer
        .as_mut()
        .is_some_and(CheckpointWriter::has_room);
    let began = tsc::now();
    if !has_room {
        session.checkpoints.miss(now);
        return Ok(false);
    }
    flush_entries(session)?;
    let Some((mut request, captured)) = freeze_all(session)? else {
        session.checkpoints.miss(now);
        return Ok(true);
    };
    let pause = tsc::now() - began;
    request.pause_us = pause.as_micros() as u64;
    // The time to name a place in the middle of an interval is part of the checkpoint's price.
    let to_point = interrupted.map_or(Duration::ZERO, |at| session.log.now().saturating_sub(pause + at));
    session.log.start_segment()?;
    session.checkpoints.sources.retain(|source| !source.is_finished());
    session
        .checkpoints
        .sources
        .extend(request.spaces.iter().map(|s| s.source.clone()));
    session.checkpoints.bytes.then = session.checkpoints.bytes.now;
    let (event, is_exposed) = (request.image.event, request.is_exposed());
    session.checkpoints.note_outcomes();
    let submitted = session
        .checkpoints
        .writer
        .as_mut()
        .is_some_and(|w| w.submit(request));
    if submitted {
        set_baselines(session, event, captured);
    }
    if is_exposed {
        session.checkpoints.wait_until_read();
    }
    match (submitted, &mut session.checkpoints.schedule) {
        (true, Some(schedule)) => schedule.taken(now, pause + to_point),
        _ => session.checkpoints.miss(now),
    }
    Ok(true)
}

/// Freezes everything. `None` if a process could not be forked.
fn freeze_all(session: &mut RecordSession) -> Result<Option<(CaptureRequest, Vec<Captured>)>> {
    let image = session_image(session)?;
    let mut request = CaptureRequest {
        image,
        spaces: Vec::new(),
        objects: Vec::new(),
        pause_us: 0,
    };
    let mut captured = Vec::new();
    // Address spaces: a fork of each, or the process itself if it cannot be forked now.
    let ids: Vec<SpaceId> = session.world.spaces.keys().copied().collect();
    for id in ids {
        let Some(leader) = session.world.leader(id) else {
            continue;
        };
        let extra = copy_unforkable(leader, &session.world.spaces[&id].model)?;
        let changes = changes_since_baseline(session, id, leader);
        let mut is_fork = true;
        let forkable = is_forkable(leader) && !session.world.task(leader)?.has_held_restart();
        let source = match session.world.task_mut(leader)?.take_state() {
            State::Ready(stopped) if forkable && may_call(&stopped)? => {
                let (stopped, fork) = fork_task(session, leader, stopped)?;
                session.world.task_mut(leader)?.state = State::Ready(stopped);
                fork.map(SharedSource::frozen)
            }
            State::Reported(stopped, stop) if forkable && may_call(&stopped)? => {
                let (stopped, fork) = fork_task(session, leader, stopped)?;
                session.world.task_mut(leader)?.state = State::Reported(stopped, stop);
                fork.map(SharedSource::frozen)
            }
            state => {
                session.world.task_mut(leader)?.state = state;
                is_fork = false;
                let source = SharedSource::in_place(leader);
                session.world.space_mut(id).in_place.push(source.clone());
                Some(source)
            }
        };
        let Some(source) = source else { return Ok(None) };
        let one = Captured::new(id, &source, &session.world.task(leader)?.state, is_fork);
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
        let source = match session.world.mapped.file(object.id) {
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
                pages: mapped_pages(&session.world, object.id)?,
            },
        };
        request.objects.push(source);
    }
    Ok(Some((request, captured)))
}

/// The contents of an object that is no file, read from one of its mappings that show all of it.
fn mapped_pages(world: &World, object: ObjectId) -> Result<Vec<(u64, Vec<u8>)>> {
    for (id, space) in &world.spaces {
        let shows = |m: &&rr_tracee::Mapping| m.backing == Backing::Shared { object, offset: 0 };
        if let (Some(mapping), Some(leader)) = (space.model.iter().find(shows), world.leader(*id)) {
            let bytes = Memory::of(leader).read_vec(mapping.range.start, mapping.range.len() as usize)?;
            return Ok(vec![(0, bytes)]);
        }
    }
    Ok(Vec::new())
}

/// The image that replay would have after the last event.
fn session_image(session: &RecordSession) -> Result<SessionImage> {
    let mut tasks = Vec::new();
    for task in session.world.tasks.values().filter(|t| !t.life.exited) {
        let (in_syscall, regs) = match &task.call {
            Some(call) => (true, call.entry),
            None => (false, task.interval.boundary.outside_call()),
        };
        let at_entry = task.call.as_ref().and_then(|c| c.xstate.clone());
        let at_fault = task
            .life
            .page_wait
            .as_ref()
            .and_then(|wait| wait.hidden_xstate().cloned());
        let known = at_entry.or(at_fault).or_else(|| task.signals.group_stop.clone());
        let xstate = match (known, &task.state) {
            (Some(xstate), _) => xstate,
            (None, State::Ready(stopped) | State::Reported(stopped, _)) => stopped.xstate()?,
            (None, State::InKernel(_) | State::Busy) => Default::default(),
        };
        let xstate = match session.policy.options.processor.portable {
            Some(level) => xstate.portable(level),
            None => xstate,
        };
        tasks.push(TaskImage {
            tid: task.tid,
            tgid: task.tgid,
            space: task.space,
            exe: task.life.exe.clone(),
            in_syscall,
            regs,
            xstate,
        });
    }
    let spaces = session.world.spaces.iter().map(|(id, space)| (*id, &space.model));
    let (event, time_ns) = (session.log.last_event(), session.log.last_time_ns());
    Ok(SessionImage::new(
        event,
        time_ns,
        spaces,
        tasks,
        &session.world.objects,
    ))
}
