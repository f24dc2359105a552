//! Machine code of a condition.
//!
//! The values lie in the words of the stack ([`crate::words`]). Each operation loads its operands and
//! stores its result. The processor forwards the stores, so an operation costs about a nanosecond. The
//! code uses `rax`, `rcx`, `rdx` and the flags, which the stub saves and restores. Invariant: the code
//! writes only to those words.
//!
//! It reads the program's memory as the program would, with two exceptions. Unreadable memory causes a
//! fault, which the replayer recognises by its place. Each address is first compared with ranges of
//! memory that is not the program's own (patches), or where a read would be noticed (watched places).
//! In these ranges the task stops, and the replayer evaluates the condition.

use rr_tracee::Addr;

use super::{Binary, Op, Program, Register, Width};
use crate::words::{KEPT_OFF, RANGES, SAVED_RAX, SAVED_RCX, SAVED_RDX, STACK_MOST, count_word, stack_word};

const RAX: u8 = 0;
const RCX: u8 = 1;
const RDX: u8 = 2;

/// Opcodes of instructions with a register and a word of memory.
const LOAD: u8 = 0x8b;
const STORE: u8 = 0x89;
const ADD: u8 = 0x03;
const SUB: u8 = 0x2b;
const AND: u8 = 0x23;
const OR: u8 = 0x0b;
const XOR: u8 = 0x33;
const CMP: u8 = 0x3b;

/// Opcodes of `jcc rel32`, behind 0x0f.
const JB: u8 = 0x82;
const JE: u8 = 0x84;
const JNE: u8 = 0x85;

/// Target of a jump.
enum Label {
    /// The code of an operation.
    Op(usize),
    /// The end of the program: the condition is false.
    Behind,
}

/// The code of one program while it is written.
struct Writer<'a> {
    code: &'a mut Vec<u8>,
    exits: &'a mut Exits,
    jumps: Vec<(usize, Label)>,
}

/// The displacements of jumps out of conditions, to be set by [`set_target`].
#[derive(Debug, Default)]
pub(crate) struct Exits {
    /// Jumps if a condition is true.
    pub trues: Vec<usize>,
    /// Jumps if the task cannot evaluate the condition.
    pub asks: Vec<usize>,
}

/// Appends the code of a condition for a breakpoint at `at`: it falls through if the condition is
/// false, and otherwise jumps to an exit.
pub(crate) fn compile(program: &Program, at: Addr, code: &mut Vec<u8>, exits: &mut Exits) {
    let mut writer = Writer {
        code,
        exits,
        jumps: Vec::new(),
    };
    let mut starts = vec![0; program.ops.len()];
    let last = program.reached().last().map(|(n, ..)| n);
    for (n, depth, op) in program.reached() {
        starts[n] = writer.code.len();
        writer.op(op, depth, at);
        if op == Op::End && Some(n) != last {
            writer.jump(Label::Behind);
        }
    }
    let Writer { code, jumps, .. } = writer;
    let end = code.len();
    for (place, label) in jumps {
        let to = match label {
            Label::Op(n) => starts[n],
            Label::Behind => end,
        };
        set_target(code, place, to);
    }
}

/// Sets the target of the jump with its displacement at `place` to `to`.
pub(crate) fn set_target(code: &mut [u8], place: usize, to: usize) {
    let distance = (to as u32).wrapping_sub(place as u32 + 4);
    code[place..place + 4].copy_from_slice(&distance.to_le_bytes());
}

/// Saves the registers that conditions use, except `rax` and the flags.
pub(crate) fn save_scratch(code: &mut Vec<u8>) {
    word(code, STORE, RCX, SAVED_RCX);
    word(code, STORE, RDX, SAVED_RDX);
}

/// Restores these registers.
pub(crate) fn restore_scratch(code: &mut Vec<u8>) {
    word(code, LOAD, RCX, SAVED_RCX);
    word(code, LOAD, RDX, SAVED_RDX);
}

/// An instruction with a 64-bit register and the word at an address.
fn word(code: &mut Vec<u8>, opcode: u8, register: u8, addr: u32) {
    code.extend([
        0x48 | (register >> 3) << 2,
        opcode,
        0x04 | (register & 7) << 3,
        0x25,
    ]);
    code.extend(addr.to_le_bytes());
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend(bytes);
    }

    fn load(&mut self, register: u8, value: usize) {
        word(self.code, LOAD, register, stack_word(value));
    }

    fn store(&mut self, register: u8, value: usize) {
        word(self.code, STORE, register, stack_word(value));
    }

    /// `jcc` to the exit for a condition that cannot be evaluated.
    fn ask_if(&mut self, condition: u8) {
        self.bytes(&[0x0f, condition]);
        self.exits.asks.push(self.code.len());
        self.bytes(&[0; 4]);
    }

    /// `jne` to the exit for a true condition.
    fn true_if_not_zero(&mut self) {
        self.bytes(&[0x0f, JNE]);
        self.exits.trues.push(self.code.len());
        self.bytes(&[0; 4]);
    }

    fn jump(&mut self, to: Label) {
        self.bytes(&[0xe9]);
        self.jumps.push((self.code.len(), to));
        self.bytes(&[0; 4]);
    }

    /// `cmp qword [value], 0`
    fn test(&mut self, value: usize) {
        self.bytes(&[0x48, 0x83, 0x3c, 0x25]);
        self.bytes(&stack_word(value).to_le_bytes());
        self.bytes(&[0]);
    }

    /// Writes one operation. There are `depth` values before it.
    fn op(&mut self, op: Op, depth: usize, at: Addr) {
        debug_assert!(depth <= STACK_MOST);
        // The operands: the topmost values, and the place of the new one.
        let [new, top, below, third] = [0, 1, 2, 3].map(|n| depth.saturating_sub(n));
        match op {
            Op::Constant(value) => self.constant(value, new),
            Op::Place => self.constant(at.0, new),
            Op::Register(register) => self.register(register, new),
            Op::Read(width) => self.read(width, top),
            Op::Binary(binary) => self.binary(binary, below, top),
            Op::IsZero => {
                // xor eax, eax; cmp [top], 0; sete al
                self.bytes(&[0x31, 0xc0]);
                self.test(top);
                self.bytes(&[0x0f, 0x94, 0xc0]);
                self.store(RAX, top);
            }
            Op::Invert => {
                // not rax
                self.load(RAX, top);
                self.bytes(&[0x48, 0xf7, 0xd0]);
                self.store(RAX, top);
            }
            Op::SignExtend(bits) => self.extend(0xf8, bits, top),
            Op::ZeroExtend(bits) => self.extend(0xe8, bits, top),
            Op::Pick(n) => {
                self.load(RAX, top - n);
                self.store(RAX, new);
            }
            Op::Pop => {}
            Op::Swap => {
                self.load(RAX, below);
                self.load(RCX, top);
                self.store(RCX, below);
                self.store(RAX, top);
            }
            Op::Rotate => {
                self.load(RAX, third);
                self.load(RCX, below);
                self.load(RDX, top);
                self.store(RDX, third);
                self.store(RAX, below);
                self.store(RCX, top);
            }
            Op::JumpIf(to) => {
                self.test(top);
                self.bytes(&[0x0f, JNE]);
                self.jumps.push((self.code.len(), Label::Op(to)));
                self.bytes(&[0; 4]);
            }
            Op::Jump(to) => self.jump(Label::Op(to)),
            Op::End => {
                self.test(top);
                self.true_if_not_zero();
            }
        }
    }

    fn constant(&mut self, value: u64, to: usize) {
        // mov rax, value
        self.bytes(&[0x48, 0xb8]);
        self.bytes(&value.to_le_bytes());
        self.store(RAX, to);
    }

    fn register(&mut self, register: Register, to: usize) {
        let saved = match register {
            Register::Rax => SAVED_RAX,
            Register::Rcx => SAVED_RCX,
            Register::Rdx => SAVED_RDX,
            other => return self.store(other as u8, to),
        };
        word(self.code, LOAD, RAX, saved);
        self.store(RAX, to);
    }

    fn read(&mut self, width: Width, value: usize) {
        self.load(RAX, value);
        for n in 0..RANGES {
            // mov rcx, rax; sub rcx, [start]; cmp rcx, [length]
            self.bytes(&[0x48, 0x89, 0xc1]);
            word(self.code, SUB, RCX, count_word(KEPT_OFF + 2 * n));
            word(self.code, CMP, RCX, count_word(KEPT_OFF + 2 * n + 1));
            self.ask_if(JB);
        }
        // movzx eax, byte [rax]; movzx eax, word [rax]; mov eax, [rax]; mov rax, [rax]
        self.bytes(match width {
            Width::One => &[0x0f, 0xb6, 0x00],
            Width::Two => &[0x0f, 0xb7, 0x00],
            Width::Four => &[0x8b, 0x00],
            Width::Eight => &[0x48, 0x8b, 0x00],
        });
        self.store(RAX, value);
    }

    /// `shl rax, n; sar rax, n` or `shr`.
    fn extend(&mut self, shift: u8, bits: u8, value: usize) {
        let unused = 64 - bits;
        if unused == 0 {
            return;
        }
        self.load(RAX, value);
        self.bytes(&[0x48, 0xc1, 0xe0, unused, 0x48, 0xc1, shift, unused]);
        self.store(RAX, value);
    }

    fn binary(&mut self, binary: Binary, a: usize, b: usize) {
        let result = match binary {
            Binary::Add => self.simple(ADD, a, b),
            Binary::Sub => self.simple(SUB, a, b),
            Binary::And => self.simple(AND, a, b),
            Binary::Or => self.simple(OR, a, b),
            Binary::Xor => self.simple(XOR, a, b),
            Binary::Mul => {
                // imul rax, [b]
                self.load(RAX, a);
                self.bytes(&[0x48, 0x0f, 0xaf, 0x04, 0x25]);
                self.bytes(&stack_word(b).to_le_bytes());
                RAX
            }
            Binary::Equal => self.compared(0x94, a, b),
            Binary::LessSigned => self.compared(0x9c, a, b),
            Binary::LessUnsigned => self.compared(0x92, a, b),
            Binary::ShiftLeft => self.shifted(0xe0, a, b),
            Binary::ShiftRightUnsigned => self.shifted(0xe8, a, b),
            Binary::ShiftRightSigned => {
                // mov edx, 63; cmp rcx, rdx; cmova rcx, rdx; sar rax, cl
                self.load(RCX, b);
                self.bytes(&[0xba, 63, 0, 0, 0, 0x48, 0x39, 0xd1, 0x48, 0x0f, 0x47, 0xca]);
                self.load(RAX, a);
                self.bytes(&[0x48, 0xd3, 0xf8]);
                RAX
            }
            Binary::DivUnsigned | Binary::RemUnsigned => {
                // xor edx, edx; div rcx
                self.divisor(a, b);
                self.bytes(&[0x31, 0xd2, 0x48, 0xf7, 0xf1]);
                if binary == Binary::DivUnsigned { RAX } else { RDX }
            }
            Binary::DivSigned => {
                // By −1, the quotient of the smallest number would be a fault, so this uses neg rax.
                self.divisor(a, b);
                self.divide_signed(&[0x48, 0xf7, 0xd8]);
                RAX
            }
            Binary::RemSigned => {
                // xor edx, edx
                self.divisor(a, b);
                self.divide_signed(&[0x31, 0xd2]);
                RDX
            }
        };
        self.store(result, a);
    }

    fn simple(&mut self, opcode: u8, a: usize, b: usize) -> u8 {
        self.load(RAX, a);
        word(self.code, opcode, RAX, stack_word(b));
        RAX
    }

    /// `cmp rax, [b]; setcc al; movzx eax, al`
    fn compared(&mut self, set: u8, a: usize, b: usize) -> u8 {
        self.simple(CMP, a, b);
        self.bytes(&[0x0f, set, 0xc0, 0x0f, 0xb6, 0xc0]);
        RAX
    }

    /// `shl rax, cl` or `shr`, then `xor edx, edx; cmp rcx, 64; cmovae rax, rdx`
    fn shifted(&mut self, shift: u8, a: usize, b: usize) -> u8 {
        self.load(RCX, b);
        self.load(RAX, a);
        self.bytes(&[
            0x48, 0xd3, shift, 0x31, 0xd2, 0x48, 0x83, 0xf9, 64, 0x48, 0x0f, 0x43, 0xc2,
        ]);
        RAX
    }

    /// Loads `rcx` and `rax` for a division. Asks if the divisor is zero.
    fn divisor(&mut self, a: usize, b: usize) {
        // test rcx, rcx
        self.load(RCX, b);
        self.bytes(&[0x48, 0x85, 0xc9]);
        self.ask_if(JE);
        self.load(RAX, a);
    }

    /// `cqo; idiv rcx`, or other code if the divisor is −1.
    fn divide_signed(&mut self, by_minus_one: &[u8]) {
        // cmp rcx, -1; je +7; cqo; idiv rcx; jmp
        self.bytes(&[0x48, 0x83, 0xf9, 0xff, 0x74, 7, 0x48, 0x99, 0x48, 0xf7, 0xf9]);
        self.bytes(&[0xeb, by_minus_one.len() as u8]);
        self.bytes(by_minus_one);
    }
}
