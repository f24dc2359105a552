//! The end of tasks.

use std::time::{Duration, Instant};

use rr_trace::event::{EventKind, MemWrite};
use rr_tracee::{Running, SpaceId, SpaceOp, Stop, Stopped, Tid, procfs};

use crate::call::redirect::release_scratch;
use crate::checkpoint::snapshots::lose_snapshots;
use crate::error::Result;
use crate::log::events::{emit, flush_entries};
use crate::ptrace::family::tracee_is_released;
use crate::ptrace::relation::{tracee_is_gone, tracer_ends};
use crate::session::RecordSession;
use crate::task::auto_attach::forget_call;
use crate::task::leaving::{left_behind, left_in_objects, left_in_shared, left_in_space, words_of_leaving};
use crate::userfault::wait::forget_wait;
use crate::world::model::World;
use crate::world::next::Next;
use crate::world::task::{State, Task};

/// Maximum time to wait for the end of a task that is no longer traced.
const MOMENT: Duration = Duration::from_millis(500);

/// Ends the process of a task that cannot be recorded any further. Other processes continue.
pub(crate) fn end_process(tid: Tid, why: &dyn std::fmt::Display) -> Next {
    tracing::warn!("process {tid} is killed, because rr cannot record it any further: {why}");
    rr_tracee::task::kill(tid);
    Next::InKernel(Running::newborn(tid))
}

/// Records the end of a task and releases its resources.
pub(crate) fn record_exit(
    session: &mut RecordSession,
    tid: Tid,
    status: i32,
    ops: Vec<SpaceOp>,
    writes: Vec<MemWrite>,
) -> Result<()> {
    forget_call(session, tid);
    forget_wait(&mut session.world, tid);
    emit(session, tid, EventKind::Exit { status }, ops, writes)?;
    release_scratch(&mut session.world, tid);
    let task = session.world.task_mut(tid)?;
    task.life.exited = true;
    let space = task.space;
    leave_space(session, space);
    release_vfork(&mut session.world, tid)?;
    tracer_ends(&mut session.world, tid)?;
    Ok(())
}

pub(crate) fn task_is_gone(session: &mut RecordSession, tid: Tid, status: i32) -> Result<()> {
    if session.world.tasks.get(&tid).is_some_and(|t| !t.life.exited) {
        // If the task was on its way into a call, that ended its interval.
        flush_entries(session)?;
        let (mut ops, mut left) = left_in_objects(&mut session.world, tid)?;
        let (more, writes) = left_in_space(&mut session.world, tid, true)?;
        ops.extend(more);
        left.extend(writes);
        if libc::WIFSIGNALED(status) {
            let tgid = session.world.task(tid)?.tgid;
            group_is_dying(&mut session.world, tgid);
        }
        record_exit(session, tid, status, ops, left)?;
    }
    tracee_is_gone(&mut session.world, tid, status)?;
    session.world.tasks.remove(&tid);
    session.drive.scheduler.remove(tid);
    session.drive.contention.forget(tid);
    if tid == session.root {
        session.root_status = Some(status);
    }
    Ok(())
}

/// Removes an address space that has no task any more.
pub(crate) fn leave_space(session: &mut RecordSession, id: SpaceId) {
    if !session.world.tasks.is_inhabited(id) {
        session.world.spaces.remove(&id);
        session.checkpoints.let_go(id);
    }
}

/// Lets the parent that waited for `child` (`vfork`) continue.
pub(crate) fn release_vfork(world: &mut World, child: Tid) -> Result<()> {
    let mut released = Vec::new();
    for task in world.tasks.matching_mut(|t| t.life.held_by == Some(child)) {
        task.life.held_by = None;
        released.push(task.tid);
    }
    released
        .into_iter()
        .try_for_each(|tid| tracee_is_released(world, tid, child))
}

/// Handles the exit of a thread that did not ask to exit alone: all threads of its group were
/// killed with it. Those that were stopped are on their way to their own exit stops.
///
/// No thread may be resumed as if it were still in its former stop. It could have reached its exit
/// stop meanwhile, unseen, and would leave that stop. A leader would then become a zombie without a
/// report, and waiting for it would never end, because its threads wait for us in their exit stops.
///
/// There is no checkpoint until all threads are gone. Threads that wait in calls see memory of an
/// interval that is not replayed, and words that the kernel has written for the dead ones.
pub(crate) fn group_is_dying(world: &mut World, tgid: Tid) {
    let has_xstate = |t: &Task| t.call.as_ref().is_some_and(|call| call.xstate.is_some());
    let waiting = world.tasks.matching_mut(|t| t.tgid == tgid && has_xstate(t));
    for call in waiting.filter_map(|t| t.call.as_mut()) {
        call.xstate = None;
    }
    let waiting = world
        .tasks
        .matching_mut(|t| t.tgid == tgid && t.life.page_wait.is_some());
    for wait in waiting.filter_map(|t| t.life.page_wait.as_mut()) {
        wait.xstate = None;
    }
    let stopped = |t: &Task| {
        t.tgid == tgid
            && match &t.state {
                State::Ready(_) => true,
                State::Reported(_, stop) => *stop != Stop::Exiting,
                State::InKernel(_) | State::Busy => false,
            }
    };
    for task in world.tasks.matching_mut(stopped) {
        task.state = State::InKernel(Running::newborn(task.tid));
    }
}

/// A fault kills the first process of a pid namespace, but not while it is traced: the signal would
/// have no effect, and the instruction would cause it again, for ever. So the task is detached.
/// Then its next instruction is its last, and there are no more reports.
pub(crate) fn die_untraced(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    signal: i32,
) -> Result<Next> {
    let task = session.world.task(tid)?;
    let (space, tgid) = (task.space, task.tgid);
    lose_snapshots(session, space);
    let mut writes = left_in_shared(&session.world, tid)?;
    let leaving = words_of_leaving(&session.world, tid)?;
    stopped.detach()?;
    group_is_dying(&mut session.world, tgid);
    // Its sibling threads are stopped once more on their way, and its parent cannot reap it until
    // they are gone.
    let deadline = Instant::now() + MOMENT;
    while !matches!(procfs::state(tid), Ok('Z') | Err(_)) && Instant::now() < deadline {
        // SAFETY: sched_yield has no arguments.
        unsafe { libc::sched_yield() };
    }
    writes.extend(left_behind(&mut session.world, tid, &leaving)?);
    record_exit(session, tid, signal, vec![], writes)?;
    task_is_gone(session, tid, signal)?;
    Ok(Next::Reported)
}
