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

use crate::call::user_dispatch::SET_DISPATCH;
use crate::error::Result;
use crate::session::RecordSession;
use crate::world::task::Call;

/// `PR_*` of `<linux/prctl.h>`.
mod pr {
    pub const GET_DUMPABLE: i32 = 3;
    pub const SET_DUMPABLE: i32 = 4;
    pub const GET_TSC: i32 = 25;
    pub const SET_TSC: i32 = 26;
    pub const SET_CHILD_SUBREAPER: i32 = 36;
    pub const SET_PTRACER: i32 = 0x5961_6d61;
}

/// `SUID_DUMP_DISABLE` and `SUID_DUMP_USER` (`<linux/sched/coredump.h>`): the values that a program can set.
const NOT_DUMPABLE: u64 = 0;
const DUMPABLE: u64 = 1;

impl RecordSession {
    /// Handles the entry of prctl(2).
    pub(crate) fn begin_prctl(&mut self, tid: Tid, stopped: Stopped, call: Call) -> Result<()> {
        let entry = call.entry;
        let space = self.task(tid)?.space;
        match entry.rdi as i32 {
            pr::SET_DUMPABLE if entry.rsi == NOT_DUMPABLE => {
                self.space_mut(space).not_dumpable = true;
                self.answer(tid, stopped, &entry, 0, vec![])
            }
            pr::SET_DUMPABLE if entry.rsi == DUMPABLE => {
                self.space_mut(space).not_dumpable = false;
                self.perform(tid, stopped, call)
            }
            pr::GET_DUMPABLE if self.space_mut(space).not_dumpable => {
                self.answer(tid, stopped, &entry, NOT_DUMPABLE as i64, vec![])
            }
            libc::PR_GET_SECCOMP
            | libc::PR_SET_SECCOMP
            | libc::PR_GET_NO_NEW_PRIVS
            | libc::PR_SET_NO_NEW_PRIVS => self.begin_confinement(tid, stopped, call),
            pr::SET_PTRACER => self.answer(tid, stopped, &entry, 0, vec![]),
            pr::SET_TSC => {
                let setting = entry.rsi as i32;
                if !matches!(setting, libc::PR_TSC_ENABLE | libc::PR_TSC_SIGSEGV) {
                    return self.answer(tid, stopped, &entry, -i64::from(libc::EINVAL), vec![]);
                }
                let is_denied = setting == libc::PR_TSC_SIGSEGV;
                self.task_mut(tid)?.is_counter_denied = is_denied;
                // A handler of the trap looks at the instruction.
                let answered = match is_denied {
                    true => self.leave_code_alone(tid).map(|()| 0),
                    false => Ok(0),
                };
                self.answer_with(tid, stopped, &entry, answered, vec![])
            }
            SET_DISPATCH => {
                let answered = self.set_dispatch(tid, &entry);
                self.answer_with(tid, stopped, &entry, answered, vec![])
            }
            pr::GET_TSC => {
                let mut writes = vec![];
                let setting = match self.task(tid)?.is_counter_denied {
                    true => libc::PR_TSC_SIGSEGV,
                    false => libc::PR_TSC_ENABLE,
                };
                let answered = self.give(tid, entry.rsi, &setting.to_le_bytes(), &mut writes);
                self.answer_with(tid, stopped, &entry, answered, writes)
            }
            _ => self.perform(tid, stopped, call),
        }
    }

    /// Handles the exit of a prctl(2) that the kernel has made.
    pub(crate) fn finish_prctl(&mut self, tid: Tid, call: &Call, result: i64) -> Result<()> {
        if call.entry.rdi as i32 == pr::SET_CHILD_SUBREAPER && result == 0 {
            let tgid = self.task(tid)?.tgid;
            self.capture.note_subreaper(tgid, call.entry.rsi != 0);
        }
        Ok(())
    }
}
