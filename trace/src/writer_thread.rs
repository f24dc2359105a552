//! The writer's background thread: takes jobs, encodes, compresses, writes.
//!
//! A group of frames is either in the file as a whole or, after a failed write, cut off again; so the files
//! are at every moment a valid trace with at most one torn group at its end (I5). Bytes in a file survive the death of the
//! recorder. The thread waits for the disk only now and then, at a new segment, and when somebody asks for it.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use nix::sched::CpuSet;
use nix::unistd::gettid;
use rr_schema::rr_capnp as wire;
use rr_tracee::cpus::bind_thread;
use rr_tracee::tsc;

use crate::dir::{HEADER, Part, TraceDir, segment_name};
use crate::error::{Error, Result};
use crate::event::{Event, EventNumber};
use crate::extents;
use crate::files::FileStore;
use crate::frame::{CompressionLevel, FRAME_RAW_MAX, FrameKind, write_frame};
use crate::message;
use crate::process_table::{self, Recorded};
use crate::queue::{Group, Job, Shared};
use crate::segment::encode_header;

/// The size of payloads of Data frames before compression. The compression level is chosen for each anew.
const DATA_FRAME: usize = 1 << 20;

/// Closed segments are made durable no more often than this.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// With more segments than this to make durable, the whole file system is synced at once.
const SYNC_EACH_MAX: usize = 16;

/// The settings of the thread.
#[derive(Clone, Debug)]
pub(crate) struct ThreadOptions {
    pub(crate) flush_after: Duration,
    pub(crate) queue_bytes: u64,
    pub(crate) quality: i32,
    pub(crate) cpus: CpuSet,
    pub(crate) compresses_end: bool,
}

/// The thread's own state.
pub(crate) struct WriterThread {
    shared: Arc<Shared>,
    options: ThreadOptions,
    dir: TraceDir,
    files: Arc<FileStore>,
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

impl WriterThread {
    pub(crate) fn new(
        shared: Arc<Shared>,
        options: ThreadOptions,
        (dir, files): (TraceDir, Arc<FileStore>),
        uuid: [u8; 16],
    ) -> WriterThread {
        WriterThread {
            shared,
            options,
            dir,
            files,
            uuid,
            segment: None,
            cut: false,
            begun: false,
            unsynced: Vec::new(),
            last_sync: Instant::now(),
            last: EventNumber(0),
        }
    }

    /// Works until there is nothing more to come, or a failure.
    pub(crate) fn run(mut self) {
        let _guard = Guard(self.shared.clone());
        self.shared.thread.store(gettid().as_raw(), Ordering::Relaxed);
        bind_thread(&self.options.cpus);
        while let Some(job) = self.next_job() {
            let result = self.perform(job);
            let mut state = self.shared.lock();
            match result {
                Ok(Done {
                    written,
                    buffered_calls,
                    weight,
                    ticket,
                    group,
                }) => {
                    state.backlog -= weight;
                    state.written = written;
                    state.buffered_calls += buffered_calls;
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

    /// Waits for a job; closes a group that has been open for too long.
    fn next_job(&self) -> Option<Job> {
        let mut state = self.shared.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
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

    fn perform(&mut self, job: Job) -> Result<Done> {
        let mut done = Done {
            written: self.last,
            buffered_calls: 0,
            weight: 0,
            ticket: None,
            group: None,
        };
        match job {
            Job::Events(mut group, weight) => {
                group.take_over();
                self.write_events(&group.events)?;
                let buffered_calls = group.events.iter().map(Event::buffered_calls).sum();
                group.events.clear();
                done = Done {
                    written: self.last,
                    buffered_calls,
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
            Job::End {
                status,
                hides_cpu,
                processes,
            } => self.write_end(status, hides_cpu, processes)?,
        }
        Ok(done)
    }

    /// Chooses how hard to compress now.
    fn level(&self) -> CompressionLevel {
        let load = self.shared.lock().load();
        if load.ending && !self.options.compresses_end {
            return CompressionLevel::None;
        }
        load.level(self.options.queue_bytes, self.options.quality)
    }

    fn write_events(&mut self, events: &[Event]) -> Result<()> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            return Ok(());
        };
        let span = (first.number, last.number);
        let message = message::encode(events).map_err(|e| Error::Invalid {
            event: span.0,
            why: e.to_string(),
        })?;
        // The files that these events refer to come first (I5).
        self.files.settle()?;
        self.open_segment(span.0)?;
        let result = self
            .write_data(events, span)
            .and_then(|()| self.write_frame(FrameKind::Events, span, &[&message], self.level()));
        self.commit(result)?;
        self.last = span.1;
        Ok(())
    }

    /// Writes the data of a group: what is to be stored of them, cut into frames, and how they are put together from that.
    fn write_data(&mut self, events: &[Event], span: (EventNumber, EventNumber)) -> Result<()> {
        let plan = extents::plan(events);
        let mut frame: Vec<&[u8]> = Vec::new();
        let mut room = DATA_FRAME;
        for mut bytes in plan.stored.iter().copied() {
            while bytes.len() > room {
                // The rest of the records still begins with a whole word (`record_delta`).
                let (now, later) = bytes.split_at(room / 8 * 8);
                bytes = later;
                frame.push(now);
                self.write_frame(FrameKind::Data, span, &frame, self.level())?;
                frame.clear();
                room = DATA_FRAME;
            }
            room -= bytes.len();
            frame.push(bytes);
        }
        if !frame.is_empty() {
            self.write_frame(FrameKind::Data, span, &frame, self.level())?;
        }
        match plan.payload() {
            Some(payload) => self.write_frame(FrameKind::Extents, span, &[&payload], self.level()),
            None => Ok(()),
        }
    }

    fn write_end(&mut self, status: i32, hides_cpu: bool, processes: Option<Recorded>) -> Result<()> {
        self.files.settle()?;
        let invalid = |e: capnp::Error| Error::Invalid {
            event: self.last,
            why: e.to_string(),
        };
        let mut builder = capnp::message::Builder::new_default();
        let mut root = builder.init_root::<wire::end::Builder<'_>>();
        root.set_status(status);
        root.set_buffered_calls(self.shared.lock().buffered_calls);
        root.set_cpu_hidden(hides_cpu);
        if let Some(recorded) = processes {
            process_table::write(root.init_processes(), &recorded);
        }
        let mut message = Vec::new();
        capnp::serialize_packed::write_message(&mut message, &builder).map_err(invalid)?;
        if self.segment.is_none() {
            self.open_segment(self.last.next())?;
        }
        let result = self.write_frame(FrameKind::End, (self.last, self.last), &[&message], self.level());
        self.commit(result)
    }

    /// Appends one frame to the open segment.
    fn write_frame(
        &mut self,
        kind: FrameKind,
        span: (EventNumber, EventNumber),
        parts: &[&[u8]],
        level: CompressionLevel,
    ) -> Result<()> {
        let Some(segment) = &mut self.segment else {
            return Ok(());
        };
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        if bytes > FRAME_RAW_MAX.into() {
            let limit = FRAME_RAW_MAX.into();
            return Err(Error::TooLarge {
                event: span.0,
                what: "description",
                bytes,
                limit,
            });
        }
        write_frame(&mut segment.file, kind, span, parts, level)
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
                let end = end.map_err(|e| Error::io(&segment.path, "examining", e))?;
                self.shared.stored.fetch_add(end - segment.len, Ordering::Relaxed);
                segment.len = end;
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
                let file = match self.dir.open_file(Some(Part::Segments), &name) {
                    // The segment was deleted meanwhile (`trim`).
                    Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                        continue;
                    }
                    opened => opened?,
                };
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

/// The changes that a job made.
struct Done {
    written: EventNumber,
    buffered_calls: u64,
    weight: u64,
    ticket: Option<u64>,
    group: Option<Group>,
}
