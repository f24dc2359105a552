//! A tracee goes on, with a signal or without.
//!
//! A signal that the tracer lets through is stashed and carried ([`crate::carrier`]), as one that came at a bad moment: so the tracee may
//! be used for remote calls while it is stopped, although these end the kernel's own stop at the delivery.

use nix::errno::Errno;
use rr_tracee::Tid;
use rr_tracee::task::{SigInfo, signo};

use super::request::{Answered, Request};
use super::{Phase, StopKind, info};
use crate::error::Result;
use crate::session::RecordSession;
use crate::signals::bit;
use crate::task::State;

/// The last signal.
const LAST: u64 = 64;

impl RecordSession {
    /// `PTRACE_CONT` and its kin; `data` is a signal.
    pub(super) fn resume_tracee(&mut self, request: Request) -> Answered {
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
        if signal == 0 || stop.kind != StopKind::Signal {
            return Ok(0);
        }
        if signal == libc::SIGKILL {
            rr_tracee::task::kill(self.task(tid)?.tgid);
            return Ok(0);
        }
        tracee.passed = Some(signal);
        let info = if signo(&stop.info) == signal {
            stop.info
        } else {
            info::sent(signal, libc::SI_USER, request.by)
        };
        self.pass_signal(tid, info)?;
        Ok(0)
    }

    /// A task gets a signal when it goes on.
    pub(super) fn pass_signal(&mut self, tid: Tid, info: SigInfo) -> Result<()> {
        let signal = signo(&info);
        let task = self.task_mut(tid)?;
        let State::Ready(stopped) = &task.state else {
            return Ok(());
        };
        let mask = stopped.sigmask()?;
        // Before others of its number that have come since.
        task.stash.insert(0, info);
        if mask & bit(signal) == 0 {
            self.send_carrier(tid, signal, mask)?;
        }
        Ok(())
    }
}
