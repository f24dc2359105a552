//! Watchpoints of the debugger in one process, by debug registers.
//!
//! The processor traps after an instruction of the program that accesses a watched place. What an event writes
//! traps nothing: whoever drives the session compares the values before and after ([`ReplaySession::watched_values`]).

use rr_trace::event::Event;
use rr_tracee::Tid;
use rr_tracee::memory::ReadMemory;
use rr_tracee::task::Watch;

use crate::error::Result;
use crate::run::failed;
use crate::session::ReplaySession;

/// The watched places of the debugged process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watches {
    process: Option<Tid>,
    places: Vec<Watch>,
    /// Counts the changes: a task whose debug registers are of another is armed anew.
    generation: u64,
}

impl ReplaySession {
    /// The process that is debugged, and the places that it stops after accessing.
    pub fn set_watches(&mut self, process: Tid, places: Vec<Watch>) {
        let watches = &mut self.watches;
        if watches.process != Some(process) || watches.places != places {
            watches.process = Some(process);
            watches.places = places;
            watches.generation += 1;
        }
    }

    /// The watched places.
    pub fn watches(&self) -> &[Watch] {
        &self.watches.places
    }

    /// Sets the debug registers of the event's task, if they are not what they should be.
    pub(crate) fn arm_watches(&mut self, event: &Event) -> Result<()> {
        let (process, generation) = (self.watches.process, self.watches.generation);
        let Some(task) = self.tasks.get_mut(&event.tid) else {
            return Ok(());
        };
        if task.watches == generation || process.is_none() {
            return Ok(());
        }
        let places = match process == Some(task.tgid) {
            true => &self.watches.places[..],
            false => &[],
        };
        let armed = task.stopped().and_then(|s| s.set_watches(places));
        task.watches = generation;
        armed.map_err(|source| failed(event, source))
    }

    /// Which watched places the event's task has accessed.
    pub(crate) fn take_watch_hits(&mut self, event: &Event) -> Result<u8> {
        if self.watches.places.is_empty() {
            return Ok(0);
        }
        let hits = self.task(event)?.stopped().and_then(|s| s.take_watch_hits());
        hits.map_err(|source| failed(event, source))
    }

    /// What the watched places hold; nothing for those that cannot be read.
    pub fn watched_values(&self) -> Vec<Option<Vec<u8>>> {
        let task = self.tasks.values().find(|t| Some(t.tgid) == self.watches.process);
        let memory = task.map(|t| t.memory());
        let value = |watch: &Watch| memory.as_ref()?.read_vec(watch.addr, watch.len.into()).ok();
        self.watches.places.iter().map(value).collect()
    }
}
