//! Attaching to a task, detaching from it, and the end of tracer or tracee.

use nix::errno::Errno;
use rr_tracee::{Tid, procfs};

use crate::call::parameters::{Answered, Failure};
use crate::error::Result;
use crate::policy::warnings::Warning;
use crate::ptrace::access::{Request, check_options, tracee_mut};
use crate::ptrace::info;
use crate::ptrace::resume::{pass_signal_to_tracee, resume_tracee};
use crate::ptrace::steps::leave_code_alone;
use crate::ptrace::stops::{ask_to_stop, tell_tracer};
use crate::ptrace::tracee::{Cause, Dead, Pace, Phase, StopKind, Tracee};
use crate::session::RecordSession;
use crate::world::model::World;
use crate::world::task::{State, Task};

/// `PTRACE_ATTACH`, `PTRACE_SEIZE`.
pub(crate) fn attach_tracee(session: &mut RecordSession, request: Request, is_seized: bool) -> Answered {
    let mut options = 0;
    if is_seized {
        if request.addr != 0 {
            return Err(Errno::EIO.into());
        }
        check_options(&session.world, request.by, request.data).map_err(|failure| match failure {
            Failure::Refused(Errno::EINVAL) => Errno::EIO.into(),
            other => other,
        })?;
        options = request.data;
    }
    let tracer = session.world.task(request.by)?;
    let Some(task) = session.world.tasks.get(&request.of) else {
        let is_there = request.of.0 > 0 && std::fs::exists(format!("/proc/{}", request.of)).unwrap_or(false);
        if !is_there {
            return Err(Errno::ESRCH.into());
        }
        if session.policy.warnings.is_new(Warning::PtraceOfStranger) {
            tracing::warn!("the program uses ptrace (of a process that is not recorded); it is told EPERM");
        }
        return Err(Errno::EPERM.into());
    };
    let is_quiet = matches!(&task.state, State::InKernel(_)) && task.call.is_none();
    let is_group_stopped = is_quiet && matches!(procfs::state(task.tid), Ok('t' | 'T'));
    let is_dying = is_quiet && !is_group_stopped;
    let is_hidden = session
        .world
        .spaces
        .get(&task.space)
        .is_some_and(|s| s.not_dumpable);
    let is_same_user = info::uid(request.by) == info::uid(request.of) && !is_hidden;
    let may = info::uid(request.by) == 0 || is_same_user;
    if task.life.exited || is_dying || task.tgid == tracer.tgid || task.tracee.is_some() || !may {
        return Err(Errno::EPERM.into());
    }
    let is_child = task.tid == task.tgid && procfs::parent(task.tid) == Some(tracer.tgid);
    let tracee = Tracee::new(request.of, request.by, is_seized, is_child, options);
    let is_one_space = tracer.space == task.space;
    session.world.task_mut(request.of)?.tracee = Some(Box::new(tracee));
    if !is_one_space {
        // The tracer may read code as a file, and write it back after a breakpoint. (A leak checker
        // reads its own memory.)
        leave_code_alone(session, request.of)?;
    }
    let task = session.world.task_mut(request.of)?;
    if let State::InKernel(running) = &task.state
        && is_group_stopped
    {
        // The task reports again that it is stopped, and this time its tracer sees it.
        running.interrupt()?;
    }
    if !is_seized {
        ask_to_stop(&mut session.world, request.of, Cause::Attached)?;
    }
    Ok(0)
}

/// `PTRACE_TRACEME`: the tracer is the task that created this one, or its current parent.
pub(crate) fn trace_me(session: &mut RecordSession, tid: Tid) -> Answered {
    let task = session.world.task(tid)?;
    if task.tracee.is_some() {
        return Err(Errno::EPERM.into());
    }
    let is_alive = |tid: &Tid| session.world.tasks.get(tid).is_some_and(|t| !t.life.exited);
    let parent = task
        .life
        .parent
        .filter(is_alive)
        .or_else(|| procfs::parent(task.tgid));
    let Some(parent) = parent.filter(is_alive) else {
        if session.policy.warnings.is_new(Warning::PtraceOfStranger) {
            tracing::warn!("the program uses ptrace (by a process that is not recorded); it is told EPERM");
        }
        return Err(Errno::EPERM.into());
    };
    let is_child = task.tid == task.tgid;
    let tracee = Tracee::new(tid, parent, false, is_child, 0);
    session.world.task_mut(tid)?.tracee = Some(Box::new(tracee));
    leave_code_alone(session, tid)?;
    Ok(0)
}

/// `PTRACE_INTERRUPT`.
pub(crate) fn interrupt_tracee(world: &mut World, request: Request) -> Answered {
    let tracee = tracee_mut(world, request.of)?;
    if !tracee.is_seized {
        return Err(Errno::EIO.into());
    }
    if !tracee.is_stopped() {
        ask_to_stop(world, request.of, Cause::Interrupted)?;
    }
    Ok(0)
}

/// `PTRACE_KILL`.
pub(crate) fn kill_tracee(request: Request) -> Answered {
    rr_tracee::task::kill(request.of);
    Ok(0)
}

/// `PTRACE_DETACH`.
pub(crate) fn detach_tracee(session: &mut RecordSession, request: Request) -> Answered {
    resume_tracee(session, request, Pace::Freely)?;
    session.world.task_mut(request.of)?.tracee = None;
    Ok(0)
}

/// A task ends: its tracees continue as if they had not been traced (or die, if the tracer has
/// requested that).
pub(crate) fn tracer_ends(world: &mut World, tracer: Tid) -> Result<()> {
    world.tracers.dead.retain(|dead| dead.tracer != tracer);
    world.tracers.paused.remove(&tracer);
    let is_meant = |t: &&Task| t.tracee.as_ref().is_some_and(|tracee| tracee.tracer == tracer);
    let tracees: Vec<Tid> = world.tasks.values().filter(is_meant).map(|t| t.tid).collect();
    for tid in tracees {
        let task = world.task_mut(tid)?;
        let Some(tracee) = task.tracee.take() else {
            continue;
        };
        if tracee.options & libc::PTRACE_O_EXITKILL as u64 != 0 {
            rr_tracee::task::kill(task.tgid);
        } else if let Phase::Stopped(stop) = tracee.phase
            && stop.kind == StopKind::Signal
            && !stop.is_reported
        {
            // (If the tracer has waited for the stop, the kernel has handed the signal over.)
            pass_signal_to_tracee(world, tid, stop.info)?;
        }
    }
    Ok(())
}

/// A thread that traces others has got another tid by exec.
pub(crate) fn rename_tracer(world: &mut World, tid: Tid, former: Tid) {
    let is_meant = |t: &Task| t.tracee.as_ref().is_some_and(|tracee| tracee.tracer == former);
    for task in world.tasks.matching_mut(is_meant) {
        if let Some(tracee) = &mut task.tracee {
            tracee.tracer = tid;
        }
    }
}

/// A task is gone: its tracer is told, unless the kernel does it.
pub(crate) fn tracee_is_gone(world: &mut World, tid: Tid, status: i32) -> Result<()> {
    let Some(task) = world.tasks.get_mut(&tid) else {
        return Ok(());
    };
    let tgid = task.tgid;
    let Some(tracee) = task.tracee.take().filter(|tracee| !tracee.to_tracer.is_child) else {
        return Ok(());
    };
    let tracer = tracee.tracer;
    if world.tasks.get(&tracer).is_none_or(|t| t.life.exited) {
        return Ok(());
    }
    world.tracers.dead.push(Dead {
        tracer,
        tid,
        tgid,
        number: tracee.to_tracer.number,
        status,
    });
    let (code, status) = crate::ptrace::waiting::ending(status);
    let named = (tid, tracee.to_tracer.number);
    tell_tracer(world, tracer, named, info::child(named, code, status))
}
