//! System calls that become signals at the program's wish (`PR_SET_SYSCALL_USER_DISPATCH`,
//! Documentation/admin-guide/syscall-user-dispatch.rst).
//!
//! rr's own calls are made in the task, too, so the kernel never learns of the setting. The recorder looks at
//! each call before anybody else does, as the kernel would. While a task has a setting, its library makes no
//! calls, because the byte that decides may change at any time.

use std::ops::ControlFlow;

use nix::errno::Errno;
use region::{OFF, Region, Setting};
use rr_trace::event::MemWrite;
use rr_tracee::memory::ReadMemory;
use rr_tracee::task::{SI_KERNEL, siginfo};
use rr_tracee::{Addr, Registers, Stopped, Tid, USER_END};

use crate::call::parameters::{Answered, give_answer, read_parameter};
use crate::call::record::record_call;
use crate::call::registers::returned;
use crate::error::Result;
use crate::ptrace::resume::pass_signal;
use crate::seccomp::actions::{end_by_filter, trap_call};
use crate::seccomp::{Arch, Asked, sigsys};
use crate::session::RecordSession;
use crate::signal::forced::force_default;
use crate::world::model::World;
use crate::world::next::{Next, Record};

pub(crate) mod region;

/// `PR_SET_SYSCALL_USER_DISPATCH` (`<linux/prctl.h>`).
pub(crate) const SET_DISPATCH: i32 = 59;

/// Size of `struct ptrace_sud_config`: mode, selector, offset, length.
const CONFIGURATION_BYTES: usize = 32;

/// An address that no program can have.
const NO_ADDRESS: u64 = 1 << 63;

/// `SYS_USER_DISPATCH` (`<asm-generic/siginfo.h>`).
const SYS_USER_DISPATCH: i32 = 2;

/// `SYSCALL_DISPATCH_FILTER_*`.
mod selected {
    pub const ALLOW: u8 = 0;
    pub const BLOCK: u8 = 1;
}

/// Carries out `PR_SET_SYSCALL_USER_DISPATCH`.
pub(crate) fn set_dispatch(world: &mut World, tid: Tid, entry: &Registers) -> Answered {
    let setting = Setting {
        mode: entry.rsi,
        start: entry.rdx,
        len: entry.r10,
        selector: Addr(entry.r8),
    };
    set_region(world, tid, setting)
}

fn set_region(world: &mut World, tid: Tid, setting: Setting) -> Answered {
    let Setting {
        mode,
        start,
        len,
        selector,
    } = setting;
    let region = match mode {
        OFF if (start, len, selector) == (0, 0, Addr::NULL) => None,
        OFF => return Err(Errno::EINVAL.into()),
        _ => {
            // The kernel checks the other arguments first. With this selector, the call fails in any case.
            // SAFETY: prctl with plain numbers.
            let set = unsafe { libc::prctl(SET_DISPATCH, mode, start, len, NO_ADDRESS) };
            match Errno::result(set) {
                Err(Errno::EFAULT) if selector.0 < USER_END => {}
                Err(errno) => return Err(errno.into()),
                Ok(_) => return Err(Errno::EINVAL.into()),
            }
            Some(Region::new(setting))
        }
    };
    world.task_mut(tid)?.settings.dispatch = region;
    Ok(0)
}

/// `PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG`: the setting of a tracee, by a structure of `size` bytes.
pub(crate) fn take_dispatch(world: &mut World, (by, of): (Tid, Tid), size: u64, at: u64) -> Answered {
    if size != CONFIGURATION_BYTES as u64 {
        return Err(Errno::EINVAL.into());
    }
    let bytes = read_parameter(world, by, at, CONFIGURATION_BYTES)?;
    let (words, _) = bytes.as_chunks();
    let [mode, selector, start, len] =
        [0, 1, 2, 3].map(|n| words.get(n).map_or(0, |w| u64::from_le_bytes(*w)));
    let selector = Addr(selector);
    let setting = Setting {
        mode,
        start,
        len,
        selector,
    };
    set_region(world, of, setting)
}

/// `PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG`: the setting of a tracee.
pub(crate) fn give_dispatch(
    world: &World,
    (by, of): (Tid, Tid),
    size: u64,
    at: u64,
    writes: &mut Vec<MemWrite>,
) -> Answered {
    if size != CONFIGURATION_BYTES as u64 {
        return Err(Errno::EINVAL.into());
    }
    let setting = world.task(of)?.settings.dispatch.map(|region| region.shown());
    let words = setting.map_or([OFF, 0, 0, 0], |s| [s.mode, s.selector.0, s.start, s.len]);
    give_answer(world, by, at, words.map(u64::to_le_bytes).as_flattened(), writes)
}

/// At the entry of a call: turns the call into a signal if the program wants that. Otherwise gives the task
/// back. `is_ours` is true for a call that the kernel makes only because rr traces the task.
pub(crate) fn dispatch_to_user(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: &Registers,
    is_ours: bool,
) -> Result<ControlFlow<Next, Stopped>> {
    let task = session.world.task(tid)?;
    let Some(region) = task
        .settings
        .dispatch
        .filter(|region| !is_ours && !region.holds(entry))
    else {
        return Ok(ControlFlow::Continue(stopped));
    };
    let mut byte = [selected::BLOCK];
    let is_there = region.selector.is_null() || task.memory.read(region.selector, &mut byte).is_ok();
    let info = sigsys(SYS_USER_DISPATCH, &Asked::at(entry, Arch::X86_64), 0);
    let next = match byte {
        _ if !is_there => end_by_fault(session, tid, stopped, entry)?,
        [selected::ALLOW] => return Ok(ControlFlow::Continue(stopped)),
        [selected::BLOCK] => trap_call(session, tid, stopped, entry, &info)?,
        _ => end_by_filter(session, tid, stopped, entry, &info)?,
    };
    Ok(ControlFlow::Break(next))
}

/// Ends the process because the selector is not there.
fn end_by_fault(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    entry: &Registers,
) -> Result<Next> {
    let after = returned(entry, -i64::from(libc::ENOSYS));
    stopped.set_regs(&after)?;
    record_call(session, tid, Record::of(entry, after))?;
    let stopped = force_default(&mut session.world, tid, stopped, libc::SIGSEGV)?;
    let mask = stopped.sigmask()?;
    pass_signal(&mut session.world, tid, mask, siginfo(libc::SIGSEGV, SI_KERNEL))?;
    Ok(Next::Ready(stopped))
}
