//! Stops of a tracee at the entry and the exit of its system calls (`PTRACE_SYSCALL`).
//!
//! At the entry, the tracee stays in the recorder's own stop, with its `SyscallEnter` recorded. There
//! the tracer may change the call or cancel it, and the result is made when the tracee continues. The
//! exit stop comes after the call's event.
//!
//! ```text
//! seccomp stop ─► on_entry ─► stop_at_entry: event SyscallEnter ─► the tracer looks, changes registers
//!                                                                          │ goes on
//!                             on_entry ─► after_entry_stop ─► begin_call ◄─┘
//!                                             event Syscall ─► call_is_recorded: an exit stop is due
//! ```
//!
//! While the tracer wants to see calls, the tracee's library leaves all of them to the recorder.

use rr_trace::event::{EventKind, MemWrite};
use rr_tracee::{Registers, Stop, Stopped, Tid};

use crate::call::parameters::{Answered, give_answer};
use crate::error::Result;
use crate::log::events::emit;
use crate::ptrace::access::{Request, tracee_mut, tracer_stop, with_stopped};
use crate::ptrace::info;
use crate::ptrace::steps::step_is_over;
use crate::ptrace::stops::stop_for_tracer;
use crate::ptrace::tracee::{Cause, EVENT_SECCOMP, Pace, Seen, StopKind, TracerStop};
use crate::seccomp::Arch;
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::model::World;
use crate::world::next::Next;

/// At the entry of a call: returns whether the task stops there for its tracer.
pub(crate) fn stops_at_entry(world: &World, tid: Tid) -> Result<bool> {
    let tracee = world.task(tid)?.tracee.as_ref();
    Ok(tracee.is_some_and(|t| t.shows_calls() && !t.has_shown_entry()))
}

/// Stops the task there. `restarted` is the call that this one restarts.
pub(crate) fn stop_at_entry(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: Registers,
    restarted: Option<Box<Call>>,
) -> Result<Next> {
    emit(session, tid, EventKind::SyscallEnter { entry }, vec![], vec![])?;
    let task = session.world.task_mut(tid)?;
    task.at_call.entered = true;
    let Some(tracee) = &mut task.tracee else {
        return Ok(Next::Stop(stopped, Stop::Seccomp));
    };
    tracee.seen = Seen::Entry {
        is_skipped: tracee.pace.skips_calls(),
        restarted,
    };
    tracee.message = 1;
    let code = tracee.call_code();
    let stop = TracerStop::new(StopKind::CallEntry, code, info::event(tid, code));
    stop_for_tracer(&mut session.world, tid, stop)?;
    Ok(Next::Stop(stopped, Stop::Seccomp))
}

/// At the entry of a call: returns whether the entry has already been seen by the tracer and
/// recorded.
pub(crate) fn was_entry_shown(world: &World, tid: Tid) -> Result<bool> {
    let task = world.task(tid)?;
    Ok(task.at_call.entered && task.tracee.as_ref().is_some_and(|t| t.has_shown_entry()))
}

/// Returns whether a task has a tracer that decides about calls which its filters leave to it.
pub(crate) fn decides_on_calls(world: &World, tid: Tid) -> Result<bool> {
    let tracee = world.task(tid)?.tracee.as_ref();
    Ok(tracee.is_some_and(|t| t.wants(libc::PTRACE_EVENT_SECCOMP)))
}

/// At the entry of a call that a filter leaves to the tracer: the task stops there, and its tracer
/// gets the filter's number. When the task continues, the filters are asked again, about the call
/// that it then makes.
pub(crate) fn stop_at_filter(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: Registers,
    restarted: Option<Box<Call>>,
    data: u16,
) -> Result<Next> {
    if !session.world.task(tid)?.at_call.entered {
        emit(session, tid, EventKind::SyscallEnter { entry }, vec![], vec![])?;
    }
    let task = session.world.task_mut(tid)?;
    task.at_call.is_filter_passed = true;
    task.at_call.entered = true;
    let Some(tracee) = &mut task.tracee else {
        return Ok(Next::Stop(stopped, Stop::Seccomp));
    };
    tracee.seen = Seen::Entry {
        is_skipped: false,
        restarted,
    };
    tracee.message = data.into();
    let stop = TracerStop::new(StopKind::Event, EVENT_SECCOMP, info::event(tid, EVENT_SECCOMP));
    stop_for_tracer(&mut session.world, tid, stop)?;
    Ok(Next::Stop(stopped, Stop::Seccomp))
}

/// Notes that the event of a call has been recorded.
pub(crate) fn call_is_recorded(world: &mut World, tid: Tid, entry: &Registers) -> Result<()> {
    world.task_mut(tid)?.at_call.is_filter_passed = false;
    if let Some(tracee) = &mut world.task_mut(tid)?.tracee {
        tracee.last_call.number = entry.orig_rax;
        if tracee.has_shown_entry() {
            tracee.seen = Seen::Nothing;
        }
        if tracee.pace == Pace::ToCall {
            tracee.due.push_back(Cause::CallExit);
        }
        if tracee.pace.skips_calls() {
            // The end of a call is no step then: the instruction after the call is.
            return Ok(());
        }
    }
    step_is_over(world, tid)
}

/// `PTRACE_GET_SYSCALL_INFO`: stores at most `addr` bytes. The answer is the size of the whole
/// structure.
pub(crate) fn give_call_info(world: &mut World, request: Request, writes: &mut Vec<MemWrite>) -> Answered {
    const NONE: usize = 24;
    const EXIT: usize = 33;
    const ENTRY: usize = 80;
    const FILTER: usize = 84;
    let stop = tracer_stop(world, request.of)?;
    let (kind, code) = (stop.kind, stop.code);
    let message = tracee_mut(world, request.of)?.message;
    let regs = with_stopped(world, request.of, |s| s.regs())??;
    let mut info = [0; 88];
    let mut put = |at: usize, word: u64| info[at..at + 8].copy_from_slice(&word.to_ne_bytes());
    let put_call = |put: &mut dyn FnMut(usize, u64)| {
        put(24, regs.orig_rax);
        (0..6).for_each(|n| put(32 + 8 * n, regs.arg(n)));
    };
    put(8, regs.rip);
    put(16, regs.rsp);
    let (op, len) = match kind {
        StopKind::CallEntry => {
            put_call(&mut put);
            (1, ENTRY)
        }
        StopKind::Event if code == EVENT_SECCOMP => {
            put_call(&mut put);
            put(80, message);
            (3, FILTER)
        }
        StopKind::CallExit => {
            put(24, regs.rax);
            (2, EXIT)
        }
        StopKind::Signal | StopKind::Event | StopKind::Group => (0, NONE),
    };
    info[0] = op;
    info[4..8].copy_from_slice(&(Arch::X86_64 as u32).to_ne_bytes());
    info[32] = match kind {
        StopKind::CallExit => u8::from((-4095..0).contains(&regs.result())),
        _ => info[32],
    };
    let asked = len.min(request.addr.try_into().unwrap_or(len));
    give_answer(world, request.by, request.data, &info[..asked], writes)?;
    Ok(len as i64)
}
