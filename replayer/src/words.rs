//! The words that code of ours in a task works with: the end of the parameter page, which nobody else uses.
//!
//! ```text
//! COUNTS   counters, the goal, the last pass: given and taken at each stop (`passes`)
//! KEPT_OFF places that a condition does not read: given at each stop
//! STACK    the values of a condition (`condition`)
//! SAVED_…  what the code restores
//! ```
//!
//! Keeps: the page lies below 2 GiB, so each word is reached by a 32-bit address without a register. The words mean
//! something only while a task runs, and one task runs at a time (I1).

use rr_tracee::ids::PAGE;
use rr_tracee::{Addr, rr_area};

const END: u64 = rr_area::PARAM.0 + PAGE;

/// Where the code keeps registers and flags of the program.
pub(crate) const SAVED_FLAGS: u32 = (END - 8) as u32;
pub(crate) const SAVED_RAX: u32 = (END - 16) as u32;
pub(crate) const SAVED_RCX: u32 = (END - 24) as u32;
pub(crate) const SAVED_RDX: u32 = (END - 32) as u32;

/// What counting stubs count in.
pub(crate) const COUNTS: Addr = Addr(END - 512);
/// So many stubs can count at a time.
pub(crate) const COUNTERS: usize = 24;
/// Behind the counters: how often the goal was passed, times 256; the number of the stub that was passed last, plus the
/// word before at that time; how often the goal is still to be met.
pub(crate) const GOALS: usize = COUNTERS;
pub(crate) const LAST: usize = COUNTERS + 1;
pub(crate) const LEFT: usize = COUNTERS + 2;
/// Behind them: the address and the length of each range that a condition does not read.
pub(crate) const KEPT_OFF: usize = COUNTERS + 3;
/// So many ranges there are.
pub(crate) const RANGES: usize = 4;
/// All of these words.
pub(crate) const COUNT_WORDS: usize = KEPT_OFF + 2 * RANGES;

/// Where the values of a condition lie.
const STACK: u64 = COUNTS.0 + 8 * COUNT_WORDS as u64;
/// So many values a condition has at a time.
pub(crate) const STACK_MOST: usize = 16;
const _: () = assert!(STACK + 8 * STACK_MOST as u64 <= SAVED_RDX as u64);

/// The address of a word from [`COUNTS`] on.
pub(crate) fn count_word(n: usize) -> u32 {
    (COUNTS.0 + 8 * n as u64) as u32
}

/// Where a stub keeps whether a condition was true, once the values are done with.
pub(crate) const IS_TRUE: u32 = STACK as u32;

/// The address of a value of a condition.
pub(crate) fn stack_word(n: usize) -> u32 {
    (STACK + 8 * n as u64) as u32
}
