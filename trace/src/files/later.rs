//! The contents of mapped files are written later: a full or slow disk does not hold up who adds them.
//!
//! Jobs are done in order, one at a time. A few small ones wait until somebody needs them done ([`Later::settle`]): so a short
//! program's recording, all of whose files are in the store already, needs no thread for them. Large or many jobs have a thread.
//! Jobs that wait take memory, which is bounded: who adds more has to wait after all. After a failure nothing is written any more,
//! and everybody is told.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::sched::CpuSet;
use rr_tracee::cpus;

use super::places::{Job, Places};
use crate::error::{Error, Result};

/// Most bytes of contents that wait in memory.
const QUEUE_BYTES: u64 = 256 << 20;
/// Most small jobs that wait while there is no thread. Each has a file open.
const FEW: usize = 32;

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Bytes of these, and of one that is being done.
    backlog: u64,
    failure: Option<Error>,
    thread: Option<JoinHandle<()>>,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    places: Arc<Places>,
    state: Mutex<State>,
    /// Held by the one who does a job.
    turn: Mutex<()>,
    /// Signalled when there are jobs.
    work: Condvar,
    /// Signalled when a job was done, or failed.
    progress: Condvar,
}

/// The jobs, and the thread that does them if there is one.
#[derive(Debug)]
pub(super) struct Later {
    shared: Arc<Shared>,
    /// The CPUs for the thread.
    cpus: CpuSet,
}

impl Later {
    pub fn new(places: &Arc<Places>, cpus: CpuSet) -> Later {
        Later {
            shared: Arc::new(Shared {
                places: Arc::clone(places),
                state: Mutex::default(),
                turn: Mutex::default(),
                work: Condvar::new(),
                progress: Condvar::new(),
            }),
            cpus,
        }
    }

    /// Leaves a job for later. Waits only when too much waits already.
    pub fn push(&self, job: Job) -> Result<()> {
        let weight = job.weight();
        let mut state = self.shared.lock();
        while state.failure.is_none() && state.backlog > 0 && state.backlog + weight > QUEUE_BYTES {
            let waited = self.shared.progress.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        check(&state)?;
        if state.thread.is_none() && (weight > 0 || state.jobs.len() >= FEW) {
            let started = self.start_thread();
            let path = &self.shared.places.files.path;
            state.thread = Some(started.map_err(|e| Error::io(path, "starting a thread to write", e))?);
        }
        state.jobs.push_back(job);
        state.backlog += weight;
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Waits until all is done. Helps with it.
    pub fn settle(&self) -> Result<()> {
        while self.shared.do_next() {}
        check(&self.shared.lock())
    }

    fn start_thread(&self) -> io::Result<JoinHandle<()>> {
        let (shared, cpus) = (Arc::clone(&self.shared), self.cpus);
        std::thread::Builder::new()
            .name("rr-trace-files".into())
            .spawn(move || {
                cpus::bind_thread(&cpus);
                shared.work_until_closed();
            })
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let thread = state.thread.take();
        drop(state);
        self.shared.work.notify_one();
        if let Some(thread) = thread {
            // A panic was reported by the job's guard.
            let _ = thread.join();
        }
        while self.shared.do_next() {}
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread.
    fn work_until_closed(&self) {
        loop {
            let mut state = self.lock();
            while state.jobs.is_empty() {
                if state.closed {
                    return;
                }
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            self.do_next();
        }
    }

    /// Does the next job, after one that somebody else is doing. Returns `false` if there is none.
    fn do_next(&self) -> bool {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(job) = self.lock().jobs.pop_front() else {
            return false;
        };
        let _guard = Guard(self);
        let weight = job.weight();
        let result = self.places.perform(job);
        let mut state = self.lock();
        state.backlog -= weight;
        if let Err(e) = result {
            tracing::error!("{e}");
            state.fail(e);
        }
        drop(state);
        self.progress.notify_all();
        true
    }
}

impl State {
    fn fail(&mut self, e: Error) {
        self.failure = Some(e);
        self.jobs.clear();
        self.backlog = 0;
    }
}

fn check(state: &State) -> Result<()> {
    state.failure.clone().map_or(Ok(()), Err)
}

/// Tells who waits that a job has panicked.
struct Guard<'a>(&'a Shared);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = self.0.places.files.path.clone();
            self.0.lock().fail(Error::WriterDied { path });
            self.0.progress.notify_all();
        }
    }
}
