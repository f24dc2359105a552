//! `Timeline`: the replay seen as a line that one can move along in both directions.
//!
//! A timeline has one session, which is at the user's place, and live checkpoints behind it. Going
//! forwards runs the session. Going backwards runs a session forwards from an earlier checkpoint, live
//! or stored, and notes the stops that it meets on its way to the user's place. The last of them is the
//! answer (`backward`).
//!
//! ```text
//!  stored            live    live live   user
//! ───●─────────────────●───────●───●───────│──────────────►
//!    └── seek ──► …                        │
//!                      └── sweep ─ hit ─ hit ┘   the last hit is the answer
//! ```
//!
//! Invariant: a place that is reached twice is the same place (registers and all memory), however it
//! was reached; an interrupted search leaves the session where it was; the user's actions never change
//! later replays (I8).

mod backward;
mod forward;
mod interrupted;
mod kept;
mod names;
mod paced;
mod parallel;
mod seek;
mod step_back;
mod stops;
mod store;

use std::sync::Arc;

use rr_trace::TraceReader;
use rr_trace::event::EventNumber;
use rr_tracee::cpus;
use rr_tracee::ticker::Ticker;
use rr_tracee::{AddrRange, Tid};

use crate::error::Result;
use crate::position::Position;
use crate::session::{ReplaySession, Replayed};
use crate::stretch::Stored;

pub use stops::{Condition, Stop, Stops};

use kept::Kept;

/// The distance to go forwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// To the next stop.
    Continue,
    /// One instruction of this thread. Other threads run before, if they did in the recording.
    Step(Tid),
    /// Steps of this thread while it is in the range.
    StepRange(Tid, AddrRange),
}

/// Shows the output of an event that was replayed forwards.
pub type Show = Box<dyn FnMut(&ReplaySession, Replayed)>;

/// A replay of one process that can be moved along in both directions.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use rr_replayer::timeline::{Action, Setup, Stop, Timeline};
/// use rr_replayer::{Never, Position, cpu_for_replay};
/// use rr_trace::{TraceReader, processes};
/// use rr_tracee::cpus::Cpus;
/// use rr_tracee::task::WatchKind;
/// use rr_tracee::{Addr, AddrRange};
///
/// let reader = Arc::new(TraceReader::open("trace".as_ref())?);
/// let first = processes::all(&reader)?.remove(0);
/// let mut timeline = Timeline::new(Setup {
///     cpu: Some(cpu_for_replay(&Cpus::survey(), &reader)),
///     process: first.pid,
///     begin: first.began,
///     show: Box::new(|_, _| {}),
///     reader: Arc::clone(&reader),
/// })?;
/// // To the end, and back to the last write of eight bytes.
/// timeline.seek(&Position::at_event(reader.last_event()), &mut Never)?;
/// let place = AddrRange::sized(Addr(0x5555_5555_8010), 8);
/// timeline.stops.watches.push((place, WatchKind::Write));
/// if let Stop::Watchpoint { tid, .. } = timeline.reverse_continue(&mut Never)? {
///     println!("thread {tid} wrote there, after event {}", timeline.position().last);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Timeline {
    reader: Arc<TraceReader>,
    session: ReplaySession,
    process: Tid,
    /// The first event of the process.
    begin: EventNumber,
    /// The stops of the process.
    pub stops: Stops,
    kept: Kept,
    /// Stored checkpoints that can be used.
    stored: Stored,
    show: Show,
    cpu: Option<usize>,
    /// Places where the user has interrupted a task.
    names: interrupted::Names,
    /// Allows interrupting a task that runs for long.
    _ticker: Ticker,
}

impl std::fmt::Debug for Timeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timeline")
            .field("process", &self.process)
            .field("position", &self.session.position())
            .finish_non_exhaustive()
    }
}

/// The parts of a timeline.
pub struct Setup {
    /// The trace.
    pub reader: Arc<TraceReader>,
    /// The CPU of the replayed tasks.
    pub cpu: Option<usize>,
    /// The process that is debugged.
    pub process: Tid,
    /// The first event of the process.
    pub begin: EventNumber,
    /// Shows output.
    pub show: Show,
}

impl Timeline {
    /// A timeline at its beginning (of the trace, not of the process). Searches use all CPUs that the
    /// calling thread may use now, whatever it is bound to later.
    pub fn new(setup: Setup) -> Result<Timeline> {
        let Setup {
            reader,
            cpu,
            process,
            begin,
            show,
        } = setup;
        let stored = Stored::new(Arc::clone(&reader), cpus::allowed())?;
        let start = match stored.has_start() {
            true => EventNumber(0),
            // The beginning was deleted: the trace begins at the first checkpoint.
            false => stored.events().first().copied().unwrap_or(reader.last_event()),
        };
        let session = stored.session(start, cpu)?;
        Ok(Timeline {
            session,
            process,
            begin,
            stops: Stops::default(),
            kept: Kept::default(),
            stored,
            show,
            cpu,
            names: interrupted::Names::default(),
            _ticker: Ticker::start()?,
            reader,
        })
    }

    /// The session at the user's place.
    pub fn session(&self) -> &ReplaySession {
        &self.session
    }

    /// The session, for reading that needs a mutable reference (memory is read through caches).
    pub fn session_mut(&mut self) -> &mut ReplaySession {
        &mut self.session
    }

    /// The process that is debugged.
    pub fn process(&self) -> Tid {
        self.process
    }

    /// The first event of the process.
    pub fn begin(&self) -> EventNumber {
        self.begin
    }

    /// The task of an event. `None` if there is no such event, or it cannot be read.
    pub fn event_tid(&self, number: EventNumber) -> Option<Tid> {
        self.session.event(number).ok()?.map(|event| event.tid)
    }

    /// The user's place.
    pub fn position(&self) -> Position {
        self.session.position()
    }

    /// The stored checkpoints that can be used, ascending.
    pub fn stored(&self) -> &[EventNumber] {
        self.stored.events()
    }

    /// A copy of the session at the user's place. Changes of the copy do not affect the timeline.
    pub fn diversion(&mut self) -> Result<ReplaySession> {
        self.session.freeze()?.thaw()
    }

    /// The trace.
    pub fn reader(&self) -> &Arc<TraceReader> {
        &self.reader
    }
}
