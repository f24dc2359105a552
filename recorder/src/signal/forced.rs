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

use std::cell::RefCell;
use std::rc::Rc;

use rr_preload::layout::FORCED;
use rr_tracee::memory::ReadMemory;
use rr_tracee::remote::Remote;
use rr_tracee::task::{SigInfo, is_fault, signo};
use rr_tracee::{Addr, Memory, Registers, Stopped, Tid};

use crate::error::Result;
use crate::session::RecordSession;
use crate::world::task::Call;

/// The child's handlers become default actions (clone(2)).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// Size of the kernel's signal set in bytes.
const SIGSET_BYTES: u64 = 8;
const SIGNALS: [i32; FORCED.count_ones() as usize] = [libc::SIGTRAP, libc::SIGSEGV, libc::SIGSYS];

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

const _: () = assert!(FORCED == bit(SIGNALS[0]) | bit(SIGNALS[1]) | bit(SIGNALS[2]));

/// An action in the kernel's format (`struct kernel_sigaction`: handler, flags, restorer, mask).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Action([u64; 4]);

impl Action {
    const IGNORED: Action = Action([libc::SIG_IGN as u64, 0, 0, 0]);

    fn is_default(&self) -> bool {
        self.0[0] == libc::SIG_DFL as u64
    }

    fn is_ignored(&self) -> bool {
        self.0[0] == libc::SIG_IGN as u64
    }

    fn is_once(&self) -> bool {
        self.0[1] & libc::SA_RESETHAND as u64 != 0
    }
}

/// The actions of the signals of [`FORCED`]: one table for all tasks that share their actions in the
/// kernel.
#[derive(Clone, Debug, Default)]
pub struct Actions(Rc<RefCell<[Action; SIGNALS.len()]>>);

impl Actions {
    /// The actions of the first program, which has inherited its set of ignored signals.
    pub fn inherited(ignored: u64) -> Actions {
        let of = |signal| {
            if ignored & bit(signal) != 0 {
                Action::IGNORED
            } else {
                Action::default()
            }
        };
        Actions(Rc::new(RefCell::new(SIGNALS.map(of))))
    }

    /// The actions of a new task.
    pub fn of_child(&self, flags: u64) -> Actions {
        if flags & libc::CLONE_SIGHAND as u64 != 0 {
            self.clone()
        } else if flags & CLONE_CLEAR_SIGHAND != 0 {
            self.after_exec()
        } else {
            Actions(Rc::new(RefCell::new(*self.0.borrow())))
        }
    }

    /// The actions after the execution of a program: actions that are not to ignore become default
    /// ones.
    pub fn after_exec(&self) -> Actions {
        let kept = |action: Action| {
            if action.is_ignored() {
                action
            } else {
                Action::default()
            }
        };
        Actions(Rc::new(RefCell::new(self.0.borrow().map(kept))))
    }

    fn of(&self, signal: i32) -> Action {
        let place = SIGNALS.iter().position(|s| *s == signal);
        place.map_or(Action::default(), |n| self.0.borrow()[n])
    }

    fn set(&self, signal: i32, action: Action) {
        if let Some(n) = SIGNALS.iter().position(|s| *s == signal) {
            self.0.borrow_mut()[n] = action;
        }
    }

    /// Notes that a handler has been called.
    pub fn delivered(&self, signal: i32) {
        let mut action = self.of(signal);
        if action.is_once() {
            action.0[0] = libc::SIG_DFL as u64;
            self.set(signal, action);
        }
    }
}

/// The action that a call of `rt_sigaction` sets, if it concerns one of these signals. (Read it before
/// the call: the old action may be stored in its place.)
pub fn action_of(entry: &Registers, memory: &Memory) -> Option<(i32, Action)> {
    if entry.syscall() != libc::SYS_rt_sigaction || entry.rsi == 0 {
        return None;
    }
    let signal = entry.rdi as i32;
    let mut bytes = [0; size_of::<Action>()];
    // If the action cannot be read, the call fails.
    memory.read(Addr(entry.rsi), &mut bytes).ok()?;
    let mut words = bytes
        .chunks_exact(8)
        .map(|b| u64::from_le_bytes(*b.first_chunk().unwrap_or(&[0; 8])));
    let action = Action(std::array::from_fn(|_| words.next().unwrap_or(0)));
    SIGNALS.contains(&signal).then_some((signal, action))
}

/// Lets a task set an action.
fn set_action(stopped: Stopped, tgid: Tid, signal: i32, action: Action) -> Result<Stopped> {
    let remote = Remote::new(stopped, tgid)?;
    let bytes: Vec<u8> = action.0.iter().flat_map(|word| word.to_le_bytes()).collect();
    let at = remote.param(&bytes)?;
    let args = [signal as u64, at.0, 0, SIGSET_BYTES, 0, 0];
    Ok(remote.call(libc::SYS_rt_sigaction, args)?.0.finish()?)
}

impl RecordSession {
    /// Before a task continues: makes sure that its blocked signals of [`FORCED`] are known.
    pub(crate) fn ask_mask(&mut self, tid: Tid, stopped: &Stopped) -> Result<()> {
        let task = self.task_mut(tid)?;
        if task.blocked.is_none() {
            task.blocked = Some(stopped.sigmask()? & FORCED);
        }
        Ok(())
    }

    /// After a call of `rt_sigaction`. If the old action cannot be stored, the new one is in force all
    /// the same.
    pub(crate) fn note_action(&mut self, tid: Tid, call: &mut Call, result: i64) -> Result<()> {
        if let Some((signal, action)) = call.action.take()
            && (result == 0 || result == -i64::from(libc::EFAULT))
        {
            self.task(tid)?.actions.set(signal, action);
        }
        Ok(())
    }

    /// Returns whether a signal must have been forced, because the task blocks it.
    pub(crate) fn is_forced(&mut self, tid: Tid, signal: i32) -> Result<bool> {
        self.ask_blocked(tid)?;
        Ok(self.task(tid)?.blocked.unwrap_or(0) & bit(signal) != 0)
    }

    /// Does what the kernel does before it forces a signal that a task blocks or ignores: the action
    /// becomes the default, and the signal is unblocked.
    pub(crate) fn force_default(&mut self, tid: Tid, stopped: Stopped, signal: i32) -> Result<Stopped> {
        let task = self.task_mut(tid)?;
        task.blocked = None;
        task.actions.set(signal, Action::default());
        let mut stopped = set_action(stopped, task.tgid, signal, Action::default())?;
        let mask = stopped.sigmask()?;
        stopped.set_sigmask(mask & !bit(signal))?;
        Ok(stopped)
    }

    /// Undoes a signal that came because of rr. `info` says which.
    pub(crate) fn undo_force(&mut self, tid: Tid, mut stopped: Stopped, info: &SigInfo) -> Result<Stopped> {
        let signal = signo(info);
        if FORCED & bit(signal) == 0 {
            return Ok(stopped);
        }
        let blocked = self.is_forced(tid, signal)?;
        let task = self.task(tid)?;
        let (tgid, action) = (task.tgid, task.actions.of(signal));
        if blocked {
            let mask = stopped.sigmask()?;
            stopped.set_sigmask(mask | bit(signal))?;
        }
        if action.is_ignored() || blocked && !action.is_default() {
            stopped = set_action(stopped, tgid, signal, action)?;
        }
        if blocked && !is_fault(info) {
            // The signal was pending, and still is.
            stopped = self.requeue(tid, stopped, vec![*info])?;
        }
        Ok(stopped)
    }
}
