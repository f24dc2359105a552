//! Agent expressions as programs for the task ([`Program`]).
//!
//! The bytes are decoded once, from the first to the last. The interpreter keeps the operations that programs lack: jumps back,
//! registers beside the general ones, operations of tracepoints, code that leaves its end or its stack. Keeps: the program
//! gives what the interpreter gives, or cannot tell.

use std::collections::BTreeMap;

use rr_replayer::condition::{Binary, Op, Program, Register, Width};

use super::opcode;

/// The general registers by gdb's numbers.
const REGISTERS: [Register; 16] = [
    Register::Rax,
    Register::Rbx,
    Register::Rcx,
    Register::Rdx,
    Register::Rsi,
    Register::Rdi,
    Register::Rbp,
    Register::Rsp,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];
/// gdb's number of the instruction pointer.
const RIP: usize = 16;

/// The program of an expression, if there is one.
pub(super) fn compile(code: &[u8]) -> Option<Program> {
    let mut ops = Vec::new();
    // By their places in the code.
    let mut starts: BTreeMap<usize, usize> = BTreeMap::new();
    let mut at = 0;
    while at < code.len() {
        starts.insert(at, ops.len());
        let (op, operand) = code[at..].split_first()?;
        at += 1 + operation(*op, operand, &mut ops)?;
    }
    // Jumps are to places so far.
    for op in &mut ops {
        if let Op::Jump(to) | Op::JumpIf(to) = op {
            *to = *starts.get(to)?;
        }
    }
    Program::new(ops)
}

/// Appends what one operation of the expression does; returns how long its operand is.
fn operation(op: u8, operand: &[u8], ops: &mut Vec<Op>) -> Option<usize> {
    let byte = || operand.first().copied();
    let half = || Some(usize::from(u16::from_be_bytes(*operand.first_chunk()?)));
    let binary = |binary| (Op::Binary(binary), 0);
    let (op, len) = match op {
        opcode::ADD => binary(Binary::Add),
        opcode::SUB => binary(Binary::Sub),
        opcode::MUL => binary(Binary::Mul),
        opcode::DIV_SIGNED => binary(Binary::DivSigned),
        opcode::DIV_UNSIGNED => binary(Binary::DivUnsigned),
        opcode::REM_SIGNED => binary(Binary::RemSigned),
        opcode::REM_UNSIGNED => binary(Binary::RemUnsigned),
        opcode::LSH => binary(Binary::ShiftLeft),
        opcode::RSH_SIGNED => binary(Binary::ShiftRightSigned),
        opcode::RSH_UNSIGNED => binary(Binary::ShiftRightUnsigned),
        opcode::BIT_AND => binary(Binary::And),
        opcode::BIT_OR => binary(Binary::Or),
        opcode::BIT_XOR => binary(Binary::Xor),
        opcode::EQUAL => binary(Binary::Equal),
        opcode::LESS_SIGNED => binary(Binary::LessSigned),
        opcode::LESS_UNSIGNED => binary(Binary::LessUnsigned),
        opcode::LOG_NOT => (Op::IsZero, 0),
        opcode::BIT_NOT => (Op::Invert, 0),
        opcode::EXT => match byte()? {
            bits @ 1..64 => (Op::SignExtend(bits), 1),
            _ => (Op::SignExtend(64), 1),
        },
        opcode::ZERO_EXT => match byte()? {
            0 => {
                ops.push(Op::Pop);
                (Op::Constant(0), 1)
            }
            bits @ 1..64 => (Op::ZeroExtend(bits), 1),
            _ => (Op::ZeroExtend(64), 1),
        },
        opcode::REF8 => (Op::Read(Width::One), 0),
        opcode::REF16 => (Op::Read(Width::Two), 0),
        opcode::REF32 => (Op::Read(Width::Four), 0),
        opcode::REF64 => (Op::Read(Width::Eight), 0),
        opcode::IF_GOTO => (Op::JumpIf(half()?), 2),
        opcode::GOTO => (Op::Jump(half()?), 2),
        opcode::CONST8 => (Op::Constant(byte()?.into()), 1),
        opcode::CONST16 => (Op::Constant(half()? as u64), 2),
        opcode::CONST32 => (
            Op::Constant(u32::from_be_bytes(*operand.first_chunk()?).into()),
            4,
        ),
        opcode::CONST64 => (Op::Constant(u64::from_be_bytes(*operand.first_chunk()?)), 8),
        opcode::REG => match half()? {
            RIP => (Op::Place, 2),
            number => (Op::Register(*REGISTERS.get(number)?), 2),
        },
        opcode::END => (Op::End, 0),
        opcode::DUP => (Op::Pick(0), 0),
        opcode::PICK => (Op::Pick(byte()?.into()), 1),
        opcode::POP => (Op::Pop, 0),
        opcode::SWAP => (Op::Swap, 0),
        opcode::ROT => (Op::Rotate, 0),
        _ => return None,
    };
    ops.push(op);
    Some(len)
}
