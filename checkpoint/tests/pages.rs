//! Pages that go into a checkpoint come out again: real processes, all kinds of pages.

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use common::*;
use proptest::prelude::*;
use rr_checkpoint::{
    Changes, ObjectImage, ObjectSource, PageSource, PageTarget, SharedSource, SpaceImage, SpaceSource,
    Untouched, compare_object, compare_space, copy_unforkable,
};
use rr_trace::Member;
use rr_tracee::ids::PAGE;
use rr_tracee::{
    Addr, AddrRange, AddressSpace, Backing, FileId, ForkPolicy, Mapping, Memory, ObjectId, Prot, SpaceId,
};

const PAGES: u64 = 96;

/// The fate of a page between two checkpoints.
#[derive(Clone, Copy, Debug)]
enum Change {
    Write(u64),
    Zero,
    Read,
    Discard,
}

fn change() -> impl Strategy<Value = (u64, Change)> {
    let kind = prop_oneof![
        4 => (0u64..40).prop_map(Change::Write),
        1 => Just(Change::Zero),
        1 => Just(Change::Read),
        1 => Just(Change::Discard),
    ];
    (0..PAGES, kind)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Any history of page changes: every checkpoint of it gives back the memory of its moment, long after.
    #[test]
    fn every_checkpoint_keeps_its_moment(steps in proptest::collection::vec(proptest::collection::vec(change(), 0..60), 1..7)) {
        let dir = tempfile::tempdir().unwrap();
        let mut region = Region::anonymous(PAGES);
        let mut writer = writer(dir.path());
        let mut memory: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut moments = Vec::new();
        for (i, step) in steps.iter().enumerate() {
            for &(page, change) in step {
                let addr = region.page(page).0;
                match change {
                    Change::Write(seed) => {
                        region.write(page, &content(seed));
                        memory.insert(addr, content(seed));
                    }
                    Change::Zero => {
                        region.write(page, &[0; PAGE as usize]);
                        memory.remove(&addr);
                    }
                    Change::Read => {
                        region.touch(page);
                    }
                    Change::Discard => {
                        region.advise(page, 1, libc::MADV_DONTNEED);
                        memory.remove(&addr);
                    }
                }
            }
            let event = 10 * (i as u64 + 1);
            let stats = take(&mut writer, event, region.space());
            prop_assert_eq!(stats.pages_scanned, stats.pages_zero + stats.pages_referenced + stats.pages_stored);
            prop_assert_eq!(stats.pages_referenced + stats.pages_stored, memory.len() as u64);
            moments.push((event, memory.clone()));
        }
        for (event, memory) in &moments {
            let checkpoint = open(dir.path(), *event);
            prop_assert_eq!(&pages(&checkpoint, TARGET).unwrap(), memory);
            prop_assert!(checkpoint.references().iter().all(|r| r.0 < *event));
            // One by one they are the same, present or not.
            for page in 0..PAGES {
                let addr = region.page(page);
                let read = checkpoint.read_page(TARGET, addr).unwrap();
                prop_assert_eq!(read.as_ref(), memory.get(&addr.0));
            }
        }
        // And the last moment is that of this process, whose memory has not changed since.
        let live = Memory::of(rr_tracee::Tid(std::process::id() as i32));
        let last = open(dir.path(), moments.len() as u64 * 10);
        let differences = compare_space(&last, SPACE, &region.space(), &live, &|_| unreachable!(), 9).unwrap();
        prop_assert_eq!(differences.pages, 0);
    }
}

#[test]
fn unchanged_pages_are_references_to_the_first_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = Region::anonymous(1000);
    (0..1000).for_each(|p| region.write(p, &content(p)));
    let mut writer = writer(dir.path());
    let first = take(&mut writer, 1, region.space());
    assert_eq!((first.pages_stored, first.pages_referenced), (1000, 0));
    assert_eq!(first.pause_us, 77);
    for event in 2..6 {
        region.write(event, &content(5000 + event));
        let stats = take(&mut writer, event, region.space());
        assert_eq!(
            (stats.pages_stored, stats.pages_referenced),
            (1, 999),
            "event {event}"
        );
        assert!(
            stats.bytes < first.bytes / 20,
            "{} bytes after {}",
            stats.bytes,
            first.bytes
        );
        assert_eq!(
            stats.bytes,
            std::fs::metadata(rr_checkpoint::checkpoint_path(
                dir.path(),
                rr_trace::event::EventNumber(event)
            ))
            .unwrap()
            .len()
        );
        // Flat: every reference names the file that has the bytes.
        let checkpoint = open(dir.path(), event);
        assert_eq!(*checkpoint.stats(), stats);
        let direct: Vec<u64> = checkpoint.references().iter().map(|e| e.0).collect();
        assert_eq!(direct, (1..event).collect::<Vec<_>>());
    }
    // The same content elsewhere, and in a second process, is stored once.
    (0..1000).for_each(|p| region.write(p, &content(p / 500)));
    let stats = take(&mut writer, 6, region.space());
    assert_eq!(stats.pages_stored, 0, "both contents were there before");
    assert_eq!(pages(&open(dir.path(), 6), TARGET).unwrap().len(), 1000);
}

/// A restore decompresses whole blocks, so a page or two must not keep an old block alive for ever.
#[test]
fn what_is_left_of_old_blocks_moves_to_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = Region::anonymous(640);
    (0..640).for_each(|p| region.write(p, &content(2 * p + 1)));
    let mut writer = writer(dir.path());
    take(&mut writer, 1, region.space());
    (0..640)
        .filter(|p| p % 64 != 0)
        .for_each(|p| region.write(p, &content(2 * p + 10_001)));
    let stats = take(&mut writer, 2, region.space());
    assert_eq!((stats.pages_referenced, stats.pages_stored), (10, 630));
    let stats = take(&mut writer, 3, region.space());
    assert_eq!((stats.pages_referenced, stats.pages_stored), (630, 10));
    let checkpoint = open(dir.path(), 3);
    assert_eq!(checkpoint.references(), [rr_trace::event::EventNumber(2)]);
    let pages = pages(&checkpoint, TARGET).unwrap();
    assert!(
        (0..640).all(|p| pages[&region.page(p).0] == content(2 * p + if p % 64 == 0 { 1 } else { 10_001 }))
    );
}

#[test]
fn of_a_mapped_file_only_written_pages_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    let length = 7 * PAGE + 100;
    file.write_all(&[0x33; (7 * PAGE + 100) as usize]).unwrap();
    let mut region = Region::new(8, file.as_raw_fd());
    let backing = Backing::File {
        file: FileId(9),
        offset: 0,
    };
    let space = AddressSpace::from_mappings([region.mapping(backing)]);
    (0..8).for_each(|p| assert_eq!(region.touch(p), 0x33));
    region.write(2, &content(1));
    region.write(3, &[0; PAGE as usize]); // zero, but not in the file
    region.write(4, &[0x33; PAGE as usize]); // as in the file, but a page of its own
    let mut writer = writer(dir.path());
    let stats = take(&mut writer, 1, space.clone());
    assert_eq!(
        (stats.pages_scanned, stats.pages_zero, stats.pages_stored),
        (3, 1, 2)
    );
    let checkpoint = open(dir.path(), 1);
    let expected: BTreeMap<u64, Vec<u8>> = [
        (2, content(1)),
        (3, vec![0; PAGE as usize]),
        (4, vec![0x33; PAGE as usize]),
    ]
    .into_iter()
    .map(|(p, bytes)| (region.page(p).0, bytes))
    .collect();
    assert_eq!(pages(&checkpoint, TARGET).unwrap(), expected);
    let zero: Vec<_> = checkpoint
        .pages(TARGET)
        .unwrap()
        .filter(|(_, s)| *s == PageSource::Zero)
        .collect();
    assert_eq!(zero.len(), 1);

    // A replay may have copied pages that the recording had not: equal as long as their bytes are the file's.
    let open_file = |id: Untouched| {
        assert_eq!(id, Untouched::File(FileId(9)));
        Ok(Member::whole(file.try_clone().unwrap(), "file".into()))
    };
    let mut last = vec![0x33; PAGE as usize];
    last[(length % PAGE) as usize..].fill(0);
    region.write(0, &[0x33; PAGE as usize]);
    region.write(7, &last);
    let compare = || {
        let child = Child::fork();
        compare_space(&checkpoint, SPACE, &space, &Memory::of(child.0), &open_file, 10)
            .unwrap()
            .first
    };
    assert_eq!(compare(), []);
    // Beyond the end of the file a page holds zeros.
    last[4000] = 5;
    region.write(7, &last);
    let differences = compare();
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].addr, region.page(7) + 4000);
    assert_eq!((differences[0].expected, differences[0].found), (0, Some(5)));
}

#[test]
fn pages_without_access_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = Region::anonymous(600);
    (0..600).for_each(|p| region.write(p, &content(p)));
    region.protect(100, 400, libc::PROT_NONE);
    let mut writer = writer(dir.path());
    take(&mut writer, 1, region.space());
    let pages = pages(&open(dir.path(), 1), TARGET).unwrap();
    assert_eq!(pages.len(), 600);
    assert!((0..600).all(|p| pages[&region.page(p).0] == content(p)));
    let child = Child::fork();
    let checkpoint = open(dir.path(), 1);
    let differences = compare_space(
        &checkpoint,
        SPACE,
        &region.space(),
        &Memory::of(child.0),
        &|_| unreachable!(),
        9,
    );
    assert!(differences.unwrap().is_empty());
}

#[test]
fn a_sparse_terabyte_is_fast() {
    if rr_tracee::pagemap::method() != rr_tracee::pagemap::Method::Scan {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut region = Region::anonymous(1 << 28);
    let touched = [0, 1, 12_345_678, (1 << 28) - 1];
    touched.iter().for_each(|&p| region.write(p, &content(p)));
    let mut writer = writer(dir.path());
    let start = Instant::now();
    let stats = take(&mut writer, 1, region.space());
    assert_eq!(stats.pages_stored, 4);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let pages = pages(&open(dir.path(), 1), TARGET).unwrap();
    assert_eq!(
        pages.keys().copied().collect::<Vec<_>>(),
        touched.map(|p| region.page(p).0)
    );
}

#[test]
fn what_a_fork_does_not_copy_is_copied_in_the_pause() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = Region::anonymous(30);
    (0..30).step_by(2).for_each(|p| region.write(p, &content(p)));
    region.advise(5, 5, libc::MADV_DONTFORK);
    region.advise(15, 5, libc::MADV_WIPEONFORK);
    let mut space = region.space();
    let part = |page: u64| AddrRange::sized(region.page(page), 5 * PAGE);
    space.apply(&rr_tracee::SpaceOp::SetFork(part(5), ForkPolicy::Omit));
    space.apply(&rr_tracee::SpaceOp::SetFork(part(15), ForkPolicy::Wipe));
    let extra = copy_unforkable(rr_tracee::Tid(std::process::id() as i32), &space).unwrap();
    let child = Child::fork();
    let mut request = request(1, space, SharedSource::frozen(child.0));
    request.spaces[0].extra = extra;
    let mut writer = writer(dir.path());
    assert!(writer.submit(request));
    wait(&mut writer).result.unwrap();
    let expected: BTreeMap<u64, Vec<u8>> = (0..30)
        .step_by(2)
        .map(|p| (region.page(p).0, content(p)))
        .collect();
    assert_eq!(pages(&open(dir.path(), 1), TARGET).unwrap(), expected);
}

#[test]
fn shared_objects_are_kept_once_with_their_holes() {
    let dir = tempfile::tempdir().unwrap();
    let file = tempfile::tempfile().unwrap();
    let size = 1000 * PAGE + 10;
    file.set_len(size).unwrap();
    let put = |page: u64, bytes: &[u8]| {
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, page * PAGE).unwrap();
    };
    put(3, &content(3));
    put(500, &content(4));
    put(1000, b"the end...");
    let object = ObjectId(5);
    let region = Region::anonymous(1);
    let shared = |at: u64, offset: u64, pages: u64| Mapping {
        range: AddrRange::sized(Addr(at * PAGE), pages * PAGE),
        prot: Prot::RW,
        backing: Backing::Shared {
            object,
            offset: offset * PAGE,
        },
        fork: ForkPolicy::Copy,
        name: "".into(),
    };
    let mut writer = writer(dir.path());
    let mut event = 0;
    let mut capture = || {
        event += 1;
        let child = Child::fork();
        let views = AddressSpace::from_mappings([
            region.mapping(Backing::Anonymous),
            shared(2000, 0, 600),
            shared(9000, 600, 401),
        ]);
        let parts = [AddrRange::sized(Addr(0), 1001 * PAGE)];
        let source = ObjectSource::from_file(object, &file, &parts).unwrap();
        assert!(
            source.pages.iter().map(|(_, b)| b.len()).sum::<usize>() < 100 * PAGE as usize,
            "holes are skipped"
        );
        let mut request = request_with(event, views, SharedSource::frozen(child.0), vec![source]);
        assert_eq!(request.image.mapped_parts(object), parts);
        request.image.objects.push(ObjectImage {
            id: object,
            size,
            content: None,
        });
        assert!(writer.submit(request));
        wait(&mut writer).result.unwrap();
        open(dir.path(), event)
    };
    let checkpoint = capture();
    let mut last = vec![0; PAGE as usize];
    last[..10].copy_from_slice(b"the end...");
    let expected: BTreeMap<u64, Vec<u8>> = [
        (3 * PAGE, content(3)),
        (500 * PAGE, content(4)),
        (1000 * PAGE, last),
    ]
    .into();
    assert_eq!(pages(&checkpoint, PageTarget::Object(object)).unwrap(), expected);
    assert!(compare_object(&checkpoint, object, &file, 9).unwrap().is_empty());
    put(3, &content(6));
    put(700, b"new");
    let differences = compare_object(&checkpoint, object, &file, 9).unwrap().first;
    assert_eq!(
        differences.iter().map(|d| d.addr.0 / PAGE).collect::<Vec<_>>(),
        [3, 700]
    );
    assert_eq!(
        (
            differences[1].expected,
            differences[1].found,
            differences[1].bytes
        ),
        (0, Some(b'n'), 3)
    );
    assert_eq!(capture().stats().pages_stored, 2);
}

#[test]
fn what_is_not_mapped_of_an_object_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(10 * PAGE).unwrap();
    let put = |page: u64, n| {
        std::os::unix::fs::FileExt::write_all_at(&file, &content(n), page * PAGE).unwrap();
    };
    (0..10).for_each(|page| put(page, page));
    let object = ObjectId(5);
    let region = Region::anonymous(1);
    let view = Mapping {
        range: AddrRange::sized(Addr(PAGE), 2 * PAGE),
        prot: Prot::READ,
        backing: Backing::Shared {
            object,
            offset: 4 * PAGE,
        },
        fork: ForkPolicy::Copy,
        name: "".into(),
    };
    let parts = [AddrRange::sized(Addr(4 * PAGE), 2 * PAGE)];
    let source = ObjectSource::from_file(object, &file, &parts).unwrap();
    let child = Child::fork();
    let space = AddressSpace::from_mappings([view, region.mapping(Backing::Anonymous)]);
    let mut request = request_with(1, space, SharedSource::frozen(child.0), vec![source]);
    request.image.objects.push(ObjectImage {
        id: object,
        size: 10 * PAGE,
        content: None,
    });
    let mut writer = writer(dir.path());
    assert!(writer.submit(request));
    wait(&mut writer).result.unwrap();
    let checkpoint = open(dir.path(), 1);
    let expected: BTreeMap<u64, Vec<u8>> = [(4 * PAGE, content(4)), (5 * PAGE, content(5))].into();
    assert_eq!(pages(&checkpoint, PageTarget::Object(object)).unwrap(), expected);
    put(3, 77);
    put(6, 77);
    assert!(compare_object(&checkpoint, object, &file, 9).unwrap().is_empty());
    put(5, 77);
    assert_eq!(compare_object(&checkpoint, object, &file, 9).unwrap().pages, 1);
}

#[test]
fn several_spaces_and_memory_of_rr() {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, mut b) = (Region::anonymous(10), Region::anonymous(10));
    (0..10).for_each(|p| a.write(p, &content(p)));
    (0..10).for_each(|p| b.write(p, &content(p + 5)));
    let first = Child::fork();
    a.write(0, &content(100));
    let second = Child::fork();
    let mut request = request(1, a.space(), SharedSource::frozen(first.0));
    let both = AddressSpace::from_mappings([a.mapping(Backing::Anonymous), b.mapping(Backing::Rr)]);
    request.image.spaces.push(SpaceImage {
        id: SpaceId(2),
        space: both,
    });
    request.spaces.push(SpaceSource {
        space: SpaceId(2),
        source: SharedSource::frozen(second.0),
        extra: vec![],
        changes: Changes::Unknown,
    });
    let mut writer = writer(dir.path());
    assert!(writer.submit(request));
    let stats = wait(&mut writer).result.unwrap();
    // Nine pages are common to both; what is rr's is nowhere.
    assert_eq!((stats.pages_stored, stats.pages_referenced), (11, 9));
    let checkpoint = open(dir.path(), 1);
    let page0 = |id| pages(&checkpoint, PageTarget::Space(SpaceId(id))).unwrap()[&a.page(0).0].clone();
    assert_eq!((page0(1), page0(2)), (content(0), content(100)));
    assert!(
        !pages(&checkpoint, PageTarget::Space(SpaceId(2)))
            .unwrap()
            .contains_key(&b.page(0).0)
    );
    assert!(matches!(
        checkpoint.read_page(PageTarget::Space(SpaceId(3)), Addr(0)),
        Err(rr_checkpoint::Error::NoSpace { .. })
    ));
}

#[test]
fn differences_are_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = Region::anonymous(200);
    (0..100).for_each(|p| region.write(p, &content(p)));
    let mut writer = writer(dir.path());
    take(&mut writer, 1, region.space());
    let checkpoint = open(dir.path(), 1);
    let mut changed = content(40);
    changed[17] ^= 0xff;
    changed[3000] ^= 1;
    region.write(40, &changed); // stored, and different
    let mut new = vec![0; PAGE as usize];
    new[4095] = 1;
    region.write(150, &new); // not stored, and not zero
    region.write(151, &[0; PAGE as usize]); // not stored, there, and zero: no difference
    region.advise(60, 1, libc::MADV_DONTNEED); // stored, and gone
    let child = Child::fork();
    let compare = |limit| {
        compare_space(
            &checkpoint,
            SPACE,
            &region.space(),
            &Memory::of(child.0),
            &|_| unreachable!(),
            limit,
        )
        .unwrap()
        .first
    };
    let all = compare(10);
    let found: Vec<_> = all
        .iter()
        .map(|d| (d.addr, d.expected, d.found, d.bytes))
        .collect();
    let first = content(60).iter().position(|&b| b != 0).unwrap();
    assert_eq!(
        found[0],
        (region.page(40) + 17, content(40)[17], Some(changed[17]), 2)
    );
    assert_eq!(found[1].0, region.page(60) + first as u64);
    assert_eq!(found[2], (region.page(150) + 4095, 0, Some(1), 1));
    assert_eq!(found.len(), 3);
    let text = all[0].to_string();
    assert!(
        text.contains("region")
            && text.contains(&format!("{}", region.page(40) + 17))
            && text.contains("0x11"),
        "{text}"
    );
    assert_eq!(compare(1), all[..1]);
    // A process that does not have the memory at all.
    let mut prot = region.space();
    prot.apply(&rr_tracee::SpaceOp::Protect(region.0, Prot::NONE));
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let missing = compare_space(
        &checkpoint,
        SPACE,
        &prot,
        &Memory::of(rr_tracee::Tid(other.id() as i32)),
        &|_| unreachable!(),
        1000,
    );
    other.kill().unwrap();
    other.wait().unwrap();
    let missing = missing.unwrap().first;
    assert_eq!(missing.len(), 100);
    assert!(missing.iter().all(|d| d.found.is_none()));
}
