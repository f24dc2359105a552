//! The entry of a system call.
//!
//! Keeps I2: a call that is not in the table is not made. Keeps I3: the outputs of a call that may block go to the task's scratch
//! memory, and are copied to their place when the event is recorded.

use std::ops::ControlFlow;

use rr_trace::event::EventKind;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::syscalls::{Blocking, Class, Spec};
use rr_tracee::{Registers, Stopped, Tid, TraceeFd};

use crate::buffer::control::take_records;
use crate::buffer::rewrite::count_call;
use crate::call::aio::setup::name_ring;
use crate::call::answer::{answer_call, exists, refuse_call};
use crate::call::emulated::begin_emulated;
use crate::call::enter::{enter_blocking_call, enter_call};
use crate::call::output::{mark_output, moves_unseen};
use crate::call::plain_file::is_plain_file;
use crate::call::procfs_emulation::before_write_to_process;
use crate::call::redirect::{grow_scratch, redirect, release_scratch, room_for};
use crate::call::registers::before_call;
use crate::call::user_dispatch::dispatch_to_user;
use crate::drive::locks::note_wait_for_lock;
use crate::error::Result;
use crate::log::events::emit;
use crate::memory::objects::before_cut;
use crate::policy::warnings::Warning;
use crate::ptrace::calls::{stop_at_entry, stops_at_entry, was_entry_shown};
use crate::ptrace::tracee::Seen;
use crate::ptrace::wait::begin_wait;
use crate::seccomp::Arch;
use crate::seccomp::actions::pass_filters;
use crate::seccomp::shown::read_status;
use crate::session::RecordSession;
use crate::signal::actions::action_of;
use crate::signal::groups::signal_members;
use crate::signal::requeue::turn_back_for_signal;
use crate::world::call::Call;
use crate::world::next::Next;

pub(crate) fn on_entry(session: &mut RecordSession, tid: Tid, mut stopped: Stopped) -> Result<Next> {
    let entry = stopped.regs()?;
    if entry.syscall() != libc::SYS_restart_syscall {
        release_scratch(&mut session.world, tid);
    }
    if was_entry_shown(&session.world, tid)? {
        return after_entry_stop(session, tid, stopped);
    }
    let task = session.world.task_mut(tid)?;
    if task.interval.ticks.interrupt.take().is_some() {
        // The requested stop may still be to come. It must not interrupt the call.
        stopped.set_regs(&before_call(&entry))?;
        task.interval.between = true;
        return Ok(Next::Ready(stopped));
    }
    task.interval.between = false;
    take_records(session, tid)?;
    let task = session.world.task_mut(tid)?;
    let restarted = task.at_call.restarting.take();
    task.signals.turned_back = None;
    task.at_call.retrying = false;
    if restarted.is_some() {
        let after = before_call(&entry);
        emit(session, tid, EventKind::Restart { after }, vec![], vec![])?;
        session.world.task_mut(tid)?.interval.boundary = after;
    }
    let stopped = match turn_back_for_signal(&mut session.world, tid, stopped, &entry)? {
        ControlFlow::Continue(stopped) => stopped,
        ControlFlow::Break(next) => return Ok(next),
    };
    let is_ours = restarted
        .as_ref()
        .is_some_and(|call| call.is_restarted_for_us(&entry));
    let stopped = match dispatch_to_user(session, tid, stopped, &entry, is_ours)? {
        ControlFlow::Continue(stopped) => stopped,
        ControlFlow::Break(next) => return Ok(next),
    };
    match stops_at_entry(&session.world, tid)? {
        true => stop_at_entry(session, tid, stopped, entry, restarted),
        false => begin_call(session, tid, stopped, entry, restarted),
    }
}

pub(crate) fn begin_call(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: Registers,
    restarted: Option<Box<Call>>,
) -> Result<Next> {
    let passed = pass_filters(session, tid, stopped, &entry, Arch::X86_64, restarted)?;
    let (stopped, restarted) = match passed {
        ControlFlow::Continue(passed) => passed,
        ControlFlow::Break(next) => return Ok(next),
    };
    let number = entry.syscall();
    count_call(session, tid, &entry);
    note_wait_for_lock(session, tid, &entry)?;
    let mut call = Call {
        of_stream: session.world.task(tid)?.interval.left,
        ..Call::new(entry)
    };
    if let (libc::SYS_restart_syscall, Some(old)) = (number, restarted) {
        // The kernel continues the interrupted call with its own copy of the arguments, including
        // scratch addresses.
        call = Call {
            entry,
            is_stopped: false,
            ..*old
        };
        return enter_call(&mut session.world, tid, stopped, call, true);
    }
    let Some(spec) = call.spec else {
        return refuse_call(session, tid, stopped, &entry, libc::ENOSYS, !exists(number));
    };
    match spec.class_of(&entry) {
        Class::Refused { errno, quiet } => refuse_call(session, tid, stopped, &entry, errno, quiet),
        Class::Emulated(emulated) => begin_emulated(session, tid, stopped, call, emulated),
        Class::Recorded => {
            let stopped = match signal_members(session, tid, stopped, &entry)? {
                ControlFlow::Continue(stopped) => stopped,
                ControlFlow::Break(next) => return Ok(next),
            };
            let (stopped, call) = match begin_wait(session, tid, stopped, call)? {
                ControlFlow::Continue(waits) => waits,
                ControlFlow::Break(next) => return Ok(next),
            };
            begin_recorded(session, tid, stopped, call, spec)
        }
    }
}

/// Makes a call that is only recorded.
pub(crate) fn begin_recorded(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    mut call: Call,
    spec: &Spec,
) -> Result<Next> {
    if moves_unseen(tid, &call.entry) {
        return refuse_call(session, tid, stopped, &call.entry, libc::EINVAL, true);
    }
    let may_block = match spec.blocking_of(&call.entry) {
        Blocking::Never => false,
        Blocking::Maybe => true,
        Blocking::Fd(arg) => {
            let fd = TraceeFd(call.entry.arg(arg.into()) as i32);
            call.of_stream || !is_plain_file(tid, fd)
        }
    };
    let stopped = match read_status(session, tid, stopped, &call.entry)? {
        ControlFlow::Continue(stopped) => stopped,
        ControlFlow::Break(next) => return Ok(next),
    };
    let mut stopped = match before_write_to_process(session, tid, stopped, &call.entry)? {
        ControlFlow::Continue(stopped) => stopped,
        ControlFlow::Break(next) => return Ok(next),
    };
    before_cut(session, tid, &call.entry);
    let task = session.world.task(tid)?;
    let space = task.space;
    call.parts = spec.parts(&call.entry, &task.memory)?;
    call.action = action_of(&call.entry, &task.memory);
    if may_block && !call.parts.is_empty() {
        match session.world.space_mut(space).scratch.take(room_for(&call.parts)) {
            Ok(Some(scratch)) => {
                session.world.task_mut(tid)?.at_call.scratch = Some(scratch);
                call.redirected = redirect(
                    &mut call,
                    &session.world.spaces[&space].model,
                    &session.world.task(tid)?.memory,
                    scratch,
                    &mut stopped,
                )?;
            }
            Ok(None) if session.policy.warnings.is_new(Warning::ScratchIsFull) => {
                tracing::warn!("too many calls block at the same time: replay may diverge");
            }
            Ok(None) => {}
            Err(end) => return grow_scratch(session, tid, stopped, &call.entry, space, end),
        }
    }
    name_ring(&session.world, tid, &call.entry, &mut stopped)?;
    if session.policy.options.mark_stdio {
        mark_output(session, tid, &call)?;
    }
    match may_block {
        true => enter_blocking_call(session, tid, stopped, call),
        false => enter_call(&mut session.world, tid, stopped, call, false),
    }
}

/// The tracer resumes the task from the entry of a call, which the registers describe now.
pub(crate) fn after_entry_stop(session: &mut RecordSession, tid: Tid, stopped: Stopped) -> Result<Next> {
    let entry = stopped.regs()?;
    let tracee = session.world.task_mut(tid)?.tracee.as_mut();
    let (is_skipped, restarted) = match tracee.map(|t| &mut t.seen) {
        Some(Seen::Entry {
            is_skipped,
            restarted,
        }) => (*is_skipped, restarted.take()),
        Some(Seen::Nothing | Seen::End) | None => (false, None),
    };
    if entry.orig_rax == NOT_IN_SYSCALL || is_skipped {
        // The tracer has cancelled the call and set its result.
        return answer_call(session, tid, stopped, &entry, entry.result(), vec![]);
    }
    begin_call(session, tid, stopped, entry, restarted)
}
