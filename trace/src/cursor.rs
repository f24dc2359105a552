//! Events in order, read ahead on a thread of their own.
//!
//! Decompressing and decoding the next group of events goes on while the caller replays the current one. The thread
//! holds at most two groups ahead, and ends when the cursor is dropped.

use std::path::Path;

use crossbeam_channel::{Receiver, Sender, bounded};
use rr_tracee::cpus::bind_thread;

use crate::error::{Error, Result};
use crate::event::{Event, EventNumber};
use crate::member::Member;
use crate::members::Members;
use crate::name::Name;
use crate::segment::{Batch, Scan, Stream};

/// The input of a cursor: a snapshot of the trace when it was opened.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) members: Members,
    pub(crate) uuid: [u8; 16],
    /// First events of the segments, ascending; the first of them holds `from`.
    pub(crate) segments: Vec<EventNumber>,
    /// The part of the last segment that counts.
    pub(crate) tail: Scan,
    pub(crate) from: EventNumber,
    pub(crate) cpus: Option<nix::sched::CpuSet>,
}

/// Groups of events in order, read ahead.
#[derive(Debug)]
pub(crate) struct Ahead<T> {
    groups: Receiver<Result<T>>,
}

impl<T: Send + 'static> Ahead<T> {
    /// Begins with the group that holds the first event of `plan`. Each group is made what the caller wants by the thread.
    pub(crate) fn start(plan: Plan, make: impl Fn(Vec<Event>) -> T + Send + 'static) -> Result<Ahead<T>> {
        let (sender, groups) = bounded(1);
        let path = plan.members.path().to_owned();
        std::thread::Builder::new()
            .name("rr-trace-read".into())
            .spawn(move || {
                if let Some(cpus) = &plan.cpus {
                    bind_thread(cpus);
                }
                if let Err(e) = run(&plan, &make, &sender) {
                    // Nobody listens any more: then nobody wants to know.
                    let _ = sender.send(Err(e));
                }
            })
            .map_err(|e| Error::io(&path, "starting a thread to read", e))?;
        Ok(Ahead { groups })
    }

    /// The next group; `None` after the last, and after an error.
    pub(crate) fn next(&mut self) -> Option<Result<T>> {
        self.groups.recv().ok()
    }
}

/// Events in order: an iterator that ends after the last event, or after an error.
#[derive(Debug)]
pub struct EventCursor {
    current: std::vec::IntoIter<Event>,
    ahead: Option<Ahead<Vec<Event>>>,
}

impl EventCursor {
    pub(crate) fn start(plan: Plan) -> Result<EventCursor> {
        let from = plan.from;
        let make = move |mut events: Vec<Event>| {
            let before = events.partition_point(|event| event.number < from);
            events.drain(..before);
            events
        };
        Ok(EventCursor {
            current: Vec::new().into_iter(),
            ahead: Some(Ahead::start(plan, make)?),
        })
    }
}

impl Iterator for EventCursor {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        loop {
            if let Some(event) = self.current.next() {
                return Some(Ok(event));
            }
            match self.ahead.as_mut()?.next() {
                Some(Ok(group)) => self.current = group.into_iter(),
                Some(Err(e)) => {
                    self.ahead = None;
                    return Some(Err(e));
                }
                None => self.ahead = None,
            }
        }
    }
}

/// Opens the `n`-th segment of a plan.
pub(crate) fn open_segment(plan: &Plan, n: usize) -> Result<Option<Stream<Member>>> {
    let Some(first) = plan.segments.get(n) else {
        return Ok(None);
    };
    let segment = plan.members.open(Name::Segment(*first))?;
    let path = segment.path().to_owned();
    let mut stream = Stream::open(segment, &path, Some(&plan.uuid), Some(*first))?;
    if n + 1 == plan.segments.len() {
        stream.limit(plan.tail.end);
    }
    Ok(Some(stream))
}

/// Sends all groups of events; stops early when nobody receives them.
fn run<T>(plan: &Plan, make: &impl Fn(Vec<Event>) -> T, sender: &Sender<Result<T>>) -> Result<()> {
    let mut n = 0;
    while let Some(mut stream) = open_segment(plan, n)? {
        let following = plan.segments.get(n + 1);
        while let Some(batch) = stream.next_batch(plan.from)? {
            match batch {
                Batch::Events(events) => {
                    if sender.send(Ok(make(events))).is_err() {
                        return Ok(());
                    }
                }
                Batch::End(_) => check_follower(stream.place(), stream.next_event(), following, true)?,
            }
        }
        check_follower(stream.place(), stream.next_event(), following, false)?;
        n += 1;
    }
    Ok(())
}

/// Checks that the next segment continues this one.
fn check_follower(
    (path, end): (&Path, u64),
    next: EventNumber,
    following: Option<&EventNumber>,
    ended: bool,
) -> Result<()> {
    match following {
        Some(following) if ended || *following != next => {
            let why = format!(
                "the segment ends before event {next}, but the next one begins with event {following}"
            );
            Err(Error::damaged(path, end, why))
        }
        _ => Ok(()),
    }
}
