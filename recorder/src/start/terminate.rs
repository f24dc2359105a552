//! Signals to rr while it records: `SIGTERM` and `SIGHUP`, which ask it to end, and `SIGUSR1`, which asks for a snapshot.
//!
//! They are blocked in all threads ([`crate::start::inherited`]). One thread waits for them, so that nothing
//! else is interrupted and no signal gets lost. It passes them on to the program's first process. After
//! `SIGTERM` the program has `PATIENCE` to end. Then all tracees are killed, and the recording ends
//! with their ends recorded. If that does not succeed in the same time (for example, the disk hangs),
//! rr gives up: flushed data can be replayed (I5).
//!
//! `SIGHUP` is only passed on, because many programs use it for another purpose.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rr_tracee::{Tid, procfs};

use crate::error::{Error, Result};
use crate::start::inherited::asking_set;

/// Maximum time of each step.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time between searches for tracees that were created while the others were killed.
const AGAIN: Duration = Duration::from_millis(50);

/// The thread that waits for signals.
#[derive(Debug)]
pub struct Terminator {
    ended: Arc<AtomicBool>,
}

impl Terminator {
    /// Starts the thread for a recording whose first process is `root`. `give_up` must end rr; `snapshot` must return soon.
    pub fn start(
        root: Tid,
        give_up: impl Fn() + Send + 'static,
        snapshot: impl Fn() + Send + 'static,
    ) -> Result<Terminator> {
        let failed = |what, errno| Error::Capability {
            what,
            errno,
            advice: "the machine is short of resources, or its kernel older than Linux 5.3",
        };
        // A descriptor, because the number may belong to another process by then.
        // SAFETY: plain numbers; the result is a new descriptor or -1.
        let root = match unsafe { libc::syscall(libc::SYS_pidfd_open, root.0, 0) } {
            fd if fd < 0 => return Err(failed("pidfd_open", Errno::last())),
            // SAFETY: the descriptor is new and has no other owner.
            fd => unsafe { OwnedFd::from_raw_fd(fd as i32) },
        };
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        std::thread::Builder::new()
            .name("rr-signals".into())
            .spawn(move || run(&root, &seen, &give_up, &snapshot))
            .map_err(|e| {
                failed(
                    "starting a thread",
                    Errno::from_raw(e.raw_os_error().unwrap_or(0)),
                )
            })?;
        Ok(Terminator { ended })
    }

    /// Notes that the program has ended, and the trace is being closed. That may finish, unless rr is
    /// asked to end again.
    pub fn program_ended(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn run(root: &OwnedFd, ended: &AtomicBool, give_up: &dyn Fn(), snapshot: &dyn Fn()) {
    loop {
        let Some((signal, from_terminal)) = wait_for_signal(None) else {
            continue;
        };
        if signal == libc::SIGUSR1 {
            snapshot();
            continue;
        }
        if ended.load(Ordering::Relaxed) {
            std::thread::sleep(PATIENCE);
            give_up();
            return;
        }
        // A terminal's hang-up reaches the whole foreground group. But if we lead the session, it
        // reaches only us.
        // SAFETY: these two take and return plain numbers.
        let have_it_already = from_terminal && unsafe { libc::getsid(0) != libc::getpid() };
        if !have_it_already {
            // SAFETY: a descriptor of ours, a signal number, and no siginfo. The process may be gone
            // already.
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, root.as_raw_fd(), signal, 0usize, 0) };
        }
        if signal == libc::SIGTERM {
            end(ended, give_up);
        }
    }
}

/// Ends the program and the recording, after a `SIGTERM`.
fn end(ended: &AtomicBool, give_up: &dyn Fn()) {
    let until = |deadline: Instant, pause: Duration| {
        if ended.load(Ordering::Relaxed) {
            return false;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        // Further signals of this kind are ignored.
        wait_for_signal(Some(left.min(pause)));
        !left.is_zero()
    };
    let deadline = Instant::now() + PATIENCE;
    while until(deadline, AGAIN) {}
    let deadline = Instant::now() + PATIENCE;
    while until(deadline, AGAIN) {
        for tracee in procfs::tracees_of(Tid(std::process::id() as i32)) {
            rr_tracee::task::kill(tracee);
        }
    }
    if !ended.load(Ordering::Relaxed) {
        give_up();
    }
}

/// Waits for a signal that asks us for something. Also returns whether the kernel sent it, on behalf of a
/// terminal.
fn wait_for_signal(most: Option<Duration>) -> Option<(i32, bool)> {
    let set = asking_set();
    // SAFETY: an all-zero siginfo_t is a valid one, to be filled.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let time = most.map(|most| libc::timespec {
        tv_sec: most.as_secs() as i64,
        tv_nsec: i64::from(most.subsec_nanos()),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the set is a word of the size given, and the other pointers are valid or null.
    let signal = unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const set,
            &raw mut info,
            time,
            size_of::<u64>(),
        )
    };
    (signal > 0).then_some((signal as i32, info.si_code == libc::SI_KERNEL))
}
