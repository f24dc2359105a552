//! Events to messages (`schema/rr.capnp`, `Events`) and back.
//!
//! The bytes that events carry (memory writes, output) are not in the message. [`blobs`] lists them in the order in
//! which they stand in the Data frames; [`decode`] returns their lengths in the same order, and [`fill`] puts them
//! back. This order is the invariant of this module: all three walk over an event in the same way.

use capnp::message::{Builder, HeapAllocator, ReaderOptions};
use rr_schema::rr_capnp as wire;
use rr_tracee::{Addr, ExtendedState, Registers, SpaceId, Tid};

use crate::convert::{read_space_op, write_space_op};
use crate::delta::{self, Bases};
use crate::error::{Error, Malformed, Result};
use crate::event::{
    CloneInfo, Disposition, Event, EventKind, EventNumber, ExecInfo, MemWrite, Output, OutputSource,
    SignalPlace, Stdio, TaskOp,
};
use crate::frame::FRAME_RAW_MAX;

/// Most events that one frame may hold.
pub const FRAME_EVENTS_MAX: u64 = 1 << 16;

/// Most bytes of data that the events of one frame may have together, unless it is a single event.
pub const BATCH_DATA_MAX: u64 = 8 << 20;

/// Most bytes of data that one event may have: twice what one system call can move (read(2)).
pub const EVENT_DATA_MAX: u64 = 1 << 32;

/// Most bytes of message that one event may need. Packing makes a message larger by an eighth at worst, so that it
/// still fits into [`FRAME_RAW_MAX`].
pub const EVENT_MESSAGE_MAX: u64 = FRAME_RAW_MAX as u64 - (1 << 20);

/// Most bytes of an unpacked message that a reader accepts, and that it may walk over.
const UNPACKED_MAX: usize = 4 * FRAME_RAW_MAX as usize;

/// Lists are grown from this many entries on, whatever length they claim to have.
const FIRST_CAPACITY: usize = 1024;

/// The byte strings of an event that stand in the Data frames, in order.
pub(crate) fn blobs(event: &Event) -> impl Iterator<Item = &[u8]> {
    let output = match &event.kind {
        EventKind::Syscall {
            output:
                Some(Output {
                    source: OutputSource::Bytes(bytes),
                    ..
                }),
            ..
        } => Some(&**bytes),
        _ => None,
    };
    event.writes.iter().map(|w| &*w.data).chain(output)
}

/// Size of an event in a message before packing, in bytes. Exact but for the registers, of which the usual changes
/// are counted: all of them take at most 432 bytes more.
pub(crate) fn message_size(event: &Event) -> u64 {
    const EVENT: usize = 200; // the event with a kind and one set of registers' usual changes
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
        EventKind::SyscallEnter { .. }
        | EventKind::Restart { .. }
        | EventKind::Trap { .. }
        | EventKind::Exit { .. } => 0,
    };
    let ops: usize = event
        .ops
        .iter()
        .map(|op| {
            if let rr_tracee::SpaceOp::Map(m) = op {
                text(m.name.len()) + 160
            } else {
                96
            }
        })
        .sum();
    (EVENT + kind + ops + 24 * event.writes.len()) as u64
}

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

/// What goes from one event of a frame to the next.
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
            } => {
                let mut out = out.init_syscall();
                out.set_entered(entry.is_some());
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

fn write_exec(mut out: wire::exec::Builder<'_>, exec: &ExecInfo) {
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

/// Limits for reading any message of a trace.
pub(crate) fn limits() -> ReaderOptions {
    let mut options = ReaderOptions::new();
    options
        .traversal_limit_in_words(Some(UNPACKED_MAX / 8))
        .nesting_limit(16);
    options
}

/// The packed message in all of `raw`.
pub(crate) fn unpack(
    mut raw: &[u8],
) -> Result<capnp::message::Reader<capnp::serialize::OwnedSegments>, Malformed> {
    let message = capnp::serialize_packed::read_message(&mut raw, limits())?;
    if !raw.is_empty() {
        return Err(Malformed::new(format!("{} bytes after the message", raw.len())));
    }
    Ok(message)
}

/// The events `first` to `last` from their message, without their data; and the lengths of these, in order.
pub(crate) fn decode(
    raw: &[u8],
    first: EventNumber,
    last: EventNumber,
) -> Result<(Vec<Event>, Vec<u64>), Malformed> {
    let message = unpack(raw)?;
    let list = message.get_root::<wire::events::Reader<'_>>()?.get_events()?;
    let count = (last.0 - first.0).saturating_add(1);
    if u64::from(list.len()) != count || count > FRAME_EVENTS_MAX {
        return Err(Malformed::new(format!(
            "{} events where {count} were announced",
            list.len()
        )));
    }
    let mut decoder = Decoder {
        bases: Bases::default(),
        time: 0,
        lengths: Vec::new(),
    };
    let mut events = Vec::with_capacity(list.len() as usize);
    for (i, event) in list.iter().enumerate() {
        let number = EventNumber(first.0 + i as u64);
        let event = decoder
            .event(event, number)
            .map_err(|e| Malformed::new(format!("event {number}: {e}")))?;
        events.push(event);
    }
    let total = decoder.lengths.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
    let limit = if count == 1 {
        EVENT_DATA_MAX
    } else {
        BATCH_DATA_MAX
    };
    if total > limit {
        return Err(Malformed::new(format!(
            "events with {total} bytes of data, at most {limit} are allowed"
        )));
    }
    Ok((events, decoder.lengths))
}

/// Puts the data back into events that [`decode`] returned.
pub(crate) fn fill(
    events: &mut [Event],
    lengths: Vec<u64>,
    mut take: impl FnMut(u64) -> Result<Vec<u8>>,
) -> Result<(), Error> {
    let mut lengths = lengths.into_iter();
    for event in events {
        for write in &mut event.writes {
            write.data = take(lengths.next().unwrap_or(0))?;
        }
        if let EventKind::Syscall {
            output:
                Some(Output {
                    source: OutputSource::Bytes(bytes),
                    ..
                }),
            ..
        } = &mut event.kind
        {
            *bytes = take(lengths.next().unwrap_or(0))?.into();
        }
    }
    Ok(())
}

/// What goes from one event of a frame to the next.
struct Decoder {
    bases: Bases,
    time: u64,
    lengths: Vec<u64>,
}

impl Decoder {
    fn event(&mut self, from: wire::event::Reader<'_>, number: EventNumber) -> Result<Event, Malformed> {
        self.time = self.time.wrapping_add(from.get_time());
        let tid = Tid(from.get_tid());

        let mut ops = Vec::new();
        if from.has_ops() {
            let list = from.get_ops()?;
            ops.reserve((list.len() as usize).min(FIRST_CAPACITY));
            for op in list {
                ops.push(read_space_op(op)?);
            }
        }
        let mut writes = Vec::new();
        if from.has_writes() {
            let list = from.get_writes()?;
            writes.reserve((list.len() as usize).min(FIRST_CAPACITY));
            for write in list {
                self.lengths.push(write.get_length());
                let (space, addr) = (SpaceId(write.get_space()), Addr(write.get_addr()));
                writes.push(MemWrite {
                    space,
                    addr,
                    data: Vec::new(),
                });
            }
        }
        let kind = self.kind(from, tid)?;
        Ok(Event {
            number,
            time_ns: self.time,
            tid,
            kind,
            ops,
            writes,
        })
    }

    fn kind(&mut self, from: wire::event::Reader<'_>, tid: Tid) -> Result<EventKind, Malformed> {
        use wire::event::Which;
        let (has_before, has_after) = match from.which()? {
            Which::Start(_) | Which::Restart(()) => (false, true),
            Which::SyscallEnter(()) => (true, false),
            Which::Syscall(call) => (call.get_entered(), true),
            Which::Trap(()) => (true, true),
            Which::Signal(signal) => (signal?.get_place()? != wire::SignalPlace::Here, true),
            Which::Exit(_) => (false, false),
        };
        let words = from.get_words()?;
        let mut words = words.iter();
        let base = self.bases.of(tid);
        let mut set = |has: bool, changed: u32| match (has, changed) {
            (true, _) => delta::decode(base, changed, &mut words),
            (false, 0) => Ok(Registers::default()),
            (false, _) => Err(Malformed::new(
                "registers that an event of its kind does not have",
            )),
        };
        let before = set(has_before, from.get_before_changed())?;
        let after = set(has_after, from.get_after_changed())?;
        if words.next().is_some() {
            return Err(Malformed::new("more changed registers than announced"));
        }
        Ok(match from.which()? {
            Which::Start(start) => {
                let start = start?;
                EventKind::Start {
                    exec: read_exec(start.get_exec()?)?,
                    after,
                    xstate: state(start.get_xstate()?),
                }
            }
            Which::SyscallEnter(()) => EventKind::SyscallEnter { entry: before },
            Which::Syscall(call) => {
                let entry = call.get_entered().then_some(before);
                let xstate = if call.has_xstate() {
                    Some(state(call.get_xstate()?))
                } else {
                    None
                };
                let task = if call.has_task() {
                    Some(self.task_op(call.get_task()?, tid)?)
                } else {
                    None
                };
                let output = if call.has_output() {
                    Some(self.output(call.get_output()?)?)
                } else {
                    None
                };
                EventKind::Syscall {
                    entry,
                    after,
                    xstate,
                    task,
                    output,
                }
            }
            Which::Restart(()) => EventKind::Restart { after },
            Which::Trap(()) => EventKind::Trap { at: before, after },
            Which::Signal(signal) => {
                let signal = signal?;
                let place = match signal.get_place()? {
                    wire::SignalPlace::Fault => SignalPlace::Fault(before),
                    wire::SignalPlace::Entry => SignalPlace::Entry(before),
                    wire::SignalPlace::Here => SignalPlace::Here,
                };
                read_signal(signal, place, after)?
            }
            Which::Exit(exit) => EventKind::Exit {
                status: exit.get_status(),
            },
        })
    }

    fn task_op(&mut self, from: wire::task_op::Reader<'_>, tid: Tid) -> Result<TaskOp, Malformed> {
        Ok(match from.which()? {
            wire::task_op::Exec(exec) => TaskOp::Exec(read_exec(exec?)?),
            wire::task_op::Clone(clone) => {
                let clone = clone?;
                let child = Tid(clone.get_child());
                let parent = *self.bases.of(tid);
                let base = self.bases.of(child);
                *base = parent;
                let words = clone.get_words()?;
                let mut words = words.iter();
                let regs = delta::decode(base, clone.get_changed(), &mut words)?;
                if words.next().is_some() {
                    return Err(Malformed::new("more changed registers than announced"));
                }
                let (tgid, space) = (Tid(clone.get_tgid()), SpaceId(clone.get_space()));
                TaskOp::Clone(CloneInfo {
                    child,
                    tgid,
                    space,
                    flags: clone.get_flags(),
                    regs,
                })
            }
        })
    }

    fn output(&mut self, from: wire::output::Reader<'_>) -> Result<Output, Malformed> {
        let stream = match from.get_stream()? {
            wire::Stdio::Out => Stdio::Out,
            wire::Stdio::Err => Stdio::Err,
        };
        let source = match from.which()? {
            wire::output::Bytes(length) => {
                self.lengths.push(length);
                OutputSource::Bytes(Vec::new().into())
            }
            wire::output::Memory(list) => OutputSource::Memory(
                list?
                    .iter()
                    .map(|p| (Addr(p.get_addr()), p.get_length()))
                    .collect(),
            ),
        };
        Ok(Output { stream, source })
    }
}

fn state(bytes: &[u8]) -> ExtendedState {
    ExtendedState(bytes.to_vec())
}

fn read_exec(from: wire::exec::Reader<'_>) -> Result<ExecInfo, Malformed> {
    let mut args = Vec::new();
    for arg in from.get_args()? {
        args.push(arg?.to_str()?.to_owned());
    }
    Ok(ExecInfo {
        path: from.get_path()?.to_str()?.to_owned(),
        args,
        space: SpaceId(from.get_space()),
        tid: Tid(from.get_tid()),
    })
}

fn read_signal(
    from: wire::signal::Reader<'_>,
    place: SignalPlace,
    after: Registers,
) -> Result<EventKind, Malformed> {
    let disposition = match from.get_disposition()? {
        wire::Disposition::Ignored => Disposition::Ignored,
        wire::Disposition::Handler => Disposition::Handler,
        wire::Disposition::Fatal => Disposition::Fatal,
        wire::Disposition::Stopped => Disposition::Stopped,
    };
    let xstate = if from.has_xstate() {
        Some(state(from.get_xstate()?))
    } else {
        None
    };
    let info = from.get_info()?.to_vec();
    Ok(EventKind::Signal {
        signo: from.get_signo(),
        info,
        place,
        disposition,
        after,
        xstate,
    })
}
