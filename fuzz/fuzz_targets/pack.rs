//! The reader of packs: whatever the table says, each member is a part of the file or an error.
//!
//! The length that the header states is put right, since few inputs of a fuzzer would pass that check. Checksums count as right (feature
//! `fuzzing` of rr-trace).
//!
//! ```text
//! cargo run -p rr-trace --example pack_seeds -- fuzz/corpus/pack
//! cargo +nightly fuzz run pack -- -max_total_time=60 -max_len=16384 -rss_limit_mb=2048
//! ```

#![no_main]

use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use rr_trace::{Note, TraceReader};

/// The most bytes of a member, and the most events, that are read.
const BYTES_MOST: u64 = 1 << 16;
const EVENTS_MOST: usize = 1000;

/// The place in the header that states the length of the pack.
const LENGTH: std::ops::Range<usize> = 32..40;

/// The file that each input is written to.
fn place() -> &'static Path {
    static PLACE: OnceLock<tempfile::TempPath> = OnceLock::new();
    PLACE.get_or_init(|| tempfile::NamedTempFile::new().expect("a temporary file").into_temp_path())
}

/// Reads all kinds of members as the commands do. Errors are fine.
fn read_all(path: &Path) -> rr_trace::Result<()> {
    let reader = TraceReader::open(path)?;
    for file in reader.files()? {
        if let Ok(member) = reader.open_file(file) {
            let _ = member.reader().take(BYTES_MOST).read_to_end(&mut Vec::new());
        }
    }
    for note in Note::ALL {
        if let Some(member) = reader.open_note(note)? {
            let _ = member.reader().take(BYTES_MOST).read_to_end(&mut Vec::new());
        }
    }
    reader.debug_files()?;
    for event in reader.events_from(reader.first_event())?.take(EVENTS_MOST) {
        event?;
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let mut pack = data.to_vec();
    let length = pack.len() as u64;
    if let Some(stated) = pack.get_mut(LENGTH) {
        stated.copy_from_slice(&length.to_le_bytes());
    }
    std::fs::write(place(), &pack).expect("the temporary file can be written");
    let _ = read_all(place());
});
