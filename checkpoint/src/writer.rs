//! The threads that turn captures into checkpoint files while the program runs on.
//!
//! ```text
//!   recorder ──submit──▶ queue (bounded) ──▶ reading ──blocks──▶ compressing
//!      ▲                                        │ ▲                 │
//!      │                                        │ └─── buffers ◀─┐  │
//!      │                                        ▼                │  ▼
//!      └───── outcomes ──── publishing ◀─── writing files (`assemble`)
//!                           (`publish`)
//! ```
//!
//! * Recording never waits for it: a capture that finds the queue full is refused, and counted.
//! * A frozen process lives until its pages are read, not until they are compressed, written or synced, as long
//!   as there are buffers. Whatever happens, it is killed in the end.
//! * A checkpoint that fails (a process was lost, the disk is full) is dropped with its reason, as are those
//!   that were read in the meantime and refer to it (see `content_index`); the next one is tried again. Checkpoints
//!   are published, and their outcomes reported, in the order of their events.
//! * Memory is bounded: by the queue (frozen processes, which share their pages with the program until it
//!   writes: [`Options::queue`], [`Options::frozen`]), by the blocks that wait for compression or for being
//!   written ([`Options::buffer`]), by the images and indices that wait for being written
//!   ([`Options::unwritten`]), by the files that wait for the disk ([`Options::unpublished`]), and by some 40 bytes
//!   per page of the previous checkpoint to recognise contents.
//!   When one of these bounds is reached, the thread before it waits, and in the end the queue is full.
//!
//! A checkpoint must not be there before what it rests on: mapped files, and the events up to its own. For the
//! events, `publish` waits ([`Options::trace`]); the mapped files are in the trace before the recorder submits.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use nix::fcntl::Flock;
use nix::sched::CpuSet;
use rr_trace::Progress;
use rr_trace::event::EventNumber;
use rr_tracee::cpus::bind_thread;
use rr_tracee::{AddrRange, Tid};

use crate::assemble;
use crate::block::{BLOCK_PAGES, PAGE_BYTES};
use crate::budget::{Budget, Keeper};
use crate::capture::{CaptureRequest, Changes, SpaceSource};
use crate::compression::Compressor;
use crate::content_index::ContentIndex;
use crate::error::{Error, Result};
use crate::gauge::{Gauge, Held};
use crate::image::SessionImage;
use crate::index::PageTarget;
use crate::pipeline::{CapturedImage, Message, Outcome};
use crate::publish::{self, Keepers};
use crate::stats::{CheckpointStats, Maker};
use crate::store::{Buffers, Job, Store, StoreContext};
use crate::walk::{PageSink, WalkError, walk_object, walk_space};
use crate::window::{Window, WindowKeeper};
use crate::write_status::WriteStatus;

/// The time between two looks for room.
const ROOM_WAIT: Duration = Duration::from_micros(200);

/// The settings of a writer.
#[derive(Clone, Debug)]
pub struct Options {
    /// Level of zstd for pages, 1 to 22. 1 keeps up with a program ([`crate::compression`]).
    pub level: i32,
    /// Threads that compress; 0: one less than there are CPUs for them, 2 to 4. (Two also on one CPU: there will be more at the end.)
    pub workers: usize,
    /// CPUs that the threads may use. Without, they inherit those of the thread that starts them, and a
    /// recorder is bound to the CPU of the program, which it should not share with these.
    pub cpus: Option<CpuSet>,
    /// CPUs that they may use once nobody records any more, and all wait for them: [`CheckpointWriter::finish`].
    pub cpus_at_end: Option<CpuSet>,
    /// Captures that may wait while one is being read.
    pub queue: usize,
    /// Bytes of anonymous memory that the processes of captures may have together which wait or are being read.
    /// They share most of it with the program and each other; this is the worst case, if the program wrote to all
    /// of it after each capture. One capture is always taken.
    pub frozen: u64,
    /// Bytes of pages that may wait for compression, or for being written.
    pub buffer: usize,
    /// Bytes that the images and indices of checkpoints may have together which are read and not yet written. One is
    /// always taken. (Of a process with 65,000 mappings, one takes 8 MB.)
    pub unwritten: u64,
    /// Checkpoints that may be read and not yet on the disk. Each has a file open.
    pub unpublished: usize,
    /// The progress of the trace. A checkpoint gets its name only when the events up to its own are in the trace. Without
    /// it, the recorder must flush these before it submits.
    pub trace: Option<Progress>,
    /// The maker of the checkpoints.
    pub maker: Maker,
    /// The limit for all checkpoints of the trace; without it, there is no limit.
    pub budget: Option<Budget>,
    /// The last part of the recording, if nothing else is kept.
    pub window: Option<Window>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            level: 1,
            workers: 0,
            cpus: None,
            cpus_at_end: None,
            queue: 32,
            frozen: 256 << 20,
            buffer: 64 << 20,
            unwritten: 32 << 20,
            unpublished: 256,
            trace: None,
            maker: Maker::Unknown,
            budget: None,
            window: None,
        }
    }
}

/// The account of a writer at its end.
#[derive(Debug)]
pub struct Summary {
    /// Outcomes that [`CheckpointWriter::poll_done`] has not given out.
    pub outcomes: Vec<Outcome>,
    /// Captures that were refused because the queue was full.
    pub refused: u64,
    /// Checkpoints that were removed because of the budget or the window.
    pub removed: u64,
}

/// The recorder's end of the writer.
#[derive(Debug)]
pub struct CheckpointWriter {
    requests: Option<Sender<Queued>>,
    /// Bytes of the processes that are frozen now, and how many may be.
    frozen: Gauge,
    max_frozen: u64,
    outcomes: Receiver<Outcome>,
    thread: Thread,
    threads: Arc<Threads>,
    cpus_at_end: Option<CpuSet>,
    give_up: Arc<AtomicBool>,
    refused: u64,
    removed: Arc<AtomicU64>,
    /// Until the threads have ended.
    _lock: Option<Flock<File>>,
}

/// The thread that reads captures.
enum Thread {
    /// It starts with the first capture. Most programs end before that.
    Later(Box<dyn FnOnce() + Send>),
    Started(JoinHandle<()>),
    /// It could not be started, or was waited for.
    Ended,
}

impl std::fmt::Debug for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Thread::Later(_) => "Later",
            Thread::Started(_) => "Started",
            Thread::Ended => "Ended",
        })
    }
}

impl Thread {
    /// Starts the thread, if it does not run yet.
    fn start(&mut self) {
        *self = match std::mem::replace(self, Thread::Ended) {
            Thread::Later(body) => {
                let thread = std::thread::Builder::new()
                    .name("rr-checkpoint".into())
                    .spawn(body);
                // Nobody takes captures out of the queue then: they are refused.
                thread.map_or_else(
                    |e| {
                        tracing::error!("no checkpoint can be written: cannot start a thread: {e}");
                        Thread::Ended
                    },
                    Thread::Started,
                )
            }
            other => other,
        }
    }
}

impl CheckpointWriter {
    /// Starts a writer of checkpoints into `dir`, which is made if it is not there, for the trace with this
    /// uuid. Refused if there is one already.
    pub fn start(dir: PathBuf, uuid: [u8; 16], options: Options) -> Result<CheckpointWriter> {
        if !dir.is_dir() {
            std::fs::create_dir(&dir).map_err(Error::io("making the directory of checkpoints", &dir))?;
        }
        let lock = crate::file::lock(&dir)?;
        crate::file::sweep(&dir)?;
        let (requests, queue) = bounded(options.queue.max(1));
        let (outcomes_in, outcomes) = unbounded();
        let give_up = Arc::new(AtomicBool::new(false));
        let seen = give_up.clone();
        let max_frozen = options.frozen;
        let removed = Arc::new(AtomicU64::new(0));
        let budget = options.budget.clone();
        let budget = budget.map(|budget| Keeper::new(dir.clone(), uuid, budget, removed.clone()));
        let window = options.window.clone();
        let window = window.map(|window| WindowKeeper::new(dir.clone(), uuid, window, removed.clone()));
        let keepers = Keepers { budget, window };
        let (threads, cpus_at_end) = (Arc::<Threads>::default(), options.cpus_at_end);
        let all = Arc::clone(&threads);
        let thread = Thread::Later(Box::new(move || {
            let shared = Shared {
                queue: &queue,
                outcomes: &outcomes_in,
                threads: &all,
                give_up: &seen,
            };
            run(&dir, uuid, &options, keepers, shared);
        }));
        Ok(CheckpointWriter {
            requests: Some(requests),
            frozen: Gauge::default(),
            max_frozen,
            outcomes,
            thread,
            threads,
            cpus_at_end,
            give_up,
            refused: 0,
            removed,
            _lock: lock,
        })
    }

    /// Says if [`CheckpointWriter::submit`] would take a capture now. The recorder asks before it makes any fork. A
    /// capture that finds no room counts as refused.
    pub fn has_room(&mut self) -> bool {
        let room = self.is_room();
        self.refused += u64::from(!room);
        room
    }

    /// Waits until [`CheckpointWriter::submit`] would take a capture. (It never will if the writer did not survive.)
    pub fn wait_for_room(&self) {
        self.wait_until(|| self.is_room());
    }

    /// Waits until what was submitted is read, for what the kernel would change in frozen processes too: where a file gets shorter, all
    /// processes lose their pages of it, also those that they have written to (ftruncate(2), mmap(2) "SIGBUS").
    pub fn wait_until_read(&self) {
        self.wait_until(|| self.frozen.bytes() == 0);
    }

    /// Waits for something that the writer does, as long as it survives.
    fn wait_until(&self, is_done: impl Fn() -> bool) {
        let is_alive = || matches!(&self.thread, Thread::Started(thread) if !thread.is_finished());
        while !is_done() && is_alive() {
            std::thread::sleep(ROOM_WAIT);
        }
    }

    fn is_room(&self) -> bool {
        self.frozen.has_room(self.max_frozen) && self.requests.as_ref().is_some_and(|r| !r.is_full())
    }

    /// Hands over a capture; never waits. `false`: refused, because the writer has fallen behind; the
    /// capture's frozen processes are killed.
    ///
    /// Events must ascend from capture to capture.
    pub fn submit(&mut self, request: CaptureRequest) -> bool {
        let Some(requests) = &self.requests else {
            return false;
        };
        self.thread.start();
        let bytes: u64 = request.spaces.iter().map(|s| s.source.anonymous_bytes()).sum();
        // Also of a process that has none it can be told whether it was read.
        let bytes = bytes.max(1) + request.image.weight();
        let queued = Queued {
            request,
            _frozen: self.frozen.hold(bytes),
        };
        let taken = requests.try_send(queued).is_ok();
        self.refused += u64::from(!taken);
        taken
    }

    /// The outcomes since the last call; never waits.
    pub fn poll_done(&mut self) -> Vec<Outcome> {
        self.outcomes.try_iter().collect()
    }

    /// Captures that were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Waits until everything that was submitted is done. Fails only if the writer thread did not survive.
    pub fn finish(mut self) -> Result<Summary> {
        self.stop()?;
        Ok(Summary {
            outcomes: self.poll_done(),
            refused: self.refused,
            removed: self.removed.load(Ordering::Relaxed),
        })
    }

    /// Gives up what has not been read yet, and waits for the rest.
    pub fn give_up(self) -> Result<Summary> {
        self.give_up.store(true, Ordering::Relaxed);
        self.finish()
    }

    fn stop(&mut self) -> Result<()> {
        let thread = std::mem::replace(&mut self.thread, Thread::Ended);
        let Thread::Started(thread) = thread else {
            return Ok(());
        };
        // The threads still run. The numbers of threads that have ended may be those of others.
        if let Some(cpus) = &self.cpus_at_end {
            self.threads.let_go_on(cpus);
        }
        self.requests = None;
        let joined = thread.join();
        joined.map_err(|_| Error::Writer("the writer thread panicked: a bug in rr".into()))
    }
}

impl Drop for CheckpointWriter {
    /// Without [`CheckpointWriter::finish`] nobody wants the rest: it is given up.
    fn drop(&mut self) {
        self.give_up.store(true, Ordering::Relaxed);
        if let Err(e) = self.stop() {
            tracing::error!("{e}");
        }
    }
}

/// The threads of a writer. They live until it is stopped.
#[derive(Debug, Default)]
struct Threads(Mutex<Vec<Tid>>);

impl Threads {
    fn all(&self) -> MutexGuard<'_, Vec<Tid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calling thread is one of them.
    fn join(&self) {
        self.all().push(Tid(nix::unistd::gettid().as_raw()));
    }

    /// Lets all of them use these CPUs. (One that is not yet among them is only slower.)
    fn let_go_on(&self, cpus: &CpuSet) {
        for tid in self.all().iter() {
            // As above.
            let _ = rr_tracee::cpus::bind(*tid, cpus);
        }
    }
}

/// A capture in the queue.
#[derive(Debug)]
struct Queued {
    request: CaptureRequest,
    /// Its processes and its image.
    _frozen: Held,
}

/// The settings that the threads of a writer have in common with the recorder's end.
#[derive(Clone, Copy)]
struct Shared<'a> {
    queue: &'a Receiver<Queued>,
    outcomes: &'a Sender<Outcome>,
    threads: &'a Threads,
    give_up: &'a AtomicBool,
}

fn run(dir: &Path, uuid: [u8; 16], options: &Options, keepers: Keepers, shared: Shared<'_>) {
    let Shared {
        queue,
        outcomes,
        threads,
        give_up,
    } = shared;
    threads.join();
    if let Some(cpus) = &options.cpus {
        bind_thread(cpus); // and so the threads that this one starts
    }
    let workers = match options.workers {
        0 => std::thread::available_parallelism().map_or(2, |n| (n.get() - 1).clamp(2, 4)),
        n => n,
    };
    // Each thread ends when those before it have ended and dropped their ends of the channels.
    let (jobs, jobs_out) = unbounded::<Job>();
    let (messages, messages_out) = unbounded();
    let (buffers, buffers_out) = unbounded();
    let (finished, finished_out) = unbounded();
    let (slots, slots_out) = bounded(options.unpublished.max(1));
    std::thread::scope(|scope| {
        let start = |name: String, body: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name);
            let body = || {
                threads.join();
                body();
            };
            thread.spawn_scoped(scope, body).is_ok()
        };
        let mut started = 0;
        for i in 0..workers {
            let (jobs, level) = (jobs_out.clone(), options.level);
            let compress = move || {
                let mut compressor = Compressor::new(level);
                jobs.iter().for_each(|job| job.run(&mut compressor));
            };
            started += usize::from(start(format!("rr-compress-{i}"), Box::new(compress)));
        }
        drop(jobs_out);
        let write = {
            let dir = dir.to_path_buf();
            move || assemble::run(&dir, uuid, &messages_out, &buffers, &finished)
        };
        let publish = {
            let (dir, outcomes) = (dir.to_path_buf(), outcomes.clone());
            let trace = options.trace.clone();
            move || {
                publish::run(
                    &dir,
                    trace.as_ref(),
                    keepers,
                    &finished_out,
                    &outcomes,
                    &slots_out,
                )
            }
        };
        let all = started > 0
            && start("rr-ckpt-write".into(), Box::new(write))
            && start("rr-ckpt-sync".into(), Box::new(publish));
        let max_buffers = (options.buffer / (BLOCK_PAGES * PAGE_BYTES)).max(started + 1);
        let mut reader = Reader {
            jobs,
            messages,
            buffers: Buffers::new(buffers_out, max_buffers),
            buffer: Vec::new(),
            known: ContentIndex::default(),
            last: None,
            unwritten: Gauge::default(),
            maker: options.maker,
            give_up,
        };
        for (number, queued) in queue.iter().enumerate() {
            reader.wait_until_written(options.unwritten);
            // The publisher takes it out again.
            if !all || slots.send(()).is_err() {
                let event = queued.request.image.event;
                let result = Err(Error::Writer(
                    "not all threads could be started, or one is gone".into(),
                ));
                let _ = outcomes.send(Outcome { event, result });
            } else {
                reader.process(number as u64, queued);
            }
        }
    });
}

/// The thread that reads captures.
struct Reader<'a> {
    jobs: Sender<Job>,
    messages: Sender<Message>,
    buffers: Buffers,
    /// The bytes that were read last from a process.
    buffer: Vec<u8>,
    /// Contents of the capture before.
    known: ContentIndex,
    /// The latest capture that was read whole.
    last: Option<Arc<WriteStatus>>,
    /// Bytes of images and indices on their way to the thread that writes.
    unwritten: Gauge,
    maker: Maker,
    give_up: &'a AtomicBool,
}

impl Reader<'_> {
    /// Waits while the images and indices that are not written yet take this many bytes. (If the thread that writes did not
    /// survive, nothing is on its way any more.)
    fn wait_until_written(&self, max: u64) {
        while !self.unwritten.has_room(max) {
            std::thread::sleep(ROOM_WAIT);
        }
    }

    fn process(&mut self, number: u64, mut queued: Queued) {
        let event = queued.request.image.event;
        let status = WriteStatus::new(event.0);
        let is_late =
            |last: &Arc<WriteStatus>| last.event > event.0 || (last.event == event.0 && !last.has_failed());
        let result = if self.give_up.load(Ordering::Relaxed) {
            Err(Error::Dropped {
                event: event.0,
                why: "it was given up".into(),
            })
        } else if self.last.as_ref().is_some_and(is_late) {
            Err(Error::Dropped {
                event: event.0,
                why: "a later checkpoint was submitted before it".into(),
            })
        } else {
            self.read(number, &mut queued.request, status.clone())
        };
        drop(queued);
        let message = match result {
            Ok(reading) => {
                self.last = Some(status);
                let held = self.unwritten.hold(reading.weight());
                Message::Read(number, Box::new(reading), held)
            }
            Err(e) => Message::Dropped(number, status, e),
        };
        // A thread that is gone is noticed when it is joined.
        let _ = self.messages.send(message);
    }

    /// Reads all pages of one capture. Its image is taken out.
    fn read(
        &mut self,
        number: u64,
        request: &mut CaptureRequest,
        status: Arc<WriteStatus>,
    ) -> Result<CapturedImage> {
        let event = request.image.event;
        let dropped = |why: String| Error::Dropped { event: event.0, why };
        let failed = |what: PageTarget| {
            move |e| match e {
                WalkError::Lost(why) => dropped(format!("{what}: {why}")),
                WalkError::Sink(e) => e,
            }
        };
        let tools = StoreContext {
            jobs: &self.jobs,
            reply: &self.messages,
            buffers: &mut self.buffers,
            known: &mut self.known,
        };
        let mut store = Store::new(tools, number, status);
        let mut given = CheckpointStats {
            pause_us: request.pause_us,
            maker: self.maker,
            ..CheckpointStats::default()
        };
        let mut uses_changes = false;
        if let Some(s) = request
            .image
            .spaces
            .iter()
            .find(|s| request.spaces.iter().all(|r| r.space != s.id))
        {
            return Err(dropped(format!("address space {} has no source", s.id)));
        }
        // Those in place first: each that is read before its process goes on saves the recorder a fork.
        let (in_place, frozen): (Vec<_>, Vec<_>) =
            request.spaces.iter().partition(|s| s.source.is_in_place());
        for source in in_place.into_iter().chain(frozen) {
            let Some(space) = request.image.spaces.iter().find(|s| s.id == source.space) else {
                return Err(dropped(format!(
                    "address space {} is not in the image",
                    source.space
                )));
            };
            let target = PageTarget::Space(source.space);
            let mut sink = Sink {
                store: &mut store,
                event,
                from: Some(source),
                give_up: self.give_up,
            };
            let in_place =
                walk_space(source, &space.space, &mut self.buffer, &mut sink).map_err(failed(target))?;
            given.spaces_in_place += u32::from(in_place);
            uses_changes |= matches!(source.changes, Changes::Since { .. });
            store.end_target(target)?;
        }
        for object in &request.objects {
            let target = PageTarget::Object(object.object);
            let mut sink = Sink {
                store: &mut store,
                event,
                from: None,
                give_up: self.give_up,
            };
            walk_object(object, &mut sink).map_err(failed(target))?;
            store.end_target(target)?;
        }
        let unchanged = if uses_changes { "+unchanged" } else { "" };
        given.method = format!("{}{unchanged}", rr_tracee::pagemap::method());
        let nothing = SessionImage {
            event,
            time_ns: 0,
            spaces: Vec::new(),
            tasks: Vec::new(),
            objects: Vec::new(),
        };
        store.finish(std::mem::replace(&mut request.image, nothing), given)
    }
}

/// Gives the pages of a source to the store, until the rest is given up.
struct Sink<'s, 'a> {
    store: &'s mut Store<'a>,
    event: EventNumber,
    /// Nothing for shared memory.
    from: Option<&'s SpaceSource>,
    give_up: &'s AtomicBool,
}

impl PageSink for Sink<'_, '_> {
    fn page(&mut self, number: u64, bytes: &[u8], zero_untouched: bool) -> Result<()> {
        if self.give_up.load(Ordering::Relaxed) {
            return Err(Error::Dropped {
                event: self.event.0,
                why: "it was given up".into(),
            });
        }
        self.store.page(number, bytes, zero_untouched)
    }

    fn unchanged(&mut self, pages: AddrRange, zero_untouched: bool, rest: &mut Vec<AddrRange>) {
        match self.from {
            Some(SpaceSource {
                space,
                changes: Changes::Since { event, .. },
                ..
            }) => self.store.unchanged(*space, *event, pages, zero_untouched, rest),
            _ => rest.push(pages),
        }
    }
}
