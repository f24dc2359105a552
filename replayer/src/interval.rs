//! `Interval`: the way to the next event, and how much of it has been replayed.

use crate::pending::Pending;
use crate::position::Progress;

/// The interval that is under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interval {
    /// The event that is being replayed.
    pub pending: Option<Pending>,
    /// The task's progress in its interval.
    pub progress: Progress,
}
