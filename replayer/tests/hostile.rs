//! Traces that no recorder would write: each is refused with an error, and does no harm.

// A broken expectation in a test is a failed test.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::sync::Arc;

use rr_replayer::{Error, ReplaySession};
use rr_trace::event::{
    CloneInfo, Event, EventKind, EventNumber, ExecInfo, MemWrite, Output, OutputSource, Stdio, TaskOp,
};
use rr_trace::{Header, TraceReader, TraceWriter, WriterOptions};
use rr_tracee::space::{Backing, ForkPolicy, Mapping, Prot, SpaceOp};
use rr_tracee::{Addr, AddrRange, ExtendedState, Registers, SpaceId, Tid, rr_area};

const PAGE: Addr = Addr(0x1_0000_0000);
const ROOT: Tid = Tid(100);

/// Registers at a `syscall` instruction that is at the start of [`PAGE`], before and after it.
fn registers() -> (Registers, Registers, Registers) {
    let start = Registers {
        rip: PAGE.0,
        cs: 0x33,
        ss: 0x2b,
        eflags: 0x202,
        rsp: PAGE.0 + 0x800,
        orig_rax: u64::MAX,
        ..Registers::default()
    };
    let entry = Registers {
        rip: PAGE.0 + 2,
        rcx: PAGE.0 + 2,
        r11: 0x202,
        orig_rax: 0,
        rax: -38i64 as u64,
        ..start
    };
    let after = Registers {
        rax: 0,
        orig_rax: u64::MAX,
        ..entry
    };
    (start, entry, after)
}

fn exec_info(space: u32, tid: Tid) -> ExecInfo {
    ExecInfo {
        path: "/bin/true".into(),
        args: vec![],
        space: SpaceId(space),
        tid,
    }
}

fn map(range: AddrRange, backing: Backing) -> SpaceOp {
    SpaceOp::Map(Mapping {
        range,
        prot: Prot(7),
        backing,
        fork: ForkPolicy::Copy,
        name: "".into(),
    })
}

/// A program of one page, whose first instruction is `syscall`.
fn start(more: Vec<SpaceOp>, writes: Vec<MemWrite>) -> Event {
    let mut ops: Vec<SpaceOp> = rr_area::mappings().into_iter().map(SpaceOp::Map).collect();
    ops.push(map(AddrRange::sized(PAGE, 0x1000), Backing::Anonymous));
    ops.extend(more);
    let code = MemWrite {
        space: SpaceId(1),
        addr: PAGE,
        data: vec![0x0f, 0x05, 0x0f, 0x05],
    };
    let writes = [vec![code], writes].concat();
    let kind = EventKind::Start {
        exec: exec_info(1, ROOT),
        after: registers().0,
        xstate: own_xstate(),
    };
    event(1, kind, ops, writes)
}

fn event(number: u64, kind: EventKind, ops: Vec<SpaceOp>, writes: Vec<MemWrite>) -> Event {
    Event {
        number: EventNumber(number),
        time_ns: number,
        tid: ROOT,
        kind,
        buffered: Default::default(),
        ops,
        others: vec![],
        writes,
        object_writes: vec![],
    }
}

/// Extended state that the kernel accepts: that of a stopped child of ours.
fn own_xstate() -> ExtendedState {
    use rr_tracee::task::{Waited, kill, wait};
    // SAFETY: the child only waits.
    let child = match unsafe { libc::fork() } {
        0 => loop {
            // SAFETY: no arguments.
            unsafe { libc::pause() };
        },
        pid => Tid(pid),
    };
    let running = rr_tracee::Running::seize(child).unwrap();
    running.interrupt().unwrap();
    let Waited::Stopped(stopped, _) = running.wait().unwrap() else {
        panic!("it is gone")
    };
    let xstate = stopped.xstate().unwrap();
    kill(child);
    while let Some(report) = wait(Some(child), false).filter(|report| !report.is_gone()) {
        if let Ok(Waited::Stopped(dying, _)) = rr_tracee::Running::newborn(child).waited(report) {
            let _ = dying.resume(rr_tracee::task::Resume::Cont, None);
        }
    }
    xstate
}

fn call(output: Option<Output>, task: Option<TaskOp>) -> EventKind {
    let (_, entry, after) = registers();
    EventKind::Syscall {
        entry: Some(entry),
        after,
        xstate: None,
        task,
        output,
        payload: None,
    }
}

/// Replays these events. Returns the result of the last.
fn replay(events: Vec<Event>) -> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace");
    let header = Header::for_this_machine("0", vec!["x".into()], "/".into(), vec![]).unwrap();
    let mut writer = TraceWriter::create(&path, &header, &WriterOptions::default()).unwrap();
    let last = events.len();
    for event in events {
        writer.append(event).unwrap();
    }
    writer.finish(0).unwrap();
    let reader = Arc::new(TraceReader::open(&path).unwrap());
    let mut session = ReplaySession::start(reader, None).unwrap();
    for _ in 1..last {
        session.step().expect("the events before the last are good");
    }
    session.step().map(drop)
}

#[track_caller]
fn refused(events: Vec<Event>, why: &str) {
    match replay(events) {
        Err(Error::BadTrace { what, .. }) if what.contains(why) => {}
        other => panic!("{why}: {other:?}"),
    }
}

#[test]
fn a_good_one_replays() {
    let output = Output {
        stream: Stdio::Out,
        source: OutputSource::Memory(vec![(PAGE, 4)]),
    };
    replay(vec![
        start(vec![], vec![]),
        event(2, call(Some(output), None), vec![], vec![]),
    ])
    .unwrap();
}

#[test]
fn rr_own_memory_is_not_to_be_changed() {
    let area = rr_area::area();
    let ops = [
        SpaceOp::Unmap(AddrRange::new(Addr(0x1000), area.start + 1)),
        SpaceOp::Unmap(AddrRange::new(Addr(area.end.0 - 1), area.end)),
        map(AddrRange::sized(rr_area::CODE, 0x1000), Backing::Anonymous),
        map(AddrRange::sized(PAGE + 0x10000, 0x1000), Backing::Rr),
        SpaceOp::Protect(AddrRange::sized(rr_area::CODE, 0x1000), Prot(7)),
        SpaceOp::Discard(AddrRange::sized(rr_area::PARAM, 0x1000)),
        SpaceOp::Move {
            from: AddrRange::sized(PAGE, 0x1000),
            to: rr_area::CODE,
            keep: false,
        },
        SpaceOp::Move {
            from: AddrRange::sized(rr_area::CODE, 0x1000),
            to: PAGE,
            keep: false,
        },
        SpaceOp::SetFork(AddrRange::sized(rr_area::CODE, 0x1000), ForkPolicy::Omit),
    ];
    for op in ops {
        refused(vec![start(vec![op], vec![])], "rr's own memory");
    }
    let write = MemWrite {
        space: SpaceId(1),
        addr: Addr(rr_area::CODE.0 - 1),
        data: vec![0x90; 3],
    };
    refused(vec![start(vec![], vec![write])], "rr's own code");
}

#[test]
fn output_of_absurd_length() {
    let room = AddrRange::sized(Addr(0x10_0000_0000), 1 << 44);
    let big = map(room, Backing::Anonymous);
    for ranges in [
        vec![(room.start, u64::MAX)],
        vec![(room.start, 1 << 43)],
        vec![(room.start, 0x7fff_0000), (room.start, 0x7fff_0000)],
    ] {
        let output = Output {
            stream: Stdio::Out,
            source: OutputSource::Memory(ranges),
        };
        let second = event(2, call(Some(output), None), vec![], vec![]);
        refused(
            vec![start(vec![big.clone()], vec![]), second],
            "more output than one system call can write",
        );
    }
}

/// Invalid results of buffered calls, results that are not used, or results where nothing is executed.
#[test]
fn buffered_results() {
    let with = |kind, buffered: Vec<u8>| Event {
        buffered: buffered.into(),
        ..event(2, kind, vec![], vec![])
    };
    // A record of getpid (39), without outputs.
    let record = [39u64.to_le_bytes(), 1u64.to_le_bytes()].concat();
    let (_, entry, after) = registers();
    let restart = EventKind::Restart { after };
    refused(
        vec![start(vec![], vec![]), with(restart, record.clone())],
        "nothing is executed before it",
    );
    let enter = |buffered| with(EventKind::SyscallEnter { entry }, buffered);
    match replay(vec![start(vec![], vec![]), enter(record.clone())]) {
        Err(Error::Divergence(found)) if found.seen.contains("the next is of getpid") => {}
        other => panic!("{other:?}"),
    }
    let mut endless = record.clone();
    endless[1] = 0xf0;
    // Records of munmap (11): one that unmaps a page, an invalid one, an empty one.
    let unmap = |start: u64| {
        [11 | 24 << 12, 0, start, 0x1000, 0]
            .map(u64::to_le_bytes)
            .concat()
    };
    let (odd, short) = (unmap(0x12_3456), [11u64, 0].map(u64::to_le_bytes).concat());
    match replay(vec![start(vec![], vec![]), enter(unmap(0x12_3000))]) {
        Err(Error::Divergence(found)) if found.expected.contains("the buffered call munmap") => {}
        other => panic!("{other:?}"),
    }
    for damaged in [record[..15].to_vec(), endless, vec![0; 0x4_0008], odd, short] {
        refused(vec![start(vec![], vec![]), enter(damaged)], "damaged");
    }
}

#[test]
fn tasks_that_exist_already() {
    let clone = |child, space| {
        let info = CloneInfo {
            child,
            tgid: child,
            space: SpaceId(space),
            flags: 17,
            regs: registers().2,
        };
        event(2, call(None, Some(TaskOp::Clone(info))), vec![], vec![])
    };
    refused(vec![start(vec![], vec![]), clone(ROOT, 2)], "exists already");
    let second = Event {
        number: EventNumber(2),
        ..start(vec![], vec![])
    };
    refused(vec![start(vec![], vec![]), second], "a second time");
    // A task gets another tid by exec.
    let (_, entry, after) = registers();
    let exec = EventKind::Syscall {
        entry: Some(Registers {
            rip: entry.rip + 2,
            rcx: entry.rcx + 2,
            rax: -38i64 as u64,
            ..entry
        }),
        after,
        xstate: Some(own_xstate()),
        task: Some(TaskOp::Exec(exec_info(3, Tid(101)))),
        output: None,
        payload: None,
    };
    refused(
        vec![
            start(vec![], vec![]),
            clone(Tid(101), 2),
            event(3, exec, vec![], vec![]),
        ],
        "exists already",
    );
}
