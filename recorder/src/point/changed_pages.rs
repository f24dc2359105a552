//! The pages that a task writes while it runs freely for a moment.
//!
//! A turn of a loop may be longer than the steps that the recorder makes: a turn of an interpreter's
//! loop takes thousands of instructions. What counts the turns is then in a page that no step has
//! touched. So the task's private memory is read twice, a moment apart, and the pages whose contents
//! differ are watched, too. Without them a name can be the same at each turn: the replay of one second
//! of Python then compared 600,000 moments with the point, which took 90 seconds.
//!
//! Reading costs time in proportion to the memory. The interval bounds it: the memory of
//! [`BYTES_PER_US`] for each microsecond of the interval is read, small mappings first.

use rr_tracee::digest::page_digests;
use rr_tracee::ids::PAGE;
use rr_tracee::pagemap::Pagemap;
use rr_tracee::{Addr, AddrRange, AddressSpace, Backing, Mapping, Memory, Prot};

use crate::error::Result;

/// Number of bytes that may be read for each microsecond of the interval. Reading twice, at some 3 GB/s,
/// then takes at most a fortieth of it.
const BYTES_PER_US: u64 = 40;

/// Minimum number of bytes that may be read: half a millisecond's.
const BYTES_LEAST: u64 = 1 << 20;

/// The contents of pages at one moment.
#[derive(Debug)]
pub(crate) struct PageDigests {
    memory: Memory,
    /// The runs of existing pages that are read, in the order of reading.
    runs: Vec<AddrRange>,
    /// The digest of each of their pages that could be read.
    digests: Vec<(Addr, u64)>,
}

impl PageDigests {
    /// Reads the task's private memory, or as much of it as may be read for an interval of `ran_us` microseconds.
    pub(crate) fn read(memory: Memory, space: &AddressSpace, ran_us: u32) -> Result<PageDigests> {
        // Whole pages, so that it comes to an end.
        let mut room = (u64::from(ran_us) * BYTES_PER_US).max(BYTES_LEAST) & !(PAGE - 1);
        let private = |m: &&Mapping| {
            let is_private = matches!(
                m.backing,
                Backing::Anonymous | Backing::File { .. } | Backing::CopyOnWrite { .. }
            );
            is_private && m.prot.has(Prot::RW)
        };
        let mut mappings: Vec<&Mapping> = space.iter().filter(private).collect();
        mappings.sort_by_key(|m| m.range.len());
        let pagemap = Pagemap::open(memory.tid())?;
        let mut runs = Vec::new();
        for mapping in mappings {
            if room == 0 {
                break;
            }
            for (run, _) in pagemap.populated(mapping.range)? {
                let len = run.len().min(room);
                room -= len;
                if len > 0 {
                    runs.push(AddrRange::sized(run.start, len));
                }
            }
        }
        let digests = page_digests(&memory, &runs)?;
        Ok(PageDigests {
            memory,
            runs,
            digests,
        })
    }

    /// Reads the same pages again, and returns those whose contents differ now.
    pub(crate) fn changed(&self) -> Result<Vec<Addr>> {
        let now = page_digests(&self.memory, &self.runs)?;
        let differs = |(before, now): &(&(Addr, u64), &(Addr, u64))| before.0 == now.0 && before.1 != now.1;
        let both = self.digests.iter().zip(&now).filter(differs);
        Ok(both.map(|(page, _)| page.0).collect())
    }
}
