//! Debug registers: watchpoints of the debugger in one process, and the guard of a probe.
//!
//! The processor traps after an instruction of the program that accesses a watched place. Writes of
//! events cause no trap: the driver of the session compares the values before and after
//! ([`ReplaySession::watched_values`]).
//!
//! One more register can stop a task before an instruction ([`crate::cpuid_stop`]).
//!
//! The *guard* consists of the registers that the debugger leaves free. They watch the code of a probe
//! ([`crate::point`]) if the program can write there.

mod set;

use rr_trace::event::Event;
use rr_tracee::Tid;
use rr_tracee::memory::ReadMemory;
use rr_tracee::task::{WATCHES, Watch, WatchKind};
use rr_tracee::{Addr, AddrRange};

use crate::error::{Result, failed};
use crate::session::ReplaySession;
use crate::world::World;

pub(crate) use set::Watches;

/// Maximum number of bytes that one debug register watches.
const PIECE: u64 = 8;

/// Accesses of a task.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Hits {
    /// Accessed places of the debugger, one bit for each.
    pub watched: u8,
    /// True if the guard was accessed.
    pub guard: bool,
    /// True if the task was stopped before an instruction.
    pub stop: bool,
}

impl ReplaySession {
    /// Sets the debugged process, and the places that stop it after an access.
    pub fn set_watches(&mut self, process: Tid, places: Vec<Watch>) {
        let watches = &mut self.stoppoints.watches;
        if watches.process != Some(process) || watches.places != places {
            watches.process = Some(process);
            watches.places = places;
            watches.generation += 1;
        }
    }

    /// The watched places.
    pub fn watches(&self) -> &[Watch] {
        &self.stoppoints.watches.places
    }

    /// Values of the watched places; `None` for those that cannot be read.
    pub fn watched_values(&self) -> Vec<Option<Vec<u8>>> {
        let task = self
            .world
            .tasks
            .values()
            .find(|t| Some(t.tgid) == self.stoppoints.watches.process);
        let memory = task.map(|t| t.memory());
        let value = |watch: &Watch| memory.as_ref()?.read_vec(watch.addr, watch.len.into()).ok();
        self.stoppoints.watches.places.iter().map(value).collect()
    }
}

impl Watches {
    /// Guards these ranges in the address space of the event's task against the program's own writes.
    /// Returns `false` if there are too few debug registers.
    pub fn set_guard(&mut self, ranges: &[AddrRange]) -> bool {
        let pieces = ranges.iter().flat_map(|range| {
            let first = range.start.0 / PIECE;
            let last = (range.end.0 - 1) / PIECE;
            (first..=last).map(|n| Watch {
                addr: Addr(n * PIECE),
                len: PIECE as u8,
                kind: WatchKind::Write,
            })
        });
        let mut guard: Vec<Watch> = pieces.collect();
        let watches = self;
        let has_room = guard.len() + watches.places.len() <= WATCHES;
        if !has_room {
            guard.clear();
        }
        if guard != watches.guard {
            watches.guard = guard;
            watches.generation += 1;
        }
        has_room
    }

    /// Sets the address at which the event's task stops before the instruction. Returns `false` if there are too few debug
    /// registers. (The guard is only needed for events of another kind.)
    pub fn set_stop(&mut self, stop: Option<Addr>) -> bool {
        if stop != self.stop {
            self.stop = stop;
            self.generation += 1;
        }
        stop.is_none() || self.places.len() + self.guard.len() < WATCHES
    }

    /// The address at which the event's task stops before the instruction.
    pub fn stop(&self) -> Option<Addr> {
        self.stop
    }

    /// Sets the debug registers of the event's task, if they are out of date.
    pub fn arm(&self, world: &mut World, event: &Event) -> Result<()> {
        let (process, generation) = (self.process, self.generation);
        let Some(task) = world.tasks.get_mut(&event.tid) else {
            return Ok(());
        };
        if task.watches == generation {
            return Ok(());
        }
        let mut places = match process == Some(task.tgid) {
            true => self.places.clone(),
            false => vec![],
        };
        places.extend(&self.guard);
        let armed = task.stopped().and_then(|s| s.set_watches(&places, self.stop));
        task.watches = generation;
        armed.map_err(|source| failed(event, source))
    }

    /// Returns the accesses of the event's task.
    pub fn take_hits(&self, world: &mut World, event: &Event) -> Result<Hits> {
        let tgid = world.task(event)?.tgid;
        let debugged = self.process == Some(tgid);
        let watched = if debugged { self.places.len() } else { 0 };
        let guard = self.guard.len();
        if watched + guard == 0 && self.stop.is_none() {
            return Ok(Hits::default());
        }
        let hits = world.task(event)?.stopped().and_then(|s| s.take_watch_hits());
        let hits = hits.map_err(|source| failed(event, source))?;
        Ok(Hits {
            watched: hits & !(u8::MAX << watched),
            guard: hits >> watched & !(u8::MAX << guard) != 0,
            stop: self.stop.is_some() && hits >> (watched + guard) != 0,
        })
    }
}
