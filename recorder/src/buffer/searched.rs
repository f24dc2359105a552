//! The places of `RDRAND`, `RDSEED` and `CPUID` in files.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;

use rr_tracee::FileId;
use rr_tracee::trapping::{Kind, Place, find};

/// The places of such instructions in files.
#[derive(Debug, Default)]
pub(crate) struct Searched {
    places: HashMap<FileId, Vec<Place>>,
}

impl Searched {
    /// Searches the file with this content, which was mapped.
    pub fn search(&mut self, id: FileId, file: &File) {
        let has_random = std::is_x86_feature_detected!("rdrand") || std::is_x86_feature_detected!("rdseed");
        let search = || {
            // A file that cannot be read cannot be executed.
            let mut places = find(file).unwrap_or_default();
            // Without the generator its instructions are invalid, and stay so.
            places.retain(|place| has_random || place.kind != Kind::Random);
            places
        };
        self.places.entry(id).or_insert_with(search);
    }

    pub(crate) fn part(&self, id: FileId, part: Range<u64>) -> &[Place] {
        let all = self.places.get(&id).map_or(&[][..], Vec::as_slice);
        let from = all.partition_point(|place| place.offset < part.start);
        let to = all.partition_point(|place| place.offset < part.end);
        &all[from..to.max(from)]
    }
}
