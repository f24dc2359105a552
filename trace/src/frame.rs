//! Frames: what segments are made of.
//!
//! ```text
//! offset size
//!      0    4  magic "rrF1"
//!      4    1  kind: 1 Data, 2 Events, 3 End, 4 Extents (module `extents`)
//!      5    1  codec of the payload: 0 stored as it is, 1 brotli (RFC 7932), 2 zeros (nothing is stored), 3 record deltas (module `record_delta`):
//!                their length as a number of 4 bytes, at most the raw length, then they in brotli; only Data has it.
//!                In packs that share: 4 a dictionary (module `dictionary`)
//!      6    2  zero
//!      8    4  raw length: bytes of the payload before compression, at most 8 MiB
//!     12    4  stored length: bytes of the payload as they follow; the raw length if it is stored as it is, else less
//!     16    8  first event that the frame is about
//!     24    8  last event
//!     32    8  xxh3-64 of the payload as stored
//!     40    8  xxh3-64 of bytes 0 to 39
//!     48       payload
//! ```
//!
//! All numbers are little-endian. Since the header has a checksum of its own, a reader can skip payloads and still
//! trust the lengths; and what looks like a torn end can be told from damage, because no intact header follows it.

use std::io::{self, IoSlice, Write};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::compress::{self, QUALITY_OF_PACKS};
use crate::dictionary::Dictionaries;
use crate::error::{Error, Malformed};
use crate::event::EventNumber;
use crate::record_delta;

/// Bytes of a frame's header.
pub const FRAME_HEADER_LEN: usize = 48;

/// Most bytes of a payload before compression.
pub const FRAME_RAW_MAX: u32 = 8 << 20;

/// The first bytes of every frame.
pub(crate) const FRAME_MAGIC: [u8; 4] = *b"rrF1";

/// The contents of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameKind {
    /// Bytes that the events of the next Events frame carry.
    Data = 1,
    /// Events: a packed `Events` message.
    Events = 2,
    /// The end of the recording: a packed `End` message. Nothing follows.
    End = 3,
    /// A description of how the data of the next Events frame are put together from the bytes of its Data frames.
    Extents = 4,
}

/// The encoding of a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// As it is.
    Stored = 0,
    /// Brotli.
    Brotli = 1,
    /// Not at all: it is zeros.
    Zeros = 2,
    /// Records as their differences from earlier ones, and those in brotli.
    RecordDelta = 3,
    /// As what differs from a dictionary.
    Dictionary = 4,
}

/// Effort of compressing a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompressionLevel {
    /// The payload is not compressed.
    None,
    /// With this brotli quality.
    Brotli(i32),
}

/// The header of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// The kind of its contents.
    pub kind: FrameKind,
    /// The encoding of its payload.
    pub codec: Codec,
    /// Bytes of the payload before compression.
    pub raw_len: u32,
    /// Bytes of the payload in the file.
    pub stored_len: u32,
    /// First event that it is about.
    pub first: EventNumber,
    /// Last event that it is about.
    pub last: EventNumber,
    /// Checksum of the payload as stored.
    pub sum: u64,
}

/// Says if a checksum is right. Fuzzers cannot guess checksums, so for them all are.
pub(crate) fn sum_is(bytes: &[u8], sum: u64) -> bool {
    cfg!(feature = "fuzzing") || xxh3_64(bytes) == sum
}

/// Reads `N` bytes at `at`. The callers' offsets are constants within the array.
pub(crate) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl FrameHeader {
    /// The header in its stored form.
    pub fn encode(&self) -> [u8; FRAME_HEADER_LEN] {
        let mut out = [0; FRAME_HEADER_LEN];
        out[0..4].copy_from_slice(&FRAME_MAGIC);
        out[4] = self.kind as u8;
        out[5] = self.codec as u8;
        out[8..12].copy_from_slice(&self.raw_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.stored_len.to_le_bytes());
        out[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.last.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.sum.to_le_bytes());
        let sum = xxh3_64(&out[..40]);
        out[40..48].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// The header from its stored form, with every field checked by itself.
    pub fn decode(bytes: &[u8; FRAME_HEADER_LEN]) -> Result<FrameHeader, Malformed> {
        if bytes[0..4] != FRAME_MAGIC {
            return Err(Malformed::new("no frame starts here"));
        }
        if !sum_is(&bytes[..40], u64::from_le_bytes(bytes_at(bytes, 40))) {
            return Err(Malformed::new("wrong checksum of a frame header"));
        }
        let kind = match bytes[4] {
            1 => FrameKind::Data,
            2 => FrameKind::Events,
            3 => FrameKind::End,
            4 => FrameKind::Extents,
            kind => return Err(Malformed::new(format!("unknown kind of frame {kind}"))),
        };
        let codec = match bytes[5] {
            0 => Codec::Stored,
            1 => Codec::Brotli,
            2 => Codec::Zeros,
            3 if kind == FrameKind::Data => Codec::RecordDelta,
            4 => Codec::Dictionary,
            codec => return Err(Malformed::new(format!("unknown codec {codec}"))),
        };
        let header = FrameHeader {
            kind,
            codec,
            raw_len: u32::from_le_bytes(bytes_at(bytes, 8)),
            stored_len: u32::from_le_bytes(bytes_at(bytes, 12)),
            first: EventNumber(u64::from_le_bytes(bytes_at(bytes, 16))),
            last: EventNumber(u64::from_le_bytes(bytes_at(bytes, 24))),
            sum: u64::from_le_bytes(bytes_at(bytes, 32)),
        };
        let lengths_fit = match codec {
            Codec::Stored => header.stored_len == header.raw_len,
            Codec::Brotli | Codec::RecordDelta | Codec::Dictionary => header.stored_len < header.raw_len,
            Codec::Zeros => header.stored_len == 0,
        };
        if header.raw_len == 0 || header.raw_len > FRAME_RAW_MAX || !lengths_fit {
            let (raw, stored) = (header.raw_len, header.stored_len);
            return Err(Malformed::new(format!(
                "impossible lengths of a frame: {raw} bytes stored in {stored}"
            )));
        }
        if header.first > header.last || bytes[6..8] != [0, 0] {
            return Err(Malformed::new("impossible fields in a frame header"));
        }
        Ok(header)
    }

    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> u64 {
        FRAME_HEADER_LEN as u64 + u64::from(self.stored_len)
    }

    /// Checks that these are the bytes that were stored.
    pub(crate) fn check(&self, stored: &[u8]) -> Result<(), Malformed> {
        if sum_is(stored, self.sum) {
            Ok(())
        } else {
            Err(Malformed::new("wrong checksum of a frame's payload"))
        }
    }

    /// As [`FrameHeader::unpack`], with the dictionaries that there are.
    pub(crate) fn unpack_with(
        &self,
        stored: &[u8],
        raw: &mut [u8],
        dictionaries: Option<&Dictionaries>,
    ) -> Result<Result<(), Malformed>, Error> {
        match dictionaries {
            Some(dictionaries) if self.codec == Codec::Dictionary => match self.check(stored) {
                Ok(()) => dictionaries.unpack(stored, raw),
                wrong => Ok(wrong),
            },
            _ => Ok(self.unpack(stored, raw)),
        }
    }

    /// The payload as it was before compression, from what is stored.
    pub fn payload(&self, stored: Vec<u8>) -> Result<Vec<u8>, Malformed> {
        if self.codec == Codec::Stored {
            self.check(&stored)?;
            return Ok(stored);
        }
        let mut raw = vec![0; self.raw_len as usize];
        self.unpack(&stored, &mut raw)?;
        Ok(raw)
    }

    /// Fills `raw`, which has as many bytes as the payload, with it.
    pub(crate) fn unpack(&self, stored: &[u8], raw: &mut [u8]) -> Result<(), Malformed> {
        self.check(stored)?;
        match self.codec {
            Codec::Stored => match raw.len() == stored.len() {
                true => raw.copy_from_slice(stored),
                false => return Err(Malformed::new("impossible length of a frame")),
            },
            Codec::Brotli => compress::decompress_into(stored, raw)?,
            Codec::Zeros => raw.fill(0),
            Codec::RecordDelta => {
                let deltas = deltas_in(stored, raw.len())?;
                record_delta::decode(&deltas, raw)?;
            }
            Codec::Dictionary => {
                return Err(Malformed::new("a dictionary is named, and this is no pack"));
            }
        }
        Ok(())
    }
}

/// Appends a whole frame with this payload to `out`. `raw` is not empty and not longer than [`FRAME_RAW_MAX`].
pub fn append_frame(
    out: &mut Vec<u8>,
    kind: FrameKind,
    span: (EventNumber, EventNumber),
    raw: &[u8],
    level: CompressionLevel,
) {
    // Writing into memory does not fail.
    let _ = write_frame(out, kind, span, &[raw], level);
}

/// Writes a whole frame whose payload is these parts, one after the other: as [`append_frame`], without copying what is stored
/// as it is.
pub(crate) fn write_frame(
    out: &mut impl Write,
    kind: FrameKind,
    (first, last): (EventNumber, EventNumber),
    parts: &[&[u8]],
    level: CompressionLevel,
) -> io::Result<()> {
    // System calls and checksums of many small parts cost more than putting them together.
    const SMALL_PART: usize = 1 << 10;
    let raw_len: usize = parts.iter().map(|part| part.len()).sum();
    let given = parts;
    let together;
    let single;
    let mut parts = parts;
    if parts.len() > 1 && (raw_len / parts.len() < SMALL_PART || level != CompressionLevel::None) {
        together = parts.concat();
        single = [&*together];
        parts = &single;
    }
    let mut header = FrameHeader {
        kind,
        codec: Codec::Stored,
        raw_len: raw_len as u32,
        stored_len: raw_len as u32,
        first,
        last,
        sum: 0,
    };
    let compressed;
    let shorter;
    if parts.iter().all(|part| is_zeros(part)) {
        (header.codec, header.stored_len) = (Codec::Zeros, 0);
        parts = &[];
    } else if let [raw] = parts
        && let Some((codec, bytes)) = compressed_by(level, kind, raw, given)
    {
        compressed = bytes;
        shorter = [&*compressed];
        (header.codec, header.stored_len) = (codec, compressed.len() as u32);
        parts = &shorter;
    }
    header.sum = match parts {
        [stored] => xxh3_64(stored),
        parts => {
            let mut sum = Xxh3::new();
            parts.iter().for_each(|part| sum.update(part));
            sum.digest()
        }
    };
    let header = header.encode();
    let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(parts.len() + 1);
    slices.push(IoSlice::new(&header));
    slices.extend(parts.iter().map(|part| IoSlice::new(part)));
    write_all(out, &mut slices)
}

/// The same frame, with this payload, in as few bytes as can be had in tolerable time. `others` are other ways to store it.
pub(crate) fn recompress(
    old: &FrameHeader,
    stored: Vec<u8>,
    raw: &[u8],
    others: Vec<(Codec, Vec<u8>)>,
) -> Result<Vec<u8>, Malformed> {
    // A dictionary may not be where this goes.
    let (mut codec, mut shortest) = match old.codec {
        Codec::Dictionary => (Codec::Stored, raw.to_vec()),
        codec => (codec, stored.clone()),
    };
    let mut take = |other, bytes: Vec<u8>| {
        if bytes.len() < shortest.len() {
            (codec, shortest) = (other, bytes);
        }
    };
    if old.codec == Codec::RecordDelta {
        // The caller knows the records, and has decided if deltas are worth it.
        let deltas = deltas_in(&stored, raw.len())?;
        if let Some(bytes) = compress::compress(&deltas, QUALITY_OF_PACKS) {
            let len = (deltas.len() as u32).to_le_bytes();
            take(Codec::RecordDelta, [&len[..], &bytes].concat());
        }
    }
    if old.codec != Codec::Zeros
        && worth_compressing(raw)
        && let Some(bytes) = compress::compress(raw, QUALITY_OF_PACKS)
    {
        take(Codec::Brotli, bytes);
    }
    others.into_iter().for_each(|(codec, bytes)| take(codec, bytes));
    let header = FrameHeader {
        codec,
        stored_len: shortest.len() as u32,
        sum: xxh3_64(&shortest),
        ..*old
    };
    let mut frame = header.encode().to_vec();
    frame.extend(shortest);
    Ok(frame)
}

/// The deltas of a payload of `raw_len` bytes, out of their stored form.
fn deltas_in(stored: &[u8], raw_len: usize) -> Result<Vec<u8>, Malformed> {
    let (len, stored) = stored
        .split_first_chunk()
        .ok_or_else(|| Malformed::new("deltas without a length"))?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > raw_len {
        let why = format!("deltas: {len} bytes for {raw_len} of payload");
        return Err(Malformed::new(why));
    }
    compress::decompress(stored, len)
}

fn write_all(out: &mut impl Write, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match out.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Says if these bytes are zeros. Most bytes that are not show it at once.
fn is_zeros(bytes: &[u8]) -> bool {
    bytes.iter().take(64).all(|b| *b == 0) && bytes.iter().all(|b| *b == 0)
}

/// A payload that was put together from these parts, compressed at this level, if that makes it shorter.
fn compressed_by(
    level: CompressionLevel,
    kind: FrameKind,
    raw: &[u8],
    parts: &[&[u8]],
) -> Option<(Codec, Vec<u8>)> {
    // Higher ones find little more in deltas, and take three times as long.
    const QUALITY_OF_DELTAS: i32 = 2;
    let CompressionLevel::Brotli(quality) = level else {
        return None;
    };
    let ends = parts.iter().scan(0, |end, part| {
        *end += part.len();
        Some(*end)
    });
    if kind == FrameKind::Data
        && let Some(deltas) = record_delta::encode(raw, ends)
        && let Some(bytes) = compress::compress(&deltas, QUALITY_OF_DELTAS)
    {
        let len = (deltas.len() as u32).to_le_bytes();
        return Some((Codec::RecordDelta, [&len[..], &bytes].concat()));
    }
    let brotli = worth_compressing(raw).then(|| compress::compress(raw, quality_for(raw, quality)))?;
    Some((Codec::Brotli, brotli?))
}

/// The quality to compress this with: higher ones set up large tables first, which a small frame (there is one per checkpoint)
/// does not repay.
fn quality_for(raw: &[u8], quality: i32) -> i32 {
    const SMALL: usize = 64 << 10;
    const QUALITY_OF_SMALL: i32 = 2;
    if raw.len() < SMALL {
        quality.min(QUALITY_OF_SMALL)
    } else {
        quality
    }
}

/// Says if compressing has a chance. Large payloads are often compressed already (archives, pictures): samples from their
/// beginning, middle and end, compressed the cheap way, tell.
fn worth_compressing(raw: &[u8]) -> bool {
    const SAMPLE: usize = 4 << 10;
    if raw.len() < 32 {
        return false;
    }
    if raw.len() < 16 * SAMPLE {
        return true;
    }
    let last = raw.len() - SAMPLE;
    [last / 2, last, 0]
        .map(|start| &raw[start..start + SAMPLE])
        .iter()
        .any(|sample| compress::compress(sample, 1).is_some_and(|c| c.len() < SAMPLE / 16 * 15))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_events::noise;

    #[test]
    fn header_is_drawn_right() {
        let mut out = Vec::new();
        append_frame(
            &mut out,
            FrameKind::Events,
            (EventNumber(3), EventNumber(4)),
            b"abc",
            CompressionLevel::Brotli(5),
        );
        assert_eq!(&out[0..16], b"rrF1\x02\0\0\0\x03\0\0\0\x03\0\0\0");
        assert_eq!(&out[48..], b"abc");
        let header = FrameHeader::decode(&bytes_at(&out, 0)).unwrap();
        assert_eq!(
            (header.kind, header.first.0, header.last.0),
            (FrameKind::Events, 3, 4)
        );
    }

    #[test]
    fn lengths_are_bounded() {
        let good = FrameHeader {
            kind: FrameKind::Data,
            codec: Codec::Brotli,
            raw_len: 100,
            stored_len: 50,
            first: EventNumber(1),
            last: EventNumber(1),
            sum: 0,
        };
        assert!(FrameHeader::decode(&good.encode()).is_ok());
        for bad in [
            FrameHeader {
                raw_len: FRAME_RAW_MAX + 1,
                ..good
            },
            FrameHeader {
                raw_len: 0,
                stored_len: 0,
                ..good
            },
            FrameHeader {
                stored_len: 100,
                ..good
            },
            FrameHeader {
                stored_len: u32::MAX,
                ..good
            },
            FrameHeader {
                codec: Codec::Stored,
                ..good
            },
            FrameHeader {
                first: EventNumber(2),
                ..good
            },
        ] {
            assert!(FrameHeader::decode(&bad.encode()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn incompressible_payloads_are_stored() {
        let noise = noise(0, 1 << 20);
        let mut out = Vec::new();
        append_frame(
            &mut out,
            FrameKind::Data,
            (EventNumber(1), EventNumber(1)),
            &noise,
            CompressionLevel::Brotli(5),
        );
        assert_eq!(out[5], Codec::Stored as u8);
        let zeros = vec![0; 1 << 20];
        out.clear();
        append_frame(
            &mut out,
            FrameKind::Data,
            (EventNumber(1), EventNumber(1)),
            &zeros,
            CompressionLevel::Brotli(5),
        );
        assert!(out.len() < 200);
        let header = FrameHeader::decode(&bytes_at(&out, 0)).unwrap();
        assert_eq!(header.payload(out[48..].to_vec()).unwrap(), zeros);
    }

    /// Records of a buffered call, with growing outputs.
    fn records(count: u64) -> Vec<u8> {
        let record = |n: u64| [228 | 8 << 12 | 77 << 32, 0, n * 3];
        let words = (0..count).flat_map(record);
        words.flat_map(u64::to_le_bytes).collect()
    }

    fn frame_of(kind: FrameKind, raw: &[u8], level: CompressionLevel) -> (FrameHeader, Vec<u8>) {
        let mut out = Vec::new();
        append_frame(&mut out, kind, (EventNumber(1), EventNumber(1)), raw, level);
        let header = FrameHeader::decode(&bytes_at(&out, 0)).unwrap();
        (header, out[FRAME_HEADER_LEN..].to_vec())
    }

    #[test]
    fn records_are_stored_in_columns() {
        let raw = records(10_000);
        let (header, stored) = frame_of(FrameKind::Data, &raw, CompressionLevel::Brotli(5));
        assert_eq!(header.codec, Codec::RecordDelta);
        assert_eq!(header.payload(stored).unwrap(), raw);
        let (header, _) = frame_of(FrameKind::Events, &raw, CompressionLevel::Brotli(5));
        assert_eq!(header.codec, Codec::Brotli);
        let (header, _) = frame_of(FrameKind::Data, &raw, CompressionLevel::None);
        assert_eq!(header.codec, Codec::Stored);
        let text = b"so it was written, and so it is read; ".repeat(2000);
        let (header, _) = frame_of(FrameKind::Data, &text, CompressionLevel::Brotli(5));
        assert_eq!(header.codec, Codec::Brotli);
    }

    #[test]
    fn wrong_columns_are_refused() {
        let raw = records(1000);
        let (header, stored) = frame_of(FrameKind::Data, &raw, CompressionLevel::Brotli(5));
        let other = FrameHeader {
            kind: FrameKind::Events,
            ..header
        };
        let e = FrameHeader::decode(&other.encode()).unwrap_err().to_string();
        assert!(e.contains("codec"), "{e}");
        let refused = |header: FrameHeader, stored: &[u8], why: &str| {
            let header = FrameHeader {
                sum: xxh3_64(stored),
                ..header
            };
            let e = header.payload(stored.to_vec()).map(|_| why).unwrap_err();
            assert!(e.to_string().contains(why), "{e}");
        };
        refused(header, &stored[..3], "without a length");
        refused(header, &stored[..stored.len() - 2], "brotli");
        let len = u32::from_le_bytes(bytes_at(&stored, 0));
        for (told, why) in [
            (len + 1, "brotli"),
            (len - 1, "brotli"),
            (raw.len() as u32 + 1, "for 24000 of payload"),
            (u32::MAX, "for 24000 of payload"),
        ] {
            let told = [&told.to_le_bytes()[..], &stored[4..]].concat();
            refused(header, &told, why);
        }
        let raw_len = header.raw_len;
        for (raw_len, why) in [
            (raw_len - 1, "fit"),
            (raw_len + 24, "ends"),
            (raw_len - 24, "left"),
        ] {
            refused(FrameHeader { raw_len, ..header }, &stored, why);
        }
    }
}
