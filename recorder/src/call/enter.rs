//! Lets the kernel make a call.

use rr_tracee::syscalls::Blocking;
use rr_tracee::task::Resume;
use rr_tracee::{Stopped, Tid};

use crate::error::Result;
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::model::World;
use crate::world::next::{Next, Until};

/// Lets the call run in the kernel.
pub(crate) fn enter_call(
    world: &mut World,
    tid: Tid,
    stopped: Stopped,
    call: Call,
    may_block: bool,
) -> Result<Next> {
    world.task_mut(tid)?.call = Some(call);
    let running = stopped.resume(Resume::Syscall, None)?;
    if may_block
        && world
            .task(tid)?
            .tracee
            .as_ref()
            .is_some_and(|t| !t.due.is_empty())
    {
        // Its tracer wants it to stop, so the call must not wait.
        running.interrupt()?;
    }
    let until = if may_block { Until::Wait } else { Until::Stop };
    Ok(Next::Wait(running, until))
}

/// Lets a call run in the kernel that may wait there. Checkpoints taken meanwhile hold the extended state from before the call.
pub(crate) fn enter_blocking_call(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    mut call: Call,
) -> Result<Next> {
    if session.checkpoints.is_on() {
        call.xstate = Some(stopped.xstate()?);
    }
    enter_call(&mut session.world, tid, stopped, call, true)
}

/// Lets the kernel make an emulated call.
pub(crate) fn perform_call(world: &mut World, tid: Tid, stopped: Stopped, mut call: Call) -> Result<Next> {
    if let Some(spec) = call.spec {
        call.parts = spec.parts(&call.entry, &world.task(tid)?.memory)?;
        debug_assert!(spec.blocking == Blocking::Never || spec.blocking == Blocking::Maybe);
    }
    enter_call(world, tid, stopped, call, false)
}
