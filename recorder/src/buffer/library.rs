//! The state of the library in one address space.

use std::mem::offset_of;

use rr_preload::layout::Control;
use rr_tracee::{Addr, Memory, rr_area};

use crate::buffer::ring::Place;
use crate::buffer::sites::Sites;
use crate::error::Result;
use crate::seccomp::Allowed;

/// Offset at which the library begins anew, so that there is room for large records.
pub(crate) const BEGIN_ANEW: u64 = 8 << 10;

/// State of the library in one address space.
#[derive(Debug, Default)]
pub(crate) struct Library {
    /// True if the library is mapped.
    pub installed: bool,
    /// The calls that must be traced, as its control page says, and the version of its filter of files.
    pub(crate) published: (u32, u64),
    /// The calls that the library may make.
    pub(crate) allowed: Allowed,
    /// Number of bytes of records that have been taken out. The library writes behind them until it is
    /// told to begin anew.
    pub taken: u64,
    /// Place where the library writes records.
    pub place: Place,
    /// Number of calls that the library has left to us because they may have to wait
    /// ([`Control::left`]).
    pub(crate) left: u64,
    /// Number of calls until the library leaves one to us because a checkpoint is due
    /// ([`Control::due`]).
    pub(crate) due: u64,
    /// The last change of a signal mask that the recorder knows ([`Control::blocked`]).
    pub(crate) blocked: u64,
    /// Number of bytes of records from large intervals, while the library has no ring.
    pub large: u64,
    /// The call sites.
    pub sites: Sites,
}

impl Library {
    /// The library of a fork with this memory. A fork has no ring.
    pub fn forked(&self, memory: &Memory) -> Library {
        let mut taken = self.taken;
        if let Place::Ring(_) = self.place {
            // This fails only if the fork is dead. Then nobody will ask.
            let _ = tell_place(memory, Place::Own.address());
            taken = 0;
        }
        Library {
            installed: self.installed,
            published: self.published,
            allowed: self.allowed,
            taken,
            place: Place::Own,
            left: self.left,
            due: self.due,
            blocked: self.blocked,
            large: 0,
            sites: self.sites.clone(),
        }
    }
}

/// Tells a library the address for its next records.
pub(crate) fn tell_place(memory: &Memory, place: Addr) -> Result<()> {
    const {
        assert!(offset_of!(Control, used) == offset_of!(Control, records) + 8);
    }
    let words = [place.0.to_le_bytes(), [0; 8]];
    Ok(memory.write(field!(records), words.as_flattened())?)
}

/// Returns whether a task with this instruction pointer is in the library.
pub(crate) fn is_inside(rip: u64) -> bool {
    rr_area::code().contains(Addr(rip))
}
