//! The pages that rr owns in every tracee.
//!
//! ```text
//! 0x7000_0000  code    r-x  one page: `syscall` at offset 0; the only system calls that the seccomp
//!                           filter lets pass without a stop are those of this instruction
//! 0x7000_1000  param   rw-  one page: paths and structures for our remote system calls
//! 0x7000_2000  scratch rw-  SLOTS slots of SLOT_SIZE bytes, one per task of the address space: where the
//!                           kernel puts the outputs of calls that block (I3)
//! ```
//!
//! The area lies below 2 GiB, so that it is reachable with 32-bit addresses, and above where programs
//! linked to a fixed address and their heaps usually are. It has [`Backing::Rr`], is part of every address-space
//! model at the same place in recording and replay, and is never captured or compared (I4).

use crate::ids::{Addr, AddrRange, PAGE};
use crate::space::{Backing, ForkPolicy, Mapping, Prot};

/// The code page.
pub const CODE: Addr = Addr(0x7000_0000);
/// The `syscall` instruction that is never traced.
pub const SYSCALL_INSN: Addr = CODE;
/// The page for parameters of remote system calls.
pub const PARAM: Addr = Addr(0x7000_1000);
/// Where the scratch slots begin.
pub const SCRATCH: Addr = Addr(0x7000_2000);
/// Size of one scratch slot in bytes.
pub const SLOT_SIZE: u64 = 256 * 1024;
/// Number of scratch slots of an address space.
pub const SLOTS: u64 = 512;

/// What the code page begins with: `syscall; int3`.
pub const CODE_BYTES: [u8; 3] = [0x0f, 0x05, 0xcc];

/// The whole area.
pub fn area() -> AddrRange {
    AddrRange::new(CODE, SCRATCH + SLOTS * SLOT_SIZE)
}

/// The scratch slot number `n`.
pub fn slot(n: u64) -> AddrRange {
    AddrRange::sized(SCRATCH + n * SLOT_SIZE, SLOT_SIZE)
}

/// The area as mappings of the model.
pub fn mappings() -> [Mapping; 2] {
    let one = |range, prot| Mapping {
        range,
        prot,
        backing: Backing::Rr,
        fork: ForkPolicy::Copy,
        name: "[rr]".into(),
    };
    [
        one(AddrRange::sized(CODE, PAGE), Prot(Prot::READ.0 | Prot::EXEC.0)),
        one(AddrRange::new(PARAM, area().end), Prot::RW),
    ]
}
