//! Removing the probe.

use rr_trace::event::Event;
use rr_tracee::Addr;

use super::search::{Probe, point_of};
use crate::error::{Result, failed};
use crate::session::ReplaySession;

/// Removes the probe from the code.
pub(crate) fn remove_probe(session: &mut ReplaySession, event: &Event) -> Result<()> {
    unput_probe(session, event).map_err(|e| failed(event, e))
}

pub(crate) fn unput_probe(session: &mut ReplaySession, event: &Event) -> rr_tracee::Result<()> {
    let search = session.interval.pending.as_mut().map(|p| &mut p.search);
    let probe = search.and_then(|search| {
        if std::mem::take(&mut search.is_overwritten) {
            // Code that is being generated there must not be copied before it is executed.
            search.seen.clear();
        }
        search.probe.take()
    });
    session.stoppoints.watches.set_guard(&[]);
    let (Some(probe), Some((at, _))) = (probe, point_of(event)) else {
        return Ok(());
    };
    unmake_probe(session, event, Addr(at.rip), &probe)
}

fn unmake_probe(
    session: &mut ReplaySession,
    event: &Event,
    place: Addr,
    probe: &Probe,
) -> rr_tracee::Result<()> {
    let Some(task) = session.world.tasks.get(&event.tid) else {
        return Ok(());
    };
    let overlay = session.code.overlays.entry(task.space).or_default();
    if probe.stub().is_some() || !session.stoppoints.breakpoints.is_put(task.space, place) {
        overlay.remove(&task.memory(), place)?;
    }
    match probe.stub() {
        Some(stub) => session.world.unmap_stub(event, stub),
        None => Ok(()),
    }
}
