//! Writing a trace.
//!
//! [`TraceWriter::append`] is meant to cost the recorder next to nothing: it takes a lock and pushes. A background
//! thread does the rest (`writer_thread`), at the latest some hundred milliseconds later, so that little is lost when the
//! recorder is killed. Memory is bounded: when the thread falls behind it compresses less, in the end not at all (`compression_level`);
//! when the queue is full all the same, because the disk is slower than the program, `append` waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::CpuSet;
use rr_tracee::{Tid, cpus};

use crate::bytes::Lend;
use crate::dir::{Part, TraceDir, checkpoint_name};
use crate::error::{Error, Result};
use crate::event::{Event, EventNumber};
use crate::files::FileStore;
use crate::header::Header;
use crate::message::{self, EVENT_DATA_MAX, EVENT_MESSAGE_MAX};
use crate::process_log::ProcessLog;
use crate::queue::{Job, Shared, Size};
use crate::trim::Trimmer;
use crate::writer_thread::{ThreadOptions, WriterThread};

/// The settings of a writer.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// A directory beside the traces in which mapped files are kept for all of them; made if it is not there.
    /// `None`: every trace has its own copies.
    pub store: Option<PathBuf>,
    /// Most bytes of events that wait in memory.
    pub queue_bytes: u64,
    /// Events are in the file at most about this long after they were appended.
    pub flush_after: Duration,
    /// Brotli quality, 0 to 11, while the writer keeps up.
    pub quality: u8,
    /// The CPUs that the background thread may use: what the recorder had before it bound itself to one.
    /// `None`: those of the thread that creates the writer.
    pub background_cpus: Option<CpuSet>,
    /// The CPUs that it may use once everything is recorded, and all wait for it.
    pub cpus_at_end: Option<CpuSet>,
    /// The beginning of the trace is to be deleted while the trace is written ([`TraceWriter::trimmer`]).
    pub trims: bool,
    /// The trace's directory may be there already, if it is [empty](crate::recycle).
    pub is_recycled: bool,
    /// Events that wait when the recording ends are compressed, too. That is a waste if the trace is likely to be removed at once.
    pub compresses_end: bool,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            store: None,
            queue_bytes: 256 << 20,
            flush_after: Duration::from_millis(200),
            quality: 5,
            background_cpus: None,
            cpus_at_end: None,
            trims: false,
            is_recycled: false,
            compresses_end: true,
        }
    }
}

/// A trace being written.
///
/// Dropping it writes what was appended but no end: the trace counts as incomplete.
#[derive(Debug)]
pub struct TraceWriter {
    dir: TraceDir,
    header: Header,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    files: Arc<FileStore>,
    next: EventNumber,
    tickets: u64,
    queue_bytes: u64,
    processes: Arc<ProcessLog>,
    /// The beginning of the trace is to be deleted.
    trims: bool,
    hides_cpu: bool,
    cpus_at_end: Option<CpuSet>,
}

impl TraceWriter {
    /// Makes the directory `dir`, which must not exist yet (but see [`WriterOptions::is_recycled`]), and a trace in it.
    pub fn create(dir: &Path, header: &Header, options: &WriterOptions) -> Result<TraceWriter> {
        let dir = TraceDir::begin(dir, options.is_recycled)?;
        let cpus = options.background_cpus.unwrap_or_else(cpus::allowed);
        let begin = || -> Result<Arc<FileStore>> {
            let files = FileStore::new(&dir, options.store.as_deref(), cpus)?;
            header.write(&dir)?;
            Ok(Arc::new(files))
        };
        let files = begin().inspect_err(|_| {
            // Nothing was recorded, and the directory is ours: it was made a moment ago.
            let _ = std::fs::remove_dir_all(dir.path());
        })?;
        let shared = Arc::new(Shared::new(dir.path().to_owned()));
        let pump_options = ThreadOptions {
            flush_after: options.flush_after,
            queue_bytes: options.queue_bytes,
            quality: options.quality.min(11).into(),
            cpus,
            compresses_end: options.compresses_end,
        };
        let thread = WriterThread::new(
            shared.clone(),
            pump_options,
            (dir.clone(), Arc::clone(&files)),
            header.uuid,
        );
        let thread = std::thread::Builder::new()
            .name("rr-trace-write".into())
            .spawn(|| thread.run())
            .map_err(|e| Error::io(dir.path(), "starting a thread to write", e))?;
        Ok(TraceWriter {
            dir,
            header: header.clone(),
            shared,
            thread: Some(thread),
            files,
            next: EventNumber(1),
            tickets: 0,
            queue_bytes: options.queue_bytes,
            processes: Arc::new(ProcessLog::new(options.trims)),
            hides_cpu: false,
            trims: options.trims,
            cpus_at_end: options.cpus_at_end,
        })
    }

    /// Deletes the beginning of the trace while it is written, if that was asked for ([`WriterOptions::trims`]).
    pub fn trimmer(&self) -> Option<Trimmer> {
        self.trims.then(|| Trimmer {
            dir: self.dir.clone(),
            uuid: self.header.uuid,
            files: Arc::clone(&self.files),
            log: Arc::clone(&self.processes),
        })
    }

    /// The trace directory, as it was given.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The header that the trace was created with.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The store of mapped files. It can be used from any thread.
    pub fn files(&self) -> &Arc<FileStore> {
        &self.files
    }

    /// The directory of the checkpoints.
    pub fn checkpoint_dir(&self) -> PathBuf {
        self.dir.path().join(Part::Checkpoints.name())
    }

    /// The path of a checkpoint at `event`. Write the file under another name in the same directory first.
    pub fn checkpoint_path(&self, event: EventNumber) -> PathBuf {
        self.dir.path_of(Some(Part::Checkpoints), &checkpoint_name(event))
    }

    /// The number of bytes that have been written into segments so far.
    pub fn stored_bytes(&self) -> u64 {
        self.shared.stored.load(Ordering::Relaxed)
    }

    /// The last event appended; 0 if there is none.
    pub fn last_event(&self) -> EventNumber {
        EventNumber(self.next.0 - 1)
    }

    /// Appends the next event; its number must be [`TraceWriter::last_event`] plus one.
    ///
    /// Waits only when more than [`WriterOptions::queue_bytes`] have not been written yet. An error of the background
    /// thread comes back here; then this event and those not yet written are lost, and those before are safe.
    pub fn append(&mut self, event: Event) -> Result<()> {
        self.append_with(event, None)
    }

    /// As [`TraceWriter::append`], with records of buffered calls that are copied to the end of those of `event` when they are written.
    pub fn append_with(&mut self, event: Event, lent: Option<Box<dyn Lend>>) -> Result<()> {
        let size = self.check(&event, lent.as_ref().map_or(0, |lent| lent.size() as u64))?;
        self.processes.note(&event);
        if self.trims {
            self.files.note_uses(&event);
        }
        let mut state = self.shared.lock();
        state.check()?;
        while state.backlog > 0 && state.backlog + size.weight() > self.queue_bytes {
            state.seal();
            self.shared.work.notify_one();
            state = self.shared.wait(state);
            state.check()?;
        }
        let wake = state.push(event, lent, size);
        drop(state);
        if wake {
            self.shared.work.notify_one();
        }
        self.next = self.next.next();
        Ok(())
    }

    /// Refuses an event that a reader would refuse. Returns the event's size, with `lent` bytes of records that belong to somebody
    /// else.
    fn check(&self, event: &Event, lent: u64) -> Result<Size> {
        if event.number != self.next {
            return Err(Error::Numbering {
                expected: self.next,
                found: event.number,
            });
        }
        let number = event.number;
        let others = event.others.iter().map(|(_, op)| op);
        for op in event.ops.iter().chain(others) {
            crate::convert::check_space_op(op).map_err(|e| Error::Invalid {
                event: number,
                why: e.to_string(),
            })?;
        }
        let size = Size {
            message: message::message_size(event),
            data: lent + message::blobs(event).map(|b| b.len() as u64).sum::<u64>(),
        };
        let too_large = |what, bytes, limit| {
            Err(Error::TooLarge {
                event: number,
                what,
                bytes,
                limit,
            })
        };
        if size.message > EVENT_MESSAGE_MAX {
            return too_large("description", size.message, EVENT_MESSAGE_MAX);
        }
        if size.data > EVENT_DATA_MAX {
            return too_large("data", size.data, EVENT_DATA_MAX);
        }
        Ok(size)
    }

    /// The events that follow go into a new segment. Nothing happens if none follow.
    pub fn start_segment(&mut self) -> Result<()> {
        self.push(Job::NewSegment)
    }

    /// Waits until everything appended is in the files: it survives the death of this process.
    pub fn flush(&mut self) -> Result<()> {
        self.wait_for_ticket(false)
    }

    /// Waits until everything appended is on the disk: it survives a power failure.
    pub fn sync(&mut self) -> Result<()> {
        self.files.sync()?;
        self.wait_for_ticket(true)
    }

    /// Says whether no instruction of the program could tell it on which CPU it ran, so that a replay may use another one. Without
    /// this, it is not known.
    pub fn set_hides_cpu(&mut self, hides_cpu: bool) {
        self.hides_cpu = hides_cpu;
    }

    /// Ends the trace: writes the End frame with the status of the program's first process, as wait(2) gives it, and with the
    /// processes, and waits until all is in the files. The disk is not waited for: that would take longer than recording a short program. A power failure
    /// within the half minute that the kernel takes to write may cost the end of the trace; call [`TraceWriter::sync`] before if
    /// that matters.
    ///
    /// Returns how many calls of the library are in the trace.
    pub fn finish(mut self, exit_status: i32) -> Result<u64> {
        self.push(Job::End {
            status: exit_status,
            hides_cpu: self.hides_cpu,
            processes: self.processes.take(),
        })?;
        self.close();
        let state = self.shared.lock();
        state.check()?;
        Ok(state.buffered_calls)
    }

    /// A handle that tells how far the files are, for other threads.
    pub fn progress(&self) -> Progress {
        Progress(self.shared.clone())
    }

    fn push(&mut self, job: Job) -> Result<()> {
        let mut state = self.shared.lock();
        state.check()?;
        state.seal();
        state.jobs.push_back(job);
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    fn wait_for_ticket(&mut self, sync: bool) -> Result<()> {
        self.tickets += 1;
        let ticket = self.tickets;
        self.push(Job::Flush { ticket, sync })?;
        let mut state = self.shared.lock();
        loop {
            state.check()?;
            if state.flushed >= ticket {
                return Ok(());
            }
            state = self.shared.wait(state);
        }
    }

    /// Lets the thread do what is left, and waits for its end.
    fn close(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // The other CPUs may be busy with other recordings. A thread that has not begun yet stays on its CPUs: it is only slower.
        let tid = Tid(self.shared.thread.load(Ordering::Relaxed));
        if let Some(cpus) = self.cpus_at_end.as_ref().filter(|_| tid != Tid(0)) {
            let _ = cpus::bind(tid, cpus);
        }
        let mut state = self.shared.lock();
        state.seal();
        state.closed = true;
        drop(state);
        self.shared.work.notify_one();
        // A panic was reported by the thread's guard.
        let _ = thread.join();
    }
}

impl Drop for TraceWriter {
    fn drop(&mut self) {
        self.close();
    }
}

/// The progress of the files of a trace. A checkpoint may appear in the trace only when the events before it are there.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Shared>);

impl Progress {
    /// The last event that is in the files.
    pub fn written(&self) -> EventNumber {
        self.0.lock().written
    }

    /// Waits until `event` is in the files. An error if that will never be, because the writer is gone.
    pub fn wait_for(&self, event: EventNumber) -> Result<()> {
        let mut state = self.0.lock();
        while state.written < event {
            state.check()?;
            if state.done {
                let (path, first, last) = (self.0.path.clone(), EventNumber(1), state.written);
                return Err(Error::NoSuchEvent {
                    path,
                    event,
                    first,
                    last,
                });
            }
            if state.seal() {
                self.0.work.notify_one();
            }
            state = self.0.wait(state);
        }
        Ok(())
    }
}
