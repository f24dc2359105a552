//! The checkpoint reader: whatever the bytes, it returns, and without much memory.
//!
//! An input that begins like a checkpoint file is read as one. Anything else is taken for what is inside, so that
//! the fuzzer need not get through brotli: lengths of page index and image (two bytes each, little-endian), page
//! index, image and statistics as packed messages; what follows the statistics' length (two bytes) and the three are
//! blocks. Checksums count as right (feature `fuzzing` of rr-checkpoint).
//!
//! ```text
//! cargo run -p rr-checkpoint --example checkpoint_seeds -- fuzz/corpus/checkpoint
//! cargo +nightly fuzz run checkpoint -- -max_total_time=60 -max_len=16384 -rss_limit_mb=2048
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use rr_checkpoint::file::{HEADER_LEN, MAGIC, VERSION, read_all};

fuzz_target!(|data: &[u8]| {
    if data.starts_with(&MAGIC) {
        let _ = read_all(data);
    } else if data.len() > 6 {
        let _ = read_all(&assemble(data));
    }
});

/// A file whose sections are stored as they are.
fn assemble(data: &[u8]) -> Vec<u8> {
    let (lengths, mut rest) = data.split_at(6);
    let mut sections = Vec::new();
    for length in lengths.chunks(2) {
        let length = usize::from(u16::from_le_bytes([length[0], length[1]])).min(rest.len());
        let (section, more) = rest.split_at(length);
        sections.push(section);
        rest = more;
    }
    let total = HEADER_LEN + data.len() - 6;
    let mut file = Vec::with_capacity(total);
    file.extend_from_slice(&MAGIC);
    file.extend_from_slice(&VERSION.to_le_bytes());
    file.extend_from_slice(&(HEADER_LEN as u32).to_le_bytes());
    file.extend_from_slice(&[0; 16]);
    file.extend_from_slice(&9u64.to_le_bytes());
    file.extend_from_slice(&(total as u64).to_le_bytes());
    let mut offset = HEADER_LEN + rest.len();
    for section in &sections {
        for word in [offset, section.len(), section.len(), 0] {
            file.extend_from_slice(&(word as u64).to_le_bytes());
        }
        offset += section.len();
    }
    file.resize(HEADER_LEN, 0);
    file.extend_from_slice(rest);
    sections.iter().for_each(|section| file.extend_from_slice(section));
    file
}
