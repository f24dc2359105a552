//! Events to messages (`schema/rr.capnp`, `Events`) and back.
//!
//! The bytes that events carry (memory writes, output) are not in the message. [`blobs`] lists them in the order in
//! which they stand in the Data frames; [`decode()`] returns their lengths in the same order, and [`fill`] puts them
//! back. This order is the invariant of this module: all three walk over an event in the same way.

mod decode;
mod encode;
mod limits;
mod size;

use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::event::{Event, EventKind, Output, OutputSource};

pub(crate) use decode::{decode, read_exec, unpack};
pub(crate) use encode::{encode, write_exec};
pub(crate) use limits::{BATCH_DATA_MAX, EVENT_DATA_MAX, EVENT_MESSAGE_MAX};
pub(crate) use size::message_size;

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
