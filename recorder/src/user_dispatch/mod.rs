//! System calls that become signals at the program's wish (`PR_SET_SYSCALL_USER_DISPATCH`,
//! Documentation/admin-guide/syscall-user-dispatch.rst).
//!
//! rr's own calls are made in the task, too, so the kernel never learns of the setting. The recorder looks at
//! each call before anybody else does, as the kernel would. While a task has a setting, its library makes no
//! calls, because the byte that decides may change at any time.

pub(crate) mod region;

use nix::errno::Errno;
use rr_tracee::memory::ReadMemory;
use rr_tracee::task::SigInfo;
use rr_tracee::{Addr, Registers, Stopped, Tid};

use crate::answered::Answered;
use crate::error::Result;
use crate::session::RecordSession;
use crate::syscall::returned;
use crate::task::State;
use region::{OFF, Region};

/// `PR_SET_SYSCALL_USER_DISPATCH` (`<linux/prctl.h>`).
pub(crate) const SET_DISPATCH: i32 = 59;
/// An address that no program can have.
const NO_ADDRESS: u64 = 1 << 63;
/// End of a program's addresses (`TASK_SIZE_MAX`).
const USER_END: u64 = 0x7fff_ffff_f000;
/// `SYS_USER_DISPATCH` (`<asm-generic/siginfo.h>`).
const SYS_USER_DISPATCH: i32 = 2;
/// `SI_KERNEL`: the sender is the kernel.
const SI_KERNEL: i32 = 0x80;
/// `AUDIT_ARCH_X86_64` (`<linux/audit.h>`).
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// `SYSCALL_DISPATCH_FILTER_*`.
mod selected {
    pub const ALLOW: u8 = 0;
    pub const BLOCK: u8 = 1;
}

/// The signal instead of a call.
fn info_of(entry: &Registers) -> SigInfo {
    let mut info = [0; 128];
    let mut put = |at: usize, bytes: &[u8]| info[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &libc::SIGSYS.to_ne_bytes());
    put(8, &SYS_USER_DISPATCH.to_ne_bytes());
    put(16, &entry.rip.to_ne_bytes());
    put(24, &(entry.orig_rax as i32).to_ne_bytes());
    put(28, &AUDIT_ARCH_X86_64.to_ne_bytes());
    info
}

impl RecordSession {
    /// Carries out `PR_SET_SYSCALL_USER_DISPATCH`.
    pub(crate) fn set_dispatch(&mut self, tid: Tid, entry: &Registers) -> Answered {
        let (mode, start, len, selector) = (entry.rsi, entry.rdx, entry.r10, entry.r8);
        let region = match mode {
            OFF if (start, len, selector) == (0, 0, 0) => None,
            OFF => return Err(Errno::EINVAL.into()),
            _ => {
                // The kernel checks the other arguments first. With this selector, the call fails in any case.
                // SAFETY: prctl with plain numbers.
                let set = unsafe { libc::prctl(SET_DISPATCH, mode, start, len, NO_ADDRESS) };
                match Errno::result(set) {
                    Err(Errno::EFAULT) if selector < USER_END => {}
                    Err(errno) => return Err(errno.into()),
                    Ok(_) => return Err(Errno::EINVAL.into()),
                }
                Some(Region::new(mode, start, len, Addr(selector)))
            }
        };
        self.task_mut(tid)?.dispatch = region;
        Ok(0)
    }

    /// At the entry of a call: turns the call into a signal if the program wants that. Otherwise gives the task
    /// back. `is_restarted` is true for a call that the kernel makes only because rr traces the task.
    pub(crate) fn dispatch(
        &mut self,
        tid: Tid,
        stopped: Stopped,
        entry: &Registers,
        is_restarted: bool,
    ) -> Result<Option<Stopped>> {
        let task = self.task(tid)?;
        let Some(region) = task
            .dispatch
            .filter(|region| !is_restarted && !region.holds(entry))
        else {
            return Ok(Some(stopped));
        };
        let mut byte = [selected::BLOCK];
        let is_there = region.selector.is_null() || task.memory.read(region.selector, &mut byte).is_ok();
        let info = info_of(entry);
        match byte {
            _ if !is_there => self.end_by_fault(tid, stopped, entry)?,
            [selected::ALLOW] => return Ok(Some(stopped)),
            [selected::BLOCK] => self.trap_call(tid, stopped, entry, &info)?,
            _ => self.end_by_filter(tid, stopped, entry, &info)?,
        }
        Ok(None)
    }

    /// Ends the process because the selector is not there.
    fn end_by_fault(&mut self, tid: Tid, mut stopped: Stopped, entry: &Registers) -> Result<()> {
        let after = returned(entry, -i64::from(libc::ENOSYS));
        stopped.set_regs(&after)?;
        self.record_call(tid, entry, after, None, None, vec![], vec![], None)?;
        let stopped = self.force_default(tid, stopped, libc::SIGSEGV)?;
        self.task_mut(tid)?.state = State::Ready(stopped);
        let mut info = [0; 128];
        info[..4].copy_from_slice(&libc::SIGSEGV.to_ne_bytes());
        info[8..12].copy_from_slice(&SI_KERNEL.to_ne_bytes());
        self.pass_signal(tid, info)
    }
}
