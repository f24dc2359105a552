//! Conditions of breakpoints in a form that can be executed in the task ([`Program`]): a stack machine that only goes
//! forwards.
//!
//! A [`Program`] is a condition, as far as it can be expressed in this form. It is compiled to machine
//! code that runs in the stub of the breakpoint (`passes`, `code`), in a few nanoseconds per pass. The
//! code stops the task if the condition is true, or cannot be evaluated. Then the replayer evaluates
//! the condition itself. Invariant: if the task does not stop, the condition is false. So a program may
//! stop too often, but never too seldom.
//!
//! ```text
//! break f if n == 3      Register(Rbp) Constant(-20) Add Read(Four) SignExtend(32) Constant(3) Equal End
//! ```

mod code;

use crate::words::STACK_MOST;

#[doc(hidden)]
pub(crate) use code::{Exits, compile, restore_scratch, save_scratch, set_target};

/// A register, by its number in machine code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Register {
    Rax = 0,
    Rcx = 1,
    Rdx = 2,
    Rbx = 3,
    Rsp = 4,
    Rbp = 5,
    Rsi = 6,
    Rdi = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
    R11 = 11,
    R12 = 12,
    R13 = 13,
    R14 = 14,
    R15 = 15,
}

/// Number of bytes that are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Width {
    One,
    Two,
    Four,
    Eight,
}

/// An operation on two values, `a` below `b`. All numbers have 64 bits and wrap. Comparisons give 1 or
/// 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    /// Division by zero: the condition cannot be evaluated. The same is true for the next three.
    DivSigned,
    DivUnsigned,
    RemSigned,
    RemUnsigned,
    And,
    Or,
    Xor,
    /// By 64 bits or more: 0.
    ShiftLeft,
    /// By 64 bits or more: same as by 63.
    ShiftRightSigned,
    /// By 64 bits or more: 0.
    ShiftRightUnsigned,
    Equal,
    LessSigned,
    LessUnsigned,
}

/// One operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Pushes a constant.
    Constant(u64),
    /// Pushes the value of a register.
    Register(Register),
    /// Pushes the address of the breakpoint.
    Place,
    /// Replaces an address by the memory there, as an unsigned number. If the memory cannot be read,
    /// the condition cannot be evaluated.
    Read(Width),
    /// Replaces two values by one.
    Binary(Binary),
    /// 1 for zero, 0 otherwise.
    IsZero,
    /// Inverts all bits.
    Invert,
    /// The lowest bits (1 to 64) as a signed number.
    SignExtend(u8),
    /// The lowest bits (1 to 64) as an unsigned number.
    ZeroExtend(u8),
    /// Pushes a copy of the value this many below the top (0: the top).
    Pick(usize),
    /// Drops the top.
    Pop,
    /// `a b ⇒ b a`
    Swap,
    /// `a b c ⇒ c a b`
    Rotate,
    /// Takes a value. If it is not zero, jumps to the operation with this number, which comes later.
    JumpIf(usize),
    /// Jumps to the operation with this number, which comes later.
    Jump(usize),
    /// Ends with the top as result: true if it is not zero.
    End,
}

impl Op {
    /// Number of operands, and number of results.
    fn effect(self) -> (usize, usize) {
        match self {
            Op::Constant(_) | Op::Register(_) | Op::Place => (0, 1),
            Op::Read(_) | Op::IsZero | Op::Invert | Op::SignExtend(_) | Op::ZeroExtend(_) => (1, 1),
            Op::Binary(_) => (2, 1),
            Op::Pick(n) => (n.saturating_add(1), n.saturating_add(2)),
            Op::Pop | Op::JumpIf(_) => (1, 0),
            Op::Swap => (2, 2),
            Op::Rotate => (3, 3),
            Op::Jump(_) => (0, 0),
            Op::End => (1, 1),
        }
    }
}

/// A condition as operations.
///
/// Invariant: each operation finds its operands on every path to it; jumps go forwards, so the program
/// ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    ops: Vec<Op>,
    /// Number of values before each operation; `None` if it cannot be reached.
    depths: Vec<Option<usize>>,
}

impl Program {
    /// A program of these operations. `None` if it would break the invariant, or needs too many values
    /// at a time.
    pub fn new(ops: Vec<Op>) -> Option<Program> {
        let mut depths = vec![None; ops.len()];
        *depths.first_mut()? = Some(0);
        for (n, op) in ops.iter().enumerate() {
            let Some(depth) = depths[n] else { continue };
            if matches!(op, Op::SignExtend(bits) | Op::ZeroExtend(bits) if !(1..=64).contains(bits)) {
                return None;
            }
            let (taken, given) = op.effect();
            let after = usize::checked_sub(depth, taken)?.checked_add(given)?;
            if after > STACK_MOST {
                return None;
            }
            let next: &[usize] = match op {
                Op::JumpIf(to) => &[n + 1, *to],
                Op::Jump(to) => &[*to],
                Op::End => &[],
                _ => &[n + 1],
            };
            for to in next {
                let there = depths.get_mut(*to).filter(|_| *to > n)?;
                if there.is_some_and(|depth| depth != after) {
                    return None;
                }
                *there = Some(after);
            }
        }
        Some(Program { ops, depths })
    }

    /// The reachable operations: number, number of values before, and the operation.
    fn reached(&self) -> impl Iterator<Item = (usize, usize, Op)> {
        let all = self.ops.iter().zip(&self.depths).enumerate();
        all.filter_map(|(n, (op, depth))| Some((n, (*depth)?, *op)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program() {
        let one = Op::Constant(1);
        assert!(Program::new(vec![one, Op::End]).is_some());
        // Nothing, no end, no value.
        assert!(Program::new(vec![]).is_none());
        assert!(Program::new(vec![one]).is_none());
        assert!(Program::new(vec![Op::End]).is_none());
        assert!(Program::new(vec![one, Op::Pick(1), Op::End]).is_none());
        // Backwards, to itself, too far.
        assert!(Program::new(vec![one, one, Op::JumpIf(0), Op::End]).is_none());
        assert!(Program::new(vec![one, Op::Jump(1), Op::End]).is_none());
        assert!(Program::new(vec![one, Op::Jump(9), Op::End]).is_none());
        // Two ways with different numbers of values.
        assert!(Program::new(vec![one, Op::JumpIf(3), one, one, Op::End]).is_none());
        assert!(Program::new(vec![one, one, Op::JumpIf(4), Op::Invert, Op::End]).is_some());
        // Unreachable operations are not checked.
        assert!(Program::new(vec![one, Op::Jump(3), Op::Rotate, Op::End]).is_some());
        // Too many values.
        let many = |n| [vec![one; n], vec![Op::End]].concat();
        assert!(Program::new(many(STACK_MOST)).is_some());
        assert!(Program::new(many(STACK_MOST + 1)).is_none());
    }
}
