//! Writes small traces, uncompressed, as a fuzzer's first inputs: `segment_seeds DIR`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::PathBuf;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rr_trace::{Event, TraceWriter, WriterOptions};

fn main() {
    let out = PathBuf::from(std::env::args_os().nth(1).expect("usage: segment_seeds DIR"));
    std::fs::create_dir_all(&out).unwrap();
    let mut runner = TestRunner::deterministic();
    let tmp = tempfile::tempdir().unwrap();
    for seed in 0..24 {
        let dir = tmp.path().join(seed.to_string());
        // A queue without room: nothing is compressed, so that the fuzzer sees the messages.
        let queue_bytes = if seed % 6 == 5 { 1 << 20 } else { 1 };
        let options = WriterOptions {
            queue_bytes,
            ..Default::default()
        };
        let mut writer = TraceWriter::create(&dir, &common::header(), &options).unwrap();
        let events: Vec<Event> = (0..1 + seed % 4)
            .map(|_| common::event().new_tree(&mut runner).unwrap().current())
            .collect();
        for mut event in common::numbered(events, 1) {
            event.writes.iter_mut().for_each(|w| w.data.truncate(40));
            writer.append(event).unwrap();
            if seed % 3 == 0 {
                writer.flush().unwrap();
            }
        }
        if seed % 2 == 0 {
            writer.finish(0).unwrap();
        } else {
            drop(writer);
        }
        std::fs::copy(
            dir.join("segments/0000000000000001.seg"),
            out.join(format!("segment-{seed}")),
        )
        .unwrap();
        if seed == 0 {
            std::fs::copy(dir.join("header"), out.join("header")).unwrap();
        }
    }
    let record = |n: u64| [228 | 16 << 12 | 5 << 32, 0, 1000, n * n];
    let raw: Vec<u8> = (0..128).flat_map(record).flat_map(u64::to_le_bytes).collect();
    let deltas = rr_trace::record_delta::encode(&raw, [raw.len()]).unwrap();
    std::fs::write(out.join("deltas"), [&b"deltas\n"[..], &deltas].concat()).unwrap();
    println!(
        "{} seeds in {}",
        std::fs::read_dir(&out).unwrap().count(),
        out.display()
    );
}
