//! The pending event: how much of it has been replayed, so that a replay can stop anywhere and
//! continue.
//!
//! ```text
//! Fetched ── its buffered calls are given to the task ──► Running ── the task arrives ──► Arrived ── applied ──► (none)
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use rr_trace::event::Event;

use crate::buffer::Change;
use crate::point::PointSearch;

/// Progress of the pending event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The event is known. Its task is where the event before left it.
    Fetched,
    /// The task has been given the results of its buffered calls, and may have executed a part of the
    /// interval.
    Running,
    /// The task stands where the event happened. Registers have been compared.
    Arrived,
}

/// A half-replayed event.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// The event.
    pub event: Arc<Event>,
    /// Progress of the event.
    pub stage: Stage,
    /// The remaining changes of the address space by the interval's buffered calls, in order.
    pub changes: VecDeque<Change>,
    /// The search for its execution point, if it is one.
    pub search: PointSearch,
}

impl Pending {
    /// An event before any work on it.
    pub fn new(event: Arc<Event>) -> Pending {
        Pending {
            event,
            stage: Stage::Fetched,
            changes: VecDeque::new(),
            search: PointSearch::default(),
        }
    }
}
