//! `CodeOverlay`: the one owner of bytes in a replayed address space that are not the program's.
//!
//! Breakpoints of the debugger and probes for execution points are written over the program's code.
//! Keeps I8: reads through the overlay see the program's own bytes, writes of events go under it, and
//! code that compares or digests memory lifts it meanwhile.
//!
//! Patches do not overlap. A patch that the program itself has overwritten is no longer ours, and is
//! not put back.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, AddrRange, Memory, ObjectId, Result};

/// Shared memory behind code that the task itself may not write to. A debugger may not either
/// (ptrace(2), `EIO`), so patches are written into the object.
#[derive(Clone, Debug)]
pub(crate) struct Through {
    /// The object.
    pub object: ObjectId,
    /// The object's file in this session.
    pub file: Arc<File>,
    /// Offset of the patch in the object.
    pub offset: u64,
}

/// The bytes written over a place, and the original bytes.
#[derive(Clone, Debug)]
struct Patch {
    ours: Vec<u8>,
    original: Vec<u8>,
    through: Option<Through>,
}

impl Patch {
    /// Writes bytes to the patch's place, which is at `addr`.
    fn write(&self, memory: &Memory, addr: Addr, bytes: &[u8]) -> Result<()> {
        match &self.through {
            // The object exists, and is large enough, as long as it is mapped.
            Some(through) => {
                let written = through.file.write_all_at(bytes, through.offset);
                written.map_err(|e| memory.error("writing", addr, bytes.len(), &e))
            }
            None => memory.write_protected(addr, bytes),
        }
    }
}

/// The patches of one address space.
#[derive(Clone, Debug, Default)]
pub(crate) struct CodeOverlay {
    patches: BTreeMap<Addr, Patch>,
}

impl CodeOverlay {
    /// Returns whether there are no patches.
    pub fn is_empty(&self) -> bool {
        self.patches.is_empty()
    }

    /// Returns whether a patch begins at `addr`.
    pub fn has(&self, addr: Addr) -> bool {
        self.patches.contains_key(&addr)
    }

    /// Writes `ours` over a place. If the place cannot be read or is patched, writes nothing and
    /// returns `false`.
    pub fn put(&mut self, memory: &Memory, addr: Addr, ours: &[u8]) -> Result<bool> {
        self.put_through(memory, addr, ours, None)
    }

    /// Same as [`CodeOverlay::put`], in code of shared memory.
    pub fn put_through(
        &mut self,
        memory: &Memory,
        addr: Addr,
        ours: &[u8],
        through: Option<Through>,
    ) -> Result<bool> {
        let range = AddrRange::sized(addr, ours.len() as u64);
        let mut original = vec![0; ours.len()];
        if self.touching(range).next().is_some() || memory.read(addr, &mut original).is_err() {
            return Ok(false);
        }
        let ours = ours.to_vec();
        let patch = Patch {
            ours,
            original,
            through,
        };
        patch.write(memory, addr, &patch.ours)?;
        self.patches.insert(addr, patch);
        Ok(true)
    }

    /// The program has just written to `written`, over the patch at `addr`: its new bytes belong to the
    /// program.
    pub fn note_written(&mut self, memory: &Memory, addr: Addr, written: &[AddrRange]) -> Result<()> {
        let Some(patch) = self.patches.get_mut(&addr) else {
            return Ok(());
        };
        let mut now = vec![0; patch.ours.len()];
        memory.read(addr, &mut now)?;
        for (n, byte) in now.into_iter().enumerate() {
            let at = addr + n as u64;
            if byte != patch.ours[n] || written.iter().any(|range| range.contains(at)) {
                patch.original[n] = byte;
                // The current byte is not ours.
                patch.ours[n] = byte;
            }
        }
        Ok(())
    }

    /// Removes the patch at a place. No error if there is none.
    pub fn remove(&mut self, memory: &Memory, addr: Addr) -> Result<()> {
        match self.patches.remove(&addr) {
            Some(patch) => give_back(memory, addr, &patch),
            None => Ok(()),
        }
    }

    /// Removes all patches that touch a range, because the program's memory there is about to change.
    pub fn clear(&mut self, memory: &Memory, range: AddrRange) -> Result<()> {
        for addr in self.touching(range).map(|(addr, _)| addr).collect::<Vec<_>>() {
            self.remove(memory, addr)?;
        }
        Ok(())
    }

    /// Restores the original bytes of a range until [`CodeOverlay::put_back`].
    pub fn lift(&self, memory: &Memory, range: AddrRange) -> Result<()> {
        self.touching(range)
            .try_for_each(|(addr, patch)| give_back(memory, addr, patch))
    }

    /// Reverts [`CodeOverlay::lift`]: the memory is as it was before.
    pub fn put_back(&self, memory: &Memory, range: AddrRange) -> Result<()> {
        self.touching(range)
            .try_for_each(|(addr, patch)| patch.write(memory, addr, &patch.ours))
    }

    /// Turns bytes that were read at `addr` into the program's own.
    pub fn mask(&self, addr: Addr, bytes: &mut [u8]) {
        for (at, patch) in self.touching(AddrRange::sized(addr, bytes.len() as u64)) {
            for (n, (ours, original)) in patch.ours.iter().zip(&patch.original).enumerate() {
                let place = (at.0 + n as u64).checked_sub(addr.0);
                if let Some(byte) = place.and_then(|n| bytes.get_mut(n as usize))
                    && byte == ours
                {
                    *byte = *original;
                }
            }
        }
    }

    /// Updates the patches after the session has got other files for its objects.
    pub fn rebind(&mut self, file_of: impl Fn(ObjectId) -> Option<Arc<File>>) {
        for through in self.patches.values_mut().filter_map(|p| p.through.as_mut()) {
            if let Some(file) = file_of(through.object) {
                through.file = file;
            }
        }
    }

    /// The ranges of the patches.
    pub fn ranges(&self) -> impl Iterator<Item = AddrRange> {
        let all = self.patches.iter();
        all.map(|(addr, patch)| AddrRange::sized(*addr, patch.ours.len() as u64))
    }

    /// The patches that overlap a range.
    fn touching(&self, range: AddrRange) -> impl Iterator<Item = (Addr, &Patch)> {
        /// Maximum length of a patch.
        const LONGEST: u64 = 32;
        let from = Addr(range.start.0.saturating_sub(LONGEST));
        self.patches
            .range(from..range.end)
            .filter(move |(addr, patch)| **addr + patch.ours.len() as u64 > range.start)
            .map(|(addr, patch)| (*addr, patch))
    }
}

/// Writes the original bytes, except where the program has overwritten the patch.
fn give_back(memory: &Memory, addr: Addr, patch: &Patch) -> Result<()> {
    let mut now = vec![0; patch.ours.len()];
    // If the place is not mapped any more, there is nothing to restore.
    if memory.read(addr, &mut now).is_err() {
        return Ok(());
    }
    for (n, byte) in now.iter_mut().enumerate() {
        if *byte == patch.ours[n] {
            *byte = patch.original[n];
        }
    }
    patch.write(memory, addr, &now)
}
