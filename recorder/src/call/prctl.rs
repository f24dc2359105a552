//! prctl(2), as far as rr answers instead of the kernel: if the kernel's answer would show rr, or if
//! the program's setting would hinder rr.
//!
//! * *Dumpable.* rr reads the memory of recorded processes, and an unprivileged process can do that
//!   only if they are dumpable. So a process stays dumpable for the kernel, and reads back its own
//!   setting.
//! * *Filters of calls, and privileges.* See [`crate::seccomp`].
//! * *The time-stamp counter.* It traps for the kernel, so that rr can record it. The program reads back its
//!   own setting. If it wants the counter to trap, the recorder carries out no read, and neither does the
//!   library, which leaves everything to the recorder meanwhile.

use rr_tracee::{Stopped, Tid};

use crate::call::answer::{answer_call, answer_with};
use crate::call::enter::perform_call;
use crate::call::parameters::give_answer;
use crate::call::user_dispatch::{SET_DISPATCH, set_dispatch};
use crate::error::Result;
use crate::ptrace::steps::leave_code_alone;
use crate::seccomp::install::begin_confinement;
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::next::Next;

/// `SUID_DUMP_DISABLE` and `SUID_DUMP_USER` (`<linux/sched/coredump.h>`): the values that a program can set.
const NOT_DUMPABLE: u64 = 0;
const DUMPABLE: u64 = 1;

/// `PR_*` of `<linux/prctl.h>`.
mod pr {
    pub const GET_DUMPABLE: i32 = 3;
    pub const SET_DUMPABLE: i32 = 4;
    pub const GET_TSC: i32 = 25;
    pub const SET_TSC: i32 = 26;
    pub const SET_CHILD_SUBREAPER: i32 = 36;
    pub const SET_PTRACER: i32 = 0x5961_6d61;
}

/// Handles the entry of prctl(2).
pub(crate) fn begin_prctl(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    call: Call,
) -> Result<Next> {
    let entry = call.entry;
    let space = session.world.task(tid)?.space;
    match entry.rdi as i32 {
        pr::SET_DUMPABLE if entry.rsi == NOT_DUMPABLE => {
            session.world.space_mut(space).not_dumpable = true;
            answer_call(session, tid, stopped, &entry, 0, vec![])
        }
        pr::SET_DUMPABLE if entry.rsi == DUMPABLE => {
            session.world.space_mut(space).not_dumpable = false;
            perform_call(&mut session.world, tid, stopped, call)
        }
        pr::GET_DUMPABLE if session.world.space_mut(space).not_dumpable => {
            answer_call(session, tid, stopped, &entry, NOT_DUMPABLE as i64, vec![])
        }
        libc::PR_GET_SECCOMP
        | libc::PR_SET_SECCOMP
        | libc::PR_GET_NO_NEW_PRIVS
        | libc::PR_SET_NO_NEW_PRIVS => begin_confinement(session, tid, stopped, call),
        pr::SET_PTRACER => answer_call(session, tid, stopped, &entry, 0, vec![]),
        pr::SET_TSC => {
            let setting = entry.rsi as i32;
            if !matches!(setting, libc::PR_TSC_ENABLE | libc::PR_TSC_SIGSEGV) {
                return answer_call(session, tid, stopped, &entry, -i64::from(libc::EINVAL), vec![]);
            }
            let is_denied = setting == libc::PR_TSC_SIGSEGV;
            session.world.task_mut(tid)?.settings.is_counter_denied = is_denied;
            // A handler of the trap looks at the instruction.
            let answered = match is_denied {
                true => leave_code_alone(session, tid).map(|()| 0),
                false => Ok(0),
            };
            answer_with(session, tid, stopped, &entry, answered, vec![])
        }
        SET_DISPATCH => {
            let answered = set_dispatch(&mut session.world, tid, &entry);
            answer_with(session, tid, stopped, &entry, answered, vec![])
        }
        pr::GET_TSC => {
            let mut writes = vec![];
            let setting = match session.world.task(tid)?.settings.is_counter_denied {
                true => libc::PR_TSC_SIGSEGV,
                false => libc::PR_TSC_ENABLE,
            };
            let answered = give_answer(
                &session.world,
                tid,
                entry.rsi,
                &setting.to_le_bytes(),
                &mut writes,
            );
            answer_with(session, tid, stopped, &entry, answered, writes)
        }
        _ => perform_call(&mut session.world, tid, stopped, call),
    }
}

/// Handles the exit of a prctl(2) that the kernel has made.
pub(crate) fn finish_prctl(session: &mut RecordSession, tid: Tid, call: &Call, result: i64) -> Result<()> {
    if call.entry.rdi as i32 == pr::SET_CHILD_SUBREAPER && result == 0 {
        let tgid = session.world.task(tid)?.tgid;
        session.checkpoints.note_subreaper(tgid, call.entry.rsi != 0);
    }
    Ok(())
}
