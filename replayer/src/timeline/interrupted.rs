//! The places where the user has interrupted a task: live checkpoints of places without a name, and
//! names (`names` finds them).

use crate::live::LiveCheckpoint;
use crate::position::Path;

/// Maximum number of live checkpoints of places without a name.
const MOST: usize = 12;

/// Places where the user has interrupted a task.
#[derive(Default)]
pub(super) struct Names {
    /// Live checkpoints of places without names.
    pub(super) nameless: Vec<(u64, LiveCheckpoint)>,
    /// The names.
    pub(super) named: Vec<(u64, Path)>,
}

impl Names {
    /// Adds a place that has no name yet. If there are too many, the oldest is forgotten.
    pub fn add(&mut self, number: u64, live: LiveCheckpoint) {
        self.nameless.push((number, live));
        if self.nameless.len() > MOST {
            self.nameless.remove(0);
        }
    }

    /// Returns whether a place has a name, or can be named.
    pub fn knows(&self, number: u64) -> bool {
        self.of(number).is_some() || self.nameless.iter().any(|(n, _)| *n == number)
    }

    pub(super) fn of(&self, number: u64) -> Option<&Path> {
        let found = self.named.iter().find(|(n, _)| *n == number);
        found.map(|(_, path)| path)
    }
}
