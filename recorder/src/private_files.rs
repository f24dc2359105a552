//! Writes to files that are mapped privately.
//!
//! Whether a private mapping shows what is written to the file later is unspecified (mmap(2)); Linux shows it in
//! pages that the process has not written to. Replay's pages come from a copy of the file as it was when it
//! was mapped (I2). So such a write becomes part of the event, for each of these pages; and the page is made the
//! process's own in the recording too, as it is in replay then: checkpoints refer to the copy for pages that are not.

use rr_trace::event::MemWrite;
use rr_tracee::ids::PAGE;
use rr_tracee::memory::ReadMemory;
use rr_tracee::pagemap::{PageKind, Pagemap};
use rr_tracee::{Addr, AddrRange, Backing, FileId, Memory, SpaceId, Tid};

use crate::error::Result;
use crate::session::RecordSession;

impl RecordSession {
    /// The bytes `start..start + len` of a file were written that had one of these `contents` when it was mapped
    /// privately: what that changes in memory.
    pub(crate) fn private_writes(
        &mut self,
        contents: &[FileId],
        start: u64,
        len: u64,
    ) -> Result<Vec<MemWrite>> {
        let mut writes = Vec::new();
        if contents.is_empty() || len == 0 {
            return Ok(writes);
        }
        let spaces: Vec<SpaceId> = self.spaces.keys().copied().collect();
        for id in spaces {
            let views = self.views(id, contents, AddrRange::sized(Addr(start), len));
            if let (Some(leader), false) = (self.leader(id), views.is_empty()) {
                // Who reads the memory in place shall not see half of it.
                self.lose_snapshots(id);
                for view in views {
                    own_pages(leader, id, view, &mut writes)?;
                }
            }
        }
        Ok(writes)
    }

    /// Where a space shows these bytes of the file.
    fn views(&self, id: SpaceId, contents: &[FileId], bytes: AddrRange) -> Vec<AddrRange> {
        let shown = |mapping: &rr_tracee::Mapping| match mapping.backing {
            Backing::File { file, offset } if contents.contains(&file) => {
                let hit = AddrRange::sized(Addr(offset), mapping.range.len()).intersect(bytes)?;
                let at = mapping.range.start + (hit.start.0 - offset);
                Some(AddrRange::sized(at, hit.len()))
            }
            _ => None,
        };
        let space = self.spaces.get(&id);
        space.map_or_else(Vec::new, |s| s.model.iter().filter_map(shown).collect())
    }
}

/// Makes the pages of `view` that still are the file's the process's own, and notes what they show.
fn own_pages(tid: Tid, space: SpaceId, view: AddrRange, writes: &mut Vec<MemWrite>) -> Result<()> {
    let memory = Memory::of(tid);
    let populated = Pagemap::open(tid)?.populated(view.to_pages())?;
    let own = |page: Addr| {
        let kind = populated.iter().find(|(range, _)| range.contains(page));
        matches!(kind, Some((_, PageKind::Private)))
    };
    let mut page = view.start.page_floor();
    while page < view.end {
        let bytes = AddrRange::sized(page, PAGE).intersect(view);
        // What lies beyond the end of the file cannot be read.
        if let (false, Some(bytes)) = (own(page), bytes)
            && let Ok(data) = memory.read_vec(bytes.start, bytes.len() as usize)
        {
            memory.write(bytes.start, &data)?;
            writes.push(MemWrite {
                space,
                addr: bytes.start,
                data,
            });
        }
        page = page + PAGE;
    }
    Ok(())
}
