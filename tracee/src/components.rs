//! `XGETBV` that was made to trap ([`crate::trapping`]): it tells which components of extended state the processor has.

use crate::regs::{NOT_IN_SYSCALL, RF, Registers};

/// The number of the extended control register that has these components, as `ecx` selects it.
pub const XCR0: u32 = 0;

/// Length of the instruction.
pub const LEN: u64 = 3;

/// The registers after an instruction at `regs` that has got this answer.
pub fn carried_out(regs: &Registers, components: u64) -> Registers {
    Registers {
        rax: components & 0xffff_ffff,
        rdx: components >> 32,
        rip: regs.rip + LEN,
        orig_rax: NOT_IN_SYSCALL,
        // As for `CPUID`.
        eflags: regs.eflags & !RF,
        ..*regs
    }
}
