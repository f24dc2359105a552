//! Finds the pages that a process has not written to since it was forked.
//!
//! The kernel tells for each page of a process whether nobody else maps the page (bit 56 of
//! `/proc/PID/pagemap`, the "exclusive" bit). A checkpoint can conclude from that, without reading the
//! page:
//!
//! > *A page of private memory that is shared now, in a process that has not been forked since the moment T, holds what it
//! > held at T.*
//!
//! 1. Anonymous pages become shared by fork(2) and in no other way (KSM apart, see below): a new page
//!    belongs only to the process that faulted it in.
//! 2. So, with no fork of the process since T, the page existed and was shared at T already. (Other
//!    processes that share it may have forked since, or have died: then more or fewer processes share
//!    it, but this process did not start to share it.)
//! 3. The page has been shared all the time: if this process had been its only owner for a moment, it
//!    would still be, by 1.
//! 4. A shared page is never written to. A writer gets an exclusive copy. The same holds for writes of
//!    the kernel and of debuggers (`FOLL_FORCE`).
//!
//! State at the next checkpoint after a fork F for a checkpoint:
//!
//! | change of a page of the program | program maps | F maps | others | program's page is |
//! |---|---|---|---|---|
//! | nothing | X | X | | shared: unchanged |
//! | nothing, and F has died | X | | | exclusive: not known |
//! | nothing, and F has died, but a child of before F has it | X | | X | shared: unchanged |
//! | written | a copy of X | X | | exclusive: not known |
//! | written, and a child of before F has the old one | a copy of X | X | X | exclusive: not known |
//! | unmapped or discarded, and there is a new one in its place | new | X | | exclusive: not known |
//! | pinned for a device when F was made (fork copies it) | X | a copy | | exclusive: not known |
//! | written, **and a child of after F has the new one** | a copy of X | X | the copy | *shared, though changed* |
//! | **moved here from elsewhere** (mremap(2)) | X | X, elsewhere | | *shared, not what was here* |
//! | **the shared zero page in place of X** | zero page | X | all | *looks shared* |
//!
//! The caller handles the last three. A recorder sees every system call, so it knows forks and moves.
//! [`Pagemap::step`] with [`Method::Scan`] does not list the zero page (with the other method, this
//! module is not used: [`is_known`]). Memory that was never private (shared mappings, pages of the page
//! cache) is never listed as shared here. Nor is a page that is swapped out or being migrated. (Memory
//! of devices, without pages of the kernel's, looks shared, but no checkpoint can read it.) Huge pages
//! follow the same rule: a write to a shared one splits the mapping of the writer, which is the one
//! that is looked at, and the written part becomes a small page of its own. (The forked process keeps
//! its huge mapping, and for all pages of that the kernel tells the state of the first. So the forked
//! process must not be asked.) Kernels that count mappings for whole folios only
//! (`CONFIG_NO_PAGE_MAPCOUNT`) say "shared" of pages that have been shared as part of a folio. A folio
//! that is new since T has no such past, so the rule holds.
//!
//! KSM (`Documentation/admin-guide/mm/ksm.rst`) makes processes share equal pages, which breaks rule 1:
//! where it runs or has left merged pages, nothing is known.

use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use super::{
    Method, Pagemap, TABLE_FILE, TABLE_GUARD, TABLE_PRESENT, TABLE_SWAPPED, check_alive, errno, method,
};
use crate::error::{Error, Result};
use crate::ids::{Addr, AddrRange, PAGE, Tid};

/// Nobody else maps the page (`PM_MMAP_EXCLUSIVE`).
const TABLE_EXCLUSIVE: u64 = 1 << 56;

/// Number of entries that are read at once (128 KiB, 64 MiB of address space).
const ENTRIES: usize = 16384;

/// Returns whether this kernel tells. For KSM the answer holds only at this moment, so ask after
/// reading the pages.
pub fn is_known() -> bool {
    static TELLS: OnceLock<bool> = OnceLock::new();
    *TELLS.get_or_init(|| method() == Method::Scan && own_page_is_exclusive()) && !ksm_is_active()
}

/// Returns whether a page of ours alone looks exclusive. Kernels and sandboxes that do not know the bit
/// show all pages as shared.
fn own_page_is_exclusive() -> bool {
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping at a place that the kernel chooses.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE as usize, prot, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: the page that was just mapped; a thread that forks now does not share it.
    let is_ours = unsafe {
        let r = libc::madvise(page, PAGE as usize, libc::MADV_DONTFORK);
        page.cast::<u8>().write_volatile(1);
        r == 0
    };
    let own = AddrRange::sized(Addr(page as u64), PAGE);
    let shared = Pagemap::open(Tid(std::process::id() as i32)).and_then(|pagemap| pagemap.shared(own));
    // SAFETY: as above; nobody has a reference to it.
    unsafe { libc::munmap(page, PAGE as usize) };
    is_ours && shared.is_ok_and(|runs| runs.is_empty())
}

/// Returns whether KSM merges pages, or has left merged pages.
fn ksm_is_active() -> bool {
    let nonzero = |name: &str| {
        let text = std::fs::read_to_string(format!("/sys/kernel/mm/ksm/{name}"));
        // Without the file there is no KSM.
        text.is_ok_and(|text| text.trim() != "0")
    };
    nonzero("run") || nonzero("pages_shared")
}

impl Pagemap {
    /// The pages of private memory in `range` that other processes map, too: runs in order. Costs some
    /// 40 ns for each existing page. The module documentation says when these are unchanged since a
    /// fork.
    pub fn shared(&self, range: AddrRange) -> Result<Vec<AddrRange>> {
        let range = range.to_pages();
        let mut runs: Vec<AddrRange> = Vec::new();
        let mut bytes = vec![0u8; ((range.len() / PAGE) as usize).min(ENTRIES) * 8];
        let mut at = range.start;
        while at < range.end {
            let pages = (((range.end - at) / PAGE) as usize).min(ENTRIES);
            let n = self
                .file
                .read_at(&mut bytes[..pages * 8], at.0 / PAGE * 8)
                .map_err(|e| Error::kernel(self.tid, "reading pagemap", errno(&e)))?;
            if n < 8 {
                break; // beyond what a process can map, or no process any more
            }
            let mut is_empty = true;
            for (i, entry) in bytes[..n].chunks_exact(8).enumerate() {
                let entry = u64::from_le_bytes([
                    entry[0], entry[1], entry[2], entry[3], entry[4], entry[5], entry[6], entry[7],
                ]);
                is_empty &= entry & (TABLE_PRESENT | TABLE_SWAPPED) == 0;
                let all = TABLE_PRESENT | TABLE_SWAPPED | TABLE_FILE | TABLE_GUARD | TABLE_EXCLUSIVE;
                if entry & all != TABLE_PRESENT {
                    continue;
                }
                let page = AddrRange::sized(at + i as u64 * PAGE, PAGE);
                match runs.last_mut() {
                    Some(last) if last.end == page.start => last.end = page.end,
                    _ => runs.push(page),
                }
            }
            at = at + (n / 8) as u64 * PAGE;
            if is_empty && at < range.end {
                at = self.next_populated(AddrRange::new(at, range.end))?;
            }
        }
        check_alive(self.tid)?;
        Ok(runs)
    }

    /// Address of the first page that exists, so that a reserved terabyte is not read entry by entry.
    fn next_populated(&self, mut range: AddrRange) -> Result<Addr> {
        if self.method != Method::Scan {
            return Ok(range.start);
        }
        let mut runs = Vec::new();
        while range.start < range.end {
            range.start = self.step_anonymous(range, &mut runs)?;
            if let Some((run, _)) = runs.first() {
                return Ok(run.start);
            }
        }
        Ok(range.end)
    }
}
