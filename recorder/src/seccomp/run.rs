//! Runs a filter's program: on one call, or on all calls of a number at once.
//!
//! Invariant: if [`always_allows`] returns true for a number, [`answer`] allows each call of that
//! number. Both use the same functions for calculations.

use crate::seccomp::program::{
    Calculation, Comparison, DATA, Instruction, MEMORY, Operand, Program, Register, Source,
};

/// A call as filters see it: the words of `struct seccomp_data`.
pub type Words = [u32; DATA];

/// Returns the result of a calculation; `None` for a division by zero, which ends the program with the
/// answer 0.
fn calculate(calculation: Calculation, a: u32, b: u32) -> Option<u32> {
    Some(match calculation {
        Calculation::Add => a.wrapping_add(b),
        Calculation::Subtract => a.wrapping_sub(b),
        Calculation::Multiply => a.wrapping_mul(b),
        Calculation::Divide => a.checked_div(b)?,
        Calculation::Or => a | b,
        Calculation::And => a & b,
        // The processor's shift: only the low bits of the count are used.
        Calculation::ShiftLeft => a.wrapping_shl(b),
        Calculation::ShiftRight => a.wrapping_shr(b),
        Calculation::Xor => a ^ b,
    })
}

fn holds(comparison: Comparison, a: u32, b: u32) -> bool {
    match comparison {
        Comparison::Equal => a == b,
        Comparison::Greater => a > b,
        Comparison::GreaterOrEqual => a >= b,
        Comparison::Common => a & b != 0,
    }
}

/// Returns the answer of a program for a call.
pub fn answer(program: &Program, data: &Words) -> u32 {
    let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; MEMORY]);
    let code = program.instructions();
    let mut at = 0;
    while let Some(instruction) = code.get(at) {
        at += 1;
        let value = |operand| match operand {
            Operand::Constant(k) => k,
            Operand::Index => x,
        };
        match *instruction {
            Instruction::Load(register, source) => {
                let loaded = match source {
                    Source::Constant(k) => k,
                    Source::Data(word) => data[word],
                    Source::Memory(word) => memory[word],
                };
                match register {
                    Register::Accumulator => a = loaded,
                    Register::Index => x = loaded,
                }
            }
            Instruction::Store(Register::Accumulator, word) => memory[word] = a,
            Instruction::Store(Register::Index, word) => memory[word] = x,
            Instruction::Calculate(calculation, operand) => match calculate(calculation, a, value(operand)) {
                Some(result) => a = result,
                None => return 0,
            },
            Instruction::Negate => a = a.wrapping_neg(),
            Instruction::Copy(Register::Accumulator) => a = x,
            Instruction::Copy(Register::Index) => x = a,
            Instruction::Jump(to) => at = to,
            Instruction::Branch {
                comparison,
                operand,
                yes,
                no,
            } => {
                at = if holds(comparison, a, value(operand)) {
                    yes
                } else {
                    no
                }
            }
            Instruction::Return(k) => return k,
            Instruction::ReturnAccumulator => return a,
        }
    }
    // A program ends with a return.
    0
}

/// Known values of the registers and the memory at an instruction: `None` stands for any value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    a: Option<u32>,
    x: Option<u32>,
    memory: [Option<u32>; MEMORY],
}

impl Known {
    fn both(self, other: Known) -> Known {
        let same = |a: Option<u32>, b: Option<u32>| a.filter(|_| a == b);
        Known {
            a: same(self.a, other.a),
            x: same(self.x, other.x),
            memory: std::array::from_fn(|n| same(self.memory[n], other.memory[n])),
        }
    }
}

/// Returns whether a program allows a call of which only some words are known, whatever the other words
/// are. (`false` may also mean that this cannot be shown.)
///
/// Jumps lead only forwards: so when the walk reaches an instruction, all paths to that instruction are
/// known.
pub fn always_allows(program: &Program, data: &[Option<u32>; DATA], is_allowed: fn(u32) -> bool) -> bool {
    let code = program.instructions();
    let mut states: Vec<Option<Known>> = vec![None; code.len()];
    states[0] = Some(Known {
        a: Some(0),
        x: Some(0),
        memory: [None; MEMORY],
    });
    let come = |states: &mut Vec<Option<Known>>, to: usize, state: Known| {
        states[to] = Some(states[to].map_or(state, |known| known.both(state)));
    };
    // Visits the instructions in order, and passes each state on to the next instructions.
    for (at, instruction) in code.iter().enumerate() {
        let Some(mut state) = states[at] else { continue };
        let value = |operand| match operand {
            Operand::Constant(k) => Some(k),
            Operand::Index => state.x,
        };
        match *instruction {
            Instruction::Load(register, source) => {
                let loaded = match source {
                    Source::Constant(k) => Some(k),
                    Source::Data(word) => data[word],
                    Source::Memory(word) => state.memory[word],
                };
                match register {
                    Register::Accumulator => state.a = loaded,
                    Register::Index => state.x = loaded,
                }
            }
            Instruction::Store(Register::Accumulator, word) => state.memory[word] = state.a,
            Instruction::Store(Register::Index, word) => state.memory[word] = state.x,
            Instruction::Calculate(calculation, operand) => {
                let operand = value(operand);
                if calculation == Calculation::Divide && operand.is_none_or(|b| b == 0) {
                    return false;
                }
                state.a = state
                    .a
                    .zip(operand)
                    .and_then(|(a, b)| calculate(calculation, a, b));
            }
            Instruction::Negate => state.a = state.a.map(u32::wrapping_neg),
            Instruction::Copy(Register::Accumulator) => state.a = state.x,
            Instruction::Copy(Register::Index) => state.x = state.a,
            Instruction::Jump(to) => {
                come(&mut states, to, state);
                continue;
            }
            Instruction::Branch {
                comparison,
                operand,
                yes,
                no,
            } => {
                let known = state.a.zip(value(operand));
                let goes = known.map(|(a, b)| holds(comparison, a, b));
                if goes != Some(false) {
                    come(&mut states, yes, state);
                }
                if goes != Some(true) {
                    come(&mut states, no, state);
                }
                continue;
            }
            Instruction::Return(k) if is_allowed(k) => continue,
            Instruction::ReturnAccumulator if state.a.is_some_and(is_allowed) => continue,
            Instruction::Return(_) | Instruction::ReturnAccumulator => return false,
        }
        come(&mut states, at + 1, state);
    }
    true
}
