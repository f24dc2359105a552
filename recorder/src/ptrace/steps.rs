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
use rr_tracee::regs::TF;
use rr_tracee::{Addr, AddrRange, Registers, Stopped, Tid};

use crate::error::Result;
use crate::ptrace::request::Answered;
use crate::ptrace::{Cause, Pace};
use crate::session::RecordSession;

/// A step of a tracee.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// No step.
    No,
    /// The tracee must make a step.
    Wanted,
    /// The tracee makes a step, with the trap flag set. The value says if the flag was set before.
    Flagged(bool),
    /// The tracee executes an instruction that is an event.
    Event,
}

/// Returns whether the code begins with an event: a system call, or an instruction that reads the
/// time-stamp counter.
fn is_event(code: &[u8]) -> bool {
    const OPCODES: [&[u8]; 5] = [
        &[0x0f, 0x05],
        &[0x0f, 0x34],
        &[0xcd, 0x80],
        &[0x0f, 0x31],
        &[0x0f, 0x01, 0xf9],
    ];
    OPCODES.iter().any(|opcode| code.starts_with(opcode))
}

impl RecordSession {
    /// Stops sending calls in the address space of `tid` to the library, and restores the program's code
    /// there. The event of the call under way gets the change.
    pub(crate) fn leave_code_alone(&mut self, tid: Tid) -> Answered<()> {
        let id = self.task(tid)?.space;
        if self.space_mut(id).library.sites.stepped {
            return Ok(());
        }
        self.finish_reading(id);
        if let Some((_, writes)) = self.step_without_sites(tid, Addr::NULL)? {
            self.besides.writes.extend(writes);
        }
        Ok(())
    }

    /// Resumes a tracee for one instruction.
    pub(super) fn want_step(&mut self, tid: Tid) -> Answered<()> {
        self.leave_code_alone(tid)?;
        self.tracee_mut(tid)?.step = Step::Wanted;
        Ok(())
    }

    /// Returns whether a task that could continue must make a step.
    pub(crate) fn wants_step(&self, tid: Tid) -> Result<bool> {
        let task = self.task(tid)?;
        Ok(!task.is_mid_interval() && task.tracee.as_ref().is_some_and(|t| t.step == Step::Wanted))
    }

    /// Makes the task execute only one instruction when it continues.
    pub(crate) fn begin_step(&mut self, tid: Tid, stopped: &mut Stopped) -> Result<()> {
        if stopped.signal_due()? {
            // The signal comes first.
            return Ok(());
        }
        let regs = stopped.regs()?;
        let is_event = self.task(tid)?.restarting.is_some() || self.is_event_at(tid, Addr(regs.rip))?;
        let step = if is_event {
            Step::Event
        } else {
            let after = Registers {
                eflags: regs.eflags | TF,
                ..regs.outside_call()
            };
            stopped.set_regs(&after)?;
            self.emit(
                tid,
                EventKind::SetRegisters { after, xstate: None },
                vec![],
                vec![],
            )?;
            self.task_mut(tid)?.boundary = after;
            Step::Flagged(regs.eflags & TF != 0)
        };
        if let Some(tracee) = &mut self.task_mut(tid)?.tracee {
            tracee.step = step;
        }
        Ok(())
    }

    /// Returns whether the instruction at `at` is an event.
    fn is_event_at(&self, tid: Tid, at: Addr) -> Result<bool> {
        let task = self.task(tid)?;
        let bytes = task.memory.read_up_to(at, WINDOW_MAX)?;
        let len = code::decode(&bytes, at).map_or(bytes.len(), |i| i.len());
        let sites = self.spaces.get(&task.space).map(|s| &s.library.sites);
        let is_trap = sites.is_some_and(|s| s.has_trap_in(AddrRange::sized(at, len as u64)));
        Ok(is_trap || is_event(&bytes))
    }

    /// The event of an instruction, or of a signal's handler, has been recorded: ends a step of `tid`.
    pub(crate) fn step_is_over(&mut self, tid: Tid) -> Result<()> {
        if let Some(tracee) = &mut self.task_mut(tid)?.tracee
            && tracee.step != Step::No
        {
            tracee.step = Step::No;
            tracee.due.push_back(Cause::Stepped);
        }
        Ok(())
    }

    /// A tracee stops for its tracer with `regs`. Returns the registers without the effects of our
    /// step.
    pub(super) fn end_step(
        &mut self,
        tid: Tid,
        stopped: &mut Stopped,
        mut regs: Registers,
    ) -> Result<Registers> {
        let Some(tracee) = &mut self.task_mut(tid)?.tracee else {
            return Ok(regs);
        };
        if std::mem::replace(&mut tracee.step, Step::No) == Step::Flagged(false) {
            regs.eflags &= !TF;
            stopped.set_regs(&regs)?;
        }
        Ok(regs)
    }
}

impl Pace {
    /// Returns whether the tracer wants to see the entry of each call.
    pub(super) fn shows_entries(self) -> bool {
        matches!(self, Pace::ToCall | Pace::ToEmulatedCall)
    }
}
