//! ^C as a question that long work asks between two steps, so that it can end in order.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int) {
    REQUESTED.store(true, Ordering::Relaxed);
}

/// From now on the first `SIGINT` or `SIGTERM` is only noted; the next one ends the process as ever.
pub fn notice() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores a flag; an all-zero sigaction is a valid one with an empty mask.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &mut action) != 0
                || action.sa_sigaction == libc::SIG_IGN
            {
                continue;
            }
            action.sa_sigaction = note as *const () as usize;
            action.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Says if an interrupt has come.
pub fn is_requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// The end of a command after ^C, with the status that shells have for it; `what` says what became of the command's work.
pub fn ended(what: &str) -> ExitCode {
    eprintln!("rr: interrupted; {what}");
    ExitCode::from(128 + libc::SIGINT as u8)
}

/// Asks whether one has come.
#[derive(Clone, Copy, Debug)]
pub struct Asked;

impl rr_replayer::Interrupt for Asked {
    fn is_requested(&mut self) -> bool {
        is_requested()
    }
}
