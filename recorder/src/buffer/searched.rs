//! The places of `RDRAND` and `RDSEED` in files.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;

use rr_tracee::FileId;
use rr_tracee::hardware_random::find;

/// The places of such instructions in files.
#[derive(Debug, Default)]
pub(crate) struct Searched {
    places: HashMap<FileId, Vec<u64>>,
}

impl Searched {
    /// Searches the file with this content, which was mapped.
    pub fn search(&mut self, id: FileId, file: &File) {
        let is_there = std::is_x86_feature_detected!("rdrand") || std::is_x86_feature_detected!("rdseed");
        if is_there {
            // A file that cannot be read cannot be executed.
            let search = || find(file).unwrap_or_default();
            self.places.entry(id).or_insert_with(search);
        }
    }

    pub(crate) fn part(&self, id: FileId, part: Range<u64>) -> &[u64] {
        let all = self.places.get(&id).map_or(&[][..], Vec::as_slice);
        let from = all.partition_point(|place| *place < part.start);
        let to = all.partition_point(|place| *place < part.end);
        &all[from..to.max(from)]
    }
}
