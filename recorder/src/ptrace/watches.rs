//! A tracee's debug registers: hardware breakpoints and watchpoints of its tracer.
//!
//! The kernel holds the registers as the tracer sets them. A hit has no place that replay would find by
//! itself, because in replay the registers belong to the replay's debugger. So the place is named as an
//! execution point ([`Point`]), and the tracee stops for its tracer right after that event.
//!
//! From then on no call of the address space goes to the library: the library's accesses would be hits
//! in rr's code.

use rr_trace::event::{EventKind, Point};
use rr_tracee::task::SigInfo;
use rr_tracee::{Stopped, Tid, digest};

use crate::error::Result;
use crate::ptrace::request::Answered;
use crate::session::RecordSession;

/// The code of a `SIGTRAP` that a debug register causes (sigaction(2)).
pub(crate) const TRAP_HWBKPT: i32 = 4;

impl RecordSession {
    /// `PTRACE_POKEUSER` of a debug register.
    pub(super) fn set_debug_register(&mut self, tid: Tid, offset: u64, value: u64) -> Answered {
        self.leave_code_alone(tid)?;
        self.with_stopped(tid, |s| s.set_user_word(offset, value))??;
        Ok(0)
    }

    /// A debug register has stopped a task in the middle of its interval: ends the interval there.
    pub(crate) fn at_watch_hit(&mut self, tid: Tid, stopped: &Stopped, info: &SigInfo) -> Result<()> {
        debug_assert_eq!(rr_tracee::task::si_code(info), TRAP_HWBKPT);
        self.take_records(tid)?;
        let at = stopped.regs()?.outside_call().without_resume_flag();
        let ran_us = self.ran_us(tid)?;
        let space = &self.spaces[&self.task(tid)?.space];
        let point = Box::new(Point {
            xstate: stopped.xstate()?,
            words: Vec::new(),
            sums: digest::sums(tid, &space.model, digest::ALL, |id| self.mapped.file(id))?,
            ran_us,
        });
        self.emit(tid, EventKind::Point { at, point }, vec![], vec![])?;
        self.task_mut(tid)?.boundary = at;
        Ok(())
    }
}
