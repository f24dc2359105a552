//! A call as filters see it, and the filters' answer to it.

use rr_tracee::Registers;

use crate::seccomp::run::Words;

/// Answer of filters, or of strict mode, to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Strict mode does not allow the call.
    Strict,
    /// The process dies.
    KillProcess,
    /// The thread dies.
    KillThread,
    /// The task gets a `SIGSYS` with this number.
    Trap(u16),
    /// The call fails with this error.
    Errno(u16),
    /// Another process decides. There is no such process, because rr does not let programs install a
    /// listener.
    Notify,
    /// The task's tracer decides, and gets this number.
    Trace(u16),
    /// The call is made.
    Allow,
}

impl Verdict {
    /// Decodes the answer of a filter's program. (rr does not keep the kernel's log of calls.)
    pub(super) fn of(answer: u32) -> Verdict {
        let data = (answer & libc::SECCOMP_RET_DATA) as u16;
        match answer & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_KILL_THREAD => Verdict::KillThread,
            libc::SECCOMP_RET_TRAP => Verdict::Trap(data),
            libc::SECCOMP_RET_ERRNO => Verdict::Errno(data),
            libc::SECCOMP_RET_USER_NOTIF => Verdict::Notify,
            libc::SECCOMP_RET_TRACE => Verdict::Trace(data),
            libc::SECCOMP_RET_LOG | libc::SECCOMP_RET_ALLOW => Verdict::Allow,
            // `SECCOMP_RET_KILL_PROCESS`, and all answers that the kernel does not know.
            _ => Verdict::KillProcess,
        }
    }
}

/// The architecture of a call, as filters see it (`<linux/audit.h>`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Arch {
    /// `AUDIT_ARCH_X86_64`.
    X86_64 = 0xc000_003e,
    /// `AUDIT_ARCH_I386`: a call by `int 0x80`.
    I386 = 0x4000_0003,
}

/// A call as filters see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(super) number: i32,
    pub(super) arch: Arch,
    /// Address after the system call instruction.
    pub(super) instruction_pointer: u64,
    pub(super) args: [u64; 6],
}

impl Asked {
    /// Returns the call at this entry.
    pub(crate) fn at(entry: &Registers, arch: Arch) -> Asked {
        let low = |word: u64| word & 0xffff_ffff;
        Asked {
            number: entry.orig_rax as i32,
            arch,
            instruction_pointer: entry.rip,
            args: match arch {
                Arch::X86_64 => std::array::from_fn(|n| entry.arg(n)),
                Arch::I386 => [entry.rbx, entry.rcx, entry.rdx, entry.rsi, entry.rdi, entry.rbp].map(low),
            },
        }
    }

    /// Returns the words of `struct seccomp_data`: number, architecture, instruction pointer and
    /// arguments, the lower half of each first.
    pub(super) fn words(&self) -> Words {
        let mut words = Words::default();
        words[..2].copy_from_slice(&[self.number as u32, self.arch as u32]);
        let wide = std::iter::once(self.instruction_pointer).chain(self.args);
        for (pair, value) in words[2..].chunks_exact_mut(2).zip(wide) {
            pair.copy_from_slice(&[value as u32, (value >> 32) as u32]);
        }
        words
    }
}

impl Verdict {
    /// Returns the more restrictive of two verdicts, without regard to their numbers; the newer one
    /// (`self`) if the actions are the same.
    pub(super) fn more_restrictive(self, older: Verdict) -> Verdict {
        let rank = |verdict: Verdict| match verdict {
            Verdict::Strict | Verdict::KillProcess => 0,
            Verdict::KillThread => 1,
            Verdict::Trap(_) => 2,
            Verdict::Errno(_) => 3,
            Verdict::Notify => 4,
            Verdict::Trace(_) => 5,
            Verdict::Allow => 6,
        };
        if rank(older) < rank(self) { older } else { self }
    }
}
