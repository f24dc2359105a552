//! The live checkpoints of a timeline: limited in number and memory, dense near the last use and
//! sparser away from it.
//!
//! A live checkpoint holds the pages that have been written since, and their number is not known at
//! once. So the limit is the memory left for other programs: if less than an eighth of the machine's
//! memory is available, half of the checkpoints are removed.

use rr_checkpoint::retention::{Absence, least_missed};
use rr_trace::event::EventNumber;
use rr_tracee::procfs::MachineMemory;

use crate::live::LiveCheckpoint;
use crate::position::{Mark, Move, Path, Position, Progress};

/// Maximum number of live checkpoints.
const MOST: usize = 40;
/// Number of checkpoints that are kept however little memory is left.
const FEW: usize = 4;
/// Part of the machine's memory that is left for other programs: one divided by this.
const LEFT_FOR_OTHERS: u64 = 8;

/// A live checkpoint, and its position.
struct Entry {
    position: Position,
    /// Time of last use: grows with every checkpoint that is made or used.
    used: u64,
    live: LiveCheckpoint,
}

/// Live checkpoints, in the order of their events.
#[derive(Default)]
pub(super) struct Kept {
    entries: Vec<Entry>,
    clock: u64,
}

impl Kept {
    /// Adds a checkpoint. Another one may be removed for it.
    pub fn add(&mut self, live: LiveCheckpoint) {
        self.clock += 1;
        let position = live.position();
        let same = |e: &Entry| e.position == position;
        if self.entries.iter().any(same) {
            return;
        }
        let at = self.entries.partition_point(|e| e.position.last <= position.last);
        let used = self.clock;
        self.entries.insert(at, Entry { position, used, live });
        if self.entries.len() > MOST {
            self.thin();
        }
        if self.entries.len() > FEW && is_memory_short() {
            (0..self.entries.len() / 2).for_each(|_| self.thin());
        }
    }

    /// Removes the checkpoint that is missed least: the rest becomes sparser with the time since its
    /// use.
    fn thin(&mut self) {
        let absence = |n: usize| {
            let event = |n: usize| self.entries.get(n).map(|e| e.position.last.0);
            let before = n.checked_sub(1).and_then(event).unwrap_or(0);
            let after = event(n + 1).unwrap_or(u64::MAX / 2);
            Absence {
                gap: after - before,
                distance: self.clock - self.entries[n].used,
            }
        };
        if let Some(victim) = least_missed((0..self.entries.len()).map(absence)) {
            self.entries.remove(victim);
        }
    }

    /// The best checkpoint to reach a position from: the nearest that is known to be at or before it.
    /// Also returns its event.
    pub fn nearest(&mut self, goal: &Position) -> Option<(&LiveCheckpoint, EventNumber)> {
        let n = self.find(goal)?;
        self.clock += 1;
        let entry = self.entries.get_mut(n)?;
        entry.used = self.clock;
        Some((&entry.live, entry.position.last))
    }

    /// The nearest checkpoint that is known to be strictly before a position, and from which on `marks`
    /// can be counted: where a clock has stopped a task, only marks that are counted already can be.
    /// With `tried`, only checkpoints that have counted less.
    pub fn before(
        &mut self,
        goal: &Position,
        marks: &[Mark],
        tried: Option<&(Position, Progress)>,
    ) -> Option<(&LiveCheckpoint, Position)> {
        let counts = |e: &Entry| {
            let progress = e.live.progress();
            let is_new = tried.is_none_or(|(place, counted)| {
                place.last != e.position.last || progress.counts_less(counted, marks)
            });
            progress.is_named() || is_new && marks.iter().all(|mark| progress.is_armed(*mark))
        };
        let usable = (0..self.entries.len()).filter_map(|n| {
            let entry = &self.entries[n];
            let left = self.remainder(n, goal)?;
            (entry.position != *goal && counts(entry)).then_some((n, left))
        });
        let (n, _) = usable.max_by_key(|(n, left)| self.nearness(*n, left))?;
        self.clock += 1;
        let entry = self.entries.get_mut(n)?;
        entry.used = self.clock;
        Some((&entry.live, entry.position.clone()))
    }

    /// The nearest named checkpoint from which only `mark` must be counted to reach a position inside
    /// an interval, with the count.
    pub fn counting_before(&self, goal: &Position, mark: Mark) -> Option<(Position, u64)> {
        let candidates = (0..self.entries.len()).filter_map(|n| {
            let entry = &self.entries[n];
            if entry.position.last != goal.last || goal.arrived || !entry.live.progress().is_named() {
                return None;
            }
            match self.remainder(n, goal)?[..] {
                [Move::Until(same, left)] if same == mark => Some((entry.position.clone(), left)),
                _ => None,
            }
        });
        candidates.min_by_key(|(_, left)| *left)
    }

    fn find(&self, goal: &Position) -> Option<usize> {
        let usable = (0..self.entries.len()).filter_map(|n| Some((n, self.remainder(n, goal)?)));
        // In the goal's own interval, the one with the shortest rest.
        usable
            .max_by_key(|(n, left)| self.nearness(*n, left))
            .map(|(n, _)| n)
    }

    /// Larger for checkpoints nearer to a goal.
    fn nearness(&self, n: usize, left: &[Move]) -> impl Ord + use<> {
        (
            self.entries[n].position.last,
            std::cmp::Reverse(distance(left)),
            n,
        )
    }

    /// The rest of the goal's path from a checkpoint, if that is at or before the goal.
    fn remainder(&self, n: usize, goal: &Position) -> Option<Vec<Move>> {
        let entry = self.entries.get(n)?;
        if entry.position.last < goal.last {
            return Some(goal.path.0.clone());
        }
        if entry.position.last > goal.last || entry.position.arrived && !goal.arrived {
            return None;
        }
        if goal.arrived {
            return Some(Vec::new());
        }
        entry.live.progress().remainder(&goal.path)
    }
}

/// Returns whether the machine has little memory left.
fn is_memory_short() -> bool {
    MachineMemory::now().is_some_and(|memory| memory.available < memory.total / LEFT_FOR_OTHERS)
}

/// Approximate length of the rest, to compare ways with one end.
fn distance(left: &[Move]) -> (usize, u64) {
    let first = match left.first() {
        Some(Move::Until(_, count) | Move::Step(count)) => *count,
        Some(Move::Interrupted(_)) | None => 0,
    };
    (left.len(), first)
}

/// The part of a path before its last move, and that move.
pub(super) fn split_last(path: &Path) -> Option<(Path, Move)> {
    let (last, before) = path.0.split_last()?;
    Some((Path(before.to_vec()), *last))
}
