//! A message to events.

use capnp::message::ReaderOptions;
use rr_preload::payload::Digest;
use rr_schema::rr_capnp as wire;
use rr_tracee::digest::ChunkDigest;
use rr_tracee::{Addr, ExtendedState, ObjectId, Registers, SpaceId, Tid};

use super::limits::{BATCH_DATA_MAX, EVENT_DATA_MAX, FRAME_EVENTS_MAX};
use crate::convert::read_space_op;
use crate::delta::{self, Bases};
use crate::error::Malformed;
use crate::event::{
    CloneInfo, Disposition, Event, EventKind, EventNumber, ExecInfo, MemWrite, ObjectWrite, Output,
    OutputSource, Point, SignalPlace, Stdio, TaskOp,
};
use crate::frame::FRAME_RAW_MAX;

/// Lists are grown from this many entries on, whatever length they claim to have.
const FIRST_CAPACITY: usize = 1024;

/// Most bytes of an unpacked message that a reader accepts, and that it may walk over.
const UNPACKED_MAX: usize = 4 * FRAME_RAW_MAX as usize;

/// Limits for reading any message of a trace.
fn limits() -> ReaderOptions {
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

/// The state that goes from one event of a frame to the next.
struct Decoder {
    bases: Bases,
    time: u64,
    lengths: Vec<u64>,
}

impl Decoder {
    fn event(&mut self, from: wire::event::Reader<'_>, number: EventNumber) -> Result<Event, Malformed> {
        self.time = self.time.wrapping_add(from.get_time());
        let tid = Tid(from.get_tid());

        self.lengths.push(from.get_buffered());
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
        let mut others = Vec::new();
        if from.has_others() {
            for other in from.get_others()? {
                others.push((SpaceId(other.get_space()), read_space_op(other.get_op()?)?));
            }
        }
        let mut object_writes = Vec::new();
        if from.has_object_writes() {
            for write in from.get_object_writes()? {
                self.lengths.push(write.get_length());
                object_writes.push(ObjectWrite {
                    object: ObjectId(write.get_object()),
                    offset: write.get_offset(),
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
            buffered: Default::default(),
            ops,
            others,
            writes,
            object_writes,
        })
    }

    fn kind(&mut self, from: wire::event::Reader<'_>, tid: Tid) -> Result<EventKind, Malformed> {
        use wire::event::Which;
        let (has_before, has_after) = match from.which()? {
            Which::Start(_) | Which::Restart(()) | Which::SetRegisters(_) => (false, true),
            Which::SyscallEnter(()) | Which::Point(_) => (true, false),
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
                    payload: Digest::of_value(call.get_payload()),
                }
            }
            Which::Restart(()) => EventKind::Restart { after },
            Which::SetRegisters(set) => EventKind::SetRegisters {
                after,
                xstate: if set.has_xstate() {
                    Some(state(set.get_xstate()?))
                } else {
                    None
                },
            },
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
            Which::Point(point) => {
                let point = point?;
                let words = |list: capnp::struct_list::Reader<'_, wire::word::Owned>| -> Vec<(Addr, u64)> {
                    list.iter().map(|w| (Addr(w.get_addr()), w.get_value())).collect()
                };
                let digests = words(point.get_digests()?).into_iter();
                EventKind::Point {
                    at: before,
                    point: Box::new(Point {
                        xstate: state(point.get_xstate()?),
                        discriminators: words(point.get_discriminators()?),
                        digests: digests
                            .map(|(start, digest)| ChunkDigest { start, digest })
                            .collect(),
                        ran_us: point.get_ran(),
                    }),
                }
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

pub(crate) fn read_exec(from: wire::exec::Reader<'_>) -> Result<ExecInfo, Malformed> {
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
