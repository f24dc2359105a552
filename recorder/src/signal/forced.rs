//! The changes that the kernel makes when it forces a signal on a task because of rr, and how they are
//! undone.
//!
//! `rdtsc` traps with a `SIGSEGV`, a single step with a `SIGTRAP`, `int 0x80` with a `SIGSYS`. The
//! program does not know these signals, but the kernel forces them: if the program blocks or ignores
//! the signal, it is no longer blocked afterwards, and its action becomes the default
//! (`force_sig_info_to_task` in kernel/signal.c). If a signal of that number was already pending for
//! the task, it replaces the forced one.
//!
//! So the recorder knows, for these signals ([`FORCED`]), which of them the task blocks and their
//! actions in its process. It sees the action whenever the program sets it (the library leaves that
//! call to it). It reads the mask before the task continues, if the mask may have changed. The library
//! reports changes by buffered calls.

use rr_preload::layout::FORCED;
use rr_tracee::remote::Remote;
use rr_tracee::task::{SigInfo, is_fault, signo};
use rr_tracee::{Stopped, Tid};

use crate::buffer::control::ask_blocked;
use crate::error::Result;
use crate::signal::actions::{Action, bit};
use crate::signal::requeue::requeue_signals;
use crate::world::call::Call;
use crate::world::model::World;

/// Size of the kernel's signal set in bytes.
const SIGSET_BYTES: u64 = 8;

/// Lets a task set an action.
fn set_action(stopped: Stopped, tgid: Tid, signal: i32, action: Action) -> Result<Stopped> {
    let remote = Remote::new(stopped, tgid)?;
    let bytes: Vec<u8> = action.0.iter().flat_map(|word| word.to_le_bytes()).collect();
    let at = remote.param(&bytes)?;
    let args = [signal as u64, at.0, 0, SIGSET_BYTES, 0, 0];
    Ok(remote.call(libc::SYS_rt_sigaction, args)?.0.finish()?)
}

/// Before a task continues: makes sure that its blocked signals of [`FORCED`] are known.
pub(crate) fn ask_mask(world: &mut World, tid: Tid, stopped: &Stopped) -> Result<()> {
    let task = world.task_mut(tid)?;
    if task.signals.blocked.is_none() {
        task.signals.blocked = Some(stopped.sigmask()? & FORCED);
    }
    Ok(())
}

/// After a call of `rt_sigaction`. If the old action cannot be stored, the new one is in force all
/// the same.
pub(crate) fn note_action(world: &mut World, tid: Tid, call: &mut Call, result: i64) -> Result<()> {
    if let Some((signal, action)) = call.action.take()
        && (result == 0 || result == -i64::from(libc::EFAULT))
    {
        world.task(tid)?.signals.actions.set(signal, action);
    }
    Ok(())
}

/// Returns whether a signal must have been forced, because the task blocks it.
pub(crate) fn is_forced(world: &mut World, tid: Tid, signal: i32) -> Result<bool> {
    ask_blocked(world, tid)?;
    Ok(world.task(tid)?.signals.blocked.unwrap_or(0) & bit(signal) != 0)
}

/// Does what the kernel does before it forces a signal that a task blocks or ignores: the action
/// becomes the default, and the signal is unblocked.
pub(crate) fn force_default(world: &mut World, tid: Tid, stopped: Stopped, signal: i32) -> Result<Stopped> {
    let task = world.task_mut(tid)?;
    task.signals.blocked = None;
    task.signals.actions.set(signal, Action::default());
    let mut stopped = set_action(stopped, task.tgid, signal, Action::default())?;
    let mask = stopped.sigmask()?;
    stopped.set_sigmask(mask & !bit(signal))?;
    Ok(stopped)
}

/// Undoes a signal that came because of rr. `info` says which.
pub(crate) fn undo_force(
    world: &mut World,
    tid: Tid,
    mut stopped: Stopped,
    info: &SigInfo,
) -> Result<Stopped> {
    let signal = signo(info);
    if FORCED & bit(signal) == 0 {
        return Ok(stopped);
    }
    let blocked = is_forced(world, tid, signal)?;
    let task = world.task(tid)?;
    let (tgid, action) = (task.tgid, task.signals.actions.of(signal));
    if blocked {
        let mask = stopped.sigmask()?;
        stopped.set_sigmask(mask | bit(signal))?;
    }
    if action.is_ignored() || blocked && !action.is_default() {
        stopped = set_action(stopped, tgid, signal, action)?;
    }
    if blocked && !is_fault(info) {
        // The signal was pending, and still is.
        stopped = requeue_signals(world, tid, stopped, vec![*info])?;
    }
    Ok(stopped)
}
