//! A checkpoint before the end: when a signal is about to kill a process.
//!
//! Users look at a crash first. So if the last checkpoint is older than some tenths of a second
//! ([`Schedule::is_old`]), one is taken right after the event of the fatal signal. From there, replay
//! only has to replay the death.
//!
//! (An `exit_group` gets no such checkpoint: users look less often at that state, and the last
//! checkpoint is at most one interval away.)
//!
//! The task stands at the delivery stop of the signal. Its remote calls for the fork end that stop, and
//! the signal is lost. So the recorder sends it again and restores the information of the first one.
//! *No instruction of the program is executed in between*, and no other task runs.

use std::ops::ControlFlow;

use rr_tracee::task::{Resume, SigInfo, Waited, send_signal, signo};
use rr_tracee::{Registers, Stop, Stopped, Tid};

use crate::checkpoint::take::take_checkpoint;
use crate::error::Result;
use crate::session::RecordSession;
use crate::task::exit::task_is_gone;
use crate::world::next::Next;
use crate::world::task::State;

/// A task stands at the delivery stop of a fatal signal. The event is recorded, with these
/// registers. Returns the task at such a stop, unless the task has died meanwhile.
pub(crate) fn checkpoint_before_death(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    info: &SigInfo,
    at: Registers,
) -> Result<ControlFlow<Next, Stopped>> {
    match checkpoint_before_end(session, tid, stopped, at)? {
        ControlFlow::Continue((stopped, true)) => send_again(session, tid, stopped, info),
        ControlFlow::Continue((stopped, false)) => Ok(ControlFlow::Continue(stopped)),
        ControlFlow::Break(next) => Ok(ControlFlow::Break(next)),
    }
}

/// Same as [`checkpoint_before_death`], for a task that will be killed in another
/// way. Also returns whether the checkpoint was tried: then the task has left its former stop.
pub(crate) fn checkpoint_before_end(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    at: Registers,
) -> Result<ControlFlow<Next, (Stopped, bool)>> {
    let now = session
        .checkpoints
        .progress(session.log.last_event(), session.log.last_time_ns());
    if !session
        .checkpoints
        .schedule
        .as_ref()
        .is_some_and(|s| s.is_old(now))
    {
        return Ok(ControlFlow::Continue((stopped, false)));
    }
    let task = session.world.task_mut(tid)?;
    task.interval.boundary = at;
    task.state = State::Ready(stopped);
    wait_if_last(session, tid)?;
    let is_tried = take_checkpoint(session, tid, now)?;
    match session.world.task_mut(tid)?.take_state() {
        State::Ready(stopped) => Ok(ControlFlow::Continue((stopped, is_tried))),
        other => {
            session.world.task_mut(tid)?.state = other;
            Ok(ControlFlow::Break(Next::Reported))
        }
    }
}

/// Waits until the writer has room, if there is no other process: at the end of the recording rr
/// waits for the writer anyway.
fn wait_if_last(session: &RecordSession, tid: Tid) -> Result<()> {
    let tgid = session.world.task(tid)?.tgid;
    if session.world.tasks.values().all(|task| task.tgid == tgid)
        && let Some(writer) = &session.checkpoints.writer
    {
        writer.wait_for_room();
    }
    Ok(())
}

/// Brings a task back to the delivery stop of a signal that it does not block.
fn send_again(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    info: &SigInfo,
) -> Result<ControlFlow<Next, Stopped>> {
    let tgid = session.world.task(tid)?.tgid;
    send_signal(tgid, tid, signo(info))?;
    let mut waiting = stopped;
    loop {
        match waiting.resume(Resume::Cont, None)?.wait()? {
            Waited::Stopped(mut stopped, Stop::Signal(signal)) if signal == signo(info) => {
                stopped.set_siginfo(info)?;
                return Ok(ControlFlow::Continue(stopped));
            }
            // Other signals were pending. The process does not live to see them.
            Waited::Stopped(stopped, Stop::Signal(_) | Stop::Event) => waiting = stopped,
            Waited::Stopped(stopped, stop) => {
                return Ok(ControlFlow::Break(Next::Stop(stopped, stop)));
            }
            Waited::Gone(status) => {
                task_is_gone(session, tid, status)?;
                return Ok(ControlFlow::Break(Next::Reported));
            }
        }
    }
}
