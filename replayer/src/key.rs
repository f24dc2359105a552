//! The key of an execution point: the one register or word that best distinguishes it from other passes
//! of its instruction.
//!
//! A probe compares the key first, so that nearly all passes cost almost nothing. The key is chosen
//! from the first passes. The best key has another value each time and never an old one, like the count
//! of all turns. The count of an inner loop comes back, and a value that stays the same for long
//! distinguishes little. Invariant: a key decides only how quickly a pass is rejected. Whatever the key
//! is, the point is the pass where the whole state is equal (I7).

use std::collections::BTreeSet;

use rr_tracee::{Addr, Registers};

/// Number of passes before a key is chosen. If a task stops more often at a breakpoint in one interval,
/// it gets a copy of the instruction ([`crate::passes`]), which would be wasted here.
pub(crate) const SAMPLES: usize = 4;

/// The place of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// The register with this number in machine code.
    Register(u8),
    /// The word at this address.
    Word(Addr),
}

/// A key, and its lower half at the point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    pub place: Place,
    pub value: u32,
}

/// The lower halves of registers and words at one pass.
#[derive(Clone, Debug)]
pub(crate) struct Sample(Vec<(Place, u32)>);

impl Sample {
    /// A sample of registers, and of words that can always be read during the search.
    pub fn new(regs: &Registers, words: &[(Addr, u64)]) -> Sample {
        let registers = std::iter::once((0, regs.rax)).chain(numbered(regs));
        let registers = registers.map(|(number, value)| (Place::Register(number), value as u32));
        let words = words
            .iter()
            .map(|(addr, value)| (Place::Word(*addr), *value as u32));
        Sample(registers.chain(words).collect())
    }

    fn at(&self, place: Place) -> Option<u32> {
        let found = self.0.iter().find(|(known, _)| *known == place);
        found.map(|(_, value)| *value)
    }
}

impl Key {
    /// The best key for a point, from the samples of consecutive passes. `None` if all passes were
    /// equal to the point.
    pub fn choose(point: &Sample, seen: &[Sample]) -> Option<Key> {
        let mut best: Option<(Worth, Key)> = None;
        for (place, value) in &point.0 {
            let values: Option<Vec<u32>> = seen.iter().map(|sample| sample.at(*place)).collect();
            let Some(worth) = values.and_then(|values| Worth::of(*value, &values)) else {
                continue;
            };
            // Registers are tried first, because they cost less.
            if best.as_ref().is_none_or(|(before, _)| worth > *before) {
                let key = Key {
                    place: *place,
                    value: *value,
                };
                best = Some((worth, key));
            }
        }
        best.map(|(_, key)| key)
    }
}

/// A measure of how well a value distinguishes a point from other passes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Worth {
    /// Number of different values, including that of the point.
    different: usize,
    /// Minimum number of passes until the value of the point comes, if the value changes as before.
    passes: u32,
}

impl Worth {
    /// `None` if the value was always that of the point.
    fn of(point: u32, values: &[u32]) -> Option<Worth> {
        let different = values.iter().chain([&point]).collect::<BTreeSet<_>>().len();
        if different < 2 {
            return None;
        }
        let mut steps = values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]) as i32);
        let first = steps.next().unwrap_or(0);
        let passes = match values.last() {
            Some(last) if first != 0 && steps.all(|step| step == first) => {
                let way = point.wrapping_sub(*last);
                let way = if first < 0 { way.wrapping_neg() } else { way };
                way / first.unsigned_abs()
            }
            _ => u32::MAX,
        };
        Some(Worth { different, passes })
    }
}

/// The registers that a stub compares in place, with their numbers in machine code: all but `rax`.
pub(crate) fn numbered(r: &Registers) -> [(u8, u64); 15] {
    [
        (1, r.rcx),
        (2, r.rdx),
        (3, r.rbx),
        (6, r.rsi),
        (7, r.rdi),
        (5, r.rbp),
        (4, r.rsp),
        (8, r.r8),
        (9, r.r9),
        (10, r.r10),
        (11, r.r11),
        (12, r.r12),
        (13, r.r13),
        (14, r.r14),
        (15, r.r15),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORD: Addr = Addr(0x1000);

    fn sample(rbx: u64, rcx: u64, word: u64) -> Sample {
        let regs = Registers {
            rbx,
            rcx,
            ..Registers::default()
        };
        Sample::new(&regs, &[(WORD, word)])
    }

    fn chosen(point: &Sample, seen: &[Sample]) -> Option<(Place, u32)> {
        Key::choose(point, seen).map(|key| (key.place, key.value))
    }

    #[test]
    fn the_count_of_all_turns_is_better_than_that_of_an_inner_loop() {
        let seen: Vec<Sample> = (0..4).map(|n| sample(n, 7, 2 * n)).collect();
        let point = sample(900, 8, 2_000_000_000);
        assert_eq!(chosen(&point, &seen), Some((Place::Word(WORD), 2_000_000_000)));
    }

    #[test]
    fn what_counts_down_is_as_good() {
        let seen: Vec<Sample> = (0..4).map(|n| sample(5_000_000 - n, 7, 1)).collect();
        assert_eq!(chosen(&sample(17, 7, 1), &seen), Some((Place::Register(3), 17)));
    }

    #[test]
    fn of_two_that_tell_as_much_the_register_is_taken() {
        let seen: Vec<Sample> = (0..4).map(|n| sample(n * n, 7, n * n)).collect();
        assert_eq!(chosen(&sample(1, 7, 81), &seen), Some((Place::Word(WORD), 81)));
        assert_eq!(chosen(&sample(81, 7, 81), &seen), Some((Place::Register(3), 81)));
    }

    #[test]
    fn where_all_is_as_at_the_point_there_is_none() {
        let seen = vec![sample(1, 2, 3); 4];
        assert_eq!(chosen(&sample(1, 2, 3), &seen), None);
        assert_eq!(chosen(&sample(1, 5, 3), &seen), Some((Place::Register(1), 5)));
    }
}
