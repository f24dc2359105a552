//! Errors that end a replay early.

use std::fmt;

use rr_trace::event::{Event, EventNumber};
use rr_tracee::{Registers, Tid};

use crate::position::Position;

/// Result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The replay cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The replay differs from the recording (I7).
    #[error(transparent)]
    Divergence(Box<Divergence>),
    /// A replayed task could not be handled.
    #[error("at event {event}: a replayed task could not be handled")]
    Tracee {
        /// The event that was being replayed.
        event: EventNumber,
        /// The failure.
        source: rr_tracee::Error,
    },
    /// The trace could not be read.
    #[error(transparent)]
    Trace(#[from] rr_trace::Error),
    /// The checkpoint could not be read.
    #[error(transparent)]
    Checkpoint(#[from] rr_checkpoint::Error),
    /// The kernel refused something that replay needs.
    #[error("{what}")]
    Os {
        /// The operation that failed.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A checkpoint can be stored only at an event, and the replay is inside an interval.
    #[error("a checkpoint can be stored only at an event, and this is inside an interval ({here})")]
    InsideInterval {
        /// The position of the replay, which includes the event before.
        here: Box<Position>,
    },
    /// No task is left that a checkpoint could hold.
    #[error("after event {event} no task is left: there is nothing to store")]
    NoTask {
        /// The event.
        event: EventNumber,
    },
    /// The trace has fewer events than were requested.
    #[error("the trace ends at event {event}, before event {wanted}")]
    Ended {
        /// The last event of the trace.
        event: EventNumber,
        /// The requested event.
        wanted: EventNumber,
    },
    /// The beginning of the trace was deleted, and there is no checkpoint to start from.
    #[error("the recording begins with event {first}, and no checkpoint before event {event} can be used")]
    NoStart {
        /// The first event of the trace.
        first: EventNumber,
        /// The requested event.
        event: EventNumber,
    },
    /// A replay was to start at the first event of a trace that has lost it.
    #[error(
        "the recording has lost its beginning (rr record --keep-last): it begins with event {first}, and a replay starts at a checkpoint"
    )]
    NoBeginning {
        /// The first event of the trace.
        first: EventNumber,
    },
    /// The clock that a search is interrupted by could not be started.
    #[error(transparent)]
    Ticker(#[from] rr_tracee::ticker::NoTicker),
    /// A named place of the timeline was not found: a fault of rr.
    #[error("the replay is at {here} and does not come to {goal}; this is a fault of rr")]
    Lost {
        /// The place.
        goal: String,
        /// The position of the replay.
        here: String,
    },
    /// A place where the user has interrupted a task, and whose state has been forgotten since.
    #[error(
        "the place where the task was interrupted ({goal}) is not known any more: only the last ones are"
    )]
    Forgotten {
        /// The place.
        goal: String,
    },
    /// A `cpuid` in unknown code is found by a debug register, and watchpoints hold them all.
    #[error(
        "event {event} is a cpuid that is found by a debug register, and watchpoints take all four: delete one"
    )]
    NoDebugRegister {
        /// The event.
        event: EventNumber,
    },
    /// The trace needs another processor.
    #[error("this processor cannot replay what was recorded on {model}: {why}")]
    Machine {
        /// What is missing here.
        why: String,
        /// The processor of the recording.
        model: String,
    },
    /// The trace contains something impossible.
    #[error("at event {event}: {what}; the trace is damaged or was made by a faulty recorder")]
    BadTrace {
        /// The event.
        event: EventNumber,
        /// The impossible contents.
        what: String,
    },
}

/// The report of a divergence.
#[derive(Debug)]
pub struct Divergence {
    /// The event that did not come out as recorded.
    pub event: EventNumber,
    /// The recorded task.
    pub tid: Tid,
    /// The recorded behaviour.
    pub expected: String,
    /// The replayed behaviour.
    pub seen: String,
    /// Registers that differ: name, recorded value, replayed value.
    pub registers: Vec<(&'static str, u64, u64)>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the replay diverged at event {} (task {})",
            self.event, self.tid
        )?;
        writeln!(f, "  recorded: {}", self.expected)?;
        write!(f, "  replayed: {}", self.seen)?;
        for (name, recorded, seen) in &self.registers {
            write!(f, "\n  {name}: recorded {recorded:#x}, replayed {seen:#x}")?;
        }
        write!(
            f,
            "\n  Something reached the program that was not recorded. `rr verify` finds the first checkpoint after \
             which memory differs; please report it with the output of `rr dump` around this event."
        )
    }
}

impl std::error::Error for Divergence {}

/// A difference between registers, as a divergence.
pub(crate) fn register_divergence(
    event: EventNumber,
    tid: Tid,
    what: &str,
    recorded: &Registers,
    seen: &Registers,
) -> Error {
    let registers = recorded.differences(seen);
    let expected = format!("{what} at {:#x}", recorded.rip);
    let seen = format!("{what} at {:#x}", seen.rip);
    Error::Divergence(Box::new(Divergence {
        event,
        tid,
        expected,
        seen,
        registers,
    }))
}

/// An operation on the event's task has failed.
pub(crate) fn failed(event: &Event, source: rr_tracee::Error) -> Error {
    Error::Tracee {
        event: event.number,
        source,
    }
}

/// The error for impossible contents of this event.
pub(crate) fn bad(event: &Event, what: &str) -> Error {
    Error::BadTrace {
        event: event.number,
        what: format!("{what} (task {})", event.tid),
    }
}
