//! The event log: numbers and order of events, and writing them to the trace.
//!
//! | file | concept |
//! |---|---|
//! | `event_log` | the trace, and the last event |
//! | `events` | recording an event |
//! | `pending` | entries into calls that are held back |
//! | `crash` | the signals that killed processes |

pub(crate) mod crash;
pub(crate) mod event_log;
pub(crate) mod events;
pub(crate) mod pending;
