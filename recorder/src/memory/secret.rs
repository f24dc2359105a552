//! Memory that `memfd_secret(2)` hides even from the kernel.
//!
//! The recorder must read all memory. So the program gets an ordinary memfd instead, where the kernel would
//! have given it a secret one, and the user a warning: the memory's contents are in the trace.

use rr_tracee::{Registers, Stopped, Tid, rr_area};

use crate::call::enter::perform_call;
use crate::error::Result;
use crate::policy::warnings::Warning;
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::next::Next;

/// The name of the file, as the kernel shows that of a secret one.
const NAME: &[u8] = b"secretmem\0";

/// `memfd_secret` takes no other flag.
const CLOEXEC: u64 = libc::O_CLOEXEC as u64;

/// Handles the entry of `memfd_secret`.
pub(crate) fn begin_secret(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    call: Call,
) -> Result<Next> {
    let entry = call.entry;
    if entry.rdi & 0xffff_ffff & !CLOEXEC != 0 || !is_offered() {
        // The kernel's own error.
        return perform_call(&mut session.world, tid, stopped, call);
    }
    if session.policy.warnings.is_new(Warning::Call(entry.syscall())) {
        tracing::warn!(
            "the program uses memfd_secret; while it is recorded, that memory is not secret, and its contents are in the trace"
        );
    }
    session.world.task(tid)?.memory.write(rr_area::PARAM, NAME)?;
    let flags = if entry.rdi & CLOEXEC != 0 {
        libc::MFD_CLOEXEC
    } else {
        0
    };
    stopped.set_regs(&Registers {
        orig_rax: libc::SYS_memfd_create as u64,
        rdi: rr_area::PARAM.0,
        rsi: flags.into(),
        ..entry
    })?;
    perform_call(&mut session.world, tid, stopped, call)
}

/// Returns whether the kernel has secret memory: it checks that before the flags.
fn is_offered() -> bool {
    /// A flag that does not exist.
    const NO_FLAG: u64 = 1 << 30;
    // SAFETY: the call fails.
    unsafe { libc::syscall(libc::SYS_memfd_secret, NO_FLAG) };
    nix::errno::Errno::last() == nix::errno::Errno::EINVAL
}
