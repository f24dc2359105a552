//! `madvise(2)`: the advice that changes an address space, and its effect.
//!
//! Recorder, replayer and the reader of the library's records all use this module, so they cannot
//! differ. The advice is an `int`: the kernel uses only the low 32 bits of the argument.

use crate::ids::AddrRange;
use crate::space::{ForkPolicy, SpaceOp};

/// `MADV_DONTNEED`: private pages become untouched again.
pub const DONTNEED: i32 = 4;
/// `MADV_FREE`: the kernel may take the pages away at any time.
pub const FREE: i32 = 8;
/// `MADV_REMOVE`: punches a hole into the mapped object.
pub const REMOVE: i32 = 9;
/// `MADV_DONTFORK`: a child does not get the range.
pub const DONTFORK: i32 = 10;
/// `MADV_DOFORK`: reverts [`DONTFORK`].
pub const DOFORK: i32 = 11;
/// `MADV_WIPEONFORK`: a child gets zeros.
pub const WIPEONFORK: i32 = 18;
/// `MADV_KEEPONFORK`: reverts [`WIPEONFORK`].
pub const KEEPONFORK: i32 = 19;
/// `MADV_DONTNEED_LOCKED`: [`DONTNEED`] that includes locked pages.
pub const DONTNEED_LOCKED: i32 = 24;
/// `MADV_GUARD_INSTALL`: accesses fault from now on.
pub const GUARD_INSTALL: i32 = 102;
/// `MADV_GUARD_REMOVE`: reverts [`GUARD_INSTALL`].
pub const GUARD_REMOVE: i32 = 103;

/// Returns whether an advice decides what a child gets. A range has two such properties: the child does
/// not have it, and the child gets zeros. Each can be reverted alone, so the effect of an advice
/// depends on the advice before.
pub fn is_about_fork(advice: i32) -> bool {
    matches!(advice, DONTFORK | DOFORK | WIPEONFORK | KEEPONFORK)
}

/// The change of the address space that an advice about a range makes. `None` if the advice affects
/// only speed.
pub fn advised(range: AddrRange, advice: i32) -> Option<SpaceOp> {
    match advice {
        DONTNEED | DONTNEED_LOCKED => Some(SpaceOp::Discard(range)),
        DONTFORK => Some(SpaceOp::SetFork(range, ForkPolicy::Omit)),
        WIPEONFORK => Some(SpaceOp::SetFork(range, ForkPolicy::Wipe)),
        DOFORK | KEEPONFORK => Some(SpaceOp::SetFork(range, ForkPolicy::Copy)),
        _ => None,
    }
}
