//! The pages that rr owns in every tracee.
//!
//! ```text
//! 0x7000_0000 code     r-x  `syscall; ret` at offset 0: the only system calls that the seccomp filter lets pass
//!                           without a stop are those of this instruction; and the library, where it has been put
//! 0x7001_0000 param    rw-  one page: paths and structures for our remote system calls
//! 0x7001_1000 …        rw-  the library's own memory (`preload/src/layout.rs`)
//! 0x7005_4000 scratch  rw-  SCRATCH_BYTES: where the kernel puts the outputs of calls that block (I3); the recorder
//!                           maps the first MiB of it, and more when it is needed (replay needs none)
//! 0x7685_4000 aio      rw-  the completion rings of the program's contexts of Linux AIO, where it has any (replay has none)
//! 0x7785_4000 ring     rw-  shared with the recorder, where much is recorded (replay has none)
//! ```
//!
//! The area lies below 2 GiB, so that 32-bit addresses reach it, and above the usual place of programs
//! linked to a fixed address and their heaps. It has [`Backing::Rr`], is at the same place in every
//! address-space model in recording and replay, and is never captured or compared (I4).

use rr_preload::layout;

use crate::ids::{Addr, AddrRange};
use crate::space::{Backing, ForkPolicy, Mapping, Prot};

/// The code.
pub const CODE: Addr = Addr(layout::CODE);
/// The `syscall` instruction that is never traced.
pub const SYSCALL_INSN: Addr = Addr(layout::SYSCALL);
/// In replay: a `syscall` with a trap behind it, for the remote calls of
/// [`crate::remote::Remote::ours`]. (The library does not use this place.)
pub const TRAPPING_CALL: Addr = Addr(layout::CODE + 8);
/// In replay: the place of one instruction of at most five bytes that a task is to execute by itself. (The library does not use
/// this place.)
pub const SINGLE_INSN: Addr = Addr(layout::CODE + 11);
const _: () = assert!(
    SINGLE_INSN.0 >= TRAPPING_CALL.0 + TRAPPING_BYTES.len() as u64 && SINGLE_INSN.0 + 5 <= layout::BAIL
);
/// Address for lists of remote system calls: the unused rest of the control page.
pub const CALLS: Addr = Addr(layout::CONTROL + CONTROL_BYTES);
/// The length of a call in a list.
pub(crate) const LISTED_BYTES: usize = 8 * 8;
/// Maximum number of calls in one list.
pub const CALLS_MOST: usize = (0x1000 - CONTROL_BYTES) as usize / LISTED_BYTES;
/// Size of the library's part of the control page.
const CONTROL_BYTES: u64 = 0xc00;
const _: () = assert!(size_of::<layout::Control>() as u64 <= CONTROL_BYTES);
/// The page for parameters of remote system calls.
pub const PARAM: Addr = Addr(layout::PARAM);
/// Start of scratch memory.
pub const SCRATCH: Addr = Addr(layout::END);
/// Maximum end of scratch memory.
pub const SCRATCH_END: Addr = Addr(layout::RING - AIO_BYTES);
/// Size of the memory for completion rings of Linux AIO.
const AIO_BYTES: u64 = 16 << 20;
/// Address of the ring (`rr_preload::layout`).
pub const RING: Addr = Addr(layout::RING);
/// Maximum size of scratch memory for one call.
pub const SCRATCH_MOST: u64 = 256 << 10;
/// Size of scratch memory that is mapped at first.
const INITIAL: u64 = 1 << 20;

/// First bytes of the code: `syscall; ret`.
pub const CODE_BYTES: [u8; 3] = [0x0f, 0x05, 0xc3];

/// The bytes of [`TRAPPING_CALL`]: `syscall; int3`.
pub const TRAPPING_BYTES: [u8; 3] = [0x0f, 0x05, 0xcc];

/// The code as a range.
pub fn code() -> AddrRange {
    AddrRange::sized(CODE, layout::CODE_BYTES)
}

/// The memory for completion rings of Linux AIO.
pub fn aio() -> AddrRange {
    AddrRange::new(SCRATCH_END, RING)
}

/// The whole area.
pub fn area() -> AddrRange {
    AddrRange::new(CODE, Addr(layout::AREA_END))
}

/// End of the part that is mapped at first.
pub fn initial_end() -> Addr {
    SCRATCH + INITIAL
}

/// The ranges that are mapped at first.
pub fn initial() -> [(AddrRange, Prot); 2] {
    [
        (code(), Prot(Prot::READ.0 | Prot::EXEC.0)),
        (AddrRange::new(PARAM, initial_end()), Prot::RW),
    ]
}

/// The area as mappings of the model: everything that can ever be mapped there.
pub fn mappings() -> [Mapping; 2] {
    let one = |range, prot| Mapping {
        range,
        prot,
        backing: Backing::Rr,
        fork: ForkPolicy::Copy,
        name: "[rr]".into(),
    };
    let [(code, rx), (rest, rw)] = initial();
    [one(code, rx), one(AddrRange::new(rest.start, area().end), rw)]
}
