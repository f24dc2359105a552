//! The memory that has not changed since the last checkpoint ([`crate::checkpoint::baseline`]).

use rr_checkpoint::{Changes, SharedSource, Unchanged};
use rr_trace::event::EventNumber;
use rr_tracee::{SpaceId, Tid};

use crate::checkpoint::baseline::{Baseline, Captured};
use crate::session::RecordSession;
use crate::world::model::World;
use crate::world::task::{State, Task};

/// Forgets the baseline: the address space of the task is forked, or pages are moved in it to an
/// unknown place.
pub(crate) fn forget_baseline(world: &mut World, tid: Tid) {
    let space = world.tasks.get(&tid).map(|t| t.space);
    if let Some(space) = space.and_then(|id| world.spaces.get_mut(&id)) {
        space.baseline = None;
    }
}

/// The memory of an address space that has not changed since it was last captured. `leader` is one
/// of its tasks, a stopped one if possible. This removes the baseline, because the space is about
/// to be forked, and nobody knows yet if the capture will be submitted. (The capture may end with
/// an error: a process was killed.)
pub(crate) fn changes_since_baseline(session: &mut RecordSession, id: SpaceId, leader: Tid) -> Changes {
    let baseline = session
        .world
        .spaces
        .get_mut(&id)
        .and_then(|space| space.baseline.take());
    let (Some(baseline), Some(space)) = (baseline, session.world.spaces.get(&id)) else {
        return Changes::Unknown;
    };
    let is_blocked = |task: &Task| matches!(task.state, State::InKernel(_));
    if baseline.rests && session.world.tasks.get(&leader).is_some_and(is_blocked) {
        return Changes::Since {
            event: baseline.event,
            unchanged: Unchanged::All,
        };
    }
    let kept = session.checkpoints.kept.get(&id);
    if !kept.is_some_and(|kept| kept.iter().any(SharedSource::is_kept)) {
        return Changes::Unknown;
    }
    // A task that was killed meanwhile has no memory: the capture will notice that.
    baseline.changes(leader, &space.model).unwrap_or_default()
}

/// Sets the baselines after a capture at `event` was submitted.
pub(crate) fn set_baselines(session: &mut RecordSession, event: EventNumber, captured: Vec<Captured>) {
    for captured in captured {
        if captured.is_fork {
            session.checkpoints.let_go(captured.space);
        }
        let kept = session.checkpoints.kept.entry(captured.space).or_default();
        kept.push(captured.source);
        kept.retain(SharedSource::is_kept);
        session.world.space_mut(captured.space).baseline = Some(Baseline {
            event,
            rests: captured.is_blocked && !captured.is_fork,
            moved: Vec::new(),
        });
    }
}
