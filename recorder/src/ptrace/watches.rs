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

use crate::buffer::control::take_records;
use crate::call::parameters::Answered;
use crate::error::Result;
use crate::log::events::emit;
use crate::point::clock::ran_us;
use crate::ptrace::access::with_stopped;
use crate::ptrace::steps::leave_code_alone;
use crate::ptrace::tracee::TRAP_HWBKPT;
use crate::session::RecordSession;

/// `PTRACE_POKEUSER` of a debug register.
pub(crate) fn set_debug_register(session: &mut RecordSession, tid: Tid, offset: u64, value: u64) -> Answered {
    leave_code_alone(session, tid)?;
    with_stopped(&mut session.world, tid, |s| s.set_user_word(offset, value))??;
    Ok(0)
}

/// A debug register has stopped a task in the middle of its interval: ends the interval there.
pub(crate) fn at_watch_hit(
    session: &mut RecordSession,
    tid: Tid,
    stopped: &Stopped,
    info: &SigInfo,
) -> Result<()> {
    debug_assert_eq!(rr_tracee::task::si_code(info), TRAP_HWBKPT);
    take_records(session, tid)?;
    let at = stopped.regs()?.outside_call().without_resume_flag();
    let ran_us = ran_us(session, tid)?;
    let space = &session.world.spaces[&session.world.task(tid)?.space];
    let point = Box::new(Point {
        xstate: stopped.xstate()?,
        discriminators: Vec::new(),
        digests: digest::chunk_digests(tid, &space.model, digest::ALL, |id| session.world.mapped.file(id))?,
        ran_us,
    });
    emit(session, tid, EventKind::Point { at, point }, vec![], vec![])?;
    session.world.task_mut(tid)?.interval.boundary = at;
    Ok(())
}
