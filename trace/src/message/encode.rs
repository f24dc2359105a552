//! Events to a message.

use capnp::message::{Builder, HeapAllocator};
use rr_preload::payload::Digest;
use rr_schema::rr_capnp as wire;
use rr_tracee::{Addr, Registers, Tid};

use super::size::message_size;
use crate::convert::write_space_op;
use crate::delta::{self, Bases};
use crate::event::{
    Disposition, Event, EventKind, ExecInfo, Output, OutputSource, SignalPlace, Stdio, TaskOp,
};

/// The packed message of consecutive events.
pub(crate) fn encode(events: &[Event]) -> Result<Vec<u8>, capnp::Error> {
    // Twice the registers of `message_size`, because every one may have changed: no second segment is needed then.
    let words = events
        .iter()
        .map(|e| message_size(e) as usize / 8 + 2 * Registers::WORDS)
        .sum::<usize>()
        + 8;
    let allocator = HeapAllocator::new().first_segment_words(u32::try_from(words).unwrap_or(u32::MAX / 8));
    let mut message = Builder::new(allocator);
    let mut list = message
        .init_root::<wire::events::Builder<'_>>()
        .init_events(events.len() as u32);
    let mut encoder = Encoder::default();
    for (i, event) in events.iter().enumerate() {
        encoder.event(list.reborrow().get(i as u32), event);
    }
    let mut packed = Vec::with_capacity(words * 2);
    capnp::serialize_packed::write_message(&mut packed, &message)?;
    Ok(packed)
}

/// The state that goes from one event of a frame to the next.
#[derive(Default)]
struct Encoder {
    bases: Bases,
    words: Vec<u64>,
    time: u64,
}

impl Encoder {
    fn event(&mut self, mut out: wire::event::Builder<'_>, event: &Event) {
        out.set_time(event.time_ns.wrapping_sub(self.time));
        self.time = event.time_ns;
        out.set_tid(event.tid.0);

        self.words.clear();
        let base = self.bases.of(event.tid);
        if let Some(regs) = event.kind.before() {
            out.set_before_changed(delta::encode(base, regs, &mut self.words));
        }
        if let Some(regs) = event.kind.after() {
            out.set_after_changed(delta::encode(base, regs, &mut self.words));
        }
        set_words(&self.words, |n| out.reborrow().init_words(n));

        out.set_buffered(event.buffered.len() as u64);
        if !event.ops.is_empty() {
            let mut ops = out.reborrow().init_ops(event.ops.len() as u32);
            for (i, op) in event.ops.iter().enumerate() {
                write_space_op(ops.reborrow().get(i as u32), op);
            }
        }
        if !event.writes.is_empty() {
            let mut writes = out.reborrow().init_writes(event.writes.len() as u32);
            for (i, write) in event.writes.iter().enumerate() {
                let mut w = writes.reborrow().get(i as u32);
                w.set_space(write.space.0);
                w.set_addr(write.addr.0);
                w.set_length(write.data.len() as u64);
            }
        }
        if !event.others.is_empty() {
            let mut others = out.reborrow().init_others(event.others.len() as u32);
            for (i, (space, op)) in event.others.iter().enumerate() {
                let mut other = others.reborrow().get(i as u32);
                other.set_space(space.0);
                write_space_op(other.init_op(), op);
            }
        }
        if !event.object_writes.is_empty() {
            let mut writes = out
                .reborrow()
                .init_object_writes(event.object_writes.len() as u32);
            for (i, write) in event.object_writes.iter().enumerate() {
                let mut w = writes.reborrow().get(i as u32);
                w.set_object(write.object.0);
                w.set_offset(write.offset);
                w.set_length(write.data.len() as u64);
            }
        }
        self.kind(out, event);
    }

    fn kind(&mut self, mut out: wire::event::Builder<'_>, event: &Event) {
        match &event.kind {
            EventKind::Start {
                exec,
                xstate,
                after: _,
            } => {
                let mut out = out.init_start();
                out.set_xstate(&xstate.0);
                write_exec(out.init_exec(), exec);
            }
            EventKind::SyscallEnter { entry: _ } => out.set_syscall_enter(()),
            EventKind::Syscall {
                entry,
                after: _,
                xstate,
                task,
                output,
                payload,
            } => {
                let mut out = out.init_syscall();
                out.set_entered(entry.is_some());
                out.set_payload(payload.map_or(0, Digest::value));
                if let Some(xstate) = xstate {
                    out.set_xstate(&xstate.0);
                }
                if let Some(task) = task {
                    self.task_op(out.reborrow().init_task(), event.tid, task);
                }
                if let Some(output) = output {
                    write_output(out.init_output(), output);
                }
            }
            EventKind::Restart { after: _ } => out.set_restart(()),
            EventKind::SetRegisters { after: _, xstate } => {
                let mut out = out.init_set_registers();
                if let Some(xstate) = xstate {
                    out.set_xstate(&xstate.0);
                }
            }
            EventKind::Trap { at: _, after: _ } => out.set_trap(()),
            EventKind::Signal {
                signo,
                info,
                place,
                disposition,
                after: _,
                xstate,
            } => {
                let mut out = out.init_signal();
                out.set_signo(*signo);
                out.set_info(info);
                out.set_place(match place {
                    SignalPlace::Fault(_) => wire::SignalPlace::Fault,
                    SignalPlace::Entry(_) => wire::SignalPlace::Entry,
                    SignalPlace::Here => wire::SignalPlace::Here,
                });
                out.set_disposition(match disposition {
                    Disposition::Ignored => wire::Disposition::Ignored,
                    Disposition::Handler => wire::Disposition::Handler,
                    Disposition::Fatal => wire::Disposition::Fatal,
                    Disposition::Stopped => wire::Disposition::Stopped,
                });
                if let Some(xstate) = xstate {
                    out.set_xstate(&xstate.0);
                }
            }
            EventKind::Point { at: _, point } => {
                let mut out = out.init_point();
                out.set_xstate(&point.xstate.0);
                out.set_ran(point.ran_us);
                let words = out
                    .reborrow()
                    .init_discriminators(point.discriminators.len() as u32);
                write_words(words, point.discriminators.iter().copied());
                let digests = out.init_digests(point.digests.len() as u32);
                write_words(digests, point.digests.iter().map(|s| (s.start, s.digest)));
            }
            EventKind::Exit { status } => out.init_exit().set_status(*status),
        }
    }

    fn task_op(&mut self, out: wire::task_op::Builder<'_>, tid: Tid, task: &TaskOp) {
        match task {
            TaskOp::Exec(exec) => write_exec(out.init_exec(), exec),
            TaskOp::Clone(clone) => {
                let mut out = out.init_clone();
                out.set_child(clone.child.0);
                out.set_tgid(clone.tgid.0);
                out.set_space(clone.space.0);
                out.set_flags(clone.flags);
                let parent = *self.bases.of(tid);
                let base = self.bases.of(clone.child);
                *base = parent;
                self.words.clear();
                out.set_changed(delta::encode(base, &clone.regs, &mut self.words));
                set_words(&self.words, |n| out.reborrow().init_words(n));
            }
        }
    }
}

fn set_words<'a>(words: &[u64], init: impl FnOnce(u32) -> capnp::primitive_list::Builder<'a, u64>) {
    if !words.is_empty() {
        let mut list = init(words.len() as u32);
        for (i, word) in words.iter().enumerate() {
            list.set(i as u32, *word);
        }
    }
}

fn write_words(
    mut out: capnp::struct_list::Builder<'_, wire::word::Owned>,
    words: impl Iterator<Item = (Addr, u64)>,
) {
    for (i, (addr, value)) in words.enumerate() {
        let mut word = out.reborrow().get(i as u32);
        word.set_addr(addr.0);
        word.set_value(value);
    }
}

pub(crate) fn write_exec(mut out: wire::exec::Builder<'_>, exec: &ExecInfo) {
    out.set_path(&*exec.path);
    out.set_space(exec.space.0);
    out.set_tid(exec.tid.0);
    let mut args = out.init_args(exec.args.len() as u32);
    for (i, arg) in exec.args.iter().enumerate() {
        args.set(i as u32, &**arg);
    }
}

fn write_output(mut out: wire::output::Builder<'_>, output: &Output) {
    out.set_stream(match output.stream {
        Stdio::Out => wire::Stdio::Out,
        Stdio::Err => wire::Stdio::Err,
    });
    match &output.source {
        OutputSource::Bytes(bytes) => out.set_bytes(bytes.len() as u64),
        OutputSource::Memory(pieces) => {
            let mut list = out.init_memory(pieces.len() as u32);
            for (i, (addr, length)) in pieces.iter().enumerate() {
                let mut piece = list.reborrow().get(i as u32);
                piece.set_addr(addr.0);
                piece.set_length(*length);
            }
        }
    }
}
