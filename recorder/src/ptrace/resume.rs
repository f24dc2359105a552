//! Resuming a tracee, with a signal or without.
//!
//! A signal that the tracer lets through is deferred and carried ([`crate::signal::wakeup_signal`]), like a signal
//! that came at a bad moment. So the tracee can make remote calls while it is stopped, although these
//! end the kernel's own delivery stop.

use nix::errno::Errno;
use rr_tracee::task::{Resume, SigInfo, signo};
use rr_tracee::{Running, Tid};

use crate::call::parameters::Answered;
use crate::error::Result;
use crate::ptrace::access::{Request, tracee_mut, tracer_stop};
use crate::ptrace::info;
use crate::ptrace::steps::want_step;
use crate::ptrace::tracee::{Cause, Pace, Phase, StopKind};
use crate::session::RecordSession;
use crate::signal::numbers::bit;
use crate::signal::wakeup_signal::send_wakeup;
use crate::world::model::World;
use crate::world::task::State;

/// The last signal.
const LAST: u64 = 64;

/// `PTRACE_CONT` and similar requests. `data` is a signal.
pub(crate) fn resume_tracee(session: &mut RecordSession, request: Request, pace: Pace) -> Answered {
    if request.data > LAST {
        return Err(Errno::EIO.into());
    }
    let signal = request.data as i32;
    let tid = request.of;
    let tracee = tracee_mut(&mut session.world, tid)?;
    let Phase::Stopped(stop) = std::mem::replace(&mut tracee.phase, Phase::Running) else {
        return Err(Errno::ESRCH.into());
    };
    tracee.last_call.held_restart = None;
    tracee.pace = pace;
    if pace.steps() {
        want_step(session, tid)?;
    }
    let tracee = tracee_mut(&mut session.world, tid)?;
    let is_call = matches!(stop.kind, StopKind::CallEntry | StopKind::CallExit);
    if signal == 0 || !is_call && stop.kind != StopKind::Signal {
        return Ok(0);
    }
    if signal == libc::SIGKILL {
        rr_tracee::task::kill(session.world.task(tid)?.tgid);
        return Ok(0);
    }
    if !is_call {
        tracee.passed = Some(signal);
    }
    let info = if signo(&stop.info) == signal && !is_call {
        stop.info
    } else {
        info::sent(signal, libc::SI_USER, request.by, tid)
    };
    pass_signal_to_tracee(&mut session.world, tid, info)?;
    Ok(0)
}

/// `PTRACE_LISTEN`: the tracee stays stopped with its group, until the group continues.
pub(crate) fn listen_to_group(world: &mut World, request: Request) -> Answered {
    let tid = request.of;
    let kind = tracer_stop(world, tid)?.kind;
    let tracee = tracee_mut(world, tid)?;
    if !tracee.is_seized || kind != StopKind::Group {
        return Err(Errno::EIO.into());
    }
    tracee.phase = Phase::Listening;
    match world.task_mut(tid)?.take_state() {
        State::Ready(stopped) => {
            // The task may have left the kernel's stop, to make remote calls. This makes it report
            // again if its group is stopped.
            Running::newborn(tid).interrupt()?;
            let running = stopped.resume(Resume::Cont, None)?;
            world.task_mut(tid)?.state = State::InKernel(running);
        }
        state => world.task_mut(tid)?.state = state,
    }
    Ok(0)
}

/// A task has left the stop of its group: if it was listening, its tracer is told.
pub(crate) fn end_listening(world: &mut World, tid: Tid) -> Result<()> {
    if let Some(tracee) = &mut world.task_mut(tid)?.tracee
        && matches!(tracee.phase, Phase::Listening)
    {
        tracee.phase = Phase::Running;
        tracee.due.retain(|cause| *cause != Cause::Interrupted);
        tracee.due.push_front(Cause::Interrupted);
    }
    Ok(())
}

/// Gives a task that is stopped for its tracer a signal, which comes when the task continues.
pub(crate) fn pass_signal_to_tracee(world: &mut World, tid: Tid, info: SigInfo) -> Result<()> {
    let (State::Ready(stopped) | State::Reported(stopped, _)) = &world.task(tid)?.state else {
        return Ok(());
    };
    let mask = stopped.sigmask()?;
    pass_signal(world, tid, mask, info)
}

/// Gives a stopped task, which blocks the signals of `mask`, a signal. The signal comes when the task
/// continues.
pub(crate) fn pass_signal(world: &mut World, tid: Tid, mask: u64, info: SigInfo) -> Result<()> {
    let signal = signo(&info);
    // Before other signals of this number that have come since.
    world.task_mut(tid)?.signals.deferred.insert(0, info);
    if mask & bit(signal) == 0 {
        send_wakeup(world, tid, signal, mask)?;
    }
    Ok(())
}
