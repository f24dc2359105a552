//! Features that a recorded program is not shown: bits that are cleared in the answers of `CPUID`.

use super::{Answer, Table};

/// Bits to clear in the answer for one leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hidden {
    /// The leaf.
    pub leaf: u32,
    /// Its subleaf.
    pub sub: u32,
    /// The bits of `eax`, `ebx`, `ecx` and `edx`.
    pub bits: Answer,
}

impl Hidden {
    /// Instructions whose results rr cannot record: transactions (HLE, RTM, TSXLDTRK), which end as it happens, and
    /// waiting for a time or a write (WAITPKG).
    pub const UNRECORDED: [Hidden; 1] = [Hidden {
        leaf: 7,
        sub: 0,
        bits: [0, 1 << 4 | 1 << 11, 1 << 5, 1 << 16],
    }];

    /// Everything that belongs to AVX-512.
    pub const AVX_512: [Hidden; 2] = [
        Hidden {
            leaf: 7,
            sub: 0,
            bits: [
                0,
                1 << 16 | 1 << 17 | 1 << 21 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31,
                1 << 1 | 1 << 6 | 1 << 11 | 1 << 12 | 1 << 14,
                1 << 2 | 1 << 3 | 1 << 8 | 1 << 23,
            ],
        },
        Hidden {
            leaf: 7,
            sub: 1,
            bits: [1 << 5, 0, 0, 1 << 19],
        },
    ];
}

impl Table {
    /// Clears these bits. (Leaves that have features are in every table whose processor has them.)
    pub fn hide(&mut self, hidden: &[Hidden]) {
        for Hidden { leaf, sub, bits } in hidden {
            let entries = self.0.iter_mut().filter(|entry| entry.is_for(*leaf, *sub));
            for entry in entries {
                for (word, bits) in entry.answer.iter_mut().zip(bits) {
                    *word &= !bits;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_these_bits_are_cleared() {
        let mut table = Table::of(&|leaf, _| match leaf {
            0 => [7, 0, 0, 0],
            0x8000_0000 => [leaf, 0, 0, 0],
            _ => [u32::MAX; 4],
        });
        let other = table.get(1, 0);
        table.hide(&Hidden::AVX_512);
        assert_eq!(table.get(1, 0), other);
        assert_eq!(
            table.get(7, 0),
            Some([u32::MAX, 0x23dc_ffff, 0xffff_a7bd, 0xff7f_fef3])
        );
        assert_eq!(table.get(7, 1), Some([!(1 << 5), u32::MAX, u32::MAX, !(1 << 19)]));
        table.hide(&[Hidden {
            leaf: 1,
            sub: 0,
            bits: [0, 0, 1 << 28, 1],
        }]);
        assert_eq!(table.get(1, 9), Some([u32::MAX, u32::MAX, !(1 << 28), !1]));
    }
}
