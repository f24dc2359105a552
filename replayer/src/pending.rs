//! The event under way: what of it has been replayed, so that a replay can stop anywhere and go on.
//!
//! ```text
//! Fetched ── its buffered calls are given to the task ──► Running ── the task arrives ──► Arrived ── applied ──► (none)
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use rr_trace::event::Event;

use crate::buffer::Change;
use crate::point::Search;

/// How far the event under way has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// It is known; its task is where the event before left it.
    Fetched,
    /// Its task has been given what its buffered calls return, and may have executed some of the interval.
    Running,
    /// Its task stands where the event happened; registers have been compared.
    Arrived,
}

/// A half-replayed event.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// The event.
    pub event: Arc<Event>,
    /// How far it has come.
    pub stage: Stage,
    /// What the interval's buffered calls are still to change in the address space, in order.
    pub changes: VecDeque<Change>,
    /// The search for its execution point, if it is one.
    pub search: Search,
}

impl Pending {
    /// An event that nothing has been done for.
    pub fn new(event: Arc<Event>) -> Pending {
        Pending {
            event,
            stage: Stage::Fetched,
            changes: VecDeque::new(),
            search: Search::default(),
        }
    }
}
