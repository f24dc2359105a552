//! arch_prctl(2), as far as it is about `CPUID`: whether the instruction traps.
//!
//! If all code of the program is intercepted, it traps for the kernel, so that rr can answer it, and the program reads back its
//! own setting. Otherwise the kernel does what the program wants. In both cases, if the program wants the instruction to trap,
//! the recorder carries none out, and neither does the library, because no site leads there.

use rr_tracee::cpuid::{self, ARCH_GET_CPUID, ARCH_SET_CPUID};
use rr_tracee::{Stopped, Tid};

use crate::call::answer::{answer_call, answer_with};
use crate::call::enter::perform_call;
use crate::error::Result;
use crate::ptrace::steps::leave_code_alone;
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::next::Next;

/// Handles the entry of arch_prctl(2).
pub(crate) fn begin_arch_prctl(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    call: Call,
) -> Result<Next> {
    let entry = call.entry;
    match entry.rdi as i32 {
        ARCH_GET_CPUID => {
            let is_denied = session.world.task(tid)?.settings.is_cpuid_denied;
            answer_call(session, tid, stopped, &entry, i64::from(!is_denied), vec![])
        }
        ARCH_SET_CPUID if !cpuid::can_fault() => {
            answer_call(session, tid, stopped, &entry, -i64::from(libc::ENODEV), vec![])
        }
        ARCH_SET_CPUID => {
            let is_denied = entry.rsi == 0;
            session.world.task_mut(tid)?.settings.is_cpuid_denied = is_denied;
            // A handler of the trap looks at the instruction.
            let answered = match is_denied {
                true => leave_code_alone(session, tid).map(|()| 0),
                false => Ok(0),
            };
            match answered {
                Ok(_) if !cpuid::is_intercepted() => perform_call(&mut session.world, tid, stopped, call),
                answered => answer_with(session, tid, stopped, &entry, answered, vec![]),
            }
        }
        _ => perform_call(&mut session.world, tid, stopped, call),
    }
}
