//! The user's wish that a replay stops.

/// Asked from time to time while tasks run.
pub trait Interrupt {
    /// Whether to stop now.
    fn is_requested(&mut self) -> bool;
}

/// Nobody interrupts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

impl Interrupt for Never {
    fn is_requested(&mut self) -> bool {
        false
    }
}
