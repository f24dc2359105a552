//! The user's request to stop a replay.

/// Called from time to time while tasks run.
pub trait Interrupt {
    /// Returns whether to stop now.
    fn is_requested(&mut self) -> bool;
}

/// Never interrupts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

impl Interrupt for Never {
    fn is_requested(&mut self) -> bool {
        false
    }
}
