//! `rr dump`: the events of a recording, as text or JSON.

mod buffered;
mod json;
mod line;
mod options;
mod pending;
mod sockets;
mod spec;
mod text;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use rr_tracee::Tid;

use crate::traces;
use line::Line;
pub use options::Options;
use pending::Pending;

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let (trace, specs) = spec::split(&options.rest);
    let reader = traces::open(trace.as_deref())?;
    let ranges = spec::ranges(specs, &reader)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut counts = BTreeMap::<String, u64>::new();
    let mut bytes = 0;
    for (from, to) in ranges {
        let mut pending = Pending::before(&reader, from)?;
        for event in reader.events_from(from)? {
            let event = event?;
            if event.number > to {
                break;
            }
            let call = pending.call_of(&event);
            if options.tid.is_some_and(|tid| Tid(tid) != event.tid) {
                continue;
            }
            let line = Line {
                event: &event,
                call,
                reader: &reader,
            };
            if options.statistics {
                *counts.entry(line.name()).or_default() += 1;
                bytes += event.writes.iter().map(|w| w.data.len() as u64).sum::<u64>();
            } else if options.json {
                writeln!(out, "{}", json::object(&line, options))?;
            } else if options.raw {
                let name = line.name().replace(' ', "");
                writeln!(out, "{} {} {name} 0", event.number, event.tid)?;
            } else {
                text::print(&mut out, &line, options)?;
            }
        }
    }
    if options.statistics {
        for (name, count) in counts {
            writeln!(out, "{count}\t{name}")?;
        }
        writeln!(out, "{bytes}\tbytes of recorded memory")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
