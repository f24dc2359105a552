//! The stub or the copy that an address belongs to.

use rr_tracee::Addr;

use super::state::Trapped;
use crate::place::Goal;
use crate::position::Mark;
use crate::probe::Stub;
use crate::session::ReplaySession;

/// Number of times that the goal has been met.
pub(crate) fn goals(session: &ReplaySession) -> u64 {
    let goal = session.stoppoints.breakpoints.goal.as_ref().map(Goal::addr);
    goal.map_or(0, |addr| session.interval.progress.counted(Mark::Execute(addr)))
}

/// The meaning of an `int3` that ends at `rip`, if it belongs to a stub.
pub(crate) fn at_stub(session: &ReplaySession, rip: Addr) -> Option<Trapped> {
    for (at, pass) in &session.stoppoints.breakpoints.passes.here {
        let int3 = Addr(rip.0.wrapping_sub(1));
        if pass.stub.traps_at(int3) && pass.is_patched {
            return Some(Trapped::At(*at));
        }
        if pass.is_patched
            && let Some(moved) = pass.stub.moved_from(int3)
        {
            return Some(Trapped::Moved(*at, moved));
        }
    }
    None
}

/// The address where a task continues that has met an invalid instruction within a jump, and the
/// address of that jump.
pub(crate) fn moved_from(session: &ReplaySession, rip: Addr) -> Option<(Addr, Addr)> {
    let passes = session.stoppoints.breakpoints.passes.here.iter();
    let stubs = passes.filter(|(_, pass)| pass.is_patched);
    let stubs = stubs.map(|(at, pass)| (*at, &pass.stub));
    let probe = session.interval.probe_stub().map(|stub| (stub.at, stub));
    stubs
        .chain(probe)
        .find_map(|(at, stub)| Some((at, stub.moved_from(rip)?)))
}

/// The address where a task continues after a fault at `rip`, if a condition could not be read.
pub(crate) fn after_fault(session: &ReplaySession, rip: Addr) -> Option<Addr> {
    session
        .stoppoints
        .breakpoints
        .passes
        .around(rip)?
        .stub
        .after_fault(rip)
}

/// The stub or copy that contains this address.
pub(crate) fn stub_around(session: &ReplaySession, rip: Addr) -> Option<&Stub> {
    let pass = session
        .stoppoints
        .breakpoints
        .passes
        .around(rip)
        .map(|pass| &pass.stub);
    pass.or_else(|| {
        session
            .interval
            .probe_stub()
            .filter(|stub| stub.room.contains(rip))
    })
}
