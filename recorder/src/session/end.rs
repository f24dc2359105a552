//! The end of a recording.
//!
//! No tracee outlives it, and the end mark comes last: a trace that has one is whole, with its last checkpoint.

use std::time::{Duration, Instant};

use rr_trace::event::EventNumber;
use rr_tracee::task::{Resume, Waited, wait};
use rr_tracee::{Running, Tid, procfs};

use crate::error::Result;
use crate::session::RecordSession;
use crate::stats::Stats;

/// How long killed tracees are waited for at the end.
const REAPING: Duration = Duration::from_secs(2);

/// What a recording came to.
#[derive(Debug)]
pub struct Summary {
    /// The last event.
    pub events: EventNumber,
    /// What became of the checkpoints.
    pub checkpoints: Vec<rr_checkpoint::Outcome>,
    /// What it cost.
    pub stats: Stats,
}

impl RecordSession {
    /// Ends the recording: kills what is left, and closes the trace.
    pub fn finish(mut self, status: i32) -> Result<Summary> {
        // The writer may be reading from a task that is still there.
        let checkpoints = self.capture.finish();
        self.kill_all();
        // The trace is whole only when its last checkpoint is; so the end mark comes last.
        let events = self.number;
        self.stats.events = events.0;
        self.stats.all_stops = rr_tracee::task::reports();
        let closed = self.writer.finish(status);
        reap_all();
        self.stats.buffered_calls = closed?;
        Ok(Summary {
            events,
            checkpoints,
            stats: self.stats,
        })
    }

    /// Ends a recording that failed: kills everything, and closes the trace without an end mark, so that it
    /// counts as incomplete. What was recorded before can be replayed (I5).
    pub fn abort(mut self) {
        self.capture.abandon();
        self.kill_all();
        drop(self.writer);
        reap_all();
    }

    fn kill_all(&mut self) {
        self.tasks
            .values()
            .for_each(|task| rr_tracee::task::kill(task.tid));
        self.capture.kill_forks();
        // Those that nobody knows of.
        // (With many processes on the machine, looking for them takes long.)
        if rr_tracee::task::any_left() {
            for tracee in procfs::tracees_of(Tid(std::process::id() as i32)) {
                rr_tracee::task::kill(tracee);
            }
        }
    }
}

/// Lets killed tracees die: they stop once more on their way. One that does not, in the time that anybody would wait,
/// dies with us.
fn reap_all() {
    let deadline = Instant::now() + REAPING;
    while Instant::now() < deadline {
        match wait(None, true) {
            Some(report) => {
                if let Ok(Waited::Stopped(stopped, _)) = Running::newborn(report.tid).waited(report) {
                    let _ = stopped.resume(Resume::Cont, None);
                }
            }
            None if nix::errno::Errno::last() == nix::errno::Errno::ECHILD => return,
            None => std::thread::sleep(Duration::from_micros(200)),
        }
    }
}
