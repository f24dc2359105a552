//! Processes that go on, die or are taken away while they are read; writers that fall behind or fail.

#![allow(clippy::unwrap_used)] // in functions of tests, too

mod common;

use std::time::Duration;

use common::*;
use rr_checkpoint::{
    Changes, CheckpointWriter, Error, Options, Replaced, SharedSource, SpaceImage, SpaceSource,
    checkpoint_path, list,
};
use rr_trace::event::EventNumber;
use rr_tracee::ids::PAGE;
use rr_tracee::{AddressSpace, Backing, SpaceId, Tid};

/// A writer that takes long over each block, with room for few.
fn slow(dir: &std::path::Path, queue: usize) -> CheckpointWriter {
    let options = Options {
        level: 19,
        workers: 1,
        queue,
        buffer: 1,
        unwritten: 1,
        ..Options::default()
    };
    CheckpointWriter::start(dir.to_path_buf(), UUID, options).unwrap()
}

/// Memory that takes a slow writer seconds.
fn big() -> Region {
    let mut region = Region::anonymous(2048);
    (0..2048).for_each(|p| region.write(p, &content(p)));
    region
}

fn assert_is_big(dir: &std::path::Path, event: u64, region: &Region) {
    let pages = pages(&open(dir, event), TARGET).unwrap();
    assert_eq!(pages.len(), 2048);
    assert!((0..2048).all(|p| pages[&region.page(p).0] == content(p)));
}

#[test]
fn a_process_read_in_place_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let region = big();
    let child = Child::fork();
    let source = SharedSource::in_place(child.0);
    let mut writer = writer(dir.path());
    assert!(writer.submit(request(1, region.space(), source.clone())));
    let stats = wait(&mut writer).result.unwrap();
    assert_eq!(stats.spaces_in_place, 1);
    assert!(source.is_finished());
    assert_eq!(source.replace_with(|| unreachable!()), Replaced::NotNeeded);
    assert_eq!(nix::sys::signal::kill(child.0.pid(), None), Ok(()));
    assert_is_big(dir.path(), 1, &region);
    child.kill();
}

#[test]
fn a_fork_takes_over_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = big();
    let live = Child::fork();
    let source = SharedSource::in_place(live.0);
    let mut writer = slow(dir.path(), 2);
    assert!(writer.submit(request(1, region.space(), source.clone())));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!source.is_finished(), "the writer should be in the middle of it");
    let mut fork = None;
    let replaced = source.replace_with(|| {
        // This process has the same memory as the blocked one.
        let child = Child::fork();
        let pid = child.0;
        fork = Some(child);
        Some(pid)
    });
    assert_eq!(replaced, Replaced::Forked);
    // The blocked process goes on: its memory is not what it was.
    drop(live);
    (0..2048).for_each(|p| region.write(p, &[7; PAGE as usize]));
    let stats = wait(&mut writer).result.unwrap();
    assert_eq!((stats.spaces_in_place, stats.pages_stored), (0, 2048));
    assert!(fork.unwrap().is_killed());
    assert_is_big(dir.path(), 1, &region);
}

/// The recorder gets the lock between two pieces however hard the writer reads.
#[test]
fn the_recorder_does_not_wait_for_the_whole_reading() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = Region::anonymous(16384);
    (0..16384).for_each(|p| region.write(p, &[p as u8 | 1; PAGE as usize]));
    let mut writer = writer(dir.path());
    let mut switched = 0;
    for event in 1..=5 {
        let live = Child::fork();
        let spare = Child::fork();
        let source = SharedSource::in_place(live.0);
        assert!(writer.submit(request(event, region.space(), source.clone())));
        std::thread::sleep(Duration::from_millis(4));
        let start = std::time::Instant::now();
        switched += u64::from(source.replace_with(|| Some(spare.0)) == Replaced::Forked);
        assert!(
            start.elapsed() < Duration::from_millis(500),
            "waited {:?}",
            start.elapsed()
        );
        wait(&mut writer).result.unwrap();
        assert_eq!(pages(&open(dir.path(), event), TARGET).unwrap().len(), 16384);
    }
    eprintln!("switched {switched} of 5 times");
}

#[test]
fn a_fork_that_fails_costs_one_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let region = big();
    let live = Child::fork();
    let source = SharedSource::in_place(live.0);
    let mut writer = slow(dir.path(), 2);
    assert!(writer.submit(request(1, region.space(), source.clone())));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(source.replace_with(|| None), Replaced::Lost);
    assert_eq!(source.replace_with(|| unreachable!()), Replaced::NotNeeded);
    let outcome = wait(&mut writer);
    assert!(
        matches!(outcome.result, Err(Error::Dropped { event: 1, .. })),
        "{:?}",
        outcome.result
    );
    assert_eq!(list(dir.path()).unwrap(), []);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "the temporary file is gone"
    );
    let region = Region::anonymous(1);
    take(&mut writer, 2, region.space());
    assert_eq!(list(dir.path()).unwrap(), [EventNumber(2)]);
}

#[test]
fn a_source_that_dies_takes_the_others_along() {
    let dir = tempfile::tempdir().unwrap();
    let region = big();
    let (dead, other) = (Child::fork(), Child::fork());
    dead.kill();
    assert!(dead.is_killed());
    let mut request = request(1, region.space(), SharedSource::frozen(dead.0));
    request.image.spaces.push(SpaceImage {
        id: SpaceId(2),
        space: region.space(),
    });
    request.spaces.push(SpaceSource {
        space: SpaceId(2),
        source: SharedSource::frozen(other.0),
        extra: vec![],
        changes: Changes::Unknown,
    });
    let mut writer = writer(dir.path());
    assert!(writer.submit(request));
    let outcome = wait(&mut writer);
    let Err(Error::Dropped { event: 1, why }) = outcome.result else {
        panic!("{:?}", outcome.result)
    };
    assert!(why.contains("address space 1") && why.contains("died"), "{why}");
    assert!(other.is_killed());
    assert_eq!(list(dir.path()).unwrap(), []);
}

#[test]
fn a_source_that_dies_in_the_middle_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let region = big();
    let child = Child::fork();
    let mut writer = slow(dir.path(), 2);
    assert!(writer.submit(request(1, region.space(), SharedSource::frozen(child.0))));
    std::thread::sleep(Duration::from_millis(50));
    child.kill();
    assert!(wait(&mut writer).result.is_err());
    assert_eq!(list(dir.path()).unwrap(), []);
}

#[test]
fn a_full_queue_refuses_and_kills() {
    let dir = tempfile::tempdir().unwrap();
    let region = big();
    let children: Vec<Child> = (0..4).map(|_| Child::fork()).collect();
    let mut writer = slow(dir.path(), 1);
    let mut submit = |event: u64| {
        writer.submit(request(
            event,
            region.space(),
            SharedSource::frozen(children[event as usize - 1].0),
        ))
    };
    assert!(submit(1));
    std::thread::sleep(Duration::from_millis(50)); // now it is being written
    assert!(submit(2));
    assert!(!submit(3));
    assert!(
        children[2].is_killed(),
        "a refused capture's processes do not stay"
    );
    assert!(!writer.has_room());
    assert_eq!(writer.refused(), 2);
    // An end without `finish` gives up the rest, in a short time, and leaves nobody behind.
    let start = std::time::Instant::now();
    drop(writer);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(children[0].is_killed() && children[1].is_killed());
}

#[test]
fn finish_waits_for_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = Region::anonymous(64);
    (0..64).for_each(|p| region.write(p, &content(p)));
    let children = [Child::fork(), Child::fork()];
    let mut writer = writer(dir.path());
    for (i, child) in children.iter().enumerate() {
        assert!(writer.submit(request(
            i as u64 + 1,
            region.space(),
            SharedSource::frozen(child.0)
        )));
    }
    let summary = writer.finish().unwrap();
    assert_eq!(summary.refused, 0);
    assert_eq!(summary.outcomes.len(), 2);
    assert!(summary.outcomes.iter().all(|o| o.result.is_ok()));
    assert_eq!(list(dir.path()).unwrap(), [EventNumber(1), EventNumber(2)]);
    assert!(children.iter().all(Child::is_killed));
}

#[test]
fn what_does_not_fit_together_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = Region::anonymous(4);
    region.write(0, &content(1));
    let mut writer = writer(dir.path());
    let mut refused = |change: &dyn Fn(&mut rr_checkpoint::CaptureRequest), part: &str| {
        let child = Child::fork();
        let mut request = request(5, region.space(), SharedSource::frozen(child.0));
        change(&mut request);
        assert!(writer.submit(request));
        let error = wait(&mut writer).result.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(child.is_killed());
    };
    refused(&|r| r.spaces.clear(), "no source");
    refused(&|r| r.image.spaces.clear(), "not in the image");
    refused(&|r| r.spaces[0].extra.push((region.page(0), content(2))), "twice");
    refused(
        &|r| r.spaces[0].extra.push((region.page(0) + 5, content(2))),
        "whole pages",
    );
    refused(
        &|r| r.spaces[0].extra.push((region.page(4), content(2))),
        "not in any private mapping",
    );
    // Events ascend: references always point backwards.
    take(&mut writer, 5, region.space());
    let child = Child::fork();
    assert!(writer.submit(request(5, region.space(), SharedSource::frozen(child.0))));
    assert!(wait(&mut writer).result.is_err());
}

#[test]
fn a_directory_that_goes_away_costs_checkpoints_and_nothing_else() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("checkpoints");
    let region = Region::anonymous(4);
    let mut writer = writer(&dir);
    take(&mut writer, 1, region.space());
    std::fs::rename(&dir, parent.path().join("moved")).unwrap();
    let child = Child::fork();
    assert!(writer.submit(request(2, region.space(), SharedSource::frozen(child.0))));
    let error = wait(&mut writer).result.unwrap_err();
    assert!(
        matches!(&error, Error::Io { .. }) && error.to_string().contains("checkpoints"),
        "{error}"
    );
    assert!(child.is_killed());
    std::fs::rename(parent.path().join("moved"), &dir).unwrap();
    take(&mut writer, 3, region.space());
    assert!(checkpoint_path(&dir, EventNumber(3)).exists());
}

#[test]
fn shared_sources_of_a_given_up_capture_are_finished() {
    let region = Region::anonymous(1);
    let child = Child::fork();
    let (frozen, in_place) = (
        SharedSource::frozen(child.0),
        SharedSource::in_place(Tid(std::process::id() as i32)),
    );
    let space = AddressSpace::from_mappings([region.mapping(Backing::Anonymous)]);
    let mut request = request(1, space, frozen.clone());
    request.spaces.push(SpaceSource {
        space: SpaceId(2),
        source: in_place.clone(),
        extra: vec![],
        changes: Changes::Unknown,
    });
    drop(request);
    assert!(frozen.is_finished() && in_place.is_finished());
    assert!(child.is_killed());
}
