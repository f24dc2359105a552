//! Micro-architecture levels (psABI x86-64, 3.1.1, table 3.1): a program that is shown one of them can be replayed on every
//! processor that has the level.
//!
//! Keeps: a bit of an answer that says something about instructions is shown only if the level has it. Bits that are unknown
//! here are not shown. So what a later processor adds cannot get into a portable trace.

use std::fmt;
use std::str::FromStr;

use super::{Answer, CpuidEntry, Table};

/// A level of the psABI.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// `x86-64-v2`: up to SSE4.2, processors since about 2009. `XGETBV` and `XSAVE` are not shown.
    V2,
    /// `x86-64-v3`: up to AVX2, FMA and BMI2, processors since about 2015.
    V3,
}

impl Level {
    /// All levels, ascending.
    pub const ALL: [Level; 2] = [Level::V2, Level::V3];

    /// Its name in the psABI.
    pub const fn name(self) -> &'static str {
        match self {
            Level::V2 => "x86-64-v2",
            Level::V3 => "x86-64-v3",
        }
    }

    /// Its number in the psABI.
    pub const fn number(self) -> u8 {
        match self {
            Level::V2 => 2,
            Level::V3 => 3,
        }
    }

    /// The level with this number.
    pub fn of_number(number: u8) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.number() == number)
    }

    /// The highest level that a processor with these answers has.
    pub fn of(table: &Table) -> Option<Level> {
        let mut levels = Level::ALL.into_iter().rev();
        levels.find(|level| level.everything().features_beyond(table).is_empty())
    }

    /// The answers of a processor that has the level and nothing else.
    fn everything(self) -> Table {
        let entry = |shown: &Shown| CpuidEntry {
            leaf: shown.leaf,
            sub: 0,
            answer: [ALL; 4],
        };
        let mut table = Table(FEATURES.iter().map(entry).collect());
        table.restrict(self);
        table
    }

    /// The components of extended state that its programs use (XCR0).
    pub const fn components(self) -> u64 {
        match self {
            Level::V2 => X87 | SSE,
            Level::V3 => X87 | SSE | AVX,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(name: &str) -> Result<Level, String> {
        let known = Level::ALL.into_iter().find(|level| level.name() == name);
        known.ok_or_else(|| {
            let names = Level::ALL.map(Level::name).join(" or ");
            format!("a level is {names}")
        })
    }
}

/// Components of extended state (Intel SDM vol. 1, 13.1).
const X87: u64 = 1 << 0;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;

/// The bits with these numbers.
const fn bits(numbers: &[u32]) -> u32 {
    let (mut all, mut n) = (0, 0);
    while n < numbers.len() {
        all |= 1 << numbers[n];
        n += 1;
    }
    all
}

/// Everything in a word.
const ALL: u32 = u32::MAX;

/// What levels have in the answer for a leaf.
struct Shown {
    leaf: u32,
    /// Bits that say nothing about instructions, or that all 64-bit processors have.
    always: Answer,
    /// Bits from a level on.
    from: &'static [(Level, Answer)],
}

/// The leaves that have features. Of other subleaves than 0 nothing is shown, except in leaf 13.
const FEATURES: [Shown; 5] = [
    Shown {
        leaf: 1,
        // ecx: a hypervisor is there. edx: the features of the first 64-bit processors, and the kernel's.
        always: [ALL, ALL, bits(&[31]), ALL],
        from: &[
            // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT
            (Level::V2, [0, 0, bits(&[0, 9, 13, 19, 20, 23]), 0]),
            // FMA, MOVBE, XSAVE, OSXSAVE, AVX, F16C
            (Level::V3, [0, 0, bits(&[12, 22, 26, 27, 28, 29]), 0]),
        ],
    },
    Shown {
        leaf: 7,
        // ebx: `rep movsb` is fast. edx: it is fast when it is short.
        always: [0, bits(&[9]), 0, bits(&[4])],
        // BMI1, AVX2, BMI2
        from: &[(Level::V3, [0, bits(&[3, 5, 8]), 0, 0])],
    },
    Shown {
        leaf: 0x8000_0001,
        // ecx: cores share a package, leaves about topology are there (both AMD). edx: AMD's copy of leaf 1, SYSCALL, NX,
        // pages of 1 GiB, 64-bit mode.
        always: [
            ALL,
            ALL,
            bits(&[1, 22]),
            bits(&[
                0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 20, 23, 24, 26, 29,
            ]),
        ],
        from: &[
            // LAHF and SAHF
            (Level::V2, [0, 0, bits(&[0]), 0]),
            // LZCNT
            (Level::V3, [0, 0, bits(&[5]), 0]),
        ],
    },
    Shown {
        // Sizes of addresses; CLZERO, RDPRU and others are in ebx.
        leaf: 0x8000_0008,
        always: [ALL, 0, ALL, ALL],
        from: &[],
    },
    Shown {
        // Intel PT and its PTWRITE.
        leaf: 0x14,
        always: [0; 4],
        from: &[],
    },
];

/// The leaf of extended state.
const STATE: u32 = 0xd;
/// The last leaves that are shown. Those behind are about later features.
const LAST: [u32; 2] = [STATE, 0x8000_001e];

impl Table {
    /// Shows nothing of the processor that is not part of the level.
    pub fn restrict(&mut self, level: Level) {
        self.0.retain(|entry| {
            LAST.iter()
                .all(|last| entry.leaf >> 16 != last >> 16 || entry.leaf <= *last)
        });
        for entry in &mut self.0 {
            let (leaf, sub) = (entry.leaf, entry.sub);
            let answer = &mut entry.answer;
            if LAST.iter().any(|last| leaf == last & 0x8000_0000) {
                let last = LAST[usize::from(leaf != 0)];
                answer[0] = answer[0].min(last);
            } else if leaf == STATE {
                *answer = state(level, sub, *answer);
            } else if let Some(shown) = FEATURES.iter().find(|shown| shown.leaf == leaf) {
                let is_first = shown.leaf != 7 || sub == 0;
                for (n, word) in answer.iter_mut().enumerate() {
                    let from = shown.from.iter().filter(|(from, _)| *from <= level);
                    let all = from.fold(shown.always[n], |all, (_, more)| all | more[n]);
                    *word &= if is_first { all } else { 0 };
                }
            }
        }
    }
}

/// The answer about extended state. The size of all components stays that of this processor: `XSAVE` cannot be told to
/// write less, so a program must have room for all that it writes.
fn state(level: Level, sub: u32, [eax, ebx, ecx, edx]: Answer) -> Answer {
    let components = level.components();
    match sub {
        // Programs must not save state if they are not shown `OSXSAVE`.
        _ if components & AVX == 0 => [0; 4],
        0 => [eax & components as u32, ebx, ecx, edx & (components >> 32) as u32],
        // XSAVEOPT, XSAVEC, XGETBV with ecx = 1, XSAVES
        1 => [0; 4],
        n if n < 64 && components >> n & 1 != 0 => [eax, ebx, ecx, edx],
        _ => [0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A processor that has everything, even what is not known today.
    fn everything() -> Table {
        Table::of(&|leaf, sub| match (leaf, sub) {
            (0, _) => [0x24, 1, 2, 3],
            (0x8000_0000, _) => [0x8000_00ff, 1, 2, 3],
            (4 | 0xb | 0x8000_001d, 3..) => [0; 4],
            (0xd, 0) => [0x602e7, 2696, 11008, 0],
            (0xd, 2) => [256, 576, 0, 0],
            _ => [u32::MAX; 4],
        })
    }

    /// Table 3.1 of the psABI (version 1.0 and later), by the names of `features_beyond`.
    #[test]
    fn levels_are_those_of_the_psabi() {
        let nothing = Table::default();
        let of = |level| {
            let mut table = everything();
            table.restrict(level);
            let mut names = table.features_beyond(&nothing);
            names.sort_unstable();
            names
        };
        let mut v2 = vec!["cx16", "lahf", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3"];
        assert_eq!(of(Level::V2), v2);
        v2.extend([
            "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe", "osxsave", "xsave",
        ]);
        v2.sort_unstable();
        assert_eq!(of(Level::V3), v2);
    }

    #[test]
    fn unknown_bits_and_leaves_are_not_shown() {
        let mut table = everything();
        table.restrict(Level::V3);
        assert_eq!(table.get(0, 0), Some([0xd, 1, 2, 3]));
        assert_eq!(table.get(0x8000_0000, 0), Some([0x8000_001e, 1, 2, 3]));
        assert_eq!(table.get(7, 0), Some([0, 0x328, 0, 0x10]), "and no other subleaf");
        assert_eq!(table.get(7, 1), Some([0; 4]));
        assert!(table.get(0x14, 0).is_none() && table.get(0x19, 0).is_none());
        assert!(table.get(0x8000_001f, 0).is_none());
        // What is not about instructions is the processor's.
        assert_eq!(table.get(2, 0), everything().get(2, 0));
        assert_eq!(table.get(0x8000_0002, 0), everything().get(0x8000_0002, 0));
        assert_eq!(table.get(0x8000_0007, 0), everything().get(0x8000_0007, 0));
    }

    #[test]
    fn state_is_that_of_the_level() {
        let mut v3 = everything();
        v3.restrict(Level::V3);
        assert_eq!(v3.state_components(), Some(7));
        assert_eq!(
            v3.get(0xd, 0),
            Some([7, 2696, 11008, 0]),
            "room for all that is written"
        );
        assert_eq!(v3.get(0xd, 1), Some([0; 4]));
        assert_eq!(v3.get(0xd, 2), Some([256, 576, 0, 0]));
        assert_eq!(v3.get(0xd, 5), Some([0; 4]));
        let mut v2 = everything();
        v2.restrict(Level::V2);
        assert_eq!(v2.state_components(), Some(0));
        assert_eq!(v2.get(0xd, 2), Some([0; 4]));
    }

    /// A processor has what it has: a level adds nothing.
    #[test]
    fn a_level_adds_nothing() {
        let old = |leaf, _| match leaf {
            0 => [1, 0, 0, 0],
            1 => [0x10676, 0, 1, 3],
            _ => [0; 4],
        };
        for level in Level::ALL {
            let mut table = Table::of(&old);
            table.restrict(level);
            assert_eq!(table, Table::of(&old), "{level}");
        }
        let mut here = Table::of_this_cpu();
        let all = here.clone();
        here.restrict(Level::V3);
        assert!(here.features_beyond(&all).is_empty());
    }

    #[test]
    fn a_processor_has_the_highest_level_that_it_has_all_of() {
        let all = everything();
        assert_eq!(Level::of(&all), Some(Level::V3));
        for level in Level::ALL {
            let mut table = all.clone();
            table.restrict(level);
            assert_eq!(Level::of(&table), Some(level));
            // Without CMPXCHG16B it is none.
            table.hide(&[super::super::Hidden {
                leaf: 1,
                sub: 0,
                bits: [0, 0, 1 << 13, 0],
            }]);
            assert_eq!(Level::of(&table), None);
        }
    }

    #[test]
    fn a_level_has_a_name_and_a_number() {
        for level in Level::ALL {
            assert_eq!(level.name().parse(), Ok(level));
            assert_eq!(Level::of_number(level.number()), Some(level));
        }
        assert!("x86-64-v4".parse::<Level>().is_err());
        assert_eq!(Level::of_number(0), None);
    }
}
