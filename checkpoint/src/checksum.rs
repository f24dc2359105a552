//! The checksum of everything in a checkpoint file.

use xxhash_rust::xxh3::xxh3_64;

/// Says if a checksum is that of these bytes. A fuzzer would hardly ever find one, so for a fuzzer all are.
pub(crate) fn checksum_matches(bytes: &[u8], checksum: u64) -> bool {
    cfg!(feature = "fuzzing") || xxh3_64(bytes) == checksum
}
