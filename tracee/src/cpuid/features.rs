//! The features of a processor that a program can use, as `CPUID` tells them: instructions of user code, by name.
//!
//! Features that concern the kernel alone, and those that only make something faster, are left out.

use super::{Answer, Table};

/// A register of an answer.
#[derive(Clone, Copy, Debug)]
enum Word {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

impl Word {
    fn of(self, answer: Answer) -> u32 {
        answer[self as usize]
    }
}

/// The names of bits.
type Names = &'static [(u32, &'static str)];

/// Features by leaf, subleaf and register, each by its bit.
const FEATURES: &[(u32, u32, Word, Names)] = &[
    (
        1,
        0,
        Word::Ecx,
        &[
            (0, "sse3"),
            (1, "pclmulqdq"),
            (9, "ssse3"),
            (12, "fma"),
            (13, "cx16"),
            (19, "sse4.1"),
            (20, "sse4.2"),
            (22, "movbe"),
            (23, "popcnt"),
            (25, "aes"),
            (26, "xsave"),
            (27, "osxsave"),
            (28, "avx"),
            (29, "f16c"),
            (30, "rdrand"),
        ],
    ),
    (
        7,
        0,
        Word::Ebx,
        &[
            (0, "fsgsbase"),
            (3, "bmi1"),
            (5, "avx2"),
            (8, "bmi2"),
            (11, "rtm"),
            (16, "avx512f"),
            (17, "avx512dq"),
            (18, "rdseed"),
            (19, "adx"),
            (21, "avx512ifma"),
            (23, "clflushopt"),
            (24, "clwb"),
            (26, "avx512pf"),
            (27, "avx512er"),
            (28, "avx512cd"),
            (29, "sha"),
            (30, "avx512bw"),
            (31, "avx512vl"),
        ],
    ),
    (
        7,
        0,
        Word::Ecx,
        &[
            (1, "avx512vbmi"),
            (5, "waitpkg"),
            (6, "avx512vbmi2"),
            (8, "gfni"),
            (9, "vaes"),
            (10, "vpclmulqdq"),
            (11, "avx512vnni"),
            (12, "avx512bitalg"),
            (14, "avx512vpopcntdq"),
            (22, "rdpid"),
            (25, "cldemote"),
            (27, "movdiri"),
            (28, "movdir64b"),
        ],
    ),
    (
        7,
        0,
        Word::Edx,
        &[
            (2, "avx512-4vnniw"),
            (3, "avx512-4fmaps"),
            (8, "avx512-vp2intersect"),
            (14, "serialize"),
            (16, "tsxldtrk"),
            (22, "amx-bf16"),
            (23, "avx512-fp16"),
            (24, "amx-tile"),
            (25, "amx-int8"),
        ],
    ),
    (
        7,
        1,
        Word::Eax,
        &[
            (0, "sha512"),
            (1, "sm3"),
            (2, "sm4"),
            (4, "avx-vnni"),
            (5, "avx512-bf16"),
            (7, "cmpccxadd"),
            (21, "amx-fp16"),
            (23, "avx-ifma"),
        ],
    ),
    (
        7,
        1,
        Word::Edx,
        &[
            (4, "avx-vnni-int8"),
            (5, "avx-ne-convert"),
            (10, "avx-vnni-int16"),
            (19, "avx10"),
            (21, "apx"),
        ],
    ),
    (
        0xd,
        1,
        Word::Eax,
        &[(0, "xsaveopt"), (1, "xsavec"), (2, "xgetbv1")],
    ),
    (
        0x8000_0001,
        0,
        Word::Ecx,
        &[
            (0, "lahf"),
            (5, "lzcnt"),
            (6, "sse4a"),
            (8, "prefetchw"),
            (11, "xop"),
            (16, "fma4"),
            (21, "tbm"),
        ],
    ),
    (
        0x8000_0001,
        0,
        Word::Edx,
        &[(22, "mmxext"), (27, "rdtscp"), (30, "3dnowext"), (31, "3dnow")],
    ),
    (0x8000_0008, 0, Word::Ebx, &[(0, "clzero"), (4, "rdpru")]),
];

impl Table {
    /// The names of the features that this table has and `other` has not.
    pub fn features_beyond(&self, other: &Table) -> Vec<&'static str> {
        let mut missing = Vec::new();
        for (leaf, sub, word, names) in FEATURES {
            let bits = |table: &Table| table.get(*leaf, *sub).map_or(0, |answer| word.of(answer));
            let lost = bits(self) & !bits(other);
            missing.extend(
                names
                    .iter()
                    .filter(|(bit, _)| lost >> bit & 1 != 0)
                    .map(|(_, name)| *name),
            );
        }
        missing
    }

    /// Returns whether the kernel can save and set extended state as a whole, which rr needs: `OSXSAVE` (Intel SDM vol. 1, 13.2), on
    /// processors since about 2011.
    pub fn has_extended_state(&self) -> bool {
        const OSXSAVE: u32 = 1 << 27;
        self.get(1, 0).is_some_and(|[_, _, ecx, _]| ecx & OSXSAVE != 0)
    }

    /// The components of extended state that programs can use (XCR0), if the table has them.
    pub fn state_components(&self) -> Option<u64> {
        let [eax, _, _, edx] = self.get(0xd, 0)?;
        Some(u64::from(edx) << 32 | u64::from(eax))
    }

    /// The components of extended state beyond SSE, each with its size and its offset, which are not the same on all processors.
    pub fn state_places(&self) -> Vec<(u32, u32, u32)> {
        let entries = self.0.iter().filter(|entry| entry.leaf == 0xd && entry.sub >= 2);
        let places = entries.map(|entry| (entry.sub, entry.answer[0], entry.answer[1]));
        // The kernel's have no offset.
        places.filter(|(_, _, offset)| *offset != 0).collect()
    }

    /// The name of the processor's maker, as its answer has it.
    pub fn vendor(&self) -> Option<[u32; 3]> {
        let [_, ebx, ecx, edx] = self.get(0, 0)?;
        Some([ebx, edx, ecx])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(answers: &[(u32, Answer)]) -> Table {
        Table::of(&|leaf, sub| {
            let known = answers
                .iter()
                .find(|(of, _)| *of == leaf && (sub == 0 || leaf != 7));
            known.map_or([0; 4], |(_, answer)| *answer)
        })
    }

    #[test]
    fn what_is_missing_has_a_name() {
        let new = table(&[
            (0, [7, 0, 0, 0]),
            (1, [0, 0, 1 << 28 | 1, 0]),
            (7, [0, 1 << 16, 1 << 4, 0]),
        ]);
        let old = table(&[(0, [7, 0, 0, 0]), (1, [0, 0, 1, 0]), (7, [0, 1 << 5, 0, 0])]);
        assert_eq!(
            new.features_beyond(&old),
            ["avx", "avx512f"],
            "and nothing of the kernel's"
        );
        assert_eq!(old.features_beyond(&new), ["avx2"]);
        assert!(new.features_beyond(&new).is_empty());
        let oldest = table(&[(0, [1, 0, 0, 0]), (1, [0, 0, 1, 0])]);
        assert_eq!(old.features_beyond(&oldest), ["avx2"]);
        assert_eq!(oldest.state_components(), None);
    }

    #[test]
    fn a_bit_has_one_name() {
        let mut bits: Vec<(u32, u32, usize, u32)> = Vec::new();
        for (leaf, sub, word, names) in FEATURES {
            bits.extend(names.iter().map(|(bit, _)| (*leaf, *sub, *word as usize, *bit)));
        }
        let count = bits.len();
        bits.sort_unstable();
        bits.dedup();
        assert_eq!(bits.len(), count);
    }
}
