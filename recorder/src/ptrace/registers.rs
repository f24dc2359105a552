//! A tracee's registers: `struct user`, and register sets.
//!
//! The kernel's own answers are passed on, because the tracee stands in a stop of the recorder, at an
//! event of its own. Setting registers is an event of the tracee.

use rr_trace::event::{EventKind, MemWrite};
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::task::{REGSET_MOST, SyscallPhase, is_debug_register};
use rr_tracee::{Registers, Stop, Tid};

use crate::call::parameters::{Answered, give_answer, read_parameter};
use crate::error::Result;
use crate::log::events::emit;
use crate::ptrace::access::{Request, tracee_mut, tracer_stop, with_stopped};
use crate::ptrace::tracee::StopKind;
use crate::ptrace::watches::set_debug_register;
use crate::session::RecordSession;
use crate::world::model::World;
use crate::world::task::State;
use rr_tracee::regs::is_restart;

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

/// `PTRACE_GETREGS`, `PTRACE_GETFPREGS`.
pub(crate) fn give_regset(
    world: &mut World,
    request: Request,
    kind: u64,
    writes: &mut Vec<MemWrite>,
) -> Answered {
    let bytes = read_regset(world, request.of, kind, size_of_set(kind))?;
    give_answer(world, request.by, request.data, &bytes, writes)
}

/// `PTRACE_SETREGS`, `PTRACE_SETFPREGS`.
pub(crate) fn take_regset(session: &mut RecordSession, request: Request, kind: u64) -> Answered {
    let bytes = read_parameter(&session.world, request.by, request.data, size_of_set(kind))?;
    put_regset(session, request.of, kind, &bytes)?;
    Ok(0)
}

/// `PTRACE_GETREGSET`: `data` is the address of the buffer's address and size.
pub(crate) fn get_regset(world: &mut World, request: Request, writes: &mut Vec<MemWrite>) -> Answered {
    let (base, len) = vector_of(world, request)?;
    let kind = request.addr;
    let bytes = read_regset(world, request.of, kind, len)?;
    give_answer(world, request.by, base, &bytes, writes)?;
    let len = (bytes.len() as u64).to_le_bytes();
    give_answer(world, request.by, request.data.wrapping_add(8), &len, writes)
}

/// `PTRACE_SETREGSET`.
pub(crate) fn set_regset(session: &mut RecordSession, request: Request) -> Answered {
    let (base, len) = vector_of(&session.world, request)?;
    let bytes = read_parameter(&session.world, request.by, base, len)?;
    let taken = put_regset(session, request.of, request.addr, &bytes)?;
    // The kernel says how many bytes it has not taken. (No other task sees that.)
    debug_assert!(taken <= len);
    Ok(0)
}

/// The `struct iovec` of a request.
fn vector_of(world: &World, request: Request) -> Answered<(u64, usize)> {
    let bytes = read_parameter(world, request.by, request.data, 16)?;
    let word = |at: usize| {
        let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
        word.map_or(0, |b| u64::from_le_bytes(*b))
    };
    Ok((word(0), word(8).min(REGSET_MOST as u64) as usize))
}

/// A register set, as the program has it.
fn read_regset(world: &mut World, tid: Tid, kind: u64, len: usize) -> Answered<Vec<u8>> {
    const AT: usize = ORIG_RAX as usize;
    let mut bytes = with_stopped(world, tid, |s| s.regset(kind, len))??;
    if kind == GENERAL
        && let Some(word) = bytes.get_mut(AT..AT + 8)
        && let Some(raw) = word.first_chunk()
    {
        let shown = number_shown(world, tid, u64::from_le_bytes(*raw))?;
        word.copy_from_slice(&shown.to_le_bytes());
    }
    Ok(bytes)
}

/// The number of the current call that a tracer is shown. At the exit of a call the number is still
/// there natively. Here the task may have left the kernel's stop since, to make remote calls.
fn number_shown(world: &mut World, tid: Tid, raw: u64) -> Answered<u64> {
    let is_exit = tracer_stop(world, tid)?.kind == StopKind::CallExit;
    let last = tracee_mut(world, tid)?.last_call.number;
    Ok(if is_exit && raw == NOT_IN_SYSCALL {
        last
    } else {
        raw
    })
}

fn put_regset(session: &mut RecordSession, tid: Tid, kind: u64, bytes: &[u8]) -> Answered<usize> {
    let taken = with_stopped(&mut session.world, tid, |s| s.set_regset(kind, bytes))??;
    note_registers(session, tid, kind != GENERAL)?;
    Ok(taken)
}

/// `PTRACE_PEEKUSER`.
pub(crate) fn peek_user(world: &mut World, tid: Tid, offset: u64) -> Answered<u64> {
    let word = with_stopped(world, tid, |s| s.user_word(offset))??;
    Ok(match offset {
        ORIG_RAX => number_shown(world, tid, word)?,
        _ => word,
    })
}

/// `PTRACE_POKEUSER`.
pub(crate) fn poke_user(session: &mut RecordSession, request: Request) -> Answered {
    if is_debug_register(request.addr) {
        return set_debug_register(session, request.of, request.addr, request.data);
    }
    with_stopped(&mut session.world, request.of, |s| {
        s.set_user_word(request.addr, request.data)
    })??;
    note_registers(session, request.of, false)?;
    Ok(0)
}

/// Records that the tracer has set registers of `tid`, even if they are unchanged.
fn note_registers(session: &mut RecordSession, tid: Tid, is_extended: bool) -> Result<()> {
    let task = session.world.task(tid)?;
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
        return emit(
            session,
            tid,
            EventKind::SetRegisters { after, xstate },
            vec![],
            vec![],
        );
    }
    let after = raw.outside_call();
    if let State::Ready(stopped) = &mut session.world.task_mut(tid)?.state
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
    emit(
        session,
        tid,
        EventKind::SetRegisters { after, xstate },
        vec![],
        vec![],
    )?;
    let task = session.world.task_mut(tid)?;
    task.interval.boundary = after;
    let Some(tracee) = &mut task.tracee else {
        return Ok(());
    };
    if will_restart(&raw) {
        if task.at_call.restarting.is_none() {
            task.at_call.restarting = tracee.last_call.held_restart.take();
        }
    } else if let Some(call) = task.at_call.restarting.take() {
        tracee.last_call.held_restart = Some(call);
    }
    Ok(())
}

/// Returns whether the kernel restarts the interrupted call.
fn will_restart(raw: &Registers) -> bool {
    is_restart(raw.result()) && raw.orig_rax as i64 >= 0
}
