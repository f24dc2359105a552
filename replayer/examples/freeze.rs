//! Measures live checkpoints: `freeze TRACE [EVENT]` replays to the event (by default the last one
//! before the first exit) and prints medians of freezing, thawing and dropping there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rr_replayer::ReplaySession;
use rr_trace::{EventKind, EventNumber, TraceReader};

type Failure = Box<dyn std::error::Error>;

const ROUNDS: usize = 101;

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let trace = args.next().ok_or("freeze TRACE [EVENT]")?;
    let reader = Arc::new(TraceReader::open(trace.as_ref())?);
    let event = match args.next() {
        Some(event) => EventNumber(event.parse()?),
        None => {
            let mut events = reader.events_from(EventNumber(1))?;
            let exit = events.find(|e| e.as_ref().is_ok_and(|e| matches!(e.kind, EventKind::Exit { .. })));
            EventNumber(exit.ok_or("no exit")??.number.0 - 1)
        }
    };
    let mut cpus = nix::sched::CpuSet::new();
    let cpu = reader.header().bound_cpu.map_or(0, |cpu| cpu as usize);
    cpus.set(cpu)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus)?;
    let mut session = ReplaySession::start(Arc::clone(&reader), Some(cpu))?;
    while session.last_event() < event && session.step()?.is_some() {}
    let [mut freeze, mut thaw, mut drop_session, mut drop_frozen] = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let frozen = session.freeze()?;
        freeze.push(start.elapsed());
        let start = Instant::now();
        let thawed = frozen.thaw()?;
        thaw.push(start.elapsed());
        let start = Instant::now();
        drop(thawed);
        drop_session.push(start.elapsed());
        let start = Instant::now();
        drop(frozen);
        drop_frozen.push(start.elapsed());
    }
    println!(
        "at event {event}: freeze {:.0} µs, thaw {:.0} µs, end of a session {:.0} µs, of a checkpoint {:.0} µs",
        median(freeze),
        median(thaw),
        median(drop_session),
        median(drop_frozen)
    );
    Ok(())
}
