//! A checkpoint appears only when the events up to its own are in the trace.

#![allow(clippy::unwrap_used)] // in functions of tests, too

mod common;

use std::time::Duration;

use common::*;
use rr_checkpoint::{CheckpointWriter, Error, Options, SharedSource, list};
use rr_trace::event::{Event, EventKind, EventNumber};
use rr_trace::{Header, TraceWriter, WriterOptions};
use rr_tracee::{Registers, Tid};

fn event(number: u64) -> Event {
    Event {
        number: EventNumber(number),
        time_ns: number,
        tid: Tid(5),
        kind: EventKind::SyscallEnter {
            entry: Registers::default(),
        },
        buffered: Default::default(),
        ops: vec![],
        others: vec![],
        writes: vec![],
        object_writes: vec![],
    }
}

#[test]
fn checkpoints_wait_for_their_events() {
    let dir = tempfile::tempdir().unwrap();
    let header = Header::for_this_machine("test", vec!["true".into()], "/tmp".into(), vec![]).unwrap();
    let options = WriterOptions::default();
    let mut trace = TraceWriter::create(&dir.path().join("trace"), &header, &options).unwrap();
    let checkpoints = dir.path().join("checkpoints");
    let options = Options {
        trace: Some(trace.progress()),
        ..Options::default()
    };
    let mut writer = CheckpointWriter::start(checkpoints.clone(), UUID, options).unwrap();
    let region = Region::anonymous(1);
    let children: Vec<Child> = (0..3).map(|_| Child::fork()).collect();
    for (number, child) in [2, 4, 6].into_iter().zip(&children) {
        assert!(writer.submit(request(number, region.space(), SharedSource::frozen(child.0))));
    }
    assert!(
        children.iter().all(Child::is_killed),
        "reading does not wait for it"
    );
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(list(&checkpoints).unwrap(), []);
    for number in 1..=3 {
        trace.append(event(number)).unwrap();
    }
    trace.flush().unwrap();
    let start = std::time::Instant::now();
    while list(&checkpoints).unwrap() != [EventNumber(2)] {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(list(&checkpoints).unwrap(), [EventNumber(2)]);
    trace.append(event(4)).unwrap();
    trace.append(event(5)).unwrap();
    // A trace that ends early.
    drop(trace);
    let summary = writer.finish().unwrap();
    let [two, four, six] = &summary.outcomes[..] else {
        panic!("{:?}", summary.outcomes)
    };
    assert!(two.result.is_ok() && four.result.is_ok());
    assert!(
        matches!(&six.result, Err(Error::Dropped { event: 6, why }) if why.contains("not in the trace")),
        "{six:?}"
    );
    assert_eq!(list(&checkpoints).unwrap(), [EventNumber(2), EventNumber(4)]);
    assert_eq!(std::fs::read_dir(&checkpoints).unwrap().count(), 2);
}
