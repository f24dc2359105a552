//! Brotli for frames.
//!
//! Decompression never allocates more than the length that the caller expects and checked, plus the window of at
//! most 16 MiB that RFC 7932 allows.

use std::io::Read;

use brotli::enc::BrotliEncoderParams;

use crate::error::Malformed;

/// The quality of what is in packs.
pub const QUALITY_OF_PACKS: i32 = 9;

/// Windows are no larger than this power of two: as large as the largest payload.
const WINDOW_BITS_MAX: i32 = 22;

/// Compresses `raw` with brotli quality `quality` (0 to 11).
///
/// `None` if the result would not be shorter.
pub fn compress(raw: &[u8], quality: i32) -> Option<Vec<u8>> {
    let bits = usize::BITS - raw.len().leading_zeros();
    let params = BrotliEncoderParams {
        quality,
        // A larger window than the payload gains nothing and costs memory that must be cleared.
        lgwin: (bits as i32 + 1).clamp(16, WINDOW_BITS_MAX),
        size_hint: raw.len(),
        ..Default::default()
    };
    let mut out = Vec::with_capacity(raw.len() / 2);
    let mut input = raw;
    brotli::BrotliCompress(&mut input, &mut out, &params).ok()?;
    (out.len() < raw.len()).then_some(out)
}

/// Decompresses exactly `raw_len` bytes. The caller has bounded `raw_len`.
pub fn decompress(stored: &[u8], raw_len: usize) -> Result<Vec<u8>, Malformed> {
    let mut raw = vec![0; raw_len];
    decompress_into(stored, &mut raw)?;
    Ok(raw)
}

/// Decompresses exactly as many bytes as `raw` has.
pub(crate) fn decompress_into(stored: &[u8], raw: &mut [u8]) -> Result<(), Malformed> {
    // The "large window" extension of brotli is not part of RFC 7932, and would make the decoder allocate
    // up to a gigabyte. Such a stream begins with these bits, which the RFC reserves (section 9.1).
    if stored.first().is_some_and(|b| b & 0x7f == 0b001_0001) {
        return Err(Malformed::new("brotli stream with a large window"));
    }
    let mut decoder = brotli::Decompressor::new(stored, 64 << 10);
    let raw_len = raw.len();
    let mut have = 0;
    while have < raw_len {
        let read = decoder.read(&mut raw[have..]);
        match read.map_err(|e| Malformed::new(format!("brotli stream: {e}")))? {
            0 => {
                return Err(Malformed::new(format!(
                    "brotli stream of {have} bytes, {raw_len} were announced"
                )));
            }
            more => have += more,
        }
    }
    match decoder.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Malformed::new(format!(
            "brotli stream longer than the announced {raw_len} bytes"
        ))),
        Err(e) => Err(Malformed::new(format!("end of brotli stream: {e}"))),
    }
}
