//! Reports of tasks: what a wait has told becomes the task's state.

use std::time::Duration;

use rr_tracee::task::{Report, Waited, wait};
use rr_tracee::{Running, Stop, Tid, tsc};

use crate::drive::contention::Wake;
use crate::error::Result;
use crate::ptrace::tracee::Phase;
use crate::session::RecordSession;
use crate::task::auto_attach::note_unclaimed;
use crate::task::exit::task_is_gone;
use crate::world::task::{State, Task};

/// Time between two checks of all tasks, for each task: about ten times the cost of a check.
const LOOK: Duration = Duration::from_micros(1);

/// Number of tasks that are checked after a wake, beside those that it has woken: tasks do not begin to wait exactly in the order of
/// their calls.
const MORE: usize = 4;

/// Handles reports of tasks in the kernel. If decisions must be exact, or if the very event that
/// ends the turn may wake a task, woken tasks get the time to come out of the kernel.
pub(crate) fn let_woken_out(session: &mut RecordSession) -> Result<()> {
    if !session.drive.scheduler.is_exact() && !session.drive.scheduler.counts_events() {
        return note_at_times(session);
    }
    let_out(session)
}

/// Gives woken tasks the time to come out of the kernel.
fn let_out(session: &mut RecordSession) -> Result<()> {
    let_some_out(session, |session| {
        let tasks = session.world.tasks.values();
        tasks
            .filter(|task| is_in_kernel(task))
            .map(|task| task.tid)
            .collect()
    })
}

/// Gives the tasks that a wake has woken the time to come out of the kernel. Only those are checked that have waited longest: to check
/// all takes too long where a thousand tasks wait for one lock. (The kernel may have chosen others, by their priority for instance.
/// They come out later.)
pub(crate) fn let_woken_by(session: &mut RecordSession, Wake { at, woken }: Wake) -> Result<()> {
    let_some_out(session, |session| {
        let tasks = &session.world.tasks;
        let is_waiting = |tid: Tid| tasks.get(&tid).is_some_and(is_in_kernel);
        session
            .drive
            .contention
            .longest_waiting_at(at, woken.saturating_add(MORE), is_waiting)
    })
}

/// Lets some tasks come out of the kernel that are on their way.
fn let_some_out(session: &mut RecordSession, some: impl Fn(&RecordSession) -> Vec<Tid>) -> Result<()> {
    note_all_reports(session)?;
    loop {
        let some = some(session);
        let states = &mut session.world.states;
        if !some.iter().any(|tid| matches!(states.of(*tid), Ok('R'))) {
            break;
        }
        // SAFETY: sched_yield has no arguments.
        unsafe { libc::sched_yield() };
        note_all_reports(session)?;
    }
    // A task may have stopped while it was checked.
    note_all_reports(session)
}

fn is_in_kernel(task: &Task) -> bool {
    matches!(task.state, State::InKernel(_))
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
