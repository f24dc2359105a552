//! Patience: the time for which other tasks wait for a task that executes user code and makes no event.
//!
//! Such a task may compute. Then an interruption gains nothing, and costs an execution point, both in
//! the recording and in each replay. Or the task waits, in a loop that cannot be proved to spin
//! ([`crate::point::spin`]) because the loop counts, reads the clock or takes locks. Then all time before the
//! interruption is lost. The next turn of the task shows which of the two was true: a task that has
//! waited makes an event as soon as it continues. So patience is short at first, doubles with each
//! interruption, and becomes short again after an interruption that helped.
//!
//! A point costs the more the more memory the program has, because all of it is read for the digests. So
//! patience is never shorter than some times what the last point has cost. Otherwise a compressor with 100 MB
//! that reads a pipe spends most of its time in points.

use std::time::Duration;

use rr_tracee::ticker::SHORT_TICK;

/// Minimum and maximum, in short ticks of 2 ms.
const LEAST: u32 = 1;
const MOST: u32 = 200;
/// Minimum patience, in times of what the last interruption has cost. So interruptions take at most a fifth
/// of the time.
const COSTS: u32 = 4;
/// Maximum for a task whose loop counts, and does nothing else that can be seen. (Its points cost
/// little, and threads that hand over to each other in such loops make no events that would show it.)
const MOST_COUNTING: u32 = 5;
/// Minimum in chaos mode. Decisions should not depend on the clock there, so a task is interrupted only
/// if it seems that it never makes an event.
const LEAST_IN_CHAOS: u32 = 25;
/// If an event comes this soon after the task continues, for each tick of patience, the task had
/// waited. This is an eighth of the time that it was allowed to run before.
const SOON: Duration = Duration::from_micros(125);
/// Patience is counted in these parts of a tick, and becomes shorter by one such part of itself at an
/// event.
const PARTS: u32 = 16;

/// Purpose of an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Purpose {
    /// Check if the task spins. If not, it continues.
    Look,
    /// Others have waited long enough.
    Others,
    /// A signal, a checkpoint, the end of the recording.
    #[default]
    Else,
}

/// The time that others wait for a task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Minimum, whatever an interruption costs.
    least_at_first: u32,
    /// Minimum after the last interruption.
    least: u32,
    parts: u32,
    /// True if the task was interrupted, and has had no event of its own since.
    was_cut: bool,
}

impl Patience {
    /// The patience with a new task.
    pub fn new(chaos: bool) -> Patience {
        let (least, ticks) = if chaos {
            (LEAST_IN_CHAOS, MOST)
        } else {
            (LEAST, LEAST)
        };
        Patience {
            least_at_first: PARTS * least,
            least: PARTS * least,
            parts: PARTS * ticks,
            was_cut: false,
        }
    }

    /// Returns whether a task has run long enough after this many short ticks without an event.
    pub fn is_over(&self, ticks: u32) -> bool {
        PARTS * ticks >= self.parts
    }

    /// Notes that the task was interrupted for others: in a loop that counts, or after buffered calls. The
    /// interruption itself took the time `cost`.
    pub fn note_cut(&mut self, counts: bool, made_calls: bool, cost: Duration) {
        let ticks = (COSTS * cost).div_duration_f64(SHORT_TICK) as u32;
        self.least = self.least_at_first.max(PARTS * ticks.min(MOST));
        if std::mem::replace(&mut self.was_cut, true) && made_calls {
            self.parts = (self.parts / 4).max(self.least);
        } else {
            let most = if counts { MOST_COUNTING } else { MOST };
            self.parts = (2 * self.parts).min(PARTS * most).max(self.least);
        }
    }

    /// Notes an event of the task, and the time since the event before.
    pub fn note_event(&mut self, took: Duration) {
        let soon = SOON * self.parts / PARTS;
        let had_waited = std::mem::take(&mut self.was_cut) && took < soon;
        let next = if had_waited {
            self.parts / 4
        } else {
            self.parts - self.parts / PARTS
        };
        self.parts = next.max(self.least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a task run for a time without an event, with others waiting. Returns the number of
    /// interruptions.
    fn cuts(patience: &mut Patience, time: Duration) -> u32 {
        let (mut left, mut cuts) = (time, 0);
        let slice = |patience: &Patience| SHORT_TICK * patience.parts / PARTS;
        while left > slice(patience) {
            left -= slice(patience);
            patience.note_cut(false, false, Duration::ZERO);
            cuts += 1;
        }
        patience.note_event(left);
        cuts
    }

    #[test]
    fn who_computes_is_interrupted_less_and_less() {
        let mut patience = Patience::new(false);
        let second = Duration::from_secs(1);
        assert!(cuts(&mut patience, second) < 10);
        assert!(cuts(&mut patience, second) < 6);
        // Events that are 3 ms apart: about one interruption for five events.
        let cuts: u32 = (0..1000).map(|_| cuts(&mut patience, second * 3 / 1000)).sum();
        assert!(cuts < 300, "{cuts}");
    }

    #[test]
    fn who_waits_is_interrupted_soon() {
        let mut patience = Patience::new(false);
        cuts(&mut patience, Duration::from_secs(1));
        let mut times = 0;
        while !patience.is_over(LEAST) {
            patience.note_cut(false, false, Duration::ZERO);
            patience.note_event(Duration::ZERO);
            times += 1;
        }
        assert!(times <= 8, "{times}");
    }

    #[test]
    fn who_has_much_memory_is_interrupted_rarely() {
        let mut patience = Patience::new(false);
        // A point of 13 ms, and events that come soon after it.
        for _ in 0..20 {
            patience.note_cut(false, true, Duration::from_millis(13));
            patience.note_event(Duration::ZERO);
        }
        assert!(!patience.is_over(25) && patience.is_over(26));
        patience.note_cut(false, true, Duration::from_secs(100));
        assert!(patience.is_over(MOST));
        for _ in 0..20 {
            patience.note_cut(false, true, Duration::ZERO);
        }
        assert!(patience.is_over(LEAST));
    }

    #[test]
    fn in_chaos_mode_it_takes_longer() {
        let mut patience = Patience::new(true);
        assert!(!patience.is_over(MOST - 1));
        for _ in 0..8 {
            patience.note_cut(false, false, Duration::ZERO);
            patience.note_event(Duration::ZERO);
        }
        assert!(!patience.is_over(LEAST_IN_CHAOS - 1) && patience.is_over(LEAST_IN_CHAOS));
    }
}
