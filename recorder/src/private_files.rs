//! Writes to files that are mapped privately.
//!
//! Whether a private mapping shows what is written to the file later is unspecified (mmap(2)); Linux shows it in
//! pages that the process has not written to. Replay's pages come from a copy of the file as it was when it
//! was mapped (I2). So such a write becomes part of the event, for each of these pages; and the page is made the
//! process's own in the recording too, as it is in replay then: checkpoints refer to the copy for pages that are not. Another
//! write finds that page again by what it was given: a page that still holds that shows the file as before.
//!
//! *A file that grows or is cut short.* A mapping may be longer than its file: what lies beyond is there when the file has grown
//! ([`RecordSession::private_resize`]). In replay these pages are mapped anew, from zeros. If the file is cut short, all that lies
//! beyond is gone, written or not: such pages are mapped from an empty file, where every access is a `SIGBUS` too.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::FileExt;

use rr_trace::event::MemWrite;
use rr_tracee::ids::PAGE;
use rr_tracee::memory::ReadMemory;
use rr_tracee::pagemap::{PageKind, Pagemap};
use rr_tracee::{Addr, AddrRange, Backing, FileId, Mapping, Memory, SpaceId, SpaceOp, Tid, procfs};

use crate::error::Result;
use crate::session::RecordSession;

/// Bytes of a file, and where a space shows them privately.
#[derive(Clone, Copy)]
struct View {
    at: AddrRange,
    /// The first of them in the file.
    offset: u64,
}

impl RecordSession {
    /// The bytes `start..start + len` of a file were written that had one of these `contents` when it was mapped
    /// privately: what that changes in memory. The file itself, if it can be read.
    pub(crate) fn private_writes(
        &mut self,
        contents: &[FileId],
        file: Option<&File>,
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
                    self.own_pages((leader, id), view, file, &mut writes)?;
                }
            }
        }
        Ok(writes)
    }

    /// A file that had one of these `contents` when it was mapped privately has `size` bytes now: what that changes in the memory
    /// of `tid`. (Only its own: an event changes the mappings of one address space.)
    pub(crate) fn private_resize(
        &mut self,
        tid: Tid,
        contents: &[FileId],
        inode: (u64, u64),
        size: u64,
    ) -> Result<Vec<SpaceOp>> {
        let own = self.task(tid)?.space;
        let pages = |bytes: u64| Addr(bytes).page_ceil().0;
        let end = pages(size);
        let mut ops = Vec::new();
        let spaces: Vec<SpaceId> = self.spaces.keys().copied().collect();
        for id in spaces {
            let Some(leader) = self.leader(id) else { continue };
            let mut lines = None;
            let mappings: Vec<Mapping> = self.mappings_of(id, contents).cloned().collect();
            for mapping in mappings {
                let Backing::File { file, offset } = mapping.backing else {
                    continue;
                };
                let before = pages(self.files.length(file)?);
                let all = AddrRange::sized(Addr(offset), mapping.range.len());
                let changed = AddrRange::new(Addr(before.min(end)), Addr(before.max(end)));
                let Some(changed) = all.intersect(changed) else {
                    continue;
                };
                let at = mapping.range.start + (changed.start - all.start);
                // Contents can be those of several files.
                let lines = match &mut lines {
                    Some(lines) => lines,
                    none => none.insert(procfs::maps(leader)?),
                };
                if !lines.iter().any(|l| l.range.contains(at) && l.inode == inode.1) {
                    continue;
                }
                if id != own {
                    tracing::warn!(
                        "a file changes its size that process {leader} has mapped privately: its replay may diverge"
                    );
                    continue;
                }
                let len = if before < end {
                    end.checked_next_power_of_two().unwrap_or(end)
                } else {
                    0
                };
                let Some(file) = self.mapped.grown(&self.files, (inode, size), len)? else {
                    continue;
                };
                let range = AddrRange::sized(at, changed.len());
                if let Some(part) = mapping.clipped(range) {
                    let offset = changed.start.0;
                    ops.push(SpaceOp::Map(Mapping {
                        backing: Backing::File { file, offset },
                        ..part
                    }));
                }
            }
        }
        self.mapped.note_size(inode, size);
        Ok(ops)
    }

    /// Whether anybody has mapped these contents.
    pub(crate) fn is_mapped_privately(&self, contents: &[FileId]) -> bool {
        let mut spaces = self.spaces.keys();
        !contents.is_empty() && spaces.any(|id| self.mappings_of(*id, contents).next().is_some())
    }

    /// What a space has mapped of these contents.
    pub(crate) fn mappings_of(&self, id: SpaceId, contents: &[FileId]) -> impl Iterator<Item = &Mapping> {
        let mappings = self.spaces.get(&id).into_iter().flat_map(|s| s.model.iter());
        mappings.filter(|m| matches!(m.backing, Backing::File { file, .. } if contents.contains(&file)))
    }

    /// Where a space shows these bytes of the file.
    fn views(&self, id: SpaceId, contents: &[FileId], bytes: AddrRange) -> Vec<View> {
        let shown = |mapping: &Mapping| match mapping.backing {
            Backing::File { offset, .. } => {
                let hit = AddrRange::sized(Addr(offset), mapping.range.len()).intersect(bytes)?;
                let at = mapping.range.start + (hit.start.0 - offset);
                Some(View {
                    at: AddrRange::sized(at, hit.len()),
                    offset: hit.start.0,
                })
            }
            _ => None,
        };
        self.mappings_of(id, contents).filter_map(shown).collect()
    }

    /// Makes the pages of `view` that still are the file's the process's own, and notes what they show.
    fn own_pages(
        &mut self,
        (tid, space): (Tid, SpaceId),
        view: View,
        file: Option<&File>,
        writes: &mut Vec<MemWrite>,
    ) -> Result<()> {
        let memory = Memory::of(tid);
        let populated = Pagemap::open(tid)?.populated(view.at.to_pages())?;
        let own = |page: Addr| {
            let kind = populated.iter().find(|(range, _)| range.contains(page));
            matches!(kind, Some((_, PageKind::Private)))
        };
        let given = &mut self.space_mut(space).shown;
        let mut page = view.at.start.page_floor();
        while page < view.at.end {
            let Some(bytes) = AddrRange::sized(page, PAGE).intersect(view.at) else {
                break;
            };
            let len = bytes.len() as usize;
            let data = if !own(page) {
                // What lies beyond the end of the file cannot be read.
                memory.read_vec(bytes.start, len).ok()
            } else if given.get(&page) == Some(&sum(&memory.read_vec(page, PAGE as usize)?)) {
                let mut data = vec![0; len];
                let at = view.offset + (bytes.start - view.at.start);
                file.and_then(|f| f.read_exact_at(&mut data, at).ok())
                    .map(|()| data)
            } else {
                None
            };
            if let Some(data) = data {
                memory.write(bytes.start, &data)?;
                given.insert(page, sum(&memory.read_vec(page, PAGE as usize)?));
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
}

/// What tells apart what a page holds. (That two differ and it does not say so costs no more than a stale page.)
fn sum(page: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(page);
    hasher.finish()
}
