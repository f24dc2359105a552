//! Prints all system calls of a trace, including those that the library in the program made without a
//! stop.
//!
//! `cargo run -p rr-replayer --example calls -- TRACE`
//!
//! Nothing is replayed: the events contain the calls.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::path::Path;

use rr_trace::{EventKind, EventNumber, TraceReader};
use rr_tracee::{Tid, syscalls};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: calls TRACE")?;
    let reader = TraceReader::open(Path::new(&path))?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    // Calls during which other tasks ran have one event for the entry and one for the return.
    let mut entered: HashMap<Tid, i64> = HashMap::new();
    for event in reader.events_from(EventNumber(1))? {
        let event = event?;
        let (tid, number) = (event.tid, event.number);
        // These come before the event that ends the interval.
        let mut buffered = Vec::new();
        event
            .buffered
            .each_record(|record| buffered.push((record.number, record.result)));
        for (call, result) in buffered {
            writeln!(
                out,
                "{number:>8} {tid:>8} {} = {result} (buffered)",
                syscalls::name(call)
            )?;
        }
        match &event.kind {
            EventKind::SyscallEnter { entry } => {
                entered.insert(tid, entry.syscall());
            }
            EventKind::Syscall { entry, after, .. } => {
                let call = entry.as_ref().map(|entry| entry.syscall());
                if let Some(call) = call.or_else(|| entered.remove(&tid)) {
                    writeln!(
                        out,
                        "{number:>8} {tid:>8} {} = {}",
                        syscalls::name(call),
                        after.rax as i64
                    )?;
                }
            }
            _ => {}
        }
    }
    Ok(out.flush()?)
}
