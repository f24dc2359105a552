//! Machine code of a tracee: the memory that an instruction touches, and how a few instructions are
//! moved elsewhere.
//!
//! A *window* is a run of instructions that a jump to other code (five bytes) overwrites completely or
//! in part:
//!
//! ```text
//!   at ─► instruction 0   3 bytes ┐
//!         instruction 1   4 bytes ┘ window: two instructions, seven bytes; one inner boundary, at 3
//!         instruction 2   not touched
//! ```
//!
//! Moved instructions do the same as in their old place. Addresses relative to the instruction, jump
//! targets, and the return address that a call pushes stay the same.

mod flags;

use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, Register,
};

use crate::ids::Addr;
use crate::regs::Registers;

/// Length of `jmp rel32` in bytes.
pub const JUMP_LEN: usize = 5;
/// Number of bytes of code that always contain a whole window.
pub const WINDOW_MAX: usize = JUMP_LEN - 1 + 15;

/// The instruction at the beginning of `code`, which lies at `at`. `None` if the bytes are no
/// instruction.
pub fn decode(code: &[u8], at: Addr) -> Option<Instruction> {
    let instruction = Decoder::with_ip(64, code, at.0, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Maximum length of an instruction in bytes (Intel SDM vol. 2, section 2.3.11).
pub const INSTRUCTION_MOST: usize = 15;

/// Returns whether an interrupt can leave this instruction half done (`rep movs` and similar ones).
pub fn repeats(instruction: &Instruction) -> bool {
    instruction.is_string_instruction() && (instruction.has_rep_prefix() || instruction.has_repne_prefix())
}

/// Returns whether the program can see that this instruction was single-stepped (`pushf` stores the
/// trap flag).
pub fn shows_stepping(instruction: &Instruction) -> bool {
    matches!(instruction.code(), Code::Pushfq | Code::Pushfw | Code::Pushfd)
}

/// Returns whether the instruction asks the CPU for a value that differs from run to run. Where the CPU
/// allows it, the instruction traps and the recorder carries it out: then it is an event, or a site of
/// its own.
pub fn is_event(instruction: &Instruction) -> bool {
    matches!(
        instruction.mnemonic(),
        Mnemonic::Rdtsc
            | Mnemonic::Rdtscp
            | Mnemonic::Cpuid
            | Mnemonic::Rdrand
            | Mnemonic::Rdseed
            | Mnemonic::Rdpid
    ) || matches!(
        instruction.code(),
        Code::Mov_r64_dr | Code::Mov_r32_dr | Code::Wbinvd
    )
}

/// Returns whether stepping a task over this instruction goes unnoticed. System calls and traps are
/// excluded because they are events.
pub fn can_be_stepped(instruction: &Instruction) -> bool {
    !shows_stepping(instruction)
        && !matches!(
            instruction.flow_control(),
            FlowControl::Interrupt | FlowControl::Exception
        )
        && !instruction.is_invalid()
        && !matches!(
            instruction.code(),
            Code::Syscall | Code::Sysenter | Code::Rdtsc | Code::Rdtscp | Code::Mov_Sreg_rm16 | Code::Pop_r16
        )
}

/// The addresses that an instruction reads or writes when executed with these registers.
pub fn touched(instruction: &Instruction, regs: &Registers) -> Vec<Addr> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(instruction);
    let used = info
        .used_memory()
        .iter()
        .filter(|m| m.access() != OpAccess::NoMemAccess);
    used.filter_map(|m| m.virtual_address(0, |register, _, _| register_value(regs, register)))
        .map(Addr)
        .collect()
}

/// Address and length of all memory that an instruction writes, or may write, when executed with these
/// registers. `None` if that cannot be computed.
pub fn written(instruction: &Instruction, regs: &Registers) -> Option<Vec<(Addr, usize)>> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(instruction);
    let writes = |access| {
        matches!(
            access,
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        )
    };
    let used = info.used_memory().iter().filter(|m| writes(m.access()));
    used.map(|m| {
        let addr = m.virtual_address(0, |register, _, _| register_value(regs, register))?;
        let len = m.memory_size().size();
        (len > 0).then_some((Addr(addr), len))
    })
    .collect()
}

fn register_value(regs: &Registers, register: Register) -> Option<u64> {
    let full = match register {
        Register::FS => return Some(regs.fs_base),
        Register::GS => return Some(regs.gs_base),
        Register::CS | Register::DS | Register::ES | Register::SS => return Some(0),
        Register::RIP => return Some(regs.rip),
        _ => match register.full_register() {
            Register::RAX => regs.rax,
            Register::RBX => regs.rbx,
            Register::RCX => regs.rcx,
            Register::RDX => regs.rdx,
            Register::RSI => regs.rsi,
            Register::RDI => regs.rdi,
            Register::RBP => regs.rbp,
            Register::RSP => regs.rsp,
            Register::R8 => regs.r8,
            Register::R9 => regs.r9,
            Register::R10 => regs.r10,
            Register::R11 => regs.r11,
            Register::R12 => regs.r12,
            Register::R13 => regs.r13,
            Register::R14 => regs.r14,
            Register::R15 => regs.r15,
            _ => return None,
        },
    };
    match register.size() {
        8 => Some(full),
        4 => Some(full & 0xffff_ffff),
        2 => Some(full & 0xffff),
        _ => None,
    }
}

/// The instructions that a jump written at some place overwrites.
#[derive(Clone, Debug)]
pub struct Window {
    at: Addr,
    bytes: Vec<u8>,
    instructions: Vec<Instruction>,
}

/// A window moved to another place.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Moved {
    /// The code.
    pub code: Vec<u8>,
    /// Offset in the code where each instruction of the window begins.
    pub starts: Vec<usize>,
}

impl Window {
    /// The window at the beginning of `code`, which lies at `at`. `None` if one of its instructions
    /// cannot be moved.
    pub fn new(code: &[u8], at: Addr) -> Option<Window> {
        let mut decoder = Decoder::with_ip(64, code, at.0, DecoderOptions::NONE);
        let mut instructions: Vec<Instruction> = Vec::new();
        let mut len = 0;
        while len < JUMP_LEN {
            let instruction = decoder.decode();
            let movable = match instruction.flow_control() {
                // Execution does not continue behind it, and its bytes beyond the window may be a jump
                // target.
                _ if instruction.is_invalid() => false,
                FlowControl::Next => !shows_stepping(&instruction),
                FlowControl::Return
                | FlowControl::ConditionalBranch
                | FlowControl::UnconditionalBranch
                | FlowControl::IndirectBranch => !instruction.is_jmp_far(),
                // The return address is inside the window unless the call ends the window.
                FlowControl::Call => instruction.is_call_near() && len + instruction.len() >= JUMP_LEN,
                _ => false,
            };
            if !movable {
                return None;
            }
            len += instruction.len();
            instructions.push(instruction);
        }
        Some(Window {
            at,
            bytes: code[..len].to_vec(),
            instructions,
        })
    }

    /// The window of the single instruction at the beginning of `code`, which lies at `at`. The window
    /// may be shorter than a jump. `None` if the instruction cannot be moved.
    pub fn single(code: &[u8], at: Addr) -> Option<Window> {
        let instruction = decode(code, at)?;
        let movable = match instruction.flow_control() {
            FlowControl::Next => !shows_stepping(&instruction),
            FlowControl::Return
            | FlowControl::ConditionalBranch
            | FlowControl::UnconditionalBranch
            | FlowControl::IndirectBranch => !instruction.is_jmp_far(),
            FlowControl::Call => instruction.is_call_near(),
            _ => false,
        };
        movable.then(|| Window {
            at,
            bytes: code[..instruction.len()].to_vec(),
            instructions: vec![instruction],
        })
    }

    /// Length of the window in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Length of the first instruction in bytes.
    pub fn first_len(&self) -> usize {
        self.instructions.first().map_or(0, Instruction::len)
    }

    /// Returns whether the first instruction can be interrupted half done ([`repeats`]).
    pub fn begins_with_repeat(&self) -> bool {
        self.instructions.first().is_some_and(repeats)
    }

    /// Returns whether executing the window elsewhere can be noticed: the x87 unit keeps the address of
    /// its last instruction.
    pub fn shows_place(&self) -> bool {
        let x87 = [CpuidFeature::FPU, CpuidFeature::FPU287, CpuidFeature::FPU387];
        let uses = |i: &Instruction| i.cpuid_features().iter().any(|f| x87.contains(f));
        self.instructions.iter().any(uses)
    }

    /// Returns whether each instruction can lead to the next. Otherwise the instruction behind is a
    /// jump target.
    pub fn leads_on(&self) -> bool {
        let before = self.instructions.iter().rev().skip(1);
        let mut flows = before.map(|i| i.flow_control());
        flows.all(|flow| matches!(flow, FlowControl::Next | FlowControl::ConditionalBranch))
    }

    /// Returns whether the window has no instruction. It always has one.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Offset of each instruction in the window.
    pub fn starts(&self) -> Vec<usize> {
        let starts = self.instructions.iter();
        starts.map(|i| (i.ip() - self.at.0) as usize).collect()
    }

    /// Offsets below `end` where instructions of the window begin, except the first.
    pub fn inner_boundaries(&self, end: usize) -> Vec<usize> {
        let starts = self.instructions.iter().skip(1);
        starts
            .map(|i| (i.ip() - self.at.0) as usize)
            .filter(|start| *start < end)
            .collect()
    }

    /// The bytes of the window, as in memory.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of instructions at the beginning of the window after which the status flags from before
    /// the window are certainly overwritten. Nothing reads those flags, and no instruction up to there
    /// can fault or branch, so code in front of the moved window may change them. `None` if that is not
    /// certain.
    pub fn dead_flags(&self) -> Option<usize> {
        flags::dead(&self.instructions)
    }

    /// The window moved to `to`, followed by a jump back to the code behind the old place. `None` if
    /// something that an instruction addresses is too far from `to`.
    pub fn moved(&self, to: Addr) -> Option<Moved> {
        self.moved_below(to, None)
    }

    /// Same as [`Window::moved`]. Conditional branches to the beginning of the window go to `top`
    /// instead, if there is one: the window is a loop, or the end of one.
    pub fn moved_below(&self, to: Addr, top: Option<Addr>) -> Option<Moved> {
        let mut moved = self.relocated_below(to, top)?;
        jump(&mut moved.code, self.at.0 + self.len() as u64);
        Some(moved)
    }

    fn relocated_below(&self, to: Addr, top: Option<Addr>) -> Option<Moved> {
        let mut moved = Moved::default();
        for instruction in &self.instructions {
            moved.starts.push(moved.code.len());
            let start = (instruction.ip() - self.at.0) as usize;
            let bytes = &self.bytes[start..start + instruction.len()];
            match instruction.flow_control() {
                FlowControl::UnconditionalBranch => jump(&mut moved.code, instruction.near_branch_target()),
                FlowControl::ConditionalBranch => {
                    if let Some(top) = top
                        && instruction.near_branch_target() == self.at.0
                        && let [short] = short_condition(bytes)?.opcode[..]
                        && let Some(branch) = branch(short, to.0 + moved.code.len() as u64, top.0)
                    {
                        moved.code.extend(branch);
                        continue;
                    }
                    let branch = short_condition(bytes)?;
                    conditional_jump(&mut moved.code, &branch.opcode, instruction.near_branch_target());
                }
                FlowControl::Call => {
                    push(&mut moved.code, instruction.next_ip());
                    jump(&mut moved.code, instruction.near_branch_target());
                }
                _ if instruction.is_ip_rel_memory_operand() => {
                    let place = to.0.checked_add(moved.code.len() as u64)?;
                    moved.code.extend(with_displacement(instruction, bytes, place)?);
                }
                _ => moved.code.extend(bytes),
            }
        }
        Some(moved)
    }
}

/// Offset of the displacement in the instruction that this decoder has just decoded.
pub(crate) fn displacement_offset(decoder: &Decoder<'_>, instruction: &Instruction) -> u8 {
    decoder.get_constant_offsets(instruction).displacement_offset() as u8
}

/// As [`with_displacement_from`], for an instruction that was decoded. `None` also if the instruction addresses memory relative to
/// `eip`: nobody compiles it.
fn with_displacement(instruction: &Instruction, bytes: &[u8], place: u64) -> Option<Vec<u8>> {
    if instruction.memory_base() != Register::RIP {
        return None;
    }
    let mut decoder = Decoder::with_ip(64, bytes, instruction.ip(), DecoderOptions::NONE);
    let again = decoder.decode();
    with_displacement_from(
        bytes,
        displacement_offset(&decoder, &again),
        instruction.ip(),
        place,
    )
}

/// The instruction of these bytes, which lies at `from`, moved to `place`. It addresses the same memory relative to `rip`, with a
/// displacement of four bytes at the offset `displacement`. `None` if that is too far from there.
///
/// (The encoder of iced would do the same, but its tables take as long to build as a short program runs.)
pub(crate) fn with_displacement_from(
    bytes: &[u8],
    displacement: u8,
    from: u64,
    place: u64,
) -> Option<Vec<u8>> {
    let mut moved = bytes.to_vec();
    let field = moved.get_mut(displacement.into()..)?.first_chunk_mut::<4>()?;
    let distance = i64::from(i32::from_le_bytes(*field)).checked_add(from.wrapping_sub(place) as i64)?;
    *field = i32::try_from(distance).ok()?.to_le_bytes();
    Some(moved)
}

/// The near form of a conditional branch at `from`, whose short form has this opcode. `None` if `to` is
/// too far.
fn branch(short: u8, from: u64, to: u64) -> Option<[u8; 6]> {
    // loop, loope, loopne and jrcxz have no near form.
    if !(0x70..0x80).contains(&short) {
        return None;
    }
    let mut code = [0x0f, short + 0x10, 0, 0, 0, 0];
    let distance = to.wrapping_sub(from.wrapping_add(code.len() as u64)) as i64;
    code[2..].copy_from_slice(&i32::try_from(distance).ok()?.to_le_bytes());
    Some(code)
}

/// Length of the jump that [`jump`] makes, in bytes.
pub const ABSOLUTE_JUMP_LEN: usize = 14;

/// `jmp [rip]`. The target follows.
pub(crate) const ABSOLUTE_JUMP: [u8; 6] = [0xff, 0x25, 0, 0, 0, 0];

/// `jmp [rip]` and the target: reaches every address and needs no register.
pub fn jump(code: &mut Vec<u8>, target: u64) {
    code.extend(ABSOLUTE_JUMP);
    code.extend(target.to_le_bytes());
}

/// Pushes a constant: `push imm32; mov dword [rsp+4], imm32`.
fn push(code: &mut Vec<u8>, value: u64) {
    let bytes = value.to_le_bytes();
    code.push(0x68);
    code.extend(&bytes[..4]);
    code.extend([0xc7, 0x44, 0x24, 0x04]);
    code.extend(&bytes[4..]);
}

/// A conditional branch (`jcc`, `loop`, `jrcxz` and similar ones).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Condition {
    /// The opcode, and the prefix that matters, of its form with a displacement of 8 bits. The displacement follows.
    pub opcode: Vec<u8>,
    /// Distance from the end of the branch to its target.
    pub distance: i32,
}

/// The conditional branch that these bytes are.
pub(crate) fn short_condition(bytes: &[u8]) -> Option<Condition> {
    // Legacy prefixes (branch hints, sizes) and REX.
    let is_prefix = |byte: &&u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    let (prefixes, branch) = bytes.split_at(bytes.iter().take_while(is_prefix).count());
    match *branch {
        [opcode @ 0x70..=0x7f, distance] => Some(Condition {
            opcode: vec![opcode],
            distance: i32::from(distance as i8),
        }),
        [0x0f, opcode @ 0x80..=0x8f, a, b, c, d] => Some(Condition {
            opcode: vec![opcode - 0x10],
            distance: i32::from_le_bytes([a, b, c, d]),
        }),
        // loop, loope, loopne, jrcxz, with the address-size prefix (ecx) if present.
        [opcode @ 0xe0..=0xe3, distance] => Some(Condition {
            opcode: prefixes
                .iter()
                .copied()
                .filter(|prefix| *prefix == 0x67)
                .take(1)
                .chain([opcode])
                .collect(),
            distance: i32::from(distance as i8),
        }),
        _ => None,
    }
}

/// A conditional branch to any address, from the opcode of its short form.
pub(crate) fn conditional_jump(code: &mut Vec<u8>, short: &[u8], target: u64) {
    // The same condition with a distance of two bytes: if it holds, execution reaches the absolute jump.
    code.extend(short);
    code.extend([2, 0xeb, ABSOLUTE_JUMP_LEN as u8]);
    jump(code, target);
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Addr = Addr(0x40_0000);

    fn window(code: &[u8]) -> Option<Window> {
        Window::new(code, AT)
    }

    #[test]
    fn a_window_covers_a_jump() {
        // add eax, 1; cmp eax, 5; nop…
        let w = window(&[0x83, 0xc0, 1, 0x83, 0xf8, 5, 0x90, 0x90]).unwrap();
        assert_eq!((w.len(), w.inner_boundaries(JUMP_LEN)), (6, vec![3]));
        let moved = w.moved(Addr(0x1000)).unwrap();
        assert_eq!(moved.starts, [0, 3]);
        assert_eq!(moved.code[..6], [0x83, 0xc0, 1, 0x83, 0xf8, 5]);
        assert_eq!(moved.code[6..12], [0xff, 0x25, 0, 0, 0, 0]);
        assert_eq!(moved.code[12..], (AT.0 + 6).to_le_bytes());
    }

    #[test]
    fn what_cannot_be_moved_is_told() {
        // syscall
        assert!(window(&[0x0f, 0x05, 0x90, 0x90, 0x90, 0x90]).is_none());
        // call rax: its return address would be inside the window
        assert!(window(&[0xff, 0xd0, 0x90, 0x90, 0x90, 0x90]).is_none());
        // pushfq
        assert!(window(&[0x9c, 0x90, 0x90, 0x90, 0x90]).is_none());
        // too short
        assert!(window(&[0x90, 0x90]).is_none());
    }

    #[test]
    fn one_instruction_alone() {
        // call rax does not lead on and cannot be moved; call +0 can; inc eax is shorter than a jump.
        assert!(Window::single(&[0xff, 0xd0], AT).is_none());
        assert!(Window::single(&[0xe8, 0, 0, 0, 0], AT).is_some());
        let w = Window::single(&[0xff, 0xc0, 0x90], AT).unwrap();
        assert_eq!((w.len(), w.shows_place()), (2, false));
        // pop rbp; ret; lea edi, [rdi+1]
        assert!(!window(&[0x5d, 0xc3, 0x8d, 0x7f, 1]).unwrap().leads_on());
        // fld1
        assert!(Window::single(&[0xd9, 0xe8], AT).unwrap().shows_place());
        // rep stosb
        assert!(Window::single(&[0xf3, 0xaa], AT).unwrap().begins_with_repeat());
    }

    #[test]
    fn relative_addresses_stay() {
        // lea rax, [rip+0x10]
        let w = window(&[0x48, 0x8d, 0x05, 0x10, 0, 0, 0]).unwrap();
        let moved = w.moved(AT + 0x1000).unwrap();
        let again = decode(&moved.code, AT + 0x1000).unwrap();
        assert_eq!(again.ip_rel_memory_address(), AT.0 + 7 + 0x10);
        assert!(w.moved(Addr(0x7000_0000_0000)).is_none(), "too far");
    }

    /// The encoder of iced makes the same of every kind of operands.
    #[test]
    fn moved_operands_are_those_that_an_encoder_makes() {
        for code in [
            &[0x48, 0x8d, 0x05, 0x10, 0, 0, 0][..],         // lea rax, [rip+0x10]
            &[0x80, 0x3d, 0xf0, 0xff, 0xff, 0xff, 7],       // cmp byte [rip-0x10], 7
            &[0x81, 0x3d, 4, 0, 0, 0, 1, 2, 3, 4],          // cmp dword [rip+4], 0x04030201
            &[0x66, 0xc7, 0x05, 4, 0, 0, 0, 1, 2],          // mov word [rip+4], 0x0201
            &[0x0f, 0x11, 0x05, 0x40, 0, 0, 0],             // movups [rip+0x40], xmm0
            &[0x66, 0x0f, 0x3a, 0x0f, 0x05, 8, 0, 0, 0, 4], // palignr xmm0, [rip+8], 4
            &[0xc5, 0xfd, 0x6f, 0x05, 0x20, 0, 0, 0],       // vmovdqa ymm0, [rip+0x20]
            &[0x62, 0xf1, 0xfd, 0x48, 0x6f, 0x05, 0x40, 0, 0, 0], // vmovdqa64 zmm0, [rip+0x40]
            &[0xf0, 0x48, 0x0f, 0xb1, 0x0d, 0x80, 0, 0, 0], // lock cmpxchg [rip+0x80], rcx
        ] {
            let instruction = decode(code, AT).unwrap();
            for place in [AT.0 + 0x1000, AT.0 - 0x3f_0000, AT.0 + 0x7000_0000] {
                let mut encoder = iced_x86::Encoder::new(64);
                encoder.encode(&instruction, place).unwrap();
                let moved = with_displacement(&instruction, code, place);
                assert_eq!(moved, Some(encoder.take_buffer()), "{code:x?}");
            }
            assert_eq!(with_displacement(&instruction, code, AT.0 + (1 << 40)), None);
        }
        // lea rax, [eip+0x10]
        let code = [0x67, 0x48, 0x8d, 0x05, 0x10, 0, 0, 0];
        assert_eq!(with_displacement(&decode(&code, AT).unwrap(), &code, AT.0), None);
    }

    #[test]
    fn branches_lead_where_they_led() {
        // jne self; nop; nop; nop
        let w = window(&[0x75, 0xfe, 0x90, 0x90, 0x90]).unwrap();
        let moved = w.moved(Addr(0x1000)).unwrap();
        assert_eq!(moved.code[..4], [0x75, 2, 0xeb, 14]);
        assert_eq!(moved.code[10..18], AT.0.to_le_bytes());
        // call +0
        let w = window(&[0xe8, 0, 0, 0, 0]).unwrap();
        let moved = w.moved(Addr(0x1000)).unwrap();
        assert_eq!(moved.code[0], 0x68);
        assert_eq!(moved.code[1..5], 0x40_0005u32.to_le_bytes());
    }

    #[test]
    fn a_branch_to_the_beginning_leads_to_the_top() {
        // sub rax, 1; jne to it
        let w = window(&[0x48, 0x83, 0xe8, 1, 0x75, 0xfa]).unwrap();
        let moved = w.moved_below(Addr(0x1010), Some(Addr(0x1000))).unwrap();
        assert_eq!(moved.code[..4], [0x48, 0x83, 0xe8, 1]);
        let jne = decode(&moved.code[4..], Addr(0x1014)).unwrap();
        assert_eq!(
            (jne.mnemonic(), jne.near_branch_target()),
            (Mnemonic::Jne, 0x1000)
        );
        let far = w.moved_below(Addr(0x1010), Some(Addr(0x7000_0000_0000))).unwrap();
        assert_eq!(far, w.moved(Addr(0x1010)).unwrap());
        // loop to it: there is no near form.
        let w = window(&[0x48, 0x83, 0xe8, 1, 0xe2, 0xfa]).unwrap();
        let moved = w.moved_below(Addr(0x1010), Some(Addr(0x1000))).unwrap();
        assert_eq!(moved, w.moved(Addr(0x1010)).unwrap());
    }

    #[test]
    fn flags_that_nothing_reads() {
        let dead = |code: &[u8]| window(code).unwrap().dead_flags();
        // sub rax, 1; jne
        assert_eq!(dead(&[0x48, 0x83, 0xe8, 1, 0x75, 0xfa]), Some(1));
        // lea rax, [rbx+1]; cmp eax, ecx
        assert_eq!(dead(&[0x48, 0x8d, 0x43, 1, 0x39, 0xc8]), Some(2));
        // inc eax (keeps carry); xor edx, edx; nop
        assert_eq!(dead(&[0xff, 0xc0, 0x31, 0xd2, 0x90]), Some(2));
        // adc, jne, shl by cl, setne and lahf read or keep them
        assert_eq!(dead(&[0x83, 0xd0, 1, 0x83, 0xc0, 1]), None);
        assert_eq!(dead(&[0x75, 0xfa, 0x83, 0xc0, 1]), None);
        assert_eq!(dead(&[0xd3, 0xe0, 0x83, 0xc0, 1]), None);
        assert_eq!(dead(&[0x0f, 0x95, 0xc0, 0x83, 0xc0, 1]), None);
        assert_eq!(dead(&[0x9f, 0x90, 0x83, 0xc0, 1]), None);
        // Memory may fault before the flags are overwritten: add eax, [rbx]; mov eax, [rbx].
        assert_eq!(dead(&[0x03, 0x03, 0x83, 0xc0, 1]), None);
        assert_eq!(dead(&[0x8b, 0x03, 0x83, 0xc0, 1]), None);
        // div faults; mov to ss or from cr0
        assert_eq!(dead(&[0xf7, 0xf3, 0x83, 0xc0, 1]), None);
        assert_eq!(dead(&[0x8e, 0xd0, 0x83, 0xc0, 1]), None);
        assert_eq!(dead(&[0x0f, 0x20, 0xc0, 0x83, 0xc0, 1]), None);
        // Only inc: nothing is certain within the window.
        assert_eq!(dead(&[0xff, 0xc0, 0x90, 0x90, 0x90]), None);
    }

    #[test]
    fn touched_addresses() {
        let regs = Registers {
            rbx: 0x1000,
            rsp: 0x2000,
            fs_base: 0x7000,
            ..Registers::default()
        };
        let touched = |code: &[u8]| touched(&decode(code, AT).unwrap(), &regs);
        // add dword [rbx+6], 1
        assert_eq!(touched(&[0x83, 0x43, 0x06, 0x01]), [Addr(0x1006)]);
        // push rax
        assert_eq!(touched(&[0x50]), [Addr(0x1ff8)]);
        // mov fs:[0x28], rax
        assert_eq!(
            touched(&[0x64, 0x48, 0x89, 0x04, 0x25, 0x28, 0, 0, 0]),
            [Addr(0x7028)]
        );
        // lea rax, [rbx]
        assert!(touched(&[0x48, 0x8d, 0x03]).is_empty());
    }
}
