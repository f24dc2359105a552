#![allow(clippy::unwrap_used)] // in functions of tests, too

use std::sync::OnceLock;
use std::time::Instant;

use crossbeam_channel::{bounded, unbounded};
use rr_tracee::ids::PAGE;
use rr_tracee::{Addr, AddrRange, AddressSpace, Backing, ForkPolicy, Mapping, Prot, SpaceId};

use super::*;
use crate::assemble;
use crate::compression::Compression;
use crate::content_index::StoredBlock;
use crate::gauge::Gauge;
use crate::image::{SessionImage, SpaceImage};
use crate::index::{PageIndex, PageTarget, Run};
use crate::pipeline::{CapturedImage, Compressed, Message, Packed};
use crate::{Checkpoint, list};

const UUID: [u8; 16] = [7; 16];
const FIRST: u64 = 0x10000 / PAGE;

fn block(status: &Arc<WriteStatus>) -> Arc<StoredBlock> {
    Arc::new(StoredBlock {
        status: status.clone(),
        place: OnceLock::new(),
    })
}

/// A capture with one page for each of these blocks, the last of which is its own.
fn reading(status: &Arc<WriteStatus>, blocks: &[&Arc<StoredBlock>]) -> Box<CapturedImage> {
    let range = AddrRange::sized(Addr(FIRST * PAGE), 16 * PAGE);
    let space = AddressSpace::from_mappings([Mapping {
        range,
        prot: Prot::RW,
        backing: Backing::Anonymous,
        fork: ForkPolicy::Copy,
        name: "heap".into(),
    }]);
    let image = SessionImage {
        event: EventNumber(status.event),
        time_ns: 1,
        spaces: vec![SpaceImage {
            id: SpaceId(1),
            space,
        }],
        tasks: vec![],
        objects: vec![],
    };
    let mut index = PageIndex::default();
    let runs = (0..blocks.len() as u32).map(|block| Run {
        page: FIRST + u64::from(block),
        count: 1,
        block,
        slot: 0,
    });
    index
        .insert(PageTarget::Space(SpaceId(1)), runs.collect())
        .unwrap();
    Box::new(CapturedImage {
        status: status.clone(),
        image,
        index,
        blocks: blocks.iter().map(|b| Arc::clone(b)).collect(),
        sent: 1,
        stats: CheckpointStats::default(),
        begin: Instant::now(),
    })
}

/// A block of one page as it comes from a compressing thread; or as the death of that thread leaves it.
fn packed(number: u64, block: &Arc<StoredBlock>, survived: bool) -> Message {
    let raw = vec![number as u8 + 1; PAGE as usize];
    let checksum = xxhash_rust::xxh3::xxh3_64(&raw);
    Message::Packed(Packed {
        number,
        block: block.clone(),
        packed: survived.then(|| Compressed {
            compression: Compression::Stored,
            bytes: raw.clone(),
            checksum,
        }),
        raw,
    })
}

/// The files that the writing thread makes of these messages.
fn assembled(dir: &Path, messages: Vec<Message>) -> Vec<AssemblyResult> {
    let (to, from) = unbounded();
    let (buffers, back) = unbounded();
    let (finished, out) = unbounded();
    let blocks = messages.iter().filter(|m| matches!(m, Message::Packed(_)));
    let blocks = blocks.count();
    messages.into_iter().for_each(|m| to.send(m).unwrap());
    drop(to);
    assemble::run(dir, UUID, &from, &buffers, &finished);
    drop((buffers, finished));
    assert_eq!(back.iter().count(), blocks, "every buffer comes back");
    out.iter().collect()
}

/// Lets the publishing thread have these, all at once. Returns events, and how publishing them went.
fn published(dir: &Path, finished: Vec<AssemblyResult>) -> Vec<(u64, Result<CheckpointStats>)> {
    let (to, from) = unbounded();
    let (outcomes, out) = unbounded();
    let (slots, taken) = bounded(finished.len());
    for f in finished {
        slots.send(()).unwrap();
        to.send(f).unwrap();
    }
    drop(to);
    run(dir, None, Keepers::default(), &from, &outcomes, &taken);
    drop(outcomes);
    assert!(taken.is_empty(), "every slot is free again");
    out.iter().map(|o| (o.event.0, o.result)).collect()
}

fn why(result: &Result<CheckpointStats>) -> String {
    result.as_ref().unwrap_err().to_string()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn read(number: u64, status: &Arc<WriteStatus>, blocks: &[&Arc<StoredBlock>]) -> Message {
    Message::Read(number, reading(status, blocks), Gauge::default().hold(1))
}

/// Captures at events 1 to 4, everything told in a bad order: 2 refers to 1, 3 to 2, and 4 to nobody.
/// `survives`: whether the compressing thread of capture 1's block did.
fn four(survives: bool) -> Vec<Message> {
    let statuses: Vec<_> = (1..=4).map(WriteStatus::new).collect();
    let b: Vec<_> = statuses.iter().map(block).collect();
    vec![
        packed(3, &b[3], true),
        read(2, &statuses[2], &[&b[1], &b[2]]),
        read(1, &statuses[1], &[&b[0], &b[1]]),
        packed(2, &b[2], true),
        packed(1, &b[1], true),
        read(3, &statuses[3], &[&b[3]]),
        read(0, &statuses[0], &[&b[0]]),
        packed(0, &b[0], survives),
    ]
}

#[test]
fn whatever_comes_first_is_completed_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let finished = assembled(dir.path(), four(true));
    assert!(finished.iter().all(|f| f.result.is_ok()));
    assert_eq!(list(dir.path()).unwrap(), [], "nothing is published unsynced");
    let outcomes = published(dir.path(), finished);
    assert!(outcomes.iter().zip(1..).all(|((e, r), i)| *e == i && r.is_ok()));
    assert_eq!(names(dir.path()).len(), 4);
    for event in 1..=4 {
        let checkpoint = Checkpoint::open_at(dir.path(), EventNumber(event), &UUID).unwrap();
        let target = PageTarget::Space(SpaceId(1));
        let expected: &[u8] = [&[1][..], &[1, 2], &[2, 3], &[4]][event as usize - 1];
        for (i, byte) in (0..).zip(expected) {
            let page = checkpoint.read_page(target, Addr((FIRST + i) * PAGE)).unwrap();
            assert_eq!(page.unwrap(), vec![*byte; PAGE as usize]);
        }
    }
}

#[test]
fn a_failure_takes_along_what_refers_to_it_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let outcomes = published(dir.path(), assembled(dir.path(), four(false)));
    assert_eq!(outcomes.iter().map(|o| o.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(why(&outcomes[0].1).contains("did not survive"));
    assert!(why(&outcomes[1].1).contains("refers to the checkpoint at event 1"));
    assert!(why(&outcomes[2].1).contains("refers to the checkpoint at event 2"));
    assert!(outcomes[3].1.is_ok());
    assert_eq!(names(dir.path()), ["0000000000000004.ckpt"]);
    Checkpoint::open_at(dir.path(), EventNumber(4), &UUID).unwrap();
}

#[test]
fn a_file_that_cannot_be_published_takes_along_what_refers_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let finished = assembled(dir.path(), four(true));
    // Its name cannot be given: a directory has it.
    std::fs::create_dir(dir.path().join("0000000000000001.ckpt")).unwrap();
    let statuses: Vec<_> = finished.iter().map(|f| f.status.clone()).collect();
    let outcomes = published(dir.path(), finished);
    assert!(
        why(&outcomes[0].1).contains("renaming"),
        "{}",
        why(&outcomes[0].1)
    );
    assert!(why(&outcomes[1].1).contains("refers to the checkpoint at event 1"));
    assert!(why(&outcomes[2].1).contains("refers to the checkpoint at event 2"));
    assert!(outcomes[3].1.is_ok());
    assert_eq!(
        names(dir.path()),
        ["0000000000000001.ckpt", "0000000000000004.ckpt"]
    );
    let failed: Vec<bool> = statuses.iter().map(|f| f.has_failed()).collect();
    assert_eq!(
        failed,
        [true, true, true, false],
        "the reader refers to these no more"
    );
}

#[test]
fn blocks_of_a_dropped_capture_are_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let statuses: Vec<_> = (1..=2).map(WriteStatus::new).collect();
    let b: Vec<_> = statuses.iter().map(block).collect();
    let dropped = Error::Dropped {
        event: 1,
        why: "a process was lost".into(),
    };
    let messages = vec![
        packed(0, &b[0], true),
        Message::Dropped(0, statuses[0].clone(), dropped),
        packed(0, &b[0], true),
        packed(1, &b[1], true),
        read(1, &statuses[1], &[&b[1]]),
    ];
    let outcomes = published(dir.path(), assembled(dir.path(), messages));
    assert!(why(&outcomes[0].1).contains("a process was lost"));
    assert!(outcomes[1].1.is_ok());
    assert_eq!(names(dir.path()), ["0000000000000002.ckpt"]);
}
