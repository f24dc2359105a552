//! A condition by itself, for tests.

use std::sync::Arc;

use rr_tracee::Addr;

use super::counting::WhereTrue;
use super::emit::{INT3, evaluate, restore, save};
use crate::condition::Program;

/// Code that evaluates a condition and traps in either case, for tests: what a stub does, but for the program's
/// instructions.
#[doc(hidden)]
#[derive(Debug)]
pub struct Trial {
    /// The code.
    pub code: Vec<u8>,
    /// The `int3` where the condition is true.
    pub yes: usize,
    /// Where a task goes on that could not read something.
    pub after_fault: usize,
    /// The `int3` where it is false.
    pub no: usize,
}

impl Trial {
    /// The code for a breakpoint at `at`.
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
