//! What a stub at a breakpoint counts, and when it traps.

use std::sync::Arc;

use rr_tracee::{Addr, Registers};

use crate::condition::Program;

/// What a stub counts.
#[derive(Clone, Debug)]
pub(crate) struct Counting<'a> {
    /// The number of its counter.
    pub counter: usize,
    /// Whether it notes that it was passed last.
    pub is_noted: bool,
    /// Whether it is at the goal.
    pub is_goal: bool,
    /// When it traps, before it counts.
    pub end: End<'a>,
    /// Where one of these cannot be told, it traps, too, before it counts.
    pub conditions: &'a [Arc<Program>],
    /// What it does where one is true.
    pub where_true: WhereTrue,
}

/// What a task does at a breakpoint with a condition that is true.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum WhereTrue {
    /// It stops.
    #[default]
    Stops,
    /// It notes that it was there last. Where no condition is true it notes nothing.
    Notes,
}

impl Counting<'_> {
    /// Whether it notes the last pass, or the last one where a condition is true.
    pub(super) fn notes(&self) -> bool {
        match self.conditions {
            [] => self.is_noted,
            _ => self.where_true == WhereTrue::Notes,
        }
    }
}

/// When a counting stub traps.
#[derive(Clone, Debug)]
pub(crate) enum End<'a> {
    /// Never.
    Never,
    /// When the goal has been met as often as it is to be met.
    Enough,
    /// When the registers and words are these.
    State(&'a Registers, &'a [(Addr, u64)]),
}
