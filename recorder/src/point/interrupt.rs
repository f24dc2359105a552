//! Execution points: end an interval where the program makes no event.
//!
//! A task that executes user code for long, without a system call, is interrupted when something waits
//! for the end of its interval: a signal that it has a handler for, or another task that could run
//! (this task may be spinning until the other does something). The place where it stands has no name
//! but its state: the registers, and a digest of the memory that it could have written
//! ([`rr_trace::event::Point`]). Replay searches for that state, and two things make the search quick:
//!
//! * The recorder watches the task for a moment. The words that change meanwhile become part of the
//!   name: they are cheap to compare, and likely to differ at every pass of the loop.
//! * The recorder steps the task to a place where the five bytes of a jump fit (see
//!   [`rr_tracee::code`]).
//!
//! A task that spins needs neither, and is interrupted early ([`spin`]).
//!
//! An interrupt can race with an event of the task. Then that event counts, and the stop that is still
//! to come is taken where nothing has been executed after the event: at a system call entry the task is
//! turned back once.

use std::time::Duration;

use rr_trace::event::{EventKind, Point};
use rr_tracee::digest::{self, ChunkSum};
use rr_tracee::regs::{NOT_IN_SYSCALL, Registers};
use rr_tracee::task::{processor_time, signo, wait};
use rr_tracee::ticker::{SHORT_TICKS, Ticker};
use rr_tracee::{Stopped, Tid, procfs};

use crate::buffer::control::is_inside;
use crate::call::syscall::is_restart;
use crate::error::Result;
use crate::point::spin::Doing;
use crate::session::RecordSession;
use crate::world::task::{State, Task};

/// Number of ticks without an event after which a signal does not wait any longer.
const SIGNAL_PATIENCE: u32 = 3;
/// Number of ticks without an event after which a due checkpoint makes one.
const CHECKPOINT_PATIENCE: u32 = 5;
/// Minimum processor time of a process since a tick before one of its tasks is checked for spinning.
const SPIN_LEAST: Duration = Duration::from_millis(1);
/// Maximum number of short ticks until a task that others wait for is checked for spinning again. The
/// number doubles each time that the task does not spin.
const LOOK_PATIENCE_MAX: u32 = 256;
/// Same as [`LOOK_PATIENCE_MAX`], for a task that spins and has seen no change since.
const IDLE_PATIENCE_MAX: u32 = 16;

/// Purpose of an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Purpose {
    /// Check if the task spins. If not, it continues.
    Look,
    /// Others have waited long enough.
    Others,
    /// A signal, a checkpoint, the end of the recording.
    #[default]
    Else,
}

impl RecordSession {
    /// Handles a tick while `tid` executes user code: interrupts it if something has waited long
    /// enough.
    pub(crate) fn on_tick(&mut self, tid: Tid) -> Result<()> {
        let now = self.now();
        let task = self.task_mut(tid)?;
        if task.clocked.is_none() && task.call.is_none() {
            // A task that is dying has no processor time.
            task.clocked = processor_time(task.tgid).ok().map(|ran| (now, ran));
        }
        if self.ticker.as_ref().is_some_and(Ticker::is_short) {
            return self.on_short_tick(tid);
        }
        self.on_long_tick(tid)
    }

    /// A tick while there are several tasks: sometimes checks if the task spins.
    fn on_short_tick(&mut self, tid: Tid) -> Result<()> {
        self.short_ticks += 1;
        if self.short_ticks >= SHORT_TICKS {
            self.short_ticks = 0;
            self.on_long_tick(tid)?;
        }
        let task = self.task_mut(tid)?;
        task.short_ticks += 1;
        let is_over = task.patience.is_over(task.short_ticks);
        if !is_over && task.short_ticks < task.look_at || task.call.is_some() || task.interrupted {
            return Ok(());
        }
        // On a busy machine a tick says little, because the task may hardly have run.
        let ran = |(_, before)| processor_time(task.tgid).is_ok_and(|ran| ran >= before + SPIN_LEAST);
        let is_awake = task.clocked.is_some_and(ran) && procfs::state(tid).is_ok_and(|s| s == 'R');
        if !is_awake || !self.others_can_run(tid)? {
            return Ok(());
        }
        if !self.keep_from_calls(tid)? {
            // A task that makes calls does not spin.
            let task = self.task_mut(tid)?;
            task.look_at = (2 * task.short_ticks).min(LOOK_PATIENCE_MAX);
            return Ok(());
        }
        let task = self.task_mut(tid)?;
        if let State::InKernel(running) = &task.state {
            running.interrupt()?;
            task.interrupted = true;
            task.interrupted_for = if is_over { Purpose::Others } else { Purpose::Look };
        }
        Ok(())
    }

    fn on_long_tick(&mut self, tid: Tid) -> Result<()> {
        let task = self.task_mut(tid)?;
        task.ticks += 1;
        let ticks = task.ticks;
        if task.call.is_some() || task.interrupted || !matches!(task.state, State::InKernel(_)) {
            return Ok(());
        }
        let space = task.space;
        // The task waits in the kernel unexpectedly. (If it is the only task it may: no other could run
        // meanwhile.)
        let asleep = self.tasks.len() > 1
            && self.spaces[&space].library.installed
            && procfs::state(tid).is_ok_and(|s| s == 'S');
        let for_signal = ticks >= SIGNAL_PATIENCE && self.has_deliverable(tid)?;
        let others = !asleep && !for_signal && self.others_can_run(tid)?;
        let now = self.now();
        let for_checkpoint =
            !asleep && !for_signal && ticks >= CHECKPOINT_PATIENCE && self.capture.must_interrupt(now);
        if others {
            self.hurry(tid)?;
            let awake = |t: &Task| t.tid != tid && matches!(t.state, State::Reported(..));
            if self.tasks.values().any(awake) {
                self.scheduler.cut_short();
            }
        }
        let for_end = self.is_time_over();
        if !asleep && !for_signal && !for_checkpoint && !for_end {
            return Ok(());
        }
        let task = self.task_mut(tid)?;
        if let State::InKernel(running) = &task.state {
            running.interrupt()?;
            task.interrupted = true;
            task.interrupted_for = Purpose::Else;
        }
        Ok(())
    }

    /// Notes that a task spins. If nothing has changed since it last did, all others spin or wait for
    /// the outside world. Then the task is checked less and less often.
    fn note_spin(&mut self, tid: Tid, state: (Registers, Vec<ChunkSum>)) -> Result<()> {
        let task = self.task_mut(tid)?;
        let again = task.spun_at.as_deref() == Some(&state);
        // The next event halves this.
        let next = if again { 4 * task.look_at } else { 2 };
        task.look_at = next.min(2 * IDLE_PATIENCE_MAX);
        task.spun_at = Some(Box::new(state));
        Ok(())
    }

    /// Approximate processor time of the task since its last event, in microseconds. For the time
    /// before the first tick, which was not measured, the same share is assumed.
    pub(crate) fn ran_us(&self, tid: Tid) -> Result<u32> {
        let task = self.task(tid)?;
        let Some((then, ran)) = task.clocked else {
            return Ok(0);
        };
        let ran = processor_time(task.tgid)?.saturating_sub(ran);
        let all = self.since_last_event();
        let seen = self.now().saturating_sub(then);
        let part = if seen.is_zero() {
            1.0
        } else {
            all.div_duration_f64(seen).min(2.0)
        };
        Ok(ran.mul_f64(part).as_micros().try_into().unwrap_or(u32::MAX))
    }

    /// Returns whether a stashed signal would be delivered now.
    fn has_deliverable(&self, tid: Tid) -> Result<bool> {
        let stash = &self.task(tid)?.stash;
        if stash.is_empty() {
            return Ok(false);
        }
        let blocked = procfs::signal_dispositions(tid)?.blocked;
        Ok(stash.iter().any(|info| blocked & 1 << (signo(info) - 1) == 0))
    }

    fn others_can_run(&mut self, tid: Tid) -> Result<bool> {
        while self.tasks.len() > 1
            && let Some(report) = wait(None, true)
        {
            self.note(report)?;
        }
        self.tell_scheduler();
        Ok(self.scheduler.others_are_ready(tid))
    }

    /// Handles the stop of an interrupt.
    pub(crate) fn on_interrupted(&mut self, tid: Tid, stopped: Stopped) -> Result<()> {
        let regs = stopped.regs()?;
        if is_restart(regs.result()) && regs.orig_rax != NOT_IN_SYSCALL {
            if is_inside(regs.rip) {
                // The task waited in the library, for something that others may have to do first.
                self.task_mut(tid)?.interrupted = false;
                return self.bail_out(tid, stopped);
            }
            // The kernel is about to restart a call, and would do so at the first single step: with the
            // trap flag in `r11`.
            return self.leave(tid, stopped);
        }
        let task = self.task_mut(tid)?;
        if task.due && (regs.rip, regs.rsp) == (task.boundary.rip, task.boundary.rsp) {
            // The task has executed nothing since its last event, and a signal arrives there.
            task.interrupted_for = Purpose::Else;
            return self.leave(tid, stopped);
        }
        // Looks at what the task is doing, and steps to a place that can be named.
        task.between = true;
        let ran_us = self.ran_us(tid)?;
        let task = self.task_mut(tid)?;
        let purpose = std::mem::take(&mut task.interrupted_for);
        let only_looked_at = purpose == Purpose::Look;
        let (mut spins, mut counts) = (false, false);
        let (stopped, words) = match self.look_for_spin(tid, stopped)? {
            Doing::Spins(stopped, words) => {
                spins = true;
                (stopped, words)
            }
            Doing::Counts(stopped, counters) if !only_looked_at => {
                counts = true;
                match self.step_to_place(tid, stopped, ran_us, Some(&counters))? {
                    Some(found) => found,
                    None => return Ok(()),
                }
            }
            Doing::Else(stopped) | Doing::Counts(stopped, _) if only_looked_at => {
                let task = self.task_mut(tid)?;
                task.look_at = (2 * task.short_ticks).min(LOOK_PATIENCE_MAX);
                return self.leave(tid, stopped);
            }
            Doing::Else(stopped) | Doing::Counts(stopped, _) => {
                match self.step_to_place(tid, stopped, ran_us, None)? {
                    Some(found) => found,
                    None => return Ok(()),
                }
            }
            Doing::Over => return Ok(()),
        };
        // Records the point.
        self.take_records(tid)?;
        let at = stopped.regs()?.outside_call();
        let space = &self.spaces[&self.task(tid)?.space];
        let point = Point {
            xstate: stopped.xstate()?,
            words,
            sums: digest::sums(tid, &space.model, digest::ALL, |id| self.mapped.file(id))?,
            ran_us,
        };
        // The memory of a task that was killed meanwhile may be gone. Such a task is in no stop and has
        // no registers.
        if stopped.regs()?.outside_call() != at {
            return Err(rr_tracee::Error::Died(tid).into());
        }
        if purpose == Purpose::Others && !spins {
            let task = self.task_mut(tid)?;
            task.patience.note_cut(counts, task.calls > 0);
        }
        if spins {
            self.note_spin(tid, (at, point.sums.clone()))?;
        }
        let point = Box::new(point);
        self.emit(tid, EventKind::Point { at, point }, vec![], vec![])?;
        // A stashed signal can come now: by a carrier, as at a system call.
        let mask = stopped.sigmask()?;
        let task = self.task_mut(tid)?;
        task.boundary = at;
        task.state = State::Ready(stopped);
        match task.stash.iter().map(signo).find(|s| mask & 1 << (s - 1) == 0) {
            Some(signal) => self.send_carrier(tid, signal, mask)?,
            // Otherwise other tasks are waiting.
            None => self.yields = true,
        }
        Ok(())
    }
}
