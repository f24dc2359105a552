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

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rr_trace::event::{EventKind, Point};
use rr_tracee::digest::{self, ChunkDigest};
use rr_tracee::regs::{NOT_IN_SYSCALL, Registers};
use rr_tracee::task::{processor_time, signo, wait};
use rr_tracee::ticker::{SHORT_TICKS, Ticker};
use rr_tracee::{Stopped, Tid, procfs};

use crate::buffer::control::{abort_buffered_call, force_traced, keep_from_calls, take_records};
use crate::buffer::library::is_inside;
use crate::drive::members::tell_scheduler;
use crate::drive::reports::note_report;
use crate::error::Result;
use crate::log::events::emit;
use crate::point::clock::ran_us;
use crate::point::discriminators::Discriminators;
use crate::point::patience::Purpose;
use crate::point::place::{Placed, leave_unnamed, step_to_place};
use crate::point::spin::{Doing, look_for_spin};
use crate::session::RecordSession;
use crate::signal::wakeup_signal::send_wakeup;
use crate::world::model::World;
use crate::world::next::Next;
use crate::world::task::{State, Task};
use rr_tracee::regs::is_restart;

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

/// Handles a tick while `tid` executes user code: interrupts it if something has waited long
/// enough.
pub(crate) fn on_tick(session: &mut RecordSession, tid: Tid) -> Result<()> {
    let now = session.log.now();
    let task = session.world.task_mut(tid)?;
    if task.interval.ticks.clocked.is_none() && task.call.is_none() {
        // A task that is dying has no processor time.
        task.interval.ticks.clocked = processor_time(task.tgid).ok().map(|ran| (now, ran));
    }
    if session.drive.ticker.as_ref().is_some_and(Ticker::is_short) {
        return on_short_tick(session, tid);
    }
    on_long_tick(session, tid)
}

/// A tick while there are several tasks: sometimes checks if the task spins.
fn on_short_tick(session: &mut RecordSession, tid: Tid) -> Result<()> {
    session.drive.short_ticks += 1;
    if session.drive.short_ticks >= SHORT_TICKS {
        session.drive.short_ticks = 0;
        on_long_tick(session, tid)?;
    }
    let task = session.world.task_mut(tid)?;
    task.interval.ticks.short_ticks += 1;
    let is_over = task
        .interval
        .ticks
        .patience
        .is_over(task.interval.ticks.short_ticks);
    if !is_over && task.interval.ticks.short_ticks < task.interval.ticks.look_at
        || task.call.is_some()
        || task.interval.ticks.interrupt.is_some()
    {
        return Ok(());
    }
    // On a busy machine a tick says little, because the task may hardly have run.
    let ran = |(_, before)| processor_time(task.tgid).is_ok_and(|ran| ran >= before + SPIN_LEAST);
    let is_awake = task.interval.ticks.clocked.is_some_and(ran) && procfs::state(tid).is_ok_and(|s| s == 'R');
    if !is_awake || !others_can_run(session, tid)? {
        return Ok(());
    }
    if !keep_from_calls(&mut session.world, tid)? {
        // A task that makes calls does not spin.
        let task = session.world.task_mut(tid)?;
        task.interval.ticks.look_at = (2 * task.interval.ticks.short_ticks).min(LOOK_PATIENCE_MAX);
        return Ok(());
    }
    let task = session.world.task_mut(tid)?;
    if let State::InKernel(running) = &task.state {
        running.interrupt()?;
        task.interval.ticks.interrupt = Some(if is_over { Purpose::Others } else { Purpose::Look });
    }
    Ok(())
}

fn on_long_tick(session: &mut RecordSession, tid: Tid) -> Result<()> {
    let task = session.world.task_mut(tid)?;
    task.interval.ticks.long += 1;
    let ticks = task.interval.ticks.long;
    if task.call.is_some()
        || task.interval.ticks.interrupt.is_some()
        || !matches!(task.state, State::InKernel(_))
    {
        return Ok(());
    }
    let space = task.space;
    // The task waits in the kernel unexpectedly. (If it is the only task it may: no other could run
    // meanwhile.)
    let asleep = session.world.tasks.len() > 1
        && session.world.spaces[&space].library.installed
        && procfs::state(tid).is_ok_and(|s| s == 'S');
    let for_signal = ticks >= SIGNAL_PATIENCE && has_deliverable(&session.world, tid)?;
    let others = !asleep && !for_signal && others_can_run(session, tid)?;
    let now = session.log.now();
    let for_checkpoint =
        !asleep && !for_signal && ticks >= CHECKPOINT_PATIENCE && session.checkpoints.must_interrupt(now);
    if others {
        force_traced(&mut session.world, tid)?;
        let awake = |t: &Task| t.tid != tid && matches!(t.state, State::Reported(..));
        if session.world.tasks.values().any(awake) {
            session.drive.scheduler.cut_short();
        }
    }
    let for_end = session.is_time_over();
    if !asleep && !for_signal && !for_checkpoint && !for_end {
        return Ok(());
    }
    let task = session.world.task_mut(tid)?;
    if let State::InKernel(running) = &task.state {
        running.interrupt()?;
        task.interval.ticks.interrupt = Some(Purpose::Else);
    }
    Ok(())
}

/// Notes that a task spins. If nothing has changed since it last did, all others spin or wait for
/// the outside world. Then the task is checked less and less often.
fn note_spin(world: &mut World, tid: Tid, state: (Registers, Vec<ChunkDigest>)) -> Result<()> {
    let task = world.task_mut(tid)?;
    let again = task.interval.ticks.spun_at.as_deref() == Some(&state);
    // The next event halves this.
    let next = if again { 4 * task.interval.ticks.look_at } else { 2 };
    task.interval.ticks.look_at = next.min(2 * IDLE_PATIENCE_MAX);
    task.interval.ticks.spun_at = Some(Box::new(state));
    Ok(())
}

/// Returns whether a deferred signal would be delivered now.
fn has_deliverable(world: &World, tid: Tid) -> Result<bool> {
    let deferred = &world.task(tid)?.signals.deferred;
    if deferred.is_empty() {
        return Ok(false);
    }
    let blocked = procfs::signal_dispositions(tid)?.blocked;
    Ok(deferred.iter().any(|info| blocked & 1 << (signo(info) - 1) == 0))
}

fn others_can_run(session: &mut RecordSession, tid: Tid) -> Result<bool> {
    while session.world.tasks.len() > 1
        && let Some(report) = wait(None, true)
    {
        note_report(session, report)?;
    }
    tell_scheduler(session);
    Ok(session.drive.scheduler.others_are_ready(tid))
}

/// Handles the stop of an interrupt.
pub(crate) fn on_interrupted(session: &mut RecordSession, tid: Tid, stopped: Stopped) -> Result<Next> {
    let regs = stopped.regs()?;
    if is_restart(regs.result()) && regs.orig_rax != NOT_IN_SYSCALL {
        if is_inside(regs.rip) {
            // The task waited in the library, for something that others may have to do first.
            session.world.task_mut(tid)?.interval.ticks.interrupt = None;
            return abort_buffered_call(stopped);
        }
        // The kernel is about to restart a call, and would do so at the first single step: with the
        // trap flag in `r11`.
        return leave_unnamed(&mut session.world, tid, stopped);
    }
    let task = session.world.task_mut(tid)?;
    if task.signals.is_due && (regs.rip, regs.rsp) == (task.interval.boundary.rip, task.interval.boundary.rsp)
    {
        // The task has executed nothing since its last event, and a signal arrives there.
        return leave_unnamed(&mut session.world, tid, stopped);
    }
    // Looks at what the task is doing, and steps to a place that can be named.
    let begin = Instant::now();
    task.interval.between = true;
    let ran_us = ran_us(session, tid)?;
    let task = session.world.task_mut(tid)?;
    let purpose = task
        .interval
        .ticks
        .interrupt
        .replace(Purpose::Else)
        .unwrap_or_default();
    let only_looked_at = purpose == Purpose::Look;
    let (mut spins, mut counts) = (false, false);
    let Placed {
        stopped,
        discriminators,
        ran_us,
    } = match look_for_spin(session, tid, stopped)? {
        Doing::Spins(stopped, discriminators) => {
            spins = true;
            Placed {
                stopped,
                discriminators,
                ran_us,
            }
        }
        Doing::Counts(stopped, counters) if !only_looked_at => {
            counts = true;
            match step_to_place(session, tid, stopped, ran_us, Some(&counters))? {
                ControlFlow::Continue(found) => found,
                ControlFlow::Break(next) => return Ok(next),
            }
        }
        Doing::Else(stopped) | Doing::Counts(stopped, _) if only_looked_at => {
            let task = session.world.task_mut(tid)?;
            task.interval.ticks.look_at = (2 * task.interval.ticks.short_ticks).min(LOOK_PATIENCE_MAX);
            return leave_unnamed(&mut session.world, tid, stopped);
        }
        Doing::Else(stopped) | Doing::Counts(stopped, _) => {
            match step_to_place(session, tid, stopped, ran_us, None)? {
                ControlFlow::Continue(found) => found,
                ControlFlow::Break(next) => return Ok(next),
            }
        }
        Doing::Over(next) => return Ok(next),
    };
    let made_calls = session.world.task(tid)?.interval.calls > 0;
    let (at, digests) = record_point(session, tid, &stopped, discriminators, ran_us)?;
    if purpose == Purpose::Others && !spins {
        let task = session.world.task_mut(tid)?;
        let patience = &mut task.interval.ticks.patience;
        patience.note_cut(counts, made_calls, begin.elapsed());
    }
    if spins {
        note_spin(&mut session.world, tid, (at, digests))?;
    }
    end_at_point(session, tid, stopped, at)
}

/// Records that the interval of a task ends where it stands. Returns its registers, and the digests of the memory that it could have
/// written.
pub(crate) fn record_point(
    session: &mut RecordSession,
    tid: Tid,
    stopped: &Stopped,
    discriminators: Discriminators,
    ran_us: u32,
) -> Result<(Registers, Vec<ChunkDigest>)> {
    take_records(session, tid)?;
    let at = stopped.regs()?.outside_call();
    let space = &session.world.spaces[&session.world.task(tid)?.space];
    let point = Point {
        xstate: stopped.xstate()?,
        discriminators,
        digests: digest::chunk_digests(tid, &space.model, digest::ALL, |id| session.world.mapped.file(id))?,
        ran_us,
    };
    // The memory of a task that was killed meanwhile may be gone. Such a task is in no stop and has
    // no registers.
    if stopped.regs()?.outside_call() != at {
        return Err(rr_tracee::Error::Died(tid).into());
    }
    let digests = point.digests.clone();
    let point = Box::new(point);
    emit(session, tid, EventKind::Point { at, point }, vec![], vec![])?;
    Ok((at, digests))
}

/// After the point of a task at `at` was recorded: a deferred signal comes, or other tasks run.
pub(crate) fn end_at_point(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    at: Registers,
) -> Result<Next> {
    // A deferred signal can come now: by a wakeup signal, as at a system call.
    let mask = stopped.sigmask()?;
    let task = session.world.task_mut(tid)?;
    task.interval.boundary = at;
    match task
        .signals
        .deferred
        .iter()
        .map(signo)
        .find(|s| mask & 1 << (s - 1) == 0)
    {
        Some(signal) => send_wakeup(&mut session.world, tid, signal, mask)?,
        // Otherwise other tasks are waiting.
        None => session.drive.yields = true,
    }
    Ok(Next::Ready(stopped))
}
