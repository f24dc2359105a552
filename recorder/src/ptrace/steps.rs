//! `PTRACE_SINGLESTEP`: a tracee executes one instruction.
//!
//! The step must happen in replay, too. So it becomes a part of the tracee's own state: its trap flag
//! is set, as a change of its registers ([`SetRegisters`](EventKind::SetRegisters)), and the trap after
//! the instruction is a fault like any other, which also happens in replay. At the stop the flag is
//! cleared again.
//!
//! An instruction that is an event of its own (a system call, `rdtsc`) is executed without the flag.
//! Its event ends the step. The call of a signal's handler ends the step, too.
//!
//! In the address space of a tracee no call goes to the library (unless it is also the tracer's own).
//! Otherwise the tracer would see the way there in single steps and in the code that it reads, and
//! would write that code back when it removes a breakpoint.

use rr_trace::event::EventKind;
use rr_tracee::code::{self, WINDOW_MAX};
use rr_tracee::cpuid;
use rr_tracee::regs::TF;
use rr_tracee::site::Instruction;
use rr_tracee::{Addr, AddrRange, Registers, Stopped, Tid};

use crate::buffer::restore::step_without_sites;
use crate::call::parameters::Answered;
use crate::error::Result;
use crate::log::events::emit;
use crate::ptrace::access::tracee_mut;
use crate::ptrace::memory::finish_reading;
use crate::ptrace::tracee::{Cause, Step};
use crate::session::RecordSession;
use crate::world::model::World;

/// Returns whether the code begins with an event: a system call, or an instruction that reads the
/// time-stamp counter, or a `cpuid` that traps.
fn is_event(code: &[u8]) -> bool {
    /// `sysenter` and `int 0x80`.
    const OTHER_CALLS: [&[u8]; 2] = [&[0x0f, 0x34], &[0xcd, 0x80]];
    match Instruction::of(code) {
        Some(Instruction::Cpuid) => cpuid::is_intercepted(),
        Some(_) => true,
        None => OTHER_CALLS.iter().any(|opcode| code.starts_with(opcode)),
    }
}

/// Stops sending calls in the address space of `tid` to the library, and restores the program's code
/// there. The event of the call under way gets the change.
pub(crate) fn leave_code_alone(session: &mut RecordSession, tid: Tid) -> Answered<()> {
    let id = session.world.task(tid)?.space;
    if session.world.space_mut(id).library.sites.stepped {
        return Ok(());
    }
    finish_reading(session, id);
    if let Some((_, writes)) = step_without_sites(&mut session.world, tid, Addr::NULL)? {
        session.world.besides.writes.extend(writes);
    }
    Ok(())
}

/// Resumes a tracee for one instruction.
pub(crate) fn want_step(session: &mut RecordSession, tid: Tid) -> Answered<()> {
    leave_code_alone(session, tid)?;
    tracee_mut(&mut session.world, tid)?.step = Step::Wanted;
    Ok(())
}

/// Returns whether a task that could continue must make a step.
pub(crate) fn wants_step(world: &World, tid: Tid) -> Result<bool> {
    let task = world.task(tid)?;
    Ok(!task.is_mid_interval() && task.tracee.as_ref().is_some_and(|t| t.step == Step::Wanted))
}

/// Makes the task execute only one instruction when it continues.
pub(crate) fn begin_step(session: &mut RecordSession, tid: Tid, stopped: &mut Stopped) -> Result<()> {
    if stopped.signal_due()? {
        // The signal comes first.
        return Ok(());
    }
    let regs = stopped.regs()?;
    let is_event = session.world.task(tid)?.at_call.restarting.is_some()
        || is_event_at(&session.world, tid, Addr(regs.rip))?;
    let step = if is_event {
        Step::Event
    } else {
        let after = Registers {
            eflags: regs.eflags | TF,
            ..regs.outside_call()
        };
        stopped.set_regs(&after)?;
        emit(
            session,
            tid,
            EventKind::SetRegisters { after, xstate: None },
            vec![],
            vec![],
        )?;
        session.world.task_mut(tid)?.interval.boundary = after;
        Step::Flagged(regs.eflags & TF != 0)
    };
    if let Some(tracee) = &mut session.world.task_mut(tid)?.tracee {
        tracee.step = step;
    }
    Ok(())
}

/// Returns whether the instruction at `at` is an event.
fn is_event_at(world: &World, tid: Tid, at: Addr) -> Result<bool> {
    let task = world.task(tid)?;
    let bytes = task.memory.read_up_to(at, WINDOW_MAX)?;
    let len = code::decode(&bytes, at).map_or(bytes.len(), |i| i.len());
    let sites = world.spaces.get(&task.space).map(|s| &s.library.sites);
    let is_trap = sites.is_some_and(|s| s.has_trap_in(AddrRange::sized(at, len as u64)));
    Ok(is_trap || is_event(&bytes))
}

/// The event of an instruction, or of a signal's handler, has been recorded: ends a step of `tid`.
pub(crate) fn step_is_over(world: &mut World, tid: Tid) -> Result<()> {
    if let Some(tracee) = &mut world.task_mut(tid)?.tracee
        && tracee.step != Step::No
    {
        tracee.step = Step::No;
        tracee.due.push_back(Cause::Stepped);
    }
    Ok(())
}

/// A tracee stops for its tracer with `regs`. Returns the registers without the effects of our
/// step.
pub(crate) fn end_step(
    world: &mut World,
    tid: Tid,
    stopped: &mut Stopped,
    mut regs: Registers,
) -> Result<Registers> {
    let Some(tracee) = &mut world.task_mut(tid)?.tracee else {
        return Ok(regs);
    };
    if std::mem::replace(&mut tracee.step, Step::No) == Step::Flagged(false) {
        regs.eflags &= !TF;
        stopped.set_regs(&regs)?;
    }
    Ok(regs)
}
