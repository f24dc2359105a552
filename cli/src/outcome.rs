//! The outcome of a recording, for programs: `rr record --outcome FILE` writes it as JSON when the recording has ended in order.

use std::io::{self, Read, Write};

use rr_recorder::{End, Summary};
use serde::{Deserialize, Serialize};

use crate::signals;

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

    /// Says why the program counts as failed. `None` if it has succeeded.
    pub fn failure(&self) -> Option<String> {
        match self {
            Outcome { timed_out: true, .. } => Some("time-out".into()),
            Outcome {
                signal: Some(signal), ..
            } => Some(format!("killed by {}", signals::name(*signal))),
            Outcome {
                exit_code: Some(code),
                ..
            } if *code != 0 => Some(format!("exit status {code}")),
            Outcome { crashes, .. } => crashes.first().map(|crash| {
                let more = match crashes.len() {
                    1 => String::new(),
                    n => format!(", and {} more", n - 1),
                };
                format!(
                    "thread {} was killed by {}{more}",
                    crash.thread,
                    signals::name(crash.signal)
                )
            }),
        }
    }

    /// The first process's wait status.
    pub fn wait_status(&self) -> i32 {
        match (self.signal, self.exit_code) {
            (Some(signal), _) => signal,
            (None, code) => (code.unwrap_or(0) & 0xff) << 8,
        }
    }

    /// Writes it into a file.
    pub fn write(&self, mut file: impl Write) -> io::Result<()> {
        file.write_all(&serde_json::to_vec_pretty(self)?)
    }

    /// Reads it from a file.
    pub fn read(file: impl Read) -> io::Result<Outcome> {
        Ok(serde_json::from_reader(file)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            exit_code: Some(0),
            signal: None,
            timed_out: false,
            events: 1,
            crashes: vec![],
        }
    }

    #[test]
    fn a_failure_is_a_status_a_signal_a_time_out_or_a_crash() {
        let crash = |thread, signal| Crash {
            event: 1,
            thread,
            signal,
        };
        let of = |outcome: Outcome| outcome.failure();
        assert_eq!(of(outcome()), None);
        assert_eq!(
            of(Outcome {
                exit_code: Some(3),
                ..outcome()
            })
            .unwrap(),
            "exit status 3"
        );
        let killed = Outcome {
            exit_code: None,
            signal: Some(libc::SIGSEGV),
            ..outcome()
        };
        assert_eq!(of(killed.clone()).unwrap(), "killed by SIGSEGV");
        assert_eq!(
            of(Outcome {
                timed_out: true,
                ..killed
            })
            .unwrap(),
            "time-out"
        );
        let one = Outcome {
            crashes: vec![crash(7, libc::SIGABRT)],
            ..outcome()
        };
        assert_eq!(of(one).unwrap(), "thread 7 was killed by SIGABRT");
        let two = Outcome {
            crashes: vec![crash(7, libc::SIGABRT), crash(8, libc::SIGSEGV)],
            ..outcome()
        };
        assert_eq!(of(two).unwrap(), "thread 7 was killed by SIGABRT, and 1 more");
    }

    #[test]
    fn the_wait_status_is_that_of_wait() {
        assert_eq!(
            libc::WEXITSTATUS(Outcome::wait_status(&Outcome {
                exit_code: Some(3),
                ..outcome()
            })),
            3
        );
        let killed = Outcome {
            exit_code: None,
            signal: Some(11),
            ..outcome()
        };
        assert!(libc::WIFSIGNALED(killed.wait_status()));
    }
}
