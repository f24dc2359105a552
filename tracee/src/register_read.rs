//! `RDRAND`, `RDSEED` and `RDPID` that were made to trap ([`crate::trapping`]): finds the register that such an
//! instruction writes, and carries it out. All three have the same opcode.

use crate::regs::{NOT_IN_SYSCALL, Registers};

/// The second byte of the opcode.
pub(crate) const OPCODE: u8 = 0xc7;
/// The byte that replaces it.
pub(crate) const TRAP: u8 = 0x21;

/// Returns a random value for an instruction that has trapped, from the kernel's generator.
pub fn random() -> u64 {
    let mut value = [0; 8];
    // SAFETY: eight bytes of ours. The kernel returns that few at once, since its generator is ready
    // before programs run.
    unsafe { libc::getrandom(value.as_mut_ptr().cast(), value.len(), 0) };
    u64::from_ne_bytes(value)
}

/// The value that an instruction reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The random number generator (`RDRAND`, `RDSEED`).
    Random,
    /// The number of the processor, and of its node (`RDPID`), as `RDTSCP` gives it.
    ProcessorNumber,
}

/// An instruction that reads a value into a register and has been made to trap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    source: Source,
    /// Number of the register, as instructions encode it.
    register: u8,
    /// Number of bytes written to the register.
    width: u8,
    /// Length of the instruction.
    len: u8,
}

impl Access {
    /// The access whose instruction begins with these bytes.
    pub fn of(code: &[u8]) -> Option<Access> {
        let (source, wide, rest) = match code {
            [0x66, rest @ ..] => (Source::Random, 2, rest),
            // In 64-bit mode it always writes the whole register.
            [0xf3, rest @ ..] => (Source::ProcessorNumber, 8, rest),
            _ => (Source::Random, 4, code),
        };
        let (rex, rest) = match rest {
            // Bit 2 would be part of the number of the debug register.
            [rex @ 0x40..=0x4f, rest @ ..] if rex & 4 == 0 => (*rex, rest),
            _ => (0, rest),
        };
        let [0x0f, TRAP, form @ 0xf0..=0xff, ..] = rest else {
            return None;
        };
        if source == Source::ProcessorNumber && *form < 0xf8 {
            // User interrupts (`SENDUIPI`).
            return None;
        }
        Some(Access {
            source,
            register: form & 7 | (rex & 1) << 3,
            width: if rex & 8 != 0 { 8 } else { wide },
            len: (code.len() - rest.len() + 3) as u8,
        })
    }

    /// The value that it reads.
    pub fn source(self) -> Source {
        self.source
    }

    /// Offset of the opcode's second byte in the instruction.
    pub(crate) fn opcode(self) -> u64 {
        u64::from(self.len) - 2
    }

    /// Length of the instruction.
    pub(crate) fn len(self) -> usize {
        self.len.into()
    }

    /// The registers after the instruction has returned `value`.
    pub fn carried_out(self, regs: &Registers, value: u64) -> Registers {
        /// After a random number, CF is set; OF, SF, ZF, AF and PF are cleared.
        const CARRY: u64 = 1;
        const CLEARED: u64 = 1 << 11 | 1 << 7 | 1 << 6 | 1 << 4 | 1 << 2;
        let eflags = match self.source {
            Source::Random => regs.eflags & !CLEARED | CARRY,
            Source::ProcessorNumber => regs.eflags,
        };
        let mut after = Registers {
            rip: regs.rip + u64::from(self.len),
            orig_rax: NOT_IN_SYSCALL,
            eflags,
            ..*regs
        };
        let place = match self.register {
            0 => &mut after.rax,
            1 => &mut after.rcx,
            2 => &mut after.rdx,
            3 => &mut after.rbx,
            4 => &mut after.rsp,
            5 => &mut after.rbp,
            6 => &mut after.rsi,
            7 => &mut after.rdi,
            8 => &mut after.r8,
            9 => &mut after.r9,
            10 => &mut after.r10,
            11 => &mut after.r11,
            12 => &mut after.r12,
            13 => &mut after.r13,
            14 => &mut after.r14,
            _ => &mut after.r15,
        };
        *place = match self.width {
            2 => *place & !0xffff | value & 0xffff,
            4 => value & 0xffff_ffff,
            _ => value,
        };
        after
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic};

    use super::*;

    #[test]
    fn all_forms_are_known() {
        // rdrand eax, ax, rax, r9d, r15; rdseed rdi; rdpid rcx, r8
        let forms: [(&[u8], u8, u8); 8] = [
            (&[0x0f, TRAP, 0xf0], 0, 4),
            (&[0x66, 0x0f, TRAP, 0xf0], 0, 2),
            (&[0x48, 0x0f, TRAP, 0xf0], 0, 8),
            (&[0x41, 0x0f, TRAP, 0xf1], 9, 4),
            (&[0x49, 0x0f, TRAP, 0xf7], 15, 8),
            (&[0x48, 0x0f, TRAP, 0xff], 7, 8),
            (&[0xf3, 0x0f, TRAP, 0xf9], 1, 8),
            (&[0xf3, 0x41, 0x0f, TRAP, 0xf8], 8, 8),
        ];
        for (code, register, width) in forms {
            let access = Access::of(code).unwrap();
            assert_eq!((access.register, access.width), (register, width), "{code:x?}");
            assert_eq!(usize::from(access.len), code.len());
            assert_eq!(code[access.opcode() as usize], TRAP);
            // The original instruction is decoded in the same way.
            let mut own = code.to_vec();
            own[access.opcode() as usize] = OPCODE;
            let decoded = Decoder::with_ip(64, &own, 0, DecoderOptions::NONE).decode();
            let source = match decoded.mnemonic() {
                Mnemonic::Rdrand | Mnemonic::Rdseed => Source::Random,
                Mnemonic::Rdpid => Source::ProcessorNumber,
                other => panic!("{other:?}"),
            };
            assert_eq!(access.source(), source);
            assert_eq!(decoded.op0_register().size(), usize::from(width));
            assert_eq!(decoded.op0_register().number(), usize::from(register));
            assert!(Access::of(&own).is_none());
            let trap = Decoder::with_ip(64, code, 0, DecoderOptions::NONE).decode();
            assert_eq!((trap.mnemonic(), trap.len()), (Mnemonic::Mov, code.len()));
            let (to, from) = (trap.op0_register(), trap.op1_register());
            assert_eq!((to.number(), from.is_dr()), (usize::from(register), true));
        }
    }

    #[test]
    fn registers_after_it() {
        let regs = Registers {
            rip: 0x1000,
            rcx: 0x1111_2222_3333_4444,
            eflags: 0x246 | 1 << 11,
            ..Registers::default()
        };
        let after = |code: &[u8]| {
            Access::of(code)
                .unwrap()
                .carried_out(&regs, 0x5555_6666_7777_8888)
        };
        let short = after(&[0x66, 0x0f, TRAP, 0xf1]);
        assert_eq!((short.rcx, short.rip), (0x1111_2222_3333_8888, 0x1004));
        assert_eq!(short.eflags, 0x203);
        assert_eq!(after(&[0x0f, TRAP, 0xf1]).rcx, 0x7777_8888);
        assert_eq!(after(&[0x48, 0x0f, TRAP, 0xf1]).rcx, 0x5555_6666_7777_8888);
        let number = after(&[0xf3, 0x0f, TRAP, 0xf9]);
        assert_eq!((number.rcx, number.rip), (0x5555_6666_7777_8888, 0x1004));
        assert_eq!(number.eflags, regs.eflags);
        // senduipi rcx
        assert_eq!(Access::of(&[0xf3, 0x0f, TRAP, 0xf1]), None);
    }
}
