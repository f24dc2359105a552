//! Two checkpoints of the same event: what counts as the same, and that there is one writer at a time.

// A broken expectation in a test is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use common::*;
use rr_checkpoint::{Checkpoint, CheckpointWriter, Error, Options, compare_checkpoints};
use rr_trace::Member;
use rr_tracee::ids::PAGE;
use rr_tracee::{AddressSpace, Backing, FileId};

const FILE: FileId = FileId(7);

fn compare(a: &Checkpoint, b: &Checkpoint, file: &Path) -> Vec<String> {
    let open = |id: FileId| {
        assert_eq!(id, FILE);
        Ok(Member::whole(std::fs::File::open(file)?, file.to_path_buf()))
    };
    compare_checkpoints(a, b, &open, 3).unwrap()
}

#[test]
fn how_pages_are_stored_does_not_matter_and_what_they_hold_does() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    (0..8).for_each(|seed| file.write_all(&content(seed)).unwrap());
    let mut region = Region::new(8, file.as_file().as_raw_fd());
    let mapping = region.mapping(Backing::File {
        file: FILE,
        offset: 0,
    });
    let space = AddressSpace::from_mappings([mapping]);
    let dirs = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let [mut one, mut two] = [0, 1].map(|n: usize| writer(dirs[n].path()));

    region.write(1, &content(100));
    take(&mut one, 5, space.clone());
    region.write(2, &content(101));
    // The one refers to pages of the checkpoint before, the other stores them, and one that is as in the file, too.
    take(&mut one, 9, space.clone());
    region.write(3, &content(3));
    take(&mut two, 9, space.clone());
    let [a, b] = [0, 1].map(|n: usize| open(dirs[n].path(), 9));
    assert_eq!(a.references().len(), 1);
    assert_eq!(
        [a.stats(), b.stats()].map(|s| s.pages_referenced + s.pages_stored),
        [2, 3]
    );
    assert_eq!(compare(&a, &b, file.path()), [""; 0]);
    assert_eq!(compare(&b, &a, file.path()), [""; 0]);

    // A page that only one has; and one with another byte.
    let mut page = content(101);
    page[77] ^= 0x20;
    region.write(2, &page);
    region.write(6, &[0; PAGE as usize]);
    take(&mut two, 10, space.clone());
    take(&mut one, 11, space);
    let (old, new) = (open(dirs[1].path(), 9), open(dirs[1].path(), 10));
    let found = compare(&old, &new, file.path());
    assert!(
        found.iter().any(|line| line.starts_with("event: 9 / 10")),
        "{found:?}"
    );

    // The same event, made in another order.
    let third = tempfile::tempdir().unwrap();
    let mut three = writer(third.path());
    region.write(2, &content(101));
    region.write(6, &content(6));
    let mapping = region.mapping(Backing::File {
        file: FILE,
        offset: 0,
    });
    take(&mut three, 11, AddressSpace::from_mappings([mapping]));
    let (a, b) = (open(dirs[0].path(), 11), open(third.path(), 11));
    let found = compare(&a, &b, file.path());
    assert_eq!(found.len(), 2, "{found:?}");
    let place = region.page(2) + 77;
    assert!(
        found[0].contains(&format!("byte at {place}: ")) && found[0].contains("(1 bytes"),
        "{found:?}"
    );
    assert!(found[1].contains("address space 1"), "{found:?}");
}

#[test]
fn one_writer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let start = || CheckpointWriter::start(dir.path().to_path_buf(), UUID, Options::default());
    let first = start().unwrap();
    assert!(matches!(start(), Err(Error::Busy { path }) if path == dir.path()));
    first.finish().unwrap();
    let second = start().unwrap();
    drop(second);
    start().unwrap().give_up().unwrap();
}
