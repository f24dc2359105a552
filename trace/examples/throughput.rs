//! Measures how fast traces are written and read: `cargo run --release -p rr-trace --example throughput`.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use rr_trace::{Event, EventNumber, TraceReader, TraceWriter, WriterOptions};

/// CPU time of this thread: what counts while others use the machine too.
fn cpu() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    Duration::from(time)
}

fn measure(name: &str, count: u64, paced: bool, make: impl Fn(u64) -> Event) {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("trace");
    let mut writer = TraceWriter::create(&dir, &common::header(), &WriterOptions::default()).unwrap();
    let (mut appending, mut appending_cpu) = (Duration::ZERO, Duration::ZERO);
    let start = Instant::now();
    for chunk in 0..count / 1000 {
        let events: Vec<Event> = (chunk * 1000 + 1..=chunk * 1000 + 1000).map(&make).collect();
        let before = (Instant::now(), cpu());
        for event in events {
            writer.append(event).unwrap();
        }
        appending += before.0.elapsed();
        appending_cpu += cpu() - before.1;
        if paced && chunk % 8 == 7 {
            writer.flush().unwrap();
        }
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
    let per_event = |d: Duration| d.as_nanos() as f64 / count as f64;
    println!(
        "{name:22} append {:5.0} ns/event ({:4.0} of CPU), written {:9.0} events/s, {:7.1} bytes/event, read {:9.0} events/s",
        per_event(appending),
        per_event(appending_cpu),
        count as f64 / written.as_secs_f64(),
        bytes as f64 / count as f64,
        read / reading.as_secs_f64(),
    );
}

fn main() {
    for paced in [false, true] {
        println!(
            "{}",
            if paced {
                "the writer keeps up:"
            } else {
                "as fast as possible:"
            }
        );
        measure("no data", 1_000_000, paced, |n| common::typical(n, vec![]));
        measure("64 bytes", 500_000, paced, |n| {
            common::typical(n, vec![n as u8; 64])
        });
        measure("4 KiB text", 50_000, paced, |n| {
            let line = |i: u64| format!("{i:06} the quick brown fox {}\n", (n * i) % 977);
            common::typical(n, (0..120).map(line).collect::<String>().into_bytes())
        });
    }
}
