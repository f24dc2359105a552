//! The window of an execution point's probe, and the stubs of breakpoints in its way.

use rr_trace::event::{Event, EventKind};
use rr_tracee::{Addr, AddrRange};

use crate::session::ReplaySession;

/// The window at the event's execution point, if the event is one: there is a probe, or will be.
pub(crate) fn probed(session: &ReplaySession, event: &Event) -> Option<AddrRange> {
    let EventKind::Point { at, .. } = &event.kind else {
        return None;
    };
    let task = session.world.tasks.get(&event.tid)?;
    let at = Addr(at.rip);
    let window = session.code.window(task, at);
    Some(AddrRange::sized(
        at,
        window.map_or(1, |window| window.len()) as u64,
    ))
}

/// Returns whether a window and that of the probe overlap.
pub(crate) fn is_in_the_way(session: &ReplaySession, event: &Event, window: AddrRange) -> bool {
    let probed = probed(session, event);
    probed.is_some_and(|probed| probed.intersect(window).is_some())
}

/// Returns whether the stub of the goal is where the event's probe should be.
pub(crate) fn has_probe_to_wait(session: &ReplaySession, event: &Event) -> bool {
    let mut goals = session
        .stoppoints
        .breakpoints
        .passes
        .here
        .values()
        .filter(|pass| pass.is_patched);
    goals.any(|pass| {
        pass.goal
            .is_some_and(|window| is_in_the_way(session, event, window))
    })
}
