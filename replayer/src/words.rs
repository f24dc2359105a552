//! The words that our code in a task uses: the end of the parameter page, which is used for nothing
//! else.
//!
//! ```text
//! COUNTS   counters, the goal, the last pass: given and taken at each stop (`passes`)
//! KEPT_OFF places that a condition does not read: given at each stop
//! STACK    the values of a condition (`condition`)
//! SAVED_…  what the code restores
//! ```
//!
//! Invariant: the page lies below 2 GiB, so each word has a 32-bit address and needs no register. The
//! words are valid only while a task runs, and one task runs at a time (I1).

use rr_tracee::ids::PAGE;
use rr_tracee::{Addr, rr_area};

const END: u64 = rr_area::PARAM.0 + PAGE;

/// Addresses where the code saves registers and flags of the program.
pub(crate) const SAVED_FLAGS: u32 = (END - 8) as u32;
pub(crate) const SAVED_RAX: u32 = (END - 16) as u32;
pub(crate) const SAVED_RCX: u32 = (END - 24) as u32;
pub(crate) const SAVED_RDX: u32 = (END - 32) as u32;

/// Address of the counters of counting stubs.
pub(crate) const COUNTS: Addr = Addr(END - 512);
/// Maximum number of stubs that count at a time.
pub(crate) const COUNTERS: usize = 24;
/// Words behind the counters: number of passes of the goal, times 256; number of the last passed stub,
/// plus the word before at that time; number of times that the goal must still be met.
pub(crate) const GOALS: usize = COUNTERS;
pub(crate) const LAST: usize = COUNTERS + 1;
pub(crate) const LEFT: usize = COUNTERS + 2;
/// Words behind these: address and length of each range that a condition does not read.
pub(crate) const KEPT_OFF: usize = COUNTERS + 3;
/// Number of these ranges.
pub(crate) const RANGES: usize = 4;
/// Number of all these words.
pub(crate) const COUNT_WORDS: usize = KEPT_OFF + 2 * RANGES;

/// Address of the values of a condition.
const STACK: u64 = COUNTS.0 + 8 * COUNT_WORDS as u64;
/// Maximum number of values of a condition at a time.
pub(crate) const STACK_MOST: usize = 16;
const _: () = assert!(STACK + 8 * STACK_MOST as u64 <= SAVED_RDX as u64);

/// The address of a word from [`COUNTS`] on.
pub(crate) fn count_word(n: usize) -> u32 {
    (COUNTS.0 + 8 * n as u64) as u32
}

/// Address where a stub stores if a condition was true, after the values have been used.
pub(crate) const IS_TRUE: u32 = STACK as u32;

/// The address of a value of a condition.
pub(crate) fn stack_word(n: usize) -> u32 {
    (STACK + 8 * n as u64) as u32
}
