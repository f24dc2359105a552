//! The model of the replayed program: tasks, address spaces and shared memory objects.
//!
//! Invariant: the model says what the events have made of the program, and the real processes and files
//! are in that state whenever no event is being applied.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::rc::Rc;
use std::sync::Arc;

use rr_trace::event::{Event, MemWrite, ObjectWrite};
use rr_tracee::digest::{self, ChunkDigest};
use rr_tracee::{Addr, AddrRange, AddressSpace, ObjectId, Objects, Prot, Registers, SpaceId, Tid};

use crate::backings::Backings;
use crate::error::{Error, Result, bad, failed};
use crate::family::Family;
use crate::frozen;
use crate::overlay::Through;
use crate::space::hits_our_code;
use crate::task::Task;
use crate::zygote;

/// What a session knows of the program.
#[derive(Debug)]
pub(crate) struct World {
    pub tasks: BTreeMap<Tid, Task>,
    pub spaces: BTreeMap<SpaceId, AddressSpace>,
    /// The shared memory objects as the events describe them.
    pub objects: Objects,
    /// The same objects as real files.
    pub backings: Backings,
}

impl World {
    /// No task.
    pub fn new(family: Rc<Family>) -> World {
        World {
            tasks: BTreeMap::new(),
            spaces: BTreeMap::new(),
            objects: Objects::default(),
            backings: Backings::new(family),
        }
    }

    /// Digests of the memory of a task.
    pub fn digests(&self, tid: Tid, within: AddrRange) -> rr_tracee::Result<Vec<ChunkDigest>> {
        let Some(task) = self.tasks.get(&tid) else {
            return Ok(Vec::new());
        };
        let Some(space) = self.spaces.get(&task.space) else {
            return Ok(Vec::new());
        };
        let object = |id: ObjectId| self.backings.objects.get(&id).map(|o| &*o.file);
        digest::chunk_digests(task.real, space, within, object)
    }

    /// Number of bytes of shared memory that a live checkpoint has to copy.
    pub fn shared_bytes(&self) -> u64 {
        /// The unit of `st_blocks` (stat(2)).
        const BLOCK: u64 = 512;
        let objects = self.backings.objects.values().filter(|o| !o.original);
        let used = objects.filter_map(|o| o.file.metadata().ok());
        used.map(|m| m.blocks() * BLOCK).sum()
    }

    /// A fork of a task that never runs.
    pub fn fork_frozen(&mut self, tid: Tid) -> rr_tracee::Result<Tid> {
        let task = self.tasks.get_mut(&tid).ok_or(rr_tracee::Error::Died(tid))?;
        let mut stopped = task.take()?;
        // Not every stop has a siginfo.
        let info = stopped.siginfo().ok();
        let fork;
        (stopped, fork) = zygote::try_clone(stopped, false)?;
        let given = info.map_or(Ok(()), |info| stopped.set_siginfo(&info));
        task.give(stopped);
        let fork = fork?.tid();
        frozen::add(fork);
        given.inspect_err(|_| rr_tracee::task::kill(fork))?;
        Ok(fork)
    }

    /// The object that patches of code have to be written to, if any.
    pub fn shared_code(&self, event: &Event, place: Addr) -> Option<Through> {
        let space = self.spaces.get(&self.tasks.get(&event.tid)?.space)?;
        let mapping = space.at(place).filter(|m| !m.prot.has(Prot::WRITE))?;
        let (object, offset) = mapping.shared_at(place)?;
        let made = self.backings.objects.get(&object).filter(|o| !o.original)?;
        Some(Through {
            object,
            file: Arc::clone(&made.file),
            offset,
        })
    }

    /// The addresses by which the program can write to the code in `range`. Empty if it cannot.
    pub fn writable_at(&self, event: &Event, range: AddrRange) -> Vec<AddrRange> {
        let space = self.tasks.get(&event.tid).and_then(|t| self.spaces.get(&t.space));
        let Some(mapping) = space.and_then(|space| space.at(range.start)) else {
            return vec![];
        };
        let mut ranges = vec![];
        if mapping.prot.has(Prot::WRITE) {
            ranges.push(range);
        }
        if let Some((object, offset)) = mapping.shared_at(range.start) {
            let others = space.into_iter().flat_map(|space| space.iter());
            for other in others.filter(|m| m.prot.has(Prot::WRITE) && m.range != mapping.range) {
                if let Some((same, start)) = other.shared_at(other.range.start)
                    && same == object
                    && let Some(in_it) = offset.checked_sub(start)
                    && in_it < other.range.len()
                {
                    ranges.push(AddrRange::sized(other.range.start + in_it, range.len()));
                }
            }
        }
        ranges
    }

    /// The event's task.
    pub fn task(&mut self, event: &Event) -> Result<&mut Task> {
        self.tasks
            .get_mut(&event.tid)
            .ok_or_else(|| bad(event, "there is no such task"))
    }

    /// Makes a recorded write into a shared memory object.
    pub fn write_to_object(&self, event: &Event, write: &ObjectWrite) -> Result<()> {
        let object = self.backings.objects.get(&write.object);
        let object = object.ok_or_else(|| bad(event, "it writes into an object that does not exist"))?;
        let end = write.offset.checked_add(write.data.len() as u64);
        let size = object.file.metadata().map(|m| m.len()).unwrap_or(0);
        if end.is_none_or(|end| end > size) {
            return Err(bad(event, "it writes beyond the end of a shared memory object"));
        }
        let written = object.file.write_all_at(&write.data, write.offset);
        written.map_err(|source| Error::Os {
            what: format!("writing to shared memory object {}", write.object.0),
            source,
        })
    }

    /// Makes a recorded write into an address space.
    pub fn write(&self, event: &Event, write: &MemWrite) -> Result<()> {
        if hits_our_code(write.addr, write.data.len()) {
            return Err(bad(event, "it writes into rr's own code"));
        }
        let mut owners = self.tasks.values().filter(|t| t.space == write.space);
        let Some(owner) = owners.next() else {
            return Err(bad(event, "it writes into an address space that does not exist"));
        };
        let written = owner.memory().write(write.addr, &write.data);
        if written.is_err() && self.write_object(write) {
            return Ok(());
        }
        written.map_err(|source| Error::Tracee {
            event: event.number,
            source,
        })
    }

    /// Writes into a shared memory object that the task itself may only read. Returns `false` if there
    /// is no such object, or if the write does not fit.
    pub fn write_object(&self, write: &MemWrite) -> bool {
        let mapping = self
            .spaces
            .get(&write.space)
            .and_then(|space| space.at(write.addr));
        let Some((mapping, (object, at))) = mapping.and_then(|m| Some((m, m.shared_at(write.addr)?))) else {
            return false;
        };
        let Some(object) = self.backings.objects.get(&object) else {
            return false;
        };
        let fits = write.data.len() as u64 <= mapping.range.end - write.addr;
        fits && object.file.write_all_at(&write.data, at).is_ok()
    }

    /// Returns whether a stop of the event's task by a signal is to come.
    pub fn is_signal_due(&mut self, event: &Event) -> Result<bool> {
        let due = self.task(event)?.seen().and_then(|s| s.signal_due());
        due.map_err(|source| failed(event, source))
    }

    /// Moves the event's task to another address.
    pub fn move_to(&mut self, event: &Event, to: Addr) -> Result<()> {
        let moved = self.task(event)?.move_to(to);
        moved.map_err(|source| failed(event, source))
    }

    /// The registers of the event's task.
    pub fn regs_of(&mut self, event: &Event) -> Result<Registers> {
        let regs = self.task(event)?.all_regs();
        regs.map_err(|source| failed(event, source))
    }
}
