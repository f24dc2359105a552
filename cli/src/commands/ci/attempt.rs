//! One run of the test, recorded by a process of its own: a copy of this one (fork(2)), since to execute rr anew takes about as long
//! as to record a short test.
//!
//! The runner of the test sends its signals to `rr ci`: those are passed on to the recorder, which passes them on to the test.
//! Everybody in the foreground has got the terminal's signals already. If `rr ci` is killed, the recorder gets a SIGTERM
//! (`PR_SET_PDEATHSIG`, prctl(2)), and ends the test within its five seconds.

use std::ffi::OsString;
use std::fs::File;
use std::io::Seek;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use rr_tracee::Tid;
use rr_tracee::cpuid::Level;
use rr_tracee::task::{Report, wait};
use rr_tracee::tsc::Measurement;

use super::place::Place;
use crate::commands::record;
use crate::global::Global;
use crate::interval::Checkpoints;
use crate::outcome::Outcome;

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
    /// Returns the child's wait status.
    fn wait_for(&self, child: Tid, deadline: Option<Instant>) -> Result<i32> {
        let status_of = |report: Option<Report>| {
            let report = report.with_context(|| format!("waiting for the recorder: {}", Errno::last()));
            Ok(report?.status)
        };
        loop {
            match wait(Some(child), true) {
                None if Errno::last_raw() == 0 => {}
                report => return status_of(report),
            }
            match self.wait(deadline) {
                Some((Signal::SIGCHLD, _)) => {}
                Some((signal, from_terminal)) => {
                    if ENDING.contains(&signal) {
                        self.end_was_asked.store(true, Ordering::Relaxed);
                    }
                    if !from_terminal {
                        // SAFETY: plain numbers; the child is not reaped yet.
                        unsafe { libc::kill(child.0, signal as i32) };
                    }
                }
                None if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    eprintln!("rr: the recording does not end, and is killed");
                    rr_tracee::task::kill(child);
                    return status_of(wait(Some(child), false));
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
    /// The level that its trace is to be replayed on.
    pub portable: Option<Level>,
    /// The time-stamp counter when rr began.
    pub measurement: Measurement,
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
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout + GRACE);
        let (child, mut outcome) = match self.start(signals) {
            Ok(started) => started,
            Err(e) => {
                eprintln!("rr: {}", crate::error_text::of(&e));
                return Ok(Ended::NotRecorded);
            }
        };
        let status = signals.wait_for(child, deadline)?;
        let was_killed = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        outcome.rewind().context("reading the outcome")?;
        match Outcome::read(outcome) {
            Ok(outcome) => Ok(Ended::Recorded(outcome)),
            // The part that was recorded until then can be replayed.
            Err(_) if was_killed => Ok(Ended::Recorded(Outcome {
                exit_code: None,
                signal: Some(libc::SIGKILL),
                timed_out: true,
                events: 0,
                crashes: Vec::new(),
            })),
            Err(_) if signals.end_was_asked() => Ok(Ended::Asked(status)),
            Err(_) => Ok(Ended::NotRecorded),
        }
    }

    /// Starts the recorder. Returns it, and the file into which it writes how the run ended.
    fn start(&self, signals: &Signals) -> Result<(Tid, File)> {
        // Not a file on a disk: ext4 writes such a file out when it is closed, and the next run waits for that.
        let outcome = memfd_create(c"outcome", MFdFlags::MFD_CLOEXEC).map(File::from);
        let outcome = outcome.context("making room for the outcome")?;
        let for_recorder = outcome.try_clone().context("making room for the outcome")?;
        let options = record::Options::of_test(self.words(), for_recorder)?;
        wait_until_alone()?;
        // SAFETY: this process has one thread, so that its copy can do anything.
        match unsafe { libc::fork() } {
            -1 => Err(Errno::last()).context("cannot start the recorder"),
            0 => record_and_exit(options, self.measurement, signals),
            child => Ok((Tid(child), outcome)),
        }
    }

    /// The words behind `rr record`.
    fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![
            "--checkpoint-interval".into(),
            self.checkpoints.to_string().into(),
            "-o".into(),
            self.place.trace().into(),
        ];
        if let Some(timeout) = self.timeout {
            words.extend(["--timeout".into(), format!("{}ms", timeout.as_millis()).into()]);
        }
        if let Some(seed) = self.seed {
            words.extend(["--chaos-seed".into(), seed.to_string().into()]);
        }
        if let Some(level) = self.portable {
            words.push(format!("--portable={level}").into());
        }
        words.push("--".into());
        words.extend_from_slice(self.test);
        words
    }
}

/// Waits until this process has one thread: those that have read the recording of an earlier run end by themselves.
fn wait_until_alone() -> Result<()> {
    /// The links of a directory without entries (proc(5)): `task` has one more for each thread.
    const EMPTY: u64 = 2;
    const MOST: Duration = Duration::from_secs(10);
    let deadline = Instant::now() + MOST;
    while std::fs::metadata("/proc/self/task")
        .context("counting threads")?
        .nlink()
        > EMPTY + 1
    {
        anyhow::ensure!(
            Instant::now() < deadline,
            "a thread of an earlier run does not end"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The recorder: a copy of `rr ci`, of which it ends nothing and closes nothing.
fn record_and_exit(options: record::Options, measurement: Measurement, signals: &Signals) -> ! {
    /// The exit status of a Rust program that has panicked.
    const PANICKED: u8 = 101;
    let run = || {
        signals.unblock();
        // SAFETY: prctl with plain numbers.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
        record::record(options, &Global::default(), measurement).unwrap_or_else(|e| {
            eprintln!("rr: {}", crate::error_text::of(&e));
            1
        })
    };
    let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    std::process::exit(status.unwrap_or(PANICKED).into())
}
