//! `Events`: the events of the trace, and which of them have been replayed.

use std::sync::Arc;

use rr_trace::event::EventNumber;
use rr_trace::{EventPosition, TraceReader};

/// The events of a session.
#[derive(Debug)]
pub(crate) struct Events {
    pub reader: Arc<TraceReader>,
    /// Where the event stands that is fetched next.
    pub cursor: EventPosition,
    /// The last event that has been replayed.
    pub last: EventNumber,
    /// The time at which it was recorded.
    pub time_ns: u64,
}

impl Events {
    /// Nothing has been replayed yet.
    pub fn new(reader: Arc<TraceReader>, cursor: EventPosition) -> Events {
        Events {
            reader,
            cursor,
            last: EventNumber(0),
            time_ns: 0,
        }
    }
}
