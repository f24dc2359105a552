//! The size of an event's message, before it is made.

use rr_tracee::{Registers, SpaceOp};

use crate::event::{Event, EventKind, ExecInfo, Output, OutputSource, TaskOp};

/// Size of an event in a message before packing, in bytes. Exact but for the registers, of which the usual changes
/// are counted: all of them take at most 432 bytes more.
pub(crate) fn message_size(event: &Event) -> u64 {
    const EVENT: usize = 224; // the event with a kind and one set of registers' usual changes
    const REGISTERS: usize = 8 * Registers::WORDS;
    let text = |len: usize| len + 24;
    let exec = |e: &ExecInfo| text(e.path.len()) + e.args.iter().map(|a| text(a.len())).sum::<usize>() + 64;
    let kind = match &event.kind {
        EventKind::Start { exec: e, xstate, .. } => exec(e) + text(xstate.0.len()),
        EventKind::Syscall {
            xstate, task, output, ..
        } => {
            let task = match task {
                None => 0,
                Some(TaskOp::Exec(e)) => exec(e),
                Some(TaskOp::Clone(_)) => REGISTERS + 64,
            };
            let output = match output {
                None => 0,
                Some(Output {
                    source: OutputSource::Memory(pieces),
                    ..
                }) => 16 * pieces.len() + 48,
                Some(Output {
                    source: OutputSource::Bytes(_),
                    ..
                }) => 48,
            };
            let xstate = xstate.as_ref().map_or(0, |x| text(x.0.len()));
            xstate + task + output
        }
        EventKind::Signal { info, xstate, .. } => {
            text(info.len()) + xstate.as_ref().map_or(0, |x| text(x.0.len())) + 48
        }
        EventKind::SetRegisters { xstate, .. } => xstate.as_ref().map_or(0, |x| text(x.0.len())),
        EventKind::Point { point, .. } => {
            text(point.xstate.0.len()) + 16 * (point.discriminators.len() + point.digests.len()) + 64
        }
        EventKind::SyscallEnter { .. }
        | EventKind::Restart { .. }
        | EventKind::Trap { .. }
        | EventKind::Exit { .. } => 0,
    };
    let op_size = |op: &SpaceOp| match op {
        SpaceOp::Map(m) => text(m.name.len()) + 160,
        _ => 96,
    };
    let ops: usize = event.ops.iter().map(op_size).sum();
    let others: usize = event.others.iter().map(|(_, op)| op_size(op) + 16).sum();
    let writes = 24 * (event.writes.len() + event.object_writes.len());
    (EVENT + kind + ops + others + writes) as u64
}
