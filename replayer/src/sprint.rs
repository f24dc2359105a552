//! Sprints: a task executes most of a long interval that ends at an execution point without a probe in its way.
//!
//! A probe that has to keep the flags costs a nanosecond or two at each pass, and a short loop takes no
//! longer itself. But the point contains the approximate processor time of the task in its interval. The task runs freely for
//! most of that time. Only then the search for the point begins.
//!
//! ```text
//! event 41 ──────────────── freely ────────────────►──── with the probe ────► event 42, an execution point
//!     ▲                                                                  └──► another event, or nothing for long:
//!     └───────── the point was passed: back to the live checkpoint, and all the way with the probe ────┘
//! ```
//!
//! Keeps I7: the point is still where the whole state is equal. A run that has passed the point is
//! undone completely. So only a search over the whole interval can find that the replay diverges.
//!
//! The time that the task may run freely is learned from earlier points, because this machine may be
//! slower or faster than the one that recorded.

mod share;

use std::sync::Arc;
use std::time::Duration;

use rr_trace::event::{Event, EventKind};
use rr_tracee::task::processor_time;
use rr_tracee::ticker::Ticker;
use rr_tracee::{Addr, Tid, procfs, tsc};

use crate::drive::proceed;
use crate::error::{Result, failed};
use crate::halt::{Halt, Pace};
use crate::interrupt::Interrupt;
use crate::pending::Stage;
use crate::point::is_point_writable;
use crate::session::ReplaySession;

pub use share::Sprints;

/// Limits for sprints, because a live checkpoint copies all processes and all shared memory.
const PROCESSES_MOST: usize = 16;
const SHARED_MOST: u64 = 64 << 20;
/// Time between two checks of the task's running time.
const LOOK: Duration = Duration::from_millis(1);

/// The plan for reaching an execution point.
struct Way {
    event: Arc<Event>,
    /// Processor time of its interval.
    recorded: Duration,
    /// Time that its task may run freely, if that is worth it.
    freely: Option<Duration>,
    /// True if the program can write to the code at the point, and so to the probe.
    is_writable: bool,
}

/// One way to an execution point.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// The task runs freely for this time, and then with the probe.
    Sprint(Duration),
    /// The task runs with the probe. The last search takes much longer if the point does not come.
    Search { is_last: bool },
}

/// Ends a run when a process has used this processor time.
struct Until {
    process: Tid,
    time: Duration,
}

impl Interrupt for Until {
    fn is_requested(&mut self) -> bool {
        // If the process is gone, the run ends anyway.
        processor_time(self.process).is_ok_and(|time| time >= self.time)
    }
}

impl ReplaySession {
    /// For tests: what this session has learned of sprints.
    #[doc(hidden)]
    pub fn sprints(&mut self) -> &mut Sprints {
        &mut self.sprints
    }
}

/// Brings the task of the next event, which is an execution point, there by a sprint. Returns
/// `false` if nothing was done.
pub(crate) fn sprint(session: &mut ReplaySession) -> Result<bool> {
    let Some(Way {
        event,
        recorded,
        freely,
        is_writable,
    }) = way_to_sprint(session)
    else {
        return Ok(false);
    };
    let began = tsc::now();
    let Ok(start) = session.freeze() else {
        session.sprints.stop();
        return Ok(false);
    };
    if freely.is_some() {
        session
            .sprints
            .note_cost(tsc::now().saturating_sub(began), recorded);
    }
    // If the probe can be overwritten, a search that takes too long begins anew. The first search ends soon, and
    // the second one rules out that the recorded time was much too short.
    let searches = [
        Attempt::Search { is_last: false },
        Attempt::Search { is_last: true },
    ];
    let searches = searches.into_iter().filter(|_| is_writable);
    for attempt in freely.map(Attempt::Sprint).into_iter().chain(searches) {
        // Any failure is behind the point, or will happen again.
        if let Ok(Some((before, with_probe))) = run_ahead(session, &event, recorded, attempt) {
            if matches!(attempt, Attempt::Sprint(_)) {
                session.sprints.note_found();
            }
            tracing::debug!(
                "sprint to event {}: {before:?}, then {with_probe:?}",
                event.number
            );
            return Ok(true);
        }
        match attempt {
            Attempt::Sprint(length) => {
                session.sprints.note_passed();
                tracing::debug!("sprint to event {}: {length:?} was too far", event.number);
            }
            Attempt::Search { .. } => {
                session.sprints.note_missed();
                tracing::debug!("event {}: the probe has missed it", event.number);
            }
        }
        let mut again = start.thaw()?;
        again.sprints = session.sprints;
        *session = again;
        session.fetch()?;
    }
    if is_writable {
        session.interval.use_only_int3();
    }
    Ok(false)
}

/// The plan for the next event, if a sprint is worth it or a search may have to begin anew, and if
/// nobody wants to stop on the way.
fn way_to_sprint(session: &mut ReplaySession) -> Option<Way> {
    let pending = session
        .interval
        .pending
        .as_ref()
        .filter(|p| p.stage == Stage::Fetched)?;
    let event = Arc::clone(&pending.event);
    let EventKind::Point { at, point } = &event.kind else {
        return None;
    };
    if !session.breakpoints().is_empty() || !session.watches().is_empty() {
        return None;
    }
    let recorded = Duration::from_micros(point.ran_us.into());
    // Where the probe may change the flags, it costs so little that a sprint gains nothing. And the
    // processor time of the recording is only a hint: a sprint that goes too far costs more than the
    // whole search.
    let task = session.world.tasks.get(&event.tid)?;
    let window = session.code.window(task, Addr(at.rip));
    let freely = match window.and_then(|window| window.dead_flags()) {
        Some(_) => None,
        None => session.sprints.length(recorded),
    };
    let is_writable = is_point_writable(session, &event);
    if freely.is_none() && !is_writable {
        return None;
    }
    (session.world.spaces.len() <= PROCESSES_MOST && session.world.shared_bytes() <= SHARED_MOST).then_some(
        Way {
            event,
            recorded,
            freely,
            is_writable,
        },
    )
}

/// Lets the task run freely, in a sprint, and then to the point. Returns the processor time of both
/// parts; `None` if the point does not come.
fn run_ahead(
    session: &mut ReplaySession,
    event: &Event,
    recorded: Duration,
    attempt: Attempt,
) -> Result<Option<(Duration, Duration)>> {
    let time = |process| processor_time(process).map_err(|e| failed(event, e));
    let process = procfs::tgid(session.world.task(event)?.real).map_err(|e| failed(event, e))?;
    let begin = time(process)?;
    let _ticker = Ticker::every(LOOK)?;
    let mut until = Until { process, time: begin };
    if let Attempt::Sprint(length) = attempt {
        until.time += length;
        session.interval.set_probing(false);
        let halt = proceed(session, Pace::Free, &mut until)?;
        session.interval.set_probing(true);
        match halt {
            Halt::Interrupted => {}
            Halt::Arrived => return Ok(Some((length, Duration::ZERO))),
            _ => return Ok(None),
        }
    }
    let middle = time(process)?;
    let left = recorded.saturating_sub(middle.saturating_sub(begin));
    let is_search = matches!(attempt, Attempt::Search { .. });
    let is_last = attempt == Attempt::Search { is_last: true };
    let mut limit = session.sprints.limit(left, is_last);
    until.time = middle + limit;
    loop {
        match proceed(session, Pace::Free, &mut until)? {
            Halt::Arrived => break,
            // The recorded time is only a hint: on a busy machine it may be much too short. Nothing can have
            // hidden the point, so it is still ahead.
            Halt::Interrupted if is_search && !session.interval.is_point_in_doubt() => {
                // Longer and longer, because an interruption takes processor time, too.
                limit = (2 * limit).max(LOOK);
                until.time = time(process)? + limit;
            }
            _ => return Ok(None),
        }
    }
    let with_probe = time(process)?.saturating_sub(middle);
    Ok(Some((middle.saturating_sub(begin), with_probe)))
}
