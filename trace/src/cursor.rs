//! Events in order, read ahead on a thread of their own.
//!
//! Decompressing and decoding the next group of events goes on while the caller replays the current one. The thread
//! holds at most two groups ahead, and ends when the cursor is dropped.

use std::path::Path;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::affinity;
use crate::dir::{Part, TraceDir, segment_name};
use crate::error::{Error, Result};
use crate::event::{Event, EventNumber};
use crate::segment::{Batch, Scan, Stream};

/// What a cursor reads: a snapshot of what the trace held when it was opened.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) dir: TraceDir,
    pub(crate) uuid: [u8; 16],
    /// First events of the segments, ascending; the first of them holds `from`.
    pub(crate) segments: Vec<EventNumber>,
    /// What counts in the last one.
    pub(crate) tail: Scan,
    pub(crate) from: EventNumber,
    pub(crate) cpus: Option<nix::sched::CpuSet>,
}

/// Events in order: an iterator that ends after the last event, or after an error.
#[derive(Debug)]
pub struct EventCursor {
    current: std::vec::IntoIter<Event>,
    batches: Option<Receiver<Result<Vec<Event>>>>,
}

impl EventCursor {
    pub(crate) fn start(plan: Plan) -> Result<EventCursor> {
        let (sender, batches) = bounded(1);
        let path = plan.dir.path().to_owned();
        std::thread::Builder::new()
            .name("rr-trace-read".into())
            .spawn(move || {
                affinity::apply(plan.cpus.as_ref());
                if let Err(e) = run(&plan, &sender) {
                    // Nobody listens any more: then nobody wants to know.
                    let _ = sender.send(Err(e));
                }
            })
            .map_err(|e| Error::io(&path, "starting a thread to read", e))?;
        Ok(EventCursor {
            current: Vec::new().into_iter(),
            batches: Some(batches),
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
            match self.batches.as_ref()?.recv() {
                Ok(Ok(batch)) => self.current = batch.into_iter(),
                Ok(Err(e)) => {
                    self.batches = None;
                    return Some(Err(e));
                }
                Err(_) => self.batches = None,
            }
        }
    }
}

/// Sends all groups of events; stops early when nobody receives them.
fn run(plan: &Plan, sender: &Sender<Result<Vec<Event>>>) -> Result<()> {
    let part = Some(Part::Segments);
    for (i, first) in plan.segments.iter().enumerate() {
        let name = segment_name(*first);
        let path = plan.dir.path_of(part, &name);
        let mut stream = Stream::open(
            plan.dir.open_file(part, &name)?,
            &path,
            Some(&plan.uuid),
            Some(*first),
        )?;
        let following = plan.segments.get(i + 1);
        if following.is_none() {
            stream.limit(plan.tail.end);
        }
        while let Some(batch) = stream.next_batch(plan.from)? {
            match batch {
                Batch::Events(events) => {
                    if sender.send(Ok(events)).is_err() {
                        return Ok(());
                    }
                }
                Batch::End(_) => check_follower(&path, stream.next_event(), following, true)?,
            }
        }
        check_follower(&path, stream.next_event(), following, false)?;
    }
    Ok(())
}

/// Whether the next segment is the one that continues this one.
fn check_follower(
    path: &Path,
    next: EventNumber,
    following: Option<&EventNumber>,
    ended: bool,
) -> Result<()> {
    match following {
        Some(following) if ended || *following != next => {
            let why = format!(
                "the segment ends before event {next}, but the next one begins with event {following}"
            );
            let size = std::fs::metadata(path).map_or(0, |m| m.len());
            Err(Error::damaged(path, size, why))
        }
        _ => Ok(()),
    }
}
