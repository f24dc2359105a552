//! How fast traces are written and read: `cargo run --release -p rr-trace --example throughput`.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use rr_trace::{Event, EventNumber, TraceReader, TraceWriter, WriterOptions};

fn measure(name: &str, count: u64, make: impl Fn(u64) -> Event) {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let mut writer = TraceWriter::create(&dir, &common::header(), &WriterOptions::default()).unwrap();
    let mut appending = Duration::ZERO;
    let start = Instant::now();
    let mut ready = Vec::new();
    for n in 1..=count {
        if ready.is_empty() {
            ready = (n..=count.min(n + 999)).rev().map(&make).collect();
        }
        let event = ready.pop().unwrap();
        let before = Instant::now();
        writer.append(event).unwrap();
        appending += before.elapsed();
    }
    writer.flush().unwrap();
    let written = start.elapsed();
    writer.finish(0).unwrap();
    let bytes: u64 = std::fs::read_dir(dir.join("segments"))
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    let trace = TraceReader::open(&dir).unwrap();
    let start = Instant::now();
    let read = trace
        .events_from(EventNumber(1))
        .unwrap()
        .map(Result::unwrap)
        .count() as f64;
    let reading = start.elapsed();
    println!(
        "{name:14} append {:6.0} ns/event, written {:9.0} events/s, {:7.1} bytes/event, read {:9.0} events/s",
        appending.as_nanos() as f64 / count as f64,
        count as f64 / written.as_secs_f64(),
        bytes as f64 / count as f64,
        read / reading.as_secs_f64(),
    );
}

fn main() {
    measure("no data", 2_000_000, |n| common::typical(n, vec![]));
    measure("64 bytes", 1_000_000, |n| common::typical(n, vec![n as u8; 64]));
    measure("4 KiB text", 100_000, |n| {
        let line = |i: u64| format!("{i:06} the quick brown fox {}\n", (n * i) % 977);
        common::typical(n, (0..120).map(line).collect::<String>().into_bytes())
    });
}
