//! Signals: decides which signals become events, and where.
//!
//! * A signal caused by an instruction (a *fault*) happens at the same place in replay.
//! * A signal that is pending when a task is resumed after an event hits the task before its next
//!   instruction: the signal belongs to that place.
//! * Any other signal hits the task at a place that has no name in the trace. The recorder defers the
//!   signal, and the task goes on to its next system call. There the recorder turns the task back from
//!   the entry, and sends the signal to the task again (a *wakeup signal*, whose siginfo is replaced by the
//!   deferred one). If the task blocks the signal by then, the signal becomes pending in the kernel, as
//!   if it had arrived only now: so the call can see it. If the only effect of the signal is to kill,
//!   the recorder does not wait: the task dies where it is.
//!
//! The kernel makes the handlers' frames, and the recorder records them as memory.

use std::ops::ControlFlow;

use rr_trace::event::{Disposition, EventKind, MemWrite, SignalPlace};
use rr_tracee::memory::ReadMemory;
use rr_tracee::regs::TF;
use rr_tracee::task::{Resume, SI_KERNEL, SigInfo, Stop, Waited, is_fault, si_code, siginfo_at, signo};
use rr_tracee::{Addr, Memory, Registers, Stopped, Tid, procfs, vsyscall};

use crate::buffer::control::{abort_buffered_call, force_traced, take_records};
use crate::buffer::library::is_inside;
use crate::buffer::restore::step_without_sites;
use crate::call::rseq::abort_for_signal;
use crate::call::unsupported_abi;
use crate::call::unsupported_abi::refuse_int80;
use crate::call::vsyscall::carry_out_vsyscall;
use crate::checkpoint::before_end::checkpoint_before_death;
use crate::error::Result;
use crate::log::events::{close_entry, emit};
use crate::policy::options::Options;
use crate::ptrace::steps::step_is_over;
use crate::ptrace::stops::{is_seen_by_tracer, stop_at_signal, stops_for};
use crate::ptrace::tracee::TRAP_HWBKPT;
use crate::ptrace::watches::at_watch_hit;
use crate::session::RecordSession;
use crate::signal::forced::{force_default, is_forced, undo_force};
use crate::signal::numbers::{FIRST_REAL_TIME, bit, default_action};
use crate::signal::traps::{carried_out_at, carry_out};
use crate::signal::wakeup_signal::{Wakeup, cancel_opposite, unwrap_wakeup};
use crate::task::exit::die_untraced;
use crate::userfault::fault::{Handled, on_page_fault};
use crate::world::next::{Next, Until};

fn disposition(tgid: Tid, tid: Tid, info: &SigInfo, options: &Options) -> Result<Disposition> {
    let signal = signo(info);
    // A fault cannot be ignored: the instruction would fault again and again.
    if options.ignored_signal == Some(signal) && !is_fault(info) {
        return Ok(Disposition::Ignored);
    }
    let table = procfs::signal_dispositions(tid)?;
    Ok(if table.caught & bit(signal) != 0 {
        Disposition::Handler
    } else if table.ignored & bit(signal) != 0 && !is_fault(info) {
        Disposition::Ignored
    } else {
        match default_action(signal) {
            // If the task were not traced, the kernel would not have reported the signal at all.
            Disposition::Fatal | Disposition::Stopped
                if !is_fault(info)
                    && !matches!(signal, libc::SIGKILL | libc::SIGSTOP)
                    && procfs::is_init(tgid) =>
            {
                Disposition::Ignored
            }
            Disposition::Fatal if options.survived_signal == Some(signal) => Disposition::Ignored,
            action => action,
        }
    })
}

/// Reads the signal frame that the kernel has just pushed (x86-64 `struct rt_sigframe`): its address
/// and its bytes.
///
/// ```text
/// rsp ─► return address  8
///        ucontext        flags 8, link 8, stack 24, sigcontext { 23 words, fpstate pointer, … }, mask
///        siginfo         128
///        …
///        fpstate         XSAVE image; its size is the second word at offset 464 (sw_reserved)
/// ```
fn frame(memory: &Memory, rsp: Addr) -> Result<(Addr, Vec<u8>)> {
    const FPSTATE_POINTER: u64 = 8 + 8 + 8 + 24 + 23 * 8;
    const WITHOUT_FPSTATE: u64 = 8 + 304 + 128;
    const SW_RESERVED: u64 = 464;
    const MOST: u64 = 64 * 1024;
    let fpstate = Addr(memory.read_u64(rsp + FPSTATE_POINTER)?);
    let end = if fpstate.is_null() {
        rsp + WITHOUT_FPSTATE
    } else {
        fpstate + u64::from(memory.read_u32(fpstate + SW_RESERVED + 4)?).max(512)
    };
    let len = (end - rsp).min(MOST);
    Ok((rsp, memory.read_vec(rsp, len as usize)?))
}

pub(crate) fn on_signal(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    signal: i32,
) -> Result<Next> {
    let mut info = stopped.siginfo()?;
    if signo(&info) != signal {
        // The task was killed since, and the siginfo belongs to the stop at its end.
        return Err(rr_tracee::Error::Died(tid).into());
    }
    let mut regs = stopped.regs()?;
    if signal == libc::SIGSEGV {
        let task = session.world.task(tid)?;
        let sites = &session.world.spaces[&task.space].library.sites;
        let at_program = sites.at_program(&task.memory, regs)?;
        if at_program != regs {
            stopped.set_regs(&at_program)?;
            regs = at_program;
        }
    }
    // Stops that are not signals of the program: single steps, rr's own code, `int 0x80`, and
    // trapped instructions.
    let stepped = signal == libc::SIGTRAP && si_code(&info) == libc::TRAP_TRACE;
    if stepped && let Some((rip, writes)) = step_without_sites(&mut session.world, tid, Addr(regs.rip))? {
        return first_step(session, tid, stopped, info, (regs, rip), writes);
    }
    if is_fault(&info) && is_inside(regs.rip) {
        let stopped = undo_force(&mut session.world, tid, stopped, &info)?;
        return abort_buffered_call(stopped);
    }
    if let Some(entry) = unsupported_abi::int80(&info, &regs) {
        let stopped = undo_force(&mut session.world, tid, stopped, &info)?;
        return refuse_int80(session, tid, stopped, &entry);
    }
    if let Some(number) = vsyscall::number(&info) {
        return carry_out_vsyscall(session, tid, stopped, &info, number);
    }
    if signal == libc::SIGSEGV
        && (si_code(&info) == SI_KERNEL || is_forced(&mut session.world, tid, signal)?)
        && let Some(carried_out) = carried_out_at(session, tid, &regs)?
    {
        let stopped = undo_force(&mut session.world, tid, stopped, &info)?;
        let next = carry_out(session, tid, stopped, &regs, carried_out)?;
        return match next {
            Next::Ready(stopped) if regs.eflags & TF != 0 => step_trap(session, tid, stopped),
            next => Ok(next),
        };
    }
    if signal == libc::SIGSEGV && is_fault(&info) {
        match on_page_fault(session, tid, stopped, &info, &regs)? {
            Handled::No(ordinary) => stopped = ordinary,
            Handled::Yes(next) => return Ok(next),
            Handled::BySignal(stopped, info) => {
                return deliver_signal(session, tid, stopped, info, SignalPlace::Here);
            }
        }
    }
    // A wakeup signal gives way to the deferred signal.
    match unwrap_wakeup(&mut session.world, tid, &info)? {
        Wakeup::No => {}
        Wakeup::For(deferred) => {
            info = deferred;
            stopped.set_siginfo(&info)?;
        }
        Wakeup::Cancelled => return Ok(Next::Ready(stopped)),
    }
    if signal == libc::SIGTRAP && si_code(&info) == TRAP_HWBKPT {
        at_watch_hit(session, tid, &stopped, &info)?;
        return deliver_signal(session, tid, stopped, info, SignalPlace::Here);
    }
    // Decides at which place the signal happens.
    let task = session.world.task_mut(tid)?;
    let at_boundary = regs.rip == task.interval.boundary.rip && regs.rsp == task.interval.boundary.rsp;
    let place = if task.at_call.restarting.is_some() || (task.signals.is_due && at_boundary) {
        task.signals
            .turned_back
            .map_or(SignalPlace::Here, SignalPlace::Entry)
    } else if is_fault(&info) {
        take_records(session, tid)?;
        SignalPlace::Fault(regs.outside_call())
    } else {
        // A signal that kills needs no place.
        let passed_on = (!defer_signal(session, tid, info)?).then_some(signal);
        let running = stopped.resume(Resume::Cont, passed_on)?;
        return Ok(Next::Wait(running, Until::Stop));
    };
    cancel_opposite(&mut session.world, tid, signo(&info))?;
    deliver_signal(session, tid, stopped, info, place)
}

/// Handles the first trap of a program that single-steps itself. The program has no rewritten sites
/// from here on, and goes on at `rip`. If `rip` differs from the current address, the program has
/// not executed an instruction of its own yet, and will trap again.
fn first_step(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    info: SigInfo,
    (regs, rip): (Registers, Addr),
    writes: Vec<MemWrite>,
) -> Result<Next> {
    take_records(session, tid)?;
    let at = regs.outside_call();
    let after = Registers { rip: rip.0, ..at };
    let trap = EventKind::Signal {
        signo: signo(&info),
        info: info.to_vec(),
        place: SignalPlace::Fault(at),
        disposition: Disposition::Ignored,
        after,
        xstate: None,
    };
    emit(session, tid, trap, vec![], writes)?;
    session.world.task_mut(tid)?.interval.boundary = after;
    if rip.0 == regs.rip {
        return deliver_signal(session, tid, stopped, info, SignalPlace::Here);
    }
    stopped.set_regs(&after)?;
    Ok(Next::Ready(stopped))
}

/// An instruction was carried out for a program that steps itself: its trap follows, as the processor would have made it.
fn step_trap(session: &mut RecordSession, tid: Tid, mut stopped: Stopped) -> Result<Next> {
    let action = session.world.task(tid)?.signals.actions.of(libc::SIGTRAP);
    if action.is_ignored() || is_forced(&mut session.world, tid, libc::SIGTRAP)? {
        stopped = force_default(&mut session.world, tid, stopped, libc::SIGTRAP)?;
    }
    let at = stopped.regs()?.rip;
    let info = siginfo_at(libc::SIGTRAP, libc::TRAP_TRACE, Addr(at));
    stopped.set_siginfo(&info)?;
    deliver_signal(session, tid, stopped, info, SignalPlace::Here)
}

/// Handles an asynchronous signal in the middle of an interval: keeps the signal for the end of the
/// interval, or drops it if it has no effect. Returns `false` if the signal kills.
pub(crate) fn defer_signal(session: &mut RecordSession, tid: Tid, info: SigInfo) -> Result<bool> {
    let signal = signo(&info);
    cancel_opposite(&mut session.world, tid, signal)?;
    let tgid = session.world.task(tid)?.tgid;
    let is_seen = is_seen_by_tracer(&session.world, tid, &info)?;
    match disposition(tgid, tid, &info, &session.policy.options)? {
        Disposition::Fatal if !is_seen => return Ok(false),
        Disposition::Ignored if !is_seen => {}
        _ => {
            let deferred = &mut session.world.task_mut(tid)?.signals.deferred;
            // At most one ordinary signal of each number is pending at a time (signal(7)).
            if signal >= FIRST_REAL_TIME || !deferred.iter().any(|i| signo(i) == signal) {
                deferred.push(info);
            }
            force_traced(&mut session.world, tid)?;
        }
    }
    Ok(true)
}

fn deliver_signal(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    info: SigInfo,
    mut place: SignalPlace,
) -> Result<Next> {
    let signal = signo(&info);
    if stops_for(&mut session.world, tid, signal)? {
        return stop_at_signal(session, tid, stopped, info, place);
    }
    let tgid = session.world.task(tid)?.tgid;
    let disposition = disposition(tgid, tid, &info, &session.policy.options)?;
    if disposition == Disposition::Handler {
        place = abort_for_signal(session, tid, &mut stopped, &info, place)?;
    }
    let boundary = match &place {
        SignalPlace::Fault(regs) => *regs,
        _ => session.world.task(tid)?.interval.boundary,
    };
    let event = |disposition, after, xstate| EventKind::Signal {
        signo: signal,
        info: info.to_vec(),
        place: place.clone(),
        disposition,
        after,
        xstate,
    };
    match disposition {
        Disposition::Ignored if is_fault(&info) => {
            // The fault stopped the task at a place where no other event is.
            emit(session, tid, event(disposition, boundary, None), vec![], vec![])?;
            session.world.task_mut(tid)?.interval.boundary = boundary;
            Ok(Next::Ready(stopped))
        }
        // The signal has no effect, so it is no event. If it has turned the task back, that is no
        // event either.
        Disposition::Ignored => Ok(Next::Ready(stopped)),
        Disposition::Handler => {
            let waited = stopped.resume(Resume::Step, Some(signal))?.wait()?;
            let (stopped, stop) = match waited {
                Waited::Stopped(stopped, stop) => (stopped, stop),
                Waited::Gone(_) => return Err(rr_tracee::Error::Died(tid).into()),
            };
            if stop != Stop::Signal(libc::SIGTRAP) {
                // The frame did not fit, and the kernel sends SIGSEGV instead. In replay, the first
                // signal stops the task.
                if matches!(place, SignalPlace::Fault(_)) {
                    emit(
                        session,
                        tid,
                        event(Disposition::Ignored, boundary, None),
                        vec![],
                        vec![],
                    )?;
                    session.world.task_mut(tid)?.interval.boundary = boundary;
                }
                session.world.task_mut(tid)?.signals.is_due = true;
                return Ok(Next::Stop(stopped, stop));
            }
            let after = stopped.regs()?.outside_call();
            let xstate = Some(stopped.xstate()?);
            let task = session.world.task_mut(tid)?;
            let (addr, data) = frame(&task.memory, Addr(after.rsp))?;
            let writes = vec![MemWrite {
                space: task.space,
                addr,
                data,
            }];
            task.at_call.restarting = None;
            task.signals.turned_back = None;
            task.interval.boundary = after;
            task.signals.blocked = None;
            task.signals.actions.delivered(signal);
            close_entry(session, tid)?;
            emit(session, tid, event(disposition, after, xstate), vec![], writes)?;
            step_is_over(&mut session.world, tid)?;
            Ok(Next::Ready(stopped))
        }
        Disposition::Fatal | Disposition::Stopped => {
            close_entry(session, tid)?;
            emit(session, tid, event(disposition, boundary, None), vec![], vec![])?;
            session.world.task_mut(tid)?.signals.turned_back = None;
            if disposition == Disposition::Fatal && is_fault(&info) && procfs::is_init(tgid) {
                return die_untraced(session, tid, stopped, signal);
            }
            let stopped = match disposition {
                Disposition::Fatal => checkpoint_before_death(session, tid, stopped, &info, boundary)?,
                _ => ControlFlow::Continue(stopped),
            };
            let stopped = match stopped {
                ControlFlow::Continue(stopped) => stopped,
                ControlFlow::Break(next) => return Ok(next),
            };
            let running = stopped.resume(Resume::Cont, Some(signal))?;
            Ok(Next::Wait(running, Until::Stop))
        }
    }
}
