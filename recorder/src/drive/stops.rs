//! The kinds of stops, and who handles them.

use rr_tracee::task::{Resume, Stop};
use rr_tracee::{Stopped, Tid};

use crate::call::entry::on_entry;
use crate::call::exit::on_exit;
use crate::checkpoint::snapshots::{fork_snapshots, lose_snapshots};
use crate::error::Result;
use crate::point::interrupt::on_interrupted;
use crate::ptrace::resume::end_listening;
use crate::ptrace::stops::{note_stopped, stop_with_group, tells_of_group};
use crate::session::RecordSession;
use crate::signal::deliver::on_signal;
use crate::task::clone::on_new_task;
use crate::task::exec::on_exec;
use crate::task::exit_stop::on_exiting;
use crate::userfault::wait::leave_kernel;
use crate::world::call::Call;
use crate::world::next::Next;

/// Handles a stop of `tid`. Returns how the task goes on.
pub(crate) fn handle_stop(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    stop: Stop,
) -> Result<Next> {
    let waited = stop != Stop::Exiting && leave_kernel(&mut session.world, tid, &mut stopped)?;
    if waited && matches!(stop, Stop::Signal(_)) {
        // Before the signal is delivered, the task must not make the calls of a fork: the signal would be lost.
        let id = session.world.task(tid)?.space;
        lose_snapshots(session, id);
    }
    // In a group stop the task executes nothing, and must not leave the stop for us. A task woken
    // from a wait is answered first.
    let waits = |call: &Call| stop == Stop::Syscall && call.wait.is_some();
    let leaves = matches!(stop, Stop::Exiting | Stop::Exec { .. } | Stop::GroupStop(_))
        || session.world.task(tid)?.call.as_ref().is_some_and(waits);
    let stopped = if leaves {
        stopped
    } else {
        fork_snapshots(session, tid, stopped)?
    };
    session.world.task_mut(tid)?.signals.group_stop = None;
    session.policy.stats.stop(stop);
    match stop {
        Stop::Seccomp => on_entry(session, tid, stopped),
        Stop::Syscall => on_exit(session, tid, stopped),
        Stop::NewTask { child } => on_new_task(session, tid, stopped, child),
        Stop::Exec { former } => on_exec(session, tid, stopped, former),
        Stop::Exiting => on_exiting(session, tid, stopped),
        Stop::Signal(signal) => on_signal(session, tid, stopped, signal),
        Stop::GroupStop(signal) if tells_of_group(&session.world, tid)? => {
            stop_with_group(&mut session.world, tid, stopped, signal)
        }
        Stop::GroupStop(_) => {
            note_stopped(&mut session.world, tid)?;
            let xstate = session
                .checkpoints
                .is_on()
                .then(|| stopped.xstate())
                .transpose()?;
            session.world.task_mut(tid)?.signals.group_stop = xstate;
            Ok(Next::InKernel(stopped.resume(Resume::Listen, None)?))
        }
        Stop::Event if session.world.task(tid)?.interval.ticks.interrupt.is_some() => {
            on_interrupted(session, tid, stopped)
        }
        Stop::Event => {
            end_listening(&mut session.world, tid)?;
            Ok(Next::Ready(stopped))
        }
    }
}
