//! Instructions that trap, and that the recorder carries out.

use rr_preload::layout::{COUNTER_AND_PROCESSOR_NUMBER, COUNTER_NUMBER};
use rr_trace::event::{EventKind, MemWrite};
use rr_tracee::hardware_random::{self, Access};
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::site::Instruction;
use rr_tracee::{Addr, Registers, SpaceOp, Stopped, Tid, tsc};

use crate::buffer::control::take_records;
use crate::buffer::rewrite::{consider_place, count_traced};
use crate::error::Result;
use crate::log::events::emit;
use crate::ptrace::steps::step_is_over;
use crate::session::RecordSession;
use crate::world::next::Next;

/// Carries the instruction out.
pub(crate) fn after_random(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    regs: &Registers,
    access: Access,
) -> Result<Next> {
    let at = regs.outside_call();
    let after = access.carried_out(&at, hardware_random::value());
    stopped.set_regs(&after)?;
    take_records(session, tid)?;
    after_trap(session, tid, stopped, (at, after), vec![], vec![])
}

/// Records that the task has read the time-stamp counter, by the instruction with this number in
/// records.
pub(crate) fn after_rdtsc(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    number: u64,
    (regs, after): (Registers, Registers),
) -> Result<Next> {
    stopped.set_regs(&after)?;
    let at = regs.outside_call();
    take_records(session, tid)?;
    let (mut ops, mut writes) = (vec![], vec![]);
    count_traced(session, tid, number as i64, Addr(at.rip));
    stopped = consider_place(session, tid, stopped, Addr(at.rip), &mut ops, &mut writes)?;
    after_trap(session, tid, stopped, (at, after), ops, writes)
}

/// Records an instruction that trapped and that the recorder has carried out: `at` and `after` are
/// the registers before and after the instruction.
pub(crate) fn after_trap(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    (at, after): (Registers, Registers),
    ops: Vec<SpaceOp>,
    writes: Vec<MemWrite>,
) -> Result<Next> {
    emit(session, tid, EventKind::Trap { at, after }, ops, writes)?;
    session.world.task_mut(tid)?.interval.boundary = after;
    step_is_over(&mut session.world, tid)?;
    Ok(Next::Ready(stopped))
}

/// If the task stands at an instruction that reads the time-stamp counter: returns the number of
/// that instruction in records, and the registers after the instruction.
pub(crate) fn carry_out_rdtsc(
    session: &RecordSession,
    tid: Tid,
    regs: &Registers,
) -> Result<Option<(u64, Registers)>> {
    let task = session.world.task(tid)?;
    let sites = &session.world.spaces[&task.space].library.sites;
    let code = sites.read_code(&task.memory, Addr(regs.rip), Instruction::LONGEST)?;
    let Some(instruction) = Instruction::of(&code) else {
        return Ok(None);
    };
    let number = match instruction {
        Instruction::Call => return Ok(None),
        Instruction::Counter => COUNTER_NUMBER,
        Instruction::CounterAndProcessor => COUNTER_AND_PROCESSOR_NUMBER,
    };
    let tsc = session.policy.counter().at(tsc::raw_time());
    let mut after = Registers {
        rax: tsc & 0xffff_ffff,
        rdx: tsc >> 32,
        rip: regs.rip + instruction.len(),
        orig_rax: NOT_IN_SYSCALL,
        ..*regs
    };
    if instruction == Instruction::CounterAndProcessor {
        after.rcx = u64::from(session.policy.pretended_aux(tsc::processor()));
    }
    Ok(Some((number, after)))
}
