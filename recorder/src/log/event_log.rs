//! The event log: the trace that is written, the number and time of the last event, the entries that are held back.

use std::time::Duration;

use rr_trace::TraceWriter;
use rr_trace::event::{Disposition, EventKind, EventNumber};
use rr_tracee::{Tid, tsc};

use crate::error::Result;
use crate::log::crash::{CRASHES, Crash, dumps_core};
use crate::log::pending::PendingEntry;

/// The events of a recording.
pub(crate) struct EventLog {
    pub writer: TraceWriter,
    /// Time at which the recording began ([`tsc::now`]).
    pub started: Duration,
    /// The last event.
    pub number: EventNumber,
    pub last_time_ns: u64,
    /// Tasks that entered a system call whose `SyscallEnter` is not recorded yet, in order of their intervals.
    pub entries: Vec<PendingEntry>,
    /// The signals that killed processes, the first [`CRASHES`] of them.
    pub crashes: Vec<Crash>,
}

impl EventLog {
    /// The log of a recording that begins now.
    pub fn new(writer: TraceWriter) -> EventLog {
        EventLog {
            writer,
            started: tsc::now(),
            number: EventNumber(0),
            last_time_ns: 0,
            entries: Vec::new(),
            crashes: Vec::new(),
        }
    }
}

impl EventLog {
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

    /// The number of the last event.
    pub fn last_event(&self) -> EventNumber {
        self.number
    }

    pub(crate) fn stored_bytes(&self) -> u64 {
        self.writer.stored_bytes()
    }

    pub(crate) fn last_time_ns(&self) -> u64 {
        self.last_time_ns
    }

    pub(crate) fn start_segment(&mut self) -> Result<()> {
        Ok(self.writer.start_segment()?)
    }

    /// The event that will record a system call entered now, the whole call or only its entry. Earlier
    /// entries that are not recorded yet come first.
    pub(crate) fn next_entry(&self) -> EventNumber {
        let events = self.entries.iter().map(PendingEntry::events).sum::<u64>();
        EventNumber(self.number.0 + events + 1)
    }

    /// Time since the last event of any task. No other task has executed user code since.
    pub(crate) fn since_last_event(&self) -> Duration {
        self.now()
            .saturating_sub(Duration::from_nanos(self.last_time_ns()))
    }

    /// The time since the recording began.
    pub(crate) fn now(&self) -> Duration {
        tsc::now() - self.started
    }
}
