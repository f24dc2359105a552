//! The outcome of a recording, for programs: `rr record --outcome FILE` writes it as JSON when the recording has ended in order.

use std::path::Path;

use rr_recorder::{End, Summary};
use serde::{Deserialize, Serialize};

/// The end of a recording. A file that is missing says that the recording itself failed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The exit status of the first process, if it exited.
    pub exit_code: Option<i32>,
    /// The signal that killed the first process.
    pub signal: Option<i32>,
    /// The recording was ended by `--timeout`; the program was killed then.
    pub timed_out: bool,
    /// Events in the trace.
    pub events: u64,
    /// Processes that a signal killed as a crash does, the first hundred.
    pub crashes: Vec<Crash>,
}

/// A process that crashed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Crash {
    /// The event.
    pub event: u64,
    /// The thread that got the signal.
    pub thread: i32,
    /// The signal.
    pub signal: i32,
}

impl Outcome {
    /// Returns the outcome of a recording.
    pub fn new(end: End, summary: &Summary) -> Outcome {
        let status = end.status();
        Outcome {
            exit_code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
            timed_out: end == End::TimeLimit,
            events: summary.events.0,
            crashes: summary
                .crashes
                .iter()
                .map(|crash| Crash {
                    event: crash.event.0,
                    thread: crash.tid.0,
                    signal: crash.signal,
                })
                .collect(),
        }
    }

    /// Writes it into a file.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
    }

    /// Reads it from a file.
    pub fn read(path: &Path) -> std::io::Result<Outcome> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}
