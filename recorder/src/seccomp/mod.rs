//! seccomp(2): rr's own filter, and those of recorded programs.
//!
//! rr's own filter ([`ours`]) turns every call of a tracee into a stop. A program's filters are never given to the kernel, because
//! they would answer calls before rr hears of them, and rr's own calls too. The recorder runs them itself, at the entry of each
//! traced call, and does what they say. To replay, a call that they refuse is a call with a result, a signal or an end like any other:
//! so replay knows nothing of filters.
//!
//! ```text
//! call of the program ─► library ─── is the number in the bitmap? ── yes ─► made without a stop, as every filter allows it
//!                           │ no                                           (allowed.rs shows that when a filter is installed)
//!                           ▼
//!                        stop ─► begin_call ─► pass_filters: run.rs ─┬─ allowed: the table says how to record it
//!                                                                    └─ else: actions.rs
//! ```
//!
//! Keeps: what the kernel would have refused is not made; and what rr does on its own account is never subject to a program's filter.
//!
//! | module | concept |
//! |---|---|
//! | [`ours`] | the filter that makes recording possible |
//! | `program` | a filter's program, checked and decoded |
//! | `run` | running it |
//! | `allowed` | calls that a filter allows whatever their arguments |
//! | `install` | the calls by which a program confines itself |
//! | `actions` | what happens to calls that are not allowed |
//! | `vdso` | calls that natively are none |
//! | `shown` | what a program reads of all this in `/proc` |

mod actions;
mod allowed;
mod install;
pub mod ours;
mod program;
mod run;
mod shown;
#[cfg(test)]
mod tests;
mod vdso;

pub use allowed::Allowed;

use std::sync::Arc;

use rr_tracee::Registers;

use program::Program;
use run::Words;

/// What a task has confined itself with. Threads and children inherit it, and exec(2) keeps it.
#[derive(Clone, Debug, Default)]
pub struct Confined {
    /// Its mode.
    pub mode: Mode,
    /// It gets no privileges by exec (`PR_SET_NO_NEW_PRIVS`). For the kernel that can be so for rr's sake.
    pub no_new_privs: bool,
}

/// The mode of a task (`PR_GET_SECCOMP`).
#[derive(Clone, Debug, Default)]
pub enum Mode {
    /// All calls are allowed.
    #[default]
    Free,
    /// read(2), write(2), exit(2) and rt_sigreturn(2) are.
    Strict,
    /// Filters decide.
    Filtered(Arc<Filter>),
}

/// A filter, and those that were installed before it: all are asked.
#[derive(Debug)]
pub struct Filter {
    program: Program,
    before: Option<Arc<Filter>>,
    /// Calls that this one and all before it allow.
    allowed: Allowed,
}

/// What filters, or strict mode, say of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// Strict mode does not know the call.
    Strict,
    /// The process dies.
    KillProcess,
    /// The thread does.
    KillThread,
    /// A `SIGSYS` with this number.
    Trap(u16),
    /// The call fails with this error.
    Errno(u16),
    /// Another process decides: there is none, since rr does not let programs ask for that.
    Notify,
    /// The task's tracer decides, and gets this number.
    Trace(u16),
    /// The call is made.
    Allow,
}

impl Verdict {
    /// What a filter's answer means. (The kernel's log of calls is not kept by rr.)
    fn of(answer: u32) -> Verdict {
        let data = (answer & libc::SECCOMP_RET_DATA) as u16;
        match answer & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_KILL_THREAD => Verdict::KillThread,
            libc::SECCOMP_RET_TRAP => Verdict::Trap(data),
            libc::SECCOMP_RET_ERRNO => Verdict::Errno(data),
            libc::SECCOMP_RET_USER_NOTIF => Verdict::Notify,
            libc::SECCOMP_RET_TRACE => Verdict::Trace(data),
            libc::SECCOMP_RET_LOG | libc::SECCOMP_RET_ALLOW => Verdict::Allow,
            // `SECCOMP_RET_KILL_PROCESS`, and all that the kernel does not know.
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
struct Asked {
    number: i32,
    arch: Arch,
    /// Behind the instruction.
    instruction_pointer: u64,
    args: [u64; 6],
}

impl Asked {
    /// The call at this entry.
    fn at(entry: &Registers, arch: Arch) -> Asked {
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

    /// `struct seccomp_data`: number, architecture, instruction pointer and arguments, the lower half of each first.
    fn words(&self) -> Words {
        let mut words = [
            self.number as u32,
            self.arch as u32,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        let wide = std::iter::once(self.instruction_pointer).chain(self.args);
        for (pair, value) in words[2..].chunks_exact_mut(2).zip(wide) {
            pair.copy_from_slice(&[value as u32, (value >> 32) as u32]);
        }
        words
    }
}

impl Filter {
    /// A filter behind others.
    fn new(program: Program, before: Option<Arc<Filter>>) -> Filter {
        let mut allowed = Allowed::by(&program);
        if let Some(before) = &before {
            allowed.restrict(&before.allowed);
        }
        Filter {
            program,
            before,
            allowed,
        }
    }

    /// This one and those before it, newest first.
    fn all(&self) -> impl Iterator<Item = &Filter> {
        std::iter::successors(Some(self), |filter| filter.before.as_deref())
    }

    /// What they say of a call. Of several with the same action the newest counts.
    fn verdict(&self, asked: &Asked) -> Verdict {
        let words = asked.words();
        let verdicts = self
            .all()
            .map(|filter| Verdict::of(run::answer(&filter.program, &words)));
        verdicts
            .reduce(Verdict::more_restrictive)
            .unwrap_or(Verdict::Allow)
    }

    /// Whether `other` is this one, or was installed after it.
    fn is_ancestor_of(&self, other: &Filter) -> bool {
        other.all().any(|filter| std::ptr::eq(filter, self))
    }
}

impl Verdict {
    /// The more restrictive of two, without regard to the number; the first if they are the same.
    fn more_restrictive(self, older: Verdict) -> Verdict {
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

impl Confined {
    /// Calls that its library may make without asking.
    pub fn allowed(&self) -> Allowed {
        match &self.mode {
            Mode::Free => Allowed::ALL,
            // All is left to the recorder.
            Mode::Strict => Allowed::ALL,
            Mode::Filtered(filter) => filter.allowed,
        }
    }

    /// Whether even the time-stamp counter is forbidden.
    pub fn is_strict(&self) -> bool {
        matches!(self.mode, Mode::Strict)
    }
}
