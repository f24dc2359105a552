//! Events by number, in any order.

use std::sync::Arc;

use super::common::{header, typical};
use rr_trace::{Error, Event, EventNumber, EventSource, TraceReader, TraceWriter, WriterOptions};

const EVENTS: u64 = 6000;

fn expected(number: u64) -> Event {
    typical(number, vec![number as u8; (number % 200) as usize])
}

/// Three segments of 20 groups each.
fn trace() -> (tempfile::TempDir, Arc<TraceReader>) {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let mut writer = TraceWriter::create(&dir, &header(), &WriterOptions::default()).unwrap();
    for number in 1..=EVENTS {
        writer.append(expected(number)).unwrap();
        if number % 100 == 0 {
            writer.flush().unwrap();
        }
        if number % 2000 == 0 && number != EVENTS {
            writer.start_segment().unwrap();
        }
    }
    writer.finish(0).unwrap();
    let reader = Arc::new(TraceReader::open(&dir).unwrap());
    (tmp, reader)
}

#[test]
fn every_event_has_its_number_whatever_came_before() {
    let (_tmp, trace) = trace();
    for keep in [0, 400_000, 1 << 30] {
        let source = EventSource::new(Arc::clone(&trace));
        source.keep(keep);
        // Forward, back, and across everything; every residue comes up.
        let mut number = 1;
        for step in 0..3000u64 {
            let event = source.get(EventNumber(number)).unwrap().unwrap();
            assert_eq!(*event, expected(number));
            assert!(source.kept_bytes() <= keep);
            number = match step % 4 {
                0 | 1 => number % EVENTS + 1,
                2 => (number + 100) % EVENTS + 1,
                _ => (number * 7919) % EVENTS + 1,
            };
        }
        assert_eq!(source.kept_bytes() > 0, keep > 0);
        assert!(source.get(EventNumber(EVENTS + 1)).unwrap().is_none());
        assert!(matches!(
            source.get(EventNumber(0)),
            Err(Error::NoSuchEvent { .. })
        ));
    }
}

#[test]
fn positions_go_their_own_ways() {
    let (_tmp, trace) = trace();
    let source = EventSource::new(Arc::clone(&trace));
    source.keep(1 << 20);
    let mut first = source.from(EventNumber(1)).unwrap();
    let mut middle = source.from(EventNumber(3050)).unwrap();
    let mut clone = None;
    for n in 0.. {
        let (a, b) = (first.next().unwrap(), middle.next().unwrap());
        if n == 77 {
            clone = Some(middle.clone());
        }
        assert_eq!(*a.unwrap(), expected(1 + n));
        match b {
            Some(b) => assert_eq!(*b, expected(3050 + n)),
            None => {
                assert_eq!(n, EVENTS - 3049);
                break;
            }
        }
    }
    let mut clone = clone.unwrap();
    assert_eq!(clone.next_number(), EventNumber(3050 + 78));
    for number in 3050 + 78..=EVENTS {
        assert_eq!(**clone.peek().unwrap().unwrap(), expected(number));
        assert_eq!(*clone.next().unwrap().unwrap(), expected(number));
    }
    assert!(clone.peek().unwrap().is_none() && clone.next().unwrap().is_none());
    assert_eq!(clone.next_number(), EventNumber(EVENTS + 1));
    assert!(matches!(
        source.from(EventNumber(EVENTS + 2)),
        Err(Error::NoSuchEvent { .. })
    ));
    assert!(
        source
            .from(EventNumber(EVENTS + 1))
            .unwrap()
            .next()
            .unwrap()
            .is_none()
    );
}

#[test]
fn damage_is_found_where_it_is_and_not_before() {
    let (_tmp, trace) = trace();
    let segment = trace.path().join("segments").join("0000000000002001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.len() / 2;
    bytes[at..at + 300].fill(0xa5);
    std::fs::remove_file(&segment).unwrap();
    std::fs::write(&segment, bytes).unwrap();
    let source = EventSource::new(Arc::clone(&trace));
    source.keep(1 << 30);
    let good = |number: u64| *source.get(EventNumber(number)).unwrap().unwrap() == expected(number);
    assert!(good(4500) && good(2001) && good(2250) && good(1));
    let bad = (2001..=4000).find(|n| source.get(EventNumber(*n)).is_err());
    assert!(bad.is_some_and(|bad| (2500..3800).contains(&bad)), "{bad:?}");
    // It stays so.
    assert!(source.get(EventNumber(bad.unwrap())).is_err());
    assert!(good(bad.unwrap() - 1) && good(4001));
}
