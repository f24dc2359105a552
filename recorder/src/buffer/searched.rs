//! The places of `RDRAND`, `RDSEED`, `RDPID`, `CPUID` and `XGETBV` in files.
//!
//! A file's content decides them, so they are a note in the store of mapped files, and later recordings need not search:
//!
//! ```text
//! 8  offset in the file, 1  kind (0: random and processor numbers, 1: CPUID, 2: XGETBV)      for each place, ascending
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;

use rr_trace::FileStore;
use rr_tracee::FileId;
use rr_tracee::trapping::{Kind, Place, find};

/// The kind of our notes. It names the version of the search, too: another one may find other places.
const NOTE: &str = "trapping3";

/// To search a smaller file takes hardly longer than to read a note.
const SMALL: u64 = 64 << 10;

/// The places of such instructions in files.
#[derive(Debug, Default)]
pub(crate) struct Searched {
    /// `XGETBV` shall trap, because the trace is to be portable.
    pub with_components: bool,
    places: HashMap<FileId, Vec<Place>>,
}

impl Searched {
    /// Searches the file with this content, which was mapped, unless the `store` has a note about it.
    pub fn search(&mut self, id: FileId, file: &File, store: &FileStore) {
        // Every processor with `RDPID` has a generator.
        let has_random = std::is_x86_feature_detected!("rdrand") || std::is_x86_feature_detected!("rdseed");
        self.places.entry(id).or_insert_with(|| {
            let mut places = places(id, file, store);
            // Without the generator its instructions are invalid, and stay so.
            places.retain(|place| match place.kind {
                Kind::RegisterRead => has_random,
                Kind::Components => self.with_components,
                Kind::Cpuid => true,
            });
            places
        });
    }

    pub(crate) fn part(&self, id: FileId, part: Range<u64>) -> &[Place] {
        let all = self.places.get(&id).map_or(&[][..], Vec::as_slice);
        let from = all.partition_point(|place| place.offset < part.start);
        let to = all.partition_point(|place| place.offset < part.end);
        &all[from..to.max(from)]
    }
}

fn places(id: FileId, file: &File, store: &FileStore) -> Vec<Place> {
    // A file that cannot be read cannot be executed.
    let search = || find(file).unwrap_or_default();
    if file.metadata().is_ok_and(|meta| meta.len() < SMALL) {
        return search();
    }
    if let Some(known) = store.note(id, NOTE).and_then(|note| read(&note)) {
        return known;
    }
    let places = search();
    store.set_note(id, NOTE, &write(&places));
    places
}

fn write(places: &[Place]) -> Vec<u8> {
    let bytes = |place: &Place| {
        let kind = match place.kind {
            Kind::RegisterRead => 0,
            Kind::Cpuid => 1,
            Kind::Components => 2,
        };
        place.offset.to_le_bytes().into_iter().chain([kind])
    };
    places.iter().flat_map(bytes).collect()
}

fn read(note: &[u8]) -> Option<Vec<Place>> {
    let (entries, rest) = note.as_chunks::<9>();
    let place = |[offset @ .., kind]: &[u8; 9]| {
        let kind = match kind {
            0 => Kind::RegisterRead,
            1 => Kind::Cpuid,
            2 => Kind::Components,
            _ => return None,
        };
        let offset = u64::from_le_bytes(*offset);
        Some(Place { offset, kind })
    };
    let places: Vec<Place> = entries.iter().map(place).collect::<Option<_>>()?;
    (rest.is_empty() && places.is_sorted()).then_some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_was_found() {
        let place = |offset, kind| Place { offset, kind };
        let places = vec![place(7, Kind::Components), place(1 << 40, Kind::RegisterRead)];
        let note = write(&places);
        assert_eq!(read(&note), Some(places));
        assert_eq!(read(&[]), Some(vec![]));
        assert_eq!(read(&note[..17]), None, "half an entry");
        assert_eq!(read(&[&note[9..], &note[..9]].concat()), None, "not in order");
        assert_eq!(read(&[0, 0, 0, 0, 0, 0, 0, 0, 3]), None, "another kind");
    }
}
