use super::*;

use proptest::prelude::*;
use rr_tracee::ids::PAGE;
use rr_tracee::{
    Addr, AddrRange, AddressSpace, Backing, ExtendedState, FileId, ForkPolicy, Mapping, ObjectId, Prot,
    Registers, SpaceId, Tid,
};

use crate::image::{ObjectImage, SpaceImage, TaskImage};
use crate::index::{PageTarget, Run, ZERO_BLOCK};
use crate::stats::Maker;

fn mapping(page: u64, pages: u64, backing: Backing, name: &str) -> Mapping {
    let range = AddrRange::sized(Addr(page * PAGE), pages * PAGE);
    Mapping {
        range,
        prot: Prot::RW,
        backing,
        fork: ForkPolicy::Copy,
        name: name.into(),
    }
}

fn image() -> SessionImage {
    let space = AddressSpace::from_mappings([
        mapping(16, 16, Backing::Anonymous, "[heap]"),
        mapping(
            40,
            8,
            Backing::File {
                file: FileId(u128::MAX / 3),
                offset: 4096,
            },
            "/lib/x.so",
        ),
        mapping(
            60,
            2,
            Backing::Shared {
                object: ObjectId(3),
                offset: 0,
            },
            "shm",
        ),
        Mapping {
            prot: Prot::READ,
            ..mapping(
                64,
                3,
                Backing::Shared {
                    object: ObjectId(4),
                    offset: PAGE,
                },
                "file",
            )
        },
        Mapping {
            fork: ForkPolicy::Wipe,
            prot: Prot(7),
            ..mapping(70, 1, Backing::Rr, "")
        },
    ]);
    let regs: [u64; Registers::WORDS] = std::array::from_fn(|i| i as u64 * 0x0101_0101_0101);
    let task = |tid| TaskImage {
        tid: Tid(tid),
        tgid: Tid(77),
        space: SpaceId(2),
        exe: "/bin/prog".into(),
        in_syscall: tid % 2 == 0,
        regs: Registers::from_words(&regs),
        xstate: ExtendedState((0..2696u32).map(|i| (i / 50) as u8).collect()),
    };
    SessionImage {
        event: EventNumber(9),
        time_ns: 123_456_789,
        spaces: vec![SpaceImage {
            id: SpaceId(2),
            space,
        }],
        tasks: vec![task(77), task(78)],
        objects: vec![
            ObjectImage {
                id: ObjectId(3),
                size: 2 * PAGE,
                content: None,
            },
            ObjectImage {
                id: ObjectId(4),
                size: 5 * PAGE + 9,
                content: Some(FileId(u128::MAX / 7)),
            },
        ],
    }
}

/// One block of four pages, as it is; one of three, compressed; one in an earlier file.
fn index(blocks: &mut Vec<u8>) -> PageIndex {
    let mut reference = |event, raw: &[u8]| {
        let (compression, bytes) = crate::compression::Compressor::new(1).compress(raw);
        let offset = HEADER_LEN as u64 + blocks.len() as u64;
        if event == 9 {
            blocks.extend_from_slice(&bytes); // the others are in files of their own
        }
        let pages = (raw.len() / PAGE as usize) as u16;
        BlockRef {
            event,
            offset,
            length: bytes.len() as u32,
            pages,
            compression,
            checksum: xxh3_64(&bytes),
        }
    };
    let mut x = 1u64;
    let noise: Vec<u8> = (0..4 * PAGE)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect();
    let text: Vec<u8> = (0..3 * PAGE).map(|i| (i / 300) as u8).collect();
    let run = |page, count, block, slot| Run {
        page,
        count,
        block,
        slot,
    };
    PageIndex {
        blocks: vec![reference(9, &noise), reference(9, &text), reference(4, &text)],
        targets: [
            (
                PageTarget::Space(SpaceId(2)),
                vec![
                    run(16, 2, 0, 2),
                    run(20, 3, 1, 0),
                    run(42, 2, ZERO_BLOCK, 0),
                    run(47, 1, 2, 1),
                ],
            ),
            (PageTarget::Object(ObjectId(3)), vec![run(0, 2, 0, 0)]),
        ]
        .into(),
    }
}

fn stats() -> CheckpointStats {
    CheckpointStats {
        pause_us: 1,
        pages_scanned: 2,
        pages_zero: 3,
        pages_referenced: 4,
        pages_stored: 5,
        pages_unchanged: 9,
        write_ms: 6,
        method: "pagemap".into(),
        spaces_in_place: 7,
        maker: Maker::CreateCheckpoints,
        ..CheckpointStats::default()
    }
}

/// A file with these sections (packed messages), all checksums right.
fn assemble(sections: [Vec<u8>; 3], blocks: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    bytes.extend_from_slice(blocks);
    let sections = sections.map(|raw| {
        let (packed, section) = pack_section(raw, bytes.len() as u64);
        bytes.extend_from_slice(&packed);
        section
    });
    let header = Header {
        uuid: [7; 16],
        event: 9,
        file_len: bytes.len() as u64,
        sections,
    };
    bytes[..HEADER_LEN].copy_from_slice(&header.encode());
    bytes
}

fn sections() -> ([Vec<u8>; 3], Vec<u8>) {
    let mut blocks = Vec::new();
    let index = codec::encode_index(&index(&mut blocks)).unwrap();
    (
        [
            index,
            codec::encode_image(&image()).unwrap(),
            codec::encode_stats(&stats()).unwrap(),
        ],
        blocks,
    )
}

fn whole() -> Vec<u8> {
    let (sections, blocks) = sections();
    assemble(sections, &blocks)
}

fn reseal(bytes: &mut [u8]) {
    let sum = xxh3_64(&bytes[..152]);
    bytes[152..160].copy_from_slice(&sum.to_le_bytes());
}

fn why(bytes: &[u8]) -> String {
    read_all(bytes).unwrap_err().to_string()
}

#[test]
fn everything_comes_back() {
    let bytes = whole();
    read_all(&bytes).unwrap();
    let contents = Contents::read(&&bytes[..], Path::new("x")).unwrap();
    assert_eq!(contents.image, image());
    assert_eq!(contents.index, index(&mut Vec::new()));
    assert_eq!(
        contents.stats,
        CheckpointStats {
            bytes: bytes.len() as u64,
            tasks: 2,
            ..stats()
        }
    );
    assert_eq!(contents.header.uuid, [7; 16]);
}

#[test]
fn every_flipped_bit_is_an_error() {
    let bytes = whole();
    for at in 0..bytes.len() {
        let mut rotten = bytes.clone();
        rotten[at] ^= 1 << (at % 8);
        assert!(read_all(&rotten).is_err(), "byte {at} of {}", bytes.len());
    }
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = whole();
    for len in 0..bytes.len() {
        assert!(read_all(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(why(&longer).contains("should have"));
}

#[test]
fn headers_that_lie_are_refused() {
    let bytes = whole();
    let with = |at: usize, value: u64| {
        let mut lie = bytes.clone();
        lie[at..at + 8].copy_from_slice(&value.to_le_bytes());
        reseal(&mut lie);
        lie
    };
    for section in 0..3 {
        for value in [0, 1, bytes.len() as u64 - 1, 1 << 63, u64::MAX] {
            assert!(read_all(&with(48 + 32 * section, value)).is_err(), "offset");
            assert!(read_all(&with(56 + 32 * section, value)).is_err(), "length");
        }
        for value in [0, 1, 1 << 20, 1 << 40, 1 << 63, u64::MAX] {
            assert!(
                read_all(&with(64 + 32 * section, value)).is_err(),
                "decompressed length"
            );
        }
    }
    assert!(why(&with(40, u64::MAX)).contains("should have"));
    assert!(why(&with(32, 10)).contains("different events"));
    let mut future = bytes.clone();
    future[8] = VERSION as u8 + 1;
    let error = read_all(&future).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Future {
                version: 4,
                supported: 3,
                ..
            }
        ),
        "{error}"
    );
    assert!(why(b"").contains("ends inside its header"));
    assert!(why(&[0x55; 4000]).contains("not a checkpoint file"));
}

#[test]
fn images_that_lie_are_refused() {
    let refused = |part: &str, lie: &dyn Fn(&mut SessionImage)| {
        let (mut all, blocks) = sections();
        let mut image = image();
        lie(&mut image);
        all[1] = codec::encode_image(&image).unwrap();
        let why = why(&assemble(all, &blocks));
        assert!(why.contains(part), "{why}");
    };
    refused("out of order", &|i| i.tasks.reverse());
    refused("no address space", &|i| i.tasks[0].space = SpaceId(3));
    refused("impossible", &|i| i.tasks[0].tgid = Tid(-1));
    refused("out of order", &|i| i.spaces.push(i.spaces[0].clone()));
    refused("out of order", &|i| i.objects.push(i.objects[0]));
    refused("impossible", &|i| i.objects[0].size = u64::MAX);
    refused("is a file of the trace", &|i| {
        i.objects[0].content = Some(FileId(1));
        i.spaces[0].space.apply(&rr_tracee::SpaceOp::Protect(
            AddrRange::sized(Addr(0), 1 << 30),
            Prot::READ,
        ));
    });
    refused("writable at", &|i| {
        i.spaces[0].space.apply(&rr_tracee::SpaceOp::Protect(
            AddrRange::sized(Addr(65 * PAGE), PAGE),
            Prot::RW,
        ));
    });
    refused("beyond its end", &|i| i.objects[0].size = PAGE);
    refused("not in the image", &|i| i.objects.clear());
    refused("not in any private mapping", &|i| {
        i.spaces[0].space = AddressSpace::new()
    });
    let map =
        |m: Mapping| move |i: &mut SessionImage| i.spaces[0].space = AddressSpace::from_mappings([m.clone()]);
    let anonymous = || mapping(16, 32, Backing::Anonymous, "");
    let ragged = AddrRange::sized(Addr(16 * PAGE + 1), PAGE);
    refused(
        "whole pages",
        &map(Mapping {
            range: ragged,
            ..anonymous()
        }),
    );
    refused(
        "rights",
        &map(Mapping {
            prot: Prot(8),
            ..anonymous()
        }),
    );
    refused(
        "offset",
        &map(mapping(
            16,
            32,
            Backing::File {
                file: FileId(1),
                offset: 5,
            },
            "",
        )),
    );
    refused(
        "offset",
        &map(mapping(
            16,
            32,
            Backing::File {
                file: FileId(1),
                offset: !(PAGE - 1),
            },
            "",
        )),
    );
}

#[test]
fn bombs_do_not_go_off() {
    let (all, blocks) = sections();
    // Many zeros compress to next to nothing; the writer keeps such a section as it is, a reader believes no
    // more than a bound.
    let zeros = vec![0; 64 << 20];
    let (packed, section) = pack_section(zeros.clone(), 0);
    assert_eq!((packed.len() as u64, section.raw), (64 << 20, 64 << 20));
    let bomb = compress(&zeros, 4).unwrap();
    let mut bytes = vec![0; HEADER_LEN];
    let section = Section {
        offset: HEADER_LEN as u64,
        stored: bomb.len() as u64,
        raw: 64 << 20,
        checksum: xxh3_64(&bomb),
    };
    bytes.extend_from_slice(&bomb);
    let header = Header {
        uuid: [7; 16],
        event: 9,
        file_len: bytes.len() as u64,
        sections: [section; 3],
    };
    bytes[..HEADER_LEN].copy_from_slice(&header.encode());
    assert!(why(&bytes).contains("length of a section"));
    // A packed message of zero words: 8 bytes stand for 256 words each.
    let mut message = vec![0x10, 0xff, 0xff, 0xff, 0xff, 0x07];
    message.extend(std::iter::repeat_n([0, 255], 1000).flatten());
    for i in 0..3 {
        let mut all = all.clone();
        all[i] = message.clone();
        assert!(read_all(&assemble(all, &blocks)).is_err());
    }
    // A list of more elements than the message has bytes.
    let words: [u64; 3] = [2 << 32, 0x0001_0000_0000_0000, 0x07ff_ffff_f000_0001];
    let mut raw: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    raw[4] = 2;
    let mut packed = Vec::new();
    for word in raw.chunks(8) {
        packed.push(0xff);
        packed.extend_from_slice(word);
        packed.push(0);
    }
    for i in 0..3 {
        let mut all = all.clone();
        all[i] = packed.clone();
        let _ = read_all(&assemble(all, &blocks));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whoever knows how to compute checksums gets no further than an error.
    #[test]
    fn any_message_ends_with_an_answer(
        which in 0usize..3,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let (mut all, blocks) = sections();
        for (at, value) in edits {
            let at = at.index(all[which].len());
            all[which][at] = value;
        }
        let _ = read_all(&assemble(all, &blocks));
    }

    #[test]
    fn any_header_ends_with_an_answer(edits in proptest::collection::vec((16usize..152, any::<u8>()), 1..8)) {
        let mut bytes = whole();
        for (at, value) in edits {
            bytes[at] = value;
        }
        reseal(&mut bytes);
        let _ = read_all(&bytes);
    }

    #[test]
    fn any_bytes_end_with_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..1000)) {
        prop_assert!(read_all(&bytes).is_err());
    }
}

#[test]
fn names_are_exact() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "0000000000000012.ckpt",
        "12.ckpt",
        "..ckpt",
        ".0000000000000013.ckpt.tmp",
        "123456789012345678.ckpt",
        "+000000000000014.ckpt",
    ] {
        std::fs::write(dir.path().join(name), b"").unwrap();
    }
    assert_eq!(
        list(dir.path()).unwrap(),
        [EventNumber(12), EventNumber(123_456_789_012_345_678)]
    );
    assert_eq!(list(&dir.path().join("missing")).unwrap(), []);
    assert_eq!(
        checkpoint_path(Path::new("d"), EventNumber(12)),
        Path::new("d/0000000000000012.ckpt")
    );
}

#[test]
fn what_a_killed_writer_left_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let names = [
        ".0000000000000007.ckpt.tmp",
        "0000000000000006.ckpt",
        ".note",
        "0000000000000007.ckpt.tmp",
    ];
    for name in names {
        std::fs::write(dir.path().join(name), b"x").unwrap();
    }
    sweep(dir.path()).unwrap();
    let left: Vec<bool> = names.iter().map(|name| dir.path().join(name).exists()).collect();
    assert_eq!(left, [false, true, true, true]);
}
