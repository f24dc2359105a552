//! Record deltas: records of buffered calls, each as its difference from an earlier one.
//!
//! A program that does the same again and again writes records (`preload/src/layout.rs` draws them) that resemble each
//! other: the same first word, the same result or one a little larger, outputs that differ in few words and by little.
//! Without the common part, a tenth or less of the bytes is left, and brotli has that much less to do:
//!
//! ```text
//! payload of the frame  | the rest of a record | A₁     | B₁     | A₂     | B₂     | A₃     | …
//! steps                 | as they are                   | A₁ + … | B₁ + … | A₂ + … | …
//!
//! deltas    offset size
//!                0    4  bytes of the steps: s
//!                4    4  bytes of the differences: d
//!                8    s  steps
//!              8+s    d  differences
//!            8+s+d       bytes as they are, up to the end
//!
//! step      1 byte        bit 0: a distance follows; bits 1–7: words 1 to 7 of the record differ
//!           [varint]      how many bytes before this one the record begins that this one is like; as last time if not said
//!           [1–2 bytes]   for records of more than 8 words: words 8 to 15, and 16 to 23, differ
//!        or 1 byte        1
//!           varint        0: bytes as they are follow
//!           varint        so many
//! ```
//!
//! A record is as long as the one that it is like, which its first word says, and that word does not differ. A difference
//! is the word minus the earlier one (modulo 2⁶⁴), with its sign in bit 0 (zigzag), as a varint: seven bits in a byte, the
//! low ones first, bit 7 in all bytes but the last.
//!
//! The encoder does not know where records begin, only where they can: it takes for a record what begins with a word with which
//! another one seemed to begin. If it is wrong, the deltas are longer; what is decoded is the payload in any case.

use rr_preload::records::Head;

use crate::error::Malformed;

/// Bytes of a word.
const WORD: usize = 8;
/// Records are at most as long as this: outputs of 144 bytes (`struct stat`). Longer ones are bytes as they are.
const RECORD_MAX: usize = 160;
/// Bytes in front of the deltas.
const PREFIX: usize = 8;
/// A smaller payload is not looked at.
const SMALLEST: usize = 512;
/// When so much more has been looked at, the encoder asks itself whether to go on.
const TRIAL: usize = 64 << 10;
/// Entries of the table of beginnings: a power of two.
const SLOTS: usize = 2048;
/// No place.
const NOWHERE: u32 = u32::MAX;

/// Length of the record that begins with this word, if it looks like one: no number or time does, since no hash is zero.
fn record(word: u64) -> Option<usize> {
    let len = Head::of(word).record();
    (len <= RECORD_MAX && word >> 32 != 0).then_some(len)
}

/// The word at `at`.
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*word))
}

/// The deltas of a payload, if they are at most half as long. The payload is put together from parts that end at `ends`
/// (ascending); no record lies in two of them, and one may begin at multiples of 8 from the beginning of a part. Wrong ends
/// make longer deltas.
pub fn encode(raw: &[u8], ends: impl IntoIterator<Item = usize>) -> Option<Vec<u8>> {
    if raw.len() < SMALLEST {
        return None;
    }
    let mut encoder = Encoder {
        raw,
        steps: Vec::with_capacity(raw.len() / 16),
        differences: Vec::with_capacity(raw.len() / 16),
        literals: Vec::new(),
        distance: 0,
    };
    let mut table = [NOWHERE; SLOTS];
    // Records before `from` are in the deltas already.
    let (mut from, mut at, mut trial) = (0, 0, TRIAL);
    for end in ends {
        let end = end.clamp(at, raw.len());
        while let Some(first) = word(&raw[..end], at) {
            if at >= trial {
                if encoder.literals.len() + (at - from) > at / 2 {
                    return None;
                }
                trial += TRIAL;
            }
            if let Some(len) = record(first) {
                let slot = &mut table[(first.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % SLOTS];
                let last = std::mem::replace(slot, at as u32);
                if at + len <= end
                    && let Some(distance) = encoder.like(at, first, len, last)
                {
                    encoder.bytes(from, at);
                    encoder.record(at, len, distance);
                    at += len;
                    from = at;
                    continue;
                }
            }
            at += WORD;
        }
        at = end;
    }
    encoder.bytes(from, raw.len());
    let len = PREFIX + encoder.steps.len() + encoder.differences.len() + encoder.literals.len();
    if len > raw.len() / 2 {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&(encoder.steps.len() as u32).to_le_bytes());
    out.extend_from_slice(&(encoder.differences.len() as u32).to_le_bytes());
    out.extend_from_slice(&encoder.steps);
    out.extend_from_slice(&encoder.differences);
    out.extend_from_slice(&encoder.literals);
    Some(out)
}

struct Encoder<'a> {
    raw: &'a [u8],
    steps: Vec<u8>,
    differences: Vec<u8>,
    literals: Vec<u8>,
    /// Distance of the last record from the record that it resembles.
    distance: usize,
}

impl Encoder<'_> {
    /// The distance to an earlier record with the same first word: the record after the one that the last record was
    /// like, or else the latest one.
    fn like(&self, at: usize, first: u64, len: usize, last: u32) -> Option<usize> {
        let begins = |distance: &usize| {
            let there = at.checked_sub(*distance).and_then(|there| word(self.raw, there));
            *distance >= len && there == Some(first)
        };
        let last = || at.checked_sub(last as usize).filter(begins);
        Some(self.distance).filter(begins).or_else(last)
    }

    /// Bytes as they are.
    fn bytes(&mut self, from: usize, to: usize) {
        if from < to {
            self.steps.extend([1, 0]);
            push_varint(&mut self.steps, (to - from) as u64);
            self.literals.extend_from_slice(&self.raw[from..to]);
        }
    }

    /// A record of `len` bytes at `at` that is like the one `distance` bytes before.
    fn record(&mut self, at: usize, len: usize, distance: usize) {
        let (earlier, now) = (&self.raw[at - distance..][..len], &self.raw[at..][..len]);
        let (earlier, now) = (earlier.as_chunks::<WORD>().0, now.as_chunks::<WORD>().0);
        let mut differ: u32 = 0;
        for (n, (earlier, now)) in earlier.iter().zip(now).enumerate().skip(1) {
            if earlier != now {
                differ |= 1 << n;
                let difference = u64::from_le_bytes(*now).wrapping_sub(u64::from_le_bytes(*earlier)) as i64;
                push_varint(&mut self.differences, (difference << 1 ^ difference >> 63) as u64);
            }
        }
        // Bit 0 stands for the first word, which does not differ.
        let [step, more @ ..] = differ.to_le_bytes();
        if distance == self.distance {
            self.steps.push(step);
        } else {
            self.steps.push(step | 1);
            push_varint(&mut self.steps, distance as u64);
            self.distance = distance;
        }
        self.steps.extend_from_slice(&more[..more_bytes(len)]);
    }
}

/// The number of further bytes that say which words of a record of this length differ.
fn more_bytes(len: usize) -> usize {
    (len / WORD).saturating_sub(8).div_ceil(8)
}

fn push_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Fills `out` with the payload that these are the deltas of.
pub fn decode(deltas: &[u8], out: &mut [u8]) -> Result<(), Malformed> {
    let mut deltas = Deltas::of(deltas)?;
    let (mut at, mut distance) = (0, 0);
    while at < out.len() {
        let step = deltas.steps.byte()?;
        if step & 1 != 0 {
            let told = deltas.steps.varint()?;
            if told == 0 {
                let len = deltas.steps.varint()?;
                let len = usize::try_from(len)
                    .ok()
                    .filter(|len| (1..=out.len() - at).contains(len));
                let (Some(len), 1) = (len, step) else {
                    return Err(Malformed::new("deltas: a run of bytes that cannot be"));
                };
                out[at..at + len].copy_from_slice(deltas.literals.take(len)?);
                at += len;
                continue;
            }
            distance = usize::try_from(told).unwrap_or(usize::MAX);
        }
        let (before, rest) = out.split_at_mut(at);
        let there = at.checked_sub(distance).and_then(|there| before.get(there..));
        let len = there.and_then(|there| record(word(there, 0)?));
        let (Some(there), Some(len)) = (there, len) else {
            return Err(Malformed::new("deltas: no record to be like"));
        };
        let (Some(there), Some(now)) = (there.get(..len), rest.get_mut(..len)) else {
            return Err(Malformed::new("deltas: a record that does not fit"));
        };
        now.copy_from_slice(there);
        let mut differ = u32::from(step & !1);
        for n in 0..more_bytes(len) {
            differ |= u32::from(deltas.steps.byte()?) << (8 * (n + 1));
        }
        let words = now.as_chunks_mut::<WORD>().0;
        while differ != 0 {
            let Some(word) = words.get_mut(differ.trailing_zeros() as usize) else {
                return Err(Malformed::new("deltas: a difference beyond a record's end"));
            };
            differ &= differ - 1;
            let difference = deltas.differences.varint()?;
            let difference = (difference >> 1) ^ (difference & 1).wrapping_neg();
            *word = u64::from_le_bytes(*word).wrapping_add(difference).to_le_bytes();
        }
        at += len;
    }
    deltas.are_used_up()
}

/// The rest of the deltas.
struct Deltas<'a> {
    steps: Stream<'a>,
    differences: Stream<'a>,
    literals: Stream<'a>,
}

impl<'a> Deltas<'a> {
    fn of(deltas: &'a [u8]) -> Result<Deltas<'a>, Malformed> {
        let mut rest = Stream(deltas);
        let lengths = [rest.length()?, rest.length()?];
        Ok(Deltas {
            steps: Stream(rest.take(lengths[0])?),
            differences: Stream(rest.take(lengths[1])?),
            literals: rest,
        })
    }

    fn are_used_up(&self) -> Result<(), Malformed> {
        let left = [&self.steps, &self.differences, &self.literals].map(|stream| stream.0.len());
        if left == [0; 3] {
            Ok(())
        } else {
            Err(Malformed::new(format!("deltas: {left:?} bytes are left of them")))
        }
    }
}

/// The rest of a stream.
struct Stream<'a>(&'a [u8]);

impl<'a> Stream<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (now, later) = self.0.split_at_checked(len).ok_or_else(ends)?;
        self.0 = later;
        Ok(now)
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        let (now, later) = self.0.split_first_chunk().ok_or_else(ends)?;
        self.0 = later;
        Ok(u32::from_le_bytes(*now) as usize)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let (now, later) = self.0.split_first().ok_or_else(ends)?;
        self.0 = later;
        Ok(*now)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(Malformed::new("deltas: a number of more than 64 bits"))
    }
}

fn ends() -> Malformed {
    Malformed::new("deltas: one of them ends too early")
}

#[cfg(test)]
mod tests;
