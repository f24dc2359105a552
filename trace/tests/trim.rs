//! A trace loses its beginning while it is written (`rr_trace::trim`): what is left is a trace, and knows its processes.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use super::common::{header, typical};
use super::tasks::{clone, exec, exit, start};
use rr_trace::{Event, EventNumber, TraceReader, TraceWriter, Trimmer, WriterOptions, processes};
use rr_tracee::{Addr, AddrRange, Backing, FileId, ForkPolicy, Mapping, Prot, SpaceOp, Tid};

fn options(store: &Path) -> WriterOptions {
    WriterOptions {
        store: Some(store.to_owned()),
        trims: true,
        ..Default::default()
    }
}

fn mapping(number: u64, file: FileId) -> Event {
    let mut event = typical(number, vec![]);
    event.ops.push(SpaceOp::Map(Mapping {
        range: AddrRange::new(Addr(0x10000), Addr(0x11000)),
        prot: Prot::READ,
        backing: Backing::File { file, offset: 0 },
        fork: ForkPolicy::Copy,
        name: "/x".into(),
    }));
    event
}

fn trim(trimmer: &Trimmer, event: u64, needed: &[FileId]) {
    let deletion = trimmer.deletion().unwrap();
    trimmer.begin_at(&deletion, EventNumber(event)).unwrap();
    trimmer
        .delete(
            &deletion,
            EventNumber(event),
            &BTreeSet::from_iter(needed.iter().copied()),
        )
        .unwrap();
}

#[test]
fn segments_go_and_processes_are_remembered() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("trace");
    let mut writer = TraceWriter::create(&path, &header(), &options(&tmp.path().join("store"))).unwrap();
    let trimmer = writer.trimmer().unwrap();
    let mut number = 0;
    let mut add = |writer: &mut TraceWriter, make: &dyn Fn(u64) -> Event| {
        number += 1;
        writer.append(make(number)).unwrap();
    };
    // 10 executes /a, makes 20 and 30; 30 has a thread 31 and executes /c; 20 ends.
    add(&mut writer, &|n| start(n, 10, "/a"));
    add(&mut writer, &|n| clone(n, 10, 20, 20));
    add(&mut writer, &|n| clone(n, 10, 30, 30));
    writer.start_segment().unwrap();
    add(&mut writer, &|n| clone(n, 30, 31, 30));
    add(&mut writer, &|n| exec(n, 31, 30, "/c"));
    add(&mut writer, &|n| exit(n, 20));
    writer.start_segment().unwrap();
    add(&mut writer, &|n| clone(n, 10, 40, 40));
    add(&mut writer, &|n| exit(n, 30));
    writer.flush().unwrap();
    let whole = processes::all(&TraceReader::open(&path).unwrap()).unwrap();
    assert_eq!(whole.len(), 4);

    trim(&trimmer, 6, &[]);
    writer.finish(0).unwrap();
    let reader = TraceReader::open(&path).unwrap();
    assert_eq!(reader.segments(), [EventNumber(7)]);
    assert_eq!((reader.first_event().0, reader.last_event().0), (7, 8));
    assert_eq!(reader.begins_at(), Some(EventNumber(6)));
    let left = processes::all(&reader).unwrap();
    let pids: Vec<i32> = left.iter().map(|p| p.pid.0).collect();
    assert_eq!(pids, [10, 30, 40]);
    let program = |n: usize| left[n].program_at(EventNumber(8)).unwrap();
    assert_eq!(program(0).path, "/a");
    assert_eq!(program(0).stack, Addr(0x7000));
    assert_eq!(program(1).args, ["/c", "x"]);
    assert_eq!((program(2).path.as_str(), left[2].executed.len()), ("/a", 0));
    assert_eq!(left[1].parent, Some(Tid(10)));
    assert_eq!((left[0].began, left[2].began), (EventNumber(6), EventNumber(7)));
    assert_eq!((left[1].status, left[0].status), (Some(0), None));
    assert!(reader.events_from(EventNumber(6)).is_err());

    // A damaged file is noticed; whatever is before the beginning does not count.
    let beginning = path.join("beginning");
    let bytes = std::fs::read(&beginning).unwrap();
    std::fs::copy(
        path.join("segments/0000000000000007.seg"),
        path.join("segments/0000000000000001.seg"),
    )
    .unwrap();
    assert_eq!(TraceReader::open(&path).unwrap().segments(), [EventNumber(7)]);
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 1;
        std::fs::write(&beginning, &other).unwrap();
        assert!(TraceReader::open(&path).is_err(), "byte {at}");
        std::fs::write(&beginning, &other[..at]).unwrap();
        assert!(TraceReader::open(&path).is_err(), "cut at {at}");
    }
}

#[test]
fn files_go_when_nothing_refers_to_them() {
    let tmp = tempfile::tempdir().unwrap();
    let (path, store) = (tmp.path().join("trace"), tmp.path().join("store"));
    let mut writer = TraceWriter::create(&path, &header(), &options(&store)).unwrap();
    let trimmer = writer.trimmer().unwrap();
    let add = |writer: &TraceWriter, name: &str| {
        let at = tmp.path().join(name);
        std::fs::write(&at, name).unwrap();
        writer.files().add(&File::open(at).unwrap()).unwrap()
    };
    let is_there = |id: FileId| [&path.join("files"), &store].map(|dir| dir.join(id.to_string()).exists());

    let old = add(&writer, "old");
    writer.append(mapping(1, old)).unwrap();
    let in_image = add(&writer, "in the image");
    writer.append(mapping(2, in_image)).unwrap();
    let again = add(&writer, "again");
    writer.append(mapping(3, again)).unwrap();
    writer.append(mapping(4, again)).unwrap();
    let new = add(&writer, "new"); // for event 5, which comes later
    writer.flush().unwrap();
    trim(&trimmer, 3, &[in_image]);
    writer.files().settle().unwrap();
    assert_eq!(is_there(old), [false; 2]);
    for id in [in_image, again, new] {
        assert_eq!(is_there(id), [true; 2]);
    }
    // One that went comes back.
    assert_eq!(add(&writer, "old"), old);
    writer.append(mapping(5, new)).unwrap();
    writer.append(mapping(6, old)).unwrap();
    writer.flush().unwrap();
    assert_eq!(is_there(old), [true; 2]);
    // One that another trace has, too, stays in the store.
    let other = tmp.path().join("other");
    let another = TraceWriter::create(&other, &header(), &options(&store)).unwrap();
    assert_eq!(
        another
            .files()
            .add(&File::open(tmp.path().join("new")).unwrap())
            .unwrap(),
        new
    );
    another.finish(0).unwrap();
    trim(&trimmer, 6, &[]);
    writer.finish(0).unwrap();
    assert_eq!(is_there(new), [false, true]);
    assert_eq!(is_there(again), [false; 2]);
    assert_eq!(is_there(old), [false; 2]);
}

/// As long as somebody holds the trace, nothing is deleted.
#[test]
fn a_held_trace_stays_whole() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("trace");
    let writer = TraceWriter::create(&path, &header(), &options(&tmp.path().join("store"))).unwrap();
    let trimmer = writer.trimmer().unwrap();
    let hold = rr_trace::Hold::of(&path).unwrap();
    assert!(trimmer.deletion().is_none());
    drop(hold);
    assert!(trimmer.deletion().is_some());
}
