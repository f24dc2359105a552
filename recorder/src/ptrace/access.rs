//! What a tracer may reach: its tracee, stopped for it.

use nix::errno::Errno;
use rr_tracee::pid_namespace::Vpid;
use rr_tracee::{Stopped, Tid, procfs};

use crate::call::parameters::Answered;
use crate::error::Error;
use crate::ptrace::tracee::{Phase, Tracee, TracerStop};
use crate::world::model::World;
use crate::world::task::State;

/// A request as the tracer makes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// The tracer.
    pub by: Tid,
    /// The tracee.
    pub of: Tid,
    pub addr: u64,
    pub data: u64,
}

/// The state of a tracee.
pub(crate) fn tracee_mut(world: &mut World, tid: Tid) -> Answered<&mut Tracee> {
    let tracee = world.tasks.get_mut(&tid).and_then(|t| t.tracee.as_deref_mut());
    tracee.ok_or(Errno::ESRCH.into())
}

/// The tracee of `by` that has this number for `by`.
pub(crate) fn named_tracee(world: &World, by: Tid, number: Vpid) -> Option<Tid> {
    let is_meant =
        |tracee: &Tracee| tracee.tracer == by && tracee.to_tracer.number == number && number != Vpid::NONE;
    let mut tasks = world.tasks.values();
    tasks
        .find(|task| task.tracee.as_deref().is_some_and(is_meant))
        .map(|task| task.tid)
}

/// The stop for its tracer that a task is in.
pub(crate) fn tracer_stop(world: &World, tid: Tid) -> Answered<&TracerStop> {
    let task = world.tasks.get(&tid);
    let task = task.filter(|t| matches!(t.state, State::Ready(_) | State::Reported(..)));
    let stop = task.and_then(|t| t.tracee.as_ref()).and_then(|t| t.stop());
    stop.ok_or(Errno::ESRCH.into())
}

pub(crate) fn tracer_stop_mut(world: &mut World, tid: Tid) -> Option<&mut TracerStop> {
    match &mut world.tasks.get_mut(&tid)?.tracee.as_mut()?.phase {
        Phase::Stopped(stop) => Some(stop),
        Phase::Running | Phase::Listening => None,
    }
}

/// Reads or changes a task that is stopped for its tracer.
pub(crate) fn with_stopped<T>(
    world: &mut World,
    tid: Tid,
    look: impl FnOnce(&mut Stopped) -> T,
) -> Answered<T> {
    match world.tasks.get_mut(&tid).map(|t| &mut t.state) {
        Some(State::Ready(stopped) | State::Reported(stopped, _)) => Ok(look(stopped)),
        _ => Err(Errno::ESRCH.into()),
    }
}

/// Checks if a tracer may set these `PTRACE_O_*`.
pub(crate) fn check_options(world: &World, by: Tid, options: u64) -> Answered<()> {
    const SUSPEND_FILTERS: u64 = libc::PTRACE_O_SUSPEND_SECCOMP as u64;
    const KNOWN: u64 = 0xff | (libc::PTRACE_O_EXITKILL as u64) | SUSPEND_FILTERS;
    if options & !KNOWN != 0 {
        return Err(Errno::EINVAL.into());
    }
    let may_suspend =
        || Ok::<_, Error>(!world.task(by)?.settings.confined.is_confined() && procfs::is_administrator(by));
    if options & SUSPEND_FILTERS != 0 && !may_suspend()? {
        return Err(Errno::EPERM.into());
    }
    Ok(())
}
