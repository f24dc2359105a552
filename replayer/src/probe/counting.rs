//! Counting stubs at breakpoints: their settings, and when they trap.

use std::sync::Arc;

use rr_tracee::{Addr, Registers};

use crate::condition::Program;

/// Settings of a counting stub.
#[derive(Clone, Debug)]
pub(crate) struct Counting<'a> {
    /// Index of the stub's counter.
    pub counter: usize,
    /// True if the stub notes that it was the last one passed.
    pub is_noted: bool,
    /// True if the stub is at the goal.
    pub is_goal: bool,
    /// Condition under which the stub traps, before it counts.
    pub end: End<'a>,
    /// Conditions of the breakpoint. If one of them cannot be evaluated in the task, the stub also
    /// traps before it counts.
    pub conditions: &'a [Arc<Program>],
    /// Action if one of the conditions is true.
    pub where_true: WhereTrue,
}

/// Action of a task at a breakpoint with a condition that is true.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum WhereTrue {
    /// The task stops.
    #[default]
    Stops,
    /// The stub notes that it was the last one passed. If no condition is true, it notes nothing.
    Notes,
}

impl Counting<'_> {
    /// True if the stub notes the last pass, or the last pass with a true condition.
    pub(super) fn notes(&self) -> bool {
        match self.conditions {
            [] => self.is_noted,
            _ => self.where_true == WhereTrue::Notes,
        }
    }
}

/// Condition under which a counting stub traps.
#[derive(Clone, Debug)]
pub(crate) enum End<'a> {
    /// The stub never traps.
    Never,
    /// The stub traps when the goal has been met the requested number of times.
    Enough,
    /// The stub traps when the registers and words are equal to these.
    State(&'a Registers, &'a [(Addr, u64)]),
}
