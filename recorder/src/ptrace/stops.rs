//! Stopping for the tracer, and telling it.

use rr_trace::event::{Disposition, EventKind, SignalPlace};
use rr_tracee::task::{SigInfo, is_fault, signo};
use rr_tracee::{Stopped, Tid, procfs};

use super::{Cause, Phase, StopKind, TracerStop, info};
use crate::error::Result;
use crate::session::RecordSession;
use crate::signals::bit;
use crate::task::State;

/// The event of `PTRACE_INTERRUPT`, as a wait status has it.
const EVENT_STOP: i32 = libc::SIGTRAP | libc::PTRACE_EVENT_STOP << 8;

impl RecordSession {
    /// Whether a task stops for its tracer when this signal is to be delivered: not if the tracer has just let it through.
    pub(crate) fn stops_for(&mut self, tid: Tid, signal: i32) -> Result<bool> {
        let Some(tracee) = &mut self.task_mut(tid)?.tracee else {
            return Ok(false);
        };
        Ok(tracee.passed.take_if(|passed| *passed == signal).is_none())
    }

    /// A tracee is to stop, as soon as it can.
    pub(super) fn ask_to_stop(&mut self, tid: Tid, cause: Cause) -> Result<()> {
        let task = self.task_mut(tid)?;
        let Some(tracee) = &mut task.tracee else {
            return Ok(());
        };
        tracee.asked = Some(cause);
        match &task.state {
            State::Ready(_) if !task.is_mid_interval() => self.stop_as_asked(tid),
            // It comes out of the call that it waits in, as it would natively.
            State::InKernel(running) => Ok(running.interrupt()?),
            _ => Ok(()),
        }
    }

    /// Whether a task that could go on is to stop for its tracer instead.
    pub(crate) fn is_asked_to_stop(&self, tid: Tid) -> Result<bool> {
        let task = self.task(tid)?;
        Ok(!task.is_mid_interval() && task.tracee.as_ref().is_some_and(|t| t.asked.is_some()))
    }

    /// It makes the stop that it was asked for.
    pub(crate) fn stop_as_asked(&mut self, tid: Tid) -> Result<()> {
        let tracee = self.task_mut(tid)?.tracee.as_mut();
        let stop = match tracee.and_then(|t| t.asked.take()) {
            Some(Cause::Attached) => TracerStop {
                kind: StopKind::Signal,
                code: libc::SIGSTOP,
                info: info::attached(),
                is_reported: false,
            },
            Some(Cause::Interrupted) => TracerStop {
                kind: StopKind::Event,
                code: EVENT_STOP,
                info: info::event(tid, EVENT_STOP),
                is_reported: false,
            },
            None => return Ok(()),
        };
        self.stop_for_tracer(tid, stop)
    }

    /// A signal is about to be delivered to a tracee: its tracer decides.
    pub(crate) fn stop_at_signal(
        &mut self,
        tid: Tid,
        stopped: Stopped,
        info: SigInfo,
        place: SignalPlace,
    ) -> Result<()> {
        let signal = signo(&info);
        let after = match &place {
            SignalPlace::Fault(regs) => *regs,
            SignalPlace::Entry(_) | SignalPlace::Here => self.task(tid)?.boundary,
        };
        if place != SignalPlace::Here {
            // The interval that it has executed ends here: what the tracer changes, it meets in what follows.
            let kind = EventKind::Signal {
                signo: signal,
                info: info.to_vec(),
                place,
                disposition: Disposition::Ignored,
                after,
                xstate: None,
            };
            self.emit(tid, kind, vec![], vec![])?;
        }
        let task = self.task_mut(tid)?;
        task.turned_back = None;
        task.boundary = after;
        task.state = State::Ready(stopped);
        let stop = TracerStop {
            kind: StopKind::Signal,
            code: signal,
            info,
            is_reported: false,
        };
        self.stop_for_tracer(tid, stop)
    }

    /// The task, which is `Ready`, is stopped for its tracer from now on.
    fn stop_for_tracer(&mut self, tid: Tid, stop: TracerStop) -> Result<()> {
        let Some(tracee) = &mut self.task_mut(tid)?.tracee else {
            return Ok(());
        };
        let (tracer, signal) = (tracee.tracer, stop.code & 0x7f);
        let news = match stop.kind {
            StopKind::Signal => info::child(tid, libc::CLD_TRAPPED, signal),
            StopKind::Event => info::child(tid, libc::CLD_STOPPED, 0),
        };
        tracee.phase = Phase::Stopped(stop);
        self.tell_tracer(tracer, tid, news)
    }

    /// There is news of a tracee: its tracer is woken if it waits for that, and gets a `SIGCHLD` that says so.
    pub(super) fn tell_tracer(&mut self, tracer: Tid, tid: Tid, news: SigInfo) -> Result<()> {
        self.wake_waiting(tracer, tid)?;
        let Some(task) = self.tasks.get(&tracer).filter(|t| !t.exited) else {
            return Ok(());
        };
        let table = procfs::signal_dispositions(tracer)?;
        let is_blocked = table.blocked & bit(libc::SIGCHLD) != 0;
        let is_caught = table.caught & bit(libc::SIGCHLD) != 0;
        let has_one = task.stash.iter().any(|i| signo(i) == libc::SIGCHLD);
        if has_one || !(is_blocked || is_caught) {
            return Ok(());
        }
        self.task_mut(tracer)?.stash.push(news);
        if !is_blocked {
            self.send_carrier(tracer, libc::SIGCHLD, table.blocked)?;
        }
        Ok(())
    }

    /// Whether the signal must not be lost, although it has no effect on the program: a tracer sees all.
    pub(crate) fn is_seen_by_tracer(&self, tid: Tid, info: &SigInfo) -> Result<bool> {
        Ok(self.task(tid)?.tracee.is_some() && !is_fault(info))
    }
}
