//! Measures going backwards: `steps TRACE ADDRESS`. From the end of the trace, 21 steps back; then back
//! to a breakpoint at the address, and again; then forwards over it with a condition that is never
//! true.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rr_replayer::timeline::{Action, Condition, Setup, Timeline};
use rr_replayer::{Never, Position};
use rr_trace::TraceReader;
use rr_trace::event::{EventKind, EventNumber};
use rr_tracee::{Addr, Tid};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let reader = Arc::new(TraceReader::open(Path::new(&args[1]))?);
    let addr = Addr(u64::from_str_radix(args[2].trim_start_matches("0x"), 16)?);
    let mut process = Tid(0);
    for event in reader.events_from(reader.first_event())? {
        if let EventKind::Start { exec, .. } = &event?.kind {
            process = exec.tid;
        }
    }
    let mut timeline = Timeline::new(Setup {
        reader: Arc::clone(&reader),
        cpu: reader.header().bound_cpu.map(|cpu| cpu as usize),
        process,
        begin: EventNumber(1),
        show: Box::new(|_, _| {}),
    })?;
    let began = Instant::now();
    // Before the signal that ends the program.
    let end = Position::before_event(EventNumber(reader.last_event().0 - 2));
    timeline.seek(&end, &mut Never)?;
    println!("to the end: {:?}", began.elapsed());
    let mut slowest = std::time::Duration::ZERO;
    for n in 0..21 {
        let began = Instant::now();
        timeline.reverse_step(process, &mut Never)?;
        let took = began.elapsed();
        if n == 0 {
            println!("first reverse-step: {took:?}, to {}", timeline.position());
        } else {
            slowest = slowest.max(took);
        }
    }
    println!("slowest of 20 more: {slowest:?}, to {}", timeline.position());
    timeline.stops.breakpoints.insert(addr, vec![]);
    for n in 1..=3 {
        let began = Instant::now();
        let stop = timeline.reverse_continue(&mut Never)?;
        let took = began.elapsed();
        println!(
            "reverse-continue {n}: {took:?}, {stop:?} at {}",
            timeline.position()
        );
    }
    timeline.stops.breakpoints.clear();
    timeline.seek(&Position::at_event(EventNumber(1)), &mut Never)?;
    let never = Condition::new(|_, _| false, None);
    timeline.stops.breakpoints.insert(addr, vec![never]);
    let began = Instant::now();
    let stop = timeline.resume(Action::Continue, &mut Never)?;
    println!("continue over a false condition: {:?}, {stop:?}", began.elapsed());
    Ok(())
}
