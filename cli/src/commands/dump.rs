//! `rr dump`: the events of a recording, as text.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use rr_trace::event::{Event, EventKind, EventNumber, TaskOp};
use rr_tracee::{Tid, syscalls};

use crate::traces;

/// The command line of `rr dump`.
#[derive(clap::Args, Debug)]
#[command(
    long_about = "Print the events of a recording.\n\nSPEC is an event number N, a range A-B, or `end` for the \
    last event; without one, all events."
)]
pub struct Options {
    /// One line per event: N TID TYPE
    #[arg(short, long)]
    raw: bool,
    /// Print the memory that was written
    #[arg(short = 'm', long)]
    recorded_metadata: bool,
    /// Print changes of the address space
    #[arg(short = 'p', long)]
    mmaps: bool,
    /// Print clone, exec and exit
    #[arg(short = 'e', long)]
    task_events: bool,
    /// Print statistics instead of events
    #[arg(short, long)]
    statistics: bool,
    /// Only events of this task
    #[arg(short, long, value_name = "TID")]
    tid: Option<i32>,
    /// Trace directory or name, and SPECs
    #[arg(value_name = "TRACE|SPEC")]
    rest: Vec<String>,
}

fn name(event: &Event) -> String {
    match &event.kind {
        EventKind::Start { .. } => "START".into(),
        EventKind::SyscallEnter { entry } => format!("SYSCALL: {}", syscalls::name(entry.syscall())),
        EventKind::Syscall {
            entry: Some(entry), ..
        } => format!("SYSCALL: {}", syscalls::name(entry.syscall())),
        EventKind::Syscall { .. } => "SYSCALL".into(),
        EventKind::Restart { .. } => "SYSCALL_RESTART".into(),
        EventKind::Trap { .. } => "INSTRUCTION_TRAP".into(),
        EventKind::Signal { signo, .. } => format!("SIGNAL: {signo}"),
        EventKind::Exit { .. } => "EXIT".into(),
    }
}

fn state(event: &Event) -> &'static str {
    match &event.kind {
        EventKind::SyscallEnter { .. } => "ENTERING_SYSCALL",
        EventKind::Syscall { .. } => "EXITING_SYSCALL",
        _ => "NONE",
    }
}

fn print(out: &mut impl Write, event: &Event, options: &Options) -> std::io::Result<()> {
    if options.raw {
        return writeln!(
            out,
            "{} {} {} 0",
            event.number,
            event.tid,
            name(event).replace(' ', "")
        );
    }
    writeln!(out, "{{")?;
    writeln!(
        out,
        "  real_time:{:.6} global_time:{}, event:`{}' (state:{}) tid:{}, ticks:0",
        event.time_ns as f64 / 1e9,
        event.number,
        name(event),
        state(event),
        event.tid
    )?;
    if let Some(r) = event.kind.after().or_else(|| event.kind.before()) {
        writeln!(
            out,
            "rax:{:#x} rbx:{:#x} rcx:{:#x} rdx:{:#x} rsi:{:#x} rdi:{:#x} rbp:{:#x} rsp:{:#x} r8:{:#x} r9:{:#x} r10:{:#x} \
             r11:{:#x} r12:{:#x} r13:{:#x} r14:{:#x} r15:{:#x} rip:{:#x} eflags:{:#x} fs_base:{:#x} gs_base:{:#x}",
            r.rax,
            r.rbx,
            r.rcx,
            r.rdx,
            r.rsi,
            r.rdi,
            r.rbp,
            r.rsp,
            r.r8,
            r.r9,
            r.r10,
            r.r11,
            r.r12,
            r.r13,
            r.r14,
            r.r15,
            r.rip,
            r.eflags,
            r.fs_base,
            r.gs_base
        )?;
    }
    if options.task_events {
        match &event.kind {
            EventKind::Start { exec, .. }
            | EventKind::Syscall {
                task: Some(TaskOp::Exec(exec)),
                ..
            } => {
                writeln!(
                    out,
                    "  TraceTaskEvent::EXEC tid={} file={} space={}",
                    exec.tid, exec.path, exec.space
                )?;
            }
            EventKind::Syscall {
                task: Some(TaskOp::Clone(c)),
                ..
            } => {
                writeln!(
                    out,
                    "  TraceTaskEvent::CLONE tid={} parent={} flags={:#x} space={}",
                    c.child, event.tid, c.flags, c.space
                )?;
            }
            EventKind::Exit { status } => {
                writeln!(out, "  TraceTaskEvent::EXIT tid={} status={status}", event.tid)?
            }
            _ => {}
        }
    }
    if options.mmaps {
        for op in &event.ops {
            writeln!(out, "  {op:?}")?;
        }
    }
    if options.recorded_metadata {
        for write in &event.writes {
            writeln!(
                out,
                "  {{ tid:{}, addr:{}, length:{:#x} }}",
                event.tid,
                write.addr,
                write.data.len()
            )?;
        }
    }
    writeln!(out, "}}")
}

/// The trace, if one is named, and ranges of events (both ends included).
type Selection = (Option<PathBuf>, Vec<(u64, u64)>);

/// Splits the arguments into the trace and ranges of events.
fn parse(rest: &[String], last: impl Fn(Option<PathBuf>) -> Result<u64>) -> Result<Selection> {
    let range = |s: &str, last: u64| -> Option<(u64, u64)> {
        if s == "end" {
            return Some((last, last));
        }
        match s.split_once('-') {
            Some((a, b)) => Some((a.parse().ok()?, b.parse().ok()?)),
            None => s.parse().ok().map(|n| (n, n)),
        }
    };
    let is_spec = |s: &str| range(s, 0).is_some() && !std::path::Path::new(s).exists();
    let (trace, specs) = match rest.split_first() {
        Some((first, more)) if !is_spec(first) => (Some(PathBuf::from(first)), more),
        _ => (None, rest),
    };
    let last = last(trace.clone())?;
    let ranges = specs
        .iter()
        .map(|s| range(s, last).with_context(|| format!("{s} is neither an event, a range A-B nor `end`")))
        .collect::<Result<Vec<_>>>()?;
    Ok((trace, ranges))
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let (trace, ranges) = parse(&options.rest, |trace| {
        Ok(traces::open(trace.as_deref())?.last_event().0)
    })?;
    let reader = traces::open(trace.as_deref())?;
    let ranges = if ranges.is_empty() {
        vec![(reader.first_event().0.max(1), reader.last_event().0)]
    } else {
        ranges
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    let mut bytes = 0;
    for (from, to) in ranges {
        if reader.last_event().0 == 0 || from > reader.last_event().0 {
            continue;
        }
        for event in reader.events_from(EventNumber(from.max(1)))? {
            let event = event?;
            if event.number.0 > to {
                break;
            }
            if options.tid.is_some_and(|tid| Tid(tid) != event.tid) {
                continue;
            }
            if options.statistics {
                *counts.entry(name(&event)).or_default() += 1;
                bytes += event.writes.iter().map(|w| w.data.len() as u64).sum::<u64>();
            } else {
                print(&mut out, &event, options)?;
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
