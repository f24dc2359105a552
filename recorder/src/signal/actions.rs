//! The actions of signals that the kernel forces on tasks because of rr, and of the one that rr sends to tracers.

use std::cell::RefCell;
use std::rc::Rc;

use rr_preload::layout::ACTIONS_KNOWN;
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, Memory, Registers};

/// The child's handlers become default actions (clone(2)).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

const SIGNALS: [i32; ACTIONS_KNOWN.count_ones() as usize] =
    [libc::SIGTRAP, libc::SIGSEGV, libc::SIGSYS, libc::SIGCHLD];

pub(crate) const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

const _: () = assert!(ACTIONS_KNOWN == bit(SIGNALS[0]) | bit(SIGNALS[1]) | bit(SIGNALS[2]) | bit(SIGNALS[3]));

/// An action in the kernel's format (`struct kernel_sigaction`: handler, flags, restorer, mask).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Action(pub(crate) [u64; 4]);

impl Action {
    const IGNORED: Action = Action([libc::SIG_IGN as u64, 0, 0, 0]);

    pub(crate) fn is_default(&self) -> bool {
        self.0[0] == libc::SIG_DFL as u64
    }

    pub(crate) fn is_ignored(&self) -> bool {
        self.0[0] == libc::SIG_IGN as u64
    }

    /// Returns whether the program does not want to hear of children (or tracees) that stop.
    pub(crate) fn hears_no_stops(&self) -> bool {
        self.0[1] & libc::SA_NOCLDSTOP as u64 != 0
    }

    fn is_once(&self) -> bool {
        self.0[1] & libc::SA_RESETHAND as u64 != 0
    }
}

/// The actions of the signals of [`ACTIONS_KNOWN`]: one table for all tasks that share their actions in the
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

    pub(crate) fn of(&self, signal: i32) -> Action {
        let place = SIGNALS.iter().position(|s| *s == signal);
        place.map_or(Action::default(), |n| self.0.borrow()[n])
    }

    pub(crate) fn set(&self, signal: i32, action: Action) {
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
