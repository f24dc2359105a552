//! Events as text, in the form of the original rr, because users' scripts search it.

use std::io::{Result, Write};

use rr_trace::event::{EventKind, TaskOp};
use rr_tracee::{Backing, Mapping, Prot, SpaceOp};

use super::line::Line;
use super::options::Options;
use super::{buffered, sockets};
use crate::registers;

/// Prints one event.
pub fn print(out: &mut impl Write, line: &Line<'_>, options: &Options) -> Result<()> {
    let event = line.event;
    writeln!(out, "{{")?;
    writeln!(
        out,
        "  real_time:{:.6} global_time:{}, event:`{}' (state:{}) tid:{}, ticks:0",
        event.time_ns as f64 / 1e9,
        event.number,
        line.name(),
        line.state(),
        event.tid
    )?;
    if let Some(regs) = event.kind.after().or_else(|| event.kind.before()) {
        writeln!(out, "{}", registers::line(regs))?;
    }
    if let EventKind::Syscall {
        payload: Some(digest),
        ..
    } = event.kind
    {
        writeln!(out, "  {{ payload:{digest} }}")?;
    }
    if options.syscallbuf {
        for call in buffered::calls(event) {
            let payload = call
                .payload
                .map_or(String::new(), |digest| format!(", payload:{digest}"));
            writeln!(
                out,
                "  {{ syscall:'{}', ret:{:#x}, size:{:#x}{payload} }}",
                call.name, call.result, call.size
            )?;
        }
    }
    if options.task_events {
        task_event(out, line)?;
    }
    if options.socket_addresses
        && let Some(address) = sockets::told(event, line.call.as_ref())
    {
        writeln!(out, "  {{ socket_address:\"{address}\" }}")?;
    }
    if options.mmaps {
        let others = event.others.iter().map(|(_, op)| op);
        for op in event.ops.iter().chain(others) {
            space_op(out, op, line)?;
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

fn task_event(out: &mut impl Write, line: &Line<'_>) -> Result<()> {
    let event = line.event;
    if let Some(exec) = line.exec() {
        return writeln!(
            out,
            "  TraceTaskEvent::EXEC tid={} file={} space={}",
            exec.tid, exec.path, exec.space
        );
    }
    match &event.kind {
        EventKind::Syscall {
            task: Some(TaskOp::Clone(c)),
            ..
        } => writeln!(
            out,
            "  TraceTaskEvent::CLONE tid={} parent={} flags={:#x} space={}",
            c.child, event.tid, c.flags, c.space
        ),
        EventKind::Exit { status } => {
            writeln!(out, "  TraceTaskEvent::EXIT tid={} status={status}", event.tid)
        }
        _ => Ok(()),
    }
}

/// `rwxp`, as in `/proc/PID/maps`.
pub fn rights(mapping: &Mapping) -> String {
    let flag = |right, letter| if mapping.prot.has(right) { letter } else { '-' };
    let shared = matches!(mapping.backing, Backing::Shared { .. });
    [
        flag(Prot::READ, 'r'),
        flag(Prot::WRITE, 'w'),
        flag(Prot::EXEC, 'x'),
        if shared { 's' } else { 'p' },
    ]
    .iter()
    .collect()
}

fn space_op(out: &mut impl Write, op: &SpaceOp, line: &Line<'_>) -> Result<()> {
    let mapping = match op {
        SpaceOp::Map(mapping) => mapping,
        SpaceOp::Unmap(range) => {
            return writeln!(
                out,
                "  {{ unmap, addr:{}, length:{:#x} }}",
                range.start,
                range.len()
            );
        }
        other => return writeln!(out, "  {{ {other:?} }}"),
    };
    let (data_file, offset, size) = match &mapping.backing {
        Backing::File { file, offset } => {
            let size = line.reader.file_size(*file).unwrap_or(0);
            (file.to_string(), *offset, size)
        }
        Backing::Shared { object, offset } | Backing::CopyOnWrite { object, offset } => {
            (format!("(object {})", object.0), *offset, 0)
        }
        Backing::Anonymous => ("(zero)".to_owned(), 0, 0),
        Backing::Rr => ("(rr)".to_owned(), 0, 0),
    };
    // Device and inode are not in the trace: files are known by their contents.
    writeln!(
        out,
        "  {{ map_file:\"{}\", addr:{}, length:{:#x}, prot_flags:\"{}\", file_offset:{offset:#x}, device:0, inode:0, \
         data_file:\"{data_file}\", data_offset:{offset:#x}, file_size:{size:#x} }}",
        mapping.name,
        mapping.range.start,
        mapping.range.len(),
        rights(mapping),
    )
}
