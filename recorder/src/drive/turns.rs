//! Turns: the loop that runs one task, and then the next.
//!
//! Keeps I1. The [scheduler](crate::drive::scheduler) chooses the next task. This module carries its decisions
//! out, and tells it their basis: the tasks that can run, and those that are out of the kernel by now.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use rr_tracee::task::{Report, wait, wait_for_tick};
use rr_tracee::ticker::Ticker;
use rr_tracee::{Tid, tsc};

use crate::drive::scheduler::Choice;
use crate::error::{Error, Result};
use crate::session::{End, RecordSession};
use crate::world::task::{State, Task};

/// Time between two checks of all tasks, for each task: about ten times the cost of a check.
const LOOK: Duration = Duration::from_micros(1);
/// A call that takes longer than this sleeps most of the time.
const SLEEP: Duration = Duration::from_millis(1);

impl RecordSession {
    /// Records until the first process (or all) have exited, or the time limit is reached.
    pub fn run(&mut self) -> Result<End> {
        self.ticker = Some(Ticker::start()?);
        let _without_tsc = tsc::GivenUp::new();
        let end = self.take_turns();
        self.ticker = None;
        end
    }

    fn take_turns(&mut self) -> Result<End> {
        loop {
            if let Some(end) = self.end() {
                return Ok(end);
            }
            if let Some(tid) = self.urgent() {
                self.run_turn(tid)?;
                continue;
            }
            if let Some(tid) = self.scheduler.turn() {
                if self.tasks.get(&tid).is_some_and(Task::is_runnable) {
                    self.current = tid;
                    self.run_turn(tid)?;
                    continue;
                }
                // If the task is about to die, its death belongs to the turn, however soon the kernel
                // reports it.
                self.settle_wakes()?;
                if self.end().is_some() || self.urgent().is_some() {
                    continue;
                }
                self.scheduler.end_turn(self.number);
            }
            self.settle_wakes()?;
            if self.end().is_some() {
                continue;
            }
            self.tell_scheduler();
            match self.scheduler.choose(self.number) {
                Choice::Run(_) => {}
                Choice::Wait(None) => self.wait_for_any()?,
                Choice::Wait(Some(patience)) => self.wait_for_a_while(patience)?,
            }
        }
    }

    /// A task that must be handled before any task runs.
    fn urgent(&self) -> Option<Tid> {
        let reported = |t: &Task| matches!(t.state, State::Reported(..)) && t.is_runnable();
        // A stop that ends an interval: intervals are recorded in order.
        if self.tasks.get(&self.current).is_some_and(reported) {
            return Some(self.current);
        }
        // A dying task holds up others (exec, wait) until it is resumed.
        self.tasks.dying()
    }

    /// Tells the scheduler which tasks can run.
    pub(crate) fn tell_scheduler(&mut self) {
        for (tid, is_ready) in self.tasks.take_news() {
            self.scheduler.set_ready(tid, is_ready);
        }
    }

    /// Handles reports of tasks in the kernel. If decisions must be exact, or if the very event that
    /// ends the turn may wake a task, woken tasks get the time to come out of the kernel.
    fn settle_wakes(&mut self) -> Result<()> {
        if !self.scheduler.is_exact() && !self.scheduler.counts_events() {
            return self.note_at_times();
        }
        self.let_out()
    }

    /// Gives woken tasks the time to come out of the kernel.
    pub(crate) fn let_out(&mut self) -> Result<()> {
        self.note_all()?;
        while self.is_one_on_its_way() {
            // SAFETY: sched_yield has no arguments.
            unsafe { libc::sched_yield() };
            self.note_all()?;
        }
        // A task may have stopped while it was checked.
        self.note_all()
    }

    /// Returns whether a task in the kernel is executing.
    fn is_one_on_its_way(&mut self) -> bool {
        let states = &mut self.states;
        let in_kernel = |t: &&Task| matches!(t.state, State::InKernel(_));
        let mut tasks = self.tasks.values().filter(in_kernel);
        tasks.any(|t| matches!(states.of(t.tid), Ok('R')))
    }

    /// Handles reports from time to time: to find that there are none, the kernel looks at all tasks.
    /// (If no task can run, rr waits for the next report anyway.)
    fn note_at_times(&mut self) -> Result<()> {
        let now = tsc::now();
        if now.saturating_sub(self.noted) >= LOOK * self.tasks.len() as u32 {
            self.noted = now;
            self.note_all()?;
        }
        Ok(())
    }

    /// Handles all reports that there are.
    pub(crate) fn note_all(&mut self) -> Result<()> {
        while let Some(report) = wait(None, true) {
            self.note(report)?;
        }
        Ok(())
    }

    /// Runs a task until its turn is over or it cannot continue.
    fn run_turn(&mut self, tid: Tid) -> Result<()> {
        // True if its stop was reported just now: no other task has done anything since.
        let mut fresh = false;
        loop {
            tsc::renew();
            let before = self.number;
            let advanced = self.advance(tid, fresh);
            self.survive(tid, advanced)?;
            let reported = |t: &Task| matches!(t.state, State::Reported(..));
            fresh = self.number == before && self.tasks.get(&tid).is_some_and(reported);
            if self.end().is_some() {
                return Ok(());
            }
            if self.number != before {
                if self.options.check_maps {
                    let checked = self.check_model(tid);
                    self.survive(tid, checked)?;
                }
                let taken = self.checkpoint_if_due(tid);
                self.survive(tid, taken)?;
            }
            if !self.tasks.get(&tid).is_some_and(Task::is_runnable) {
                return Ok(());
            }
            let at_event = self
                .tasks
                .get(&tid)
                .is_some_and(|t| matches!(t.state, State::Ready(_)) && !t.is_mid_interval());
            if let Some(at) = self.handed_over.take()
                && at_event
                && self.hand_over(at)?
            {
                return Ok(());
            }
            let yields = std::mem::take(&mut self.yields);
            if at_event && (yields || self.number != before) {
                if yields || self.scheduler.has_rivals() || self.scheduler.counts_events() {
                    self.settle_wakes()?;
                }
                self.tell_scheduler();
                let time = self.started + Duration::from_nanos(self.last_time_ns);
                if self.scheduler.turn_is_over(self.number, time, yields) {
                    return Ok(());
                }
            }
        }
    }

    fn wait_for_any(&mut self) -> Result<()> {
        match self.sleep() {
            Some(report) => self.note(report),
            None if Errno::last() == Errno::ECHILD => {
                let tid = self.root;
                Err(Error::Unexpected {
                    tid,
                    what: "no tracee is left, but its end was not reported".into(),
                })
            }
            None => Ok(()),
        }
    }

    /// Waits for a report about any task while no task executes user code: the program sleeps, or works
    /// in the kernel.
    pub(crate) fn sleep(&mut self) -> Option<Report> {
        let began = tsc::now();
        let report = loop {
            let report = wait_for_tick(None, false);
            if report.is_some() || Errno::last() != Errno::EINTR || self.is_time_over() {
                break report;
            }
        };
        let slept = tsc::now() - began;
        if slept >= SLEEP {
            self.capture.count_sleep(slept);
        }
        report
    }

    /// Waits for any task to come out of the kernel, at most for this time.
    fn wait_for_a_while(&mut self, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            if let Some(report) = wait(None, true) {
                return self.note(report);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.scheduler.end_interval();
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(1)));
        }
    }
}
