//! The vsyscall page: `time`, `gettimeofday` and `getcpu` of programs older than the vDSO.
//!
//! The kernel emulates these functions when a program calls the page, at an address that every process has,
//! and no tracer sees a system call. So rr's filter turns such a call into a `SIGSYS`, which stops the
//! task behind the call. The recorder makes the real system call there, and records it like an
//! instruction that trapped ([`Trap`]). Replayed tasks have a filter for this alone.
//!
//! Filters of the program do not see these calls. A bad pointer gives `EFAULT` (without rr: `SIGSEGV`).
//!
//! [`Trap`]: rr_trace::event::EventKind::Trap

use rr_tracee::remote::Remote;
use rr_tracee::task::SigInfo;
use rr_tracee::{Registers, Stopped, Tid};

use crate::buffer::control::take_records;
use crate::call::cores::pretend_cpu;
use crate::call::record::gather_writes;
use crate::error::Result;
use crate::session::RecordSession;
use crate::signal::forced::undo_force;
use crate::signal::traps::after_trap;
use crate::world::call::Call;
use crate::world::next::Next;

/// Carries out a call of the vsyscall page, behind which the filter has stopped the task. `number` is
/// that of the system call that does the same.
pub(crate) fn carry_out_vsyscall(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    info: &SigInfo,
    number: i64,
) -> Result<Next> {
    let mut stopped = undo_force(&mut session.world, tid, stopped, info)?;
    take_records(session, tid)?;
    let at = stopped.regs()?.outside_call();
    let entry = Registers {
        orig_rax: number as u64,
        // `getcpu` has a third argument, which the page does not know.
        rdx: 0,
        ..at
    };
    let task = session.world.task(tid)?;
    let mut call = Call::new(entry);
    if let Some(spec) = call.spec {
        call.parts = spec.parts(&entry, &task.memory)?;
    }
    let args = [entry.rdi, entry.rsi, entry.rdx, 0, 0, 0];
    let (remote, result) = Remote::new(stopped, task.tgid)?.call(number, args)?;
    stopped = remote.finish()?;
    pretend_cpu(session, tid, &call, result)?;
    let writes = gather_writes(&session.world, tid, &call, result)?;
    let after = Registers {
        rax: result as u64,
        ..at
    };
    stopped.set_regs(&after)?;
    after_trap(session, tid, stopped, (at, after), vec![], writes)
}
