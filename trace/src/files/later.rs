//! The thread that writes the contents of mapped files: a full or slow disk holds up nobody else.
//!
//! Jobs are done in order. Jobs that wait take memory, which is bounded: a thread that adds more has to wait after all. After a failure nothing
//! is written any more, and everybody is told.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::places::{Job, Places};
use crate::error::{Error, Result};

/// Most bytes of contents that wait in memory.
const QUEUE_BYTES: u64 = 256 << 20;

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Jobs that are not done: those in the queue, and one that is being done.
    open: usize,
    /// Bytes of these.
    backlog: u64,
    failure: Option<Error>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when there are jobs.
    work: Condvar,
    /// Signalled when jobs were done, or failed.
    progress: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread, and what waits for it.
#[derive(Debug)]
pub(super) struct Later {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Later {
    /// Starts the thread.
    pub fn start(places: &Arc<Places>) -> io::Result<Later> {
        let shared = Arc::new(Shared::default());
        let (theirs, places) = (Arc::clone(&shared), Arc::clone(places));
        let thread = std::thread::Builder::new()
            .name("rr-trace-files".into())
            .spawn(move || run(&theirs, &places))?;
        Ok(Later {
            shared,
            thread: Some(thread),
        })
    }

    /// Leaves a job for later. Waits only when too much waits already.
    pub fn push(&self, job: Job) -> Result<()> {
        let weight = job.weight();
        let mut state = self.shared.lock();
        while state.failure.is_none() && state.backlog > 0 && state.backlog + weight > QUEUE_BYTES {
            state = self.wait(state);
        }
        check(&state)?;
        state.jobs.push_back(job);
        state.open += 1;
        state.backlog += weight;
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Waits until all is done.
    pub fn settle(&self) -> Result<()> {
        let mut state = self.shared.lock();
        while state.failure.is_none() && state.open > 0 {
            state = self.wait(state);
        }
        check(&state)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.shared.progress.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(state: &State) -> Result<()> {
    state.failure.clone().map_or(Ok(()), Err)
}

impl Drop for Later {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic was reported by the thread's guard.
            let _ = thread.join();
        }
    }
}

/// Tells who waits that the thread has panicked.
struct Guard<'a>(&'a Shared, &'a Places);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = self.1.files.path.clone();
            self.0.lock().failure = Some(Error::WriterDied { path });
            self.0.progress.notify_all();
        }
    }
}

fn run(shared: &Shared, places: &Places) {
    let _guard = Guard(shared, places);
    loop {
        let mut state = shared.lock();
        let job = loop {
            if let Some(job) = state.jobs.pop_front() {
                break job;
            }
            if state.closed {
                return;
            }
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let weight = job.weight();
        let result = places.perform(job);
        let mut state = shared.lock();
        state.open -= 1;
        state.backlog -= weight;
        if let Err(e) = result {
            tracing::error!("{e}");
            state.failure = Some(e);
            state.jobs.clear();
            drop(state);
            shared.progress.notify_all();
            return;
        }
        drop(state);
        shared.progress.notify_all();
    }
}
