//! An address space of the recording.

use rr_tracee::{Addr, AddrRange, AddressSpace, Backing, FileId, Mapping, Prot, SpaceOp};

use crate::buffer::library::Library;
use crate::call::aio::contexts::Contexts;
use crate::call::scratch::Scratch;
use crate::checkpoint::baseline::Baseline;
use crate::userfault::state::Userfaults;

/// An address space of the recording.
#[derive(Debug, Default)]
pub(crate) struct Space {
    pub model: AddressSpace,
    /// The program break as the program set it.
    pub brk: u64,
    /// The main stack, including the room below it.
    pub stack: Option<AddrRange>,
    /// The program's loader (`ld.so`), if it has one.
    pub loader: Option<FileId>,
    /// True if the program has asked not to be dumped (`PR_SET_DUMPABLE`). The kernel is not told,
    /// because rr reads the memory.
    pub not_dumpable: bool,
    /// True if the process may have locked memory (mlock(2)).
    pub locks_memory: bool,
    /// Memory for the outputs of calls that may block.
    pub scratch: Scratch,
    /// Its contexts of Linux AIO.
    pub aio: Contexts,
    /// Its page faults that the program handles.
    pub userfaults: Userfaults,
    /// State of the library.
    pub library: Library,
    /// Snapshots that the checkpoint writer reads in place. They must be replaced by forks before a
    /// task of this space continues.
    pub in_place: Vec<rr_checkpoint::SharedSource>,
    /// The last checkpoint, if the changes since then can be told.
    pub baseline: Option<Baseline>,
}

impl Space {
    /// Applies a change: its sites are no longer rewritten. Returns the bytes to be restored.
    #[must_use]
    pub fn apply(&mut self, op: &SpaceOp) -> Vec<(Addr, u8)> {
        for range in self.could_expose(op) {
            self.library.sites.guard(range);
        }
        let restored = self.library.sites.follow(op);
        self.baseline.take_if(|baseline| !baseline.follow(op));
        self.model.apply(op);
        restored
    }

    /// Where the operation puts mappings of shared objects that a `mprotect` could make writable. Replay has to do more at such a
    /// call than at another one: private mappings of the same file change, too, from that call on. So it must be an event.
    fn could_expose(&self, op: &SpaceOp) -> Vec<AddrRange> {
        let is_exposable =
            |m: &Mapping| matches!(m.backing, Backing::Shared { .. }) && !m.prot.has(Prot::WRITE);
        match op {
            SpaceOp::Map(mapping) if is_exposable(mapping) => vec![mapping.range],
            SpaceOp::Move { from, to, .. } if self.model.touching(*from).any(is_exposable) => {
                vec![AddrRange::sized(*to, from.len())]
            }
            _ => vec![],
        }
    }
}
