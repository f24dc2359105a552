//! How long a task may run freely: learned from the points before, because this machine need not be as fast as the one that recorded.

use std::time::Duration;

/// Shorter intervals are not worth it.
const WORTH: Duration = Duration::from_millis(5);
/// A live checkpoint may take this part of the interval.
const COST_MOST: u32 = 16;
/// So many intervals are left out after a checkpoint that took longer.
const PAUSE: u32 = 16;
/// The share of its recorded time that a task runs freely in the first interval…
const SHARE: f64 = 0.7;
/// …what it comes to while points are found, as a part of the highest one that may be possible…
const OF_HIGHEST: f64 = 0.92;
/// …by how much that seems higher each time…
const HIGHER: f64 = 1.01;
/// …and what part is left when a point was passed.
const LESS: f64 = 0.75;
/// After so many failures in a row there are no sprints any more.
const FAILURES: u32 = 4;

/// What is known of the sprints of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sprints {
    /// The share of its recorded time that the task runs freely.
    pub(super) share: f64,
    /// This much was too much.
    highest: f64,
    /// How often in a row a point was passed.
    failures: u32,
    /// So many intervals are still to be left out.
    pause: u32,
}

impl Default for Sprints {
    fn default() -> Sprints {
        Sprints {
            share: SHARE,
            highest: 1.0,
            failures: 0,
            pause: 0,
        }
    }
}

impl Sprints {
    /// How long a task may run freely in an interval that took so long when it was recorded.
    pub(super) fn length(&mut self, recorded: Duration) -> Option<Duration> {
        if self.failures >= FAILURES || recorded < WORTH {
            return None;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        Some(recorded.mul_f64(self.share))
    }

    /// A live checkpoint took so long.
    pub(super) fn note_cost(&mut self, cost: Duration, recorded: Duration) {
        if cost * COST_MOST > recorded {
            self.pause = PAUSE;
        }
    }

    /// The point was found.
    pub(super) fn note_found(&mut self) {
        self.failures = 0;
        self.highest = (self.highest * HIGHER).min(1.0);
        self.share = self.share.max((self.share + OF_HIGHEST * self.highest) / 2.0);
    }

    /// It was passed.
    pub(super) fn note_passed(&mut self) {
        self.failures += 1;
        self.highest = self.share;
        self.share *= LESS;
    }

    /// There are to be none any more.
    pub(super) fn stop(&mut self) {
        self.failures = FAILURES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    /// Sprints through so many intervals that take only a part of their recorded time; how many points were passed.
    fn passed(sprints: &mut Sprints, real: Duration, intervals: usize) -> usize {
        let passes = |sprints: &mut Sprints| {
            let is_passed = sprints.length(INTERVAL).unwrap() > real;
            match is_passed {
                true => sprints.note_passed(),
                false => sprints.note_found(),
            }
            is_passed
        };
        (0..intervals).filter(|_| passes(sprints)).count()
    }

    #[test]
    fn sprints_become_longer_while_points_are_found() {
        let mut sprints = Sprints::default();
        assert_eq!(passed(&mut sprints, INTERVAL, 10), 0);
        assert!(sprints.length(INTERVAL).unwrap() > INTERVAL * 8 / 10);
    }

    #[test]
    fn they_become_shorter_where_the_replay_is_faster() {
        let mut sprints = Sprints::default();
        let real = INTERVAL / 3;
        assert!(passed(&mut sprints, real, 10) <= 4);
        assert!(passed(&mut sprints, real, 100) <= 10);
        assert!(sprints.length(INTERVAL).unwrap() > real * 6 / 10);
    }

    #[test]
    fn there_are_none_where_they_only_fail_or_cost_too_much() {
        let mut sprints = Sprints::default();
        assert_eq!(sprints.length(WORTH / 2), None);
        sprints.note_cost(INTERVAL / 2, INTERVAL);
        let left_out = (0..100).take_while(|_| sprints.length(INTERVAL).is_none());
        assert_eq!(left_out.count(), PAUSE as usize);
        for _ in 0..FAILURES {
            sprints.note_passed();
        }
        assert_eq!(sprints.length(INTERVAL), None);
    }
}
