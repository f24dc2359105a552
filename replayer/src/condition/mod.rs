//! Conditions of breakpoints in a form that can be executed in the task ([`Program`]): a stack machine that only goes
//! forwards.
//!
//! A [`Program`] is what a condition says, so far as that can be said in this form. Machine code is made of it that runs in
//! the stub of the breakpoint (`passes`, `code`), a few nanoseconds per pass; it stops the task where the condition is
//! true, or where it cannot be told. There the condition itself is asked, on our side. Keeps: where the task does not
//! stop, the condition is false; so a program may stop too often, never too seldom.
//!
//! ```text
//! break f if n == 3      Register(Rbp) Constant(-20) Add Read(Four) SignExtend(32) Constant(3) Equal End
//! ```

mod code;

use crate::words::STACK_MOST;

#[doc(hidden)]
pub use crate::probe::Trial;
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

/// How many bytes are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Width {
    One,
    Two,
    Four,
    Eight,
}

/// What is done with two values, `a` below `b`. All numbers have 64 bits and wrap; what compares gives 1 or 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    /// By zero, it cannot be told whether the condition holds; the same for the three that follow.
    DivSigned,
    DivUnsigned,
    RemSigned,
    RemUnsigned,
    And,
    Or,
    Xor,
    /// By 64 bits or more: 0.
    ShiftLeft,
    /// By 64 bits or more: as by 63.
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
    /// An address becomes what lies there, without a sign. If it cannot be read, it cannot be told whether the
    /// condition holds.
    Read(Width),
    /// Two values become one.
    Binary(Binary),
    /// 1 for zero, 0 for all else.
    IsZero,
    /// All bits change.
    Invert,
    /// The lowest bits (1 to 64) as a signed number.
    SignExtend(u8),
    /// The lowest bits (1 to 64) as a number without a sign.
    ZeroExtend(u8),
    /// Pushes the value that lies so many below the top (0: the top).
    Pick(usize),
    /// Drops the top.
    Pop,
    /// `a b ⇒ b a`
    Swap,
    /// `a b c ⇒ c a b`
    Rotate,
    /// Takes a value; if it is not zero, goes on at the operation with this number, which comes later.
    JumpIf(usize),
    /// Goes on at the operation with this number, which comes later.
    Jump(usize),
    /// The top is what the condition gives: true if it is not zero.
    End,
}

impl Op {
    /// How many values it needs, and how many there are in their place afterwards.
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
/// Keeps: each operation finds the values that it needs, whichever way it is come to; jumps go forwards, so it ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    ops: Vec<Op>,
    /// How many values there are before each operation; `None` if it is never come to.
    depths: Vec<Option<usize>>,
}

impl Program {
    /// A program of these operations. `None` if it would not keep what programs keep, or needs too many values at a time.
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

    /// The operations that are come to: their number, how many values there are before, and what they do.
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
        // What is not come to may be anything.
        assert!(Program::new(vec![one, Op::Jump(3), Op::Rotate, Op::End]).is_some());
        // Too many values.
        let many = |n| [vec![one; n], vec![Op::End]].concat();
        assert!(Program::new(many(STACK_MOST)).is_some());
        assert!(Program::new(many(STACK_MOST + 1)).is_none());
    }
}
