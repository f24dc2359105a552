//! The signals of a stopped task: the signal about to be delivered, the mask, and pending signals.

use nix::errno::Errno;

use super::{Stopped, ptrace};
use crate::Addr;
use crate::error::{Error, Result};
use crate::ids::Tid;
use crate::procfs;

/// Kernel signal set size in bytes.
const SIGSET_BYTES: usize = 8;

/// `siginfo_t` as raw bytes.
pub type SigInfo = [u8; 128];

impl Stopped {
    /// The siginfo of the signal that is about to be delivered.
    pub fn siginfo(&self) -> Result<SigInfo> {
        let mut info = [0u8; 128];
        // SAFETY: `info` has the size of siginfo_t.
        unsafe { ptrace(libc::PTRACE_GETSIGINFO, self.tid, 0, info.as_mut_ptr() as usize) }
            .map_err(|e| Error::kernel(self.tid, "PTRACE_GETSIGINFO", e))?;
        Ok(info)
    }

    /// Replaces the siginfo of the signal that is about to be delivered.
    pub fn set_siginfo(&mut self, info: &SigInfo) -> Result<()> {
        // SAFETY: `info` has the size of siginfo_t.
        unsafe { ptrace(libc::PTRACE_SETSIGINFO, self.tid, 0, info.as_ptr() as usize) }
            .map_err(|e| Error::kernel(self.tid, "PTRACE_SETSIGINFO", e))?;
        Ok(())
    }

    /// The task's signal mask (bit n−1 for signal n).
    pub fn sigmask(&self) -> Result<u64> {
        let mut mask = 0u64;
        // SAFETY: `mask` is a kernel signal set of SIGSET_BYTES bytes.
        unsafe {
            ptrace(
                libc::PTRACE_GETSIGMASK,
                self.tid,
                SIGSET_BYTES,
                &raw mut mask as usize,
            )
        }
        .map_err(|e| Error::kernel(self.tid, "PTRACE_GETSIGMASK", e))?;
        Ok(mask)
    }

    /// Sets the task's signal mask.
    pub fn set_sigmask(&mut self, mask: u64) -> Result<()> {
        // SAFETY: `mask` is a kernel signal set of SIGSET_BYTES bytes.
        unsafe {
            ptrace(
                libc::PTRACE_SETSIGMASK,
                self.tid,
                SIGSET_BYTES,
                &raw const mask as usize,
            )
        }
        .map_err(|e| Error::kernel(self.tid, "PTRACE_SETSIGMASK", e))?;
        Ok(())
    }

    /// The signals queued for the task, in its own queue or in the thread group's (`PTRACE_PEEKSIGINFO`,
    /// ptrace(2)).
    pub fn queued_signals(&self, shared: bool) -> Result<Vec<SigInfo>> {
        #[repr(C)]
        struct PeekArgs {
            off: u64,
            flags: u32,
            nr: i32,
        }
        const ROOM: usize = 8;
        let mut queued = Vec::new();
        let mut off = 0;
        loop {
            let args = PeekArgs {
                off,
                flags: u32::from(shared),
                nr: ROOM as i32,
            };
            let mut infos = [[0u8; 128]; ROOM];
            // SAFETY: `args` is a ptrace_peeksiginfo_args and `infos` has room for `nr` entries.
            let n = unsafe {
                ptrace(
                    libc::PTRACE_PEEKSIGINFO,
                    self.tid,
                    &raw const args as usize,
                    infos.as_mut_ptr() as usize,
                )
            }
            .map_err(|e| Error::kernel(self.tid, "PTRACE_PEEKSIGINFO", e))?;
            queued.extend(infos.iter().take(n as usize));
            if (n as usize) < ROOM {
                return Ok(queued);
            }
            off += n as u64;
        }
    }

    /// Returns whether a pending signal will be reported before the task executes another instruction.
    pub fn signal_due(&self) -> Result<bool> {
        let mut pending = 0;
        for info in [self.queued_signals(false)?, self.queued_signals(true)?].concat() {
            pending |= 1u64 << ((signo(&info) - 1) & 63);
        }
        if pending == 0 {
            return Ok(false);
        }
        // Not `sigmask`: after an interrupted `epoll_pwait` that is the future mask, not the one in
        // force.
        let [blocked] = procfs::status_masks(self.tid, ["SigBlk:"])?;
        Ok(pending & !blocked != 0)
    }
}

/// `si_code` of a signal that the kernel sends (`SI_KERNEL`, `<asm-generic/siginfo.h>`).
pub const SI_KERNEL: i32 = 0x80;

/// A siginfo with a signal number and a code, and nothing else.
pub fn siginfo(signo: i32, code: i32) -> SigInfo {
    let mut info = [0; 128];
    info[..4].copy_from_slice(&signo.to_ne_bytes());
    info[8..12].copy_from_slice(&code.to_ne_bytes());
    info
}

/// Offset of `si_addr` (sigaction(2)).
const SI_ADDR: usize = 16;

/// The siginfo of a fault or a trap at an address (`si_addr`).
pub fn siginfo_at(signo: i32, code: i32, addr: Addr) -> SigInfo {
    let mut info = siginfo(signo, code);
    info[SI_ADDR..SI_ADDR + size_of::<u64>()].copy_from_slice(&addr.0.to_ne_bytes());
    info
}

/// The address of a fault (`si_addr`).
pub fn si_addr(info: &SigInfo) -> Addr {
    Addr(u64::from_ne_bytes(std::array::from_fn(|n| info[SI_ADDR + n])))
}

/// The signal number in a siginfo (`si_signo`, sigaction(2)).
pub fn signo(info: &SigInfo) -> i32 {
    i32::from_ne_bytes([info[0], info[1], info[2], info[3]])
}

/// The code in a siginfo (`si_code`, sigaction(2)).
pub fn si_code(info: &SigInfo) -> i32 {
    i32::from_ne_bytes([info[8], info[9], info[10], info[11]])
}

/// Returns whether an instruction of the task itself caused the signal (`si_code` above 0 on one of
/// these, sigaction(2)).
pub fn is_fault(info: &SigInfo) -> bool {
    si_code(info) > 0
        && matches!(
            signo(info),
            libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP | libc::SIGSYS
        )
}

/// Sends `signal` to one task (tgkill(2)).
pub fn send_signal(tgid: Tid, tid: Tid, signal: i32) -> Result<()> {
    // SAFETY: tgkill takes plain numbers.
    let r = unsafe { libc::syscall(libc::SYS_tgkill, tgid.0, tid.0, signal) };
    if r == 0 {
        Ok(())
    } else {
        Err(Error::kernel(tid, "tgkill", Errno::last()))
    }
}
