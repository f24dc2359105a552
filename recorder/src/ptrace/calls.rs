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
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::{Registers, Stop, Stopped, Tid};

use crate::error::Result;
use crate::ptrace::request::{Answered, Request};
use crate::ptrace::{Cause, Pace, StopKind, Tracee, TracerStop, info};
use crate::seccomp::Arch;
use crate::session::RecordSession;
use crate::world::task::{Call, State};

/// The event of a call that a filter leaves to the tracer, in the form of a wait status.
const EVENT_SECCOMP: i32 = libc::SIGTRAP | libc::PTRACE_EVENT_SECCOMP << 8;

impl Tracee {
    /// Code of a stop at a call.
    pub(super) fn call_code(&self) -> i32 {
        if self.options & libc::PTRACE_O_TRACESYSGOOD as u64 != 0 {
            libc::SIGTRAP | 0x80
        } else {
            libc::SIGTRAP
        }
    }

    /// Returns whether the tracer wants to see each call.
    pub fn shows_calls(&self) -> bool {
        self.pace.shows_entries()
    }
}

impl RecordSession {
    /// At the entry of a call: returns whether the task stops there for its tracer.
    pub(crate) fn stops_at_entry(&self, tid: Tid) -> Result<bool> {
        let tracee = self.task(tid)?.tracee.as_ref();
        Ok(tracee.is_some_and(|t| t.shows_calls() && !t.is_entry_seen))
    }

    /// Stops the task there. `restarted` is the call that this one restarts.
    pub(crate) fn stop_at_entry(
        &mut self,
        tid: Tid,
        stopped: Stopped,
        entry: Registers,
        restarted: Option<Box<Call>>,
    ) -> Result<()> {
        self.emit(tid, EventKind::SyscallEnter { entry }, vec![], vec![])?;
        let Some(tracee) = self.hold_at_entry(tid, stopped, restarted)? else {
            return Ok(());
        };
        tracee.skips_call = tracee.pace == Pace::ToEmulatedCall;
        tracee.message = 1;
        let code = tracee.call_code();
        let stop = TracerStop::new(StopKind::CallEntry, code, info::event(tid, code));
        self.stop_for_tracer(tid, stop)
    }

    /// Keeps the task at the entry of its call, which is recorded, for its tracer.
    fn hold_at_entry(
        &mut self,
        tid: Tid,
        stopped: Stopped,
        restarted: Option<Box<Call>>,
    ) -> Result<Option<&mut Tracee>> {
        let task = self.task_mut(tid)?;
        task.entered = true;
        task.state = State::Reported(stopped, Stop::Seccomp);
        let mut tracee = task.tracee.as_deref_mut();
        if let Some(tracee) = &mut tracee {
            tracee.is_entry_seen = true;
            tracee.restarted = restarted;
        }
        Ok(tracee)
    }

    /// At the entry of a call: returns whether the entry has already been seen by the tracer and
    /// recorded.
    pub(crate) fn is_entry_seen(&self, tid: Tid) -> Result<bool> {
        let task = self.task(tid)?;
        Ok(task.entered && task.tracee.as_ref().is_some_and(|t| t.is_entry_seen))
    }

    /// The tracer resumes the task from the entry of a call, which the registers describe now.
    pub(crate) fn after_entry_stop(&mut self, tid: Tid, stopped: Stopped) -> Result<()> {
        let entry = stopped.regs()?;
        let tracee = self.task_mut(tid)?.tracee.as_mut();
        let is_skipped = tracee.as_ref().is_some_and(|t| t.skips_call);
        let restarted = tracee.and_then(|t| t.restarted.take());
        if entry.orig_rax == NOT_IN_SYSCALL || is_skipped {
            // The tracer has cancelled the call and set its result.
            return self.answer(tid, stopped, &entry, entry.result(), vec![]);
        }
        self.begin_call(tid, stopped, entry, restarted)
    }

    /// Returns whether a task has a tracer that decides about calls which its filters leave to it.
    pub(crate) fn decides_on_calls(&self, tid: Tid) -> Result<bool> {
        let tracee = self.task(tid)?.tracee.as_ref();
        Ok(tracee.is_some_and(|t| t.wants(libc::PTRACE_EVENT_SECCOMP)))
    }

    /// At the entry of a call that a filter leaves to the tracer: the task stops there, and its tracer
    /// gets the filter's number. When the task continues, the filters are asked again, about the call
    /// that it then makes.
    pub(crate) fn stop_at_filter(
        &mut self,
        tid: Tid,
        stopped: Stopped,
        entry: Registers,
        restarted: Option<Box<Call>>,
        data: u16,
    ) -> Result<()> {
        if !self.task(tid)?.entered {
            self.emit(tid, EventKind::SyscallEnter { entry }, vec![], vec![])?;
        }
        self.task_mut(tid)?.is_filter_passed = true;
        let Some(tracee) = self.hold_at_entry(tid, stopped, restarted)? else {
            return Ok(());
        };
        tracee.skips_call = false;
        tracee.message = data.into();
        let stop = TracerStop::new(StopKind::Event, EVENT_SECCOMP, info::event(tid, EVENT_SECCOMP));
        self.stop_for_tracer(tid, stop)
    }

    /// Notes that the event of a call has been recorded.
    pub(crate) fn call_is_recorded(&mut self, tid: Tid, entry: &Registers) -> Result<()> {
        self.task_mut(tid)?.is_filter_passed = false;
        if let Some(tracee) = &mut self.task_mut(tid)?.tracee {
            tracee.last_call = entry.orig_rax;
            tracee.is_entry_seen = false;
            if tracee.pace == Pace::ToCall {
                tracee.due.push_back(Cause::CallExit);
            }
        }
        self.step_is_over(tid)
    }

    /// `PTRACE_GET_SYSCALL_INFO`: stores at most `addr` bytes. The answer is the size of the whole
    /// structure.
    pub(super) fn give_call_info(&mut self, request: Request, writes: &mut Vec<MemWrite>) -> Answered {
        const NONE: usize = 24;
        const EXIT: usize = 33;
        const ENTRY: usize = 80;
        const FILTER: usize = 84;
        let stop = self.tracer_stop(request.of)?;
        let (kind, code) = (stop.kind, stop.code);
        let message = self.tracee_mut(request.of)?.message;
        let regs = self.with_stopped(request.of, |s| s.regs())??;
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
        self.give(request.by, request.data, &info[..asked], writes)?;
        Ok(len as i64)
    }
}
