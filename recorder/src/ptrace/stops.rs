//! Stops a tracee for its tracer, and tells the tracer.

use rr_trace::event::{Disposition, EventKind, SignalPlace};
use rr_tracee::pid_namespace::Vpid;
use rr_tracee::task::{SigInfo, is_fault, si_code, signo};
use rr_tracee::{Stopped, Tid, procfs};

use crate::call::parameters::Answered;
use crate::error::Result;
use crate::log::events::emit;
use crate::ptrace::access::tracer_stop;
use crate::ptrace::info;
use crate::ptrace::steps::end_step;
use crate::ptrace::tracee::{Cause, Pace, Phase, Step, StopKind, Tracee, TracerStop};
use crate::ptrace::waiting::wake_waiting;
use crate::session::RecordSession;
use crate::signal::numbers::bit;
use crate::signal::wakeup_signal::{is_ours, send_wakeup};
use crate::world::model::World;
use crate::world::next::Next;
use crate::world::task::State;

/// The event of `PTRACE_INTERRUPT`, in the form of a wait status.
const EVENT_STOP: i32 = libc::SIGTRAP | libc::PTRACE_EVENT_STOP << 8;

/// Returns whether a task stops for its tracer at the delivery of this signal: not if the tracer
/// has just let the signal through.
pub(crate) fn stops_for(world: &mut World, tid: Tid, signal: i32) -> Result<bool> {
    let Some(tracee) = &mut world.task_mut(tid)?.tracee else {
        return Ok(false);
    };
    Ok(tracee.passed.take_if(|passed| *passed == signal).is_none())
}

/// Makes a tracee stop as soon as it can.
pub(crate) fn ask_to_stop(world: &mut World, tid: Tid, cause: Cause) -> Result<()> {
    let task = world.task_mut(tid)?;
    let Some(tracee) = &mut task.tracee else {
        return Ok(());
    };
    if !tracee.due.contains(&cause) {
        tracee.due.push_back(cause);
    }
    match &task.state {
        State::Ready(_) if !task.is_mid_interval() => stop_as_due(world, tid),
        // The interrupt ends the call that it waits in, as it would natively.
        State::InKernel(running) => Ok(running.interrupt()?),
        _ => Ok(()),
    }
}

/// Returns whether a task that could continue must stop for its tracer instead.
pub(crate) fn is_stop_due(world: &World, tid: Tid) -> Result<bool> {
    let task = world.task(tid)?;
    Ok(!task.is_mid_interval() && task.tracee.as_ref().is_some_and(|t| !t.due.is_empty()))
}

/// Makes a `Ready` task take its due stop, unless its tracer does not want that stop any more.
pub(crate) fn stop_as_due(world: &mut World, tid: Tid) -> Result<()> {
    let task = world.task_mut(tid)?;
    let at = task.interval.boundary.rip;
    let Some(tracee) = &mut task.tracee else {
        return Ok(());
    };
    let Some(cause) = tracee.due.pop_front().filter(|_| !tracee.is_stopped()) else {
        return Ok(());
    };
    let (kind, code, info) = match cause {
        Cause::Attached => (StopKind::Signal, libc::SIGSTOP, info::attached()),
        Cause::Born if !tracee.is_seized => (StopKind::Signal, libc::SIGSTOP, info::born()),
        Cause::Born | Cause::Interrupted => (StopKind::Event, EVENT_STOP, info::event(tid, EVENT_STOP)),
        Cause::Event(event, message) => {
            tracee.message = message;
            let code = libc::SIGTRAP | event << 8;
            (StopKind::Event, code, info::event(tid, code))
        }
        Cause::Executed => {
            let info = info::sent(libc::SIGTRAP, libc::SI_USER, tid, tid);
            (StopKind::Signal, libc::SIGTRAP, info)
        }
        Cause::Stepped => (StopKind::Signal, libc::SIGTRAP, info::stepped(at)),
        Cause::CallExit if tracee.pace != Pace::ToCall => return Ok(()),
        Cause::CallExit => {
            tracee.message = 2;
            let code = tracee.call_code();
            (StopKind::CallExit, code, info::event(tid, code))
        }
    };
    stop_for_tracer(world, tid, TracerStop::new(kind, code, info))
}

/// A signal is about to be delivered to a tracee: its tracer decides.
pub(crate) fn stop_at_signal(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    mut info: SigInfo,
    place: SignalPlace,
) -> Result<Next> {
    let signal = signo(&info);
    if signal == libc::SIGSTOP && is_ours(&info, false) {
        // Sent again after remote calls, which cannot hold it back (`Remote::finish`). The original
        // sender is not known any more.
        info = info::attached();
    }
    let after = match &place {
        SignalPlace::Fault(regs) => {
            // (The resume flag only tells how the processor came to a stop.)
            let regs = regs.without_resume_flag();
            end_step(&mut session.world, tid, &mut stopped, regs)?
        }
        SignalPlace::Entry(_) | SignalPlace::Here => session.world.task(tid)?.interval.boundary,
    };
    if place != SignalPlace::Here {
        // The tracee's interval ends here: the tracer's changes take effect in the next one.
        let kind = EventKind::Signal {
            signo: signal,
            info: info.to_vec(),
            place,
            disposition: Disposition::Ignored,
            after,
            xstate: None,
        };
        emit(session, tid, kind, vec![], vec![])?;
    }
    let task = session.world.task_mut(tid)?;
    task.signals.turned_back = None;
    task.interval.boundary = after;
    stop_for_tracer(
        &mut session.world,
        tid,
        TracerStop::new(StopKind::Signal, signal, info),
    )?;
    Ok(Next::Ready(stopped))
}

/// Notes that the task stops in a way that interrupts calls without rr, too.
pub(crate) fn note_stopped(world: &mut World, tid: Tid) -> Result<()> {
    if let Some(call) = &mut world.task_mut(tid)?.at_call.restarting {
        call.is_stopped = true;
    }
    Ok(())
}

/// Returns whether a task's tracer must be told that its group is stopped: not while the tracer
/// only listens for the end of that stop.
pub(crate) fn tells_of_group(world: &World, tid: Tid) -> Result<bool> {
    let task = world.task(tid)?;
    let is_told = |t: &Tracee| !matches!(t.phase, Phase::Listening) || !t.due.is_empty();
    Ok(!task.is_mid_interval() && task.tracee.as_deref().is_some_and(is_told))
}

/// The group of a tracee is stopped (job control).
pub(crate) fn stop_with_group(world: &mut World, tid: Tid, stopped: Stopped, signal: i32) -> Result<Next> {
    let mut is_seized = false;
    if let Some(tracee) = &mut world.task_mut(tid)?.tracee {
        is_seized = tracee.is_seized;
        tracee.due.retain(|cause| *cause != Cause::Interrupted);
    }
    let code = if is_seized {
        signal | libc::PTRACE_EVENT_STOP << 8
    } else {
        signal
    };
    let info = info::event(tid, code);
    stop_for_tracer(world, tid, TracerStop::new(StopKind::Group, code, info))?;
    Ok(Next::Ready(stopped))
}

/// Returns whether a stop has a siginfo.
pub(crate) fn has_info(world: &World, tid: Tid) -> Answered<bool> {
    let stop = tracer_stop(world, tid)?;
    Ok(stop.kind != StopKind::Group)
}

/// Stops the task for its tracer from now on.
pub(crate) fn stop_for_tracer(world: &mut World, tid: Tid, stop: TracerStop) -> Result<()> {
    if matches!(stop.kind, StopKind::Signal | StopKind::Group) || stop.code == EVENT_STOP {
        note_stopped(world, tid)?;
    }
    let Some(tracee) = &mut world.task_mut(tid)?.tracee else {
        return Ok(());
    };
    let (tracer, code, signal) = (tracee.tracer, stop.code, stop.code & 0x7f);
    let named = (tid, tracee.to_tracer.number);
    let news = match stop.kind {
        StopKind::Event if code == EVENT_STOP => info::child(named, libc::CLD_STOPPED, 0),
        StopKind::Group => info::child(named, libc::CLD_STOPPED, signal),
        _ => info::child(named, libc::CLD_TRAPPED, signal),
    };
    let has_message = match stop.kind {
        StopKind::Signal | StopKind::Group => false,
        StopKind::Event => code != EVENT_STOP,
        StopKind::CallEntry | StopKind::CallExit => true,
    };
    if !has_message {
        tracee.message = 0; // since Linux 5.18
    }
    tracee.phase = Phase::Stopped(stop);
    // Its tracer decides anew how it continues.
    tracee.step = Step::No;
    tell_tracer(world, tracer, named, news)
}

/// There is news of a tracee: wakes its tracer if that waits for it, and sends the tracer a
/// `SIGCHLD`.
pub(crate) fn tell_tracer(world: &mut World, tracer: Tid, tracee: (Tid, Vpid), news: SigInfo) -> Result<()> {
    wake_waiting(world, tracer, tracee)?;
    let Some(task) = world.tasks.get(&tracer).filter(|t| !t.life.exited) else {
        return Ok(());
    };
    let table = procfs::signal_dispositions(tracer)?;
    let is_blocked = table.blocked & bit(libc::SIGCHLD) != 0;
    let is_caught = table.caught & bit(libc::SIGCHLD) != 0;
    let is_stop = matches!(si_code(&news), libc::CLD_STOPPED | libc::CLD_TRAPPED);
    let is_unwanted = is_stop && task.signals.actions.of(libc::SIGCHLD).hears_no_stops();
    let has_one = task.signals.deferred.iter().any(|i| signo(i) == libc::SIGCHLD);
    if has_one || is_unwanted || !(is_blocked || is_caught) {
        return Ok(());
    }
    world.task_mut(tracer)?.signals.deferred.push(news);
    if !is_blocked {
        send_wakeup(world, tracer, libc::SIGCHLD, table.blocked)?;
    }
    Ok(())
}

/// Returns whether the signal must not be lost although it has no effect on the program: a tracer
/// sees all signals.
pub(crate) fn is_seen_by_tracer(world: &World, tid: Tid, info: &SigInfo) -> Result<bool> {
    Ok(world.task(tid)?.tracee.is_some() && !is_fault(info))
}
