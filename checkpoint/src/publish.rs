//! The thread that makes finished files durable and gives them their names.
//!
//! Syncing is what takes longest for a small checkpoint, and costs little more for many: so everything that is
//! finished at a time is published together. First all files are sent on their way to the disk and synced, one
//! after the other; then they are renamed, in the order of their events; then the directory is synced, once. So
//!
//! * a final name exists only after its contents are on the disk (I5), and
//! * after those of all checkpoints that this one refers to: if one of these fails, this one is dropped, too;
//! * and, if the recorder lets us know how far the trace is ([`crate::Options::trace`]), after the events up to
//!   its own are in the trace.
//!
//! If there is a budget or a window, older ones may go then ([`crate::budget`], [`crate::window`]).

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use rr_trace::Progress;
use rr_trace::event::EventNumber;

use crate::budget::Keeper;
use crate::collection::UNIT;
use crate::error::{Error, Result};
use crate::file::{blocks_path, checkpoint_path};
use crate::pipeline::{AssemblyResult, CompletedFile, Outcome};
use crate::stats::CheckpointStats;
use crate::window::WindowKeeper;
use crate::write_status::{WriteStatus, unfailed};

impl CompletedFile {
    /// Starts writing to the disk, without waiting: then the syncs of a batch share one journal commit.
    fn push(&self) {
        // SAFETY: plain numbers and a descriptor of this process. If this fails, the sync does the work.
        unsafe {
            let fd = self.temporary.file.as_raw_fd();
            libc::sync_file_range(fd, 0, 0, libc::SYNC_FILE_RANGE_WRITE);
        }
    }

    fn sync(&self) -> Result<()> {
        let file = &self.temporary.file;
        file.sync_all()
            .map_err(Error::io("syncing a checkpoint", &self.temporary.path))
    }

    fn rename(&self, dir: &Path, trace: Option<&Progress>) -> Result<()> {
        unfailed(self.status.event, &self.needs)?;
        let event = self.status.event;
        if let Some(trace) = trace {
            trace.wait_for(EventNumber(event)).map_err(|e| Error::Dropped {
                event,
                why: format!("the events up to it are not in the trace: {e}"),
            })?;
        }
        let last = checkpoint_path(dir, EventNumber(self.status.event));
        std::fs::rename(&self.temporary.path, last)
            .map_err(Error::io("renaming a checkpoint", &self.temporary.path))
    }
}

/// The thread. Ends when nobody can send any more. Takes one from `slots` for every outcome. The user is told of the first failure.
pub(crate) fn run(
    dir: &Path,
    trace: Option<&Progress>,
    mut keepers: Keepers,
    finished: &Receiver<AssemblyResult>,
    outcomes: &Sender<Outcome>,
    slots: &Receiver<()>,
) {
    let mut has_failed = false;
    while let Ok(first) = finished.recv() {
        let batch: Vec<AssemblyResult> = std::iter::once(first).chain(finished.try_iter()).collect();
        let done = publish(dir, trace, batch);
        keepers.published(&done);
        for PublicationResult { status, result } in done {
            let event = EventNumber(status.event);
            if let Err(e) = &result {
                match has_failed {
                    false => tracing::warn!("no checkpoint at event {event}: {e}"),
                    // On a full disk there are many, and those that refer to them.
                    true => tracing::debug!("no checkpoint at event {event}: {e}"),
                }
                has_failed = true;
            }
            // The recorder may have gone without waiting.
            let result = result.map(|published| published.stats);
            let _ = outcomes.send(Outcome { event, result });
            let _ = slots.try_recv();
        }
    }
}

fn publish(dir: &Path, trace: Option<&Progress>, mut batch: Vec<AssemblyResult>) -> Vec<PublicationResult> {
    batch.iter().flat_map(|f| &f.result).for_each(|w| w.push());
    for f in &mut batch {
        f.attempt(|w| w.sync());
    }
    for f in &mut batch {
        f.attempt(|w| w.rename(dir, trace));
    }
    if batch.iter().any(|f| f.result.is_ok()) {
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        if synced.is_ok() {
            // The rest of a removed file is in the new one, too.
            for written in batch.iter().flat_map(|f| &f.result) {
                let _ = std::fs::remove_file(blocks_path(dir, EventNumber(written.status.event)));
            }
        }
        if let Err(e) = synced {
            // The names are there, but nobody knows for how long. Those that refer to others go first.
            for f in batch.iter_mut().rev() {
                f.attempt(|w| {
                    let _ = std::fs::remove_file(checkpoint_path(dir, EventNumber(w.status.event)));
                    let kind = std::io::Error::from(e.kind());
                    Err(Error::io("syncing the directory of checkpoints", dir)(kind))
                });
            }
        }
    }
    let result = |f: AssemblyResult| PublicationResult {
        status: f.status,
        result: f.result.map(|written| Published {
            time_ns: written.time_ns,
            stats: written.stats,
        }),
    };
    batch.into_iter().map(result).collect()
}

/// A checkpoint that was published, or dropped.
struct PublicationResult {
    status: Arc<WriteStatus>,
    result: Result<Published>,
}

struct Published {
    /// When its event was recorded.
    time_ns: u64,
    stats: CheckpointStats,
}

/// The budget and the window: both remove older checkpoints when new ones are published.
#[derive(Debug, Default)]
pub(crate) struct Keepers {
    pub budget: Option<Keeper>,
    pub window: Option<WindowKeeper>,
}

impl Keepers {
    fn published(&mut self, done: &[PublicationResult]) {
        let published = || {
            let all = done
                .iter()
                .filter_map(|one| Some((one, one.result.as_ref().ok()?)));
            all.map(|(one, published)| (EventNumber(one.status.event), published))
        };
        let Some((latest, _)) = published().next_back() else {
            return;
        };
        let times = published().map(|(event, published)| (event, published.time_ns));
        let has_shortened = self.window.as_mut().is_some_and(|window| window.published(times));
        if let Some(budget) = &mut self.budget {
            let bytes = published().map(|(_, published)| published.stats.bytes.next_multiple_of(UNIT));
            if has_shortened {
                budget.look();
            } else {
                budget.add(bytes.sum());
            }
            let begin = self.window.as_ref().and_then(WindowKeeper::begin);
            budget.keep(begin.into_iter().chain([latest]));
        }
    }
}

impl AssemblyResult {
    /// Goes on with it if it has not failed; a failure is final.
    fn attempt(&mut self, step: impl FnOnce(&CompletedFile) -> Result<()>) {
        if let Ok(written) = &self.result
            && let Err(e) = step(written)
        {
            self.result = Err(e); // and the temporary file is gone
            self.status.fail();
        }
    }
}

#[cfg(test)]
mod tests;
