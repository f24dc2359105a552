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

use std::sync::Arc;

use rr_preload::layout;
use rr_trace::event::{Event, EventKind};
use rr_tracee::code::INSTRUCTION_MOST;
use rr_tracee::memory::ReadMemory;
use rr_tracee::regs::{NOT_IN_SYSCALL, TF};
use rr_tracee::task::{Resume, TRAP_INT3, TRAP_TRACE, si_code};
use rr_tracee::ticker::take_tick;
use rr_tracee::{Addr, AddrRange, Memory, Registers, Stop, Tid, rr_area, vsyscall};

use crate::arrival::Target;
use crate::buffer;
use crate::error::{Divergence, Error, Result, failed, register_divergence};
use crate::halt::{Halt, Pace};
use crate::interrupt::{Interrupt, Never};
use crate::passes::Trapped;
use crate::pending::Stage;
use crate::session::ReplaySession;
use crate::task::Ran;

/// After the library's `syscall` instruction.
const PAST_CALL: u64 = layout::SYSCALL + 2;

/// Meaning of a stop.
enum Seen {
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

impl ReplaySession {
    /// Runs the pending event's task. `reported` says that a breakpoint at its place has been reported
    /// already.
    pub(crate) fn advance(
        &mut self,
        pace: Pace,
        reported: bool,
        interrupt: &mut dyn Interrupt,
    ) -> Result<Halt> {
        self.load()?;
        let Some(pending) = &mut self.interval.pending else {
            return Ok(Halt::Arrived);
        };
        let event = Arc::clone(&pending.event);
        if pending.stage == Stage::Arrived || event.kind.before().is_none() {
            pending.stage = Stage::Arrived;
            return Ok(Halt::Arrived);
        }
        if self.is_at_point(&event)? {
            return self.arrived(&event);
        }
        match pace {
            Pace::Free => self.run_freely(&event, reported, interrupt),
            Pace::Step => self.step_once(&event),
        }
    }

    fn arrived(&mut self, event: &Event) -> Result<Halt> {
        self.remove_passes(event)?;
        if let Some(pending) = &self.interval.pending {
            pending.search.tell(event);
        }
        self.remove_probe(event)?;
        if let EventKind::Point { at, .. } = &event.kind {
            let set = self.task(event)?.stopped().and_then(|s| s.set_regs(at));
            set.map_err(|source| failed(event, source))?;
        }
        self.check_used_up(event)?;
        if let Some(pending) = &mut self.interval.pending {
            pending.stage = Stage::Arrived;
        }
        Ok(Halt::Arrived)
    }

    fn run_freely(
        &mut self,
        event: &Event,
        mut reported: bool,
        interrupt: &mut dyn Interrupt,
    ) -> Result<Halt> {
        // Steps may have led into the window of a site, whose instructions are not in their place.
        let mut is_in_site = !self.code.sites.is_empty() && {
            let rip = Addr(self.regs_of(event)?.rip);
            self.must_step(event.tid, rip)
        };
        // True if the task has been compared with the execution point at its place.
        let mut is_looked_at = true;
        loop {
            if self.is_probe_overwritten() {
                match self.leave_our_code(event, Halt::Stepped)? {
                    Halt::Stepped => {
                        // Copies of the code there differ from the program's new code.
                        self.remove_passes(event)?;
                        self.remove_probe(event)?;
                    }
                    other => return Ok(other),
                }
                if self.is_at_point(event)? {
                    return self.arrived(event);
                }
            }
            if std::mem::take(&mut is_in_site) || self.has_foreign_code(event.tid) {
                // A stop in between may have left the task right there, where the probe would be
                // stepped over.
                if !is_looked_at && self.is_at_point(event)? {
                    return self.arrived(event);
                }
                self.sync_breakpoints(event)?;
                let rip = Addr(self.regs_of(event)?.rip);
                if !reported && self.is_breakpoint(event.tid, rip) && !self.is_only_counted(event, rip)? {
                    return Ok(Halt::Breakpoint(rip));
                }
                if let Some(on) = self.way_past(event, rip)? {
                    self.move_to(event, on)?;
                } else if self.must_step(event.tid, rip) {
                    reported = false;
                    match self.step_once(event)? {
                        Halt::Stepped if self.is_at_point(event)? => return self.arrived(event),
                        Halt::Stepped => {
                            let rip = Addr(self.regs_of(event)?.rip);
                            is_in_site = self.must_step(event.tid, rip);
                            is_looked_at = true;
                            continue;
                        }
                        other => return Ok(other),
                    }
                }
            }
            reported = false;
            self.install_probe(event)?;
            // The probe may have a guard.
            self.arm_watches(event)?;
            let seen = self.resume_task(event, Resume::Sysemu, interrupt)?;
            is_looked_at = matches!(seen, Seen::AtPatch);
            match seen {
                Seen::Nothing | Seen::Refused | Seen::AtPatch | Seen::Stepped => {
                    if take_tick() && interrupt.is_requested() && !self.is_signal_due(event)? {
                        return self.halt_here(event);
                    }
                }
                Seen::Arrived => return self.arrived(event),
                Seen::Watch(hits) => return self.leave_our_code(event, Halt::Watchpoint(hits)),
                Seen::Interrupted => return self.halt_here(event),
            }
        }
    }

    /// An interrupted task leaves our code, and continues by a few instructions to a place that can be
    /// found again quickly.
    fn halt_here(&mut self, event: &Event) -> Result<Halt> {
        const MOST: usize = 32;
        match self.leave_our_code(event, Halt::Interrupted)? {
            Halt::Interrupted => {}
            other => return Ok(other),
        }
        for _ in 0..MOST {
            let rip = Addr(self.regs_of(event)?.rip);
            if self.is_breakpoint(event.tid, rip) || self.can_be_counted(event, rip) {
                break;
            }
            match self.step_once(event)? {
                Halt::Stepped if self.is_at_point(event)? => return self.arrived(event),
                Halt::Stepped => {}
                other => return Ok(other),
            }
        }
        Ok(Halt::Interrupted)
    }

    /// Executes one instruction of the program.
    fn step_once(&mut self, event: &Event) -> Result<Halt> {
        let rip = Addr(self.regs_of(event)?.rip);
        let site = self.sites_of(event).around(rip).cloned();
        if let Some(site) = &site
            && site.call == rip
        {
            let hits = self.call_library(event, site)?;
            if Addr(self.regs_of(event)?.rip) != rip {
                return Ok(if hits != 0 {
                    Halt::Watchpoint(hits)
                } else {
                    Halt::Stepped
                });
            }
            // The library leaves this call to the kernel.
        }
        self.arm_watches(event)?;
        let memory = self.task(event)?.memory();
        let space = self.task(event)?.space;
        let from = site.as_ref().map_or(rip, |site| site.start);
        let lifted = AddrRange::new(from, rip + INSTRUCTION_MOST as u64);
        if let Some(overlay) = self.code.overlays.get(&space) {
            written(event, overlay.lift(&memory, lifted))?;
        }
        if let Some(site) = &site {
            written(event, memory.write_protected(site.start, &site.original))?;
        }
        let mut code = [0; INSTRUCTION_MOST];
        let readable = written(event, memory.read_some(rip, &mut code))?;
        let seen = loop {
            match self.resume_task(event, Resume::SysemuStep, &mut Never) {
                // Not caused by the step: its trap is still to come.
                Ok(Seen::Nothing) => {}
                other => break other,
            }
        };
        if let Some(site) = &site {
            written(event, memory.write_protected(site.start, &site.rewritten))?;
        }
        if let Some(overlay) = self.code.overlays.get(&space) {
            written(event, overlay.put_back(&memory, lifted))?;
        }
        let seen = seen?;
        let stepped = matches!(seen, Seen::Stepped | Seen::Watch(_));
        if stepped
            && let Some(instruction) = rr_tracee::code::decode(&code[..readable], rip)
            && rr_tracee::code::shows_stepping(&instruction)
        {
            self.hide_trap_flag(event, &memory)?;
        }
        match seen {
            Seen::Arrived => self.arrived(event),
            Seen::Watch(hits) => Ok(Halt::Watchpoint(hits)),
            Seen::Interrupted => Ok(Halt::Interrupted),
            Seen::Stepped | Seen::Refused | Seen::AtPatch | Seen::Nothing => Ok(Halt::Stepped),
        }
    }

    /// `pushf` under a single step has stored the trap flag: clears it.
    fn hide_trap_flag(&mut self, event: &Event, memory: &Memory) -> Result<()> {
        let regs = self.regs_of(event)?;
        if regs.eflags & TF != 0 {
            return Ok(());
        }
        let mut pushed = [0; 2];
        written(event, memory.read(Addr(regs.rsp), &mut pushed))?;
        let flags = u16::from_le_bytes(pushed) & !(TF as u16);
        written(event, memory.write(Addr(regs.rsp), &flags.to_le_bytes()))
    }

    /// A task that was stopped somewhere in our code continues to where the program continues.
    fn leave_our_code(&mut self, event: &Event, halt: Halt) -> Result<Halt> {
        let mut hits = 0;
        let halted = |hits| match halt {
            Halt::Watchpoint(first) => Halt::Watchpoint(first | hits),
            _ if hits != 0 => Halt::Watchpoint(hits),
            other => other,
        };
        loop {
            let rip = Addr(self.regs_of(event)?.rip);
            if rr_area::code().contains(rip) {
                hits |= self.finish_library(event)?;
            } else if let Some(stub) = self.stub_around(rip) {
                // The first of the moved instructions may have been counted already, so the task
                // continues to the next.
                if let Some(place) = stub.program_place(rip).filter(|_| rip != stub.moved) {
                    self.move_to(event, place)?;
                    return Ok(halted(hits));
                }
                match self.resume_task(event, Resume::SysemuStep, &mut Never)? {
                    Seen::Arrived => return self.arrived(event),
                    Seen::Watch(more) => hits |= more,
                    _ => {}
                }
            } else if let Some(call) = self.sites_of(event).sent_to(rip) {
                // Not yet in the stub: the program is still at its instruction.
                self.move_to(event, call)?;
            } else if self.sites_of(event).by_stub(rip).is_some() {
                match self.resume_task(event, Resume::SysemuStep, &mut Never)? {
                    Seen::Arrived => return self.arrived(event),
                    Seen::Watch(more) => hits |= more,
                    _ => {}
                }
            } else {
                return Ok(halted(hits));
            }
        }
    }

    /// Resumes the event's task, waits for it, and returns the meaning of its stop.
    fn resume_task(&mut self, event: &Event, how: Resume, interrupt: &mut dyn Interrupt) -> Result<Seen> {
        self.resume_to(event, how, interrupt, &[])
    }

    /// Same as [`ReplaySession::resume_task`], with an `int3` at each of these places, which stops the
    /// task as before a patch.
    fn resume_to(
        &mut self,
        event: &Event,
        how: Resume,
        interrupt: &mut dyn Interrupt,
        exits: &[Addr],
    ) -> Result<Seen> {
        self.give_counts(event)?;
        let ran = self.task(event)?.run(how, interrupt);
        let (stop, asked) = match ran.map_err(|source| failed(event, source))? {
            Ran::Stopped { stop, asked } => (stop, asked),
            Ran::Gone(status) => {
                let seen = format!("the task died (wait status {status:#x})");
                return Err(self.diverged(event, event.tid, seen));
            }
        };
        self.take_counts(event)?;
        if !exits.is_empty() && stop == Stop::Signal(libc::SIGTRAP) {
            let at = Addr(self.regs_of(event)?.rip.wrapping_sub(1));
            if exits.contains(&at) {
                self.move_to(event, at)?;
                return Ok(Seen::AtPatch);
            }
        }
        self.interpret(event, stop, how, asked)
    }

    /// Moves a fault of an instruction that was executed elsewhere to the instruction's own place.
    fn give_fault_back(&mut self, event: &Event, regs: &mut Registers) -> Result<()> {
        let rip = Addr(regs.rip);
        let place = match self.stub_around(rip) {
            Some(stub) => stub.program_place(rip),
            None => self.place_of_copy(event, rip)?,
        };
        if let Some(place) = place {
            self.move_to(event, place)?;
            regs.rip = place.0;
        }
        Ok(())
    }

    fn interpret(&mut self, event: &Event, stop: Stop, how: Resume, asked: bool) -> Result<Seen> {
        let tid = event.tid;
        let mut regs = self.regs_of(event)?;
        match stop {
            Stop::Syscall => {
                // The instruction stores the flags in r11, including the trap flag of the step.
                if how == Resume::SysemuStep && regs.eflags & TF == 0 && regs.r11 & TF != 0 {
                    regs.r11 &= !TF;
                    let set = self.task(event)?.stopped().and_then(|s| s.set_regs(&regs));
                    set.map_err(|source| failed(event, source))?;
                }
                self.at_system_call(event, &regs)
            }
            Stop::Signal(signal) => {
                let info = self.task(event)?.seen().and_then(|s| s.siginfo());
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
                    && let Some(on) = self.recheck_payload(event, &regs)?
                {
                    self.move_to(event, on)?;
                    return Ok(Seen::Nothing);
                }
                if signal == libc::SIGILL
                    && let Some((at, moved)) = self.moved_from(Addr(regs.rip))
                {
                    self.move_to(event, moved)?;
                    self.note_detour(event, at)?;
                    return Ok(Seen::Nothing);
                }
                if let Some(asking) = self
                    .after_fault(Addr(regs.rip))
                    .filter(|_| signal != libc::SIGTRAP)
                {
                    self.move_to(event, asking)?;
                    return Ok(Seen::Nothing);
                }
                if signal != libc::SIGTRAP {
                    self.give_fault_back(event, &mut regs)?;
                }
                // After a step, the resume flag is set if the instruction, one with a `rep`, was
                // interrupted by a page fault before, which depends on the pages that exist.
                let is_same = |at: &Registers| match code {
                    TRAP_TRACE => regs.outside_call().without_resume_flag() == at.without_resume_flag(),
                    _ => regs.outside_call() == *at,
                };
                if let Some(Target::Fault(expected, at)) = self.target(event)
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
                        if let Some(seen) = self.at_int3(event, &regs)? {
                            return Ok(seen);
                        }
                    } else {
                        let hits = self.take_hits(event)?;
                        if hits.guard {
                            self.note_overwritten(event, &regs)?;
                        }
                        if hits.watched != 0 {
                            return Ok(Seen::Watch(hits.watched));
                        }
                        if hits.guard && how != Resume::SysemuStep {
                            return Ok(Seen::Nothing);
                        }
                        if how == Resume::SysemuStep {
                            return Ok(Seen::Stepped);
                        }
                    }
                }
                match self.target(event) {
                    Some(Target::Fault(expected, at)) if expected == signal => Err(register_divergence(
                        event.number,
                        tid,
                        &format!("signal {signal}"),
                        at,
                        &regs.outside_call(),
                    )),
                    _ => Err(self.unexpected(event, stop, &regs)),
                }
            }
            // A trap that the task has met at the same time comes first.
            Stop::Event if asked && !self.is_signal_due(event)? => Ok(Seen::Interrupted),
            // A SIGCONT from outside also stops a task (ptrace(2)).
            Stop::Event => Ok(Seen::Nothing),
            _ => Err(self.unexpected(event, stop, &regs)),
        }
    }

    fn is_signal_due(&mut self, event: &Event) -> Result<bool> {
        let due = self.task(event)?.seen().and_then(|s| s.signal_due());
        due.map_err(|source| failed(event, source))
    }

    /// Handles a task at the entry of a system call, which is not performed.
    fn at_system_call(&mut self, event: &Event, regs: &Registers) -> Result<Seen> {
        let change = self.interval.pending.as_ref().and_then(|p| p.changes.front());
        if let Some((number, _)) = change
            && regs.rip == PAST_CALL
            && regs.syscall() == *number
        {
            self.remove_passes(event)?;
            self.make_change(event)?;
            return Ok(Seen::Nothing);
        }
        if change.is_none()
            && let Some(Target::Entry(entry)) = self.target(event)
            && regs == entry
        {
            return Ok(Seen::Arrived);
        }
        // A filter outside the recording refused the call before the recorder saw it: it is no event.
        if let Some(errno) = self.events.reader.header().refused.get(&regs.syscall()) {
            let after = Registers {
                rax: -i64::from(*errno) as u64,
                orig_rax: NOT_IN_SYSCALL,
                ..*regs
            };
            let set = self.task(event)?.stopped().and_then(|s| s.set_regs(&after));
            set.map_err(|source| failed(event, source))?;
            return Ok(Seen::Refused);
        }
        let name = rr_tracee::syscalls::name(regs.syscall());
        match self.target(event) {
            Some(Target::Entry(entry)) if change.is_none() => {
                let name = rr_tracee::syscalls::name(entry.syscall());
                let what = format!("entry of {name}");
                Err(register_divergence(event.number, event.tid, &what, entry, regs))
            }
            _ => Err(self.diverged(event, event.tid, format!("entry of {name} at {:#x}", regs.rip))),
        }
    }

    /// The task has executed an `int3`. `None` means that it is not one of ours.
    fn at_int3(&mut self, event: &Event, regs: &Registers) -> Result<Option<Seen>> {
        if let Some(seen) = self.at_probe(event, Addr(regs.rip))? {
            return Ok(Some(seen_of_probe(seen)));
        }
        match self.at_stub(Addr(regs.rip)) {
            Some(Trapped::At(at)) => {
                self.move_to(event, at)?;
                return Ok(Some(match self.is_at_point(event)? {
                    true => Seen::Arrived,
                    false => Seen::AtPatch,
                }));
            }
            Some(Trapped::Moved(at, moved)) => {
                self.move_to(event, moved)?;
                self.note_detour(event, at)?;
                return Ok(Some(Seen::Nothing));
            }
            None => {}
        }
        let at = Addr(regs.rip.wrapping_sub(1));
        let space = self.task(event)?.space;
        if !self.code.overlays.get(&space).is_some_and(|o| o.has(at)) {
            return Ok(None);
        }
        self.move_to(event, at)?;
        Ok(Some(Seen::AtPatch))
    }

    /// Moves the event's task to another address.
    pub(crate) fn move_to(&mut self, event: &Event, to: Addr) -> Result<()> {
        let moved = self.task(event)?.move_to(to);
        moved.map_err(|source| failed(event, source))
    }

    /// The registers of the event's task.
    pub(crate) fn regs_of(&mut self, event: &Event) -> Result<Registers> {
        let regs = self.task(event)?.all_regs();
        regs.map_err(|source| failed(event, source))
    }

    /// The state to which the event's task must run.
    fn target<'e>(&self, event: &'e Event) -> Option<Target<'e>> {
        Target::of(&event.kind)
    }

    fn unexpected(&self, event: &Event, stop: Stop, regs: &Registers) -> Error {
        let memory = self.world.tasks.get(&event.tid).map(|t| t.memory());
        match memory.and_then(|m| buffer::mismatch(&m, regs.rip)) {
            Some((expected, seen)) => Error::Divergence(Box::new(Divergence {
                event: event.number,
                tid: event.tid,
                expected,
                seen,
                registers: vec![],
            })),
            None => self.diverged(event, event.tid, format!("{stop:?} at {:#x}", regs.rip)),
        }
    }

    fn diverged(&self, event: &Event, tid: Tid, seen: String) -> Error {
        let change = self.interval.pending.as_ref().and_then(|p| p.changes.front());
        let expected = match (change, self.target(event)) {
            (Some((number, _)), _) => Target::Change(*number).to_string(),
            (None, Some(target)) => target.to_string(),
            (None, None) => "the next event".to_owned(),
        };
        let suspect = self.interval.pending.as_ref().and_then(|p| p.search.suspect);
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
}

fn seen_of_probe(found: crate::point::Found) -> Seen {
    match found {
        crate::point::Found::Here => Seen::Arrived,
        crate::point::Found::AtPatch => Seen::AtPatch,
        crate::point::Found::Elsewhere => Seen::Nothing,
    }
}

fn written<T>(event: &Event, result: rr_tracee::Result<T>) -> Result<T> {
    result.map_err(|source| failed(event, source))
}
