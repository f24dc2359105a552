//! The thread that turns captures into checkpoint files while the program runs on.
//!
//! ```text
//!   recorder ──submit──▶ queue (bounded) ──▶ writer thread ──blocks──▶ compressing threads
//!      ▲                                        │   ▲                        │
//!      └──────────── outcomes ──────────────────┘   └──────── bytes ◀────────┘
//! ```
//!
//! * Recording never waits for it: a capture that finds the queue full is refused, and counted.
//! * A checkpoint that fails (a process was lost, the disk is full) is dropped with its reason; the next one
//!   is tried again.
//! * Memory is bounded: by the queue (frozen processes, which share their pages with the program until it
//!   writes), by the blocks that wait for compression ([`Options::buffer`]), and by some 40 bytes per page of
//!   the previous checkpoint to recognise contents.
//! * A frozen process lives until its pages are read, not until they are compressed, as long as the buffer
//!   lasts. Whatever happens, it is killed in the end.
//!
//! A checkpoint must not be there before what it rests on: mapped files, and the events up to its own. The
//! recorder flushes these before it submits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use rr_trace::event::EventNumber;

use crate::block::{BLOCK_PAGES, PAGE_BYTES};
use crate::capture::{CaptureRequest, WalkError, walk_object, walk_space};
use crate::error::{Error, Result};
use crate::index::PageTarget;
use crate::stats::CheckpointStats;
use crate::store::{Job, Known, Store, Tools};

/// How the writer works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Brotli quality, 0 to 11. Measured on the heap of a Python program, one CPU: 2 makes 210 MB/s and leaves
    /// 11 %, 1 makes 180 MB/s and leaves 16 %, 5 makes 70 MB/s and leaves 9 %.
    pub quality: i32,
    /// Threads that compress; 0: one less than there are CPUs for them, 1 to 4.
    pub workers: usize,
    /// CPUs that the threads may use. Without, they inherit those of the thread that starts them, and a
    /// recorder is bound to the CPU of the program, which it should not share with these.
    pub cpus: Option<CpuSet>,
    /// Captures that may wait while one is being written.
    pub queue: usize,
    /// Bytes of pages that may wait for compression.
    pub buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            quality: 2,
            workers: 0,
            cpus: None,
            queue: 2,
            buffer: 64 << 20,
        }
    }
}

/// What became of one submitted capture.
#[derive(Debug)]
pub struct Outcome {
    /// Its event.
    pub event: EventNumber,
    /// The statistics of the checkpoint that is on disk now; or why it was dropped.
    pub result: Result<CheckpointStats>,
}

/// The account of a writer at its end.
#[derive(Debug)]
pub struct Summary {
    /// Outcomes that [`CheckpointWriter::poll_done`] has not given out.
    pub outcomes: Vec<Outcome>,
    /// Captures that were refused because the queue was full.
    pub refused: u64,
}

/// The recorder's end of the writer.
#[derive(Debug)]
pub struct CheckpointWriter {
    requests: Option<Sender<CaptureRequest>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
    give_up: Arc<AtomicBool>,
    refused: u64,
}

impl CheckpointWriter {
    /// Starts a writer of checkpoints into `dir`, which is made if it is not there, for the trace with this
    /// uuid.
    pub fn start(dir: PathBuf, uuid: [u8; 16], options: Options) -> Result<CheckpointWriter> {
        if !dir.is_dir() {
            std::fs::create_dir(&dir).map_err(Error::io("making the directory of checkpoints", &dir))?;
        }
        let (requests, queue) = bounded(options.queue.max(1));
        let (outcomes_in, outcomes) = unbounded();
        let give_up = Arc::new(AtomicBool::new(false));
        let seen = give_up.clone();
        let thread = std::thread::Builder::new()
            .name("rr-checkpoint".into())
            .spawn(move || run(&dir, uuid, &options, &queue, &outcomes_in, &seen))
            .map_err(|e| Error::Writer(format!("cannot start a thread: {e}")))?;
        Ok(CheckpointWriter {
            requests: Some(requests),
            outcomes,
            thread: Some(thread),
            give_up,
            refused: 0,
        })
    }

    /// Whether [`CheckpointWriter::submit`] would take a capture now: asked before any fork is made for it.
    /// Counts as refused what finds no room.
    pub fn has_room(&mut self) -> bool {
        let room = self.requests.as_ref().is_some_and(|r| !r.is_full());
        self.refused += u64::from(!room);
        room
    }

    /// Hands over a capture; never waits. `false`: refused, because the writer has fallen behind; the
    /// capture's frozen processes are killed.
    ///
    /// Events must ascend from capture to capture.
    pub fn submit(&mut self, request: CaptureRequest) -> bool {
        let Some(requests) = &self.requests else {
            return false;
        };
        match requests.try_send(request) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.refused += 1;
                false
            }
        }
    }

    /// What has been done since the last call; never waits.
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
        })
    }

    fn stop(&mut self) -> Result<()> {
        self.requests = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(Error::Writer("the writer thread panicked: a bug in rr".into())),
            _ => Ok(()),
        }
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

fn run(
    dir: &Path,
    uuid: [u8; 16],
    options: &Options,
    queue: &Receiver<CaptureRequest>,
    outcomes: &Sender<Outcome>,
    give_up: &AtomicBool,
) {
    bind(options.cpus.as_ref()); // and so the threads that this one starts
    let workers = match options.workers {
        0 => std::thread::available_parallelism().map_or(1, |n| (n.get() - 1).clamp(1, 4)),
        n => n,
    };
    let (jobs_in, jobs) = unbounded::<Job>();
    std::thread::scope(|scope| {
        let compress = || {
            let jobs = jobs.clone();
            move || jobs.iter().for_each(Job::run)
        };
        let started = (0..workers)
            .filter(|i| {
                let thread = std::thread::Builder::new().name(format!("rr-compress-{i}"));
                thread.spawn_scoped(scope, compress()).is_ok()
            })
            .count();
        drop(jobs);
        let jobs = jobs_in; // the workers end when this is dropped
        let mut known = Known::default();
        let mut last = None;
        for request in queue {
            let event = request.image.event;
            let result = if give_up.load(Ordering::Relaxed) {
                Err(Error::Dropped {
                    event: event.0,
                    why: "the recording was given up".into(),
                })
            } else if started == 0 {
                Err(Error::Writer(
                    "no thread to compress with could be started".into(),
                ))
            } else if last.is_some_and(|l| l >= event) {
                Err(Error::Dropped {
                    event: event.0,
                    why: "a later checkpoint was submitted before it".into(),
                })
            } else {
                let max_in_flight = (options.buffer / (BLOCK_PAGES * PAGE_BYTES)).max(started + 1);
                let (jobs, quality, previous) = (&jobs, options.quality, &known);
                let tools = Tools {
                    dir,
                    uuid,
                    jobs,
                    quality,
                    max_in_flight,
                    previous,
                };
                write(&tools, &request, give_up)
            };
            drop(request);
            let result = result.map(|(stats, now)| {
                known = now;
                last = Some(event);
                stats
            });
            if let Err(e) = &result {
                tracing::warn!("no checkpoint at event {event}: {e}");
            }
            // The recorder may have gone without waiting.
            let _ = outcomes.send(Outcome { event, result });
        }
    });
}

/// Writes one checkpoint.
fn write(
    tools: &Tools<'_>,
    request: &CaptureRequest,
    give_up: &AtomicBool,
) -> Result<(CheckpointStats, Known)> {
    let event = request.image.event;
    let dropped = |why: String| Error::Dropped { event: event.0, why };
    let failed = |what: PageTarget| {
        move |e| match e {
            WalkError::Lost(why) => dropped(format!("{what}: {why}")),
            WalkError::Sink(e) => e,
        }
    };
    let mut store = Store::create(tools, event)?;
    let mut given = CheckpointStats {
        pause_us: request.pause_us,
        method: rr_tracee::pagemap::method().to_string(),
        ..CheckpointStats::default()
    };
    if let Some(s) = request
        .image
        .spaces
        .iter()
        .find(|s| request.spaces.iter().all(|r| r.space != s.id))
    {
        return Err(dropped(format!("address space {} has no source", s.id)));
    }
    // Those in place first: each that is read before its process goes on saves the recorder a fork.
    let (in_place, frozen): (Vec<_>, Vec<_>) = request.spaces.iter().partition(|s| s.source.is_in_place());
    let mut buffer = Vec::new();
    for source in in_place.into_iter().chain(frozen) {
        let Some(space) = request.image.spaces.iter().find(|s| s.id == source.space) else {
            return Err(dropped(format!(
                "address space {} is not in the image",
                source.space
            )));
        };
        let target = PageTarget::Space(source.space);
        let mut sink = |number: u64, bytes: &[u8], zero_untouched: bool| {
            if give_up.load(Ordering::Relaxed) {
                return Err(dropped("the recording was given up".into()));
            }
            store.page(number, bytes, zero_untouched)
        };
        let in_place = walk_space(source, &space.space, &mut buffer, &mut sink).map_err(failed(target))?;
        given.spaces_in_place += u32::from(in_place);
        store.end_target(target)?;
    }
    for object in &request.objects {
        let target = PageTarget::Object(object.object);
        walk_object(object, &mut |n, bytes, zero| store.page(n, bytes, zero)).map_err(failed(target))?;
        store.end_target(target)?;
    }
    store.finish(&request.image, given)
}

/// Lets the calling thread run on these CPUs, if any are named.
pub(crate) fn bind(cpus: Option<&CpuSet>) {
    if let Some(cpus) = cpus
        && let Err(e) = sched_setaffinity(Pid::from_raw(0), cpus)
    {
        // Slower, and nothing else.
        tracing::debug!("a checkpoint thread stays on its CPUs: sched_setaffinity: {e}");
    }
}
