//! When checkpoints are due: the same rules while recording and in replay.
//!
//! Progress is counted in *steps* (events, and the calls that the library in the program buffers between them), so that
//! an interval means about the same with and without the buffer; and in the *time* in which the program was not asleep.
//! Both bound how long a replay takes from one checkpoint to the next.
//!
//! A [`Schedule`] is asked at events ([`Schedule::is_due`]) and told when a checkpoint was taken or could not be. It
//! knows nothing of how either is done.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The distance between two checkpoints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interval {
    /// A number of events and buffered calls.
    Steps(u64),
    /// A number of events, without regard to buffered calls between them.
    Events(u64),
    /// Time in which the program is not asleep.
    Time(Duration),
    /// As little time as costs little: see [`Schedule`].
    Auto,
}

/// It is not an interval.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "not an interval: it is a number of events and buffered calls (1000), a time (2s, 500ms), events alone (1000e), or auto"
)]
pub struct NotAnInterval;

impl FromStr for Interval {
    type Err = NotAnInterval;

    fn from_str(text: &str) -> Result<Interval, NotAnInterval> {
        if text == "auto" {
            return Ok(Interval::Auto);
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| NotAnInterval)?;
        match (number, unit) {
            (0, _) => Err(NotAnInterval),
            (_, "") => Ok(Interval::Steps(number)),
            (_, "e") => Ok(Interval::Events(number)),
            (_, "s") => Ok(Interval::Time(Duration::from_secs(number))),
            (_, "ms") => Ok(Interval::Time(Duration::from_millis(number))),
            _ => Err(NotAnInterval),
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Interval::Steps(steps) => write!(f, "{steps}"),
            Interval::Events(events) => write!(f, "{events}e"),
            Interval::Time(time) if time.subsec_millis() == 0 => write!(f, "{}s", time.as_secs()),
            Interval::Time(time) => write!(f, "{}ms", time.as_millis()),
            Interval::Auto => f.write_str("auto"),
        }
    }
}

/// The progress of a recording or a replay.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// Events.
    pub events: u64,
    /// Buffered calls.
    pub calls: u64,
    /// The time in which the program was not asleep.
    pub time: Duration,
}

/// The least time between two checkpoints of [`Interval::Auto`]: to go to any place takes about as long.
const AUTO_TIME: Duration = Duration::from_secs(1);
/// The most time between them, whatever one costs.
const AUTO_TIME_MOST: Duration = Duration::from_secs(60);
/// [`Interval::Auto`] lets the program stand still for at most this part of its time, as its reciprocal.
const AUTO_SHARE: u32 = 20;

/// The most time of the program that is replayed from the last checkpoint to the end, if there can be another checkpoint.
const OLD: Duration = Duration::from_millis(300);

/// When the next checkpoint is due.
///
/// [`Interval::Auto`] takes one a second, but no more of them than cost a twentieth of the program's time; and fewer as
/// long as they cannot be written as fast as they are taken.
#[derive(Clone, Debug)]
pub struct Schedule {
    interval: Interval,
    /// The progress at the last one.
    last: Progress,
    /// With [`Interval::Auto`], the time from the last one to the next.
    spacing: Duration,
}

impl Schedule {
    /// The first one is due after an interval.
    pub fn new(interval: Interval) -> Schedule {
        Schedule {
            interval,
            last: Progress::default(),
            spacing: AUTO_TIME,
        }
    }

    /// Says if it takes fewer checkpoints where they are expensive.
    pub fn is_adaptive(&self) -> bool {
        self.interval == Interval::Auto
    }

    /// Says if a checkpoint is due.
    pub fn is_due(&self, now: Progress) -> bool {
        match self.interval {
            Interval::Steps(_) => self.calls_left(now) == Some(0),
            Interval::Events(events) => now.events - self.last.events >= events,
            Interval::Time(_) | Interval::Auto => self.is_time(now.time),
        }
    }

    /// Says if time alone makes a checkpoint due, also in the middle of an interval between two events.
    pub fn is_time(&self, now: Duration) -> bool {
        let spacing = match self.interval {
            Interval::Steps(_) | Interval::Events(_) => return false,
            Interval::Time(time) => time,
            Interval::Auto => self.spacing,
        };
        now.saturating_sub(self.last.time) >= spacing
    }

    /// Says if the last checkpoint is so old that there should be another one before the end.
    pub fn is_old(&self, now: Progress) -> bool {
        now.time.saturating_sub(self.last.time) >= OLD
    }

    /// If buffered calls make one due: after how many.
    pub fn calls_left(&self, now: Progress) -> Option<u64> {
        let Interval::Steps(steps) = self.interval else {
            return None;
        };
        let done = (now.events - self.last.events) + (now.calls - self.last.calls);
        Some(steps.saturating_sub(done))
    }

    /// The most calls that a checkpoint may be too late or too early by. So libraries need not be told the number of calls
    /// that are left at every event.
    pub fn slack(&self) -> u64 {
        match self.interval {
            Interval::Steps(steps) => steps / 8,
            _ => 0,
        }
    }

    /// One was taken, for which the program stood still so long.
    pub fn taken(&mut self, now: Progress, pause: Duration) {
        self.last = now;
        self.spacing = (pause * AUTO_SHARE).clamp(AUTO_TIME, AUTO_TIME_MOST);
    }

    /// One was due, and could not be taken: those before are not written yet, for example.
    pub fn missed(&mut self, now: Progress) {
        self.last = now;
        self.spacing = (self.spacing * 2).min(AUTO_TIME_MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(events: u64, calls: u64, ms: u64) -> Progress {
        Progress {
            events,
            calls,
            time: Duration::from_millis(ms),
        }
    }

    #[test]
    fn intervals_are_read_and_written() {
        for text in ["1", "1000", "7e", "2s", "500ms", "auto"] {
            assert_eq!(text.parse::<Interval>().unwrap().to_string(), text);
        }
        assert_eq!("2000ms".parse(), Ok(Interval::Time(Duration::from_secs(2))));
        for text in [
            "",
            "0",
            "0s",
            "s",
            "-1",
            "1.5s",
            "10m",
            "1 s",
            "x",
            "99999999999999999999",
            "Auto",
        ] {
            assert_eq!(text.parse::<Interval>(), Err(NotAnInterval), "{text}");
        }
    }

    #[test]
    fn buffered_calls_count() {
        let mut schedule = Schedule::new(Interval::Steps(100));
        assert_eq!(schedule.calls_left(at(10, 50, 0)), Some(40));
        assert!(!schedule.is_due(at(10, 89, 0)) && schedule.is_due(at(10, 90, 0)));
        schedule.taken(at(20, 300, 0), Duration::ZERO);
        assert_eq!(schedule.calls_left(at(20, 300, 0)), Some(100));
        let events = Schedule::new(Interval::Events(100));
        assert!(!events.is_due(at(99, 10_000, 9)) && events.is_due(at(100, 0, 0)));
        assert_eq!(events.calls_left(at(1, 1, 1)), None);
    }

    #[test]
    fn time_counts_without_events() {
        let mut schedule = Schedule::new(Interval::Time(Duration::from_millis(500)));
        assert!(!schedule.is_time(Duration::from_millis(499)));
        assert!(schedule.is_due(at(0, 0, 500)));
        schedule.missed(at(0, 0, 600));
        assert!(!schedule.is_due(at(9, 9, 1099)) && schedule.is_due(at(9, 9, 1100)));
    }

    #[test]
    fn some_tenths_of_a_second_are_old() {
        for interval in [Interval::Steps(1), Interval::Events(1), Interval::Auto] {
            let mut schedule = Schedule::new(interval);
            assert!(!schedule.is_old(at(9, 9, 299)) && schedule.is_old(at(0, 0, 300)));
            schedule.taken(at(0, 0, 300), Duration::ZERO);
            assert!(!schedule.is_old(at(9, 9, 599)) && schedule.is_old(at(0, 0, 600)));
        }
    }

    #[test]
    fn what_costs_much_is_done_seldom() {
        let mut schedule = Schedule::new(Interval::Auto);
        assert!(schedule.is_due(at(0, 0, 1000)));
        schedule.taken(at(0, 0, 1000), Duration::from_millis(1));
        assert!(!schedule.is_due(at(0, 0, 1999)) && schedule.is_due(at(0, 0, 2000)));
        schedule.taken(at(0, 0, 2000), Duration::from_millis(200));
        assert!(!schedule.is_due(at(0, 0, 5999)) && schedule.is_due(at(0, 0, 6000)));
        schedule.missed(at(0, 0, 6000));
        assert!(!schedule.is_due(at(0, 0, 13_999)) && schedule.is_due(at(0, 0, 14_000)));
    }
}
