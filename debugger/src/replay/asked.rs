//! The server's question to the user, in the form that the replayer asks it.

use crate::target::Interrupt;

/// An answer holds: one that came together with a breakpoint that does not stop the program is not lost.
pub(super) struct Asked<'a> {
    user: &'a mut dyn Interrupt,
    pub(super) is_asked: bool,
}

impl Asked<'_> {
    pub(super) fn new(user: &mut dyn Interrupt) -> Asked<'_> {
        Asked {
            user,
            is_asked: false,
        }
    }
}

impl rr_replayer::Interrupt for Asked<'_> {
    fn is_requested(&mut self) -> bool {
        self.is_asked = self.is_asked || self.user.is_requested();
        self.is_asked
    }
}
