//! Calls that the filters allow whatever their arguments: the library may go on making these without a
//! stop.
//!
//! Invariant: if a number is in the set, every filter allows the call from every address and with any
//! arguments. If a number is not in the set, nothing is known of it: such a call is traced, and the
//! filters are asked.

use rr_preload::layout::ALLOWED_WORDS;

use crate::seccomp::program::Program;
use crate::seccomp::run;
use crate::seccomp::verdict::{Arch, Verdict};

/// A set of system call numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowed([u64; ALLOWED_WORDS]);

impl Default for Allowed {
    fn default() -> Allowed {
        Allowed::ALL
    }
}

impl Allowed {
    /// All numbers that the library knows.
    pub const ALL: Allowed = Allowed([!0; ALLOWED_WORDS]);

    /// Returns the numbers of the calls that a filter always allows.
    pub(super) fn by(program: &Program) -> Allowed {
        let mut words = [0; ALLOWED_WORDS];
        for number in 0..ALLOWED_WORDS as u32 * u64::BITS {
            // The first two words of `struct seccomp_data`: the number and the architecture.
            let mut known = [None; crate::seccomp::program::DATA];
            known[0] = Some(number);
            known[1] = Some(Arch::X86_64 as u32);
            if run::always_allows(program, &known, |answer| Verdict::of(answer) == Verdict::Allow) {
                words[(number / u64::BITS) as usize] |= 1 << (number % u64::BITS);
            }
        }
        Allowed(words)
    }

    /// Removes the numbers that are not in the other set.
    pub(super) fn restrict(&mut self, other: &Allowed) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word &= other;
        }
    }

    /// Returns the set in the form that the library uses (`rr_preload::layout::Control::allowed`).
    pub fn words(&self) -> [u64; ALLOWED_WORDS] {
        self.0
    }
}
