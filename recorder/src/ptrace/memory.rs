//! Words of a tracee's memory (`PTRACE_PEEKTEXT` and similar requests).
//!
//! Invariant: the tracer reads the program's bytes. In rewritten code it sees the original bytes, and
//! rr's own pages do not exist for it.

use nix::errno::Errno;
use rr_trace::event::MemWrite;
use rr_tracee::{Addr, AddrRange, Backing, Prot, SpaceId, Tid, rr_area};

use crate::ptrace::request::{Answered, Request};
use crate::session::RecordSession;

const WORD: usize = 8;

impl RecordSession {
    /// Returns whether a range belongs to the program, and not to rr.
    fn is_of_program(&self, tid: Tid, range: AddrRange) -> bool {
        range.intersect(rr_area::area()).is_none()
            && !self.stubs_of(tid).iter().any(|s| s.intersect(range).is_some())
    }

    /// Memory of this space is about to be changed for a tracer: waits for the checkpoint writer, which
    /// may be reading it in place.
    pub(super) fn finish_reading(&mut self, space: SpaceId) {
        if self.spaces.get(&space).is_some_and(|s| !s.in_place.is_empty()) {
            self.capture.wait_until_read();
        }
        self.lose_snapshots(space);
    }

    /// A word of a task's memory, as the program sees it.
    pub(super) fn peek(&self, tid: Tid, addr: Addr) -> Answered<u64> {
        let range = AddrRange::sized(addr, WORD as u64);
        if !self.is_of_program(tid, range) {
            return Err(Errno::EIO.into());
        }
        let task = self.task(tid)?;
        let mut word = [0; WORD];
        // Protection does not matter to a tracer.
        let read = task.memory.read_shared(addr, &mut word);
        read.map_err(|_| Errno::EIO)?;
        if let Some(space) = self.spaces.get(&task.space) {
            space.library.sites.show_original(addr, &mut word);
        }
        Ok(u64::from_le_bytes(word))
    }

    /// `PTRACE_POKETEXT`, `PTRACE_POKEDATA`.
    pub(super) fn poke(&mut self, request: Request) -> Answered {
        let (tid, addr) = (request.of, Addr(request.addr));
        let range = AddrRange::sized(addr, WORD as u64);
        if !self.is_of_program(tid, range) {
            return Err(Errno::EIO.into());
        }
        let space = self.task(tid)?.space;
        let model = self.spaces.get(&space).map(|s| &s.model);
        // Shared memory can be changed only where the tracee could do it.
        let is_fixed = |at: Addr| {
            model
                .and_then(|m| m.at(at))
                .is_none_or(|m| matches!(m.backing, Backing::Shared { .. }) && !m.prot.has(Prot::WRITE))
        };
        if is_fixed(addr) || is_fixed(addr + (WORD as u64 - 1)) {
            return Err(Errno::EIO.into());
        }
        self.finish_reading(space);
        let data = request.data.to_le_bytes().to_vec();
        let written = self.task(tid)?.memory.write(addr, &data);
        written.map_err(|_| Errno::EIO)?;
        let mut writes = vec![MemWrite { space, addr, data }];
        self.undo_overwritten(tid, &mut writes)?;
        // The event of the tracer's call gets them.
        self.besides.writes.extend(writes);
        Ok(0)
    }
}
