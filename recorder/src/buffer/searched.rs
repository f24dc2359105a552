//! The places of `RDRAND`, `RDSEED`, `RDPID`, `CPUID` and `XGETBV` in files.
//!
//! A file's content decides them, so they are a note in the store of mapped files, and later recordings need not search:
//!
//! ```text
//! 8  offset in the file, 1  kind      for each place: first those that are proven, then those that are not, both ascending
//!
//! kind: 0 random and processor numbers, 1 CPUID, 2 XGETBV; 16 more if it is not proven
//! ```

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::ops::Range;

use rr_trace::FileStore;
use rr_tracee::FileId;
use rr_tracee::trapping::{Kind, Place, Search, find};

/// The kind of our notes. It names the version of the search, too: another one may find other places.
const NOTE: &str = "trapping4";

/// To search a smaller file takes hardly longer than to read a note.
const SMALL: u64 = 64 << 10;

/// The places of such instructions in files.
#[derive(Debug, Default)]
pub(crate) struct Searched {
    /// `XGETBV` shall trap, because the trace is to be portable.
    pub with_components: bool,
    places: HashMap<FileId, Search>,
    /// Code that may see the processor without rr knowing, for people: files with places that are not proven, and what was not
    /// searched.
    pub native: BTreeSet<String>,
}

/// Offset of the kinds of places that are not proven.
const UNPROVEN: u8 = 16;

impl Searched {
    /// Searches the file with this content, which was mapped, unless the `store` has a note about it.
    pub fn search(&mut self, id: FileId, file: &File, store: &FileStore) {
        // Every processor with `RDPID` has a generator.
        let has_random = std::is_x86_feature_detected!("rdrand") || std::is_x86_feature_detected!("rdseed");
        self.places.entry(id).or_insert_with(|| {
            let mut search = search(id, file, store);
            let is_wanted = |place: &Place| match place.kind {
                // Without the generator its instructions are invalid, and stay so.
                Kind::RegisterRead => has_random,
                Kind::Components => self.with_components,
                Kind::Cpuid => true,
            };
            search.proven.retain(is_wanted);
            search.unproven.retain(is_wanted);
            search
        });
    }

    /// The proven places in a part of a file.
    pub(crate) fn part(&self, id: FileId, part: Range<u64>) -> &[Place] {
        within(self.places.get(&id).map_or(&[], |search| &search.proven), part)
    }

    /// Returns whether a part of a file may ask for the processor at a place that is not proven.
    pub(crate) fn is_unproven(&self, id: FileId, part: Range<u64>) -> bool {
        let Some(search) = self.places.get(&id) else {
            return true;
        };
        within(&search.unproven, part)
            .iter()
            .any(|place| place.kind != Kind::Components)
    }
}

fn within(all: &[Place], part: Range<u64>) -> &[Place] {
    let from = all.partition_point(|place| place.offset < part.start);
    let to = all.partition_point(|place| place.offset < part.end);
    &all[from..to.max(from)]
}

fn search(id: FileId, file: &File, store: &FileStore) -> Search {
    // A file that cannot be read cannot be executed.
    let search = || find(file).unwrap_or_default();
    if file.metadata().is_ok_and(|meta| meta.len() < SMALL) {
        return search();
    }
    if let Some(known) = store.note(id, NOTE).and_then(|note| read(&note)) {
        return known;
    }
    let found = search();
    store.set_note(id, NOTE, &write(&found));
    found
}

fn write(found: &Search) -> Vec<u8> {
    let bytes = |place: &Place, first: u8| {
        let kind = match place.kind {
            Kind::RegisterRead => 0,
            Kind::Cpuid => 1,
            Kind::Components => 2,
        };
        place.offset.to_le_bytes().into_iter().chain([first + kind])
    };
    let proven = found.proven.iter().flat_map(|place| bytes(place, 0));
    let unproven = found.unproven.iter().flat_map(|place| bytes(place, UNPROVEN));
    proven.chain(unproven).collect()
}

fn read(note: &[u8]) -> Option<Search> {
    let (entries, rest) = note.as_chunks::<9>();
    let place = |[offset @ .., kind]: &[u8; 9]| {
        let kind = match kind % UNPROVEN {
            0 => Kind::RegisterRead,
            1 => Kind::Cpuid,
            2 => Kind::Components,
            _ => return None,
        };
        let offset = u64::from_le_bytes(*offset);
        Some(Place { offset, kind })
    };
    // A damaged note may have them in any order.
    let proven = entries.iter().take_while(|entry| entry[8] < UNPROVEN).count();
    let (proven, unproven) = entries.split_at(proven);
    let places = |entries: &[[u8; 9]]| entries.iter().map(place).collect::<Option<Vec<_>>>();
    let found = Search {
        proven: places(proven)?,
        unproven: places(unproven)?,
    };
    let is_whole = rest.is_empty() && unproven.iter().all(|entry| entry[8] / UNPROVEN == 1);
    (is_whole && found.proven.is_sorted() && found.unproven.is_sorted()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_was_found() {
        let place = |offset, kind| Place { offset, kind };
        let found = Search {
            proven: vec![place(7, Kind::Components), place(1 << 40, Kind::RegisterRead)],
            unproven: vec![place(5, Kind::Cpuid)],
        };
        let note = write(&found);
        assert_eq!(read(&note), Some(found));
        assert_eq!(read(&[]), Some(Search::default()));
        assert_eq!(read(&note[..17]), None, "half an entry");
        assert_eq!(read(&[&note[9..18], &note[..9]].concat()), None, "not in order");
        assert_eq!(
            read(&[&note[18..], &note[..9]].concat()),
            None,
            "unproven ones first"
        );
        for kind in [3, 19, 33] {
            assert_eq!(
                read(&[0, 0, 0, 0, 0, 0, 0, 0, kind]),
                None,
                "another kind: {kind}"
            );
        }
    }
}
