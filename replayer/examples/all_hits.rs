//! Prints all executions of a function of the first program, over the whole trace. The trace is cut at
//! its checkpoints, and the pieces are searched on all CPUs in parallel.
//!
//! `cargo run -p rr-replayer --example all_hits -- TRACE FUNCTION [THREADS]`
//!
//! ```text
//!   start      stored     stored     stored      end
//!    ●──────────●──────────●──────────●───────────│
//!      thread 0   thread 1   thread 0   thread 1
//! ```
//!
//! If `cpuid` cannot be intercepted, a program can see the CPU that it runs on
//! (`rr_replayer::stretch`). Programs that look in the middle of a run are rare, and a differing replay
//! is an error and not a wrong answer. With 1 thread, the example runs on the CPU of the recording.

mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rr_replayer::stretch::{self, Stretch};
use rr_replayer::timeline::{Action, Stop};
use rr_replayer::{Never, Position, cpu_for_replay};
use rr_trace::EventNumber;
use rr_tracee::Tid;
use rr_tracee::cpus::Cpus;

use common::Result;

/// The hits of a stretch: the event before each, and the thread.
type Hits = Vec<(EventNumber, Tid)>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (path, name, threads) = match &args[..] {
        [path, name] => (path, name, usize::MAX),
        [path, name, threads] => (path, name, threads.parse()?),
        _ => return Err("usage: all_hits TRACE FUNCTION [THREADS]".into()),
    };
    let (reader, program) = common::open(path)?;
    let cpus = Cpus::survey();
    let home = cpu_for_replay(&cpus, &reader);
    let (addr, _) = common::symbol(
        &common::timeline_at(&reader, &program, program.begin, home)?,
        name,
        &program.path,
    )?;

    let end = Position::at_event(reader.last_event());
    let stored = reader.checkpoints()?;
    let mut stretches = stretch::between(&stored, reader.first_event().0 <= 1, program.begin, &end);
    stretches.reverse();

    let search = |stretch: &Stretch, cpu: usize| -> Result<Hits> {
        let from = stretch.from.max(program.begin);
        let mut timeline = common::timeline_at(&reader, &program, from, cpu)?;
        timeline.stops.breakpoints.insert(addr, Vec::new());
        timeline.stops.until = Some(stretch.to.last);
        let mut hits = Hits::new();
        loop {
            match timeline.resume(Action::Continue, &mut Never)? {
                Stop::Breakpoint { tid, .. } => hits.push((timeline.position().last, tid)),
                Stop::Exited { .. } | Stop::HistoryEnd => return Ok(hits),
                _ => {}
            }
        }
    };
    // Each thread takes the next untaken stretch.
    let next = AtomicUsize::new(0);
    let found: Mutex<BTreeMap<usize, Result<Hits>>> = Mutex::default();
    let others = cpus.all().into_iter().filter(|cpu| *cpu != home);
    std::thread::scope(|scope| {
        for cpu in std::iter::once(home).chain(others).take(threads) {
            let (next, found, stretches, search) = (&next, &found, &stretches, &search);
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(stretch) = stretches.get(n) else { break };
                    let hits = search(stretch, cpu);
                    if let Ok(mut found) = found.lock() {
                        found.insert(n, hits);
                    }
                }
            });
        }
    });
    let found = found.into_inner().map_err(|_| "a thread has panicked")?;
    let mut count = 0;
    for hits in found.into_values() {
        for (event, tid) in hits? {
            count += 1;
            println!("{name} after event {event}, thread {tid}");
        }
    }
    println!("{count} hits in {} stretches", stretches.len());
    Ok(())
}
