//! Removing stubs and copies.

use rr_trace::event::Event;
use rr_tracee::Addr;

use super::state::{PASSES, Pass};
use crate::error::{Result, failed};
use crate::probe::INT3;
use crate::session::ReplaySession;

/// Removes all stubs and copies.
pub(crate) fn remove_passes(session: &mut ReplaySession, event: &Event) -> Result<()> {
    let passes = std::mem::take(&mut session.stoppoints.breakpoints.passes);
    for (at, pass) in &passes.here {
        unmake_pass(session, event, *at, pass).map_err(|e| failed(event, e))?;
    }
    Ok(())
}

fn unmake_pass(session: &mut ReplaySession, event: &Event, at: Addr, pass: &Pass) -> rr_tracee::Result<()> {
    if pass.is_patched
        && let Some(task) = session.world.tasks.get(&event.tid)
    {
        let memory = task.memory();
        let overlay = session.code.overlays.entry(task.space).or_default();
        overlay.remove(&memory, at)?;
        overlay.put(&memory, at, &[INT3])?;
    }
    session.world.unmap_stub(event, &pass.stub)
}

/// The goal has changed: its stub is made anew when it is passed next.
pub(crate) fn remake_goal(session: &mut ReplaySession, event: &Event, at: Addr) -> Result<()> {
    session
        .stoppoints
        .breakpoints
        .passes
        .passed
        .insert(at, PASSES - 1);
    if !session.stoppoints.breakpoints.passes.here.contains_key(&at) {
        return Ok(());
    }
    // Numbers of counters are not reused, so all stubs are made anew.
    let passed = session.stoppoints.breakpoints.passes.passed.clone();
    remove_passes(session, event)?;
    let again = passed.into_iter().map(|(at, n)| (at, n.min(PASSES - 1)));
    session.stoppoints.breakpoints.passes.passed = again.collect();
    Ok(())
}
