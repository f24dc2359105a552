//! The call ptrace(2): permissions and dispatch of requests.
//!
//! As in the kernel, only the task that attached may make requests, most of them only while the tracee
//! is stopped for it. Otherwise the answer is `ESRCH`.

use nix::errno::Errno;
use rr_trace::event::MemWrite;
use rr_tracee::{Addr, Registers, Stopped, Tid, procfs};

pub(super) use crate::call::answer::{Answered, Failure};
use crate::error::{Error, Result};
use crate::ptrace::{Pace, Phase, Tracee, TracerStop};
use crate::session::RecordSession;
use crate::world::task::State;

/// `<linux/ptrace.h>`, since Linux 5.13.
const PTRACE_GET_RSEQ_CONFIGURATION: u32 = 0x420f;

/// `<linux/ptrace.h>`, since Linux 4.4.
const PTRACE_SECCOMP_GET_FILTER: u32 = 0x420c;

/// A request as the tracer makes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// The tracer.
    pub by: Tid,
    /// The tracee.
    pub of: Tid,
    pub addr: u64,
    pub data: u64,
}

impl RecordSession {
    /// Handles the entry of ptrace(2).
    pub(crate) fn begin_ptrace(&mut self, tid: Tid, stopped: Stopped, entry: Registers) -> Result<()> {
        let request = Request {
            by: tid,
            of: Tid(entry.rsi as i32),
            addr: entry.rdx,
            data: entry.r10,
        };
        let mut writes = Vec::new();
        let answered = match self.carry_out(entry.rdi, request, &mut writes) {
            // The tracee was killed in the middle of the request.
            Err(Failure::Error(Error::Tracee(rr_tracee::Error::Died(dead)))) if dead == request.of => {
                Err(Errno::ESRCH.into())
            }
            answered => answered,
        };
        self.answer_with(tid, stopped, &entry, answered, writes)
    }

    fn carry_out(&mut self, number: u64, request: Request, writes: &mut Vec<MemWrite>) -> Answered {
        let Ok(number) = u32::try_from(number) else {
            return Err(Errno::EIO.into());
        };
        // Requests that need no tracee yet.
        match number {
            libc::PTRACE_ATTACH => return self.attach(request, false),
            libc::PTRACE_SEIZE => return self.attach(request, true),
            libc::PTRACE_TRACEME => return self.trace_me(request.by),
            _ => {}
        }
        self.check_tracer(request)?;
        // Requests that need no stopped tracee.
        match number {
            libc::PTRACE_KILL => return self.kill_tracee(request),
            libc::PTRACE_INTERRUPT => return self.interrupt_tracee(request),
            _ => {}
        }
        self.tracer_stop(request.of)?;
        // Requests to a stopped tracee.
        match number {
            libc::PTRACE_PEEKTEXT | libc::PTRACE_PEEKDATA => {
                let word = self.peek(request.of, Addr(request.addr))?;
                self.give(request.by, request.data, &word.to_le_bytes(), writes)
            }
            libc::PTRACE_POKETEXT | libc::PTRACE_POKEDATA => self.poke(request),
            libc::PTRACE_PEEKUSER => {
                let word = self.peek_user(request.of, request.addr)?;
                self.give(request.by, request.data, &word.to_le_bytes(), writes)
            }
            libc::PTRACE_POKEUSER => self.poke_user(request),
            libc::PTRACE_GETREGS => self.give_regset(request, crate::ptrace::registers::GENERAL, writes),
            libc::PTRACE_SETREGS => self.take_regset(request, crate::ptrace::registers::GENERAL),
            libc::PTRACE_GETFPREGS => self.give_regset(request, crate::ptrace::registers::FLOATING, writes),
            libc::PTRACE_SETFPREGS => self.take_regset(request, crate::ptrace::registers::FLOATING),
            libc::PTRACE_GETREGSET => self.get_regset(request, writes),
            libc::PTRACE_SETREGSET => self.set_regset(request),
            libc::PTRACE_GET_SYSCALL_INFO => self.give_call_info(request, writes),
            libc::PTRACE_LISTEN => self.listen(request),
            libc::PTRACE_GETSIGINFO | libc::PTRACE_SETSIGINFO if !self.has_info(request.of)? => {
                Err(Errno::EINVAL.into())
            }
            libc::PTRACE_GETSIGINFO => {
                let info = self.tracer_stop(request.of)?.info;
                self.give(request.by, request.data, &info, writes)
            }
            libc::PTRACE_SETSIGINFO => {
                let info = self.taken(request.by, request.data, 128)?;
                if let (Some(stop), Some(info)) = (self.tracer_stop_mut(request.of), info.first_chunk()) {
                    stop.info = *info;
                }
                Ok(0)
            }
            libc::PTRACE_GETSIGMASK if request.addr == 8 => {
                let mask = self.with_stopped(request.of, |stopped| stopped.sigmask())??;
                self.give(request.by, request.data, &mask.to_le_bytes(), writes)
            }
            libc::PTRACE_SETSIGMASK if request.addr == 8 => self.set_mask(request),
            libc::PTRACE_GETSIGMASK | libc::PTRACE_SETSIGMASK => Err(Errno::EINVAL.into()),
            libc::PTRACE_SETOPTIONS => {
                self.check_options(request.by, request.data)?;
                self.tracee_mut(request.of)?.options = request.data;
                Ok(0)
            }
            libc::PTRACE_GETEVENTMSG => {
                let message = self.tracee_mut(request.of)?.message;
                self.give(request.by, request.data, &message.to_le_bytes(), writes)
            }
            PTRACE_SECCOMP_GET_FILTER => {
                self.give_filter((request.by, request.of), request.addr, request.data, writes)
            }
            PTRACE_GET_RSEQ_CONFIGURATION => {
                self.give_rseq((request.by, request.of), request.addr, request.data, writes)
            }
            libc::PTRACE_CONT => self.resume_tracee(request, Pace::Freely),
            libc::PTRACE_SYSCALL => self.resume_tracee(request, Pace::ToCall),
            libc::PTRACE_SYSEMU => self.resume_tracee(request, Pace::ToEmulatedCall),
            libc::PTRACE_SINGLESTEP => self.resume_tracee(request, Pace::Step),
            libc::PTRACE_DETACH => self.detach_tracee(request),
            _ => {
                // The keys must differ from numbers of calls.
                if self.warned.insert(-1000 - i64::from(number)) {
                    tracing::warn!(
                        "the program makes ptrace request {number:#x}, which rr does not know; it is told EIO"
                    );
                }
                Err(Errno::EIO.into())
            }
        }
    }

    /// The state of a tracee.
    pub(super) fn tracee_mut(&mut self, tid: Tid) -> Answered<&mut Tracee> {
        let tracee = self.tasks.get_mut(&tid).and_then(|t| t.tracee.as_deref_mut());
        tracee.ok_or(Errno::ESRCH.into())
    }

    fn check_tracer(&self, request: Request) -> Answered<()> {
        let tracee = self.tasks.get(&request.of).and_then(|t| t.tracee.as_ref());
        match tracee {
            Some(tracee) if tracee.tracer == request.by => Ok(()),
            _ => Err(Errno::ESRCH.into()),
        }
    }

    /// The stop for its tracer that a task is in.
    pub(super) fn tracer_stop(&self, tid: Tid) -> Answered<&TracerStop> {
        let task = self.tasks.get(&tid);
        let task = task.filter(|t| matches!(t.state, State::Ready(_) | State::Reported(..)));
        let stop = task.and_then(|t| t.tracee.as_ref()).and_then(|t| t.stop());
        stop.ok_or(Errno::ESRCH.into())
    }

    fn tracer_stop_mut(&mut self, tid: Tid) -> Option<&mut TracerStop> {
        match &mut self.tasks.get_mut(&tid)?.tracee.as_mut()?.phase {
            Phase::Stopped(stop) => Some(stop),
            Phase::Running | Phase::Listening => None,
        }
    }

    /// Reads or changes a task that is stopped for its tracer.
    pub(super) fn with_stopped<T>(&mut self, tid: Tid, look: impl FnOnce(&mut Stopped) -> T) -> Answered<T> {
        match self.tasks.get_mut(&tid).map(|t| &mut t.state) {
            Some(State::Ready(stopped) | State::Reported(stopped, _)) => Ok(look(stopped)),
            _ => Err(Errno::ESRCH.into()),
        }
    }

    /// Checks if a tracer may set these `PTRACE_O_*`.
    pub(super) fn check_options(&self, by: Tid, options: u64) -> Answered<()> {
        const SUSPEND_FILTERS: u64 = libc::PTRACE_O_SUSPEND_SECCOMP as u64;
        const KNOWN: u64 = 0xff | (libc::PTRACE_O_EXITKILL as u64) | SUSPEND_FILTERS;
        if options & !KNOWN != 0 {
            return Err(Errno::EINVAL.into());
        }
        let may_suspend =
            || Ok::<_, Error>(!self.task(by)?.confined.is_confined() && procfs::is_administrator(by));
        if options & SUSPEND_FILTERS != 0 && !may_suspend()? {
            return Err(Errno::EPERM.into());
        }
        Ok(())
    }

    fn set_mask(&mut self, request: Request) -> Answered {
        let bytes = self.taken(request.by, request.data, 8)?;
        let mask = bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        self.with_stopped(request.of, |stopped| stopped.set_sigmask(mask))??;
        self.task_mut(request.of)?.blocked = None;
        Ok(0)
    }
}
