//! The buffered calls of an event's interval.

use std::borrow::Cow;

use rr_trace::event::{Digest, Event};
use rr_tracee::syscalls;

/// A call that went through the buffer.
pub struct Call {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its result.
    pub result: i64,
    /// Length of its record in bytes.
    pub size: usize,
    /// Digest of what it has handed to the outside world.
    pub payload: Option<Digest>,
}

/// The buffered calls of the event, in order.
pub fn calls(event: &Event) -> Vec<Call> {
    let mut calls = Vec::new();
    event.buffered.each_record(|record| {
        calls.push(Call {
            name: syscalls::buffered_name(record.number),
            result: record.result,
            size: record.end,
            payload: record.payload(),
        });
    });
    calls
}
