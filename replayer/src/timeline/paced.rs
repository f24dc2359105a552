//! Interrupts by the user, and by the clock when a live checkpoint is due.

use std::time::Duration;

use rr_tracee::tsc;

use crate::interrupt::Interrupt;

/// Time of replay between two live checkpoints, if they cost little.
const SPACING: Duration = Duration::from_millis(50);
/// Maximum part of the time for live checkpoints: one divided by this.
const SHARE: u32 = 20;

/// Asks the user, and the clock.
pub(super) struct Paced<'a> {
    user: &'a mut dyn Interrupt,
    is_asked: bool,
    due: Duration,
}

/// Time at which the next live checkpoint is due, after one that took this time.
pub(super) fn due_after(took: Duration) -> Duration {
    tsc::now() + SPACING.max(took * SHARE)
}

impl<'a> Paced<'a> {
    /// Interrupts by this user. The first live checkpoint is due after a while.
    pub fn new(user: &'a mut dyn Interrupt) -> Paced<'a> {
        Paced::until(user, due_after(Duration::ZERO))
    }

    /// Interrupts by this user. The first live checkpoint is due at this time.
    pub fn until(user: &'a mut dyn Interrupt, due: Duration) -> Paced<'a> {
        Paced {
            user,
            is_asked: false,
            due,
        }
    }

    /// Asks the user.
    pub fn ask_user(&mut self) -> bool {
        self.is_asked |= self.user.is_requested();
        self.is_asked
    }

    /// Returns whether the user has requested an interrupt.
    pub fn user_has_asked(&self) -> bool {
        self.is_asked
    }

    /// Returns whether a live checkpoint is due.
    pub fn is_due(&self) -> bool {
        tsc::now() >= self.due
    }

    /// Notes that a live checkpoint has been made, and its cost.
    pub fn next_after(&mut self, took: Duration) {
        self.due = due_after(took);
    }
}

impl Interrupt for Paced<'_> {
    fn is_requested(&mut self) -> bool {
        self.ask_user() || self.is_due()
    }
}
