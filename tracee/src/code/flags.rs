//! Status flags that nothing reads: code in front of the instructions may change them.
//!
//! Only a few instructions are known here, and only without operands in memory. For all others the answer is that the flags
//! may be read.

use iced_x86::{Instruction, Mnemonic, OpKind};

/// Number of instructions after which the status flags from before are certainly overwritten, unread.
/// `None` if that is not certain.
pub(super) fn dead(instructions: &[Instruction]) -> Option<usize> {
    for (n, instruction) in instructions.iter().enumerate() {
        if overwrites_flags(instruction) {
            return Some(n + 1);
        }
        if !leaves_flags(instruction) {
            return None;
        }
    }
    None
}

/// Returns whether the instruction overwrites all status flags without reading any. It cannot fault.
/// (`and`, `or`, `xor` and `test` clear the adjust flag, although the Intel SDM calls it undefined: a
/// test asks this CPU.)
fn overwrites_flags(instruction: &Instruction) -> bool {
    let by_name = matches!(
        instruction.mnemonic(),
        Mnemonic::Add
            | Mnemonic::Sub
            | Mnemonic::Cmp
            | Mnemonic::Neg
            | Mnemonic::And
            | Mnemonic::Or
            | Mnemonic::Xor
            | Mnemonic::Test
    );
    by_name && has_only_registers(instruction)
}

/// Returns whether the instruction reads no status flags, cannot fault, and leads to the next.
fn leaves_flags(instruction: &Instruction) -> bool {
    let by_name = matches!(
        instruction.mnemonic(),
        Mnemonic::Mov
            | Mnemonic::Lea
            | Mnemonic::Movzx
            | Mnemonic::Movsx
            | Mnemonic::Movsxd
            | Mnemonic::Inc
            | Mnemonic::Dec
            | Mnemonic::Not
            | Mnemonic::Bswap
            | Mnemonic::Endbr64
    );
    by_name && has_only_registers(instruction)
}

/// Returns whether the operands are general registers, constants, and addresses that are not accessed.
fn has_only_registers(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).all(|n| match instruction.op_kind(n) {
        OpKind::Register => instruction.op_register(n).is_gpr(),
        OpKind::Memory => instruction.mnemonic() == Mnemonic::Lea,
        _ => true,
    }) && !instruction.has_lock_prefix()
}

#[cfg(test)]
mod tests {
    #[test]
    fn logic_leaves_no_old_flag() {
        /// The status flags: carry, parity, adjust, zero, sign, overflow.
        const STATUS: u64 = 0x8d5;
        macro_rules! after {
            ($instruction:literal, $value:expr) => {
                [0, STATUS].map(|before: u64| {
                    let after: u64;
                    // SAFETY: the code changes flags and a register that is declared, and pops what it
                    // has pushed. It uses no memory below the stack pointer that is not its own.
                    unsafe {
                        std::arch::asm!(
                            "push {before}", "popfq", $instruction, "pushfq", "pop {after}",
                            before = in(reg) before | 0x202, after = out(reg) after,
                            inout("rcx") $value => _, in("rdx") 0x5a_u64,
                        );
                    }
                    after & STATUS
                })
            };
        }
        for value in [0_u64, 1, 0x0f, 0x80, 0xa5, u64::MAX, 1 << 63] {
            let all = [
                after!("and rcx, rdx", value),
                after!("or rcx, rdx", value),
                after!("xor rcx, rdx", value),
                after!("test rcx, rdx", value),
                after!("add rcx, rdx", value),
                after!("sub rcx, rdx", value),
                after!("cmp rcx, rdx", value),
                after!("neg rcx", value),
            ];
            for [clear, set] in all {
                assert_eq!(clear, set, "{value:#x}");
            }
        }
    }
}
