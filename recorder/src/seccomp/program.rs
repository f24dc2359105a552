//! A filter's program: classic BPF, checked as the kernel checks it and decoded.
//!
//! Invariant: a [`Program`] ends. Every jump leads forwards to an instruction, the last instruction
//! returns, and every path writes a word of memory before it reads that word.
//!
//! Sources: Documentation/networking/filter.rst, seccomp(2), `<linux/bpf_common.h>`.

/// An instruction as the program gives it (`struct sock_filter`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raw {
    /// The operation.
    pub code: u16,
    /// Number of instructions to skip if the comparison holds.
    pub yes: u8,
    /// Number of instructions to skip if the comparison does not hold.
    pub no: u8,
    /// The constant operand.
    pub k: u32,
}

impl Raw {
    /// Size in memory.
    pub const BYTES: usize = 8;

    /// Decodes the fields from memory.
    pub fn from_bytes(b: [u8; Raw::BYTES]) -> Raw {
        Raw {
            code: u16::from_le_bytes([b[0], b[1]]),
            yes: b[2],
            no: b[3],
            k: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        }
    }
}

/// Maximum number of instructions of a program (`BPF_MAXINSNS`).
pub const MOST: usize = 4096;
/// Number of words of memory (`BPF_MEMWORDS`).
pub const MEMORY: usize = 16;
/// Number of words of `struct seccomp_data`.
pub const DATA: usize = 16;

/// The second operand of a calculation or a comparison; the first one is the accumulator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// A number.
    Constant(u32),
    /// The index register.
    Index,
}

/// A calculation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // their own names
pub enum Calculation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Or,
    And,
    ShiftLeft,
    ShiftRight,
    Xor,
}

/// A comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // their own names
pub enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
    /// The accumulator and the operand have a set bit in common.
    Common,
}

/// Source of a loaded value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A number.
    Constant(u32),
    /// A word of `struct seccomp_data`.
    Data(usize),
    /// A word of memory.
    Memory(usize),
}

/// One of the two registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// `A`.
    Accumulator,
    /// `X`.
    Index,
}

/// An instruction. Jumps hold the index of their target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instruction {
    /// Loads a value into a register.
    Load(Register, Source),
    /// Stores a register in a word of memory.
    Store(Register, usize),
    /// Calculates with the accumulator; the result goes into the accumulator.
    Calculate(Calculation, Operand),
    /// Negates the accumulator.
    Negate,
    /// Copies the other register into this one.
    Copy(Register),
    /// Jumps to the instruction of this index.
    Jump(usize),
    /// Jumps to one of two instructions.
    Branch {
        /// The comparison between the accumulator and the operand.
        comparison: Comparison,
        /// The second operand of the comparison.
        operand: Operand,
        /// Target if the comparison holds.
        yes: usize,
        /// Target if the comparison does not hold.
        no: usize,
    },
    /// Returns this answer.
    Return(u32),
    /// Returns the accumulator as the answer.
    ReturnAccumulator,
}

/// Error: the kernel refuses the program with `EINVAL`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Invalid;

/// A program that the kernel accepts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program(Vec<Instruction>);

/// Size of `struct seccomp_data`. Programs get this value as the length of a packet.
const DATA_BYTES: u32 = 4 * DATA as u32;

impl Program {
    /// Checks and decodes a program.
    pub fn new(raw: &[Raw]) -> Result<Program, Invalid> {
        if raw.is_empty() || raw.len() > MOST {
            return Err(Invalid);
        }
        let decoded = raw
            .iter()
            .enumerate()
            .map(|(at, instruction)| decode(*instruction, at, raw.len()));
        let program = Program(decoded.collect::<Result<_, _>>()?);
        match program.0.last() {
            Some(Instruction::Return(_) | Instruction::ReturnAccumulator) => {}
            _ => return Err(Invalid),
        }
        program.check_memory()?;
        Ok(program)
    }

    /// Returns the instructions of the program.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// Checks that no word of memory is read before it is written. (The kernel refuses that also in
    /// unreachable code.)
    fn check_memory(&self) -> Result<(), Invalid> {
        const ALL: u16 = !0;
        let mut at_target = vec![ALL; self.0.len()];
        let mut written = 0;
        for (at, instruction) in self.0.iter().enumerate() {
            written &= at_target[at];
            match *instruction {
                Instruction::Store(_, word) => written |= 1 << word,
                Instruction::Load(_, Source::Memory(word)) if written & 1 << word == 0 => {
                    return Err(Invalid);
                }
                Instruction::Jump(to) => {
                    at_target[to] &= written;
                    written = ALL;
                }
                Instruction::Branch { yes, no, .. } => {
                    at_target[yes] &= written;
                    at_target[no] &= written;
                    written = ALL;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the number of instructions after the kernel's conversion to extended BPF
    /// (`bpf_convert_filter` in net/core/filter.c). The kernel limits the sum of these for all filters
    /// of a task.
    pub fn kernel_len(&self) -> usize {
        const PROLOGUE: usize = 3;
        let len = |(at, instruction): (usize, &Instruction)| match *instruction {
            Instruction::Calculate(Calculation::Divide, Operand::Index) => 5,
            Instruction::Branch {
                comparison,
                operand,
                yes,
                no,
            } => {
                // A constant that would be negative needs a register of its own.
                let constant = match operand {
                    Operand::Constant(k) if (k as i32) < 0 => 1,
                    _ => 0,
                };
                let one_way = no == at + 1 || yes == at + 1 && comparison != Comparison::Common;
                constant + if one_way { 1 } else { 2 }
            }
            Instruction::Return(_) => 2,
            _ => 1,
        };
        PROLOGUE + self.0.iter().enumerate().map(len).sum::<usize>()
    }
}

/// Decodes instruction number `at` of a program with `len` instructions.
fn decode(raw: Raw, at: usize, len: usize) -> Result<Instruction, Invalid> {
    const CLASS: u16 = 0x07;
    const LD: u16 = 0x00;
    const LDX: u16 = 0x01;
    const ST: u16 = 0x02;
    const STX: u16 = 0x03;
    const ALU: u16 = 0x04;
    const JMP: u16 = 0x05;
    const RET: u16 = 0x06;
    const MISC: u16 = 0x07;
    /// Flag of a code that uses the index register.
    const X: u16 = 0x08;

    // The fields of the instruction, with their checks.
    let target = |over: u32| {
        let to = at + 1 + over as usize;
        if to < len { Ok(to) } else { Err(Invalid) }
    };
    let word = |k: u32| match k {
        0..16 => Ok(k as usize),
        _ => Err(Invalid),
    };
    let operand = match raw.code & X {
        0 => Operand::Constant(raw.k),
        _ => Operand::Index,
    };
    let rest = raw.code & !CLASS;
    Ok(match raw.code & CLASS {
        class @ (LD | LDX) => {
            let register = match class {
                LD => Register::Accumulator,
                _ => Register::Index,
            };
            let source = match rest {
                // BPF_IMM, BPF_ABS, BPF_MEM, BPF_LEN, all of words.
                0x00 => Source::Constant(raw.k),
                0x20 if class == LD && raw.k < DATA_BYTES && raw.k.is_multiple_of(4) => {
                    Source::Data(raw.k as usize / 4)
                }
                0x60 => Source::Memory(word(raw.k)?),
                0x80 => Source::Constant(DATA_BYTES),
                _ => return Err(Invalid),
            };
            Instruction::Load(register, source)
        }
        ST if rest == 0 => Instruction::Store(Register::Accumulator, word(raw.k)?),
        STX if rest == 0 => Instruction::Store(Register::Index, word(raw.k)?),
        ALU if rest == 0x80 => Instruction::Negate,
        ALU => {
            let calculation = match rest & !X {
                0x00 => Calculation::Add,
                0x10 => Calculation::Subtract,
                0x20 => Calculation::Multiply,
                0x30 => Calculation::Divide,
                0x40 => Calculation::Or,
                0x50 => Calculation::And,
                0x60 => Calculation::ShiftLeft,
                0x70 => Calculation::ShiftRight,
                0xa0 => Calculation::Xor,
                _ => return Err(Invalid),
            };
            match (calculation, operand) {
                (Calculation::Divide, Operand::Constant(0)) => return Err(Invalid),
                (Calculation::ShiftLeft | Calculation::ShiftRight, Operand::Constant(32..)) => {
                    return Err(Invalid);
                }
                _ => Instruction::Calculate(calculation, operand),
            }
        }
        JMP if rest == 0 => Instruction::Jump(target(raw.k)?),
        JMP => Instruction::Branch {
            comparison: match rest & !X {
                0x10 => Comparison::Equal,
                0x20 => Comparison::Greater,
                0x30 => Comparison::GreaterOrEqual,
                0x40 => Comparison::Common,
                _ => return Err(Invalid),
            },
            operand,
            yes: target(raw.yes.into())?,
            no: target(raw.no.into())?,
        },
        RET if rest == 0 => Instruction::Return(raw.k),
        RET if rest == 0x10 => Instruction::ReturnAccumulator,
        MISC if rest == 0x00 => Instruction::Copy(Register::Index),
        MISC if rest == 0x80 => Instruction::Copy(Register::Accumulator),
        _ => return Err(Invalid),
    })
}
