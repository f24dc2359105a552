//! A condition on its own, for tests.

use std::sync::Arc;

use rr_tracee::Addr;

use super::counting::WhereTrue;
use super::emit::{INT3, evaluate, restore, save};
use crate::condition::Program;

/// Code that evaluates a condition and traps in either case. It does the same as a stub, but without
/// the program's instructions.
#[doc(hidden)]
#[derive(Debug)]
pub struct Trial {
    /// The code.
    pub code: Vec<u8>,
    /// Offset of the `int3` for a condition that is true.
    pub yes: usize,
    /// Offset where a task continues if the condition could not read memory.
    pub after_fault: usize,
    /// Offset of the `int3` for a condition that is false.
    pub no: usize,
}

impl Trial {
    /// Makes the code for a breakpoint at `at`.
    pub fn of(program: &Arc<Program>, at: Addr) -> Option<Trial> {
        let mut code = Vec::new();
        save(&mut code);
        let (after_fault, yes) = evaluate(&mut code, std::slice::from_ref(program), at, WhereTrue::Stops)?;
        restore(&mut code);
        let no = code.len();
        code.push(INT3);
        Some(Trial {
            code,
            yes,
            after_fault,
            no,
        })
    }
}
