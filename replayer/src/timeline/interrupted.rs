//! The places where the user has interrupted a task: live checkpoints of those without a name, and names (`names` finds them).

use crate::live::LiveCheckpoint;
use crate::position::Path;

/// The most live checkpoints of places without a name.
const MOST: usize = 12;

/// Where the user has interrupted a task.
#[derive(Default)]
pub(super) struct Names {
    /// Until the places have names: where they are.
    pub(super) nameless: Vec<(u64, LiveCheckpoint)>,
    /// Their names.
    pub(super) named: Vec<(u64, Path)>,
}

impl Names {
    /// A place that has no name yet. Of too many, the first is forgotten.
    pub fn add(&mut self, number: u64, live: LiveCheckpoint) {
        self.nameless.push((number, live));
        if self.nameless.len() > MOST {
            self.nameless.remove(0);
        }
    }

    /// Whether a place can be named, or is.
    pub fn knows(&self, number: u64) -> bool {
        self.of(number).is_some() || self.nameless.iter().any(|(n, _)| *n == number)
    }

    pub(super) fn of(&self, number: u64) -> Option<&Path> {
        let found = self.named.iter().find(|(n, _)| *n == number);
        found.map(|(_, path)| path)
    }
}
