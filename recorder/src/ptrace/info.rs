//! The siginfo of signals and stops that the recorder makes instead of the kernel (sigaction(2),
//! ptrace(2)).

use std::os::unix::fs::MetadataExt;

use rr_tracee::pid_namespace::{Vpid, number_for};
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

/// A stop of `tid` with `code`: an event. The kernel gives the task's number in the task's own namespace.
pub(super) fn event(tid: Tid, code: i32) -> SigInfo {
    sent(code & 0x7f, code, tid, tid)
}

/// The trap after a step, at this address.
pub(super) fn stepped(at: u64) -> SigInfo {
    siginfo_at(libc::SIGTRAP, libc::TRAP_BRKPT, Addr(at))
}

/// A signal that `by` sends to `to`.
pub(super) fn sent(signal: i32, code: i32, by: Tid, to: Tid) -> SigInfo {
    from(signal, code, number_for(to, by), uid(by))
}

/// The contents of a tracer's `SIGCHLD` or waitid(2) about its tracee, which has this number for the tracer.
pub(super) fn child((tid, number): (Tid, Vpid), code: i32, status: i32) -> SigInfo {
    let mut info = from(libc::SIGCHLD, code, number, uid(tid));
    put(&mut info, 24, status);
    info
}

fn from(signal: i32, code: i32, sender: Vpid, user: u32) -> SigInfo {
    let mut info = siginfo(signal, code);
    put(&mut info, 16, sender.0);
    put(&mut info, 20, user as i32);
    info
}
