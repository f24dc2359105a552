//! Snapshots that the writer reads in place: forks replace them before their task goes on.

use std::time::{Duration, Instant};

use rr_checkpoint::SharedSource;
use rr_tracee::{SpaceId, Stopped, Tid};

use crate::checkpoint::capture::Capture;
use crate::checkpoint::forks::{fork_task, is_forkable};
use crate::error::Result;
use crate::session::RecordSession;
use crate::world::model::World;
use rr_tracee::regs::is_restart;

/// Before a task of this space continues: forks for the writer what it reads in place.
pub(crate) fn fork_snapshots(session: &mut RecordSession, tid: Tid, stopped: Stopped) -> Result<Stopped> {
    let id = session.world.task(tid)?.space;
    disturb_baseline(&mut session.world, id);
    let sources = match session.world.spaces.get_mut(&id) {
        Some(space) if !space.in_place.is_empty() => std::mem::take(&mut space.in_place),
        _ => return Ok(stopped),
    };
    if !may_call(&stopped)? || !is_forkable(tid) || session.world.task(tid)?.has_held_restart() {
        await_readers(&session.checkpoints, &sources);
        return Ok(stopped);
    }
    let mut held = Some(stopped);
    let mut failure = None;
    for source in sources {
        source.replace_with(|| {
            let (stopped, fork) = fork_task(session, tid, held.take()?)
                .map_err(|e| failure = Some(e))
                .ok()?;
            held = Some(stopped);
            fork
        });
    }
    match (held, failure) {
        (Some(stopped), _) => Ok(stopped),
        (None, Some(e)) => Err(e),
        (None, None) => Err(rr_tracee::Error::Died(tid).into()),
    }
}

/// A task of this space dies. The writer gets a moment to finish reading in place, and is then cut
/// off.
pub(crate) fn lose_snapshots(session: &mut RecordSession, id: SpaceId) {
    disturb_baseline(&mut session.world, id);
    let Some(space) = session.world.spaces.get_mut(&id) else {
        return;
    };
    let sources = std::mem::take(&mut space.in_place);
    await_readers(&session.checkpoints, &sources);
}

/// Notes that the memory of this space may change from now on.
fn disturb_baseline(world: &mut World, id: SpaceId) {
    if let Some(baseline) = world
        .spaces
        .get_mut(&id)
        .and_then(|space| space.baseline.as_mut())
    {
        baseline.disturb();
    }
}

/// Gives the writer a moment to finish reading in place, then gives these checkpoints up. If no
/// checkpoint may be skipped, the moment is as long as needed.
fn await_readers(checkpoints: &Capture, sources: &[SharedSource]) {
    let moment = if checkpoints.patient { 60_000 } else { 50 };
    let patience = Instant::now() + Duration::from_millis(moment);
    for source in sources {
        while !source.is_finished() && Instant::now() < patience {
            std::thread::sleep(Duration::from_micros(200));
        }
        source.replace_with(|| None);
    }
}

/// Returns whether a task stopped at the exit of a system call can make remote calls now: not if the
/// call was interrupted (see [`is_capturable`]).
pub(crate) fn may_call(stopped: &Stopped) -> Result<bool> {
    let result = stopped.regs()?.result();
    Ok(!is_restart(result) && result != -i64::from(libc::EINTR))
}
