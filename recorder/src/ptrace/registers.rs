//! A tracee's registers: `struct user`, and register sets.
//!
//! The kernel's own answers are passed on, because the tracee stands in a stop of the recorder, at an
//! event of its own. Setting registers is an event of the tracee.

use rr_trace::event::{EventKind, MemWrite};
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::task::{REGSET_MOST, SyscallPhase, is_debug_register};
use rr_tracee::{Registers, Stop, Tid};

use crate::call::syscall::is_restart;
use crate::error::Result;
use crate::ptrace::StopKind;
use crate::ptrace::request::{Answered, Request};
use crate::session::RecordSession;
use crate::world::task::State;

/// `NT_PRSTATUS`, `NT_PRFPREG` (`<elf.h>`).
pub(super) const GENERAL: u64 = 1;
pub(super) const FLOATING: u64 = 2;
/// Offset of the number of the call in `struct user_regs_struct`.
const ORIG_RAX: u64 = 15 * 8;
/// `struct user_regs_struct`, `struct user_fpregs_struct`.
const GENERAL_BYTES: usize = size_of::<libc::user_regs_struct>();
const FLOATING_BYTES: usize = size_of::<libc::user_fpregs_struct>();

fn size_of_set(kind: u64) -> usize {
    match kind {
        GENERAL => GENERAL_BYTES,
        _ => FLOATING_BYTES,
    }
}

impl RecordSession {
    /// `PTRACE_GETREGS`, `PTRACE_GETFPREGS`.
    pub(super) fn give_regset(
        &mut self,
        request: Request,
        kind: u64,
        writes: &mut Vec<MemWrite>,
    ) -> Answered {
        let bytes = self.regset(request.of, kind, size_of_set(kind))?;
        self.give(request.by, request.data, &bytes, writes)
    }

    /// `PTRACE_SETREGS`, `PTRACE_SETFPREGS`.
    pub(super) fn take_regset(&mut self, request: Request, kind: u64) -> Answered {
        let bytes = self.taken(request.by, request.data, size_of_set(kind))?;
        self.put_regset(request.of, kind, &bytes)?;
        Ok(0)
    }

    /// `PTRACE_GETREGSET`: `data` is the address of the buffer's address and size.
    pub(super) fn get_regset(&mut self, request: Request, writes: &mut Vec<MemWrite>) -> Answered {
        let (base, len) = self.vector_of(request)?;
        let kind = request.addr;
        let bytes = self.regset(request.of, kind, len)?;
        self.give(request.by, base, &bytes, writes)?;
        let len = (bytes.len() as u64).to_le_bytes();
        self.give(request.by, request.data.wrapping_add(8), &len, writes)
    }

    /// `PTRACE_SETREGSET`.
    pub(super) fn set_regset(&mut self, request: Request) -> Answered {
        let (base, len) = self.vector_of(request)?;
        let bytes = self.taken(request.by, base, len)?;
        let taken = self.put_regset(request.of, request.addr, &bytes)?;
        // The kernel says how many bytes it has not taken. (No other task sees that.)
        debug_assert!(taken <= len);
        Ok(0)
    }

    /// The `struct iovec` of a request.
    fn vector_of(&self, request: Request) -> Answered<(u64, usize)> {
        let bytes = self.taken(request.by, request.data, 16)?;
        let word = |at: usize| {
            let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
            word.map_or(0, |b| u64::from_le_bytes(*b))
        };
        Ok((word(0), word(8).min(REGSET_MOST as u64) as usize))
    }

    /// A register set, as the program has it.
    fn regset(&mut self, tid: Tid, kind: u64, len: usize) -> Answered<Vec<u8>> {
        const AT: usize = ORIG_RAX as usize;
        let mut bytes = self.with_stopped(tid, |s| s.regset(kind, len))??;
        if kind == GENERAL
            && let Some(word) = bytes.get_mut(AT..AT + 8)
            && let Some(raw) = word.first_chunk()
        {
            let shown = self.number_shown(tid, u64::from_le_bytes(*raw))?;
            word.copy_from_slice(&shown.to_le_bytes());
        }
        Ok(bytes)
    }

    /// The number of the current call that a tracer is shown. At the exit of a call the number is still
    /// there natively. Here the task may have left the kernel's stop since, to make remote calls.
    fn number_shown(&mut self, tid: Tid, raw: u64) -> Answered<u64> {
        let is_exit = self.tracer_stop(tid)?.kind == StopKind::CallExit;
        let last = self.tracee_mut(tid)?.last_call;
        Ok(if is_exit && raw == NOT_IN_SYSCALL {
            last
        } else {
            raw
        })
    }

    fn put_regset(&mut self, tid: Tid, kind: u64, bytes: &[u8]) -> Answered<usize> {
        let taken = self.with_stopped(tid, |s| s.set_regset(kind, bytes))??;
        self.note_registers(tid, kind != GENERAL)?;
        Ok(taken)
    }

    /// `PTRACE_PEEKUSER`.
    pub(super) fn peek_user(&mut self, tid: Tid, offset: u64) -> Answered<u64> {
        let word = self.with_stopped(tid, |s| s.user_word(offset))??;
        Ok(match offset {
            ORIG_RAX => self.number_shown(tid, word)?,
            _ => word,
        })
    }

    /// `PTRACE_POKEUSER`.
    pub(super) fn poke_user(&mut self, request: Request) -> Answered {
        if is_debug_register(request.addr) {
            return self.set_debug_register(request.of, request.addr, request.data);
        }
        self.with_stopped(request.of, |s| s.set_user_word(request.addr, request.data))??;
        self.note_registers(request.of, false)?;
        Ok(0)
    }

    /// Records that the tracer has set registers of `tid`, even if they are unchanged.
    fn note_registers(&mut self, tid: Tid, is_extended: bool) -> Result<()> {
        let task = self.task(tid)?;
        let (stopped, is_at_entry) = match &task.state {
            State::Ready(stopped) => (stopped, false),
            State::Reported(stopped, Stop::Seccomp) => (stopped, true),
            // At the tracee's end nobody sees them.
            _ => return Ok(()),
        };
        let raw = stopped.regs()?;
        let xstate = is_extended.then(|| stopped.xstate()).transpose()?;
        if is_at_entry {
            let after = raw;
            return self.emit(tid, EventKind::SetRegisters { after, xstate }, vec![], vec![]);
        }
        let after = raw.outside_call();
        if let State::Ready(stopped) = &mut self.task_mut(tid)?.state
            && raw != after
            && matches!(
                stopped.syscall_phase()?,
                SyscallPhase::Entry | SyscallPhase::Seccomp
            )
        {
            // The task stands at the entry of a call that is not made (a remote one). A valid number
            // would make the call.
            stopped.set_regs(&after)?;
        }
        self.emit(tid, EventKind::SetRegisters { after, xstate }, vec![], vec![])?;
        let task = self.task_mut(tid)?;
        task.boundary = after;
        let Some(tracee) = &mut task.tracee else {
            return Ok(());
        };
        if will_restart(&raw) {
            if task.restarting.is_none() {
                task.restarting = tracee.put_off.take();
            }
        } else if let Some(call) = task.restarting.take() {
            tracee.put_off = Some(call);
        }
        Ok(())
    }
}

/// Returns whether the kernel restarts the interrupted call.
fn will_restart(raw: &Registers) -> bool {
    is_restart(raw.result()) && raw.orig_rax as i64 >= 0
}
