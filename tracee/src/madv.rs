//! `madvise(2)`: the advice that changes what is mapped, and what it changes.
//!
//! Whoever needs to know takes it from here: recorder, replayer, and the reader of the library's records. So the three
//! cannot differ. The advice is an `int`: of the argument the kernel takes the low 32 bits.

use crate::ids::AddrRange;
use crate::space::{ForkPolicy, SpaceOp};

/// `MADV_DONTNEED`: private pages are as if untouched.
pub const DONTNEED: i32 = 4;
/// `MADV_FREE`: the kernel may take the pages away, some time.
pub const FREE: i32 = 8;
/// `MADV_REMOVE`: punches a hole into what is mapped.
pub const REMOVE: i32 = 9;
/// `MADV_DONTFORK`: a child does not get it.
pub const DONTFORK: i32 = 10;
/// `MADV_DOFORK`: takes that back.
pub const DOFORK: i32 = 11;
/// `MADV_WIPEONFORK`: a child gets zeros.
pub const WIPEONFORK: i32 = 18;
/// `MADV_KEEPONFORK`: takes that back.
pub const KEEPONFORK: i32 = 19;
/// `MADV_DONTNEED_LOCKED`: as [`DONTNEED`], of locked pages too.
pub const DONTNEED_LOCKED: i32 = 24;
/// `MADV_GUARD_INSTALL`: accesses fault from now on.
pub const GUARD_INSTALL: i32 = 102;
/// `MADV_GUARD_REMOVE`: takes that back.
pub const GUARD_REMOVE: i32 = 103;

/// Whether an advice is about what a child gets. There are two things that can be said of a range, that a child does not have it and
/// that it gets zeros there, and each can be taken back alone; so what an advice amounts to depends on those before.
pub fn is_about_fork(advice: i32) -> bool {
    matches!(advice, DONTFORK | DOFORK | WIPEONFORK | KEEPONFORK)
}

/// What an advice about a range changes in the address space; nothing for one that only makes it faster or slower.
pub fn advised(range: AddrRange, advice: i32) -> Option<SpaceOp> {
    match advice {
        DONTNEED | DONTNEED_LOCKED => Some(SpaceOp::Discard(range)),
        DONTFORK => Some(SpaceOp::SetFork(range, ForkPolicy::Omit)),
        WIPEONFORK => Some(SpaceOp::SetFork(range, ForkPolicy::Wipe)),
        DOFORK | KEEPONFORK => Some(SpaceOp::SetFork(range, ForkPolicy::Copy)),
        _ => None,
    }
}
