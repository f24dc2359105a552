//! Frozen forks: the processes that hold the pages of a checkpoint until they are written.
//!
//! *A frozen fork must be invisible to the program.* It
//! * is a child of rr, not of the program. A helper makes it and dies at once, and the helper is reaped
//!   immediately. So no `SIGCHLD` comes, no `wait4` sees it, and it is not among the process's
//!   children;
//! * shares the descriptor table for a moment (`CLONE_FILES`), and then takes an empty one of its own
//!   (`close_range` with `CLOSE_RANGE_UNSHARE`): it never holds a pipe, a socket or a lock;
//! * has its own process group, so that `kill(0, …)` does not reach it;
//! * is killed as soon as its pages are read. If it is kept for the next checkpoint
//!   ([`crate::checkpoint::baseline`]), it is killed when that is taken, or when a file that it keeps busy is to be
//!   written or sealed.
//!
//! Processes in their own pid namespace cannot be forked without the program noticing: they are read in
//! place and wait for that.

use std::time::{Duration, Instant};

use rr_tracee::remote::Remote;
use rr_tracee::task::{Report, Resume, Waited, wait};
use rr_tracee::{Running, Stop, Stopped, Tid};

use crate::checkpoint::capture::Capture;
use crate::error::Result;
use crate::session::RecordSession;
use crate::world::task::{State, Task};

const CLOSE_RANGE_UNSHARE: u64 = 2;

const CLONE_FILES: u64 = libc::CLONE_FILES as u64;

impl Capture {
    /// Notes that a process has become a subreaper (prctl(2)), or is none any more.
    pub(crate) fn note_subreaper(&mut self, tgid: Tid, on: bool) {
        if on {
            self.subreapers.insert(tgid);
        } else {
            self.subreapers.remove(&tgid);
        }
    }

    /// Handles a report about a frozen fork. Returns whether it was one.
    pub(crate) fn fork_is_gone(&mut self, report: Report) -> bool {
        if report.is_gone() {
            self.forks.remove(&report.tid)
        } else {
            self.forks.contains(&report.tid)
        }
    }

    /// Makes a frozen fork of a stopped task. `None` if the kernel does not allow another process.
    ///
    /// ```text
    /// task ──clone(VM)──► helper ──clone──► frozen
    ///                     exits             becomes a child of rr, its subreaper for this moment
    /// ```
    fn fork(&mut self, tgid: Tid, stopped: Stopped) -> Result<(Stopped, Option<Tid>)> {
        let (stopped, helper) = clone_task(stopped, tgid, CLONE_FILES | libc::CLONE_VM as u64)?;
        let Some(helper) = helper else {
            return Ok((stopped, None));
        };
        let helper_tid = helper.tid();
        let frozen = clone_task(helper, helper_tid, CLONE_FILES).map(|(_, frozen)| frozen);
        subreaper(true);
        rr_tracee::task::kill(helper_tid);
        while wait(Some(helper_tid), false).is_some_and(|report| !report.is_gone()) {}
        subreaper(false);
        let args = [
            helper_tid.0 as u64,
            0,
            (libc::__WALL | libc::WNOHANG) as u64,
            0,
            0,
            0,
        ];
        // If the helper was killed, there is no fork. If the task was killed, the fork must not be
        // forgotten.
        let frozen = frozen.unwrap_or(None);
        self.forks.extend(frozen.as_ref().map(Stopped::tid));
        let reaped = Remote::new(stopped, tgid)
            .and_then(|remote| remote.call(libc::SYS_wait4, args))
            .and_then(|(remote, _)| remote.finish());
        if let (Err(_), Some(frozen)) = (&reaped, &frozen) {
            rr_tracee::task::kill(frozen.tid());
        }
        let stopped = reaped?;
        let Some(frozen) = frozen else {
            return Ok((stopped, None));
        };
        let tid = frozen.tid();
        let prepared = Remote::new(frozen, tid)
            .and_then(|r| {
                r.must(
                    "close_range",
                    libc::SYS_close_range,
                    [0, u32::MAX.into(), CLOSE_RANGE_UNSHARE, 0, 0, 0],
                )
            })
            .and_then(|(r, _)| r.must("setpgid", libc::SYS_setpgid, [0; 6]))
            .and_then(|(r, _)| r.finish().map(drop));
        if let Err(e) = prepared {
            tracing::warn!("cannot prepare a frozen fork: {e}");
            rr_tracee::task::kill(tid);
            return Ok((stopped, None));
        }
        Ok((stopped, Some(tid)))
    }

    /// Kills all frozen forks, at the end of the recording.
    pub(crate) fn kill_forks(&mut self) {
        self.let_all_go();
        self.forks.iter().for_each(|fork| rr_tracee::task::kill(*fork));
    }

    /// Ends all frozen forks, after a moment of patience for the writer. If no checkpoint may be
    /// skipped, the moment is as long as needed. Returns whether there were any forks.
    pub(crate) fn release_forks(&mut self, why: &'static str) -> bool {
        if self.forks.is_empty() {
            return false;
        }
        self.let_all_go();
        let moment = if self.patient { 60_000 } else { 100 };
        let patience = Instant::now() + Duration::from_millis(moment);
        for source in std::mem::take(&mut self.sources) {
            while !source.is_finished() && Instant::now() < patience {
                std::thread::sleep(Duration::from_micros(200));
            }
            source.abandon(why);
        }
        for fork in std::mem::take(&mut self.forks) {
            rr_tracee::task::kill(fork);
            while wait(Some(fork), false).is_some_and(|report| !report.is_gone()) {}
        }
        true
    }
}

/// Makes a frozen fork of a stopped task, while the program's subreapers are disabled.
pub(crate) fn fork_task(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
) -> Result<(Stopped, Option<Tid>)> {
    let tgid = session.world.task(tid)?.tgid;
    // A frozen fork must become our child and nobody else's.
    let (stopped, possible) = set_subreapers(session, false, tgid, stopped)?;
    let (stopped, fork) = if possible {
        session.checkpoints.fork(tgid, stopped)?
    } else {
        (stopped, None)
    };
    let (stopped, _) = set_subreapers(session, true, tgid, stopped)?;
    Ok((stopped, fork))
}

/// Disables the program's own subreapers for a moment, or enables them again. `stopped` is a task
/// of `tgid`. Returns `false` if one of them is blocked in the kernel and cannot be changed, or if
/// some task is dying.
fn set_subreapers(
    session: &mut RecordSession,
    on: bool,
    tgid: Tid,
    mut stopped: Stopped,
) -> Result<(Stopped, bool)> {
    let args = [libc::PR_SET_CHILD_SUBREAPER as u64, u64::from(on), 0, 0, 0, 0];
    // A dying task may be leaving orphans now, which belong to the program's subreaper.
    if !on
        && !session.checkpoints.subreapers.is_empty()
        && session.world.tasks.values().any(|t| t.life.exited)
    {
        return Ok((stopped, false));
    }
    for reaper in session.checkpoints.subreapers.clone() {
        if reaper == tgid {
            stopped = Remote::new(stopped, tgid)?
                .call(libc::SYS_prctl, args)?
                .0
                .finish()?;
            continue;
        }
        let stopped_one =
            |t: &&Task| t.tgid == reaper && !t.life.exited && matches!(t.state, State::Ready(_));
        let Some(tid) = session.world.tasks.values().find(stopped_one).map(|t| t.tid) else {
            if session
                .world
                .tasks
                .values()
                .any(|t| t.tgid == reaper && !t.life.exited)
            {
                return Ok((stopped, false));
            }
            session.checkpoints.subreapers.remove(&reaper);
            continue;
        };
        if let State::Ready(other) = session.world.task_mut(tid)?.take_state() {
            let other = Remote::new(other, reaper)?
                .call(libc::SYS_prctl, args)?
                .0
                .finish()?;
            session.world.task_mut(tid)?.state = State::Ready(other);
        }
    }
    Ok((stopped, true))
}

/// Lets a stopped task clone itself. The clone is stopped and has few ptrace options.
fn clone_task(stopped: Stopped, tgid: Tid, flags: u64) -> Result<(Stopped, Option<Stopped>)> {
    let (mut remote, _) = Remote::new(stopped, tgid)?.call(libc::SYS_clone, [flags, 0, 0, 0, 0, 0])?;
    let child = remote.take_child();
    let stopped = remote.finish()?;
    let Some(child) = child else {
        return Ok((stopped, None));
    };
    // If the clone was killed meanwhile, there is no fork, and the next wait gets its end.
    let first = match Running::newborn(child).wait() {
        Ok(Waited::Stopped(new, Stop::Event)) => Some(new),
        Ok(Waited::Stopped(dying, _)) => {
            dying.resume(Resume::Cont, None)?;
            None
        }
        Ok(Waited::Gone(_)) | Err(_) => None,
    };
    // Its death must not wait for us. (Our remote calls do end with a stop of the filter.)
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACESECCOMP
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_EXITKILL;
    let new = first.filter(|new| new.set_options(options).is_ok());
    Ok((stopped, new))
}

/// Makes orphans among our descendants our children, or no longer (prctl(2), `PR_SET_CHILD_SUBREAPER`).
fn subreaper(on: bool) {
    // SAFETY: prctl with plain numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(on), 0, 0, 0) };
}

/// Returns whether a task can be forked for a snapshot unnoticed: not if its children are in another
/// pid namespace than ours. There the helper would take a number that the program's own children use,
/// or be the namespace's first process and end the namespace when it exits. Also, orphans would not
/// become our children.
pub(crate) fn is_forkable(tid: Tid) -> bool {
    let ours = std::fs::read_link("/proc/self/ns/pid");
    // The link leads nowhere while the new namespace has no process.
    let theirs = std::fs::read_link(format!("/proc/{tid}/ns/pid_for_children"));
    matches!((ours, theirs), (Ok(ours), Ok(theirs)) if ours == theirs)
}
