//! Registers as differences (`schema/rr.capnp`, `Event`).
//!
//! Between two events of a task most registers stay, and those that change do so in their low bytes. So a set of
//! registers is stored as a mask of the words that changed and, for each, the word XOR its previous value; packing
//! and brotli then have little left to do. Deltas never reach across frames, so any frame can be the first one read.

use std::collections::HashMap;

use rr_tracee::{Registers, Tid};

use crate::error::Malformed;

type Words = [u64; Registers::WORDS];

/// The previous registers of every task in a frame.
#[derive(Default)]
pub(crate) struct Bases {
    index: HashMap<Tid, usize>,
    words: Vec<Words>,
    /// The task that was asked for last: usually the next one too.
    last: Option<(Tid, usize)>,
}

impl Bases {
    /// The previous registers of `tid`, all zero at first.
    pub(crate) fn of(&mut self, tid: Tid) -> &mut Words {
        let at = match self.last {
            Some((last, at)) if last == tid => at,
            _ => {
                let next = self.words.len();
                let at = *self.index.entry(tid).or_insert(next);
                if at == next {
                    self.words.push([0; Registers::WORDS]);
                }
                at
            }
        };
        self.last = Some((tid, at));
        &mut self.words[at]
    }
}

/// Appends the changed words of `regs` to `out`, makes `regs` the previous ones, and says which words changed.
pub(crate) fn encode(previous: &mut Words, regs: &Registers, out: &mut Vec<u64>) -> u32 {
    let words = regs.words();
    let mut changed = 0;
    for (i, (old, new)) in previous.iter_mut().zip(words).enumerate() {
        if *old != new {
            changed |= 1 << i;
            out.push(*old ^ new);
            *old = new;
        }
    }
    changed
}

/// Takes the changed words from `words`, and makes the result the previous registers.
pub(crate) fn decode(
    previous: &mut Words,
    changed: u32,
    words: &mut impl Iterator<Item = u64>,
) -> Result<Registers, Malformed> {
    if changed >> Registers::WORDS != 0 {
        return Err(Malformed::new(format!(
            "change of unknown registers: mask {changed:#x}"
        )));
    }
    let mut left = changed;
    while left != 0 {
        let i = left.trailing_zeros() as usize;
        left &= left - 1;
        previous[i] ^= words
            .next()
            .ok_or_else(|| Malformed::new("fewer changed registers than announced"))?;
    }
    Ok(Registers::from_words(previous))
}
