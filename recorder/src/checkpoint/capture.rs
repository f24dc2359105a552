//! The checkpoints of a recording: when one is due ([`Schedule`]), their writer, the frozen forks.
//!
//! Here are the triggers: progress, time, bytes of events. `take` takes a checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rr_checkpoint::schedule::Progress;
use rr_checkpoint::{CheckpointWriter, Interval, Outcome, Schedule, SharedSource};
use rr_trace::event::EventNumber;
use rr_tracee::{SpaceId, Tid};

/// The checkpoints of one recording.
#[derive(Debug, Default)]
pub struct Capture {
    /// The writer of checkpoints. `None` if there are no checkpoints.
    pub(crate) writer: Option<CheckpointWriter>,
    pub(crate) schedule: Option<Schedule>,
    progressed: Progressed,
    /// Time at which a task was interrupted in the middle of an interval for a due checkpoint.
    pub(crate) interrupted: Option<Duration>,
    /// True if the program waits for the writer instead of skipping a checkpoint.
    pub(crate) patient: bool,
    /// Live frozen forks.
    pub(crate) forks: BTreeSet<Tid>,
    /// Processes of the program that have made themselves subreapers.
    pub(crate) subreapers: BTreeSet<Tid>,
    /// Sources that the writer reads, or has read.
    pub(crate) sources: Vec<SharedSource>,
    /// Forks that live on after they were read, and forks that will, by address space ([`baseline`]).
    pub(crate) kept: BTreeMap<SpaceId, Vec<SharedSource>>,
    /// Number of checkpoints that were due but could not be taken.
    skipped: u64,
    /// Number of checkpoints that could not be written.
    failed: u64,
    pub(crate) bytes: Bytes,
}

/// The measures of progress beside events and time.
#[derive(Debug, Default)]
struct Progressed {
    /// Number of buffered calls so far.
    calls: u64,
    /// Total time that the program has slept.
    slept: Duration,
}

/// The events in the trace, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    /// Maximum number from one checkpoint to the next, whatever the schedule says.
    most: Option<u64>,
    pub(crate) now: u64,
    /// At the last checkpoint.
    pub(crate) then: u64,
}

impl Capture {
    /// A recording without checkpoints.
    pub fn off() -> Capture {
        Capture::default()
    }

    /// A checkpoint every `interval`, given to `writer`. If the writer falls behind, checkpoints are
    /// skipped, or the program waits for it (`patient`).
    pub fn every(interval: Interval, writer: CheckpointWriter, patient: bool) -> Capture {
        Capture {
            writer: Some(writer),
            schedule: Some(Schedule::new(interval)),
            patient,
            ..Capture::default()
        }
    }

    /// Makes a checkpoint due also after so many bytes of events in the trace.
    pub fn with_most_bytes(mut self, bytes: Option<u64>) -> Capture {
        self.bytes.most = bytes;
        self
    }

    /// Returns whether the events since the last checkpoint take so many bytes that one is due.
    pub(crate) fn is_much(&self) -> bool {
        let Bytes { most, now, then } = self.bytes;
        most.is_some_and(|most| now - then >= most)
    }

    /// Returns whether checkpoints are taken at all.
    pub(crate) fn is_on(&self) -> bool {
        self.writer.is_some()
    }

    /// Counts buffered calls.
    pub(crate) fn count_calls(&mut self, calls: u64) {
        self.progressed.calls += calls;
    }

    /// Counts time that the program has slept.
    pub(crate) fn count_sleep(&mut self, time: Duration) {
        self.progressed.slept += time;
    }

    /// Number of buffered calls until a checkpoint is due, if calls make it due. If a checkpoint is due
    /// already but could not be taken at the last event, it is tried again after a few calls.
    pub(crate) fn calls_left(&self, last: EventNumber) -> Option<u64> {
        let left = self.schedule.as_ref()?.calls_left(self.progress(last, 0))?;
        Some(if left == 0 { self.slack().max(1) } else { left })
    }

    /// Error that libraries' counts may have.
    pub(crate) fn slack(&self) -> u64 {
        self.schedule.as_ref().map_or(0, Schedule::slack)
    }

    /// Called when a task has executed user code without an event until `now` (since the recording
    /// began). Returns whether the task must be interrupted for a checkpoint: once for each checkpoint.
    pub(crate) fn must_interrupt(&mut self, now: Duration) -> bool {
        let time = now.saturating_sub(self.progressed.slept);
        let is_due = self.schedule.as_ref().is_some_and(|s| s.is_time(time));
        let is_wanted = is_due && self.interrupted.is_none();
        if is_wanted {
            self.interrupted = Some(now);
        }
        is_wanted
    }

    /// Waits until the checkpoint writer has read all frozen processes.
    pub(crate) fn wait_until_read(&self) {
        if let Some(writer) = &self.writer {
            writer.wait_until_read();
        }
    }

    pub(crate) fn progress(&self, last: EventNumber, time_ns: u64) -> Progress {
        Progress {
            events: last.0,
            calls: self.progressed.calls,
            time: Duration::from_nanos(time_ns).saturating_sub(self.progressed.slept),
        }
    }

    /// Number of checkpoints skipped because the writer was behind or a process could not be forked.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Skips a checkpoint that was due.
    pub(crate) fn miss(&mut self, now: Progress) {
        self.skipped += 1;
        self.bytes.then = self.bytes.now;
        if let Some(schedule) = &mut self.schedule {
            schedule.missed(now);
        }
    }

    /// Counts the checkpoints that could not be written. The outcomes do not pile up in a long recording.
    pub(crate) fn note_outcomes(&mut self) {
        if let Some(writer) = &mut self.writer {
            self.failed += failures(&writer.poll_done());
        }
    }

    /// Waits for the writer. Returns the number of checkpoints that could not be written.
    pub(crate) fn finish(&mut self) -> u64 {
        // An adaptive schedule has promised no number of checkpoints.
        let is_promised = self.schedule.as_ref().is_some_and(|s| !s.is_adaptive());
        if self.skipped > 0 && is_promised {
            tracing::warn!(
                "{} checkpoints were skipped: the writer was behind or a fork failed",
                self.skipped
            );
        }
        match self.writer.take().map(CheckpointWriter::finish) {
            Some(Ok(summary)) => self.failed += failures(&summary.outcomes),
            Some(Err(e)) => tracing::warn!("{e}"),
            None => {}
        }
        self.failed
    }

    /// Gives up checkpoints that are not written yet.
    pub(crate) fn abandon(&mut self) {
        // The writer ends early when it is dropped.
        self.writer = None;
    }
}

fn failures(outcomes: &[Outcome]) -> u64 {
    outcomes.iter().filter(|outcome| outcome.result.is_err()).count() as u64
}
