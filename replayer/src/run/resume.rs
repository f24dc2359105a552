//! Resumes the event's task, waits for it, and finds the meaning of its stop.

use rr_preload::layout;
use rr_trace::event::Event;
use rr_tracee::regs::{NOT_IN_SYSCALL, TF};
use rr_tracee::stubs::{COPY_MOST, STUBS};
use rr_tracee::task::{Resume, TRAP_INT3, TRAP_TRACE, si_code};
use rr_tracee::{Addr, Registers, Stop, Tid, stubs, vsyscall};

use crate::apply::make_change;
use crate::arrival::Target;
use crate::buffer;
use crate::cpuid_stop::stopped_for;
use crate::error::{Divergence, Error, Result, failed, register_divergence};
use crate::interrupt::Interrupt;
use crate::passes::{
    Trapped, after_fault, at_stub, give_counts, moved_from, note_detour, remove_passes, stub_around,
    take_counts,
};
use crate::payload::recheck_payload;
use crate::point::{Found, at_probe, is_at_point, note_overwritten};
use crate::session::ReplaySession;
use crate::task::Ran;

/// After the library's `syscall` instruction.
const PAST_CALL: u64 = layout::SYSCALL + 2;

/// Meaning of a stop.
pub(super) enum Seen {
    /// Nothing: the task continues as before.
    Nothing,
    /// A system call was refused, as recorded. That completes an instruction.
    Refused,
    /// The task has arrived at the event.
    Arrived,
    /// The task stands before a patch of ours.
    AtPatch,
    /// The task has executed one instruction.
    Stepped,
    /// The task has accessed watched places.
    Watch(u8),
    /// The task was interrupted.
    Interrupted,
}

/// Resumes the event's task, waits for it, and returns the meaning of its stop.
pub(crate) fn resume_task(
    session: &mut ReplaySession,
    event: &Event,
    how: Resume,
    interrupt: &mut dyn Interrupt,
) -> Result<Seen> {
    resume_to(session, event, how, interrupt, &[])
}

/// Same as [`resume_task`], with an `int3` at each of these places, which stops the
/// task as before a patch.
pub(crate) fn resume_to(
    session: &mut ReplaySession,
    event: &Event,
    how: Resume,
    interrupt: &mut dyn Interrupt,
    exits: &[Addr],
) -> Result<Seen> {
    give_counts(session, event)?;
    let ran = session.world.task(event)?.run(how, interrupt);
    let (stop, asked) = match ran.map_err(|source| failed(event, source))? {
        Ran::Stopped { stop, asked } => (stop, asked),
        Ran::Gone(status) => {
            let seen = format!("the task died (wait status {status:#x})");
            return Err(diverged(session, event, event.tid, seen));
        }
    };
    take_counts(session, event)?;
    if !exits.is_empty() && stop == Stop::Signal(libc::SIGTRAP) {
        let at = Addr(session.world.regs_of(event)?.rip.wrapping_sub(1));
        if exits.contains(&at) {
            session.world.move_to(event, at)?;
            return Ok(Seen::AtPatch);
        }
    }
    interpret(session, event, stop, how, asked)
}

/// Moves a fault of an instruction that was executed elsewhere to the instruction's own place.
fn give_fault_back(session: &mut ReplaySession, event: &Event, regs: &mut Registers) -> Result<()> {
    let rip = Addr(regs.rip);
    let place = match stub_around(session, rip) {
        Some(stub) => stub.program_place(rip),
        None => place_of_copy(session, event, rip)?,
    };
    if let Some(place) = place {
        session.world.move_to(event, place)?;
        regs.rip = place.0;
    }
    Ok(())
}

fn interpret(
    session: &mut ReplaySession,
    event: &Event,
    stop: Stop,
    how: Resume,
    asked: bool,
) -> Result<Seen> {
    let tid = event.tid;
    let mut regs = session.world.regs_of(event)?;
    match stop {
        Stop::Syscall => {
            // The instruction stores the flags in r11, including the trap flag of the step.
            if how == Resume::SysemuStep && regs.eflags & TF == 0 && regs.r11 & TF != 0 {
                regs.r11 &= !TF;
                let set = session
                    .world
                    .task(event)?
                    .stopped()
                    .and_then(|s| s.set_regs(&regs));
                set.map_err(|source| failed(event, source))?;
            }
            at_system_call(session, event, &regs)
        }
        Stop::Signal(signal) => {
            let info = session.world.task(event)?.seen().and_then(|s| s.siginfo());
            let code = info.as_ref().map_or(0, si_code);
            // A call of the vsyscall page is an instruction that traps.
            let signal = match info.ok().and_then(|info| vsyscall::number(&info)) {
                Some(_) => libc::SIGSEGV,
                None => signal,
            };
            if code <= 0 {
                // A process outside sent the signal. It is not part of the recording.
                return Ok(Seen::Nothing);
            }
            if signal == libc::SIGILL
                && let Some(on) = recheck_payload(session, event, &regs)?
            {
                session.world.move_to(event, on)?;
                return Ok(Seen::Nothing);
            }
            if signal == libc::SIGILL
                && let Some((at, moved)) = moved_from(session, Addr(regs.rip))
            {
                session.world.move_to(event, moved)?;
                note_detour(session, event, at)?;
                return Ok(Seen::Nothing);
            }
            if let Some(asking) = after_fault(session, Addr(regs.rip)).filter(|_| signal != libc::SIGTRAP) {
                session.world.move_to(event, asking)?;
                return Ok(Seen::Nothing);
            }
            if signal != libc::SIGTRAP {
                give_fault_back(session, event, &mut regs)?;
            }
            // The resume flag is not the program's: after a step it is set if the instruction, one with a `rep`, was interrupted by a
            // page fault before, which depends on the pages that exist; and not every emulator sets it at a fault, as processors do.
            let is_same = |at: &Registers| regs.of_program() == at.of_program();
            if let Some(Target::Fault(expected, at)) = Target::of(&event.kind)
                && expected == signal
                && is_same(at)
                // A fault is not the end of a step, whatever its code is.
                && (signal != libc::SIGTRAP
                    || how != Resume::SysemuStep
                    || code != TRAP_TRACE
                    || at.eflags & TF != 0)
            {
                return Ok(Seen::Arrived);
            }
            if signal == libc::SIGTRAP {
                if code == TRAP_INT3 {
                    if let Some(seen) = at_int3(session, event, &regs)? {
                        return Ok(seen);
                    }
                } else {
                    let hits = session.stoppoints.watches.take_hits(&mut session.world, event)?;
                    if hits.guard {
                        note_overwritten(session, event, &regs)?;
                    }
                    if hits.watched != 0 {
                        return Ok(Seen::Watch(hits.watched));
                    }
                    if hits.stop
                        && let Some(at) = stopped_for(session, event, &regs)
                    {
                        return match regs.of_program() == at.of_program() {
                            // A breakpoint of the debugger there comes first.
                            true if how != Resume::SysemuStep && has_patch(session, event, regs.rip)? => {
                                Ok(Seen::AtPatch)
                            }
                            true => Ok(Seen::Arrived),
                            false => {
                                let regs = regs.outside_call();
                                Err(register_divergence(event.number, tid, "cpuid", &at, &regs))
                            }
                        };
                    }
                    if hits.guard && how != Resume::SysemuStep {
                        return Ok(Seen::Nothing);
                    }
                    if how == Resume::SysemuStep {
                        return Ok(Seen::Stepped);
                    }
                }
            }
            match Target::of(&event.kind) {
                Some(Target::Fault(expected, at)) if expected == signal => Err(register_divergence(
                    event.number,
                    tid,
                    &format!("signal {signal}"),
                    at,
                    &regs.outside_call(),
                )),
                _ => Err(unexpected(session, event, stop, &regs)),
            }
        }
        // A trap that the task has met at the same time comes first.
        Stop::Event if asked && !session.world.is_signal_due(event)? => Ok(Seen::Interrupted),
        // A SIGCONT from outside also stops a task (ptrace(2)).
        Stop::Event => Ok(Seen::Nothing),
        _ => Err(unexpected(session, event, stop, &regs)),
    }
}

/// Handles a task at the entry of a system call, which is not performed.
fn at_system_call(session: &mut ReplaySession, event: &Event, regs: &Registers) -> Result<Seen> {
    let change = session.interval.pending.as_ref().and_then(|p| p.changes.front());
    if let Some((number, _)) = change
        && regs.rip == PAST_CALL
        && regs.syscall() == *number
    {
        remove_passes(session, event)?;
        make_change(session, event)?;
        return Ok(Seen::Nothing);
    }
    if change.is_none()
        && let Some(Target::Entry(entry)) = Target::of(&event.kind)
        && regs == entry
    {
        return Ok(Seen::Arrived);
    }
    // A filter outside the recording refused the call before the recorder saw it: it is no event.
    if let Some(errno) = session.events.reader.header().refused.get(&regs.syscall()) {
        let after = Registers {
            rax: -i64::from(*errno) as u64,
            orig_rax: NOT_IN_SYSCALL,
            ..*regs
        };
        let set = session
            .world
            .task(event)?
            .stopped()
            .and_then(|s| s.set_regs(&after));
        set.map_err(|source| failed(event, source))?;
        return Ok(Seen::Refused);
    }
    let name = rr_tracee::syscalls::name(regs.syscall());
    match Target::of(&event.kind) {
        Some(Target::Entry(entry)) if change.is_none() => {
            let name = rr_tracee::syscalls::name(entry.syscall());
            let what = format!("entry of {name}");
            Err(register_divergence(event.number, event.tid, &what, entry, regs))
        }
        _ => Err(diverged(
            session,
            event,
            event.tid,
            format!("entry of {name} at {:#x}", regs.rip),
        )),
    }
}

/// The task has executed an `int3`. `None` means that it is not one of ours.
fn at_int3(session: &mut ReplaySession, event: &Event, regs: &Registers) -> Result<Option<Seen>> {
    if let Some(seen) = at_probe(session, event, Addr(regs.rip))? {
        return Ok(Some(seen_of_probe(seen)));
    }
    match at_stub(session, Addr(regs.rip)) {
        Some(Trapped::At(at)) => {
            session.world.move_to(event, at)?;
            return Ok(Some(match is_at_point(session, event)? {
                true => Seen::Arrived,
                false => Seen::AtPatch,
            }));
        }
        Some(Trapped::Moved(at, moved)) => {
            session.world.move_to(event, moved)?;
            note_detour(session, event, at)?;
            return Ok(Some(Seen::Nothing));
        }
        None => {}
    }
    let at = Addr(regs.rip.wrapping_sub(1));
    if !has_patch(session, event, at.0)? {
        return Ok(None);
    }
    session.world.move_to(event, at)?;
    Ok(Some(Seen::AtPatch))
}

/// Returns whether a patch of ours begins at this address.
fn has_patch(session: &mut ReplaySession, event: &Event, at: u64) -> Result<bool> {
    let space = session.world.task(event)?.space;
    Ok(session.code.overlays.get(&space).is_some_and(|o| o.has(Addr(at))))
}

fn unexpected(session: &ReplaySession, event: &Event, stop: Stop, regs: &Registers) -> Error {
    let memory = session.world.tasks.get(&event.tid).map(|t| t.memory());
    match memory.and_then(|m| buffer::mismatch(&m, regs.rip)) {
        Some((expected, seen)) => Error::Divergence(Box::new(Divergence {
            event: event.number,
            tid: event.tid,
            expected,
            seen,
            registers: vec![],
        })),
        None => diverged(session, event, event.tid, seen(stop, regs.rip)),
    }
}

/// A stop that nobody expects, in words.
fn seen(stop: Stop, rip: u64) -> String {
    // A program that looks for what it needs, or was built for it, may use more than a portable trace has shown it.
    let hint = match stop {
        Stop::Signal(libc::SIGILL) => " (an instruction that this processor does not have?)",
        _ => "",
    };
    format!("{stop:?} at {rip:#x}{hint}")
}

fn diverged(session: &ReplaySession, event: &Event, tid: Tid, seen: String) -> Error {
    let change = session.interval.pending.as_ref().and_then(|p| p.changes.front());
    let expected = match (change, Target::of(&event.kind)) {
        (Some((number, _)), _) => Target::Change(*number).to_string(),
        (None, Some(target)) => target.to_string(),
        (None, None) => "the next event".to_owned(),
    };
    let suspect = session.interval.pending.as_ref().and_then(|p| p.search.suspect);
    let suspect = suspect.map_or(String::new(), |chunk| {
        format!("; its registers were those of the point before, with other memory at {chunk}")
    });
    Error::Divergence(Box::new(Divergence {
        event: event.number,
        tid,
        expected,
        seen: seen + &suspect,
        registers: vec![],
    }))
}

/// The program's instruction whose copy in the stub of a site is at `rip`.
pub(crate) fn place_of_copy(session: &mut ReplaySession, event: &Event, rip: Addr) -> Result<Option<Addr>> {
    let (space, memory) = (
        session.world.task(event)?.space,
        session.world.task(event)?.memory(),
    );
    let mapping = session.world.spaces.get(&space).and_then(|space| space.at(rip));
    if mapping.is_none_or(|mapping| &*mapping.name != STUBS) {
        return Ok(None);
    }
    let mut code = [0; COPY_MOST];
    let got = written(event, memory.read_some(rip, &mut code))?;
    Ok(stubs::place_of_copy(&code[..got]))
}

fn seen_of_probe(found: Found) -> Seen {
    match found {
        Found::Here => Seen::Arrived,
        Found::AtPatch => Seen::AtPatch,
        Found::Elsewhere => Seen::Nothing,
    }
}

pub(super) fn written<T>(event: &Event, result: rr_tracee::Result<T>) -> Result<T> {
    result.map_err(|source| failed(event, source))
}
