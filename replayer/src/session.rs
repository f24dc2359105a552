//! `ReplaySession`: plays the events of a trace back into tasks.
//!
//! Invariant I7: before an event is applied, the task has run to the place of the event, and its
//! registers are compared with the recorded ones. Nothing is retried or skipped.

use std::rc::Rc;
use std::sync::Arc;

use rr_trace::event::{Event, EventNumber, Stdio};
use rr_trace::{EventPosition, EventSource, TraceReader};
use rr_tracee::{Registers, Tid, tsc};

use crate::affinity;
use crate::code::Code;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::family::Family;
use crate::frozen;
use crate::interval::Interval;
use crate::pending::Pending;
use crate::sprint::Sprints;
use crate::stoppoints::Stoppoints;
use crate::world::World;
use crate::zygote;

/// One replay.
///
/// A session belongs to the thread that made it, because ptrace does. Its tasks end with the session.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use rr_replayer::{ReplaySession, cpu_for_replay};
/// use rr_trace::TraceReader;
/// use rr_tracee::cpus::Cpus;
///
/// let reader = Arc::new(TraceReader::open("trace".as_ref())?);
/// let cpu = cpu_for_replay(&Cpus::survey(), &reader);
/// let mut session = ReplaySession::start(Arc::clone(&reader), Some(cpu))?;
/// while let Some(replayed) = session.step()? {
///     if let Some((_, bytes)) = replayed.output {
///         print!("{}", String::from_utf8_lossy(&bytes));
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ReplaySession {
    pub(crate) events: Events,
    pub(crate) world: World,
    pub(crate) code: Code,
    pub(crate) stoppoints: Stoppoints,
    pub(crate) interval: Interval,
    /// State of fast runs to execution points.
    pub(crate) sprints: Sprints,
    /// Forbids this thread to read the time-stamp counter: set at the first step, because the same
    /// thread makes all steps.
    without_tsc: Option<tsc::GivenUp>,
}

/// One replayed event.
#[derive(Debug)]
pub struct Replayed {
    /// The event.
    pub event: Arc<Event>,
    /// Bytes that the program wrote to standard output or error.
    pub output: Option<(Stdio, Vec<u8>)>,
}

impl ReplaySession {
    /// Starts a replay at the first event, with the replayed tasks bound to `cpu`.
    pub fn start(reader: Arc<TraceReader>, cpu: Option<usize>) -> Result<ReplaySession> {
        if reader.begins_at().is_some() {
            let first = reader.first_event();
            return Err(Error::NoBeginning { first });
        }
        let cursor = EventSource::new(Arc::clone(&reader)).from(EventNumber(1))?;
        let family = Family::new(&reader, cpu)?;
        Ok(ReplaySession::empty(reader, cursor, family))
    }

    /// Makes a session without tasks, whose next event is the cursor's.
    pub(crate) fn empty(
        reader: Arc<TraceReader>,
        cursor: EventPosition,
        family: Rc<Family>,
    ) -> ReplaySession {
        ReplaySession {
            events: Events::new(reader, cursor),
            world: World::new(family),
            code: Code::default(),
            stoppoints: Stoppoints::default(),
            interval: Interval::default(),
            sprints: Sprints::default(),
            without_tsc: None,
        }
    }

    /// Returns the last event that has been replayed.
    pub fn last_event(&self) -> EventNumber {
        self.events.last
    }

    /// Binds the replayed tasks, and future ones, to another CPU.
    pub fn bind(&mut self, cpu: usize) -> Result<()> {
        let tasks = self
            .world
            .tasks
            .values()
            .try_for_each(|task| affinity::bind(task.real, cpu));
        tasks
            .and_then(|()| self.world.backings.family.bind(cpu))
            .map_err(|errno| Error::Os {
                what: format!("binding a replayed task to CPU {cpu}"),
                source: errno.into(),
            })
    }

    /// Makes sure that the next event is known. Returns `false` at the end of the trace.
    pub(crate) fn fetch(&mut self) -> Result<bool> {
        self.without_tsc.get_or_insert_with(|| tsc::GivenUp::new(false));
        tsc::renew();
        if self.interval.pending.is_none() {
            self.interval.pending = self.events.cursor.next()?.map(Pending::new);
        }
        Ok(self.interval.pending.is_some())
    }

    /// Returns the process (thread group) of a task, if the task exists.
    pub fn process_of(&self, tid: Tid) -> Option<Tid> {
        self.world.tasks.get(&tid).map(|task| task.tgid)
    }

    /// Returns the registers of a task at the current position, if the task exists.
    pub fn registers(&self, tid: Tid) -> Option<Registers> {
        let regs = self.world.tasks.get(&tid)?.regs().ok()?;
        Some(regs.of_program())
    }
}

impl Drop for ReplaySession {
    fn drop(&mut self) {
        let tasks: Vec<Tid> = self.world.tasks.values().map(|task| task.real).collect();
        zygote::end_all(&tasks);
        frozen::reap();
        let family = &self.world.backings.family;
        // If this is the family's last session, all its processes end anyway, and no descriptor stays
        // open. (The same is true if the zygote has died.)
        if Rc::strong_count(family) > 1 {
            let objects = self.world.backings.objects.values();
            let _ = family.close(objects.filter(|o| !o.original).map(|o| o.fd).collect());
        }
    }
}
