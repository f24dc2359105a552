//! Finds a `cpuid` that trapped while it was recorded: the instruction does not trap in replay.
//!
//! Keeps I2 on all machines: the instruction is never executed. Where it could be proven it was replaced by one that traps
//! everywhere ([`rr_tracee::trapping`]). Elsewhere, in code that nothing is known about or that the program makes itself, a debug
//! register stops the task before the instruction. It need not be there yet when the interval begins.

use rr_trace::event::{Event, EventKind, SignalPlace};
use rr_tracee::regs::RF;
use rr_tracee::site::Instruction;
use rr_tracee::trapping::{LENGTH_MOST, Trapping};
use rr_tracee::{Addr, Registers, cpuid, vsyscall};

use crate::error::{Error, Result, failed};
use crate::session::ReplaySession;

/// Before the event's task is resumed: sets its debug registers, with one for the `cpuid` that ends the interval, if such a
/// register is needed.
pub(crate) fn arm(session: &mut ReplaySession, event: &Event) -> Result<()> {
    let stop = stop_of(session, event)?;
    if let Some(stop) = stop {
        let regs = session.world.regs_of(event)?;
        // This flag keeps the processor from stopping before the instruction.
        if Addr(regs.rip) == stop && regs.eflags & RF != 0 {
            let set = session.world.task(event)?.stopped();
            set.and_then(|s| s.set_regs(&regs.without_resume_flag()))
                .map_err(|source| failed(event, source))?;
        }
    }
    if !session.stoppoints.watches.set_stop(stop) {
        return Err(Error::NoDebugRegister { event: event.number });
    }
    session.stoppoints.watches.arm(&mut session.world, event)
}

/// The address of the `cpuid` that ends the interval and does not trap.
fn stop_of(session: &mut ReplaySession, event: &Event) -> Result<Option<Addr>> {
    let is_everywhere = session.events.reader.header().cpuid_faulting;
    let Some(at) = end_of(event) else {
        return Ok(None);
    };
    if !is_everywhere && matches!(event.kind, EventKind::Trap { .. }) {
        return Ok(None);
    }
    let task = session.world.task(event)?;
    let (memory, space) = (task.memory(), task.space);
    let mut code = [0; LENGTH_MOST];
    // What cannot be read is not there yet.
    let got = memory.read_some(Addr(at.rip), &mut code).unwrap_or(0);
    let code = &mut code[..got];
    if let Some(overlay) = session.code.overlays.get(&space) {
        overlay.mask(Addr(at.rip), code);
    }
    let is_needed = match event.kind {
        EventKind::Trap { .. } => !traps_anyway(code) && (at.rip >> 32) as u32 != vsyscall::HIGH,
        // The program wanted the instruction to trap.
        _ => code.starts_with(&cpuid::BYTES),
    };
    Ok(is_needed.then_some(Addr(at.rip)))
}

/// The registers at the end of the interval, if that can be a `cpuid`.
fn end_of(event: &Event) -> Option<&Registers> {
    match &event.kind {
        kind if kind.is_page_fault() => None,
        EventKind::Trap { at, .. } => Some(at),
        EventKind::Signal {
            signo: libc::SIGSEGV,
            place: SignalPlace::Fault(at),
            ..
        } => Some(at),
        _ => None,
    }
}

/// Returns whether this instruction of a recorded trap traps in replay, too.
fn traps_anyway(code: &[u8]) -> bool {
    let is_counter = |i| matches!(i, Instruction::Counter | Instruction::CounterAndProcessor);
    Instruction::of(code).is_some_and(is_counter) || Trapping::of(code).is_some()
}

/// The registers at the `cpuid` before which a debug register has stopped the event's task.
pub(crate) fn stopped_for(session: &ReplaySession, event: &Event, regs: &Registers) -> Option<Registers> {
    let stop = session.stoppoints.watches.stop()?;
    end_of(event).filter(|_| stop == Addr(regs.rip)).copied()
}
