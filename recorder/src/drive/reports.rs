//! Reports of tasks: what a wait has told becomes the task's state.

use std::time::Duration;

use rr_tracee::task::{Report, Waited, wait};
use rr_tracee::{Running, Stop, tsc};

use crate::error::Result;
use crate::ptrace::tracee::Phase;
use crate::session::RecordSession;
use crate::task::auto_attach::note_unclaimed;
use crate::task::exit::task_is_gone;
use crate::world::model::World;
use crate::world::task::{State, Task};

/// Time between two checks of all tasks, for each task: about ten times the cost of a check.
const LOOK: Duration = Duration::from_micros(1);

/// Handles reports of tasks in the kernel. If decisions must be exact, or if the very event that
/// ends the turn may wake a task, woken tasks get the time to come out of the kernel.
pub(crate) fn let_woken_out(session: &mut RecordSession) -> Result<()> {
    if !session.drive.scheduler.is_exact() && !session.drive.scheduler.counts_events() {
        return note_at_times(session);
    }
    let_out(session)
}

/// Gives woken tasks the time to come out of the kernel.
pub(crate) fn let_out(session: &mut RecordSession) -> Result<()> {
    note_all_reports(session)?;
    while is_one_on_its_way(&mut session.world) {
        // SAFETY: sched_yield has no arguments.
        unsafe { libc::sched_yield() };
        note_all_reports(session)?;
    }
    // A task may have stopped while it was checked.
    note_all_reports(session)
}

/// Returns whether a task in the kernel is executing.
fn is_one_on_its_way(world: &mut World) -> bool {
    let states = &mut world.states;
    let in_kernel = |t: &&Task| matches!(t.state, State::InKernel(_));
    let mut tasks = world.tasks.values().filter(in_kernel);
    tasks.any(|t| matches!(states.of(t.tid), Ok('R')))
}

/// Handles reports from time to time: to find that there are none, the kernel looks at all tasks.
/// (If no task can run, rr waits for the next report anyway.)
fn note_at_times(session: &mut RecordSession) -> Result<()> {
    let now = tsc::now();
    if now.saturating_sub(session.drive.noted) >= LOOK * session.world.tasks.len() as u32 {
        session.drive.noted = now;
        note_all_reports(session)?;
    }
    Ok(())
}

/// Handles all reports that there are.
pub(crate) fn note_all_reports(session: &mut RecordSession) -> Result<()> {
    while let Some(report) = wait(None, true) {
        note_report(session, report)?;
    }
    Ok(())
}

/// Handles the report of a wait.
pub(crate) fn note_report(session: &mut RecordSession, report: Report) -> Result<()> {
    let tid = report.tid;
    let Some(task) = session.world.tasks.get_mut(&tid) else {
        return note_unclaimed(session, report);
    };
    let waited = match task.take_state() {
        State::InKernel(running) => running.waited(report),
        State::Ready(stopped) | State::Reported(stopped, _) => stopped.overtaken(report),
        State::Busy => Running::newborn(tid).waited(report),
    };
    match waited {
        Ok(Waited::Stopped(stopped, stop)) => {
            if let (Stop::Exiting, Some(tracee)) = (stop, &mut task.tracee) {
                // Death also ends a stop for a tracer.
                tracee.phase = Phase::Running;
            }
            task.state = State::Reported(stopped, stop);
            Ok(())
        }
        Ok(Waited::Gone(status)) => task_is_gone(session, tid, status),
        Err(rr_tracee::Error::Died(_)) => {
            session.world.dying(tid);
            Ok(())
        }
        Err(e) => Err(e.into()),
    }
}
