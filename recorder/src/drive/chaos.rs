//! Chaos mode: the scheduler's dice, which find bugs that need an unusual order.
//!
//! Invariant: a throw depends only on the seed and on the throws before. So the same seed makes the
//! same decisions, as long as the program asks for the same ones.

use std::time::Duration;

use rr_trace::event::EventNumber;

/// Maximum number of CPUs that a program is shown.
const MOST_CORES: u64 = 8;

/// Initial time that the recording may stand idle for intervals.
const CREDIT: Duration = Duration::from_millis(200);

/// Idle time that each event adds: a fraction of the cost of recording it.
const CREDIT_PER_EVENT: Duration = Duration::from_micros(10);

/// Maximum number of instructions that the preemptions of a recording step over, and the number that each event adds. (A step costs 25 to
/// 50 µs. Most preemptions make fewer steps, since the task comes to an event before.)
const STEPS: u64 = 12_000;
const STEPS_PER_EVENT: u64 = 2;

/// Preemptions come after up to 2 to the power of this many instructions.
const STEP_BITS: u64 = 13;

/// Number of CPUs that the program is shown in chaos mode.
pub fn cores(seed: u64) -> usize {
    // A separate sequence, so that this changes no decision.
    1 + Dice::new(!seed).below(MOST_CORES) as usize
}

/// A sequence of random numbers (splitmix64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `n` − 1.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// From 1 to 2^`bits`, small numbers as often as large ones.
    fn spread(&mut self, bits: u64) -> u64 {
        let most = 1 << self.below(bits + 1);
        1 + self.below(most)
    }
}

/// A stretch in which tasks of low priority do not run, even if no other task can.
#[derive(Clone, Copy, Debug)]
struct Interval {
    /// The interval ends at this event at the latest.
    until: EventNumber,
    /// Idle time after which the interval ends.
    patience: Duration,
}

/// The state of chaos mode.
#[derive(Debug)]
pub struct Chaos {
    dice: Dice,
    /// Turns currently have up to 2^`pace` events: some bugs need many switches, others few.
    pace: u64,
    interval: Option<Interval>,
    /// Idle time that intervals have been granted so far.
    spent: Duration,
    /// Tasks are preempted in the middle of their intervals.
    preempts: bool,
    /// Steps that preemptions have been granted so far.
    steps: u64,
    /// The event after which a preemption was drawn last.
    drawn_after: EventNumber,
}

impl Chaos {
    /// Chaos mode with this seed.
    pub fn new(seed: u64) -> Chaos {
        let mut dice = Dice::new(seed);
        Chaos {
            pace: dice.below(10),
            dice,
            interval: None,
            spent: Duration::ZERO,
            // A separate sequence, so that it changes no other decision.
            preempts: !Dice::new(seed.rotate_left(32)).one_in(3),
            steps: 0,
            drawn_after: EventNumber(0),
        }
    }

    /// Returns whether there is a draw after the event `now`.
    pub fn can_preempt(&self, now: EventNumber) -> bool {
        self.preempts && self.drawn_after != now
    }

    /// Number of instructions after which a task is preempted that goes on after the event `now`, if it is. There is one draw after
    /// each event.
    pub fn preemption(&mut self, now: EventNumber) -> Option<u64> {
        if !self.can_preempt(now) {
            return None;
        }
        self.drawn_after = now;
        if !self.dice.one_in(2) {
            return None;
        }
        let steps = self.dice.spread(STEP_BITS);
        // As with intervals, the granted steps count, not those that were made: how many instructions a task executes to its next event
        // can depend on addresses, which are others in each run.
        (self.steps + steps <= STEPS + STEPS_PER_EVENT * now.0).then(|| {
            self.steps += steps;
            steps
        })
    }

    /// A priority for a task: 0 (high) or 1 (low).
    pub fn priority(&mut self) -> i32 {
        i32::from(self.dice.one_in(3))
    }

    /// Returns whether a task whose turn is over gets another priority.
    pub fn redraws(&mut self) -> bool {
        self.dice.one_in(4)
    }

    /// Number of events of a turn, at most `most`.
    pub fn turn(&mut self, most: u64) -> u64 {
        self.dice.spread(self.pace).min(most)
    }

    /// Index of one of `count` candidates.
    pub fn one_of(&mut self, count: usize) -> usize {
        self.dice.below(count as u64) as usize
    }

    /// At the end of a turn: perhaps begins an interval, or ends the current one.
    pub fn turn_over(&mut self, now: EventNumber) {
        if self.dice.one_in(32) {
            self.pace = self.dice.below(10);
        }
        if self.interval.is_some_and(|interval| now >= interval.until) {
            self.interval = None;
        }
        if self.interval.is_some() || !self.dice.one_in(16) {
            return;
        }
        let patience = Duration::from_millis(self.dice.spread(9));
        let events = self.dice.spread(9);
        let credit = CREDIT + CREDIT_PER_EVENT.saturating_mul(u32::try_from(now.0).unwrap_or(u32::MAX));
        // Counts the granted time, not the used time, so that the clock decides nothing.
        if self.spent + patience <= credit {
            self.spent += patience;
            let until = EventNumber(now.0 + events);
            self.interval = Some(Interval { until, patience });
        }
    }

    /// Returns whether only tasks of high priority may run.
    pub fn in_interval(&self) -> bool {
        self.interval.is_some()
    }

    /// In an interval: time to wait for a task of high priority. Halved every time, so that a task that
    /// sleeps again and again does not prolong the interval.
    pub fn patience(&mut self) -> Duration {
        match &mut self.interval {
            Some(interval) => {
                interval.patience /= 2;
                interval.patience
            }
            None => Duration::ZERO,
        }
    }

    /// Ends the interval, because no task of high priority came.
    pub fn end_interval(&mut self) {
        self.interval = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_cores_comes_up() {
        let seen: std::collections::BTreeSet<usize> = (0..200).map(cores).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    }

    #[test]
    fn turns_are_short_and_long() {
        let mut chaos = Chaos::new(1);
        let mut turns = Vec::new();
        for event in 0..10_000 {
            turns.push(chaos.turn(500));
            chaos.turn_over(EventNumber(event));
        }
        assert!(turns.iter().all(|n| (1..=500).contains(n)));
        assert!(turns.iter().filter(|n| **n == 1).count() > 100);
        assert!(turns.iter().filter(|n| **n > 100).count() > 50);
    }

    #[test]
    fn preemptions_cost_a_bounded_number_of_steps() {
        let drawn = |seed| {
            let mut chaos = Chaos::new(seed);
            let all = (1..5000).filter_map(|event| {
                let drawn = chaos.preemption(EventNumber(event));
                assert_eq!(chaos.preemption(EventNumber(event)), None);
                drawn
            });
            all.collect::<Vec<u64>>()
        };
        let without = (0..60).filter(|seed| drawn(*seed).is_empty()).count();
        assert!((10..30).contains(&without), "{without}");
        let all: Vec<u64> = (0..60).flat_map(drawn).collect();
        assert!(all.iter().sum::<u64>() <= 60 * (STEPS + 5000 * STEPS_PER_EVENT));
        for range in [1..10, 10..100, 100..1000, 1000..8193] {
            assert!(all.iter().any(|steps| range.contains(steps)), "{range:?}");
        }
    }

    #[test]
    fn intervals_cost_a_bounded_time() {
        let mut chaos = Chaos::new(3);
        let mut intervals = 0;
        for event in 1..20_000 {
            chaos.turn_over(EventNumber(event));
            intervals += u32::from(chaos.in_interval());
            chaos.end_interval();
        }
        assert!(intervals > 5);
        assert!(chaos.spent <= Duration::from_millis(400));
    }
}
