//! The stop of a task that is about to exit: its memory still exists.

use std::ops::ControlFlow;

use rr_tracee::task::{Resume, wait};
use rr_tracee::{Stopped, Tid, procfs};

use crate::checkpoint::snapshots::lose_snapshots;
use crate::drive::reports::note_report;
use crate::error::Result;
use crate::log::events::flush_entries;
use crate::ptrace::family::stop_at_end;
use crate::session::RecordSession;
use crate::task::auto_attach::forget_call;
use crate::task::exit::{group_is_dying, record_exit};
use crate::task::leaving::{left_behind, left_in_shared, left_in_space, words_of_leaving};
use crate::world::next::Next;

/// Handles a task that is about to exit: its memory still exists.
pub(crate) fn on_exiting(session: &mut RecordSession, tid: Tid, stopped: Stopped) -> Result<Next> {
    let status = stopped.event_message()? as i32;
    let task = session.world.task(tid)?;
    let (space, tgid) = (task.space, task.tgid);
    forget_call(session, tid);
    let last = stopped.regs()?.orig_rax as i64;
    if last != libc::SYS_exit {
        group_is_dying(&mut session.world, tgid);
    }
    let stopped = match stop_at_end(&mut session.world, tid, stopped)? {
        ControlFlow::Continue(stopped) => stopped,
        ControlFlow::Break(next) => return Ok(next),
    };
    let witness = session
        .world
        .tasks
        .values()
        .any(|t| t.space == space && t.tid != tid && !t.life.exited);
    lose_snapshots(session, space);
    // If the task is on its way into a call, that ends its interval.
    flush_entries(session)?;
    let mut writes = left_in_shared(&session.world, tid)?;
    let leaving = words_of_leaving(&session.world, tid)?;
    let running = stopped.resume(Resume::Cont, None)?;
    // The kernel marks the robust locks that the task held, and clears a word when the task leaves
    // memory that others share (set_tid_address(2)). It must have done so before any other task
    // runs.
    let mut gone = None;
    if witness || !leaving.shared.is_empty() {
        gone = wait_for_end(tid, tid == tgid);
    }
    writes.extend(left_behind(&mut session.world, tid, &leaving)?);
    let by_itself = [libc::SYS_exit, libc::SYS_exit_group].contains(&last);
    let (ops, left) = left_in_space(&mut session.world, tid, !by_itself)?;
    writes.extend(left);
    record_exit(session, tid, status, ops, writes)?;
    match gone {
        Some(report) => {
            note_report(session, report)?;
            Ok(Next::Reported)
        }
        None => Ok(Next::InKernel(running)),
    }
}

/// Waits until a dying task has left its memory: until it is gone, or, for the leader of a group that
/// lives on (whose end is reported only later), until it is a zombie.
fn wait_for_end(tid: Tid, leader: bool) -> Option<rr_tracee::task::Report> {
    if !leader {
        return wait(Some(tid), false);
    }
    loop {
        if let Some(report) = wait(Some(tid), true) {
            return Some(report);
        }
        if !matches!(procfs::state(tid), Ok('R' | 'D' | 'S')) {
            return None;
        }
        // SAFETY: sched_yield has no arguments.
        unsafe { libc::sched_yield() };
    }
}
