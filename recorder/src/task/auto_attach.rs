//! Tasks that the recorder does not know yet: between their creation and their parent's event.
//!
//! The kernel attaches a new task to us and lets the task report by itself, before or after its
//! parent's report of the creation. Either of them can be killed in between. Two rules hold:
//!
//! * *The death of one does not end the recording.* A new task that was killed before its parent's
//!   event is not recorded at all, because it executed nothing.
//! * *No task stays stopped for ever.* If a parent was killed before its event, the new task is killed,
//!   too. To the program that looks as if the parent had been killed a moment earlier, before the call.

use rr_trace::event::CloneInfo;
use rr_tracee::syscalls::{Class, Emulated};
use rr_tracee::task::{Report, Resume, Stop, Waited, wait};
use rr_tracee::{Running, SpaceId, Tid, procfs};

use crate::checkpoint::changes::forget_baseline;
use crate::drive::state::Drive;
use crate::error::{Error, Result};
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::model::World;
use crate::world::task::Task;

pub(crate) const CLONE_VM: u64 = libc::CLONE_VM as u64;
pub(crate) const CLONE_THREAD: u64 = libc::CLONE_THREAD as u64;
pub(crate) const CLONE_CHILD_CLEARTID: u64 = libc::CLONE_CHILD_CLEARTID as u64;

impl Call {
    /// Returns whether the call may create a task that has not been reported yet.
    fn is_creating(&self) -> bool {
        let class = self.spec.map(|spec| spec.class);
        self.created.is_none() && matches!(class, Some(Class::Emulated(Emulated::Clone)))
    }
}

/// Lets an unknown task die, if it is about to. Otherwise returns its stop.
fn let_die(report: Report) -> Result<Option<Waited>> {
    match Running::newborn(report.tid).waited(report) {
        Ok(Waited::Stopped(stopped, Stop::Exiting)) => {
            stopped.resume(Resume::Cont, None)?;
            Ok(None)
        }
        Ok(other) => Ok(Some(other)),
        Err(rr_tracee::Error::Died(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Ends a task that will never be known.
fn end_orphan(tid: Tid) {
    // A thread dies by whatever killed its group. A signal to it would reach the whole group, whose
    // other threads may live on (exec).
    if procfs::tgid(tid).is_ok_and(|tgid| tgid == tid) {
        rr_tracee::task::kill(tid);
    }
}

/// Handles a report about a task that is not in the table.
pub(crate) fn note_unclaimed(session: &mut RecordSession, report: Report) -> Result<()> {
    if session.checkpoints.fork_is_gone(report) {
        return Ok(());
    }
    let awaited = session
        .world
        .tasks
        .values()
        .any(|t| t.call.as_ref().is_some_and(Call::is_creating));
    match let_die(report)? {
        Some(_) if awaited => {
            session.drive.early.insert(report.tid, report);
        }
        Some(Waited::Stopped(..)) => end_orphan(report.tid),
        Some(Waited::Gone(_)) | None => {}
    }
    Ok(())
}

/// The first report about a task that was just created. A report that it is about to die is
/// skipped: then it will be gone.
fn first_report(drive: &mut Drive, tid: Tid) -> Result<Waited> {
    loop {
        let Some(report) = drive.early.remove(&tid).or_else(|| wait(Some(tid), false)) else {
            if nix::errno::Errno::last() == nix::errno::Errno::ECHILD {
                return Err(rr_tracee::Error::Died(tid).into());
            }
            continue;
        };
        if let Some(waited) = let_die(report)? {
            return Ok(waited);
        }
    }
}

/// The new task `child` of `parent`, ready to be resumed at its parent's event. `None` if it was
/// killed already.
pub(crate) fn claim_new_task(
    session: &mut RecordSession,
    parent: Tid,
    child: Tid,
) -> Result<Option<(CloneInfo, Task)>> {
    match try_claim_new_task(session, parent, child) {
        Err(Error::Tracee(rr_tracee::Error::Died(dead))) if dead == child => Ok(None),
        other => other,
    }
}

fn try_claim_new_task(
    session: &mut RecordSession,
    parent: Tid,
    child: Tid,
) -> Result<Option<(CloneInfo, Task)>> {
    let waited = first_report(&mut session.drive, child)?;
    // All other unknown tasks are orphans.
    for (_, report) in std::mem::take(&mut session.drive.early) {
        if !report.is_gone() {
            end_orphan(report.tid);
        }
    }
    let parent_task = session.world.task_mut(parent)?;
    let Some(call) = &mut parent_task.call else {
        return Err(Error::Unexpected {
            tid: parent,
            what: format!("created task {child} outside a system call"),
        });
    };
    call.created = Some(child);
    let entry = call.entry;
    let Waited::Stopped(mut first, Stop::Event) = waited else {
        return Ok(None);
    };
    let Some(creation) = call.creation.clone() else {
        return Ok(None);
    };
    let flags = creation.flags;
    let regs = first.regs()?.with_arguments_of(&entry).outside_call();
    first.set_regs(&regs)?;
    let creator = parent;
    let parent = session.world.task(parent)?;
    let tgid = if flags & CLONE_THREAD != 0 {
        parent.tgid
    } else {
        child
    };
    let space = if flags & CLONE_VM != 0 {
        parent.space
    } else {
        SpaceId(session.world.last_space + 1)
    };
    let info = CloneInfo {
        child,
        tgid,
        space,
        flags,
        regs,
    };
    let mut task = Task::new(first, tgid, space, regs);
    task.life.exe = parent.life.exe.clone();
    task.life.parent = match flags & (CLONE_THREAD | libc::CLONE_PARENT as u64) {
        0 => Some(creator),
        _ => parent.life.parent,
    };
    task.settings.affinity = parent.settings.affinity.clone();
    task.settings.confined = parent.settings.confined.clone();
    task.settings.is_counter_denied = parent.settings.is_counter_denied;
    task.settings.is_cpuid_denied = parent.settings.is_cpuid_denied;
    task.settings.read_implies_exec = parent.settings.read_implies_exec;
    task.settings.rseq = parent.settings.rseq.filter(|_| flags & CLONE_VM == 0);
    task.signals.actions = parent.signals.actions.of_child(flags);
    if flags & CLONE_CHILD_CLEARTID != 0 {
        task.settings.clear_child_tid = creation.child_tid;
    }
    Ok(Some((info, task)))
}

/// A task is about to be gone: its system call will not return, and a task that the call has
/// created is an orphan.
pub(crate) fn forget_call(session: &mut RecordSession, tid: Tid) {
    let Some(call) = session.world.tasks.get_mut(&tid).and_then(|t| t.call.take()) else {
        return;
    };
    if call.is_creating() {
        forget_baseline(&mut session.world, tid);
    }
    if let Some(child) = call.created {
        forget_child(&mut session.world, child);
    }
    if call.is_creating() {
        for (_, report) in std::mem::take(&mut session.drive.early) {
            if !report.is_gone() {
                end_orphan(report.tid);
            }
        }
    }
}

/// Ends `child`, which was created by a call whose event will never be recorded.
pub(crate) fn forget_child(world: &mut World, child: Tid) {
    world.new_tasks.remove(&child);
    if !world.tasks.contains_key(&child) {
        end_orphan(child);
    }
}
