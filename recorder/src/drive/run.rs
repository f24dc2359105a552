//! Running one task to its next stop.
//!
//! Keeps I1: at most one tracee executes user code at any time. One task runs until it blocks in the
//! kernel or the scheduler ends its turn. The other tasks are checked only then. Recorder and tracees
//! share one CPU, where handing over takes 3 µs. So one `sched_yield` lets a resumed task run first,
//! and shows if it has blocked.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use rr_tracee::task::{Report, Resume, wait, wait_for_tick};
use rr_tracee::ticker::take_tick;
use rr_tracee::{Running, Stopped, Tid, tsc};

use crate::buffer::control::{give_ring, tell_due, tell_library};
use crate::call::record::record_call;
use crate::call::rseq::abort_if_preempted;
use crate::checkpoint::snapshots::fork_snapshots;
use crate::drive::reports::note_report;
use crate::drive::stops::handle_stop;
use crate::error::{Error, Result};
use crate::log::events::note_pending_entry;
use crate::point::interrupt::on_tick;
use crate::point::preempt::{drawn, preempt};
use crate::ptrace::steps::{begin_step, wants_step};
use crate::ptrace::stops::{is_stop_due, stop_as_due};
use crate::session::RecordSession;
use crate::signal::forced::ask_mask;
use crate::task::exit::task_is_gone;
use crate::userfault::rights::make_due;
use crate::userfault::wait::{still_waits, wait_in_kernel};
use crate::world::next::{Next, Until};
use crate::world::task::State;

/// A call that takes longer than this sleeps most of the time.
const SLEEP: Duration = Duration::from_millis(1);

/// Waits for a report about any task while no task executes user code: the program sleeps, or works
/// in the kernel.
pub(crate) fn sleep_until_report(session: &mut RecordSession) -> Option<Report> {
    let began = tsc::now();
    let report = loop {
        let report = wait_for_tick(None, false);
        if report.is_some() || Errno::last() != Errno::EINTR || session.is_time_over() {
            break report;
        }
    };
    let slept = tsc::now() - began;
    if slept >= SLEEP {
        session.checkpoints.count_sleep(slept);
    }
    report
}

/// Handles the error that a task was killed while the recorder worked on it (`tid` ran last): its
/// end will be reported.
pub(crate) fn survive_death(session: &mut RecordSession, tid: Tid, result: Result<()>) -> Result<()> {
    match result {
        Err(Error::Tracee(rr_tracee::Error::Died(dead))) if session.world.tasks.contains_key(&dead) => {
            session.world.dying(dead);
            match wait(Some(dead), true) {
                Some(report) => note_report(session, report),
                // Reaped already, in the middle of something else: then no report will come. (The
                // task may still exist, for its parent.)
                None if nix::errno::Errno::last() == nix::errno::Errno::ECHILD => {
                    task_is_gone(session, dead, libc::SIGKILL)
                }
                None => Ok(()),
            }
        }
        // Its end has already been noticed and recorded, in the middle of something else.
        Err(Error::Tracee(rr_tracee::Error::Died(dead))) if dead == tid => Ok(()),
        // A dying task has no memory, which causes strange errors.
        Err(e @ (Error::Tracee(_) | Error::Unexpected { .. })) => match is_dying(tid) {
            Some(report) => note_report(session, report),
            None => Err(e),
        },
        other => other,
    }
}

/// Makes one step of a runnable task: resumes it, or handles its stop. If the stop was reported
/// just now (`fresh`), it is known to be its last.
pub(crate) fn advance_task(session: &mut RecordSession, tid: Tid, fresh: bool) -> Result<()> {
    // Another task may have killed this one meanwhile (exec, exit_group). Then it stands at its
    // exit stop, which must not be taken for the known stop: if a leader were resumed from there,
    // it would be gone and never be reported.
    if !fresh
        && session.world.tasks.len() > 1
        && let Some(report) = wait(Some(tid), true)
    {
        note_report(session, report)?;
        if !session.world.tasks.contains_key(&tid) {
            return Ok(());
        }
    }
    match session.world.task_mut(tid)?.take_state() {
        State::Ready(stopped) if is_stop_due(&session.world, tid)? => {
            session.world.task_mut(tid)?.state = State::Ready(stopped);
            stop_as_due(&mut session.world, tid)
        }
        State::Ready(stopped) if still_waits(&mut session.world, tid, &stopped)? => {
            let next = wait_in_kernel(session, tid, stopped)?;
            follow(session, tid, next)
        }
        State::Ready(mut stopped) => {
            abort_if_preempted(session, tid, &mut stopped)?;
            let steps = wants_step(&session.world, tid)?;
            if steps {
                begin_step(session, tid, &mut stopped)?;
            }
            go_on(session, tid, stopped, steps)
        }
        State::Reported(stopped, stop) => {
            let next = handle_stop(session, tid, stopped, stop)?;
            follow(session, tid, next)
        }
        state @ (State::InKernel(_) | State::Busy) => {
            session.world.task_mut(tid)?.state = state;
            Ok(())
        }
    }
}

/// Goes on with a task as the handler of its stop says.
fn follow(session: &mut RecordSession, tid: Tid, next: Next) -> Result<()> {
    let state = match next {
        Next::Ready(stopped) => State::Ready(make_due(&mut session.world, tid, stopped)?),
        Next::Record(stopped, record) => {
            record_call(session, tid, *record)?;
            State::Ready(make_due(&mut session.world, tid, stopped)?)
        }
        Next::Stop(stopped, stop) => State::Reported(stopped, stop),
        Next::Wait(running, Until::Stop) => return await_stop(session, tid, running),
        Next::Wait(running, Until::Wait) => return await_call(session, tid, running),
        Next::Wait(running, Until::OthersHaveRun) => return enter_kernel(session, tid, running),
        Next::InKernel(running) => State::InKernel(running),
        Next::Reported => return Ok(()),
    };
    session.world.task_mut(tid)?.state = state;
    Ok(())
}

/// Lets a task run to its next stop. `steps`: its tracer wants to see its next step.
fn go_on(session: &mut RecordSession, tid: Tid, stopped: Stopped, steps: bool) -> Result<()> {
    let stopped = fork_snapshots(session, tid, stopped)?;
    let stopped = give_ring(&mut session.world, tid, stopped)?;
    let stopped = make_due(&mut session.world, tid, stopped)?;
    tell_due(session, tid)?;
    tell_library(session, tid)?;
    // In the middle of an interval, "before the next instruction" does not name a place.
    let due = !session.world.task(tid)?.interval.between && stopped.signal_due()?;
    ask_mask(&mut session.world, tid, &stopped)?;
    let task = session.world.task_mut(tid)?;
    task.signals.is_due = due;
    task.interval.ran = true;
    session.drive.last_run = Some(tid);
    if let Some(count) = drawn(session, &stopped)?.filter(|_| !due && !steps) {
        let next = preempt(session, tid, stopped, count)?;
        return follow(session, tid, next);
    }
    let running = stopped.resume(Resume::Cont, None)?;
    await_stop(session, tid, running)
}

/// Waits until the task stops. Other tasks need not be checked, because it executes user code, or a
/// call that cannot block.
pub(crate) fn await_stop(session: &mut RecordSession, tid: Tid, running: Running) -> Result<()> {
    let several = session.world.tasks.len() > 1;
    if let Some(ticker) = &mut session.drive.ticker {
        ticker.make_short(several)?;
    }
    let task = session.world.task_mut(tid)?;
    task.state = State::InKernel(running);
    // If a task stops again and again, ticks come while the recorder works, and none ends the wait.
    if task.call.is_none() && take_tick() {
        on_tick(session, tid)?;
        if !session.world.is_in_kernel(tid) {
            return Ok(());
        }
    }
    loop {
        match wait_for_tick(Some(tid), false) {
            Some(report) => return note_report(session, report),
            None if nix::errno::Errno::last() == nix::errno::Errno::EINTR => {
                take_tick();
                if Running::newborn(tid).is_lost() {
                    return Ok(());
                }
                on_tick(session, tid)?;
            }
            None => return Ok(()),
        }
        // Handling the other tasks may have reported this one.
        if !session.world.is_in_kernel(tid) {
            return Ok(());
        }
    }
}

/// Waits until the task stops or is found to sleep in the kernel. Then others can run.
pub(crate) fn await_call(session: &mut RecordSession, tid: Tid, running: Running) -> Result<()> {
    session.world.task_mut(tid)?.state = State::InKernel(running);
    // No other task could run. (A dead task that we have not reaped counts, because its parent may
    // wait for it.)
    while session.world.tasks.len() == 1 && !session.is_time_over() {
        match sleep_until_report(session) {
            Some(report) => {
                note_report(session, report)?;
                if report.tid == tid {
                    return Ok(());
                }
            }
            None if nix::errno::Errno::last() == nix::errno::Errno::ECHILD => return Ok(()),
            None => {}
        }
    }
    loop {
        // SAFETY: sched_yield has no arguments.
        unsafe { libc::sched_yield() };
        if let Some(report) = wait(Some(tid), true) {
            return note_report(session, report);
        }
        match session.world.states.of(tid) {
            Ok('R') => {}
            // The task waits for a disk, or for a lock in the kernel. Neither takes long. After the
            // lock it may sleep for another task, so its state is checked again.
            Ok('D') => std::thread::sleep(std::time::Duration::from_micros(20)),
            // A stop that the next wait reports.
            Ok('t') => {}
            _ => break,
        }
    }
    note_pending_entry(session, tid);
    Ok(())
}

/// The task stays in the kernel while others run.
pub(crate) fn enter_kernel(session: &mut RecordSession, tid: Tid, running: Running) -> Result<()> {
    session.world.task_mut(tid)?.state = State::InKernel(running);
    note_pending_entry(session, tid);
    Ok(())
}

/// The report of a task's end, if that comes soon.
fn is_dying(tid: Tid) -> Option<Report> {
    const NEAR: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + NEAR;
    while Instant::now() < deadline {
        if let Some(report) = wait(Some(tid), true) {
            let exiting = report.status >> 16 == libc::PTRACE_EVENT_EXIT;
            return (exiting || report.is_gone()).then_some(report);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}
