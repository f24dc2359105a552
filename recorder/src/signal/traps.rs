//! Instructions that trap, and that the recorder carries out.

use rr_preload::layout::{COUNTER_AND_PROCESSOR_NUMBER, COUNTER_NUMBER, CPUID_NUMBER};
use rr_trace::event::{EventKind, MemWrite};
use rr_tracee::components::{self, XCR0};
use rr_tracee::cpuid;
use rr_tracee::register_read::{self, Source};
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::site::Instruction;
use rr_tracee::trapping::Trapping;
use rr_tracee::{Addr, Registers, SpaceOp, Stopped, Tid, tsc};

use crate::buffer::control::take_records;
use crate::buffer::rewrite::{consider_place, count_traced};
use crate::buffer::trapping::trapping_at;
use crate::call::cores::shown_processor;
use crate::error::Result;
use crate::log::events::emit;
use crate::ptrace::steps::step_is_over;
use crate::session::RecordSession;
use crate::world::next::Next;

/// An instruction that the recorder carries out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CarriedOut {
    /// Its number in statistics, if the library can stand in for it.
    number: Option<u64>,
    /// The registers after the instruction.
    after: Registers,
}

/// The instruction at which the task stands, if the instruction has trapped because of rr. `None` if its trap is the
/// program's own: an ordinary fault.
pub(crate) fn carried_out_at(
    session: &RecordSession,
    tid: Tid,
    regs: &Registers,
) -> Result<Option<CarriedOut>> {
    let settings = &session.world.task(tid)?.settings;
    Ok(match instruction_at(session, tid, regs)? {
        Some(Instruction::Counter | Instruction::CounterAndProcessor)
            if settings.confined.is_strict() || settings.is_counter_denied =>
        {
            None
        }
        Some(Instruction::Counter) => Some(CarriedOut {
            number: Some(COUNTER_NUMBER),
            after: counter_read(session, regs),
        }),
        Some(Instruction::CounterAndProcessor) => Some(CarriedOut {
            number: Some(COUNTER_AND_PROCESSOR_NUMBER),
            after: Registers {
                rcx: u64::from(shown_processor(session, tid)?),
                rip: regs.rip + Instruction::CounterAndProcessor.len(),
                ..counter_read(session, regs)
            },
        }),
        Some(Instruction::Cpuid) if settings.is_cpuid_denied => None,
        Some(Instruction::Cpuid) => {
            let answer = session
                .policy
                .options
                .processor
                .answers
                .answer(regs.rax as u32, regs.rcx as u32);
            Some(CarriedOut {
                number: Some(CPUID_NUMBER),
                after: cpuid::carried_out(&regs.outside_call(), answer),
            })
        }
        Some(Instruction::Call) => None,
        None => match trapping_at(&session.world, tid, regs)? {
            Some(Trapping::RegisterRead(access)) => {
                let value = match access.source() {
                    Source::Random => register_read::random(),
                    Source::ProcessorNumber => shown_processor(session, tid)?.into(),
                };
                Some(CarriedOut {
                    number: None,
                    after: access.carried_out(&regs.outside_call(), value),
                })
            }
            // Another register than XCR0 is not there, so that the trap is the program's own.
            Some(Trapping::Components) if regs.rcx as u32 == XCR0 => {
                session.policy.options.processor.portable.map(|level| CarriedOut {
                    number: None,
                    after: components::carried_out(&regs.outside_call(), level.components()),
                })
            }
            Some(Trapping::Components | Trapping::Cpuid) | None => None,
        },
    })
}

/// The program's instruction at its place.
fn instruction_at(session: &RecordSession, tid: Tid, regs: &Registers) -> Result<Option<Instruction>> {
    let task = session.world.task(tid)?;
    let sites = &session.world.spaces[&task.space].library.sites;
    let code = sites.read_code(&task.memory, Addr(regs.rip), Instruction::LONGEST)?;
    Ok(Instruction::of(&code))
}

/// The registers after a `rdtsc`.
fn counter_read(session: &RecordSession, regs: &Registers) -> Registers {
    let tsc = session.policy.counter().at(tsc::raw_time());
    Registers {
        rax: tsc & 0xffff_ffff,
        rdx: tsc >> 32,
        rip: regs.rip + Instruction::Counter.len(),
        orig_rax: NOT_IN_SYSCALL,
        ..*regs
    }
}

/// Carries the instruction out at which the task stands, and records that. If the library can stand in for such
/// instructions, the site may be rewritten.
pub(crate) fn carry_out(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    regs: &Registers,
    CarriedOut { number, after }: CarriedOut,
) -> Result<Next> {
    stopped.set_regs(&after)?;
    let at = regs.outside_call();
    take_records(session, tid)?;
    let (mut ops, mut writes) = (vec![], vec![]);
    if let Some(number) = number {
        count_traced(session, tid, number as i64, Addr(at.rip));
        stopped = consider_place(session, tid, stopped, Addr(at.rip), &mut ops, &mut writes)?;
    }
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
