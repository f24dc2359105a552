//! Removing checkpoints: the others give back what they gave back before, and what nobody needs is given back.

#![allow(clippy::unwrap_used, clippy::expect_used)] // in functions of tests, too

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::*;
use rr_checkpoint::retention::{Limit, thin};
use rr_checkpoint::{Collection, Error, Removed, bytes_on_disk, list};
use rr_trace::event::EventNumber;

type Pages = BTreeMap<u64, Vec<u8>>;

const PAGES: u64 = 1024;
const STEPS: u64 = 6;

/// Checkpoints at 10, 20, ... 60. Each changes an eighth of all pages: those of blocks that are next to each other.
fn six(dir: &Path) -> (Region, Vec<Pages>) {
    let mut region = Region::anonymous(PAGES);
    // Noise: a block takes its size on the disk.
    (0..PAGES).for_each(|p| region.write(p, &content(2 * p + 1)));
    let mut writer = writer(dir);
    let mut all = Vec::new();
    for step in 1..=STEPS {
        let first = step * PAGES / 8;
        (first..first + PAGES / 8).for_each(|p| region.write(p, &content(2 * (p + step * PAGES) + 1)));
        take(&mut writer, 10 * step, region.space());
        all.push(pages(&open(dir, 10 * step), TARGET).unwrap());
    }
    (region, all)
}

fn remove(dir: &Path, events: &[u64]) -> Removed {
    let mut collection = Collection::open(dir, &UUID).unwrap();
    for event in events {
        assert!(collection.remove(EventNumber(*event)));
    }
    collection.apply().unwrap()
}

fn is_whole(dir: &Path, event: u64, all: &[Pages]) -> bool {
    pages(&open(dir, event), TARGET).unwrap() == all[event as usize / 10 - 1]
}

fn left(dir: &Path) -> Vec<u64> {
    list(dir).unwrap().iter().map(|e| e.0).collect()
}

#[test]
fn the_others_stay_whole_whatever_is_removed() {
    for removed in 1..1u64 << STEPS {
        // All 63 subsets would take long and show nothing more.
        if removed % 9 != 1 && removed.count_ones() != 1 && removed.count_ones() < STEPS as u32 - 1 {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let (_region, all) = six(dir);
        let gone: Vec<u64> = (1..=STEPS)
            .filter(|n| removed & (1 << (n - 1)) != 0)
            .map(|n| 10 * n)
            .collect();
        let before = bytes_on_disk(dir).unwrap();
        let done = remove(dir, &gone);
        let stay: Vec<u64> = (1..=STEPS)
            .map(|n| 10 * n)
            .filter(|e| !gone.contains(e))
            .collect();
        assert_eq!(left(dir), stay);
        assert!(
            stay.iter().all(|event| is_whole(dir, *event, &all)),
            "without {gone:?}"
        );
        assert_eq!(done.events.iter().map(|e| e.0).collect::<Vec<_>>(), gone);
        assert_eq!(
            (before - done.freed, done.stuck),
            (bytes_on_disk(dir).unwrap(), 0)
        );
        // The bytes that stay are those needed. (A file system may have some more blocks for what it knows of a file.)
        let needed = Collection::open(dir, &UUID).unwrap().bytes();
        let files = std::fs::read_dir(dir).unwrap().count() as u64;
        let there = bytes_on_disk(dir).unwrap();
        assert!(
            there <= needed + files * 8 * 1024,
            "{there} bytes for {needed}, without {gone:?}"
        );
        if stay.is_empty() {
            assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);
        }
    }
}

#[test]
fn a_removal_that_was_killed_is_completed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (_region, all) = six(dir);
    let name = |event: u64, kind: &str| dir.join(format!("{event:016}.{kind}"));
    // It had renamed two, and done no more.
    for event in [10, 30] {
        std::fs::rename(name(event, "ckpt"), name(event, "blocks")).unwrap();
    }
    assert_eq!(left(dir), [20, 40, 50, 60]);
    assert!([20, 40, 50, 60].iter().all(|event| is_whole(dir, *event, &all)));
    // And a writer had been killed before.
    std::fs::write(dir.join(format!(".{:016}.ckpt.tmp", 70)), "unfinished").unwrap();
    let done = remove(dir, &[50]);
    assert_eq!(done.events, [EventNumber(50)]);
    assert!([20, 40, 60].iter().all(|event| is_whole(dir, *event, &all)));
    let sparse = std::fs::metadata(name(10, "blocks")).unwrap();
    assert!(sparse.blocks() * 512 < sparse.len(), "no holes: {sparse:?}");
    remove(dir, &[20, 40, 60]);
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);
}

#[test]
fn a_removed_one_can_be_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (mut region, all) = six(dir);
    remove(dir, &[10, 40]);
    // The new one has other pages than the removed one: others refer to those.
    (0..PAGES).for_each(|p| region.write(p, &content(2 * (p + 100 * PAGES) + 1)));
    let mut writer = writer(dir);
    take(&mut writer, 10, region.space());
    let anew = pages(&open(dir, 10), TARGET).unwrap();
    region.write(0, &content(7));
    take(&mut writer, 15, region.space());
    let after = pages(&open(dir, 15), TARGET).unwrap();
    drop(writer);
    assert_eq!(left(dir), [10, 15, 20, 30, 50, 60]);
    let whole = || {
        assert!([20, 30, 50, 60].iter().all(|event| is_whole(dir, *event, &all)));
        assert_eq!(pages(&open(dir, 15), TARGET).unwrap(), after);
    };
    whole();
    assert_eq!(pages(&open(dir, 10), TARGET).unwrap(), anew);
    assert!(!dir.join(format!("{:016}.blocks", 10)).exists(), "twice");
    remove(dir, &[10]);
    whole();
    remove(dir, &[15, 20, 30, 50, 60]);
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);
}

#[test]
fn damaged_ones_can_be_removed_and_leave_others_their_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (_region, all) = six(dir);
    let file = dir.join(format!("{:016}.ckpt", 10));
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let collection = Collection::open(dir, &UUID).unwrap();
    let unusable: Vec<_> = collection
        .unusable()
        .map(|(event, e)| (event.0, e.to_string()))
        .collect();
    assert!(
        matches!(&unusable[..], [(10, why)] if why.contains("checksum")),
        "{unusable:?}"
    );
    drop(collection);
    // Others need its blocks.
    remove(dir, &[20]);
    assert!([30, 40, 50, 60].iter().all(|event| is_whole(dir, *event, &all)));
    remove(dir, &[10]);
    assert!([30, 40, 50, 60].iter().all(|event| is_whole(dir, *event, &all)));
}

#[test]
fn only_one_changes_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let refused = Collection::open(dir.path(), &UUID).unwrap_err();
    assert!(matches!(refused, Error::Busy { .. }), "{refused}");
    drop(writer);
    let mut collection = Collection::open(dir.path(), &UUID).unwrap();
    assert!(!collection.remove(EventNumber(7)));
}

#[test]
fn thinned_to_a_number_and_to_a_size() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (_region, all) = six(dir);
    let mut collection = Collection::open(dir, &UUID).unwrap();
    assert!(thin(&mut collection, Limit::Count(5), &[]));
    collection.apply().unwrap();
    assert_eq!(left(dir), [10, 30, 40, 50, 60], "the first and the latest stay");
    // The first one, which lies in the middle of nothing, would go next.
    let mut collection = Collection::open(dir, &UUID).unwrap();
    assert!(thin(&mut collection, Limit::Count(2), &[EventNumber(30)]));
    collection.apply().unwrap();
    assert_eq!(left(dir), [30, 60]);
    assert!([30, 60].iter().all(|event| is_whole(dir, *event, &all)));
    let mut collection = Collection::open(dir, &UUID).unwrap();
    assert!(!thin(&mut collection, Limit::Bytes(1), &[]), "the last one stays");
    collection.apply().unwrap();
    assert_eq!(left(dir), [60]);
    assert!(is_whole(dir, 60, &all));
}
