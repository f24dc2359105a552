//! Events to messages (`schema/rr.capnp`, `Events`) and back.
//!
//! The bytes that events carry (memory writes, output) are not in the message. [`blobs`] lists them in the order in
//! which they stand in the Data frames; [`decode()`] returns their lengths in the same order, and [`fill`] puts them
//! back. This order is the invariant of this module: all three walk over an event in the same way.

mod decode;
mod encode;

use capnp::message::ReaderOptions;
use rr_tracee::Registers;

use crate::bytes::Bytes;
use crate::error::{Error, Malformed, Result};
use crate::event::{Event, EventKind, ExecInfo, Output, OutputSource, TaskOp};
use crate::frame::FRAME_RAW_MAX;

pub(crate) use decode::decode;
pub(crate) use encode::encode;

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

/// The byte strings of an event that stand in the Data frames, in order.
pub(crate) fn blobs(event: &Event) -> impl Iterator<Item = &[u8]> {
    event.buffered.parts().chain(effects(event))
}

/// The same without the results of buffered calls.
pub(crate) fn effects(event: &Event) -> impl Iterator<Item = &[u8]> {
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
    let writes = event.writes.iter().map(|w| &*w.data);
    let object_writes = event.object_writes.iter().map(|w| &*w.data);
    writes.chain(object_writes).chain(output)
}

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
            text(point.xstate.0.len()) + 16 * (point.words.len() + point.sums.len()) + 64
        }
        EventKind::SyscallEnter { .. }
        | EventKind::Restart { .. }
        | EventKind::Trap { .. }
        | EventKind::Exit { .. } => 0,
    };
    let op_size = |op: &rr_tracee::SpaceOp| match op {
        rr_tracee::SpaceOp::Map(m) => text(m.name.len()) + 160,
        _ => 96,
    };
    let ops: usize = event.ops.iter().map(op_size).sum();
    let others: usize = event.others.iter().map(|(_, op)| op_size(op) + 16).sum();
    let writes = 24 * (event.writes.len() + event.object_writes.len());
    (EVENT + kind + ops + others + writes) as u64
}

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

/// The source of the data of a group, in order.
pub(crate) trait Data {
    /// The next `len` bytes.
    fn take(&mut self, len: u64) -> Result<Vec<u8>>;

    /// The same, shared with others if possible.
    fn share(&mut self, len: u64) -> Result<Bytes> {
        self.take(len).map(Bytes::from)
    }
}

/// Puts the data back into events that [`decode()`] returned.
pub(crate) fn fill(events: &mut [Event], lengths: Vec<u64>, data: &mut impl Data) -> Result<(), Error> {
    let mut lengths = lengths.into_iter();
    for event in events {
        event.buffered = data.share(lengths.next().unwrap_or(0))?;
        for write in &mut event.writes {
            write.data = data.take(lengths.next().unwrap_or(0))?;
        }
        for write in &mut event.object_writes {
            write.data = data.take(lengths.next().unwrap_or(0))?;
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
            *bytes = data.take(lengths.next().unwrap_or(0))?.into();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventNumber;
    use crate::test_events;
    use proptest::prelude::*;

    struct Rest<'a>(&'a [u8]);

    impl Data for Rest<'_> {
        fn take(&mut self, len: u64) -> Result<Vec<u8>> {
            let (now, later) = self.0.split_at(len as usize);
            self.0 = later;
            Ok(now.to_vec())
        }
    }

    proptest! {
        #[test]
        fn the_size_is_right(event in test_events::event()) {
            let event = test_events::numbered(vec![event], 1).remove(0);
            let raw = encode(std::slice::from_ref(&event)).unwrap();
            let size = 8 * unpack(&raw).unwrap().size_in_words() as u64;
            prop_assert!(size <= message_size(&event) + 432, "{size} bytes, {}", message_size(&event));
            prop_assert!(size + 500 >= message_size(&event), "{size} bytes, {}", message_size(&event));
        }

        #[test]
        fn a_frame_needs_no_other(events in proptest::collection::vec(test_events::event(), 1..6), first in 1..1u64 << 50) {
            let events = test_events::numbered(events, first);
            let last = EventNumber(first + events.len() as u64 - 1);
            let (mut got, lengths) = decode(&encode(&events).unwrap(), EventNumber(first), last).unwrap();
            let all: Vec<u8> = events.iter().flat_map(blobs).flatten().copied().collect();
            let mut rest = Rest(&all);
            fill(&mut got, lengths, &mut rest).unwrap();
            prop_assert!(rest.0.is_empty());
            prop_assert_eq!(&got, &events);
        }
    }
}
