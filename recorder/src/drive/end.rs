//! The end of a recording.
//!
//! No tracee outlives the recording, and the end mark comes last: a trace with an end mark is whole,
//! including its last checkpoint.

use std::time::{Duration, Instant};

use rr_trace::event::EventNumber;
use rr_tracee::task::{Resume, Waited, wait};
use rr_tracee::{Running, Tid, procfs};

use crate::error::Result;
use crate::log::crash::Crash;
use crate::log::events::flush_entries;
use crate::policy::stats::Stats;
use crate::session::RecordSession;

/// Maximum time to wait for killed tracees at the end.
const REAPING: Duration = Duration::from_secs(2);

/// Result of a recording.
#[derive(Debug)]
pub struct Summary {
    /// The last event.
    pub events: EventNumber,
    /// Number of checkpoints that could not be written.
    pub failed_checkpoints: u64,
    /// The first hundred signals that killed processes as a crash does (those that dump core by
    /// default, signal(7)).
    pub crashes: Vec<Crash>,
    /// Costs of the recording.
    pub stats: Stats,
}

/// The way in which a recording ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The first process, or all, ended. This is the wait status of the first one.
    Program(i32),
    /// [`crate::Options::time_limit`] was reached: the program was killed where it was.
    TimeLimit,
}

impl End {
    /// The first process's wait status.
    pub fn status(self) -> i32 {
        match self {
            End::Program(status) => status,
            End::TimeLimit => libc::SIGKILL,
        }
    }
}

/// The end of the recording, if there is nothing left to record.
pub(crate) fn end_reached(session: &RecordSession) -> Option<End> {
    let program = session
        .root_status
        .filter(|_| !session.policy.options.wait_for_all || session.world.tasks.is_empty());
    match program {
        Some(status) => Some(End::Program(status)),
        // Only at an event, which is a place that replay can find again.
        None if session.is_time_over() && !is_current_mid_interval(session) => Some(End::TimeLimit),
        None => None,
    }
}

/// Returns whether the task that ran last has run since its last event.
fn is_current_mid_interval(session: &RecordSession) -> bool {
    session
        .world
        .tasks
        .get(&session.drive.current)
        .is_some_and(|t| t.interval.ran && t.call.is_none())
}

impl RecordSession {
    /// Ends the recording: kills remaining tasks, and closes the trace.
    pub fn finish(mut self, end: End) -> Result<Summary> {
        if end == End::TimeLimit {
            // Replay shows the blocked tasks in their calls.
            flush_entries(&mut self)?;
        }
        // The writer may be reading from a task that still exists.
        let failed_checkpoints = self.checkpoints.finish();
        kill_all(&mut self);
        self.world.known_sites.save();
        // The trace is whole only if its last checkpoint is. So the end mark comes last.
        let events = self.log.number;
        self.policy.stats.events = events.0;
        self.policy.stats.all_stops = rr_tracee::task::reports();
        self.policy.stats.native = std::mem::take(&mut self.world.mapped.searched.native);
        self.log.writer.set_hides_cpu(self.policy.stats.native.is_empty());
        let closed = self.log.writer.finish(end.status());
        reap_all();
        self.policy.stats.buffered_calls = closed?;
        Ok(Summary {
            events,
            failed_checkpoints,
            crashes: self.log.crashes,
            stats: self.policy.stats,
        })
    }

    /// Ends a recording that failed: kills everything, and closes the trace without an end mark, so
    /// that it counts as incomplete. Everything recorded before can be replayed (I5).
    pub fn abort(mut self) {
        self.checkpoints.abandon();
        kill_all(&mut self);
        drop(self.log.writer);
        reap_all();
    }
}

fn kill_all(session: &mut RecordSession) {
    session
        .world
        .tasks
        .values()
        .for_each(|task| rr_tracee::task::kill(task.tid));
    session.checkpoints.kill_forks();
    // Kill unknown tracees, too. (If the machine has many processes, looking for tracees takes
    // long.)
    if rr_tracee::task::any_left() {
        for tracee in procfs::tracees_of(Tid(std::process::id() as i32)) {
            rr_tracee::task::kill(tracee);
        }
    }
}

/// Lets killed tracees die: they stop once more on their way. A tracee that does not die in this time
/// dies when rr exits.
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
