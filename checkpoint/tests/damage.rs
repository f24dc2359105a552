//! Damaged, mixed-up and missing files: an error that names the file, never a wrong page.

#![allow(clippy::unwrap_used, clippy::expect_used)] // in functions of tests, too

mod common;

use std::path::Path;
use std::sync::Arc;

use common::*;
use rr_checkpoint::{BlockCache, Checkpoint, Error, checkpoint_path};
use rr_trace::event::EventNumber;

/// Two small checkpoints, the second of which refers to the first.
fn two(dir: &Path, seed: u64) -> Region {
    let mut region = Region::anonymous(3);
    region.write(0, &content(seed));
    region.write(1, &content(seed + 2));
    let mut writer = writer(dir);
    take(&mut writer, 1, region.space());
    region.write(1, &content(seed + 4));
    take(&mut writer, 2, region.space());
    region
}

fn path(dir: &Path, event: u64) -> std::path::PathBuf {
    checkpoint_path(dir, EventNumber(event))
}

fn read(dir: &Path, event: u64) -> rr_checkpoint::Result<std::collections::BTreeMap<u64, Vec<u8>>> {
    pages(&Checkpoint::open_at(dir, EventNumber(event), &UUID)?, TARGET)
}

#[test]
fn rot_anywhere_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let _region = two(dir.path(), 0);
    let good = read(dir.path(), 2).unwrap();
    assert_eq!(good.len(), 2);
    let first = std::fs::read(path(dir.path(), 1)).unwrap();
    let second = std::fs::read(path(dir.path(), 2)).unwrap();
    for at in 0..second.len() {
        let mut rotten = second.clone();
        rotten[at] ^= 1 << (at % 8);
        std::fs::write(path(dir.path(), 2), &rotten).unwrap();
        let error = read(dir.path(), 2).unwrap_err().to_string();
        assert!(error.contains("0000000000000002.ckpt"), "byte {at}: {error}");
    }
    std::fs::write(path(dir.path(), 2), &second).unwrap();
    // In the file that is referred to, some bytes do not matter to the second; those that do are noticed.
    let mut errors = 0;
    for at in 0..first.len() {
        let mut rotten = first.clone();
        rotten[at] ^= 1 << (at % 8);
        std::fs::write(path(dir.path(), 1), &rotten).unwrap();
        match read(dir.path(), 2) {
            Ok(pages) => assert_eq!(pages, good, "byte {at}"),
            Err(e) => {
                assert!(e.to_string().contains("0000000000000001.ckpt"), "byte {at}: {e}");
                errors += 1;
            }
        }
    }
    assert!(errors > 160, "the header and the block: {errors}");
}

#[test]
fn references_must_be_there_and_of_the_same_trace() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _region = two(dir.path(), 0);
    let _other = two(other.path(), 100);
    let first = path(dir.path(), 1);
    let kept = std::fs::read(&first).unwrap();

    std::fs::remove_file(&first).unwrap();
    let error = read(dir.path(), 2).unwrap_err();
    assert!(
        matches!(&error, Error::Io { path, .. } if *path == first),
        "{error}"
    );

    // The right trace's uuid, and other contents.
    std::fs::copy(path(other.path(), 1), &first).unwrap();
    let error = read(dir.path(), 2).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");

    // Exchanged files.
    std::fs::copy(path(dir.path(), 2), &first).unwrap();
    for event in [2, 1] {
        let error = read(dir.path(), event).unwrap_err();
        assert!(
            matches!(
                error,
                Error::OtherEvent {
                    found: 2,
                    expected: 1,
                    ..
                }
            ),
            "{error}"
        );
    }

    // Not files at all: neither followed nor waited for.
    std::fs::remove_file(&first).unwrap();
    std::os::unix::fs::symlink(path(other.path(), 1), &first).unwrap();
    assert!(read(dir.path(), 2).is_err());
    std::fs::remove_file(&first).unwrap();
    nix::unistd::mkfifo(&first, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(read(dir.path(), 2).is_err());
    std::fs::remove_file(&first).unwrap();

    std::fs::write(&first, kept).unwrap();
    read(dir.path(), 2).unwrap();
}

#[test]
fn a_checkpoint_of_another_trace_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _region = two(dir.path(), 0);
    let file = path(dir.path(), 1);
    let error = Checkpoint::open(&file, Some(b"a different uuid")).unwrap_err();
    assert!(matches!(&error, Error::OtherTrace { .. }), "{error}");
    assert!(error.to_string().contains("another trace"), "{error}");
    assert_eq!(Checkpoint::open(&file, None).unwrap().uuid(), UUID);
}

#[test]
fn an_error_while_restoring_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = Region::anonymous(1000);
    (0..1000).for_each(|p| region.write(p, &content(p)));
    let mut writer = writer(dir.path());
    take(&mut writer, 1, region.space());
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let error = open(dir.path(), 1).restore_pages(TARGET, |_, _| {
        calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Err(std::io::Error::other("no room"))
    });
    let error = error.unwrap_err();
    assert!(
        matches!(&error, Error::Store { .. }) && error.to_string().contains("no room"),
        "{error}"
    );
    assert!(calls.into_inner() <= 8, "at most one call for every thread");
}

/// A cache that several checkpoints share does not hide rot, nor keeps an error when the file is right again.
#[test]
fn rot_is_noticed_with_a_shared_cache_too() {
    let dir = tempfile::tempdir().unwrap();
    let _region = two(dir.path(), 0);
    let good = read(dir.path(), 2).unwrap();
    let first = std::fs::read(path(dir.path(), 1)).unwrap();
    let cache = Arc::new(BlockCache::new(1 << 20));
    let shared = |event| {
        let mut checkpoint = open(dir.path(), event);
        checkpoint.share(cache.clone());
        pages(&checkpoint, TARGET)
    };
    let mut rotten = first.clone();
    rotten[160] ^= 1; // its block begins here
    std::fs::write(path(dir.path(), 1), &rotten).unwrap();
    for event in [1, 2, 1, 2] {
        let error = shared(event).unwrap_err().to_string();
        assert!(error.contains("0000000000000001.ckpt"), "{error}");
    }
    std::fs::write(path(dir.path(), 1), &first).unwrap();
    assert_eq!(shared(2).unwrap(), good);

    // Blocks that the second refers to are kept for the first; not so for a trace at another place.
    let blocks = cache.bytes();
    shared(1).unwrap();
    assert_eq!(cache.bytes(), blocks, "the block was kept twice");
    std::fs::write(path(dir.path(), 1), &rotten).unwrap();
    shared(1).expect("it was read, checked and kept");
    let copy = tempfile::tempdir().unwrap();
    for event in [1, 2] {
        std::fs::copy(path(dir.path(), event), path(copy.path(), event)).unwrap();
    }
    let mut elsewhere = open(copy.path(), 2);
    elsewhere.share(cache.clone());
    pages(&elsewhere, TARGET).unwrap_err();
}
