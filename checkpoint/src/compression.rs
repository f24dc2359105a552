//! The codecs of blocks.
//!
//! While a program is recorded, the threads that compress must keep up with it on the CPUs that it leaves. Measured on
//! the heap of a Python program, in blocks of 64 pages, on one CPU:
//!
//! | codec | compresses | decompresses | ratio |
//! |---|---:|---:|---:|
//! | zstd, level 1 | 620 MB/s | 1,530 MB/s | 6.7 |
//! | zstd, level -3 | 650 MB/s | 1,390 MB/s | 5.2 |
//! | lz4 | 410 MB/s | 1,680 MB/s | 3.5 |
//! | brotli, quality 2 | 120 MB/s | 240 MB/s | 5.8 |
//!
//! So level 1 is that of recording. Pages that do not shrink are stored as they are, which zstd finds out quickly.
//! Storing all of them when the threads fall behind would gain nothing: a page of a file costs the kernel as much time
//! (0.4 to 1.6 GB/s here) as compressing it costs us.

use std::cell::RefCell;

use rr_trace::compress::{QUALITY_OF_PACKS, decompress};

/// The codec of a block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Compression {
    /// Brotli (RFC 7932): the only codec of format versions 1 and 2.
    Brotli,
    /// Zstandard (RFC 8878), one frame.
    Zstd,
    /// None: the pages as they are.
    Stored,
}

impl Compression {
    /// The number that stands in the file.
    pub(crate) fn number(self) -> u8 {
        match self {
            Compression::Brotli => 0,
            Compression::Zstd => 1,
            Compression::Stored => 2,
        }
    }

    /// The codec with this number. Versions 1 and 2 of the format have brotli everywhere, also where the length says
    /// that the pages are stored (`is_whole`).
    pub(crate) fn of_number(number: u8, is_whole: bool) -> Option<Compression> {
        match number {
            0 if is_whole => Some(Compression::Stored),
            0 => Some(Compression::Brotli),
            1 => Some(Compression::Zstd),
            2 => Some(Compression::Stored),
            _ => None,
        }
    }

    /// Puts exactly `raw_len` bytes into `raw`, from what stands in the file; what is wrong with that otherwise. The caller
    /// has bounded `raw_len`.
    pub(crate) fn decompress(self, bytes: &[u8], raw_len: usize, raw: &mut Vec<u8>) -> Result<(), String> {
        raw.clear();
        match self {
            Compression::Stored => raw.extend_from_slice(bytes),
            Compression::Brotli => *raw = decompress(bytes, raw_len).map_err(|e| e.to_string())?,
            Compression::Zstd => {
                raw.reserve(raw_len);
                let done = DECOMPRESSOR.with_borrow_mut(|context| {
                    let made = match context.take() {
                        Some(context) => Ok(context),
                        None => zstd::bulk::Decompressor::new(),
                    };
                    context.insert(made?).decompress_to_buffer(bytes, raw)
                });
                done.map_err(|e| format!("zstd: {e}"))?;
            }
        }
        match raw.len() == raw_len {
            true => Ok(()),
            false => Err(format!("{} bytes, {raw_len} were announced", raw.len())),
        }
    }
}

thread_local! {
    /// Making one costs as much as decompressing a small block.
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The bytes of a block in a pack, if they are fewer than `most`.
pub(crate) fn compress_hard(raw: &[u8], most: usize) -> Option<Vec<u8>> {
    rr_trace::compress::compress(raw, QUALITY_OF_PACKS).filter(|bytes| bytes.len() < most)
}

/// Compresses blocks, one after the other.
#[derive(Default)]
pub(crate) struct Compressor(Option<zstd::bulk::Compressor<'static>>);

impl Compressor {
    /// A compressor; it stores everything if there is not enough memory for tables.
    pub fn new(level: i32) -> Compressor {
        Compressor(zstd::bulk::Compressor::new(level).ok())
    }

    /// The bytes that stand in the file for `raw`: compressed, or `raw` itself where that gains little.
    pub fn compress(&mut self, raw: &[u8]) -> (Compression, Vec<u8>) {
        let worth = raw.len() / 16 * 15;
        // zstd fails if the result is longer; the pages are stored then.
        let packed = self.0.as_mut().and_then(|zstd| {
            let mut packed = Vec::with_capacity(worth);
            zstd.compress_to_buffer(raw, &mut packed).ok()?;
            Some(packed)
        });
        match packed {
            Some(mut packed) => {
                packed.shrink_to_fit();
                (Compression::Zstd, packed)
            }
            None => (Compression::Stored, raw.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_have_numbers() {
        for codec in [Compression::Zstd, Compression::Stored] {
            assert_eq!(Compression::of_number(codec.number(), false), Some(codec));
            assert_eq!(Compression::of_number(codec.number(), true), Some(codec));
        }
        assert_eq!(Compression::of_number(0, false), Some(Compression::Brotli));
        assert_eq!(Compression::of_number(0, true), Some(Compression::Stored));
        assert_eq!(Compression::of_number(3, false), None);
    }

    #[test]
    fn brotli_of_older_versions_is_read() {
        let raw: Vec<u8> = (0..8192u32).map(|i| (i / 100) as u8).collect();
        let bytes = rr_trace::compress::compress(&raw, 2).unwrap();
        let decompress = |codec: Compression, raw_len| {
            let mut raw = vec![9; 100];
            codec.decompress(&bytes, raw_len, &mut raw).map(|()| raw)
        };
        assert_eq!(decompress(Compression::Brotli, raw.len()).unwrap(), raw);
        assert!(decompress(Compression::Brotli, 4096).is_err());
        assert!(decompress(Compression::Zstd, raw.len()).is_err());
    }
}
