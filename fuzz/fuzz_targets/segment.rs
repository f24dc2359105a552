//! The stream reader: whatever the bytes, it returns, and without much memory.
//!
//! An input that begins like a segment is read as one, an input that begins like a trace header as that, an input that begins
//! with `record_delta` as what is in a frame of that codec below brotli: 4096 bytes of payload in deltas; anything else is
//! taken for the frames of a segment. Checksums count as right (feature `fuzzing` of rr-trace).
//!
//! ```text
//! cargo run -p rr-trace --example segment_seeds -- fuzz/corpus/segment
//! cargo +nightly fuzz run segment -- -max_total_time=60 -max_len=16384 -rss_limit_mb=2048
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use rr_trace::{EventNumber, Header, segment};

fuzz_target!(|data: &[u8]| {
    if data.starts_with(b"rrtrace\n") {
        let _ = Header::from_bytes(data);
    } else if data.starts_with(b"rr-segm\n") {
        let _ = segment::read_all(data);
    } else if let Some(deltas) = data.strip_prefix(b"deltas\n") {
        let _ = rr_trace::record_delta::decode(deltas, &mut [0; 4096]);
    } else {
        let header = segment::encode_header(&[0; 16], EventNumber(1));
        let _ = segment::read_all(&[&header, data].concat());
    }
});
