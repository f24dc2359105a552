//! `Interval`: the way to the next event, and how much of it has been replayed.

use rr_trace::event::Event;
use rr_tracee::Addr;

use crate::pending::{Pending, Stage};
use crate::point::{Probe, point_of};
use crate::position::Progress;
use crate::probe::Stub;

/// The interval that is under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interval {
    /// The event that is being replayed.
    pub pending: Option<Pending>,
    /// The task's progress in its interval.
    pub progress: Progress,
}

impl Interval {
    /// Returns whether the next event's task has arrived at the event, which is not applied yet.
    pub fn has_arrived(&self) -> bool {
        self.pending.as_ref().is_some_and(|p| p.stage == Stage::Arrived)
    }

    /// Turns the search for the point on or off.
    pub fn set_probing(&mut self, is_on: bool) {
        if let Some(pending) = &mut self.pending {
            pending.search.is_off = !is_on;
        }
    }

    /// From now on searches for the point only with an `int3`.
    pub fn use_only_int3(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.search.only_int3 = true;
        }
    }

    /// Returns whether the program has written over the probe.
    pub fn is_probe_overwritten(&self) -> bool {
        self.pending.as_ref().is_some_and(|p| p.search.is_overwritten)
    }

    /// Returns whether the task can have passed the point unseen.
    pub fn is_point_in_doubt(&self) -> bool {
        self.pending.as_ref().is_some_and(|p| p.search.is_point_in_doubt)
    }

    /// Returns whether the probe is an `int3` at `at`.
    pub fn is_probed_by_int3(&self, event: &Event, at: Addr) -> bool {
        let probe = self.pending.as_ref().and_then(|p| p.search.probe.as_ref());
        matches!(probe, Some(Probe::Int3 { .. })) && point_of(event).is_some_and(|(regs, _)| regs.rip == at.0)
    }

    /// The stub of the probe.
    pub fn probe_stub(&self) -> Option<&Stub> {
        self.pending.as_ref()?.search.probe.as_ref()?.stub()
    }
}
