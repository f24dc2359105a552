//! The call ptrace(2): permissions and dispatch of requests.
//!
//! As in the kernel, only the task that attached may make requests, most of them only while the tracee
//! is stopped for it. Otherwise the answer is `ESRCH`.

use nix::errno::Errno;
use rr_trace::event::MemWrite;
use rr_tracee::pid_namespace::Vpid;
use rr_tracee::{Addr, Registers, Stopped, Tid};

use crate::call::answer::answer_with;
use crate::call::parameters::{Answered, Failure, give_answer, read_parameter};
use crate::call::rseq::give_rseq;
use crate::call::user_dispatch::{give_dispatch, take_dispatch};
use crate::error::{Error, Result};
use crate::policy::warnings::Warning;
use crate::ptrace::access::{
    Request, check_options, named_tracee, tracee_mut, tracer_stop, tracer_stop_mut, with_stopped,
};
use crate::ptrace::calls::give_call_info;
use crate::ptrace::memory::{peek_word, poke_word};
use crate::ptrace::queued::give_queued;
use crate::ptrace::registers::{get_regset, give_regset, peek_user, poke_user, set_regset, take_regset};
use crate::ptrace::relation::{attach_tracee, detach_tracee, interrupt_tracee, kill_tracee, trace_me};
use crate::ptrace::resume::{listen_to_group, resume_tracee};
use crate::ptrace::stops::has_info;
use crate::ptrace::tracee::Pace;
use crate::seccomp::shown::{give_filter, give_filter_metadata};
use crate::session::RecordSession;
use crate::world::model::World;
use crate::world::next::Next;
use crate::world::numbers::named_task;

/// `<linux/ptrace.h>`, since Linux 5.13.
const PTRACE_GET_RSEQ_CONFIGURATION: u32 = 0x420f;

/// `<linux/ptrace.h>`, since Linux 6.4.
const PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG: u32 = 0x4210;
const PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG: u32 = 0x4211;

/// `<linux/ptrace.h>`, since Linux 4.4.
const PTRACE_SECCOMP_GET_FILTER: u32 = 0x420c;

/// `<linux/ptrace.h>`, since Linux 4.16.
const PTRACE_SECCOMP_GET_METADATA: u32 = 0x420d;

/// Handles the entry of ptrace(2).
pub(crate) fn begin_ptrace(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: Registers,
) -> Result<Next> {
    let number = Vpid(entry.rsi as i32);
    let of = match u32::try_from(entry.rdi) {
        Ok(libc::PTRACE_TRACEME) => Some(tid),
        Ok(libc::PTRACE_ATTACH | libc::PTRACE_SEIZE) => named_task(&session.world, tid, number),
        _ => named_tracee(&session.world, tid, number),
    };
    let Some(of) = of else {
        return answer_with(session, tid, stopped, &entry, Err(Errno::ESRCH.into()), vec![]);
    };
    let request = Request {
        by: tid,
        of,
        addr: entry.rdx,
        data: entry.r10,
    };
    let mut writes = Vec::new();
    let answered = match carry_out_request(session, entry.rdi, request, &mut writes) {
        // The tracee was killed in the middle of the request.
        Err(Failure::Error(Error::Tracee(rr_tracee::Error::Died(dead)))) if dead == request.of => {
            Err(Errno::ESRCH.into())
        }
        answered => answered,
    };
    answer_with(session, tid, stopped, &entry, answered, writes)
}

fn carry_out_request(
    session: &mut RecordSession,
    number: u64,
    request: Request,
    writes: &mut Vec<MemWrite>,
) -> Answered {
    let Ok(number) = u32::try_from(number) else {
        return Err(Errno::EIO.into());
    };
    // Requests that need no tracee yet.
    match number {
        libc::PTRACE_ATTACH => return attach_tracee(session, request, false),
        libc::PTRACE_SEIZE => return attach_tracee(session, request, true),
        libc::PTRACE_TRACEME => return trace_me(session, request.by),
        _ => {}
    }
    // Requests that need no stopped tracee.
    match number {
        libc::PTRACE_KILL => return kill_tracee(request),
        libc::PTRACE_INTERRUPT => return interrupt_tracee(&mut session.world, request),
        _ => {}
    }
    tracer_stop(&session.world, request.of)?;
    // Requests to a stopped tracee.
    match number {
        libc::PTRACE_PEEKTEXT | libc::PTRACE_PEEKDATA => {
            let word = peek_word(&session.world, request.of, Addr(request.addr))?;
            give_answer(
                &session.world,
                request.by,
                request.data,
                &word.to_le_bytes(),
                writes,
            )
        }
        libc::PTRACE_POKETEXT | libc::PTRACE_POKEDATA => poke_word(session, request),
        libc::PTRACE_PEEKUSER => {
            let word = peek_user(&mut session.world, request.of, request.addr)?;
            give_answer(
                &session.world,
                request.by,
                request.data,
                &word.to_le_bytes(),
                writes,
            )
        }
        libc::PTRACE_POKEUSER => poke_user(session, request),
        libc::PTRACE_GETREGS => give_regset(
            &mut session.world,
            request,
            crate::ptrace::registers::GENERAL,
            writes,
        ),
        libc::PTRACE_SETREGS => take_regset(session, request, crate::ptrace::registers::GENERAL),
        libc::PTRACE_GETFPREGS => give_regset(
            &mut session.world,
            request,
            crate::ptrace::registers::FLOATING,
            writes,
        ),
        libc::PTRACE_SETFPREGS => take_regset(session, request, crate::ptrace::registers::FLOATING),
        libc::PTRACE_GETREGSET => get_regset(&mut session.world, request, writes),
        libc::PTRACE_SETREGSET => set_regset(session, request),
        libc::PTRACE_GET_SYSCALL_INFO => give_call_info(&mut session.world, request, writes),
        libc::PTRACE_LISTEN => listen_to_group(&mut session.world, request),
        libc::PTRACE_GETSIGINFO | libc::PTRACE_SETSIGINFO if !has_info(&session.world, request.of)? => {
            Err(Errno::EINVAL.into())
        }
        libc::PTRACE_GETSIGINFO => {
            let info = tracer_stop(&session.world, request.of)?.info;
            give_answer(&session.world, request.by, request.data, &info, writes)
        }
        libc::PTRACE_SETSIGINFO => {
            let info = read_parameter(&session.world, request.by, request.data, 128)?;
            if let (Some(stop), Some(info)) = (
                tracer_stop_mut(&mut session.world, request.of),
                info.first_chunk(),
            ) {
                stop.info = *info;
            }
            Ok(0)
        }
        libc::PTRACE_PEEKSIGINFO => give_queued(&mut session.world, request, writes),
        libc::PTRACE_GETSIGMASK if request.addr == 8 => {
            let mask = with_stopped(&mut session.world, request.of, |stopped| stopped.sigmask())??;
            give_answer(
                &session.world,
                request.by,
                request.data,
                &mask.to_le_bytes(),
                writes,
            )
        }
        libc::PTRACE_SETSIGMASK if request.addr == 8 => set_mask(&mut session.world, request),
        libc::PTRACE_GETSIGMASK | libc::PTRACE_SETSIGMASK => Err(Errno::EINVAL.into()),
        libc::PTRACE_SETOPTIONS => {
            check_options(&session.world, request.by, request.data)?;
            tracee_mut(&mut session.world, request.of)?.options = request.data;
            Ok(0)
        }
        libc::PTRACE_GETEVENTMSG => {
            let message = tracee_mut(&mut session.world, request.of)?.message;
            give_answer(
                &session.world,
                request.by,
                request.data,
                &message.to_le_bytes(),
                writes,
            )
        }
        PTRACE_SECCOMP_GET_FILTER => give_filter(
            &session.world,
            (request.by, request.of),
            request.addr,
            request.data,
            writes,
        ),
        PTRACE_SECCOMP_GET_METADATA => give_filter_metadata(
            &session.world,
            (request.by, request.of),
            request.addr,
            request.data,
            writes,
        ),
        PTRACE_GET_RSEQ_CONFIGURATION => give_rseq(
            &session.world,
            (request.by, request.of),
            request.addr,
            request.data,
            writes,
        ),
        PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG => take_dispatch(
            &mut session.world,
            (request.by, request.of),
            request.addr,
            request.data,
        ),
        PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG => give_dispatch(
            &session.world,
            (request.by, request.of),
            request.addr,
            request.data,
            writes,
        ),
        libc::PTRACE_CONT => resume_tracee(session, request, Pace::Freely),
        libc::PTRACE_SYSCALL => resume_tracee(session, request, Pace::ToCall),
        libc::PTRACE_SYSEMU => resume_tracee(session, request, Pace::ToEmulatedCall),
        libc::PTRACE_SINGLESTEP => resume_tracee(session, request, Pace::Step),
        libc::PTRACE_SYSEMU_SINGLESTEP => resume_tracee(session, request, Pace::StepOrEmulatedCall),
        libc::PTRACE_DETACH => detach_tracee(session, request),
        _ => {
            if session.policy.warnings.is_new(Warning::PtraceRequest(number)) {
                tracing::warn!(
                    "the program makes ptrace request {number:#x}, which rr does not know; it is told EIO"
                );
            }
            Err(Errno::EIO.into())
        }
    }
}

pub(crate) fn set_mask(world: &mut World, request: Request) -> Answered {
    let bytes = read_parameter(world, request.by, request.data, 8)?;
    let mask = bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    with_stopped(world, request.of, |stopped| stopped.set_sigmask(mask))??;
    world.task_mut(request.of)?.signals.blocked = None;
    Ok(0)
}
