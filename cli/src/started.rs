//! The state in which rr was started, as far as Rust's runtime changes it before `main`: it ignores `SIGPIPE`.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
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

/// Executes a command in place of rr, as a shell does: 127 if there is no such program, 126 if it cannot be executed.
pub fn replace_by(words: &[OsString]) -> ExitCode {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    restore_broken_pipe(&mut command);
    let e = command.exec();
    eprintln!("rr: {}: {e}", OsStr::to_string_lossy(&words[0]));
    ExitCode::from(if e.kind() == std::io::ErrorKind::NotFound {
        127
    } else {
        126
    })
}
