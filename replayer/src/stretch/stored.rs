//! The stored checkpoints of a trace, as starts of sessions.

use std::sync::Arc;

use nix::sched::CpuSet;
use rr_checkpoint::{BlockCache, Checkpoint};
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;
use rr_tracee::Tid;
use rr_tracee::cpus::bind_thread;

use crate::affinity;
use crate::error::{Error, Result};
use crate::session::ReplaySession;

/// A trace and the checkpoints that are stored in it. Can be used from several threads.
#[derive(Clone, Debug)]
pub struct Stored {
    reader: Arc<TraceReader>,
    /// The events of the checkpoints that can be used as far as is known, ascending.
    events: Vec<EventNumber>,
    /// The CPUs of the threads that read checkpoints.
    cpus: CpuSet,
    cache: Option<Arc<BlockCache>>,
}

impl Stored {
    /// The stored checkpoints of a trace. They are read on these CPUs.
    pub fn new(reader: Arc<TraceReader>, cpus: CpuSet) -> Result<Stored> {
        Ok(Stored {
            events: reader.checkpoints()?,
            reader,
            cpus,
            cache: None,
        })
    }

    /// Lets all checkpoints that are opened from here share decompressed blocks.
    pub fn sharing(mut self, cache: BlockCache) -> Stored {
        self.cache = Some(Arc::new(cache));
        self
    }

    /// The trace.
    pub fn reader(&self) -> &Arc<TraceReader> {
        &self.reader
    }

    /// The CPUs on which checkpoints are read.
    pub fn cpus(&self) -> CpuSet {
        self.cpus
    }

    /// The events of the checkpoints, ascending.
    pub fn events(&self) -> &[EventNumber] {
        &self.events
    }

    /// The last checkpoint at or before an event.
    pub fn before(&self, event: EventNumber) -> Option<EventNumber> {
        let n = self.events.partition_point(|at| *at <= event);
        self.events.get(n.checked_sub(1)?).copied()
    }

    /// Returns whether the trace has its beginning, so that a session can start there.
    pub fn has_start(&self) -> bool {
        self.reader.first_event().0 <= 1
    }

    /// Removes a checkpoint that must not be used.
    pub(crate) fn forget(&mut self, event: EventNumber) {
        self.events.retain(|at| *at != event);
    }

    /// Adds a checkpoint that has been stored.
    pub(crate) fn add(&mut self, event: EventNumber) {
        if let Err(place) = self.events.binary_search(&event) {
            self.events.insert(place, event);
        }
    }

    /// Opens the checkpoint at an event.
    pub fn open(&self, at: EventNumber) -> rr_checkpoint::Result<Checkpoint> {
        let mut checkpoint = Checkpoint::open_at(&*self.reader, at, &self.reader.header().uuid)?;
        checkpoint.set_cpus(self.cpus);
        if let Some(cache) = &self.cache {
            checkpoint.share(Arc::clone(cache));
        }
        Ok(checkpoint)
    }

    /// A session at the checkpoint at `from`, or at the start if that is 0.
    pub fn session(&self, from: EventNumber, cpu: Option<usize>) -> Result<ReplaySession> {
        match from.0 {
            0 => ReplaySession::start(Arc::clone(&self.reader), cpu),
            _ => ReplaySession::resume(Arc::clone(&self.reader), &self.open(from)?, cpu),
        }
    }

    /// Same as [`Stored::session`], with the calling thread on the same CPU from then on. Checkpoints
    /// and events are read on all CPUs.
    pub(crate) fn session_beside(&self, from: EventNumber, cpu: usize) -> Result<ReplaySession> {
        // The threads that this starts must not be bound.
        bind_thread(&self.cpus);
        let session = self.session(from, Some(cpu));
        // Only speed depends on this: waking a task on another CPU is slow.
        let _ = affinity::bind(Tid(0), cpu);
        session
    }

    /// A session that `open` makes at the last usable checkpoint at or before an event, or at the
    /// start. The user is told of each checkpoint that cannot be used. *This is the only code that
    /// skips them.*
    pub fn session_near(
        &self,
        event: EventNumber,
        open: impl Fn(EventNumber) -> Result<ReplaySession>,
    ) -> Result<Near> {
        let mut unusable = Vec::new();
        let mut at = self.before(event);
        while let Some(from) = at {
            match open(from) {
                Err(Error::Checkpoint(e)) => {
                    match e.is_missing() {
                        // The checkpoint was removed since the trace was opened.
                        true => tracing::debug!("the checkpoint at event {from} is gone: {e}"),
                        false => tracing::warn!("the checkpoint at event {from} cannot be used: {e}"),
                    }
                    unusable.push(from);
                    at = from.0.checked_sub(1).and_then(|n| self.before(EventNumber(n)));
                }
                made => return made.map(|session| Near { session, unusable }),
            }
        }
        match self.has_start() {
            true => open(EventNumber(0)).map(|session| Near { session, unusable }),
            false => Err(Error::NoStart {
                first: self.reader.first_event(),
                event,
            }),
        }
    }
}

/// A session at or before an event.
#[derive(Debug)]
pub struct Near {
    /// The session at the checkpoint's event, or at the start.
    pub session: ReplaySession,
    /// Nearer checkpoints that cannot be used.
    pub unusable: Vec<EventNumber>,
}
