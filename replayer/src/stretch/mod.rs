//! Stretches: a trace cut at its stored checkpoints, into pieces that are replayed independently of each other.
//!
//! ```text
//!   start      stored     stored     stored      end
//!    ●──────────●──────────●──────────●───────────│───►
//!    │ stretch  │ stretch  │ stretch  │  stretch  │
//!      session    session    session     session
//!       CPU 0      CPU 1      CPU 0       CPU 1
//! ```
//!
//! Each stretch is replayed by its own session, from one stored checkpoint to the next ([`between`]
//! cuts, `pool` runs). Searching backwards (`timeline::parallel`) and [`crate::verify`] use all CPUs,
//! [`crate::create`] one.
//!
//! *The number of the CPU.* Where `cpuid` cannot be intercepted, a program sees the CPU that it runs on
//! (APIC id, Intel SDM vol. 2A, CPUID leaves 1, 0BH and 1FH). The dynamic loader reads the number when
//! it starts, and stores it. Libraries read it when they are loaded. In the middle of a program almost
//! nothing does. So a stretch is replayed on any CPU. If that was not the recorded one, its outcome
//! counts only if image and all memory at its end are those of the stored checkpoint there (I4): then
//! nothing that was executed has depended on the CPU and left a trace of it. Otherwise the stretch is
//! replayed again on the recorded CPU, which is the CPU of the calling thread, *home*. (Undetected
//! would be code that reads the number, acts on it, and forgets it before the next event. Registers are
//! compared at every event, I7.)

pub(crate) mod pool;
mod stored;

use std::fmt;

use rr_trace::event::EventNumber;

use crate::position::Position;

pub use stored::Stored;

/// A part of a trace from a stored checkpoint to the beginning of the next stretch, or to the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The event of the checkpoint, or 0 for the start of the recording.
    pub from: EventNumber,
    /// End of the stretch.
    pub to: Position,
    /// True if the stretch ends at a stored checkpoint.
    pub ends_stored: bool,
}

impl Stretch {
    /// Returns whether the stretch begins at the start of the recording.
    pub fn is_first(&self) -> bool {
        self.from.0 == 0
    }
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_first() {
            true => write!(f, "from the start")?,
            false => write!(f, "from the checkpoint at event {}", self.from)?,
        }
        match self.ends_stored {
            true => write!(f, " to the checkpoint at event {}", self.to.last),
            false => write!(f, " to {}", self.to),
        }
    }
}

/// The stretches of a trace before `end`, newest first, up to the one that contains `begin`. `stored`
/// are the events of the checkpoints, ascending. `starts` says that the trace has its beginning
/// (otherwise the part before the first checkpoint is left out).
pub fn between(stored: &[EventNumber], starts: bool, begin: EventNumber, end: &Position) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    let mut to = end.clone();
    while to.last > begin || to.last == begin && to != Position::at_event(begin) {
        let is_at_event = to == Position::at_event(to.last);
        // A checkpoint at the end begins the next stretch.
        let before = match is_at_event {
            true => stored.partition_point(|at| *at < to.last),
            false => stored.partition_point(|at| *at <= to.last),
        };
        let from = before.checked_sub(1).map(|n| stored[n]);
        if from.is_none() && !starts {
            break;
        }
        let from = from.unwrap_or_default();
        let ends_stored = is_at_event && stored.get(before) == Some(&to.last);
        stretches.push(Stretch {
            from,
            to,
            ends_stored,
        });
        to = Position::at_event(from);
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(stored: &[u64], starts: bool, begin: u64, end: &Position) -> Vec<(u64, u64, bool)> {
        let stored: Vec<EventNumber> = stored.iter().copied().map(EventNumber).collect();
        let stretches = between(&stored, starts, EventNumber(begin), end);
        let plain = |s: Stretch| (s.from.0, s.to.last.0, s.ends_stored);
        stretches.into_iter().map(plain).collect()
    }

    #[test]
    fn a_trace_is_cut_at_its_checkpoints() {
        let at = |event| Position::at_event(EventNumber(event));
        assert_eq!(cut(&[], true, 0, &at(9)), [(0, 9, false)]);
        assert_eq!(
            cut(&[3, 6], true, 0, &at(9)),
            [(6, 9, false), (3, 6, true), (0, 3, true)]
        );
        assert_eq!(cut(&[3, 6], true, 0, &at(6)), [(3, 6, true), (0, 3, true)]);
        assert_eq!(cut(&[3, 6], true, 4, &at(7)), [(6, 7, false), (3, 6, true)]);
        assert_eq!(cut(&[3, 6], false, 0, &at(9)), [(6, 9, false), (3, 6, true)]);
        assert_eq!(cut(&[], false, 0, &at(9)), []);
        let inside = Position::before_event(EventNumber(6));
        assert_eq!(cut(&[3, 6], true, 6, &inside), [(6, 6, false)]);
    }
}
