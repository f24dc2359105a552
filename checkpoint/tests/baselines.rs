//! Pages that are known to be unchanged are not read, and are what they were.

mod common;

use std::collections::BTreeMap;

use common::*;
use proptest::prelude::*;
use rr_checkpoint::{CheckpointWriter, Options};
use rr_tracee::ids::PAGE;
use rr_tracee::pagemap::shared;

const PAGES: u64 = 200;

/// The fate of pages between two checkpoints.
#[derive(Clone, Copy, Debug)]
enum Change {
    Write(u64),
    Zero,
    Read,
    Discard,
    /// The same bytes are written again.
    Same,
}

fn change() -> impl Strategy<Value = (u64, Change)> {
    let kind = prop_oneof![
        4 => (0u64..40).prop_map(Change::Write),
        1 => Just(Change::Zero),
        1 => Just(Change::Read),
        1 => Just(Change::Discard),
        1 => Just(Change::Same),
    ];
    (0..PAGES, kind)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Any history, with checkpoints that fail among them: every other one gives back the memory of its moment, and what was
    /// written to is all that is looked at.
    #[test]
    fn every_checkpoint_keeps_its_moment(
        steps in proptest::collection::vec((proptest::collection::vec(change(), 0..60), 0..6), 1..9),
        huge in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::new(Region::anonymous(PAGES));
        if huge {
            kept.region.advise(0, PAGES, libc::MADV_HUGEPAGE);
        }
        let mut writer = writer(dir.path());
        let mut memory: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut moments = Vec::new();
        let mut failed = true;
        for (i, (step, fate)) in steps.iter().enumerate() {
            let mut touched = std::collections::BTreeSet::new();
            for &(page, change) in step {
                let addr = kept.region.page(page).0;
                touched.insert(page);
                match change {
                    Change::Write(seed) => {
                        kept.region.write(page, &content(seed));
                        memory.insert(addr, content(seed));
                    }
                    Change::Zero => {
                        kept.region.write(page, &[0; PAGE as usize]);
                        memory.remove(&addr);
                    }
                    Change::Read => {
                        kept.region.touch(page);
                    }
                    Change::Discard => {
                        kept.region.advise(page, 1, libc::MADV_DONTNEED);
                        memory.remove(&addr);
                    }
                    Change::Same => {
                        let now = memory.get(&addr).cloned().unwrap_or(vec![0; PAGE as usize]);
                        kept.region.write(page, &now);
                    }
                }
            }
            let event = 10 * (i as u64 + 1);
            if *fate == 0 {
                // This one is lost: a page is handed over twice.
                let child = Child::fork();
                let mut request = request(event, kept.region.space(), rr_checkpoint::SharedSource::frozen(child.0));
                let page = kept.region.page(0);
                request.spaces[0].extra = vec![(page, content(1)), (page, content(2))];
                assert!(writer.submit(request));
                prop_assert!(wait(&mut writer).result.is_err());
                failed = true;
                continue;
            }
            let stats = kept.take(&mut writer, event);
            prop_assert_eq!(stats.pages_scanned, stats.pages_zero + stats.pages_referenced + stats.pages_stored);
            if !failed && shared::is_known() {
                prop_assert!(stats.pages_scanned <= touched.len() as u64, "{:?} {:?}", stats, touched);
            }
            failed = false;
            moments.push((event, memory.clone()));
        }
        for (event, memory) in &moments {
            let checkpoint = open(dir.path(), *event);
            prop_assert_eq!(&pages(&checkpoint, TARGET).unwrap(), memory);
        }
    }
}

/// The zero page looks shared. A fork does not even have it for memory that was never written.
#[test]
fn memory_that_was_mapped_anew_is_not_what_it_was() {
    for (touched, written) in [(0..60, None), (0..20, Some(40)), (0..0, Some(1)), (10..11, None)] {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::new(Region::anonymous(64));
        (0..64).for_each(|p| kept.region.write(p, &content(p)));
        let mut writer = writer(dir.path());
        kept.take(&mut writer, 1);
        kept.region.renew();
        kept.region.advise(0, 64, libc::MADV_DONTFORK);
        touched.clone().for_each(|p| assert_eq!(kept.region.touch(p), 0));
        written
            .iter()
            .for_each(|p| kept.region.write(*p, &content(*p + 100)));
        kept.take(&mut writer, 2);
        let expected: BTreeMap<u64, Vec<u8>> = written
            .iter()
            .map(|p| (kept.region.page(*p).0, content(*p + 100)))
            .collect();
        let found = pages(&open(dir.path(), 2), TARGET).unwrap();
        assert!(
            found == expected,
            "read {touched:?}, written {written:?}: {} pages",
            found.len()
        );
    }
}

#[test]
fn unchanged_pages_are_not_looked_at() {
    if !shared::is_known() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut kept = Kept::new(Region::anonymous(3000));
    (0..2000).for_each(|p| kept.region.write(p, &content(p)));
    (2000..2500).for_each(|p| kept.region.write(p, &[0; PAGE as usize]));
    let mut writer = writer(dir.path());
    let first = kept.take(&mut writer, 1);
    assert_eq!(
        (first.pages_scanned, first.pages_zero, first.pages_unchanged),
        (2500, 500, 0)
    );
    for event in 2..8 {
        kept.region.write(event, &content(event + 5000));
        kept.region.write(2990, &content(3)); // known content
        let stats = kept.take(&mut writer, event);
        assert_eq!(
            (stats.pages_scanned, stats.pages_stored, stats.pages_referenced),
            (2, 1, 1),
            "event {event}"
        );
        assert_eq!(stats.pages_unchanged, 2499);
    }
    // Content that was stored once, and is stored no more, is stored again.
    (0..2000)
        .filter(|p| p % 64 != 0)
        .for_each(|p| kept.region.write(p, &content(p + 20_000)));
    kept.take(&mut writer, 8);
    let stats = kept.take(&mut writer, 9);
    assert!(stats.pages_stored > 0, "{stats:?}");
    let last = pages(&open(dir.path(), 9), TARGET).unwrap();
    assert!(
        (100..2000)
            .all(|p| last[&kept.region.page(p).0] == content(if p % 64 == 0 { p } else { p + 20_000 }))
    );
}

/// The blocks of a checkpoint that could not be written are referred to by none, though its pages are unchanged since.
#[test]
fn blocks_that_were_not_written_are_stored_again() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("checkpoints");
    let mut kept = Kept::new(Region::anonymous(500));
    (0..300).for_each(|p| kept.region.write(p, &content(p)));
    let mut writer = CheckpointWriter::start(dir.clone(), UUID, Options::default()).unwrap();
    kept.take(&mut writer, 1);
    std::fs::rename(&dir, parent.path().join("moved")).unwrap();
    (200..400).for_each(|p| kept.region.write(p, &content(p + 1000)));
    kept.submit(&mut writer, 2);
    assert!(wait(&mut writer).result.is_err());
    std::fs::rename(parent.path().join("moved"), &dir).unwrap();
    let stats = kept.take(&mut writer, 3);
    let checkpoint = open(&dir, 3);
    assert!(checkpoint.references().iter().all(|e| e.0 == 1), "{stats:?}");
    let pages = pages(&checkpoint, TARGET).unwrap();
    assert_eq!(pages.len(), 400);
    assert!((0..400).all(|p| pages[&kept.region.page(p).0] == content(if p < 200 { p } else { p + 1000 })));
}

#[test]
fn a_kept_fork_lives_until_it_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let region = Region::anonymous(4);
    let mut writer = writer(dir.path());
    let child = Child::fork();
    let source = rr_checkpoint::SharedSource::frozen(child.0);
    source.keep();
    assert!(writer.submit(request(1, region.space(), source.clone())));
    wait(&mut writer).result.unwrap();
    assert!(source.is_finished() && source.is_kept());
    // SAFETY: a signal that is none, to our own child.
    assert_eq!(unsafe { libc::kill(child.0.0, 0) }, 0);
    source.release();
    assert!(!source.is_kept() && child.is_killed());
    // Released before it was read, it ends when that is done.
    let child = Child::fork();
    let source = rr_checkpoint::SharedSource::frozen(child.0);
    source.keep();
    source.release();
    assert!(writer.submit(request(2, region.space(), source)));
    wait(&mut writer).result.unwrap();
    assert!(child.is_killed());
}
