//! Adding checkpoints to a trace by replaying it.
//!
//! A checkpoint at an event is what the recorder would have stored there (I4). The choice of events
//! follows the same rules as while recording ([`Schedule`]), from data in the events: their numbers,
//! the numbers of buffered calls before them, and their times. (The replay's own time does not count,
//! so that the same request always selects the same events. A sleep counts as time, because the events
//! do not show it.) An existing checkpoint counts as taken. So repeating a request does nothing, and
//! repeating it after an interruption makes the missing checkpoints. Keeps I5: each checkpoint gets its
//! name when it is whole and on the disk.
//!
//! ```text
//!          stored                       stored
//! ───────────●────────────────────────────●──────────────►
//!    ○   ○       ○    ○    ○    ○    ○         ○    ○        to be made
//!  └─ session ─┘└─ session, from the ──┘└─ session, or the
//!                  stored checkpoint       one before goes on, if the way is short
//! ```
//!
//! *On the CPU of the recording, one stretch after the other.* The writer's threads use all CPUs: pages
//! are read, hashed and compressed there. Stretches are not replayed in parallel, as [`crate::verify`]
//! does, for two reasons:
//!
//! * On other CPUs than the recorded one this is unsound where `cpuid` cannot be intercepted. If a
//!   stretch ends in the state that is stored at its end ([`crate::stretch`]), that proves nothing
//!   about the middle. A process that starts in the stretch stores the number of its CPU (the dynamic
//!   loader does), and keeps it as long as it lives. If it ends before the stretch does, every
//!   checkpoint in between holds the wrong number, and the end does not show it. (Where `cpuid` can be
//!   intercepted it would be sound. It is not implemented, because no machine that we have could test it.)
//! * On the recorded CPU alone there is no gain: one session runs at a time there, and the rest of the
//!   work is already done on the other CPUs.
//!
//! Several writers in one directory would need more: the lock keeps others out, because a starting
//! writer removes unfinished files. Events must ascend, because only later checkpoints refer to a
//! block, and names are given in that order. Each stretch would need its own table of known contents,
//! so its first checkpoint would store everything again.

use std::collections::BTreeMap;
use std::time::Duration;

use rr_checkpoint::schedule::Progress;
use rr_checkpoint::{CheckpointWriter, Interval, Outcome, Schedule};
use rr_trace::event::EventNumber;
use rr_tracee::cpus::Cpus;

use crate::affinity::{Beside, cpu_for_replay};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::position::Position;
use crate::session::ReplaySession;
use crate::stretch::{self, Stored};

/// Minimum number of steps whose replay takes longer than loading a checkpoint.
const WORTH_STEPS: u64 = 2000;
/// Minimum recorded time whose replay takes longer than loading a checkpoint.
const WORTH_TIME: Duration = Duration::from_millis(200);

/// The wanted checkpoints.
#[derive(Clone, Debug)]
pub struct Request {
    /// The distance between two checkpoints.
    pub interval: Interval,
    /// The event of the first checkpoint. If `None`, the first one is due after an interval.
    pub start: Option<EventNumber>,
    /// No checkpoint is after this event.
    pub end: EventNumber,
}

/// The effect of a request on a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The events that are to get a checkpoint.
    missing: BTreeMap<EventNumber, Progress>,
    /// The events in the same range that already have one.
    there: BTreeMap<EventNumber, Progress>,
}

/// Result of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Account {
    /// Number of checkpoints that were written to the disk.
    pub written: u64,
    /// Number of checkpoints that could not be written. The writer has given the reasons.
    pub failed: u64,
    /// Number of events after which there is nothing to store.
    pub impossible: u64,
    /// True if a file could not be written: the next ones would fail, too.
    pub is_full: bool,
}

impl Account {
    /// Counts the writer's results.
    pub fn add(&mut self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            match outcome.result {
                Ok(_) => self.written += 1,
                Err(e) => {
                    self.failed += 1;
                    self.is_full |= matches!(e, rr_checkpoint::Error::Io { .. });
                }
            }
        }
    }
}

/// The way in which the work ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// All checkpoints were tried.
    Done,
    /// The user has interrupted the work.
    Interrupted,
}

/// Progress reports.
#[derive(Debug)]
pub enum Told {
    /// The replay has passed one more of the events.
    Passed,
    /// There is nothing to store at one of the events.
    Impossible(Error),
}

impl Plan {
    /// Reads the events of a trace and decides. Calls `read` with the number of each event. `None` means interrupted.
    pub fn make(
        stored: &Stored,
        request: &Request,
        read: &mut dyn FnMut(EventNumber),
        user: &mut dyn Interrupt,
    ) -> Result<Option<Plan>> {
        let reader = stored.reader();
        let first = reader.first_event();
        let mut planner = Planner::new(stored.events(), request);
        for event in reader.events_from(request.start.unwrap_or(first).max(first))? {
            if user.is_requested() {
                return Ok(None);
            }
            let event = event?;
            if event.number > request.end {
                break;
            }
            let time = Duration::from_nanos(event.time_ns);
            planner.event(event.number, event.buffered_calls(), time);
            read(event.number);
        }
        Ok(Some(planner.plan))
    }

    /// Number of missing checkpoints.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// Number of wanted checkpoints that already exist.
    pub fn there(&self) -> usize {
        self.there.len()
    }

    /// Removes checkpoints that have been stored meanwhile.
    pub fn leave_out(&mut self, stored: &Stored) {
        for at in stored.events() {
            if let Some(place) = self.missing.remove(at) {
                self.there.insert(*at, place);
            }
        }
    }

    /// Returns whether loading a checkpoint at `to` is faster than replaying from `from` to `to`.
    fn is_far(&self, from: EventNumber, to: EventNumber) -> bool {
        let place = |at| self.missing.get(&at).or_else(|| self.there.get(&at));
        let (Some(from), Some(to)) = (place(from), place(to)) else {
            return true;
        };
        let steps = (to.events - from.events) + (to.calls - from.calls);
        steps >= WORTH_STEPS || to.time.saturating_sub(from.time) >= WORTH_TIME
    }
}

/// Decides for one event after the other.
struct Planner<'a> {
    schedule: Schedule,
    stored: &'a [EventNumber],
    start: Option<EventNumber>,
    /// Number of buffered calls so far.
    calls: u64,
    has_begun: bool,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(stored: &'a [EventNumber], request: &Request) -> Planner<'a> {
        Planner {
            schedule: Schedule::new(request.interval),
            stored,
            start: request.start,
            calls: 0,
            has_begun: false,
            plan: Plan {
                missing: BTreeMap::new(),
                there: BTreeMap::new(),
            },
        }
    }

    fn event(&mut self, number: EventNumber, calls: u64, time: Duration) {
        // The first event of a trace whose beginning was deleted follows a checkpoint.
        if !self.has_begun && number.0 > 1 {
            let before = Progress {
                events: number.0 - 1,
                calls: 0,
                time,
            };
            self.schedule.taken(before, Duration::ZERO);
        }
        self.has_begun = true;
        self.calls += calls;
        let now = Progress {
            events: number.0,
            calls: self.calls,
            time,
        };
        let is_there = self.stored.binary_search(&number).is_ok();
        if !is_there && self.start != Some(number) && !self.schedule.is_due(now) {
            return;
        }
        // A replay does not pause for checkpoints.
        self.schedule.taken(now, Duration::ZERO);
        let places = match is_there {
            true => &mut self.plan.there,
            false => &mut self.plan.missing,
        };
        places.insert(number, now);
    }
}

/// Makes the checkpoints of a plan: gives the writer a capture at each event. The caller must count the
/// writer's remaining results at the end ([`CheckpointWriter::finish`]).
pub fn create(
    stored: &Stored,
    plan: &Plan,
    cpus: &Cpus,
    writer: &mut CheckpointWriter,
    account: &mut Account,
    told: &mut dyn FnMut(Told),
    user: &mut dyn Interrupt,
) -> Result<End> {
    let Some(last) = plan.missing.keys().next_back() else {
        return Ok(End::Done);
    };
    let cpu = cpu_for_replay(cpus, stored.reader());
    let _beside = Beside::cpu(Some(cpu));
    let end = Position::at_event(*last);
    let stretches = stretch::between(stored.events(), stored.has_start(), EventNumber(0), &end);
    let mut under_way: Option<ReplaySession> = None;
    for stretch in stretches.iter().rev() {
        let mut events = plan
            .missing
            .range(stretch.from.next()..=stretch.to.last)
            .peekable();
        if events.peek().is_none() {
            continue;
        }
        // Continues the session of the previous stretch if that is near, otherwise starts one near this
        // stretch.
        let here = under_way.as_ref().map(ReplaySession::last_event);
        let mut session = match under_way.take() {
            Some(session) if here.is_some_and(|here| !plan.is_far(here, stretch.from)) => session,
            before => {
                // Release its memory first.
                drop(before);
                let near = stored.session_near(stretch.from, |at| stored.session_beside(at, cpu))?;
                near.session
            }
        };
        // Captures the session after each of the events.
        for event in events.map(|(event, _)| *event) {
            while session.last_event() < event {
                if user.is_requested() {
                    return Ok(End::Interrupted);
                }
                if session.step()?.is_none() {
                    return Err(Error::Ended {
                        event: session.last_event(),
                        wanted: event,
                    });
                }
            }
            writer.wait_for_room();
            account.add(writer.poll_done());
            if account.is_full {
                return Ok(End::Done);
            }
            match session.capture() {
                Ok(request) => {
                    let is_exposed = request.is_exposed();
                    account.failed += u64::from(!writer.submit(request));
                    if is_exposed {
                        writer.wait_until_read();
                    }
                }
                Err(e @ Error::NoTask { .. }) => {
                    account.impossible += 1;
                    told(Told::Impossible(e));
                }
                Err(e) => return Err(e),
            }
            told(Told::Passed);
        }
        under_way = Some(session);
    }
    Ok(End::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events of 10 buffered calls and 100 ms each.
    fn plan(
        stored: &[u64],
        interval: &str,
        start: Option<u64>,
        events: std::ops::RangeInclusive<u64>,
    ) -> Plan {
        let stored: Vec<EventNumber> = stored.iter().copied().map(EventNumber).collect();
        let request = Request {
            interval: interval.parse().unwrap(),
            start: start.map(EventNumber),
            end: EventNumber(*events.end()),
        };
        let mut planner = Planner::new(&stored, &request);
        for event in events {
            planner.event(EventNumber(event), 10, Duration::from_millis(100 * event));
        }
        planner.plan
    }

    fn numbers(places: &BTreeMap<EventNumber, Progress>) -> Vec<u64> {
        places.keys().map(|event| event.0).collect()
    }

    #[test]
    fn all_units_are_understood() {
        let missing = |interval| numbers(&plan(&[], interval, None, 1..=30).missing);
        assert_eq!(missing("10e"), [10, 20, 30]);
        assert_eq!(missing("100"), [10, 20, 30], "11 steps an event");
        assert_eq!(missing("500ms"), [5, 10, 15, 20, 25, 30]);
        assert_eq!(missing("2s"), [20]);
        assert_eq!(missing("auto"), [10, 20, 30]);
        assert_eq!(numbers(&plan(&[], "10e", Some(7), 7..=30).missing), [7, 17, 27]);
        // The beginning of the trace was deleted.
        assert_eq!(
            numbers(&plan(&[], "10e", None, 101..=130).missing),
            [110, 120, 130]
        );
    }

    #[test]
    fn what_is_there_counts() {
        for interval in ["10e", "100", "1s", "auto"] {
            let first = plan(&[13, 14], interval, None, 1..=50);
            assert_eq!(numbers(&first.there), [13, 14], "{interval}");
            assert_eq!(numbers(&first.missing), [10, 24, 34, 44], "{interval}");
            // Interrupted after the first; then repeated; then nothing is left.
            let again = plan(&[10, 13, 14], interval, None, 1..=50);
            assert_eq!(numbers(&again.missing), [24, 34, 44], "{interval}");
            let done = plan(&[10, 13, 14, 24, 34, 44], interval, None, 1..=50);
            assert_eq!((done.missing(), done.there()), (0, 6), "{interval}");
        }
    }

    #[test]
    fn a_checkpoint_is_loaded_where_that_saves_much() {
        let plan = plan(&[4, 20], "1e", None, 1..=25);
        let far = |from, to| plan.is_far(EventNumber(from), EventNumber(to));
        assert!(!far(3, 4) && far(17, 20) && far(3, 20));
    }
}
