//! One run of the test under `rr record`, in a process of its own.
//!
//! The runner of the test sends its signals to `rr ci`: those are passed on to the recorder, which passes them on to the test.
//! Everybody in the foreground has got the terminal's signals already. If `rr ci` is killed, the recorder gets a SIGTERM
//! (`PR_SET_PDEATHSIG`, prctl(2)), and ends the test within its five seconds.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

use super::artifact::Place;
use crate::interval::Checkpoints;
use crate::outcome::Outcome;
use crate::started;

/// Signals that are passed on.
const PASSED_ON: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];
/// Those after which no further run begins.
const ENDING: [Signal; 4] = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT];
/// The time after its limit at which a recorder that has not ended is killed.
const GRACE: Duration = Duration::from_secs(30);

/// The signals of `rr ci`: blocked, and waited for.
pub struct Signals {
    before: SigSet,
    set: SigSet,
    end_was_asked: AtomicBool,
}

impl Signals {
    /// Blocks them.
    pub fn block() -> Result<Signals> {
        let mut set: SigSet = PASSED_ON.into_iter().collect();
        set.add(Signal::SIGCHLD);
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before)).context("blocking signals")?;
        Ok(Signals {
            before,
            set,
            end_was_asked: AtomicBool::new(false),
        })
    }

    /// Lets them come as before.
    pub fn unblock(&self) {
        // A mask that the kernel has given is a valid one.
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }

    /// Says if somebody has asked for the end.
    pub fn end_was_asked(&self) -> bool {
        self.end_was_asked.load(Ordering::Relaxed)
    }

    /// Says if a signal waits that asks for the end.
    pub fn end_is_pending(&self) -> bool {
        // SAFETY: an all-zero set is a valid one, to be filled.
        let mut pending: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is valid. The signals are blocked, and so stay pending until they are waited for.
        let read = unsafe { libc::sigpending(&mut pending) };
        // SAFETY: the set is valid.
        let is_in = |signal: &Signal| unsafe { libc::sigismember(&pending, *signal as i32) == 1 };
        read == 0 && ENDING.iter().any(is_in)
    }

    /// Waits for one of them until a time. The second value: the kernel sent it, on behalf of a terminal.
    fn wait(&self, until: Option<Instant>) -> Option<(Signal, bool)> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let time = left.map(|left| libc::timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: an all-zero siginfo_t is a valid one, to be filled.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set and `info` are valid, and `time` is valid or null.
        let signal = unsafe { libc::sigtimedwait(self.set.as_ref(), &mut info, time) };
        let signal = Signal::try_from(signal).ok()?;
        Some((signal, info.si_code == libc::SI_KERNEL))
    }

    /// Waits for the end of a child and passes signals on meanwhile. At `deadline` the child is killed.
    fn wait_for(&self, child: &mut Child, deadline: Option<Instant>) -> Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait().context("waiting for the recorder")? {
                return Ok(status);
            }
            match self.wait(deadline) {
                Some((Signal::SIGCHLD, _)) => {}
                Some((signal, from_terminal)) => {
                    if ENDING.contains(&signal) {
                        self.end_was_asked.store(true, Ordering::Relaxed);
                    }
                    if !from_terminal {
                        // SAFETY: plain numbers; the child is not reaped yet.
                        unsafe { libc::kill(child.id() as i32, signal as i32) };
                    }
                }
                None if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    eprintln!("rr: the recording does not end, and is killed");
                    child.kill().context("killing the recorder")?;
                    return child.wait().context("waiting for the recorder");
                }
                None => {}
            }
        }
    }
}

/// A run to be made.
pub struct Attempt<'a> {
    /// The place of its trace.
    pub place: &'a Place,
    /// The test and its arguments.
    pub test: &'a [OsString],
    /// Checkpoints.
    pub checkpoints: Checkpoints,
    /// Its time limit.
    pub timeout: Option<Duration>,
    /// The seed of its schedule.
    pub seed: Option<u64>,
}

/// The end of an attempt.
pub enum Ended {
    /// It was recorded.
    Recorded(Outcome),
    /// Somebody asked for the end, and the recording was not closed in order: the recorder's wait status.
    Asked(i32),
    /// The recording failed.
    NotRecorded,
}

impl Attempt<'_> {
    /// Makes it.
    pub fn run(&self, signals: &Signals) -> Result<Ended> {
        let outcome = self.place.outcome();
        let rr = std::env::current_exe().context("rr does not find itself")?;
        let mut command = Command::new(rr);
        command.arg("record");
        command
            .arg("--checkpoint-interval")
            .arg(self.checkpoints.to_string());
        command.arg("--outcome").arg(&outcome);
        command.arg("-o").arg(self.place.trace());
        if let Some(timeout) = self.timeout {
            command.arg("--timeout").arg(format!("{}ms", timeout.as_millis()));
        }
        if let Some(seed) = self.seed {
            command.arg("--chaos-seed").arg(seed.to_string());
        }
        command.arg("--").args(self.test);
        started::restore_broken_pipe(&mut command);
        let before = signals.before;
        // SAFETY: two system calls, allowed between fork and exec.
        unsafe {
            command.pre_exec(move || {
                pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout + GRACE);
        let mut child = command.spawn().context("cannot start the recorder")?;
        let status = signals.wait_for(&mut child, deadline)?;
        let was_killed = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        match Outcome::read(&outcome) {
            Ok(outcome) => Ok(Ended::Recorded(outcome)),
            // The part that was recorded until then can be replayed.
            Err(_) if was_killed => Ok(Ended::Recorded(Outcome {
                exit_code: None,
                signal: Some(libc::SIGKILL),
                timed_out: true,
                events: 0,
                crashes: Vec::new(),
            })),
            Err(_) if signals.end_was_asked() => {
                use std::os::unix::process::ExitStatusExt;
                Ok(Ended::Asked(status.into_raw()))
            }
            Err(_) => Ok(Ended::NotRecorded),
        }
    }
}
