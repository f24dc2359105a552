//! Replays whole events.

use crate::apply::apply_pending;
use crate::drive::proceed;
use crate::error::Result;
use crate::halt::{Halt, Pace};
use crate::interrupt::Never;
use crate::session::{ReplaySession, Replayed};
use crate::sprint::sprint;

impl ReplaySession {
    /// Replays the next event. Returns `None` at the end of the trace.
    pub fn step(&mut self) -> Result<Option<Replayed>> {
        if !self.fetch()? {
            return Ok(None);
        }
        // Breakpoints are not looked for here: a caller that stops at breakpoints does not step by
        // events.
        if !sprint(self)? {
            while proceed(self, Pace::Free, &mut Never)? != Halt::Arrived {}
        }
        apply_pending(self)
    }
}
