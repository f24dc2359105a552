//! System calls that are not made in the 64-bit way: they cannot be recorded, so they are refused (I2).
//!
//! * *32-bit programs* are not executed: `ENOEXEC`, as by a kernel without support for them.
//! * *`int 0x80`* in a 64-bit program enters the kernel with the system call numbers of i386, which
//!   differ from ours. The seccomp filter turns it into a `SIGSYS`, and the program gets `ENOSYS`.

use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use rr_tracee::memory::ReadMemory;
use rr_tracee::task::SigInfo;
use rr_tracee::{Addr, Memory, Registers, Stopped, Tid};

use crate::buffer::control::take_records;
use crate::call::answer::answer_call;
use crate::error::Result;
use crate::policy::warnings::Warning;
use crate::seccomp::Arch;
use crate::seccomp::actions::pass_filters;
use crate::session::RecordSession;
use crate::signal::numbers::SYS_SECCOMP;
use crate::world::next::Next;
use crate::world::paths::seen_by;

/// `AUDIT_ARCH_I386` (`<linux/audit.h>`).
const AUDIT_ARCH_I386: u32 = 0x4000_0003;

/// The code segment of 64-bit programs (`__USER_CS`).
const USER_CS: u64 = 0x33;

/// Maximum depth of interpreters of interpreters that the kernel follows.
const INTERPRETERS: usize = 5;

/// Returns whether a task that executed a program is now in 32-bit mode.
pub(crate) fn is_32_bit(regs: &Registers) -> bool {
    regs.cs != USER_CS
}

/// The registers at the entry of the system call that the seccomp filter has turned into this `SIGSYS`.
pub(crate) fn int80(info: &SigInfo, regs: &Registers) -> Option<Registers> {
    // struct { si_signo, si_errno, si_code, pad, si_call_addr (8 bytes), si_syscall, si_arch }
    let word = |at: usize| [info[at], info[at + 1], info[at + 2], info[at + 3]];
    let trapped = i32::from_ne_bytes(word(0)) == libc::SIGSYS
        && i32::from_ne_bytes(word(8)) == SYS_SECCOMP
        && u32::from_ne_bytes(word(28)) == AUDIT_ARCH_I386;
    trapped.then_some(Registers {
        rax: -i64::from(libc::ENOSYS) as u64,
        orig_rax: u64::from(i32::from_ne_bytes(word(24)) as u32),
        ..*regs
    })
}

/// The file that `execve` or `execveat` names, as a path that we can open.
fn named_file(tid: Tid, entry: &Registers, memory: &Memory) -> Option<PathBuf> {
    let (dir, path, flags) = if entry.syscall() == libc::SYS_execveat {
        (entry.rdi as i32, entry.rsi, entry.r8 as i32)
    } else {
        (libc::AT_FDCWD, entry.rdi, 0)
    };
    let path = memory.read_cstring(Addr(path), libc::PATH_MAX as usize).ok()?;
    let dir = match dir {
        libc::AT_FDCWD => format!("/proc/{tid}/cwd"),
        fd => format!("/proc/{tid}/fd/{fd}"),
    };
    if path.is_empty() {
        return (flags & libc::AT_EMPTY_PATH != 0).then(|| dir.into());
    }
    Some(seen_by(tid, dir.into(), &path))
}

/// Returns whether executing `file` would run a 32-bit program, itself or as an interpreter of scripts.
fn runs_32_bit(tid: Tid, mut file: PathBuf) -> bool {
    const ELF: &[u8] = b"\x7fELF";
    const CLASS_32: u8 = 1;
    for _ in 0..INTERPRETERS {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&file);
        let Ok(opened) = opened else { return false };
        let executable = |m: std::fs::Metadata| m.is_file() && m.permissions().mode() & 0o111 != 0;
        if !opened.metadata().is_ok_and(executable) {
            return false;
        }
        let mut start = Vec::new();
        if opened.take(256).read_to_end(&mut start).is_err() {
            return false;
        }
        if start.starts_with(ELF) {
            return start.get(4) == Some(&CLASS_32);
        }
        let Some(line) = start.strip_prefix(b"#!") else {
            return false;
        };
        let mut words = line
            .split(|b| matches!(b, b' ' | b'\t' | b'\n' | 0))
            .filter(|w| !w.is_empty());
        let Some(interpreter) = words.next() else {
            return false;
        };
        file = seen_by(tid, format!("/proc/{tid}/cwd").into(), interpreter);
    }
    false
}

/// Refuses a call of `execve` that would run a 32-bit program. Otherwise returns the task.
pub(crate) fn refuse_32_bit(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: &Registers,
) -> Result<ControlFlow<Next, Stopped>> {
    let file =
        named_file(tid, entry, &session.world.task(tid)?.memory).filter(|f| runs_32_bit(tid, f.clone()));
    let Some(file) = file else {
        return Ok(ControlFlow::Continue(stopped));
    };
    if session.policy.warnings.is_new(Warning::Program32) {
        let name = std::fs::canonicalize(&file).unwrap_or(file);
        tracing::warn!(
            "the program executes {}, a 32-bit program, which rr cannot record; it is told ENOEXEC",
            name.display()
        );
    }
    answer_call(session, tid, stopped, entry, -i64::from(libc::ENOEXEC), vec![]).map(ControlFlow::Break)
}

/// Refuses a system call made by `int 0x80`, at which the filter has stopped the task.
pub(crate) fn refuse_int80(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: &Registers,
) -> Result<Next> {
    take_records(session, tid)?;
    let (stopped, _) = match pass_filters(session, tid, stopped, entry, Arch::I386, None)? {
        ControlFlow::Continue(passed) => passed,
        ControlFlow::Break(next) => return Ok(next),
    };
    if session.policy.warnings.is_new(Warning::Int80) {
        tracing::warn!(
            "the program makes a 32-bit system call (int 0x80, number {}), which rr cannot record; it is told ENOSYS",
            entry.orig_rax
        );
    }
    answer_call(session, tid, stopped, entry, -i64::from(libc::ENOSYS), vec![])
}
