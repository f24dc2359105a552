//! `Stopped` and `Running`: a tracee as the kernel shows it.
//!
//! A task that we trace is either in a ptrace stop, where we may look at it and change it, or not, and
//! then we can only wait. These are two types: [`Stopped::resume`] turns one into the other and
//! [`Running::waited`] back.
//!
//! ```text
//!   attach ──► Running ──waited──► Stopped ──resume──► Running ──waited──► Waited::Gone(status)
//! ```
//!
//! `SIGKILL` ends a ptrace stop without asking us. Then every operation on the stale `Stopped` returns
//! [`Error::Died`], and the next wait for that tid returns `Stop::Exiting` or the exit status.

mod debug;
mod regsets;
mod signals;

pub use crate::kill::kill;
pub use debug::{TRAP_INT3, TRAP_TRACE, WATCHES, Watch, WatchKind};
pub use regsets::{REGSET_MOST, is_debug_register};
pub use signals::{SI_KERNEL, SigInfo, is_fault, send_signal, si_addr, si_code, siginfo, siginfo_at, signo};

use std::cell::Cell;
use std::os::raw::{c_long, c_void};
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;

use crate::death;
use crate::error::{Error, Result};
use crate::extended_state::{ExtendedState, Layout};
use crate::ids::{Tid, USER_END};
use crate::procfs;
use crate::regs::Registers;

/// `NT_X86_XSTATE` (`<elf.h>`): the regset of extended state.
const NT_X86_XSTATE: usize = 0x202;
/// Room for extended state with AVX-512 and AMX (11 KiB) and some reserve.
const XSTATE_MAX: usize = 16 * 1024;

/// Ptrace options of all tracees (ptrace(2), `PTRACE_SETOPTIONS`).
pub const OPTIONS: i32 = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACEEXIT
    | libc::PTRACE_O_EXITKILL;

/// Reason of a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Entry or exit of a system call (`PTRACE_SYSCALL`, `PTRACE_SYSEMU`); see [`Stopped::syscall_phase`].
    Syscall,
    /// The seccomp filter asked for a stop at the entry of a system call.
    Seccomp,
    /// The task created the task `child` by `clone`, `fork` or `vfork`. The child stops, too, with
    /// [`Stop::Event`].
    NewTask {
        /// The new task.
        child: Tid,
    },
    /// The task executed another program. `former` is its old tid, which differs unless it was the
    /// leader.
    Exec {
        /// The old tid.
        former: Tid,
    },
    /// The task is about to exit. Its memory still exists.
    Exiting,
    /// A signal is about to be delivered.
    Signal(i32),
    /// The thread group was stopped by this signal (job control).
    GroupStop(i32),
    /// A stop caused by rr: `PTRACE_INTERRUPT`, the first stop of a new task, the end of a group stop.
    Event,
}

/// Result of a wait.
#[derive(Debug)]
pub enum Waited {
    /// The task stopped.
    Stopped(Stopped, Stop),
    /// The task is gone. The status is as in wait(2).
    Gone(i32),
}

/// A report of `waitpid(2)` about some tracee.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// The task.
    pub tid: Tid,
    /// The raw status.
    pub status: i32,
}

impl Report {
    /// Returns whether the task is gone, not stopped.
    pub fn is_gone(self) -> bool {
        !libc::WIFSTOPPED(self.status)
    }
}

thread_local! {
    static REPORTS: Cell<u64> = const { Cell::new(0) };
}

/// Number of reports about tracees that this thread has got.
pub fn reports() -> u64 {
    REPORTS.get()
}

/// Waits for a report about `tid`, or about any tracee. `None` if there is no report now (`nohang`), or
/// no tracee.
pub fn wait(tid: Option<Tid>, nohang: bool) -> Option<Report> {
    loop {
        let report = wait_for_tick(tid, nohang);
        if report.is_some() || Errno::last() != Errno::EINTR {
            return report;
        }
    }
}

/// Same as [`wait`], but also returns `None` if a signal handler ran meanwhile (`EINTR`).
pub fn wait_for_tick(tid: Option<Tid>, nohang: bool) -> Option<Report> {
    let mut status = 0;
    let flags = libc::__WALL | if nohang { libc::WNOHANG } else { 0 };
    Errno::clear();
    // SAFETY: `status` is a valid place for the status word.
    let got = unsafe { libc::waitpid(tid.map_or(-1, |t| t.0), &mut status, flags) };
    (got > 0).then(|| {
        REPORTS.set(REPORTS.get() + 1);
        death::moment(Tid(got));
        Report {
            tid: Tid(got),
            status,
        }
    })
}

/// Returns whether there is a report about a task that has not been taken.
fn has_report(tid: Tid) -> bool {
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
    // SAFETY: an all-zero siginfo_t is a valid one.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a valid place for the report. The report stays available.
    let r = unsafe { libc::waitid(libc::P_PID, tid.0 as libc::id_t, &mut info, options) };
    // SAFETY: waitid fills in this field, or leaves it zero if there is nothing to report.
    r == 0 && unsafe { info.si_pid() } != 0
}

/// Returns whether this thread still has a tracee or child that it could wait for.
pub fn any_left() -> bool {
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
    // SAFETY: an all-zero siginfo_t is a valid one.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a valid place for the report. The report stays available.
    let r = unsafe { libc::waitid(libc::P_ALL, 0, &mut info, options) };
    r == 0 || Errno::last() != Errno::ECHILD
}

/// Position of a stop in a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyscallPhase {
    /// Not at a system call stop.
    None,
    /// Before the call.
    Entry,
    /// After the call.
    Exit,
    /// At a seccomp stop.
    Seccomp,
}

/// Ways to resume a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resume {
    /// Run until the seccomp filter or an event stops the task.
    Cont,
    /// Same as `Cont`, but also stop at the next entry or exit of a system call.
    Syscall,
    /// Stop at the entry of the next system call, and do not perform it.
    Sysemu,
    /// Execute one instruction.
    Step,
    /// Execute one instruction. A system call is not performed, as with `Sysemu`.
    SysemuStep,
    /// Stay in a group stop, but report its end.
    Listen,
}

/// Raw ptrace call.
///
/// # Safety
/// `addr` and `data` must be valid for the request (ptrace(2)).
unsafe fn ptrace(request: u32, tid: Tid, addr: usize, data: usize) -> Result<c_long, Errno> {
    death::moment(tid);
    Errno::clear();
    // SAFETY: by this function's contract.
    let r = unsafe { libc::ptrace(request as _, tid.0, addr as *mut c_void, data as *mut c_void) };
    if r == -1 && Errno::last_raw() != 0 {
        Err(Errno::last())
    } else {
        Ok(r)
    }
}

/// A task that is not in a ptrace stop.
#[derive(Debug, PartialEq, Eq)]
pub struct Running {
    tid: Tid,
}

impl Running {
    /// Starts to trace a process (`PTRACE_SEIZE`). The process continues to run.
    pub fn seize(tid: Tid) -> Result<Running> {
        // SAFETY: PTRACE_SEIZE takes no address and its options in `data`.
        unsafe { ptrace(libc::PTRACE_SEIZE, tid, 0, OPTIONS as usize) }
            .map_err(|e| Error::kernel(tid, "PTRACE_SEIZE", e))?;
        Ok(Running { tid })
    }

    /// A task that the kernel attached for us because its creator is traced. The task will report its
    /// first stop.
    pub fn newborn(tid: Tid) -> Running {
        Running { tid }
    }

    /// The task's tid.
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// Asks the task to stop (`PTRACE_INTERRUPT`). This interrupts blocking calls, with the effects
    /// described in signal(7).
    pub fn interrupt(&self) -> Result<()> {
        // SAFETY: PTRACE_INTERRUPT takes no address or data.
        unsafe { ptrace(libc::PTRACE_INTERRUPT, self.tid, 0, 0) }
            .map_err(|e| Error::kernel(self.tid, "PTRACE_INTERRUPT", e))?;
        Ok(())
    }

    /// The task's state after `report`, which must be about this task.
    pub fn waited(self, report: Report) -> Result<Waited> {
        debug_assert_eq!(self.tid, report.tid);
        let status = report.status;
        if report.is_gone() {
            return Ok(Waited::Gone(status));
        }
        let stopped = Stopped { tid: self.tid };
        let signal = libc::WSTOPSIG(status);
        let stop = match status >> 16 {
            0 if signal == libc::SIGTRAP | 0x80 => Stop::Syscall,
            0 => Stop::Signal(signal),
            libc::PTRACE_EVENT_SECCOMP => Stop::Seccomp,
            libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => Stop::NewTask {
                child: Tid(stopped.event_message()? as i32),
            },
            libc::PTRACE_EVENT_EXEC => Stop::Exec {
                former: Tid(stopped.event_message()? as i32),
            },
            libc::PTRACE_EVENT_EXIT => Stop::Exiting,
            libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Stop::Event,
            libc::PTRACE_EVENT_STOP => Stop::GroupStop(signal),
            _ => Stop::Event,
        };
        Ok(Waited::Stopped(stopped, stop))
    }

    /// Waits for this task.
    pub fn wait(self) -> Result<Waited> {
        loop {
            match wait_for_tick(Some(self.tid), false) {
                Some(report) => return self.waited(report),
                None if Errno::last() == Errno::EINTR => {}
                None => return Err(Error::Died(self.tid)),
            }
            if self.is_lost() {
                return Err(Error::Died(self.tid));
            }
        }
    }

    /// Returns whether the task is dead but must not be waited for: its end will be reported only when
    /// other threads of its group have ended, and these wait for us. (The task was killed and came to
    /// its exit stop, and we resumed it from there while we believed that it was still in the stop
    /// before.)
    pub fn is_lost(&self) -> bool {
        procfs::state(self.tid).is_ok_and(|state| state == 'Z') && !has_report(self.tid)
    }
}

/// A task in a ptrace stop.
#[derive(Debug, PartialEq, Eq)]
pub struct Stopped {
    tid: Tid,
}

impl Stopped {
    /// The task's tid.
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// Resumes the task, and delivers `signal` if the stop is one of signal delivery. If the task has
    /// died, the next wait says so.
    pub fn resume(self, how: Resume, signal: Option<i32>) -> Result<Running> {
        let request = match how {
            Resume::Cont => libc::PTRACE_CONT,
            Resume::Syscall => libc::PTRACE_SYSCALL,
            Resume::Sysemu => libc::PTRACE_SYSEMU,
            Resume::Step => libc::PTRACE_SINGLESTEP,
            Resume::SysemuStep => libc::PTRACE_SYSEMU_SINGLESTEP,
            Resume::Listen => libc::PTRACE_LISTEN,
        };
        // SAFETY: these requests take no address and a signal number in `data`.
        match unsafe { ptrace(request, self.tid, 0, signal.unwrap_or(0) as usize) } {
            Ok(_) | Err(Errno::ESRCH) => Ok(Running { tid: self.tid }),
            Err(errno) => Err(Error::kernel(self.tid, "resuming", errno)),
        }
    }

    /// Handles `report` about this task, which left its stop because it was killed.
    pub fn overtaken(self, report: Report) -> Result<Waited> {
        Running { tid: self.tid }.waited(report)
    }

    /// Ends the tracing. The task continues by itself.
    pub fn detach(self) -> Result<()> {
        // SAFETY: PTRACE_DETACH takes no address and a signal number in `data`.
        unsafe { ptrace(libc::PTRACE_DETACH, self.tid, 0, 0) }
            .map_err(|e| Error::kernel(self.tid, "PTRACE_DETACH", e))?;
        Ok(())
    }

    /// The task's general registers.
    pub fn regs(&self) -> Result<Registers> {
        let mut regs = Registers::default();
        // SAFETY: `Registers` has the layout of `user_regs_struct`, which PTRACE_GETREGS fills.
        unsafe { ptrace(libc::PTRACE_GETREGS, self.tid, 0, &raw mut regs as usize) }
            .map_err(|e| Error::kernel(self.tid, "PTRACE_GETREGS", e))?;
        Ok(regs)
    }

    /// Sets the task's general registers. A base of FS or GS beyond the program's addresses must be there already: the kernel lets
    /// only the task itself set one (`WRFSBASE`, `WRGSBASE`).
    pub fn set_regs(&mut self, regs: &Registers) -> Result<()> {
        // SAFETY: `Registers` has the layout of `user_regs_struct`, which PTRACE_SETREGS reads.
        let set = unsafe {
            ptrace(
                libc::PTRACE_SETREGS,
                self.tid,
                0,
                std::ptr::from_ref(regs) as usize,
            )
        };
        match set {
            Err(Errno::EIO) if [regs.fs_base, regs.gs_base].iter().any(|base| *base >= USER_END) => {
                self.set_changed_regs(regs)
            }
            set => set
                .map(drop)
                .map_err(|e| Error::kernel(self.tid, "PTRACE_SETREGS", e)),
        }
    }

    /// Sets those general registers that have other values.
    fn set_changed_regs(&mut self, regs: &Registers) -> Result<()> {
        let now = self.regs()?.words();
        for (at, (wanted, now)) in (0..).step_by(size_of::<u64>()).zip(regs.words().iter().zip(now)) {
            if *wanted != now {
                self.set_user_word(at, *wanted)
                    .map_err(|e| Error::kernel(self.tid, "PTRACE_POKEUSER", e))?;
            }
        }
        Ok(())
    }

    /// The task's extended state.
    pub fn xstate(&self) -> Result<ExtendedState> {
        let mut buf = [0u8; XSTATE_MAX];
        let mut iov = libc::iovec {
            iov_base: buf.as_mut_ptr().cast(),
            iov_len: buf.len(),
        };
        // SAFETY: `iov` describes `buf`, which outlives the call.
        unsafe {
            ptrace(
                libc::PTRACE_GETREGSET,
                self.tid,
                NT_X86_XSTATE,
                &raw mut iov as usize,
            )
        }
        .map_err(|e| Error::kernel(self.tid, "PTRACE_GETREGSET(xstate)", e))?;
        // Copy only the used bytes, because many of these states wait to be written.
        Ok(ExtendedState(buf[..iov.iov_len.min(XSTATE_MAX)].to_vec()))
    }

    /// Sets the task's extended state.
    pub fn set_xstate(&mut self, state: &ExtendedState) -> Result<()> {
        static HERE: OnceLock<Layout> = OnceLock::new();
        let here = match HERE.get() {
            Some(here) => *here,
            None => {
                let here = Layout::of(&self.xstate()?);
                *HERE.get_or_init(|| here)
            }
        };
        let fitted = state.fitted(here).ok_or(Error::OtherState { tid: self.tid })?;
        let mut bytes = fitted.0;
        let iov = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: `iov` describes `bytes`, which outlives the call.
        unsafe {
            ptrace(
                libc::PTRACE_SETREGSET,
                self.tid,
                NT_X86_XSTATE,
                &raw const iov as usize,
            )
        }
        .map_err(|e| Error::kernel(self.tid, "PTRACE_SETREGSET(xstate)", e))?;
        Ok(())
    }

    /// The position in a system call where the task is stopped (`PTRACE_GET_SYSCALL_INFO`).
    pub fn syscall_phase(&self) -> Result<SyscallPhase> {
        let mut info = [0u8; 88];
        // SAFETY: `info` has room for the number of bytes given in `addr`.
        unsafe {
            ptrace(
                libc::PTRACE_GET_SYSCALL_INFO,
                self.tid,
                info.len(),
                info.as_mut_ptr() as usize,
            )
        }
        .map_err(|e| Error::kernel(self.tid, "PTRACE_GET_SYSCALL_INFO", e))?;
        Ok(match info[0] {
            1 => SyscallPhase::Entry,
            2 => SyscallPhase::Exit,
            3 => SyscallPhase::Seccomp,
            _ => SyscallPhase::None,
        })
    }

    /// Address, size and signature of the task's restartable-sequences area (rseq(2)), if it has
    /// registered one (`PTRACE_GET_RSEQ_CONFIGURATION`, Linux 5.13).
    pub fn rseq(&self) -> Option<(u64, u32, u32)> {
        #[repr(C)]
        #[derive(Default)]
        struct Configuration {
            pointer: u64,
            size: u32,
            signature: u32,
            flags: u32,
            pad: u32,
        }
        const PTRACE_GET_RSEQ_CONFIGURATION: u32 = 0x420f;
        let mut c = Configuration::default();
        // SAFETY: `c` is a ptrace_rseq_configuration, of the size given in `addr`.
        let r = unsafe {
            ptrace(
                PTRACE_GET_RSEQ_CONFIGURATION,
                self.tid,
                size_of::<Configuration>(),
                &raw mut c as usize,
            )
        };
        (r.is_ok() && c.pointer != 0).then_some((c.pointer, c.size, c.signature))
    }

    /// Changes the task's ptrace options ([`OPTIONS`]).
    pub fn set_options(&self, options: i32) -> Result<()> {
        // SAFETY: PTRACE_SETOPTIONS takes no address and a bit mask in `data`.
        unsafe { ptrace(libc::PTRACE_SETOPTIONS, self.tid, 0, options as usize) }
            .map_err(|e| Error::kernel(self.tid, "PTRACE_SETOPTIONS", e))?;
        Ok(())
    }

    /// The message of an event stop: the new tid, the former tid, or the exit status.
    pub fn event_message(&self) -> Result<u64> {
        let mut message = 0u64;
        // SAFETY: `message` is an unsigned long.
        unsafe { ptrace(libc::PTRACE_GETEVENTMSG, self.tid, 0, &raw mut message as usize) }
            .map_err(|e| Error::kernel(self.tid, "PTRACE_GETEVENTMSG", e))?;
        Ok(message)
    }
}

/// Processor time used by all threads of a process (clock_getcpuclockid(3)).
pub fn processor_time(tgid: Tid) -> Result<Duration> {
    let pid = nix::unistd::Pid::from_raw(tgid.0);
    let time = nix::time::clock_getcpuclockid(pid).and_then(nix::time::clock_gettime);
    let time = time.map_err(|errno| Error::kernel(tgid, "clock_getcpuclockid", errno))?;
    Ok(time.into())
}
