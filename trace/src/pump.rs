//! The writer's background thread: takes jobs, encodes, compresses, writes.
//!
//! A group of frames is either in the file as a whole or, after a failed write, cut off again; so what is in the
//! files is at every moment a valid trace with at most one torn group at its end (I5).

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use nix::sched::CpuSet;
use rr_schema::rr_capnp as wire;
use rr_tracee::tsc;

use crate::affinity;
use crate::dir::{HEADER, Part, TraceDir, segment_name};
use crate::error::{Error, Result};
use crate::event::{Event, EventNumber};
use crate::frame::{Effort, FRAME_RAW_MAX, FrameKind, append_frame};

use crate::message;
use crate::queue::{Job, Shared, State};
use crate::segment::{End, encode_header};

/// Payloads of Data frames before compression; as large as the brotli window.
const DATA_FRAME: usize = 4 << 20;

/// Closed segments are made durable no more often than this.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// With more segments than this to make durable, the whole file system is synced at once.
const SYNC_EACH_MAX: usize = 16;

/// How the thread works.
#[derive(Clone, Debug)]
pub(crate) struct PumpOptions {
    pub(crate) flush_after: Duration,
    pub(crate) queue_bytes: u64,
    pub(crate) quality: i32,
    pub(crate) cpus: Option<CpuSet>,
}

/// The thread's own state.
pub(crate) struct Pump {
    shared: Arc<Shared>,
    options: PumpOptions,
    dir: TraceDir,
    uuid: [u8; 16],
    segment: Option<Segment>,
    /// The next events begin a new segment.
    cut: bool,
    /// The header is durable.
    begun: bool,
    /// Segments that may not be durable yet, the open one excepted.
    unsynced: Vec<EventNumber>,
    last_sync: Instant,
    last: EventNumber,
    /// A frame under construction.
    buffer: Vec<u8>,
}

/// The segment file that is being written.
struct Segment {
    first: EventNumber,
    file: File,
    path: PathBuf,
    /// Bytes in it that are whole groups.
    len: u64,
}

/// Reports the end of the thread, however it came.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if std::thread::panicking() && state.failure.is_none() {
            state.failure = Some(Error::WriterDied {
                path: self.0.path.clone(),
            });
        }
        state.done = true;
        drop(state);
        self.0.progress.notify_all();
    }
}

impl Pump {
    pub(crate) fn new(shared: Arc<Shared>, options: PumpOptions, dir: TraceDir, uuid: [u8; 16]) -> Pump {
        Pump {
            shared,
            options,
            dir,
            uuid,
            segment: None,
            cut: false,
            begun: false,
            unsynced: Vec::new(),
            last_sync: Instant::now(),
            last: EventNumber(0),
            buffer: Vec::new(),
        }
    }

    /// Works until there is nothing more to come, or a failure.
    pub(crate) fn run(mut self) {
        let _guard = Guard(self.shared.clone());
        affinity::apply(self.options.cpus.as_ref());
        while let Some((job, backlog)) = self.next_job() {
            let result = self.perform(job, backlog);
            let mut state = self.shared.lock();
            match result {
                Ok(Done {
                    written,
                    weight,
                    ticket,
                    group,
                }) => {
                    state.backlog -= weight;
                    state.written = written;
                    state.flushed = ticket.unwrap_or(state.flushed);
                    if let Some(group) = group {
                        state.recycle(group);
                    }
                }
                Err(e) => {
                    tracing::error!("{e}");
                    let dropped = std::mem::take(&mut state.jobs);
                    state.failure = Some(e);
                    drop(state);
                    drop(dropped);
                    return;
                }
            }
            drop(state);
            self.shared.progress.notify_all();
        }
    }

    /// Waits for a job; closes a group that has been open for too long. Also says how much is waiting.
    fn next_job(&self) -> Option<(Job, u64)> {
        let mut state = self.shared.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                let State { backlog, .. } = *state;
                return Some((job, backlog));
            }
            if state.closed {
                return None;
            }
            // The recorder does not wake us when it opens a group: that costs more than looking now and then.
            let age = state.opened_at().map_or(Duration::ZERO, |t| tsc::now() - t);
            match self.options.flush_after.checked_sub(age) {
                None | Some(Duration::ZERO) => {
                    state.seal();
                }
                Some(left) => {
                    let waited = self.shared.work.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn perform(&mut self, job: Job, backlog: u64) -> Result<Done> {
        let mut done = Done {
            written: self.last,
            weight: 0,
            ticket: None,
            group: None,
        };
        match job {
            Job::Events(mut group, weight) => {
                self.write_events(&group, self.effort(backlog))?;
                group.clear();
                done = Done {
                    written: self.last,
                    weight,
                    group: Some(group),
                    ..done
                };
            }
            Job::NewSegment => self.cut = true,
            Job::Flush { ticket, sync } => {
                if sync {
                    self.sync()?;
                }
                done.ticket = Some(ticket);
            }
            Job::End(end) => {
                self.write_end(end)?;
                self.sync()?;
            }
        }
        Ok(done)
    }

    /// How hard to compress with so many bytes waiting: less when we fall behind, so that the recorder need not wait.
    fn effort(&self, backlog: u64) -> Effort {
        if backlog < self.options.queue_bytes / 16 {
            Effort::Brotli(self.options.quality)
        } else if backlog < self.options.queue_bytes / 4 {
            Effort::Brotli(1)
        } else {
            Effort::None
        }
    }

    fn write_events(&mut self, events: &[Event], effort: Effort) -> Result<()> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            return Ok(());
        };
        let span = (first.number, last.number);
        let message = message::encode(events).map_err(|e| Error::Invalid {
            event: span.0,
            why: e.to_string(),
        })?;
        self.open_segment(span.0)?;
        let result = self
            .write_data(events, span, effort)
            .and_then(|()| self.write_frame(FrameKind::Events, span, &message, effort));
        self.commit(result)?;
        self.last = span.1;
        Ok(())
    }

    /// Writes the data of a group, cut into frames.
    fn write_data(
        &mut self,
        events: &[Event],
        span: (EventNumber, EventNumber),
        effort: Effort,
    ) -> Result<()> {
        let mut chunk: Vec<u8> = Vec::new();
        for mut bytes in events.iter().flat_map(message::blobs) {
            while !bytes.is_empty() {
                let (now, later) = bytes.split_at(bytes.len().min(DATA_FRAME - chunk.len()));
                bytes = later;
                if now.len() == DATA_FRAME {
                    self.write_frame(FrameKind::Data, span, now, effort)?;
                    continue;
                }
                chunk.extend_from_slice(now);
                if chunk.len() == DATA_FRAME {
                    self.write_frame(FrameKind::Data, span, &chunk, effort)?;
                    chunk.clear();
                }
            }
        }
        if chunk.is_empty() {
            Ok(())
        } else {
            self.write_frame(FrameKind::Data, span, &chunk, effort)
        }
    }

    fn write_end(&mut self, end: End) -> Result<()> {
        let invalid = |e: capnp::Error| Error::Invalid {
            event: self.last,
            why: e.to_string(),
        };
        let mut builder = capnp::message::Builder::new_default();
        let mut root = builder.init_root::<wire::end::Builder<'_>>();
        root.set_status(end.status);
        root.set_buffered_calls(end.buffered_calls);
        let mut message = Vec::new();
        capnp::serialize_packed::write_message(&mut message, &builder).map_err(invalid)?;
        if self.segment.is_none() {
            self.open_segment(self.last.next())?;
        }
        let result = self.write_frame(FrameKind::End, (self.last, self.last), &message, Effort::None);
        self.commit(result)
    }

    /// Appends one frame to the open segment.
    fn write_frame(
        &mut self,
        kind: FrameKind,
        span: (EventNumber, EventNumber),
        raw: &[u8],
        effort: Effort,
    ) -> Result<()> {
        let Some(segment) = &mut self.segment else {
            return Ok(());
        };
        if raw.len() > FRAME_RAW_MAX as usize {
            let (bytes, limit) = (raw.len() as u64, FRAME_RAW_MAX.into());
            return Err(Error::TooLarge {
                event: span.0,
                what: "description",
                bytes,
                limit,
            });
        }
        self.buffer.clear();
        append_frame(&mut self.buffer, kind, span, raw, effort);
        segment
            .file
            .write_all(&self.buffer)
            .map_err(|e| Error::io(&segment.path, "writing", e))
    }

    /// After the last frame of a group: counts it, or cuts it off if something failed.
    fn commit(&mut self, result: Result<()>) -> Result<()> {
        let Some(segment) = &mut self.segment else {
            return result;
        };
        match result {
            Ok(()) => {
                let end = std::io::Seek::stream_position(&mut segment.file);
                segment.len = end.map_err(|e| Error::io(&segment.path, "examining", e))?;
                Ok(())
            }
            Err(e) => {
                // A reader finds the cut without this; a failure here changes nothing.
                let _ = segment.file.set_len(segment.len);
                Err(e)
            }
        }
    }

    /// Makes sure that a segment is open for events from `first` on.
    fn open_segment(&mut self, first: EventNumber) -> Result<()> {
        if !std::mem::take(&mut self.cut) && self.segment.is_some() {
            return Ok(());
        }
        if let Some(old) = self.segment.take() {
            self.unsynced.push(old.first);
            if self.last_sync.elapsed() >= SYNC_EVERY {
                self.sync()?;
            }
        }
        let name = segment_name(first);
        let path = self.dir.path_of(Some(Part::Segments), &name);
        let mut file = self.dir.create_file(Some(Part::Segments), &name)?;
        let header = encode_header(&self.uuid, first);
        file.write_all(&header)
            .map_err(|e| Error::io(&path, "writing", e))?;
        self.segment = Some(Segment {
            first,
            file,
            path,
            len: header.len() as u64,
        });
        Ok(())
    }

    /// Makes everything written durable.
    fn sync(&mut self) -> Result<()> {
        if !self.begun {
            let synced = self.dir.open_file(None, HEADER)?.sync_all();
            synced.map_err(|e| Error::io(&self.dir.path().join(HEADER), "syncing", e))?;
            self.begun = true;
        }
        if self.unsynced.len() > SYNC_EACH_MAX {
            nix::unistd::syncfs(self.dir.fd()).map_err(|e| Error::io(self.dir.path(), "syncing", e))?;
        } else {
            for first in &self.unsynced {
                let name = segment_name(*first);
                let file = self.dir.open_file(Some(Part::Segments), &name)?;
                let path = self.dir.path_of(Some(Part::Segments), &name);
                file.sync_data().map_err(|e| Error::io(&path, "syncing", e))?;
            }
        }
        self.unsynced.clear();
        if let Some(segment) = &self.segment {
            segment
                .file
                .sync_data()
                .map_err(|e| Error::io(&segment.path, "syncing", e))?;
        }
        self.dir.sync()?;
        self.last_sync = Instant::now();
        Ok(())
    }
}

/// What a job changed.
struct Done {
    written: EventNumber,
    weight: u64,
    ticket: Option<u64>,
    group: Option<Vec<Event>>,
}
