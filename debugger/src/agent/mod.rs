//! Conditions of breakpoints: agent expressions (GDB manual, "The GDB Agent Expression Mechanism").
//!
//! A small stack machine over the registers and the memory of the thread at the breakpoint. It ends after
//! [`MAX_STEPS`] steps whatever the code is; an evaluation that goes wrong counts as true, so that the user sees a stop too
//! many and not one too few. Most expressions are made programs, too, which the task evaluates itself (`compile`).

mod compile;
mod opcode;

use std::fmt;
use std::sync::Arc;

use rr_replayer::condition::Program;
use rr_tracee::{Addr, Registers};

use crate::registers;
use crate::target::Condition;

/// The number of steps that an evaluation may take.
pub const MAX_STEPS: usize = 10_000;
/// The number of values that may lie on the stack.
const MAX_STACK: usize = 128;

/// An expression as gdb sends it.
#[derive(Clone, PartialEq, Eq)]
pub struct Expression {
    code: Vec<u8>,
    /// The same for the task, if it can be said so.
    program: Option<Arc<Program>>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({})", crate::hex::encode(&self.code))
    }
}

/// The reasons why an evaluation stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AgentError {
    /// The code ends, or jumps, beyond its end.
    #[error("the code of the condition is cut short")]
    Truncated,
    /// There is no value where one is needed.
    #[error("the condition takes a value from an empty stack")]
    Underflow,
    /// There are too many values.
    #[error("the condition needs more than {MAX_STACK} values at a time")]
    Overflow,
    /// The loop does not end.
    #[error("the condition takes more than {MAX_STEPS} steps")]
    TooLong,
    /// An operation that does not exist, or that needs a tracepoint.
    #[error("the condition has the operation {0:#x}, which conditions cannot have")]
    Unsupported(u8),
    /// A register that conditions cannot see.
    #[error("the condition uses register {0}")]
    Register(u16),
    /// Memory that cannot be read.
    #[error("the condition reads memory at {0}, where there is none")]
    Memory(Addr),
    /// A division by zero.
    #[error("the condition divides by zero")]
    DivisionByZero,
}

impl Expression {
    /// The expression of this code.
    pub fn new(code: Vec<u8>) -> Expression {
        let program = compile::compile(&code).map(Arc::new);
        Expression { code, program }
    }

    /// Evaluates an expression.
    pub fn evaluate(
        &self,
        registers: &Registers,
        read: &mut dyn FnMut(Addr, &mut [u8]) -> bool,
    ) -> Result<u64, AgentError> {
        let mut machine = Machine {
            code: &self.code,
            at: 0,
            stack: Vec::new(),
            registers,
            read,
        };
        for _ in 0..MAX_STEPS {
            if !machine.step()? {
                return machine.pop();
            }
        }
        Err(AgentError::TooLong)
    }
}

impl Condition for Expression {
    fn program(&self) -> Option<Arc<Program>> {
        self.program.clone()
    }

    fn holds(&self, registers: &Registers, read: &mut dyn FnMut(Addr, &mut [u8]) -> bool) -> bool {
        self.evaluate(registers, read).unwrap_or_else(|e| {
            tracing::debug!("{e}");
            1
        }) != 0
    }
}

struct Machine<'a> {
    code: &'a [u8],
    at: usize,
    stack: Vec<u64>,
    registers: &'a Registers,
    read: &'a mut dyn FnMut(Addr, &mut [u8]) -> bool,
}

impl Machine<'_> {
    /// The next `N` bytes of code.
    fn operand<const N: usize>(&mut self) -> Result<[u8; N], AgentError> {
        let bytes = self.code.get(self.at..).and_then(|rest| rest.first_chunk());
        self.at += N;
        bytes.copied().ok_or(AgentError::Truncated)
    }

    fn byte(&mut self) -> Result<u8, AgentError> {
        self.operand::<1>().map(|[byte]| byte)
    }

    fn half(&mut self) -> Result<u16, AgentError> {
        self.operand().map(u16::from_be_bytes)
    }

    fn pop(&mut self) -> Result<u64, AgentError> {
        self.stack.pop().ok_or(AgentError::Underflow)
    }

    fn push(&mut self, value: u64) -> Result<(), AgentError> {
        if self.stack.len() == MAX_STACK {
            return Err(AgentError::Overflow);
        }
        self.stack.push(value);
        Ok(())
    }

    /// `a b ⇒ f(a, b)`
    fn binary(&mut self, f: impl Fn(u64, u64) -> u64) -> Result<(), AgentError> {
        let b = self.pop()?;
        let a = self.pop()?;
        self.push(f(a, b))
    }

    fn divide(&mut self, f: impl Fn(u64, u64) -> Option<u64>) -> Result<(), AgentError> {
        let b = self.pop()?;
        let a = self.pop()?;
        self.push(f(a, b).ok_or(AgentError::DivisionByZero)?)
    }

    fn load(&mut self, len: usize) -> Result<(), AgentError> {
        let addr = Addr(self.pop()?);
        let mut bytes = [0; 8];
        let wanted = bytes.get_mut(..len).ok_or(AgentError::Memory(addr))?;
        if !(self.read)(addr, wanted) {
            return Err(AgentError::Memory(addr));
        }
        self.push(u64::from_le_bytes(bytes))
    }

    /// One operation; false at the end.
    fn step(&mut self) -> Result<bool, AgentError> {
        let op = self.byte()?;
        match op {
            opcode::ADD => self.binary(u64::wrapping_add)?,
            opcode::SUB => self.binary(u64::wrapping_sub)?,
            opcode::MUL => self.binary(u64::wrapping_mul)?,
            opcode::DIV_SIGNED => self.divide(|a, b| signed(a, b, i64::checked_div, i64::wrapping_div))?,
            opcode::DIV_UNSIGNED => self.divide(u64::checked_div)?,
            opcode::REM_SIGNED => self.divide(|a, b| signed(a, b, i64::checked_rem, i64::wrapping_rem))?,
            opcode::REM_UNSIGNED => self.divide(u64::checked_rem)?,
            opcode::LSH => self.binary(|a, b| if b < 64 { a << b } else { 0 })?,
            opcode::RSH_SIGNED => self.binary(|a, b| (a.cast_signed() >> b.min(63)).cast_unsigned())?,
            opcode::RSH_UNSIGNED => self.binary(|a, b| if b < 64 { a >> b } else { 0 })?,
            opcode::LOG_NOT => {
                let a = self.pop()?;
                self.push(u64::from(a == 0))?;
            }
            opcode::BIT_AND => self.binary(|a, b| a & b)?,
            opcode::BIT_OR => self.binary(|a, b| a | b)?,
            opcode::BIT_XOR => self.binary(|a, b| a ^ b)?,
            opcode::BIT_NOT => {
                let a = self.pop()?;
                self.push(!a)?;
            }
            opcode::EQUAL => self.binary(|a, b| u64::from(a == b))?,
            opcode::LESS_SIGNED => self.binary(|a, b| u64::from(a.cast_signed() < b.cast_signed()))?,
            opcode::LESS_UNSIGNED => self.binary(|a, b| u64::from(a < b))?,
            opcode::EXT => {
                let unused = unused_bits(self.byte()?);
                let a = self.pop()?;
                self.push(((a << unused).cast_signed() >> unused).cast_unsigned())?;
            }
            opcode::ZERO_EXT => {
                let bits = self.byte()?;
                let a = self.pop()?;
                self.push(if bits == 0 {
                    0
                } else {
                    a << unused_bits(bits) >> unused_bits(bits)
                })?;
            }
            opcode::REF8 => self.load(1)?,
            opcode::REF16 => self.load(2)?,
            opcode::REF32 => self.load(4)?,
            opcode::REF64 => self.load(8)?,
            opcode::IF_GOTO => {
                let to = self.half()?;
                if self.pop()? != 0 {
                    self.at = usize::from(to);
                }
            }
            opcode::GOTO => self.at = usize::from(self.half()?),
            opcode::CONST8 => {
                let value = self.byte()?;
                self.push(u64::from(value))?;
            }
            opcode::CONST16 => {
                let value = self.half()?;
                self.push(u64::from(value))?;
            }
            opcode::CONST32 => {
                let value = u32::from_be_bytes(self.operand()?);
                self.push(u64::from(value))?;
            }
            opcode::CONST64 => {
                let value = u64::from_be_bytes(self.operand()?);
                self.push(value)?;
            }
            opcode::REG => {
                let number = self.half()?;
                let value = registers::general(self.registers, usize::from(number));
                self.push(value.ok_or(AgentError::Register(number))?)?;
            }
            opcode::END => return Ok(false),
            opcode::DUP => self.pick(0)?,
            opcode::POP => {
                self.pop()?;
            }
            opcode::SWAP => {
                let (b, a) = (self.pop()?, self.pop()?);
                self.push(b)?;
                self.push(a)?;
            }
            opcode::PICK => {
                let n = usize::from(self.byte()?);
                self.pick(n)?;
            }
            opcode::ROT => {
                let (c, b, a) = (self.pop()?, self.pop()?, self.pop()?);
                self.stack.extend([c, a, b]);
            }
            _ => return Err(AgentError::Unsupported(op)),
        }
        Ok(true)
    }

    /// Pushes the value that lies `n` below the top.
    fn pick(&mut self, n: usize) -> Result<(), AgentError> {
        let at = self.stack.len().checked_sub(n + 1).ok_or(AgentError::Underflow)?;
        self.push(self.stack[at])
    }
}

fn signed(
    a: u64,
    b: u64,
    checked: fn(i64, i64) -> Option<i64>,
    wrapping: fn(i64, i64) -> i64,
) -> Option<u64> {
    let (a, b) = (a.cast_signed(), b.cast_signed());
    // The smallest number by −1 is an overflow, and no error.
    let result = if b == -1 {
        Some(wrapping(a, b))
    } else {
        checked(a, b)
    };
    result.map(i64::cast_unsigned)
}

/// The number of bits that a value of `bits` bits leaves unused.
fn unused_bits(bits: u8) -> u32 {
    63 & 64u32.saturating_sub(u32::from(bits))
}

#[cfg(test)]
mod native;
#[cfg(test)]
mod tests;
