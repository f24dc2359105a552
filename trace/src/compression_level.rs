//! The choice of how hard to compress: as hard as the writer can without falling behind.
//!
//! Keeps: compression never makes the program wait. One core compresses some 36 MB/s with brotli quality 5 and some 70
//! (programs) to 240 (records) with quality 2; storing goes as fast as the page cache takes it. So what decides is the *pressure*: the bytes that wait, or those that
//! came within about the last [`RECENT`], whichever is more. The second is for a stream that
//! goes on: its queue is short only because nothing is being compressed. At the end somebody waits for the
//! writer, and only little is compressed any more.

use std::time::Duration;

use crate::frame::CompressionLevel;

/// Bytes that came so long ago count a third (1/e) as much as bytes that come now.
const RECENT: Duration = Duration::from_millis(200);

/// With less pressure than this part of the queue, the best quality is used (8 MiB of 256, or 40 MB/s) …
const BEST: u64 = 32;
/// … with less than this part, a fast one (32 MiB, or 160 MB/s); with more, nothing is compressed.
const FAST: u64 = 8;
/// At the end, with more than 1 MiB nothing is compressed, and with less fast: some 15 ms at most.
const ENDING: u64 = 32;
/// Brotli quality of the fast way. Quality 1 of this encoder is no faster (measured on programs: half as fast, and what it leaves is
/// twice as long and takes three times as long to decompress).
const FAST_QUALITY: i32 = 2;

/// Bytes that have come lately, those of long ago counting less and less.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Recent {
    bytes: f64,
    at: Duration,
}

impl Recent {
    /// The number of bytes at the time `now`.
    pub(crate) fn bytes(&self, now: Duration) -> u64 {
        let age = now.saturating_sub(self.at).as_secs_f64();
        (self.bytes * (-age / RECENT.as_secs_f64()).exp()) as u64
    }

    /// More come.
    pub(crate) fn add(&mut self, bytes: u64, now: Duration) {
        self.bytes = self.bytes(now) as f64 + bytes as f64;
        self.at = now;
    }
}

/// The work that waits for the writer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Bytes that wait to be written, and those that came lately: whichever are more.
    pub(crate) pressure: u64,
    /// Nothing more will come, and somebody waits for the end.
    pub(crate) ending: bool,
}

impl Load {
    /// Chooses how hard to compress the next frame. `queue` says how much may wait, `quality` is the best quality.
    pub(crate) fn level(self, queue: u64, quality: i32) -> CompressionLevel {
        let part = if self.ending { ENDING } else { 1 };
        if self.pressure <= queue / BEST && !self.ending {
            CompressionLevel::Brotli(quality)
        } else if self.pressure <= queue / FAST / part {
            CompressionLevel::Brotli(quality.min(FAST_QUALITY))
        } else {
            CompressionLevel::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: u64 = 256 << 20;
    const MIB: u64 = 1 << 20;

    fn level(pressure: u64, ending: bool) -> CompressionLevel {
        Load { pressure, ending }.level(QUEUE, 5)
    }

    #[test]
    fn less_is_compressed_the_more_waits() {
        assert_eq!(level(0, false), CompressionLevel::Brotli(5));
        assert_eq!(level(8 * MIB, false), CompressionLevel::Brotli(5));
        assert_eq!(level(8 * MIB + 1, false), CompressionLevel::Brotli(2));
        assert_eq!(level(32 * MIB, false), CompressionLevel::Brotli(2));
        assert_eq!(level(32 * MIB + 1, false), CompressionLevel::None);
        assert_eq!(level(QUEUE, false), CompressionLevel::None);
        let load = Load {
            pressure: 9 * MIB,
            ending: false,
        };
        assert_eq!(
            load.level(QUEUE, 0),
            CompressionLevel::Brotli(0),
            "never better than asked for"
        );
    }

    #[test]
    fn little_is_compressed_when_somebody_waits_for_the_end() {
        assert_eq!(level(0, true), CompressionLevel::Brotli(2));
        assert_eq!(level(MIB, true), CompressionLevel::Brotli(2));
        assert_eq!(level(2 * MIB, true), CompressionLevel::None);
    }

    #[test]
    fn a_stream_counts_though_its_queue_is_short() {
        let mut recent = Recent::default();
        let (mut now, step) = (Duration::from_secs(1), Duration::from_millis(10));
        // 500 MB/s.
        for _ in 0..100 {
            recent.add(5 * MIB, now);
            now += step;
        }
        assert!(recent.bytes(now) > 90 * MIB && recent.bytes(now) < 110 * MIB);
        // A second later it is over.
        assert!(recent.bytes(now + Duration::from_secs(1)) < MIB);
        // 10 MB/s, for however long, are compressed well.
        for _ in 0..1000 {
            now += step;
            recent.add(MIB / 10, now);
            if recent.bytes(now) < 4 * MIB {
                assert_eq!(level(recent.bytes(now), false), CompressionLevel::Brotli(5));
            }
        }
        assert!(recent.bytes(now) < 4 * MIB);
        // A clock that goes back does no harm.
        recent.add(1, Duration::ZERO);
        assert!(recent.bytes(now) < 4 * MIB);
    }
}
