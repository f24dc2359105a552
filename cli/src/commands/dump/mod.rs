//! `rr dump`: the events of a recording, as text or JSON.

mod buffered;
mod json;
mod sockets;
mod spec;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use rr_trace::TraceReader;
use rr_trace::event::{Event, EventKind, EventNumber, ExecInfo, TaskOp};
use rr_tracee::{Registers, Tid, syscalls};

use crate::traces;

/// The command line of `rr dump`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Print the events of a recording",
    long_about = "Print the events of a recording.\n\nSPEC is an event number N, a range A-B, or `end` for the \
    last event; without one, all events. The `ticks` of the original rr are always 0 here."
)]
pub struct Options {
    /// Print the system calls before the event that went through the buffer
    #[arg(short = 'b', long)]
    syscallbuf: bool,
    /// Print clone, exec and exit
    #[arg(short = 'e', long)]
    task_events: bool,
    /// Print the memory that was written
    #[arg(short = 'm', long)]
    recorded_metadata: bool,
    /// Print changes of the address space
    #[arg(short = 'p', long)]
    mmaps: bool,
    /// One line per event: N TID TYPE TICKS
    #[arg(short, long)]
    raw: bool,
    /// Print statistics instead of events
    #[arg(short, long)]
    statistics: bool,
    /// Only events of this task
    #[arg(short, long, value_name = "TID")]
    tid: Option<i32>,
    /// Print socket addresses that the program was told
    #[arg(long)]
    socket_addresses: bool,
    /// One JSON object per line and event
    #[arg(long, conflicts_with_all = ["raw", "statistics"])]
    json: bool,
    /// Trace directory or name, and SPECs
    #[arg(value_name = "TRACE|SPEC")]
    rest: Vec<String>,
}

/// An event, and what is to be known of events before it.
struct Line<'a> {
    event: &'a Event,
    /// Registers at the entry of the system call that the event belongs to.
    call: Option<Registers>,
    reader: &'a TraceReader,
}

impl Line<'_> {
    /// The kind of event, and for system calls which.
    fn name(&self) -> String {
        match &self.event.kind {
            EventKind::Start { .. } => "START".into(),
            EventKind::SyscallEnter { .. } | EventKind::Syscall { .. } => match &self.call {
                Some(entry) => format!("SYSCALL: {}", syscalls::name(entry.syscall())),
                None => "SYSCALL".into(),
            },
            EventKind::Restart { .. } => "SYSCALL_RESTART".into(),
            EventKind::SetRegisters { .. } => "SET_REGISTERS".into(),
            EventKind::Trap { .. } => "INSTRUCTION_TRAP".into(),
            EventKind::Point { .. } => "SCHED".into(),
            EventKind::Signal { signo, .. } => format!("SIGNAL: {}", signal(*signo)),
            EventKind::Exit { .. } => "EXIT".into(),
        }
    }

    /// The part of a system call that the event is.
    fn state(&self) -> &'static str {
        match &self.event.kind {
            EventKind::SyscallEnter { .. } => "ENTERING_SYSCALL",
            EventKind::Syscall { .. } => "EXITING_SYSCALL",
            _ => "NONE",
        }
    }

    /// The program that the event executed.
    fn exec(&self) -> Option<&ExecInfo> {
        match &self.event.kind {
            EventKind::Start { exec, .. }
            | EventKind::Syscall {
                task: Some(TaskOp::Exec(exec)),
                ..
            } => Some(exec),
            _ => None,
        }
    }
}

/// A signal's name, or its number.
fn signal(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number).map_or_else(|_| number.to_string(), |s| s.to_string())
}

/// System calls that have been entered and have not returned, by task.
#[derive(Default)]
struct Pending(HashMap<Tid, Registers>);

impl Pending {
    /// Those before event `from`.
    fn before(reader: &TraceReader, from: EventNumber) -> Result<Pending> {
        let mut pending = Pending::default();
        let first = reader.first_event().max(EventNumber(1));
        if from > first {
            for event in reader.events_from(first)? {
                let event = event?;
                if event.number >= from {
                    break;
                }
                pending.call_of(&event);
            }
        }
        Ok(pending)
    }

    /// The call that the next event belongs to.
    fn call_of(&mut self, event: &Event) -> Option<Registers> {
        match &event.kind {
            EventKind::SyscallEnter { entry } => {
                self.0.insert(event.tid, *entry);
                Some(*entry)
            }
            EventKind::Syscall { entry, .. } => entry.or_else(|| self.0.remove(&event.tid)),
            EventKind::Restart { .. } | EventKind::Exit { .. } => {
                self.0.remove(&event.tid);
                None
            }
            _ => None,
        }
    }
}

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
