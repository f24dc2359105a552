//! The state that the recorder's thread and the writer's thread share.
//!
//! The recorder's thread only ever pushes into [`State`] under a lock that is held for some tens of nanoseconds;
//! encoding, compressing and writing happen on the other side (`writer_thread`). Invariants: jobs are done in order; `backlog`
//! counts everything accepted and not yet written, and exceeds the limit only by a single event; after a
//! failure nothing is written any more, and everybody is told.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, AtomicU64};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rr_tracee::tsc;

use crate::bytes::Lend;
use crate::compression_level::{Load, Recent};
use crate::error::{Error, Result};
use crate::event::{Event, EventNumber};
use crate::message::BATCH_DATA_MAX;
use crate::process_table::Recorded;

/// A group is closed when its messages take this many bytes before packing …
const GROUP_MESSAGE: u64 = 256 << 10;
/// … or its data this many …
const GROUP_DATA: u64 = 4 << 20;
/// … or when it has this many events.
const GROUP_EVENTS: usize = 8192;
/// An event that would make the messages of a group larger than this begins a new one.
const GROUP_MESSAGE_MAX: u64 = 1 << 20;

/// Something for the background thread to do.
pub(crate) enum Job {
    /// Write these events, which weigh this much.
    Events(Group, u64),
    /// The next events begin a new segment.
    NewSegment,
    /// Say when this place in the queue is reached; first make everything durable if `sync`.
    Flush { ticket: u64, sync: bool },
    /// Write the End frame, with the status of the program's first process, whether no instruction could tell the program on which
    /// CPU it ran, and all processes if their table is not too large.
    End {
        status: i32,
        hides_cpu: bool,
        processes: Option<Recorded>,
    },
}

/// Events that are written together.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) events: Vec<Event>,
    /// Records of buffered calls that are still elsewhere, and which event they belong to.
    pub(crate) lent: Vec<(usize, Box<dyn Lend>)>,
}

impl Group {
    /// Copies what was lent.
    pub(crate) fn take_over(&mut self) {
        for (n, lent) in self.lent.drain(..) {
            if let Some(event) = self.events.get_mut(n) {
                event.buffered.take_over(&*lent);
            }
        }
    }
}

/// Size of an event in the various respects.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Bytes in the message.
    pub(crate) message: u64,
    /// Bytes of data.
    pub(crate) data: u64,
}

impl Size {
    /// Bytes of memory, about.
    pub(crate) fn weight(self) -> u64 {
        self.message + self.data + size_of::<Event>() as u64
    }
}

/// The state under the lock.
#[derive(Default)]
pub(crate) struct State {
    /// The group that events are added to.
    open: Group,
    open_size: OpenSize,
    opened_at: Option<Duration>,
    /// The jobs that wait.
    pub(crate) jobs: VecDeque<Job>,
    /// Weight of all events accepted and not yet written.
    pub(crate) backlog: u64,
    /// Weight of what was accepted lately.
    recent: Recent,
    /// The last event written.
    pub(crate) written: EventNumber,
    /// Calls of the library in the events written.
    pub(crate) buffered_calls: u64,
    /// The last flush that was reached.
    pub(crate) flushed: u64,
    /// The reason why nothing is written any more.
    pub(crate) failure: Option<Error>,
    /// No jobs will come.
    pub(crate) closed: bool,
    /// The background thread is gone.
    pub(crate) done: bool,
    /// Emptied groups, to be filled again.
    spare: Vec<Group>,
}

#[derive(Default)]
struct OpenSize {
    message: u64,
    data: u64,
    weight: u64,
}

impl State {
    /// Adds an event to the open group; whether there is a new job now.
    pub(crate) fn push(&mut self, event: Event, lent: Option<Box<dyn Lend>>, size: Size) -> bool {
        // An event that is too large for a group must be alone in one.
        let too_large = self.open_size.data + size.data > BATCH_DATA_MAX
            || self.open_size.message + size.message > GROUP_MESSAGE_MAX;
        let sealed = too_large && self.seal();
        if self.open.events.is_empty() {
            self.opened_at = Some(tsc::now());
        }
        if let Some(lent) = lent {
            self.open.lent.push((self.open.events.len(), lent));
        }
        self.open.events.push(event);
        self.open_size.message += size.message;
        self.open_size.data += size.data;
        self.open_size.weight += size.weight();
        self.backlog += size.weight();
        let full = self.open_size.message >= GROUP_MESSAGE
            || self.open_size.data >= GROUP_DATA
            || self.open.events.len() >= GROUP_EVENTS;
        if full { self.seal() } else { sealed }
    }

    /// Closes the open group, if it has events; whether there is a new job now.
    pub(crate) fn seal(&mut self) -> bool {
        if self.open.events.is_empty() {
            return false;
        }
        let fresh = self.spare.pop().unwrap_or_default();
        let group = std::mem::replace(&mut self.open, fresh);
        let size = std::mem::take(&mut self.open_size);
        self.recent.add(size.weight, tsc::now());
        self.opened_at = None;
        self.jobs.push_back(Job::Events(group, size.weight));
        true
    }

    /// The work that waits, for the choice of how hard to compress.
    pub(crate) fn load(&self) -> Load {
        Load {
            pressure: self.backlog.max(self.recent.bytes(tsc::now())),
            ending: self.closed,
        }
    }

    /// When the open group was opened ([`tsc::now`]).
    pub(crate) fn opened_at(&self) -> Option<Duration> {
        self.opened_at
    }

    /// Gives back a group that was written.
    pub(crate) fn recycle(&mut self, group: Group) {
        if self.spare.len() < 4 && group.events.capacity() <= GROUP_EVENTS {
            self.spare.push(group);
        }
    }

    /// The failure, if there was one.
    pub(crate) fn check(&self) -> Result<()> {
        self.failure.clone().map_or(Ok(()), Err)
    }
}

/// The part that both threads hold.
pub(crate) struct Shared {
    /// The trace, for messages.
    pub(crate) path: PathBuf,
    state: Mutex<State>,
    /// Bytes of the segments.
    pub(crate) stored: AtomicU64,
    /// The background thread; 0 as long as it has not begun.
    pub(crate) thread: AtomicI32,
    /// Signalled when there are jobs.
    pub(crate) work: Condvar,
    /// Signalled when jobs were done, or failed.
    pub(crate) progress: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(path: PathBuf) -> Shared {
        Shared {
            path,
            state: Mutex::default(),
            stored: AtomicU64::new(0),
            thread: AtomicI32::new(0),
            work: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    /// The state. A panic while it was locked is reported as a failure by the thread's guard, not here.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for progress.
    pub(crate) fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.progress.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}
