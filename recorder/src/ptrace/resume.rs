//! Resuming a tracee, with a signal or without.
//!
//! A signal that the tracer lets through is stashed and carried ([`crate::signal::wakeup_signal`]), like a signal
//! that came at a bad moment. So the tracee can make remote calls while it is stopped, although these
//! end the kernel's own delivery stop.

use nix::errno::Errno;
use rr_tracee::task::{Resume, SigInfo, signo};
use rr_tracee::{Running, Tid};

use crate::error::Result;
use crate::ptrace::request::{Answered, Request};
use crate::ptrace::{Cause, Pace, Phase, StopKind, info};
use crate::session::RecordSession;
use crate::signal::deliver::bit;
use crate::world::task::State;

/// The last signal.
const LAST: u64 = 64;

impl RecordSession {
    /// `PTRACE_CONT` and similar requests. `data` is a signal.
    pub(super) fn resume_tracee(&mut self, request: Request, pace: Pace) -> Answered {
        if request.data > LAST {
            return Err(Errno::EIO.into());
        }
        let signal = request.data as i32;
        let tid = request.of;
        let tracee = self.tracee_mut(tid)?;
        let Phase::Stopped(stop) = std::mem::replace(&mut tracee.phase, Phase::Running) else {
            return Err(Errno::ESRCH.into());
        };
        tracee.put_off = None;
        tracee.pace = pace;
        if pace == Pace::Step {
            self.want_step(tid)?;
        }
        let tracee = self.tracee_mut(tid)?;
        let is_call = matches!(stop.kind, StopKind::CallEntry | StopKind::CallExit);
        if signal == 0 || !is_call && stop.kind != StopKind::Signal {
            return Ok(0);
        }
        if signal == libc::SIGKILL {
            rr_tracee::task::kill(self.task(tid)?.tgid);
            return Ok(0);
        }
        if !is_call {
            tracee.passed = Some(signal);
        }
        let info = if signo(&stop.info) == signal && !is_call {
            stop.info
        } else {
            info::sent(signal, libc::SI_USER, request.by)
        };
        self.pass_signal(tid, info)?;
        Ok(0)
    }

    /// `PTRACE_LISTEN`: the tracee stays stopped with its group, until the group continues.
    pub(super) fn listen(&mut self, request: Request) -> Answered {
        let tid = request.of;
        let kind = self.tracer_stop(tid)?.kind;
        let tracee = self.tracee_mut(tid)?;
        if !tracee.is_seized || kind != StopKind::Group {
            return Err(Errno::EIO.into());
        }
        tracee.phase = Phase::Listening;
        match self.task_mut(tid)?.take_state() {
            State::Ready(stopped) => {
                // The task may have left the kernel's stop, to make remote calls. This makes it report
                // again if its group is stopped.
                Running::newborn(tid).interrupt()?;
                let running = stopped.resume(Resume::Cont, None)?;
                self.task_mut(tid)?.state = State::InKernel(running);
            }
            state => self.task_mut(tid)?.state = state,
        }
        Ok(0)
    }

    /// A task has left the stop of its group: if it was listening, its tracer is told.
    pub(crate) fn end_listening(&mut self, tid: Tid) -> Result<()> {
        if let Some(tracee) = &mut self.task_mut(tid)?.tracee
            && matches!(tracee.phase, Phase::Listening)
        {
            tracee.phase = Phase::Running;
            tracee.due.retain(|cause| *cause != Cause::Interrupted);
            tracee.due.push_front(Cause::Interrupted);
        }
        Ok(())
    }

    /// Gives a task a signal, which comes when the task continues.
    pub(crate) fn pass_signal(&mut self, tid: Tid, info: SigInfo) -> Result<()> {
        let signal = signo(&info);
        let task = self.task_mut(tid)?;
        let (State::Ready(stopped) | State::Reported(stopped, _)) = &task.state else {
            return Ok(());
        };
        let mask = stopped.sigmask()?;
        // Before other signals of this number that have come since.
        task.stash.insert(0, info);
        if mask & bit(signal) == 0 {
            self.send_carrier(tid, signal, mask)?;
        }
        Ok(())
    }
}
