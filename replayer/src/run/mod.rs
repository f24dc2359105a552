//! The one runner: runs the pending event's task, freely or by single instructions, until something
//! must be handled.
//!
//! Keeps I7 (the task arrives at its event in the recorded state or the replay ends with a report) and
//! I8 (a step is a step of the program: the task cannot stop inside a rewritten site, a probe or a call
//! of the library).
//!
//! ```text
//!            ┌────────────────────────── nothing to see ◄────────────────────────┐
//!            ▼                                                                    │
//!  advance ─► breakpoint here? ─► code of ours here? ─► resume ─► wait ─► what is it?
//!                   │                   │ one step                         │
//!                   ▼                   ▼                                  ▼
//!               Breakpoint        (as below)          Arrived, Watchpoint, Interrupted, Stepped
//! ```
//!
//! The library in the task is code of ours, too (`library`).
//!
//! The stopped task is always back in the session before anything can fail, so that it can be read.

mod library;
mod resume;

use std::sync::Arc;

use rr_trace::event::{Event, EventKind};
use rr_tracee::code::INSTRUCTION_MOST;
use rr_tracee::memory::ReadMemory;
use rr_tracee::regs::TF;
use rr_tracee::task::Resume;
use rr_tracee::ticker::take_tick;
use rr_tracee::{Addr, AddrRange, Memory, rr_area};

use crate::apply::{check_used_up, load_buffered};
use crate::breakpoints::{has_foreign_code, is_breakpoint, must_step, sync_breakpoints};
use crate::cpuid_stop::arm;
use crate::error::{Result, failed};
use crate::halt::{Halt, Pace};
use crate::interrupt::{Interrupt, Never};
use crate::own_code::sites_of;
use crate::passes::{can_be_counted, is_only_counted, remove_passes, stub_around, way_past};
use crate::pending::Stage;
use crate::point::{install_probe, is_at_point, remove_probe};
use crate::session::ReplaySession;
use library::{call_library, finish_library};
use resume::{Seen, resume_task, written};

/// Runs the pending event's task. `reported` says that a breakpoint at its place has been reported
/// already.
pub(crate) fn advance(
    session: &mut ReplaySession,
    pace: Pace,
    reported: bool,
    interrupt: &mut dyn Interrupt,
) -> Result<Halt> {
    load_buffered(session)?;
    let Some(pending) = &mut session.interval.pending else {
        return Ok(Halt::Arrived);
    };
    let event = Arc::clone(&pending.event);
    if pending.stage == Stage::Arrived || event.kind.before().is_none() {
        pending.stage = Stage::Arrived;
        return Ok(Halt::Arrived);
    }
    if is_at_point(session, &event)? {
        return arrived(session, &event);
    }
    match pace {
        Pace::Free => run_freely(session, &event, reported, interrupt),
        Pace::Step => step_once(session, &event),
    }
}

fn arrived(session: &mut ReplaySession, event: &Event) -> Result<Halt> {
    remove_passes(session, event)?;
    if let Some(pending) = &session.interval.pending {
        pending.search.tell(event);
    }
    remove_probe(session, event)?;
    if let EventKind::Point { at, .. } = &event.kind {
        let set = session.world.task(event)?.stopped().and_then(|s| s.set_regs(at));
        set.map_err(|source| failed(event, source))?;
    }
    check_used_up(session, event)?;
    if let Some(pending) = &mut session.interval.pending {
        pending.stage = Stage::Arrived;
    }
    Ok(Halt::Arrived)
}

fn run_freely(
    session: &mut ReplaySession,
    event: &Event,
    mut reported: bool,
    interrupt: &mut dyn Interrupt,
) -> Result<Halt> {
    // Steps may have led into the window of a site, whose instructions are not in their place.
    let mut is_in_site = !session.code.sites.is_empty() && {
        let rip = Addr(session.world.regs_of(event)?.rip);
        must_step(session, event.tid, rip)
    };
    // True if the task has been compared with the execution point at its place.
    let mut is_looked_at = true;
    loop {
        if session.interval.is_probe_overwritten() {
            match leave_our_code(session, event, Halt::Stepped)? {
                Halt::Stepped => {
                    // Copies of the code there differ from the program's new code.
                    remove_passes(session, event)?;
                    remove_probe(session, event)?;
                }
                other => return Ok(other),
            }
            if is_at_point(session, event)? {
                return arrived(session, event);
            }
        }
        if std::mem::take(&mut is_in_site) || has_foreign_code(session, event.tid) {
            // A stop in between may have left the task right there, where the probe would be
            // stepped over.
            if !is_looked_at && is_at_point(session, event)? {
                return arrived(session, event);
            }
            sync_breakpoints(session, event)?;
            let rip = Addr(session.world.regs_of(event)?.rip);
            if !reported && is_breakpoint(session, event.tid, rip) && !is_only_counted(session, event, rip)? {
                return Ok(Halt::Breakpoint(rip));
            }
            if let Some(on) = way_past(session, event, rip)? {
                session.world.move_to(event, on)?;
            } else if must_step(session, event.tid, rip) {
                reported = false;
                match step_once(session, event)? {
                    Halt::Stepped if is_at_point(session, event)? => return arrived(session, event),
                    Halt::Stepped => {
                        let rip = Addr(session.world.regs_of(event)?.rip);
                        is_in_site = must_step(session, event.tid, rip);
                        is_looked_at = true;
                        continue;
                    }
                    other => return Ok(other),
                }
            }
        }
        reported = false;
        install_probe(session, event)?;
        // The probe may have a guard.
        arm(session, event)?;
        let seen = resume_task(session, event, Resume::Sysemu, interrupt)?;
        is_looked_at = matches!(seen, Seen::AtPatch);
        match seen {
            Seen::Nothing | Seen::Refused | Seen::AtPatch | Seen::Stepped => {
                if take_tick() && interrupt.is_requested() && !session.world.is_signal_due(event)? {
                    return halt_here(session, event);
                }
            }
            Seen::Arrived => return arrived(session, event),
            Seen::Watch(hits) => return leave_our_code(session, event, Halt::Watchpoint(hits)),
            Seen::Interrupted => return halt_here(session, event),
        }
    }
}

/// An interrupted task leaves our code, and continues by a few instructions to a place that can be
/// found again quickly.
fn halt_here(session: &mut ReplaySession, event: &Event) -> Result<Halt> {
    const MOST: usize = 32;
    match leave_our_code(session, event, Halt::Interrupted)? {
        Halt::Interrupted => {}
        other => return Ok(other),
    }
    for _ in 0..MOST {
        let rip = Addr(session.world.regs_of(event)?.rip);
        if is_breakpoint(session, event.tid, rip) || can_be_counted(session, event, rip) {
            break;
        }
        match step_once(session, event)? {
            Halt::Stepped if is_at_point(session, event)? => return arrived(session, event),
            Halt::Stepped => {}
            other => return Ok(other),
        }
    }
    Ok(Halt::Interrupted)
}

/// Executes one instruction of the program.
fn step_once(session: &mut ReplaySession, event: &Event) -> Result<Halt> {
    let rip = Addr(session.world.regs_of(event)?.rip);
    let site = sites_of(session, event).around(rip).cloned();
    if let Some(site) = &site
        && site.call == rip
    {
        let hits = call_library(session, event, site)?;
        if Addr(session.world.regs_of(event)?.rip) != rip {
            return Ok(if hits != 0 {
                Halt::Watchpoint(hits)
            } else {
                Halt::Stepped
            });
        }
        // The library leaves this call to the kernel.
    }
    arm(session, event)?;
    let memory = session.world.task(event)?.memory();
    let space = session.world.task(event)?.space;
    let from = site.as_ref().map_or(rip, |site| site.start);
    let lifted = AddrRange::new(from, rip + INSTRUCTION_MOST as u64);
    if let Some(overlay) = session.code.overlays.get(&space) {
        written(event, overlay.lift(&memory, lifted))?;
    }
    if let Some(site) = &site {
        written(event, memory.write_protected(site.start, &site.original))?;
    }
    let mut code = [0; INSTRUCTION_MOST];
    let readable = written(event, memory.read_some(rip, &mut code))?;
    let seen = loop {
        match resume_task(session, event, Resume::SysemuStep, &mut Never) {
            // Not caused by the step: its trap is still to come.
            Ok(Seen::Nothing) => {}
            other => break other,
        }
    };
    if let Some(site) = &site {
        written(event, memory.write_protected(site.start, &site.rewritten))?;
    }
    if let Some(overlay) = session.code.overlays.get(&space) {
        written(event, overlay.put_back(&memory, lifted))?;
    }
    let seen = seen?;
    let stepped = matches!(seen, Seen::Stepped | Seen::Watch(_));
    if stepped
        && let Some(instruction) = rr_tracee::code::decode(&code[..readable], rip)
        && rr_tracee::code::shows_stepping(&instruction)
    {
        hide_trap_flag(session, event, &memory)?;
    }
    match seen {
        Seen::Arrived => arrived(session, event),
        Seen::Watch(hits) => Ok(Halt::Watchpoint(hits)),
        Seen::Interrupted => Ok(Halt::Interrupted),
        Seen::Stepped | Seen::Refused | Seen::AtPatch | Seen::Nothing => Ok(Halt::Stepped),
    }
}

/// `pushf` under a single step has stored the trap flag: clears it.
fn hide_trap_flag(session: &mut ReplaySession, event: &Event, memory: &Memory) -> Result<()> {
    let regs = session.world.regs_of(event)?;
    if regs.eflags & TF != 0 {
        return Ok(());
    }
    let mut pushed = [0; 2];
    written(event, memory.read(Addr(regs.rsp), &mut pushed))?;
    let flags = u16::from_le_bytes(pushed) & !(TF as u16);
    written(event, memory.write(Addr(regs.rsp), &flags.to_le_bytes()))
}

/// A task that was stopped somewhere in our code continues to where the program continues.
fn leave_our_code(session: &mut ReplaySession, event: &Event, halt: Halt) -> Result<Halt> {
    let mut hits = 0;
    let halted = |hits| match halt {
        Halt::Watchpoint(first) => Halt::Watchpoint(first | hits),
        _ if hits != 0 => Halt::Watchpoint(hits),
        other => other,
    };
    loop {
        let rip = Addr(session.world.regs_of(event)?.rip);
        if rr_area::code().contains(rip) {
            hits |= finish_library(session, event)?;
        } else if let Some(stub) = stub_around(session, rip) {
            // The first of the moved instructions may have been counted already, so the task
            // continues to the next.
            if let Some(place) = stub.program_place(rip).filter(|_| rip != stub.moved) {
                session.world.move_to(event, place)?;
                return Ok(halted(hits));
            }
            match resume_task(session, event, Resume::SysemuStep, &mut Never)? {
                Seen::Arrived => return arrived(session, event),
                Seen::Watch(more) => hits |= more,
                _ => {}
            }
        } else if let Some(call) = sites_of(session, event).sent_to(rip) {
            // Not yet in the stub: the program is still at its instruction.
            session.world.move_to(event, call)?;
        } else if sites_of(session, event).by_stub(rip).is_some() {
            match resume_task(session, event, Resume::SysemuStep, &mut Never)? {
                Seen::Arrived => return arrived(session, event),
                Seen::Watch(more) => hits |= more,
                _ => {}
            }
        } else {
            return Ok(halted(hits));
        }
    }
}
