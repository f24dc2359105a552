//! Data that a group has twice, and zeros: what is read is what was written, the file is small, and forged references do no
//! harm.

use std::path::Path;

use super::common::{header, noise, typical};
use rr_trace::frame::{CompressionLevel, FrameKind, append_frame};
use rr_trace::segment::{encode_header, read_all};
use rr_trace::{Error, Event, EventNumber, TraceReader, TraceWriter, WriterOptions};

/// Writes events, with a new segment after some of them.
fn write(dir: &Path, events: &[Event], cut_after: &[u64]) {
    let mut writer = TraceWriter::create(dir, &header(), &WriterOptions::default()).unwrap();
    for event in events {
        writer.append(event.clone()).unwrap();
        if cut_after.contains(&event.number.0) {
            writer.start_segment().unwrap();
        }
    }
    writer.finish(0).unwrap();
}

/// A reader that gets from a pipe what the writer got from a file: 64 KiB in one event, then 16 KiB in each of four; now and
/// then the file has a hole.
fn pipeline(chunks: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let mut push = |data: Vec<u8>| events.push(typical(events.len() as u64 + 1, data));
    for n in 0..chunks {
        let chunk = if n % 5 == 3 {
            vec![0; 64 << 10]
        } else {
            noise(n, 64 << 10)
        };
        push(chunk.clone());
        chunk.chunks(16 << 10).for_each(|part| push(part.to_vec()));
    }
    events
}

#[test]
fn a_pipeline_is_stored_once_and_read_from_anywhere() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let events = pipeline(200);
    write(&dir, &events, &[13, 14, 500, 777]);
    let trace = TraceReader::open(&dir).unwrap();
    for from in [1, 2, 13, 14, 15, 16, 499, 500, 501, 776, 778, 1000] {
        let read = trace.events_from(EventNumber(from)).unwrap();
        assert!(
            read.zip(&events[from as usize - 1..])
                .all(|(a, b)| a.unwrap() == *b)
        );
    }
    let files = std::fs::read_dir(dir.join("segments")).unwrap();
    let len: u64 = files.map(|f| f.unwrap().metadata().unwrap().len()).sum();
    // Noise does not compress, a fifth of it are zeros, and a group ends now and then between writer and reader.
    let least = 160 * (64 << 10);
    assert!(len >= least && len < least / 100 * 115, "{len} of {least}");
}

#[test]
fn an_event_too_large_for_references() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let mut large = noise(1, 5 << 20).repeat(2);
    large.extend(vec![0; 6 << 20]);
    let events = [typical(1, large.clone()), typical(2, large[..100].to_vec())];
    write(&dir, &events, &[]);
    let trace = TraceReader::open(&dir).unwrap();
    let read: Vec<Event> = trace
        .events_from(EventNumber(1))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(read == events);
    let len = std::fs::metadata(dir.join("segments/0000000000000001.seg"))
        .unwrap()
        .len();
    assert!(len < (11 << 20), "{len}: the zeros take room");
}

/// A segment with frames of our choice for event 1.
fn forged(frames: &[(FrameKind, &[u8])]) -> Vec<u8> {
    let mut bytes = encode_header(&[0; 16], EventNumber(1)).to_vec();
    let one = EventNumber(1);
    for (kind, raw) in frames {
        append_frame(&mut bytes, *kind, (one, one), raw, CompressionLevel::None);
    }
    bytes
}

/// The packed message of an event with `len` bytes of data.
fn message(len: usize) -> Vec<u8> {
    super::common::message(&[typical(1, noise(1, len))])
}

#[test]
fn forged_references() {
    use FrameKind::{Data, Events, Extents};
    let entries = |entries: &[(u32, u32)]| -> Vec<u8> {
        let words = entries.iter().flat_map(|(at, len)| [*at, *len]);
        words.flat_map(u32::to_le_bytes).collect()
    };
    let event = message(300);
    let data = noise(1, 200);
    let good = entries(&[(100, 100), (u32::MAX, 100), (0, 100)]);
    let (read, _) = read_all(&forged(&[(Data, &data), (Extents, &good), (Events, &event)])).unwrap();
    let expected = [&data[100..], &[0; 100], &data[..100]].concat();
    assert_eq!(read[0].writes[0].data, expected);
    // No data at all are needed for zeros.
    let zeros = entries(&[(u32::MAX, 300)]);
    let (read, _) = read_all(&forged(&[(Extents, &zeros), (Events, &event)])).unwrap();
    assert_eq!(read[0].writes[0].data, [0; 300]);

    let damaged = |frames: &[(FrameKind, &[u8])], what: &str| match read_all(&forged(frames)) {
        Err(Error::Damaged { why, .. }) => assert!(!why.is_empty(), "{what}"),
        other => panic!("{what}: {other:?}"),
    };
    for (bad, what) in [
        (entries(&[(101, 100), (u32::MAX, 200)]), "beyond what is stored"),
        (entries(&[(u32::MAX - 1, 300)]), "far beyond"),
        (entries(&[(0, u32::MAX)]), "longer than anything"),
        (entries(&[(u32::MAX, u32::MAX)]), "four gigabytes of zeros"),
        (entries(&[(0, 100)]), "too few bytes"),
        (entries(&[(0, 200), (0, 200)]), "too many bytes"),
        (entries(&[(0, 0), (0, 200), (0, 100)]), "an empty extent"),
        (good[1..].to_vec(), "half an entry"),
    ] {
        damaged(&[(Data, &data), (Extents, &bad), (Events, &event)], what);
    }
    damaged(&[(Extents, &good), (Events, &event)], "nothing is stored");
    damaged(
        &[
            (Data, &data),
            (Extents, &good),
            (Extents, &good),
            (Events, &event),
        ],
        "twice",
    );
    damaged(
        &[(Extents, &good), (Data, &data), (Events, &event)],
        "data after the extents",
    );
    // The event announces 2^63 bytes and more; its length is the only word with these bytes.
    let at = event.windows(2).position(|w| w == 300u16.to_le_bytes()).unwrap();
    let mut huge = event.clone();
    huge[at..at + 2].copy_from_slice(&[0xff, 0xff]);
    damaged(
        &[(Data, &data), (Extents, &good), (Events, &huge)],
        "other lengths than the extents",
    );
    // Nothing follows: a torn end, and no error.
    let (read, _) = read_all(&forged(&[(Data, &data), (Extents, &good)])).unwrap();
    assert_eq!(read, []);
}
