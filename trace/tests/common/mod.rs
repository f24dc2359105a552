//! Events of all kinds, for the tests.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use proptest::collection::vec;
use proptest::prelude::*;
use rr_preload::payload::Digest;
use rr_trace::event::{
    CloneInfo, Disposition, ExecInfo, MemWrite, ObjectWrite, Output, OutputSource, Point, SignalPlace, Stdio,
    TaskOp,
};
use rr_trace::{Event, EventKind, EventNumber, Header, TraceWriter, WriterOptions};
use rr_tracee::digest::ChunkDigest;
use rr_tracee::{
    Addr, AddrRange, Backing, ExtendedState, FileId, ForkPolicy, Mapping, ObjectId, Prot, Registers, SpaceId,
    SpaceOp, Tid,
};

/// A header that differs from trace to trace.
pub fn header() -> Header {
    let mut header = Header::for_this_machine(
        "0.1.0-test",
        vec!["true".into()],
        "/tmp".into(),
        vec!["A=b".into()],
    )
    .unwrap();
    header.checkpoint_interval = Some("200".into());
    header.bound_cpu = Some(1);
    header
}

/// Gives events their numbers, from `first` on.
pub fn numbered(mut events: Vec<Event>, first: u64) -> Vec<Event> {
    for (i, event) in events.iter_mut().enumerate() {
        event.number = EventNumber(first + i as u64);
    }
    events
}

/// A typical event: `read` of a few bytes.
pub fn typical(number: u64, data: Vec<u8>) -> Event {
    let entry = Registers {
        rax: (-38i64) as u64,
        rdi: 3,
        rsi: 0x7fff_1234_5000 + number % 16 * 64,
        rdx: 4096,
        orig_rax: number % 3,
        rip: 0x7f12_3456_7890 + number % 7 * 32,
        rsp: 0x7fff_1234_4000 - number % 5 * 8,
        eflags: 0x246,
        cs: 0x33,
        ss: 0x2b,
        fs_base: 0x7f12_3400_0740,
        rbx: number,
        ..Default::default()
    };
    let after = Registers {
        rax: data.len() as u64,
        orig_rax: u64::MAX,
        ..entry
    };
    let writes = if data.is_empty() {
        vec![]
    } else {
        vec![MemWrite {
            space: SpaceId(1),
            addr: Addr(0x7fff_1234_5000),
            data,
        }]
    };
    Event {
        number: EventNumber(number),
        time_ns: number * 3417,
        tid: Tid(4000 + (number % 4) as i32),
        kind: EventKind::Syscall {
            entry: Some(entry),
            after,
            xstate: None,
            task: None,
            output: None,
            payload: Digest::of_value(number as u32 % 5),
        },
        buffered: Default::default(),
        ops: vec![],
        others: vec![],
        writes,
        object_writes: vec![],
    }
}

/// Bytes that do not compress: so many, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed * 2 + 1;
    let next = || {
        x = x
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (x >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// The packed message of some events, taken from a real trace.
pub fn message(events: &[Event]) -> Vec<u8> {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let options = WriterOptions {
        quality: 0,
        ..Default::default()
    };
    let mut writer = TraceWriter::create(&dir, &header(), &options).unwrap();
    events.iter().for_each(|e| writer.append(e.clone()).unwrap());
    drop(writer);
    let bytes = std::fs::read(dir.join("segments/0000000000000001.seg")).unwrap();
    let mut at = 48;
    loop {
        let field =
            |from: usize| u32::from_le_bytes(bytes[at + from..at + from + 4].try_into().unwrap()) as usize;
        let (kind, codec, raw, stored) = (bytes[at + 4], bytes[at + 5], field(8), field(12));
        let payload = &bytes[at + 48..at + 48 + stored];
        match (kind, codec) {
            (2, 0) => return payload.to_vec(),
            (2, _) => return rr_trace::compress::decompress(payload, raw).unwrap(),
            _ => at += 48 + stored,
        }
    }
}

fn registers() -> BoxedStrategy<Registers> {
    // Many equal words, as in life.
    let word = prop_oneof![3 => Just(0u64), 2 => 0..5u64, 1 => any::<u64>()];
    proptest::array::uniform27(word)
        .prop_map(|w| Registers::from_words(&w))
        .boxed()
}

fn bytes(max: usize) -> BoxedStrategy<Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..max), (0..max).prop_map(|n| vec![7; n])].boxed()
}

fn state() -> BoxedStrategy<ExtendedState> {
    bytes(900).prop_map(ExtendedState).boxed()
}

fn point() -> BoxedStrategy<Point> {
    let words = || vec((any::<u64>().prop_map(Addr), any::<u64>()), 0..4);
    (state(), words(), words(), any::<u32>())
        .prop_map(|(xstate, words, digests, ran_us)| Point {
            xstate,
            discriminators: words,
            digests: digests
                .into_iter()
                .map(|(start, digest)| ChunkDigest { start, digest })
                .collect(),
            ran_us,
        })
        .boxed()
}

fn pages() -> BoxedStrategy<AddrRange> {
    (0..1u64 << 51, 0..1u64 << 20)
        .prop_map(|(p, n)| AddrRange::sized(Addr(p << 12), n << 12))
        .prop_map(|r| {
            // `sized` saturates at an address that is not on a page boundary.
            AddrRange::new(r.start, r.end.page_floor())
        })
        .boxed()
}

fn backing() -> BoxedStrategy<Backing> {
    prop_oneof![
        Just(Backing::Anonymous),
        Just(Backing::Rr),
        (any::<u128>(), any::<u64>()).prop_map(|(f, offset)| Backing::File {
            file: FileId(f),
            offset
        }),
        (any::<u32>(), any::<u64>()).prop_map(|(o, offset)| Backing::Shared {
            object: ObjectId(o),
            offset
        }),
        (any::<u32>(), any::<u64>()).prop_map(|(o, offset)| Backing::CopyOnWrite {
            object: ObjectId(o),
            offset
        }),
    ]
    .boxed()
}

fn policy() -> BoxedStrategy<ForkPolicy> {
    prop_oneof![
        Just(ForkPolicy::Copy),
        Just(ForkPolicy::Omit),
        Just(ForkPolicy::Wipe)
    ]
    .boxed()
}

fn op() -> BoxedStrategy<SpaceOp> {
    let any_range = || (any::<u64>(), any::<u64>()).prop_map(|(a, n)| AddrRange::sized(Addr(a), n));
    prop_oneof![
        (pages(), 0..8u8, backing(), policy(), "\\PC{0,20}").prop_map(
            |(range, prot, backing, fork, name)| {
                SpaceOp::Map(Mapping {
                    range,
                    prot: Prot(prot),
                    backing,
                    fork,
                    name: name.into(),
                })
            }
        ),
        pages().prop_map(SpaceOp::Unmap),
        (any_range(), 0..8u8).prop_map(|(r, p)| SpaceOp::Protect(r, Prot(p))),
        (any_range(), any::<u64>(), any::<bool>()).prop_map(|(from, to, keep)| SpaceOp::Move {
            from,
            to: Addr(to),
            keep
        }),
        any_range().prop_map(SpaceOp::Discard),
        (any_range(), policy()).prop_map(|(r, p)| SpaceOp::SetFork(r, p)),
        (any::<u32>(), any::<u64>(), any::<Option<u128>>()).prop_map(|(object, size, content)| {
            SpaceOp::CreateObject {
                object: ObjectId(object),
                size,
                content: content.map(FileId),
            }
        }),
    ]
    .boxed()
}

fn exec() -> BoxedStrategy<ExecInfo> {
    ("\\PC{0,30}", vec("\\PC{0,10}", 0..5), any::<u32>(), any::<i32>())
        .prop_map(|(path, args, space, tid)| ExecInfo {
            path,
            args,
            space: SpaceId(space),
            tid: Tid(tid),
        })
        .boxed()
}

fn task_op() -> BoxedStrategy<TaskOp> {
    prop_oneof![
        exec().prop_map(TaskOp::Exec),
        (0..4i32, any::<i32>(), any::<u32>(), any::<u64>(), registers()).prop_map(
            |(child, tgid, space, flags, regs)| {
                TaskOp::Clone(CloneInfo {
                    child: Tid(child),
                    tgid: Tid(tgid),
                    space: SpaceId(space),
                    flags,
                    regs,
                })
            }
        ),
    ]
    .boxed()
}

fn output() -> BoxedStrategy<Output> {
    let stream = prop_oneof![Just(Stdio::Out), Just(Stdio::Err)];
    let source = prop_oneof![
        bytes(300).prop_map(|b| OutputSource::Bytes(b.into())),
        vec((any::<u64>().prop_map(Addr), any::<u64>()), 0..4).prop_map(OutputSource::Memory),
    ];
    (stream, source)
        .prop_map(|(stream, source)| Output { stream, source })
        .boxed()
}

fn kind() -> BoxedStrategy<EventKind> {
    let place = prop_oneof![
        registers().prop_map(SignalPlace::Fault),
        registers().prop_map(SignalPlace::Entry),
        Just(SignalPlace::Here)
    ];
    let disposition = prop_oneof![
        Just(Disposition::Ignored),
        Just(Disposition::Handler),
        Just(Disposition::Fatal),
        Just(Disposition::Stopped)
    ];
    prop_oneof![
        (exec(), registers(), state()).prop_map(|(exec, after, xstate)| EventKind::Start {
            exec,
            after,
            xstate
        }),
        registers().prop_map(|entry| EventKind::SyscallEnter { entry }),
        (
            proptest::option::of(registers()),
            registers(),
            proptest::option::of(state()),
            proptest::option::of(task_op()),
            proptest::option::of(output()),
            any::<u32>()
        )
            .prop_map(
                |(entry, after, xstate, task, output, payload)| EventKind::Syscall {
                    entry,
                    after,
                    xstate,
                    task,
                    output,
                    payload: Digest::of_value(payload)
                }
            ),
        registers().prop_map(|after| EventKind::Restart { after }),
        (registers(), proptest::option::of(state()))
            .prop_map(|(after, xstate)| EventKind::SetRegisters { after, xstate }),
        (registers(), point()).prop_map(|(at, point)| EventKind::Point {
            at,
            point: Box::new(point)
        }),
        (registers(), registers()).prop_map(|(at, after)| EventKind::Trap { at, after }),
        (
            any::<i32>(),
            bytes(130),
            place,
            disposition,
            registers(),
            proptest::option::of(state())
        )
            .prop_map(
                |(signo, info, place, disposition, after, xstate)| EventKind::Signal {
                    signo,
                    info,
                    place,
                    disposition,
                    after,
                    xstate
                }
            ),
        any::<i32>().prop_map(|status| EventKind::Exit { status }),
    ]
    .boxed()
}

/// Any event; its number is to be set.
pub fn event() -> BoxedStrategy<Event> {
    let write = (any::<u32>(), any::<u64>(), bytes(5000)).prop_map(|(space, addr, data)| MemWrite {
        space: SpaceId(space),
        addr: Addr(addr),
        data,
    });
    let object_write =
        (any::<u32>(), any::<u64>(), bytes(3000)).prop_map(|(object, offset, data)| ObjectWrite {
            object: ObjectId(object),
            offset,
            data,
        });
    let other = (any::<u32>(), op()).prop_map(|(space, op)| (SpaceId(space), op));
    (
        any::<u64>(),
        0..4i32,
        kind(),
        bytes(3000),
        (vec(op(), 0..4), vec(other, 0..3)),
        (vec(write, 0..4), vec(object_write, 0..3)),
    )
        .prop_map(
            |(time_ns, tid, kind, buffered, (ops, others), (writes, object_writes))| Event {
                number: EventNumber(0),
                time_ns,
                tid: Tid(tid),
                kind,
                buffered: buffered.into(),
                ops,
                others,
                writes,
                object_writes,
            },
        )
        .boxed()
}
