//! Turns: the loop that runs one task, and then the next.
//!
//! Keeps I1. The [scheduler](crate::drive::scheduler) chooses the next task. This module carries its decisions
//! out, and tells it their basis: the tasks that can run, and those that are out of the kernel by now.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use rr_tracee::task::wait;
use rr_tracee::ticker::Ticker;
use rr_tracee::{Tid, cpuid, tsc};

use crate::checkpoint::take::checkpoint_if_due;
use crate::drive::check_maps::check_model;
use crate::drive::contention::Wake;
use crate::drive::end::End;
use crate::drive::end::end_reached;
use crate::drive::members::tell_scheduler;
use crate::drive::reports::{let_woken_by, let_woken_out, note_report};
use crate::drive::run::{advance_task, sleep_until_report, survive_death};
use crate::drive::scheduler::Choice;
use crate::error::{Error, Result};
use crate::point::preempt::draw;
use crate::session::RecordSession;
use crate::userfault::release::release_closed;
use crate::world::task::{State, Task};

/// Handles the release of a lock: ends the turn in favour of a task that starves there. Returns `false` if no starving task can
/// run.
pub(crate) fn hand_over(session: &mut RecordSession, wake: Wake) -> Result<bool> {
    let_woken_by(session, wake)?;
    tell_scheduler(session);
    let is_ready = |tid: &Tid| session.world.tasks.get(tid).is_some_and(Task::is_runnable);
    let Some(tid) = session
        .drive
        .contention
        .starving_at(wake.at)
        .filter(is_ready)
        .min()
    else {
        return Ok(false);
    };
    session.drive.scheduler.hand_over(session.log.last_event(), tid);
    Ok(true)
}

impl RecordSession {
    /// Records until the first process (or all) have exited, or the time limit is reached.
    pub fn run(&mut self) -> Result<End> {
        self.drive.ticker = Some(Ticker::start()?);
        let _without_tsc = tsc::GivenUp::new(cpuid::is_intercepted());
        let end = take_turns(self);
        self.drive.ticker = None;
        end
    }
}

fn take_turns(session: &mut RecordSession) -> Result<End> {
    loop {
        if let Some(end) = end_reached(session) {
            return Ok(end);
        }
        release_closed(session)?;
        if let Some(tid) = urgent_task(session) {
            run_turn(session, tid)?;
            continue;
        }
        if let Some(tid) = session.drive.scheduler.turn() {
            if session.world.tasks.get(&tid).is_some_and(Task::is_runnable) {
                session.drive.current = tid;
                run_turn(session, tid)?;
                continue;
            }
            // If the task is about to die, its death belongs to the turn, however soon the kernel
            // reports it.
            let_woken_out(session)?;
            if end_reached(session).is_some() || urgent_task(session).is_some() {
                continue;
            }
            session.drive.scheduler.end_turn(session.log.number);
        }
        let_woken_out(session)?;
        if end_reached(session).is_some() {
            continue;
        }
        tell_scheduler(session);
        match session.drive.scheduler.choose(session.log.number) {
            Choice::Run(_) => {}
            Choice::Wait(None) => wait_for_any(session)?,
            Choice::Wait(Some(patience)) => wait_for_a_while(session, patience)?,
        }
    }
}

/// A task that must be handled before any task runs.
fn urgent_task(session: &RecordSession) -> Option<Tid> {
    let reported = |t: &Task| matches!(t.state, State::Reported(..)) && t.is_runnable();
    // A stop that ends an interval: intervals are recorded in order.
    if session
        .world
        .tasks
        .get(&session.drive.current)
        .is_some_and(reported)
    {
        return Some(session.drive.current);
    }
    // A dying task holds up others (exec, wait) until it is resumed.
    session.world.tasks.dying()
}

/// Runs a task until its turn is over or it cannot continue.
fn run_turn(session: &mut RecordSession, tid: Tid) -> Result<()> {
    // True if its stop was reported just now: no other task has done anything since.
    let mut fresh = false;
    loop {
        tsc::renew();
        let before = session.log.number;
        session.drive.preemption = None;
        if session.drive.scheduler.can_preempt(session.log.last_event()) {
            session.drive.preemption = draw(session, tid)?;
            if !session.world.tasks.get(&tid).is_some_and(Task::is_runnable) {
                return Ok(());
            }
        }
        let advanced = advance_task(session, tid, fresh);
        survive_death(session, tid, advanced)?;
        let reported = |t: &Task| matches!(t.state, State::Reported(..));
        fresh = session.log.number == before && session.world.tasks.get(&tid).is_some_and(reported);
        if end_reached(session).is_some() {
            return Ok(());
        }
        if session.log.number != before {
            let released = release_closed(session);
            survive_death(session, tid, released)?;
            if session.policy.options.check_maps {
                let checked = check_model(session, tid);
                survive_death(session, tid, checked)?;
            }
            let taken = checkpoint_if_due(session, tid);
            survive_death(session, tid, taken)?;
        }
        if !session.world.tasks.get(&tid).is_some_and(Task::is_runnable) {
            return Ok(());
        }
        let at_event = session
            .world
            .tasks
            .get(&tid)
            .is_some_and(|t| matches!(t.state, State::Ready(_)) && !t.is_mid_interval());
        if let Some(wake) = session.drive.handed_over.take()
            && at_event
            && hand_over(session, wake)?
        {
            return Ok(());
        }
        let yields = std::mem::take(&mut session.drive.yields);
        if at_event && (yields || session.log.number != before) {
            if yields || session.drive.scheduler.has_rivals() || session.drive.scheduler.counts_events() {
                let_woken_out(session)?;
            }
            tell_scheduler(session);
            let time = session.log.started + Duration::from_nanos(session.log.last_time_ns);
            if session
                .drive
                .scheduler
                .turn_is_over(session.log.number, time, yields)
            {
                return Ok(());
            }
        }
    }
}

fn wait_for_any(session: &mut RecordSession) -> Result<()> {
    match sleep_until_report(session) {
        Some(report) => note_report(session, report),
        None if Errno::last() == Errno::ECHILD => {
            let tid = session.root;
            Err(Error::Unexpected {
                tid,
                what: "no tracee is left, but its end was not reported".into(),
            })
        }
        None => Ok(()),
    }
}

/// Waits for any task to come out of the kernel, at most for this time.
fn wait_for_a_while(session: &mut RecordSession, patience: Duration) -> Result<()> {
    let end = Instant::now() + patience;
    loop {
        if let Some(report) = wait(None, true) {
            return note_report(session, report);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            session.drive.scheduler.end_interval();
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(1)));
    }
}
