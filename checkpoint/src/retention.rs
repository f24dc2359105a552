//! The choice of the checkpoints that stay when there is no room for all.
//!
//! People start at the end (the crash) and go backwards. So checkpoints may lie the farther apart the farther they are
//! from there: the one goes first whose absence is missed least ([`least_missed`]). With a bounded number of checkpoints, the
//! gaps between them grow with the distance; or else, for gaps in a given proportion to it, their number grows with the
//! logarithm of the length.
//!
//! [`thin`] applies the rule to the stored checkpoints of a trace. The live checkpoints of a debugger follow the same rule.

use rr_trace::event::EventNumber;

use crate::collection::Collection;

/// The latest checkpoints, which go last of all.
pub const LATEST: usize = 3;

/// A checkpoint that could go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Absence {
    /// The distance between its neighbours.
    pub gap: u64,
    /// Its distance from the place where it is likely to be needed.
    pub distance: u64,
}

/// The one whose absence is missed least: it leaves the smallest gap in proportion to its distance.
pub fn least_missed(absences: impl IntoIterator<Item = Absence>) -> Option<usize> {
    let missed = |a: Absence| (a.gap as f64 + 1.0) / (a.distance as f64 + 1.0);
    let all = absences.into_iter().map(missed).enumerate();
    all.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(n, _)| n)
}

/// A limit for the checkpoints of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// A number of bytes.
    Bytes(u64),
    /// A number of checkpoints.
    Count(usize),
}

impl Limit {
    /// Says if the checkpoints of a trace are within the limit.
    pub fn holds(self, collection: &Collection) -> bool {
        match self {
            Limit::Bytes(bytes) => collection.bytes() <= bytes,
            Limit::Count(count) => collection.checkpoints().count() <= count,
        }
    }
}

/// Of the checkpoints at these times (ascending), the one that goes first, of those that may go. Never the last one.
///
/// Those in the middle go by the rule. The first one, which stands for the whole beginning, and the [`LATEST`] go when none
/// is left between them.
pub(crate) fn next_to_go(times: &[u64], may_go: impl Fn(usize) -> bool) -> Option<usize> {
    let last = times.len().checked_sub(1)?;
    let end = times[last];
    let middle: Vec<usize> = (1..times.len().saturating_sub(LATEST))
        .filter(|n| may_go(*n))
        .collect();
    let absence = |n: &usize| Absence {
        gap: times[n + 1].saturating_sub(times[n - 1]),
        distance: end.saturating_sub(times[*n]),
    };
    match least_missed(middle.iter().map(absence)) {
        Some(n) => Some(middle[n]),
        None => (0..last).find(|n| may_go(*n)),
    }
}

/// Removes checkpoints from a collection until the limit holds. `false`: it does not, because the last one and those in `kept`
/// are too much already.
pub fn thin(collection: &mut Collection, limit: Limit, kept: &[EventNumber]) -> bool {
    while !limit.holds(collection) {
        let all: Vec<_> = collection.checkpoints().collect();
        let times: Vec<u64> = all.iter().map(|c| c.time_ns).collect();
        let Some(victim) = next_to_go(&times, |n| !kept.contains(&all[n].event)) else {
            return false;
        };
        let event = all[victim].event;
        collection.remove(event);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one checkpoint after the other, with room for a given number.
    fn recorded(length: u64, room: usize) -> Vec<u64> {
        let mut times = Vec::new();
        for time in 1..=length {
            times.push(time);
            while times.len() > room {
                let n = next_to_go(&times, |_| true).unwrap();
                times.remove(n);
            }
        }
        times
    }

    /// The widest gap in proportion to the distance of its later side from the end.
    fn worst(times: &[u64]) -> f64 {
        let end = times[times.len() - 1];
        let gaps = times.windows(2).map(|w| (w[1] - w[0], end - w[1]));
        let far = gaps.filter(|(_, distance)| *distance > 0);
        far.map(|(gap, distance)| gap as f64 / distance as f64)
            .fold(0.0, f64::max)
    }

    #[test]
    fn with_room_for_all_none_goes() {
        assert_eq!(recorded(40, 40), (1..=40).collect::<Vec<_>>());
    }

    #[test]
    fn the_number_grows_with_the_logarithm_of_the_length() {
        for (length, room) in [(100, 20), (1000, 30), (10_000, 40), (100_000, 50)] {
            let times = recorded(length, room);
            assert_eq!((times.len(), times[0]), (room, 1));
            assert_eq!(times[room - LATEST..], [length - 2, length - 1, length]);
            let worst = worst(&times);
            assert!(
                worst < 2.0,
                "{length}: a gap of {worst} of its distance: {times:?}"
            );
        }
    }

    #[test]
    fn the_first_and_the_latest_go_last_and_one_stays() {
        let times = [10, 20, 30, 40, 50, 60];
        let all = |_| true;
        assert_eq!(next_to_go(&times, all), Some(1));
        assert_eq!(next_to_go(&[10, 40, 50, 60], all), Some(0));
        assert_eq!(next_to_go(&[40, 50, 60], all), Some(0));
        assert_eq!(next_to_go(&[60], all), None);
        assert_eq!(next_to_go(&[], all), None);
        let kept = |n| n > 1;
        assert_eq!(next_to_go(&times, kept), Some(2));
        assert_eq!(next_to_go(&[10, 20], kept), None);
    }

    #[test]
    fn times_of_a_hostile_trace_do_no_harm() {
        assert_eq!(next_to_go(&[9, 3, u64::MAX, 0, 7, 1, 2], |_| true), Some(3));
    }
}
