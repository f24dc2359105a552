//! Address spaces: mappings, advice, residency, NUMA placement, other processes' memory.

use super::spec::{Emulated, Len, Spec};
use libc::ENOSYS;

use super::forms::*;
use super::vectors;
use crate::ids::PAGE;
use crate::regs::Registers;

#[rustfmt::skip] // one call, one line
pub(super) static CALLS: &[Spec] = &[
    call(9, "mmap").emulated(Emulated::Mmap),
    call(10, "mprotect").emulated(Emulated::Mprotect),
    call(11, "munmap").emulated(Emulated::Munmap),
    call(12, "brk").emulated(Emulated::Brk),
    call(25, "mremap").emulated(Emulated::Mremap),
    call(28, "madvise").emulated(Emulated::Madvise),
    call(440, "process_madvise").emulated(Emulated::ProcessMadvise),
    call(448, "process_mrelease").refused(ENOSYS),
    call(216, "remap_file_pages").refused(ENOSYS),
    call(462, "mseal").emulated(Emulated::Mseal),
    call(453, "map_shadow_stack").refused_quietly(ENOSYS),

    // Where the processor has keys, rr never gives one out, so that only mprotect's rights count.
    call(329, "pkey_mprotect").emulated(Emulated::Mprotect),
    call(330, "pkey_alloc").emulated(Emulated::Pkey),
    call(331, "pkey_free").emulated(Emulated::Pkey),

    call(26, "msync"),
    call(27, "mincore").outs(&[perhaps_len(2, Len::Of(|r| r.arg(1).div_ceil(PAGE)))]),
    call(149, "mlock").emulated(Emulated::Mlock),
    call(325, "mlock2").emulated(Emulated::Mlock),
    call(150, "munlock"),
    call(151, "mlockall").emulated(Emulated::Mlock),
    call(152, "munlockall"),
    call(324, "membarrier"),

    call(237, "mbind"),
    call(238, "set_mempolicy"),
    call(450, "set_mempolicy_home_node"),
    call(239, "get_mempolicy").outs(&[fixed(0, 4), perhaps_len(1, Len::Of(node_mask_len)).at_most(PAGE)]),
    call(256, "migrate_pages"),
    call(279, "move_pages").outs(&[perhaps_len(4, Len::Arg { arg: 1, unit: 4 })]),

    call(310, "process_vm_readv").computed(vectors::readv_parts, vectors::readv_written),
    // process_vm_writev does not write to the caller's memory, but perhaps to that of another task of
    // the recording: the recorder handles that.
    call(311, "process_vm_writev"),
    call(323, "userfaultfd").emulated(Emulated::Userfaultfd),
];

/// The kernel writes whole words for `maxnode − 1` bits.
fn node_mask_len(r: &Registers) -> u64 {
    r.arg(2).saturating_sub(1).div_ceil(64).saturating_mul(8)
}
