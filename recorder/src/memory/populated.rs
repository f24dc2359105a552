//! Pages of private mappings that become the process's own although nobody has written to them.
//!
//! The kernel gives a process its own copy of each page of a writable private mapping when the mapping is populated or locked
//! (`populate_vma_page_range` in mm/gup.c). From then on such a page does not show what others write to the file. Replay neither
//! populates nor locks; so the copies are among the writes of the event. A file of the trace does not change; only mappings of
//! objects ([`Backing::CopyOnWrite`]) need this. (A file that becomes an object later: see [`crate::memory::private_files`].)

use rr_trace::event::MemWrite;

use rr_tracee::syscalls::Emulated;
use rr_tracee::{Addr, AddrRange, Backing, Mapping, Registers, Tid, USER_END};

use crate::error::Result;
use crate::memory::mapping::is_error;
use crate::memory::private_files::own_pages;
use crate::world::model::World;

/// `MADV_POPULATE_WRITE`, since Linux 5.14.
const POPULATE_WRITE: u64 = 23;

/// The copies that a call has made, which is over and in the model.
pub(crate) fn copies_made(
    world: &mut World,
    tid: Tid,
    emulated: Emulated,
    entry: &Registers,
    result: i64,
) -> Result<Vec<MemWrite>> {
    let id = world.task(tid)?.space;
    let space = world.space_mut(id);
    space.locks_memory |= match emulated {
        Emulated::Mlock => true,
        Emulated::Mmap => entry.r10 & libc::MAP_LOCKED as u64 != 0,
        _ => false,
    };
    let given = AddrRange::sized(Addr(entry.rdi), entry.rsi).to_pages();
    let new = |len: u64| AddrRange::sized(Addr(result as u64), len).to_pages();
    let range = match emulated {
        Emulated::Mmap if !is_error(result) => new(entry.rsi),
        Emulated::Mlock if entry.syscall() == libc::SYS_mlockall => AddrRange::new(Addr(0), Addr(USER_END)),
        // Also a call that fails has locked the pages before the one that it fails at.
        Emulated::Mlock => given,
        Emulated::Madvise if entry.rdx == POPULATE_WRITE => given,
        // What is locked is populated where it becomes longer, or writable.
        Emulated::Mremap if space.locks_memory && !is_error(result) => new(entry.rdx),
        Emulated::Mprotect if space.locks_memory => given,
        _ => return Ok(Vec::new()),
    };
    let is_copy = |m: &&Mapping| matches!(m.backing, Backing::CopyOnWrite { .. });
    let parts = space.model.touching(range).filter(is_copy);
    let parts: Vec<AddrRange> = parts.filter_map(|m| m.range.intersect(range)).collect();
    let mut writes = Vec::new();
    for part in parts {
        writes.extend(own_pages(tid, id, part)?);
    }
    Ok(writes)
}
