//! Readers give back what writers were given.

use std::path::Path;
use std::time::{Duration, Instant};

use super::common::{event, header, noise, numbered, typical};
use proptest::collection::vec;
use proptest::prelude::*;
use rr_trace::event::{MemWrite, Output, OutputSource, Stdio};
use rr_trace::{Error, Event, EventKind, EventNumber, TraceReader, TraceWriter, WriterOptions};
use rr_tracee::{Addr, SpaceId};

fn read_from(trace: &TraceReader, from: u64) -> Vec<Event> {
    trace
        .events_from(EventNumber(from))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn segment_files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir.join("segments"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A thing to do after an event.
#[derive(Clone, Copy, Debug)]
enum After {
    Nothing,
    Flush,
    Cut,
}

fn after() -> impl Strategy<Value = After> {
    prop_oneof![6 => Just(After::Nothing), 1 => Just(After::Flush), 1 => Just(After::Cut)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..Default::default() })]
    #[test]
    fn any_events(
        steps in vec((event(), after()), 1..40),
        from in 0..40u64,
        quality in prop_oneof![Just(0u8), Just(5)],
        queue_bytes in prop_oneof![Just(2000u64), Just(1 << 20)],
    ) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("trace");
        let options = WriterOptions { quality, queue_bytes, ..Default::default() };
        let header = header();
        let mut writer = TraceWriter::create(&dir, &header, &options).unwrap();
        let (events, afters): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
        let events = numbered(events, 1);
        for (event, after) in events.iter().zip(afters) {
            writer.append(event.clone()).unwrap();
            match after {
                After::Nothing => {}
                After::Flush => writer.flush().unwrap(),
                After::Cut => writer.start_segment().unwrap(),
            }
        }
        writer.finish(0x700).unwrap();

        let trace = TraceReader::open(&dir).unwrap();
        prop_assert_eq!(trace.header(), &header);
        prop_assert_eq!(trace.last_event().0, events.len() as u64);
        prop_assert_eq!(trace.exit_status(), Some(0x700));
        prop_assert_eq!(trace.torn_bytes(), 0);
        let from = from % events.len() as u64 + 1;
        prop_assert_eq!(&read_from(&trace, from)[..], &events[from as usize - 1..]);
    }
}

#[test]
fn segments_and_seeking() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let mut writer = TraceWriter::create(&dir, &header(), &WriterOptions::default()).unwrap();
    writer.start_segment().unwrap();
    for n in 1..=10_000u64 {
        writer
            .append(typical(n, vec![n as u8; (n % 200) as usize]))
            .unwrap();
        if n % 2500 == 0 {
            writer.start_segment().unwrap();
        }
    }
    assert_eq!(writer.last_event().0, 10_000);
    writer.finish(9).unwrap();
    let expected = [
        "0000000000000001.seg",
        "0000000000002501.seg",
        "0000000000005001.seg",
        "0000000000007501.seg",
    ];
    assert_eq!(segment_files(&dir), expected);

    let trace = TraceReader::open(&dir).unwrap();
    for from in [1, 2, 2499, 2500, 2501, 2502, 7501, 9999, 10_000] {
        let mut cursor = trace.events_from(EventNumber(from)).unwrap();
        assert_eq!(
            cursor.next().unwrap().unwrap(),
            typical(from, vec![from as u8; (from % 200) as usize])
        );
        assert_eq!(cursor.count() as u64, 10_000 - from);
    }
    assert_eq!(trace.events_from(EventNumber(10_001)).unwrap().count(), 0);
    for missing in [0, 10_002, u64::MAX] {
        let e = trace.events_from(EventNumber(missing)).unwrap_err();
        assert!(matches!(e, Error::NoSuchEvent { .. }));
        assert!(
            e.to_string()
                .contains(&format!("no event {missing}: the trace holds 1 to 10000")),
            "{e}"
        );
    }

    // A flight recorder: the oldest segments are gone.
    std::fs::write(trace.checkpoint_path(EventNumber(2500)), b"").unwrap();
    std::fs::write(trace.checkpoint_path(EventNumber(5000)), b"").unwrap();
    std::fs::write(trace.checkpoint_path(EventNumber(10_001)), b"").unwrap();
    std::fs::write(
        trace.checkpoint_dir().unwrap().join("0000000000005000.ckpt.tmp"),
        b"",
    )
    .unwrap();
    assert_eq!(
        trace.checkpoints().unwrap(),
        [EventNumber(2500), EventNumber(5000)]
    );
    for name in &expected[..2] {
        std::fs::remove_file(dir.join("segments").join(name)).unwrap();
    }
    let trace = TraceReader::open(&dir).unwrap();
    assert_eq!((trace.first_event().0, trace.last_event().0), (5001, 10_000));
    assert_eq!(trace.checkpoints().unwrap(), [EventNumber(5000)]);
    assert_eq!(read_from(&trace, 5001).len(), 5000);
    assert!(matches!(
        trace.events_from(EventNumber(5000)),
        Err(Error::NoSuchEvent { .. })
    ));

    // One in the middle is not there: an error where it is missed.
    std::fs::copy(dir.join("segments").join(expected[2]), dir.join("keep")).unwrap();
    std::fs::rename(dir.join("keep"), dir.join("segments").join(expected[0])).unwrap();
    let e = TraceReader::open(&dir)
        .unwrap()
        .events_from(EventNumber(1))
        .unwrap()
        .find_map(Result::err)
        .unwrap();
    assert!(matches!(e, Error::Damaged { .. }), "{e}");
}

#[test]
fn header_only() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let writer = TraceWriter::create(&dir, &header(), &WriterOptions::default()).unwrap();
    let trace = TraceReader::open(&dir).unwrap();
    assert_eq!(
        (trace.first_event().0, trace.last_event().0, trace.is_complete()),
        (1, 0, false)
    );
    assert_eq!(read_from(&trace, 1).len(), 0);
    let e = TraceWriter::create(&dir, &header(), &WriterOptions::default()).unwrap_err();
    assert!(matches!(e, Error::Exists { .. }), "{e}");

    // An end without an event.
    writer.finish(1).unwrap();
    let trace = TraceReader::open(&dir).unwrap();
    assert_eq!(
        (trace.first_event().0, trace.last_event().0, trace.exit_status()),
        (1, 0, Some(1))
    );
    assert_eq!(read_from(&trace, 1).len(), 0);
}

#[test]
fn a_quiet_recorder_is_flushed_too() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let mut writer = TraceWriter::create(&dir, &header(), &WriterOptions::default()).unwrap();
    writer.append(typical(1, b"x".to_vec())).unwrap();
    let start = Instant::now();
    while TraceReader::open(&dir).unwrap().last_event().0 == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "not flushed");
        std::thread::sleep(Duration::from_millis(10));
    }
    // A trace can be read while it is written.
    let trace = TraceReader::open(&dir).unwrap();
    assert!(!trace.is_complete());
    assert_eq!(read_from(&trace, 1), [typical(1, b"x".to_vec())]);

    // Another thread can wait for an event, however young its group is.
    writer.append(typical(2, vec![])).unwrap();
    let progress = writer.progress();
    std::thread::spawn(move || progress.wait_for(EventNumber(2)).unwrap())
        .join()
        .unwrap();
    assert_eq!(TraceReader::open(&dir).unwrap().last_event().0, 2);
    let progress = writer.progress();
    writer.finish(0).unwrap();
    assert!(matches!(
        progress.wait_for(EventNumber(3)),
        Err(Error::NoSuchEvent { .. })
    ));
}

#[test]
fn large_data() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    // The queue is smaller than the event: it must get through all the same.
    let options = WriterOptions {
        queue_bytes: 1 << 20,
        ..Default::default()
    };
    let mut writer = TraceWriter::create(&dir, &header(), &options).unwrap();
    let pattern = |len: usize, seed: u64| -> Vec<u8> {
        (0..len as u64)
            .map(|i| ((i / 512).wrapping_mul(seed) >> 7) as u8)
            .collect()
    };
    let sizes = [
        3usize,
        70 << 20,
        1,
        5 << 20,
        4 << 20,
        (4 << 20) + 1,
        0,
        2 << 20,
        7 << 20,
        7 << 20,
    ];
    let make = |i: usize| {
        let mut event = typical(i as u64 + 1, pattern(sizes[i], i as u64 + 77));
        event.writes.push(MemWrite {
            space: SpaceId(2),
            addr: Addr(9),
            data: b"end".to_vec(),
        });
        let out = Output {
            stream: Stdio::Err,
            source: OutputSource::Bytes(pattern(i * 100, 5).into()),
        };
        if let EventKind::Syscall { output, .. } = &mut event.kind {
            *output = Some(out);
        }
        event
    };
    for i in 0..sizes.len() {
        writer.append(make(i)).unwrap();
    }
    writer.finish(0).unwrap();
    let trace = TraceReader::open(&dir).unwrap();
    let mut count = 0;
    for event in trace.events_from(EventNumber(1)).unwrap() {
        assert!(event.unwrap() == make(count), "event {}", count + 1);
        count += 1;
    }
    assert_eq!(count, sizes.len());
}

#[test]
fn compression_gives_way_to_backlog() {
    let tmp = tempfile::tempdir().unwrap();
    // Any backlog is too much for a queue of one byte, and none is for the usual one.
    for (queue_bytes, codec) in [(1, 0u8), (256 << 20, 1)] {
        let dir = tmp.path().join(codec.to_string());
        let options = WriterOptions {
            queue_bytes,
            ..Default::default()
        };
        let mut writer = TraceWriter::create(&dir, &header(), &options).unwrap();
        for n in 1..=100 {
            writer.append(typical(n, vec![1; 100])).unwrap();
        }
        writer.finish(0).unwrap();
        let bytes = std::fs::read(dir.join("segments").join(&segment_files(&dir)[0])).unwrap();
        assert_eq!(bytes[48 + 5], codec);
        assert_eq!(read_from(&TraceReader::open(&dir).unwrap(), 1).len(), 100);
    }
}

#[test]
fn records_go_into_columns_whatever_is_between_them() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let mut writer = TraceWriter::create(&dir, &header(), &WriterOptions::default()).unwrap();
    // Of three words, so that frames end within records; and the outputs of traced calls shift them.
    let record = |n: u64| [8 << 12 | 77 << 32, 1, n % 1000];
    let make = |number: u64| {
        let records: Vec<u8> = (0..60_000).flat_map(record).flat_map(u64::to_le_bytes).collect();
        Event {
            buffered: records.into(),
            ..typical(number, vec![3; number as usize])
        }
    };
    for n in 1..=7 {
        writer.append(make(n)).unwrap();
        // Events that wait at the end are stored as they are.
        if n % 2 == 1 {
            writer.flush().unwrap();
        }
    }
    writer.finish(0).unwrap();
    let bytes = std::fs::read(dir.join("segments").join(&segment_files(&dir)[0])).unwrap();
    let (mut at, mut frames) = (48, 0);
    while let Some(frame) = bytes.get(at..at + 48) {
        if frame[4] == 1 {
            assert_eq!(frame[5], 3, "the codec of data frame {frames}");
            frames += 1;
        }
        at += 48 + u32::from_le_bytes(frame[12..16].try_into().unwrap()) as usize;
    }
    assert!(frames >= 10, "{frames}");
    let read = read_from(&TraceReader::open(&dir).unwrap(), 1);
    assert!(read.iter().zip(1..).all(|(event, n)| *event == make(n)) && read.len() == 7);
}

#[test]
fn wrong_events_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let mut writer = TraceWriter::create(&dir, &header(), &WriterOptions::default()).unwrap();
    assert!(matches!(
        writer.append(typical(2, vec![])),
        Err(Error::Numbering { .. })
    ));
    let mut huge = typical(1, vec![]);
    huge.ops = vec![rr_tracee::SpaceOp::Discard(rr_tracee::AddrRange::sized(Addr(0), 1)); 100_000];
    assert!(matches!(writer.append(huge), Err(Error::TooLarge { .. })));
    let mut odd = typical(1, vec![]);
    odd.ops = vec![rr_tracee::SpaceOp::Discard(rr_tracee::AddrRange {
        start: Addr(2),
        end: Addr(1),
    })];
    assert!(matches!(writer.append(odd), Err(Error::Invalid { .. })));
    // None of them counts.
    writer.append(typical(1, vec![])).unwrap();
    writer.finish(0).unwrap();
    assert_eq!(read_from(&TraceReader::open(&dir).unwrap(), 1).len(), 1);
}

#[test]
fn the_largest_message() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let mut writer = TraceWriter::create(&dir, &header(), &WriterOptions::default()).unwrap();
    // Bytes without zeros pack worst, and these do not compress.
    let noise = noise(0, (7 << 20) - 1000);
    let mut event = typical(1, vec![]);
    event.kind = EventKind::Signal {
        signo: 11,
        info: noise,
        place: rr_trace::event::SignalPlace::Here,
        disposition: rr_trace::event::Disposition::Ignored,
        after: Default::default(),
        xstate: None,
    };
    writer.append(event.clone()).unwrap();
    writer.append(typical(2, vec![])).unwrap();
    writer.finish(0).unwrap();
    assert!(read_from(&TraceReader::open(&dir).unwrap(), 1)[0] == event);
}

#[test]
fn buffered_calls_are_counted_over_all_groups() {
    for ends in [true, false] {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("trace");
        let mut writer = TraceWriter::create(&dir, &header(), &WriterOptions::default()).unwrap();
        for n in 1..=9u64 {
            // Records of calls number 0 without outputs.
            let buffered = vec![0; 16 * n as usize].into();
            let event = typical(n, vec![]);
            writer.append(Event { buffered, ..event }).unwrap();
            match n {
                3 => writer.flush().unwrap(),
                5 => writer.start_segment().unwrap(),
                _ => {}
            }
        }
        if ends {
            assert_eq!(writer.finish(0).unwrap(), 45);
        } else {
            drop(writer);
        }
        let trace = TraceReader::open(&dir).unwrap();
        assert_eq!((trace.is_complete(), trace.buffered_calls().unwrap()), (ends, 45));
    }
}
