//! The end of a recording.
//!
//! No tracee outlives the recording, and the end mark comes last: a trace with an end mark is whole,
//! including its last checkpoint.

use std::time::{Duration, Instant};

use rr_trace::event::{Disposition, EventKind, EventNumber};
use rr_tracee::task::{Resume, Waited, wait};
use rr_tracee::{Running, Tid, procfs};

use crate::error::Result;
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

/// A signal that killed a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crash {
    /// The event of the signal.
    pub event: EventNumber,
    /// The thread that got the signal.
    pub tid: Tid,
    /// The signal.
    pub signal: i32,
}

/// Maximum number of crashes that are listed.
const CRASHES: usize = 100;

/// Returns whether a signal dumps core by default (signal(7), "Standard signals").
fn dumps_core(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGQUIT
            | libc::SIGILL
            | libc::SIGTRAP
            | libc::SIGABRT
            | libc::SIGBUS
            | libc::SIGFPE
            | libc::SIGSEGV
            | libc::SIGXCPU
            | libc::SIGXFSZ
            | libc::SIGSYS
    )
}

impl RecordSession {
    /// The end of the recording, if there is nothing left to record.
    pub(crate) fn end(&self) -> Option<End> {
        let program = self
            .root_status
            .filter(|_| !self.options.wait_for_all || self.tasks.is_empty());
        match program {
            Some(status) => Some(End::Program(status)),
            // Only at an event, which is a place that replay can find again.
            None if self.is_time_over() && !self.is_mid_interval() => Some(End::TimeLimit),
            None => None,
        }
    }

    /// Returns whether the time limit is reached.
    pub(crate) fn is_time_over(&self) -> bool {
        self.options.time_limit.is_some_and(|limit| self.now() >= limit)
    }

    /// Returns whether the task that ran last has run since its last event.
    fn is_mid_interval(&self) -> bool {
        self.tasks
            .get(&self.current)
            .is_some_and(|t| t.ran && t.call.is_none())
    }

    /// Notes the signal of an event that kills a process.
    pub(crate) fn note_crash(&mut self, kind: &EventKind, event: EventNumber, tid: Tid) {
        if let EventKind::Signal {
            signo,
            disposition: Disposition::Fatal,
            ..
        } = kind
            && dumps_core(*signo)
            && self.crashes.len() < CRASHES
        {
            self.crashes.push(Crash {
                event,
                tid,
                signal: *signo,
            });
        }
    }

    /// Ends the recording: kills remaining tasks, and closes the trace.
    pub fn finish(mut self, end: End) -> Result<Summary> {
        if end == End::TimeLimit {
            // Replay shows the blocked tasks in their calls.
            self.flush_entries()?;
        }
        // The writer may be reading from a task that still exists.
        let failed_checkpoints = self.capture.finish();
        self.kill_all();
        // The trace is whole only if its last checkpoint is. So the end mark comes last.
        let events = self.number;
        self.stats.events = events.0;
        self.stats.all_stops = rr_tracee::task::reports();
        let closed = self.writer.finish(end.status());
        reap_all();
        self.stats.buffered_calls = closed?;
        Ok(Summary {
            events,
            failed_checkpoints,
            crashes: self.crashes,
            stats: self.stats,
        })
    }

    /// Ends a recording that failed: kills everything, and closes the trace without an end mark, so
    /// that it counts as incomplete. Everything recorded before can be replayed (I5).
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
        // Kill unknown tracees, too. (If the machine has many processes, looking for tracees takes
        // long.)
        if rr_tracee::task::any_left() {
            for tracee in procfs::tracees_of(Tid(std::process::id() as i32)) {
                rr_tracee::task::kill(tracee);
            }
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
