//! The events: their numbers and order, and writing them to the trace.

pub(crate) mod events;
pub(crate) mod pending;
