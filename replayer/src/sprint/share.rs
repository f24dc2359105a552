//! The time that a task may run freely: learned from earlier points, because this machine may be slower
//! or faster than the one that recorded.

use std::time::Duration;

/// Minimum length of an interval for a sprint.
const WORTH: Duration = Duration::from_millis(5);
/// Maximum cost of a live checkpoint: the interval divided by this.
const COST_MOST: u32 = 16;
/// Number of intervals without sprints after a checkpoint that took longer.
const PAUSE: u32 = 16;
/// Share of its recorded time that a task runs freely in the first interval.
const SHARE: f64 = 0.7;
/// Share that is approached while points are found, as a part of the highest possible one.
const OF_HIGHEST: f64 = 0.92;
/// Growth of the highest possible share after each found point.
const HIGHER: f64 = 1.01;
/// Factor for the share after a passed point.
const LESS: f64 = 0.75;
/// Number of failures in a row after which there are no sprints any more.
const FAILURES: u32 = 4;

/// The search takes at most this many times the rest of the recorded time, plus this minimum, if the point
/// can have been passed.
const PATIENCE: u32 = 10;
const PATIENCE_LEAST: Duration = Duration::from_millis(5);
/// Same as [`PATIENCE`], for the last search.
const LAST_PATIENCE: u32 = 200;
/// State of the sprints of a session.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct Sprints {
    /// The share of its recorded time that the task runs freely.
    share: f64,
    /// Highest share that may be possible.
    highest: f64,
    /// Number of points passed in a row.
    failures: u32,
    /// Number of intervals that are still to be left out.
    pause: u32,
    /// True if searches are given up at once where the point can have been passed.
    is_impatient: bool,
    /// Number of searches that began anew, because the point can have been passed.
    missed: u32,
}

impl Default for Sprints {
    fn default() -> Sprints {
        Sprints {
            share: SHARE,
            highest: 1.0,
            failures: 0,
            pause: 0,
            is_impatient: false,
            missed: 0,
        }
    }
}

impl Sprints {
    /// For tests: sprints that begin with this share of an interval's recorded time.
    pub fn with_share(share: f64) -> Sprints {
        Sprints {
            share,
            ..Sprints::default()
        }
    }

    /// For tests: a session that gives up searches at once, as if the recorded times were much too short.
    pub fn impatient() -> Sprints {
        Sprints {
            failures: FAILURES,
            is_impatient: true,
            ..Sprints::default()
        }
    }

    /// For tests: the number of searches that began anew.
    pub fn missed(&self) -> u32 {
        self.missed
    }

    /// Notes that a search begins anew.
    pub(super) fn note_missed(&mut self) {
        self.missed += 1;
    }

    /// Maximum time for a search if the point can have been passed, and for the last such search. `left` is
    /// the rest of the recorded time.
    pub(super) fn limit(&self, left: Duration, is_last: bool) -> Duration {
        match (self.is_impatient, is_last) {
            (true, _) => Duration::ZERO,
            (false, false) => left * PATIENCE + PATIENCE_LEAST,
            (false, true) => left * LAST_PATIENCE + PATIENCE_LEAST,
        }
    }

    /// The share of an interval's recorded time that its task runs freely. It grows while points are
    /// found.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Time that a task may run freely in an interval with this recorded time.
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

    /// Notes the cost of a live checkpoint.
    pub(super) fn note_cost(&mut self, cost: Duration, recorded: Duration) {
        if cost * COST_MOST > recorded {
            self.pause = PAUSE;
        }
    }

    /// Notes that the point was found.
    pub(super) fn note_found(&mut self) {
        self.failures = 0;
        self.highest = (self.highest * HIGHER).min(1.0);
        self.share = self.share.max((self.share + OF_HIGHEST * self.highest) / 2.0);
    }

    /// Notes that the point was passed.
    pub(super) fn note_passed(&mut self) {
        self.failures += 1;
        self.highest = self.share;
        self.share *= LESS;
    }

    /// Stops sprints.
    pub(super) fn stop(&mut self) {
        self.failures = FAILURES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    /// Makes sprints through intervals that take only a part of their recorded time. Returns the number
    /// of passed points.
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
