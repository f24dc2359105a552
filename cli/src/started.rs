//! The state in which rr was started, as far as Rust's runtime changes it before `main`: it ignores `SIGPIPE`.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

static IGNORED: AtomicBool = AtomicBool::new(false);

extern "C" fn look() {
    // SAFETY: an all-zero sigaction is a valid one, and the call only fills it.
    let ignored = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), &mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    };
    IGNORED.store(ignored, Ordering::Relaxed);
}

// SAFETY: the C library calls the functions of this section before `main` (System V gABI, "Initialization and
// Termination Functions"); `look` needs nothing of Rust's runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Says if `SIGPIPE` was ignored when rr was started.
pub fn broken_pipe_ignored() -> bool {
    IGNORED.load(Ordering::Relaxed)
}

/// Lets a command find `SIGPIPE` as rr has found it: Rust's library sets it to its default in each new process.
pub fn restore_broken_pipe(command: &mut Command) {
    if broken_pipe_ignored() {
        // SAFETY: signal(2) is allowed between fork and exec, and runs no code of ours.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGPIPE, libc::SIG_IGN);
                Ok(())
            });
        }
    }
}
