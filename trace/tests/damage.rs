//! Truncated, damaged and hostile traces: an error or a prefix, never a panic and never something else.

use std::path::{Path, PathBuf};

use super::common::{event, header, message, numbered, typical};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rr_trace::frame::{CompressionLevel, FrameKind, append_frame};
use rr_trace::segment::read_all;
use rr_trace::{Error, Event, EventNumber, TraceReader, TraceWriter, WriterOptions};

/// Some events of all kinds.
fn events() -> Vec<Event> {
    let mut runner = TestRunner::deterministic();
    let mut events: Vec<Event> = (0..30)
        .map(|_| event().new_tree(&mut runner).unwrap().current())
        .collect();
    for event in &mut events {
        // Small, because every byte is tried.
        event.writes.truncate(1);
        event.writes.iter_mut().for_each(|w| w.data.truncate(20));
        if let rr_trace::EventKind::Start { xstate, .. } = &mut event.kind {
            xstate.0.truncate(30);
        }
    }
    numbered(events, 1)
}

/// A trace of one or two segments with some groups each.
fn write(dir: &Path, events: &[Event], cut_after: Option<u64>) {
    let mut writer = TraceWriter::create(dir, &header(), &WriterOptions::default()).unwrap();
    for event in events {
        writer.append(event.clone()).unwrap();
        if event.number.0 % 10 == 0 {
            writer.flush().unwrap();
        }
        if Some(event.number.0) == cut_after {
            writer.start_segment().unwrap();
        }
    }
    writer.finish(0).unwrap();
}

fn segment(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("segments/{first:016}.seg"))
}

/// Reads a trace: its events up to the first error, and that error.
fn read(dir: &Path) -> (Vec<Event>, Option<Error>) {
    let trace = match TraceReader::open(dir) {
        Ok(trace) => trace,
        Err(e) => return (Vec::new(), Some(e)),
    };
    let mut events = Vec::new();
    for event in trace.events_from(trace.first_event()).unwrap() {
        match event {
            Ok(event) => events.push(event),
            Err(e) => return (events, Some(e)),
        }
    }
    assert_eq!(
        events.len() as u64 + trace.first_event().0,
        trace.last_event().0 + 1
    );
    (events, None)
}

/// Offsets at which the groups of a segment end, with the number of events up to there.
fn group_ends(bytes: &[u8]) -> Vec<(usize, u64)> {
    let mut at = 48;
    let mut ends = vec![(at, 0)];
    while at < bytes.len() {
        let kind = bytes[at + 4];
        let stored = u32::from_le_bytes(bytes[at + 12..at + 16].try_into().unwrap());
        let last = u64::from_le_bytes(bytes[at + 24..at + 32].try_into().unwrap());
        at += 48 + stored as usize;
        if kind != 1 {
            ends.push((at, last));
        }
    }
    ends
}

#[test]
fn truncated_anywhere() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let events = events();
    write(&dir, &events, None);
    let path = segment(&dir, 1);
    let whole = std::fs::read(&path).unwrap();
    let ends = group_ends(&whole);
    assert!(ends.len() > 4);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for len in (0..whole.len()).rev() {
        file.set_len(len as u64).unwrap();
        let (end, last) = *ends.iter().rev().find(|(end, _)| *end <= len).unwrap_or(&(0, 0));
        let trace = TraceReader::open(&dir).unwrap_or_else(|e| panic!("cut at {len}: {e}"));
        assert_eq!(trace.last_event().0, last, "cut at {len}");
        assert!(!trace.is_complete());
        // A segment without a group does not count at all.
        let kept = if last == 0 { 0 } else { end };
        assert_eq!(trace.torn_bytes(), (len - kept) as u64, "cut at {len}");
        if len % 7 == 0 {
            let (got, error) = read(&dir);
            assert!(error.is_none(), "cut at {len}: {error:?}");
            assert!(got == events[..last as usize], "cut at {len}");
        }
    }
}

#[test]
fn a_torn_new_segment_is_left_out() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let events = events();
    write(&dir, &events, Some(20));
    let path = segment(&dir, 21);
    let whole = std::fs::read(&path).unwrap();
    for content in [vec![], whole[..20].to_vec(), whole[..60].to_vec(), vec![0; 4096]] {
        std::fs::write(&path, &content).unwrap();
        let trace = TraceReader::open(&dir).unwrap();
        assert_eq!(
            (trace.last_event().0, trace.torn_bytes()),
            (20, content.len() as u64)
        );
        assert_eq!(read(&dir).0.len(), 20);
    }
    // But a torn segment that is not the last is damage.
    std::fs::write(&path, &whole).unwrap();
    let first = std::fs::read(segment(&dir, 1)).unwrap();
    std::fs::write(segment(&dir, 1), &first[..first.len() - 1]).unwrap();
    let (got, error) = read(&dir);
    assert!(
        got.len() < 20 && matches!(error, Some(Error::Damaged { .. })),
        "{error:?}"
    );
}

#[test]
fn every_bit_of_a_segment() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let events = events();
    write(&dir, &events, None);
    let path = segment(&dir, 1);
    let whole = std::fs::read(&path).unwrap();
    let ends = group_ends(&whole);
    // The last group with events: damage after it is like a torn end.
    let (_, before_last) = ends[ends.len() - 3];
    let mut kept_all = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        // The file is read in memory: the same code, and much faster.
        match read_all(&bytes) {
            Ok((got, status)) => {
                assert!(got == events[..got.len()], "offset {at}");
                assert!(status.is_none() || at < 48, "offset {at} is not protected");
                if at >= 48 {
                    assert!(
                        got.len() as u64 >= before_last,
                        "offset {at}: only {} events",
                        got.len()
                    );
                }
                kept_all += usize::from(got.len() == events.len());
            }
            Err(e) => assert!(matches!(
                e,
                Error::Damaged { .. } | Error::Version { .. } | Error::NotATrace { .. }
            )),
        }
        if at % 50 == 0 {
            std::fs::write(&path, &bytes).unwrap();
            let (got, error) = read(&dir);
            assert!(got == events[..got.len()]);
            assert!(error.is_some() || got.len() as u64 >= before_last);
        }
    }
    assert!(kept_all > 0);
}

#[test]
fn every_bit_of_the_header() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    write(&dir, &events(), None);
    let path = dir.join("header");
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).unwrap();
        assert!(TraceReader::open(&dir).is_err(), "offset {at}");
        std::fs::write(&path, &whole[..at]).unwrap();
        assert!(TraceReader::open(&dir).is_err(), "cut at {at}");
    }
    std::fs::write(&path, [&*whole, b"x"].concat()).unwrap();
    assert!(TraceReader::open(&dir).is_err());
    std::fs::remove_file(&path).unwrap();
    let e = TraceReader::open(&dir).unwrap_err();
    assert!(matches!(e, Error::NotATrace { .. }), "{e}");
}

#[test]
fn a_future_version_says_so() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    write(&dir, &events(), None);
    for path in [dir.join("header"), segment(&dir, 1)] {
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        let future = rr_trace::FORMAT_VERSION + 1;
        bytes[8..12].copy_from_slice(&future.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let e = TraceReader::open(&dir).unwrap_err().to_string();
        let ours = format!("reads version {}", rr_trace::FORMAT_VERSION);
        assert!(
            e.contains(&format!("format version {future}")) && e.contains(&ours),
            "{e}"
        );
        assert!(e.contains(path.file_name().unwrap().to_str().unwrap()), "{e}");
        std::fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_segment_of_another_trace() {
    let tmp = tempfile::tempdir().unwrap();
    let (a, b) = (tmp.path().join("a"), tmp.path().join("b"));
    write(&a, &events(), None);
    write(&b, &events(), None);
    std::fs::copy(segment(&a, 1), segment(&b, 1)).unwrap();
    let e = TraceReader::open(&b).unwrap_err();
    assert!(matches!(&e, Error::Damaged { offset: 16, .. }), "{e}");
    // Nor under another number.
    std::fs::rename(segment(&a, 1), segment(&a, 5)).unwrap();
    assert!(matches!(
        TraceReader::open(&a),
        Err(Error::Damaged { offset: 32, .. })
    ));
    std::fs::rename(segment(&a, 5), segment(&a, 0)).unwrap();
    assert!(matches!(TraceReader::open(&a), Err(Error::Damaged { .. })));
}

/// Segment bytes made by hand.
struct Forged(Vec<u8>);

impl Forged {
    /// The header of a real segment, and nothing else.
    fn new() -> Forged {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("trace");
        write(&dir, &[typical(1, vec![])], None);
        Forged(std::fs::read(segment(&dir, 1)).unwrap()[..48].to_vec())
    }

    fn frame(mut self, kind: FrameKind, first: u64, last: u64, raw: &[u8]) -> Forged {
        append_frame(
            &mut self.0,
            kind,
            (EventNumber(first), EventNumber(last)),
            raw,
            CompressionLevel::None,
        );
        self
    }
}

#[test]
fn forged_streams() {
    let damaged = |forged: Forged, what: &str| match read_all(&forged.0) {
        Err(Error::Damaged { why, .. }) => assert!(!why.is_empty(), "{what}"),
        other => panic!("{what}: {other:?}"),
    };
    let one = message(&[typical(1, vec![])]);
    let with_data = message(&[typical(1, b"12345".to_vec())]);
    // The extents are good.
    let good =
        Forged::new()
            .frame(FrameKind::Data, 1, 1, b"12345")
            .frame(FrameKind::Events, 1, 1, &with_data);
    assert_eq!(read_all(&good.0).unwrap().0, [typical(1, b"12345".to_vec())]);

    damaged(Forged::new().frame(FrameKind::Events, 2, 2, &one), "gap");
    damaged(
        Forged::new().frame(FrameKind::Events, 1, 2, &one),
        "fewer events than announced",
    );
    damaged(
        Forged::new().frame(FrameKind::Events, 1, u64::MAX, &one),
        "as many events as there are numbers",
    );
    damaged(
        Forged::new().frame(FrameKind::Events, 1, u64::MAX - 1, &one),
        "nearly as many",
    );
    damaged(
        Forged::new().frame(FrameKind::Events, 1, 1, &with_data),
        "no data",
    );
    damaged(
        Forged::new()
            .frame(FrameKind::Data, 1, 1, b"1234")
            .frame(FrameKind::Events, 1, 1, &with_data),
        "too little data",
    );
    damaged(
        Forged::new()
            .frame(FrameKind::Data, 1, 1, b"123456")
            .frame(FrameKind::Events, 1, 1, &with_data),
        "too much data",
    );
    damaged(
        Forged::new()
            .frame(FrameKind::Data, 1, 2, b"12345")
            .frame(FrameKind::Events, 1, 1, &with_data),
        "data of another group",
    );
    damaged(
        Forged::new()
            .frame(FrameKind::Data, 1, 1, b"x")
            .frame(FrameKind::End, 0, 0, &one),
        "end in a group",
    );
    damaged(
        Forged::new()
            .frame(FrameKind::Events, 1, 1, &one)
            .frame(FrameKind::End, 5, 5, &one),
        "end after another event",
    );
    damaged(
        Forged::new().frame(FrameKind::End, 0, 0, &[0x10, 1, 0, 0]).frame(
            FrameKind::End,
            0,
            0,
            &[0x10, 1, 0, 0],
        ),
        "two ends",
    );
    damaged(
        Forged::new().frame(FrameKind::Events, 1, 1, &[&*one, b"x"].concat()),
        "bytes after the message",
    );
    // A message that claims to have 2^32 words.
    damaged(
        Forged::new().frame(FrameKind::Events, 1, 1, &[0xf0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
        "huge message",
    );
}

#[test]
fn data_bombs_are_bounded() {
    // The message announces more data than is there, and more than a group may have.
    let events = vec![typical(1, vec![]), typical(2, b"xyz".to_vec())];
    let raw = message(&events);
    // The length 3 stands in the last word that is not zero; make it enormous.
    let at = raw.iter().rposition(|b| *b == 3).unwrap();
    for huge in [0x7fu8, 0xff] {
        let mut raw = raw.clone();
        raw[at] = huge;
        let forged = Forged::new()
            .frame(FrameKind::Data, 1, 2, b"xyz")
            .frame(FrameKind::Events, 1, 2, &raw);
        assert!(matches!(read_all(&forged.0), Err(Error::Damaged { .. })));
    }
}

#[test]
fn large_window_brotli_is_refused() {
    let params = brotli::enc::BrotliEncoderParams {
        large_window: true,
        lgwin: 30,
        quality: 5,
        ..Default::default()
    };
    let mut stored = Vec::new();
    brotli::BrotliCompress(&mut &vec![1u8; 100_000][..], &mut stored, &params).unwrap();
    let e = rr_trace::compress::decompress(&stored, 100_000).unwrap_err();
    assert!(e.to_string().contains("large window"), "{e}");
    // Lengths that are not the announced ones.
    let stored = rr_trace::compress::compress(&[1; 1000], 5).unwrap();
    assert!(rr_trace::compress::decompress(&stored, 999).is_err());
    assert!(rr_trace::compress::decompress(&stored, 1001).is_err());
    assert!(rr_trace::compress::decompress(&stored[..stored.len() - 1], 1000).is_err());
    assert_eq!(rr_trace::compress::decompress(&stored, 1000).unwrap(), [1; 1000]);
}

#[test]
fn mutated_messages_never_panic() {
    // Right checksums around wrong messages: what a hostile trace looks like.
    let events = events();
    let raw = message(&events);
    let mut x = 88172645463325252u64;
    let mut random = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as usize
    };
    let mut survived = 0;
    for _ in 0..20_000 {
        let mut raw = raw.clone();
        for _ in 0..1 + random() % 3 {
            let at = random() % raw.len();
            raw[at] = random() as u8;
        }
        let data: Vec<u8> = vec![0; 600];
        let forged = Forged(FORGED_HEADER.with(|h| h.clone()))
            .frame(FrameKind::Data, 1, events.len() as u64, &data)
            .frame(FrameKind::Events, 1, events.len() as u64, &raw);
        survived += usize::from(read_all(&forged.0).is_ok());
    }
    // Most changes are noticed or change the amount of data; the point is that all came back.
    assert!(survived < 20_000);
}

thread_local! {
    static FORGED_HEADER: Vec<u8> = Forged::new().0;
}
