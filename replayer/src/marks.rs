//! The marks that the position counts: the breakpoints and watchpoints.

use crate::position::Mark;
use crate::session::ReplaySession;

/// Counts all breakpoints and watches from the base of the position on.
pub(crate) fn arm_marks(session: &mut ReplaySession) {
    let marks: Vec<Mark> = marks(session).collect();
    for mark in marks {
        session.interval.progress.arm(mark);
    }
}

/// The marks of all breakpoints and watchpoints.
pub(crate) fn marks(session: &ReplaySession) -> impl Iterator<Item = Mark> {
    let execute = session.breakpoints().iter().map(|addr| Mark::Execute(*addr));
    execute.chain(session.watches().iter().map(|watch| Mark::Access(*watch)))
}
