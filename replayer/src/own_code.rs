//! The program's own code: the sites where it is rewritten, and all memory without patches.
//!
//! Keeps I8: whoever compares, digests or copies memory gets the program's bytes.

use rr_trace::event::Event;
use rr_tracee::Memory;
use rr_tracee::digest::ALL;

use crate::error::Result;
use crate::overlay::CodeOverlay;
use crate::session::ReplaySession;
use crate::sites::Sites;

/// The rewritten sites in the address space of the event's task.
pub(crate) fn sites_of<'s>(session: &'s mut ReplaySession, event: &Event) -> &'s Sites {
    static NONE: Sites = Sites::none();
    let Some(task) = session.world.tasks.get(&event.tid) else {
        return &NONE;
    };
    let (space, memory) = (task.space, task.memory());
    let (model, overlay) = (
        session.world.spaces.get(&space),
        session.code.overlays.get(&space),
    );
    let reader = (&*session.events.reader, &*session.world.backings.family);
    session
        .code
        .sites
        .entry(space)
        .or_insert_with(|| model.map_or(Sites::none(), |model| Sites::of(model, &memory, overlay, reader)))
}

/// Calls `what` while all memory has the program's own bytes.
pub(crate) fn with_own_code<T>(session: &ReplaySession, what: impl FnOnce() -> Result<T>) -> Result<T> {
    lift_code(session)?;
    let done = what();
    put_code_back(session)?;
    done
}

/// Gives all memory the program's own bytes until [`put_code_back`].
pub(crate) fn lift_code(session: &ReplaySession) -> Result<()> {
    each_overlay(session, |overlay, memory| overlay.lift(memory, ALL))
}

/// Reverts [`lift_code`].
pub(crate) fn put_code_back(session: &ReplaySession) -> Result<()> {
    each_overlay(session, |overlay, memory| overlay.put_back(memory, ALL))
}

fn each_overlay(
    session: &ReplaySession,
    act: impl Fn(&CodeOverlay, &Memory) -> rr_tracee::Result<()>,
) -> Result<()> {
    for (space, overlay) in session.code.overlays.iter().filter(|(_, o)| !o.is_empty()) {
        if let Some(task) = session.world.tasks.values().find(|t| t.space == *space) {
            act(overlay, &task.memory()).map_err(|source| crate::error::Error::Tracee {
                event: session.events.last,
                source,
            })?;
        }
    }
    Ok(())
}
