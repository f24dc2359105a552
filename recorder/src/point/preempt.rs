//! Chaos mode: a task is preempted in the middle of its interval.
//!
//! Races between instructions, such as an update without a lock, need a switch where the program makes no event. Usually such a switch
//! comes after milliseconds ([`crate::point::interrupt`]); most races are over by then. Chaos mode draws a number of instructions
//! ([`crate::drive::chaos`]), and the recorder steps the task over so many.
//!
//! Keeps: the place depends on the seed alone. So the task never runs freely on the way, and no time is measured. A single step costs 25
//! to 50 µs: the dice bound the steps of a recording.

use std::ops::ControlFlow;

use rr_tracee::regs::{NOT_IN_SYSCALL, is_restart};
use rr_tracee::{Addr, Memory, Stopped, Tid};

use crate::drive::members::tell_scheduler;
use crate::drive::reports::let_woken_out;
use crate::error::Result;
use crate::point::discriminators::{Discriminators, add_stack};
use crate::point::interrupt::{end_at_point, record_point};
use crate::point::place::{Moment, instruction_at, step_once, step_to_window};
use crate::session::RecordSession;
use crate::world::next::Next;
use crate::world::task::{State, Task};

/// Before a task goes on in its turn: the number of instructions after which it is preempted, if the dice say so.
pub(crate) fn draw(session: &mut RecordSession, tid: Tid) -> Result<Option<u64>> {
    let at_event = |task: &Task| matches!(task.state, State::Ready(_)) && !task.is_mid_interval();
    if session.world.tasks.len() == 1 || !session.world.tasks.get(&tid).is_some_and(at_event) {
        return Ok(None);
    }
    // Without this, the clock would decide who is known to be ready.
    let_woken_out(session)?;
    tell_scheduler(session);
    if !session.drive.scheduler.others_are_ready(tid) {
        return Ok(None);
    }
    Ok(session.drive.scheduler.preemption(session.log.last_event()))
}

/// The number of instructions after which the task that goes on now is preempted, if it is.
pub(crate) fn drawn(session: &mut RecordSession, stopped: &Stopped) -> Result<Option<u64>> {
    let Some(count) = session.drive.preemption.take() else {
        return Ok(None);
    };
    let regs = stopped.regs()?;
    // The kernel may be about to restart a call, and would do so at the first single step: with the trap flag in `r11`.
    let restarts = is_restart(regs.result()) && regs.orig_rax != NOT_IN_SYSCALL;
    Ok((!restarts).then_some(count))
}

/// Steps a task over `count` instructions of the program, and ends its interval there. If the task comes to an event before that, nothing
/// happens.
pub(crate) fn preempt(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    count: u64,
) -> Result<Next> {
    session.world.task_mut(tid)?.interval.between = true;
    let (memory, space) = (Memory::of(tid), session.world.task(tid)?.space);
    for _ in 0..count {
        let (_, instruction) = instruction_at(&memory, Addr(stopped.regs()?.rip))?;
        match step_once(session, tid, stopped, instruction.as_ref())? {
            Moment::Here(now) => stopped = now,
            Moment::Over(next) => return Ok(next),
        }
    }
    let stopped = match step_to_window(session, tid, stopped, 0)? {
        ControlFlow::Continue(stopped) => stopped,
        ControlFlow::Break(next) => return Ok(next),
    };
    let mut words = Discriminators::default();
    let stack = Addr(stopped.regs()?.rsp);
    add_stack(&mut words, &memory, &session.world.spaces[&space].model, stack);
    let (at, _) = record_point(session, tid, &stopped, words, 0)?;
    end_at_point(session, tid, stopped, at)
}
