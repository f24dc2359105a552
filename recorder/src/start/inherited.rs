//! State that rr inherits and changes for itself. The recorded program gets it back unchanged.
//!
//! rr blocks the signals that ask it for something (a thread waits for them, see `terminate`), ignores those
//! that a terminal also sends to the program, and raises its own limit of open files. All this is
//! inherited through `fork` and `exec`. So rr notes the state before, and restores it between the two.

use std::mem::size_of;

/// Signals that ask rr to end, or for a snapshot.
pub(crate) const ASKING: [i32; 3] = [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1];

/// Signals that rr ignores: those that a terminal sends to rr and to the program, and that of the limit
/// of file sizes, which rr treats as an error like a full disk.
const NOT_OURS: [i32; 3] = [libc::SIGINT, libc::SIGQUIT, libc::SIGXFSZ];

/// Signals that have a handler in rr (`rr_tracee::tsc`).
const HANDLED: [i32; 1] = [libc::SIGSEGV];

/// Size of the kernel's signal set in bytes.
const SIGSET_BYTES: usize = size_of::<u64>();

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// The signals of [`ASKING`] as the kernel's set.
pub(crate) fn asking_set() -> u64 {
    ASKING.iter().map(|signal| bit(*signal)).sum()
}

/// The state that the program gets back.
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    /// The signal mask, bit n−1 for signal n.
    mask: u64,
    /// The ignored signals, among those that rr or Rust's runtime change.
    ignored: u64,
    /// The limit of open files.
    files: libc::rlimit,
}

impl Inherited {
    /// Notes the state, and changes it for rr. Must be called before there are threads, which inherit
    /// the mask.
    ///
    /// `broken_pipe_ignored`: true if `SIGPIPE` was ignored when rr was started (Rust's runtime always
    /// ignores it).
    pub fn take(broken_pipe_ignored: bool) -> Inherited {
        let mut inherited = Inherited {
            mask: 0,
            ignored: 0,
            files: raise_file_limit(),
        };
        if broken_pipe_ignored {
            inherited.ignored |= bit(libc::SIGPIPE);
        }
        for signal in ASKING.into_iter().chain(NOT_OURS).chain(HANDLED) {
            if is_ignored(signal) {
                inherited.ignored |= bit(signal);
            }
        }
        // Ignored signals need no attention (`nohup rr record …`).
        let blocked = asking_set() & !inherited.ignored;
        set_mask(libc::SIG_BLOCK, blocked, &mut inherited.mask);
        for signal in NOT_OURS {
            // SAFETY: setting a disposition to "ignore" runs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        inherited
    }

    /// Restores everything in the child that becomes the program. Async-signal-safe.
    pub(crate) fn restore(&self) {
        for signal in ASKING
            .into_iter()
            .chain(NOT_OURS)
            .chain(HANDLED)
            .chain([libc::SIGPIPE])
        {
            let action = if self.ignored & bit(signal) != 0 {
                libc::SIG_IGN
            } else {
                libc::SIG_DFL
            };
            // SAFETY: neither disposition runs code of ours.
            unsafe { libc::signal(signal, action) };
        }
        // SAFETY: the limit is a valid one: it was ours.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &self.files) };
        set_mask(libc::SIG_SETMASK, self.mask, &mut 0);
    }
}

/// Raises the limit of open files to its maximum, because every shared memory object and many tasks
/// take a descriptor. Returns the old limit.
pub fn raise_file_limit() -> libc::rlimit {
    let mut before = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: both calls get a valid rlimit. A failure leaves things as they are.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut before) == 0 {
            let raised = libc::rlimit {
                rlim_cur: before.rlim_max,
                ..before
            };
            libc::setrlimit(libc::RLIMIT_NOFILE, &raised);
        }
    }
    before
}

/// Returns whether this process ignores a signal.
fn is_ignored(signal: i32) -> bool {
    // SAFETY: an all-zero sigaction is a valid one, and the call only fills it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Changes the signal mask of the calling thread by the system call, which knows all 64 signals (glibc
/// hides two).
fn set_mask(how: i32, set: u64, before: &mut u64) {
    // SAFETY: both sets are words of the size given.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            how,
            &raw const set,
            std::ptr::from_mut(before),
            SIGSET_BYTES,
        )
    };
}
