//! Registers before and after a system call.

use rr_tracee::Registers;
use rr_tracee::regs::NOT_IN_SYSCALL;

/// Registers after a call that returned `result` without any other effect.
pub(crate) fn returned(entry: &Registers, result: i64) -> Registers {
    Registers {
        rax: result as u64,
        orig_rax: NOT_IN_SYSCALL,
        ..*entry
    }
}

/// Returns the registers before the system call instruction, given those at the entry.
pub(crate) fn before_call(entry: &Registers) -> Registers {
    Registers {
        rip: entry.rip - 2,
        rax: entry.orig_rax,
        orig_rax: NOT_IN_SYSCALL,
        ..*entry
    }
}
