//! Calls that filters allow whatever their arguments: those the library may go on making without a stop.
//!
//! Keeps: a call of a number in the set is allowed by each filter, from each place and with any arguments. Nothing is known of a
//! number that is not in the set: such a call is traced, and the filters are asked.

use rr_preload::layout::ALLOWED_WORDS;

use super::program::Program;
use super::run;
use super::verdict::{Arch, Verdict};

/// A set of numbers of calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowed([u64; ALLOWED_WORDS]);

impl Default for Allowed {
    fn default() -> Allowed {
        Allowed::ALL
    }
}

impl Allowed {
    /// All that the library knows.
    pub const ALL: Allowed = Allowed([!0; ALLOWED_WORDS]);

    /// Those that a filter allows.
    pub(super) fn by(program: &Program) -> Allowed {
        let mut words = [0; ALLOWED_WORDS];
        for number in 0..ALLOWED_WORDS as u32 * u64::BITS {
            // Of `struct seccomp_data`: the number and the architecture.
            let mut known = [None; super::program::DATA];
            known[0] = Some(number);
            known[1] = Some(Arch::X86_64 as u32);
            if run::always_allows(program, &known, |answer| Verdict::of(answer) == Verdict::Allow) {
                words[(number / u64::BITS) as usize] |= 1 << (number % u64::BITS);
            }
        }
        Allowed(words)
    }

    /// Leaves those that are in the other set, too.
    pub(super) fn restrict(&mut self, other: &Allowed) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word &= other;
        }
    }

    /// As the library has it (`rr_preload::layout::Control::allowed`).
    pub fn words(&self) -> [u64; ALLOWED_WORDS] {
        self.0
    }
}
