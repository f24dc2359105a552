//! Traced tasks that create tasks, execute a program, or end.

use std::ops::ControlFlow;

use rr_trace::event::CloneInfo;
use rr_tracee::pid_namespace::number_for;
use rr_tracee::{Stop, Stopped, Tid};

use crate::error::Result;
use crate::ptrace::info;
use crate::ptrace::stops::stop_for_tracer;
use crate::ptrace::tracee::{Cause, Seen, StopKind, Tracee, TracerStop};
use crate::world::model::World;
use crate::world::next::Next;

/// The event of a `clone` with these flags (`kernel_clone` in kernel/fork.c), if there is one.
fn event_of(flags: u64) -> Option<i32> {
    const CLONE_UNTRACED: u64 = 0x0080_0000;
    const EXIT_SIGNAL: u64 = 0xff;
    if flags & CLONE_UNTRACED != 0 {
        None
    } else if flags & libc::CLONE_VFORK as u64 != 0 {
        Some(libc::PTRACE_EVENT_VFORK)
    } else if flags & EXIT_SIGNAL != libc::SIGCHLD as u64 {
        Some(libc::PTRACE_EVENT_CLONE)
    } else {
        Some(libc::PTRACE_EVENT_FORK)
    }
}

/// A task has created another one. The event of that call is about to be recorded.
pub(crate) fn tracee_creates(world: &mut World, tid: Tid, new: &CloneInfo) -> Result<()> {
    let Some(tracee) = &mut world.task_mut(tid)?.tracee else {
        return Ok(());
    };
    let Some(event) = event_of(new.flags).filter(|event| tracee.wants(*event)) else {
        return Ok(());
    };
    let number = number_for(tracee.tracer, new.child);
    tracee.due.push_back(Cause::Event(event, number.0 as u64));
    let mut child = Tracee::new(new.child, tracee.tracer, tracee.is_seized, false, tracee.options);
    child.due.push_back(Cause::Born);
    world.task_mut(new.child)?.tracee = Some(Box::new(child));
    Ok(())
}

/// A task that waits for `child` (`vfork`) may continue.
pub(crate) fn tracee_is_released(world: &mut World, tid: Tid, child: Tid) -> Result<()> {
    if let Some(tracee) = &mut world.task_mut(tid)?.tracee
        && tracee.wants(libc::PTRACE_EVENT_VFORK_DONE)
    {
        // Before the exit of its call.
        let number = number_for(tracee.tracer, child);
        let done = Cause::Event(libc::PTRACE_EVENT_VFORK_DONE, number.0 as u64);
        tracee.due.push_front(done);
    }
    Ok(())
}

/// A task, formerly `former`, has executed a program. The event of that call is about to be
/// recorded.
pub(crate) fn tracee_executes(world: &mut World, tid: Tid, former: Tid) -> Result<()> {
    let Some(tracee) = &mut world.task_mut(tid)?.tracee else {
        return Ok(());
    };
    let former_number = tracee.to_tracer.number;
    if tid != former {
        tracee.to_tracer.number = number_for(tracee.tracer, tid);
    }
    if tracee.wants(libc::PTRACE_EVENT_EXEC) {
        let event = Cause::Event(libc::PTRACE_EVENT_EXEC, former_number.0 as u64);
        tracee.due.push_back(event);
    }
    Ok(())
}

/// The event of an exec has been recorded. For tracers without exec events, a signal comes after
/// the exit of the call.
pub(crate) fn tracee_has_executed(world: &mut World, tid: Tid) -> Result<()> {
    if let Some(tracee) = &mut world.task_mut(tid)?.tracee
        && !tracee.is_seized
        && !tracee.wants(libc::PTRACE_EVENT_EXEC)
    {
        tracee.due.push_back(Cause::Executed);
    }
    Ok(())
}

/// A task is about to end, and its tracer wants to see that. Returns the task if it must continue.
pub(crate) fn stop_at_end(
    world: &mut World,
    tid: Tid,
    stopped: Stopped,
) -> Result<ControlFlow<Next, Stopped>> {
    let status = stopped.event_message()?;
    let task = world.task_mut(tid)?;
    let tracee = task
        .tracee
        .as_mut()
        .filter(|t| t.wants(libc::PTRACE_EVENT_EXIT) && !matches!(t.seen, Seen::End));
    let Some(tracee) = tracee else {
        return Ok(ControlFlow::Continue(stopped));
    };
    tracee.seen = Seen::End;
    tracee.message = status;
    let code = libc::SIGTRAP | libc::PTRACE_EVENT_EXIT << 8;
    let stop = TracerStop::new(StopKind::Event, code, info::event(tid, code));
    stop_for_tracer(world, tid, stop)?;
    Ok(ControlFlow::Break(Next::Stop(stopped, Stop::Exiting)))
}
