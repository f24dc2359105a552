//! Adding checkpoints to a trace by replaying it.
//!
//! A checkpoint at an event is what the recorder would have stored there (I4). Which events get one is decided as while
//! recording ([`Schedule`]), by what the events say of themselves: their numbers, the calls that were buffered before them, and
//! their times. (What a replay takes is not asked, so that the same request always means the same events; a sleep counts as
//! time, because the events do not tell it.) A checkpoint that is there counts as taken. So the same request, made again, finds
//! nothing to do; made again after an interruption, it finds what is left. Keeps I5: each checkpoint gets its name when it is
//! whole and on the disk.
//!
//! ```text
//!          stored                       stored
//! ───────────●────────────────────────────●──────────────►
//!    ○   ○       ○    ○    ○    ○    ○         ○    ○        to be made
//!  └─ session ─┘└─ session, from the ──┘└─ session, or the
//!                  stored checkpoint       one before goes on, if the way is short
//! ```
//!
//! *On the CPU of the recording, one stretch after the other.* The writer's threads use all CPUs: pages are read,
//! hashed and compressed there. Stretches are not replayed at the same time, as [`crate::verify`] does, because
//!
//! * away from the recorded CPU that is unsound where `cpuid` cannot be intercepted. A stretch that ends in the state
//!   that is stored at its end ([`crate::stretch`]) proves nothing of what lies between: a process that starts in the
//!   stretch notes the number of its CPU (the dynamic loader does), and keeps it as long as it lives. If it ends
//!   before the stretch does, every checkpoint between holds the wrong number, and the end does not show it. (Where
//!   `cpuid` can be intercepted it would be sound. It is not built: no machine that we have could test it.)
//! * on the recorded CPU alone it gains nothing: one session runs at a time there, and what can be done beside it is
//!   done on the other CPUs already.
//!
//! Several writers in one directory would need what one does not: the lock keeps others out, because whoever starts
//! sweeps away unfinished files; events must ascend, because a block is referred to by later checkpoints only; names
//! are given in that order. Each stretch would need a table of known contents of its own, whose first checkpoint
//! stores everything again.

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

/// To replay so many steps takes longer than to load a checkpoint.
const WORTH_STEPS: u64 = 2000;
/// So does what took so long when it was recorded.
const WORTH_TIME: Duration = Duration::from_millis(200);

/// Which checkpoints there are to be.
#[derive(Clone, Debug)]
pub struct Request {
    /// The distance between two.
    pub interval: Interval,
    /// One is at this event, and none before; without, the first one is due after an interval.
    pub start: Option<EventNumber>,
    /// None is after this event.
    pub end: EventNumber,
}

/// What a request means for a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The events that are to get a checkpoint.
    missing: BTreeMap<EventNumber, Progress>,
    /// Those between them that have one.
    there: BTreeMap<EventNumber, Progress>,
}

/// What has come of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Account {
    /// Checkpoints that are on the disk now.
    pub written: u64,
    /// Those that could not be written; the writer has said why.
    pub failed: u64,
    /// Events after which there is nothing to store.
    pub impossible: u64,
    /// A file could not be written: the next one could not either.
    pub is_full: bool,
}

impl Account {
    /// Counts what the writer has done.
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

/// How it has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// All was tried.
    Done,
    /// The user has interrupted it.
    Interrupted,
}

/// What is told meanwhile.
#[derive(Debug)]
pub enum Told {
    /// The replay has passed one more of the events.
    Passed,
    /// There is nothing to store at one of them.
    Impossible(Error),
}

impl Plan {
    /// Reads the events of a trace and decides. `None`: interrupted. Calls `read` with the number of each event.
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

    /// How many checkpoints are missing.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// How many of those that are wanted are there.
    pub fn there(&self) -> usize {
        self.there.len()
    }

    /// Leaves out what has been stored meanwhile.
    pub fn leave_out(&mut self, stored: &Stored) {
        for at in stored.events() {
            if let Some(place) = self.missing.remove(at) {
                self.there.insert(*at, place);
            }
        }
    }

    /// Whether from one place to another a checkpoint is worth loading.
    fn is_far(&self, from: EventNumber, to: EventNumber) -> bool {
        let place = |at| self.missing.get(&at).or_else(|| self.there.get(&at));
        let (Some(from), Some(to)) = (place(from), place(to)) else {
            return true;
        };
        let steps = (to.events - from.events) + (to.calls - from.calls);
        steps >= WORTH_STEPS || to.time.saturating_sub(from.time) >= WORTH_TIME
    }
}

/// Decides, event after event.
struct Planner<'a> {
    schedule: Schedule,
    stored: &'a [EventNumber],
    start: Option<EventNumber>,
    /// The calls that were buffered so far.
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
        // A replay stands still for nobody.
        self.schedule.taken(now, Duration::ZERO);
        let places = match is_there {
            true => &mut self.plan.there,
            false => &mut self.plan.missing,
        };
        places.insert(number, now);
    }
}

/// Makes the checkpoints of a plan: gives the writer a capture at each event. What the writer has not done at the end is to be
/// counted by the caller ([`CheckpointWriter::finish`]).
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
    let cpu = cpu_for_replay(cpus, stored.reader().header());
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
        let here = under_way.as_ref().map(ReplaySession::last_event);
        let mut session = match under_way.take() {
            Some(session) if here.is_some_and(|here| !plan.is_far(here, stretch.from)) => session,
            before => {
                // Its memory is given back first.
                drop(before);
                let near = stored.session_near(stretch.from, |at| stored.session_beside(at, cpu))?;
                near.session
            }
        };
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
        // The beginning was deleted.
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
            // Interrupted after the first; then again; then nothing is left.
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
