//! The siginfo of signals and stops that the recorder makes instead of the kernel (sigaction(2),
//! ptrace(2)).

use std::os::unix::fs::MetadataExt;

use rr_tracee::task::{SI_KERNEL, SigInfo, siginfo, siginfo_at};
use rr_tracee::{Addr, Tid};

fn put(info: &mut SigInfo, at: usize, value: i32) {
    info[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

/// The user of a task; root if unknown.
pub(super) fn uid(tid: Tid) -> u32 {
    std::fs::metadata(format!("/proc/{tid}")).map_or(0, |m| m.uid())
}

/// The `SIGSTOP` of `PTRACE_ATTACH`.
pub(super) fn attached() -> SigInfo {
    siginfo(libc::SIGSTOP, SI_KERNEL)
}

/// The `SIGSTOP` of a task that is traced from its birth.
pub(super) fn born() -> SigInfo {
    siginfo(libc::SIGSTOP, libc::SI_USER)
}

/// A stop of `tid` with `code`: an event.
pub(super) fn event(tid: Tid, code: i32) -> SigInfo {
    sent(code & 0x7f, code, tid)
}

/// The trap after a step, at this address.
pub(super) fn stepped(at: u64) -> SigInfo {
    siginfo_at(libc::SIGTRAP, libc::TRAP_BRKPT, Addr(at))
}

/// A signal that `by` sends.
pub(super) fn sent(signal: i32, code: i32, by: Tid) -> SigInfo {
    let mut info = siginfo(signal, code);
    put(&mut info, 16, by.0);
    put(&mut info, 20, uid(by) as i32);
    info
}

/// The contents of a tracer's `SIGCHLD` or waitid(2) about its tracee.
pub(super) fn child(tid: Tid, code: i32, status: i32) -> SigInfo {
    let mut info = sent(libc::SIGCHLD, code, tid);
    put(&mut info, 24, status);
    info
}
