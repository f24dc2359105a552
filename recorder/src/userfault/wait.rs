//! Tasks that wait for a page.
//!
//! The kernel lets such a task wait inside its instruction, until somebody wakes it or a signal comes. In a recording the task makes
//! `pause(2)` instead, with an instruction of rr's, so signals end its wait, too. Whatever stops it there, its registers become those
//! at the faulting instruction again. So to everybody else the task stands there, after its last event. If it goes on with these
//! registers and nobody has woken it, it waits again. If it goes on with others (those of a signal handler), its wait is over.
//!
//! ```text
//! fault ──► event ──► pause ──► woken: executes the instruction again
//!                      ▲  │
//!                      │  └───► stop (signal, job control, tracer) ──► other registers: the wait is over
//!                      └─────────────────────────── the same registers ──┘
//! ```

use rr_tracee::regs::{NOT_IN_SYSCALL, TF};
use rr_tracee::task::{Resume, signo};
use rr_tracee::{AddrRange, Registers, SpaceId, Stopped, Tid, rr_area};

use super::key::ObjectKey;
use super::state::{PageWait, Phase};
use crate::checkpoint::snapshots::fork_snapshots;
use crate::error::Result;
use crate::session::RecordSession;
use crate::signal::forced::ask_mask;
use crate::signal::numbers::bit;
use crate::signal::wakeup_signal::send_wakeup;
use crate::world::model::World;
use crate::world::next::{Next, Until};
use crate::world::task::State;

/// The task has faulted, and waits from now on.
pub(crate) fn begin_wait(
    session: &mut RecordSession,
    tid: Tid,
    stopped: &Stopped,
    wait: PageWait,
) -> Result<()> {
    let is_on = session.checkpoints.is_on();
    let xstate = is_on.then(|| stopped.xstate()).transpose()?;
    let mask = stopped.sigmask()?;
    let task = session.world.task_mut(tid)?;
    task.life.page_wait = Some(Box::new(PageWait { xstate, ..wait }));
    // A deferred signal can come now, as at a system call.
    let deferred = task.signals.deferred.iter().map(signo);
    let deliverable = deferred.into_iter().find(|signal| mask & bit(*signal) == 0);
    match deliverable {
        Some(signal) => send_wakeup(&mut session.world, tid, signal, mask),
        None => Ok(()),
    }
}

/// Returns whether a task that could go on waits for a page.
pub(crate) fn still_waits(world: &mut World, tid: Tid, stopped: &Stopped) -> Result<bool> {
    let Some(wait) = &world.task(tid)?.life.page_wait else {
        return Ok(false);
    };
    let waits = stopped.regs()?.outside_call() == wait.regs;
    if !waits {
        forget_wait(world, tid);
    }
    Ok(waits)
}

/// Lets a task wait in the kernel.
pub(crate) fn wait_in_kernel(session: &mut RecordSession, tid: Tid, stopped: Stopped) -> Result<Next> {
    let mut stopped = fork_snapshots(session, tid, stopped)?;
    ask_mask(&mut session.world, tid, &stopped)?;
    let regs = stopped.regs()?;
    stopped.set_regs(&Registers {
        rip: rr_area::SYSCALL_INSN.0,
        rax: libc::SYS_pause as u64,
        orig_rax: NOT_IN_SYSCALL,
        eflags: regs.eflags & !TF,
        ..regs
    })?;
    if let Some(wait) = &mut session.world.task_mut(tid)?.life.page_wait {
        wait.phase = Phase::InKernel;
    }
    let running = stopped.resume(Resume::Cont, None)?;
    Ok(Next::Wait(running, Until::Wait))
}

/// A task has stopped: if it comes from a wait for a page, it stands at its instruction again. Returns whether it does.
pub(crate) fn leave_kernel(world: &mut World, tid: Tid, stopped: &mut Stopped) -> Result<bool> {
    let task = world.task_mut(tid)?;
    let Some(wait) = task.life.page_wait.as_mut() else {
        return Ok(false);
    };
    let regs = wait.regs;
    match wait.phase {
        Phase::Standing => return Ok(false),
        Phase::InKernel => wait.phase = Phase::Standing,
        Phase::Woken => task.life.page_wait = None,
    }
    // The stop comes before the instruction.
    task.signals.is_due = true;
    stopped.set_regs(&regs)?;
    Ok(true)
}

/// Wakes the tasks of an address space that wait for pages of a range and of this object.
pub(crate) fn wake(world: &mut World, id: SpaceId, owner: ObjectKey, range: AddrRange) -> Result<()> {
    let waits =
        |wait: &PageWait| wait.phase != Phase::Woken && wait.owner == owner && range.contains(wait.page);
    let woken: Vec<Tid> = world
        .tasks
        .values()
        .filter(|t| t.space == id && t.life.page_wait.as_deref().is_some_and(waits))
        .map(|t| t.tid)
        .collect();
    for tid in &woken {
        let task = world.task_mut(*tid)?;
        match (&mut task.life.page_wait, &task.state) {
            (Some(wait), State::InKernel(running)) if wait.phase == Phase::InKernel => {
                wait.phase = Phase::Woken;
                running.interrupt()?;
            }
            // It has been stopped in the kernel, and comes from there.
            (Some(wait), _) if wait.phase == Phase::InKernel => wait.phase = Phase::Woken,
            (wait, _) => *wait = None,
        }
    }
    if let Some(object) = world.space_mut(id).userfaults.objects.get_mut(&owner) {
        object.take_back(&woken);
    }
    Ok(())
}

/// A task does not wait any more, because a signal handler runs or because it has died.
pub(crate) fn forget_wait(world: &mut World, tid: Tid) {
    let Some(task) = world.tasks.get_mut(&tid) else {
        return;
    };
    let (space, wait) = (task.space, task.life.page_wait.take());
    if let Some(wait) = wait
        && let Some(space) = world.spaces.get_mut(&space)
        && let Some(object) = space.userfaults.objects.get_mut(&wait.owner)
    {
        object.take_back(&[tid]);
    }
}
