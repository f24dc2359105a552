//! Progress of the search for an execution point.

use rr_trace::event::{Event, EventKind, Point};
use rr_tracee::{Addr, Registers};

use crate::key::{Key, Place, Sample};
use crate::probe::Stub;

/// The search for an execution point.
#[derive(Clone, Debug, Default)]
pub(crate) struct PointSearch {
    /// The probe in the task's code.
    pub(crate) probe: Option<Probe>,
    /// The chunk of memory that differed last. It is compared first, because it is likely to differ
    /// again.
    pub suspect: Option<Addr>,
    /// Number of times that the task's state was compared.
    pub(crate) looks: u64,
    /// Number of times that the task came between replaced instructions.
    pub(crate) detours: u64,
    /// True if there must be no probe for now.
    pub(crate) is_off: bool,
    /// True if the program has written over the probe.
    pub(crate) is_overwritten: bool,
    /// True if the task can have passed the point unseen: the program has written over a probe, or could have
    /// done so unnoticed.
    pub(crate) is_point_in_doubt: bool,
    /// True if the probe must be an `int3` and no stub: only that is exact wherever the program writes.
    pub(crate) only_int3: bool,
    /// The first passes of the instruction, while a key is still to be chosen from them.
    pub(crate) seen: Vec<Sample>,
}

impl PointSearch {
    /// Logs the effort of the search, once the point is found.
    pub fn tell(&self, event: &Event) {
        let by = match &self.probe {
            Some(Probe::Stub { stub, .. }) if stub.has_dead_flags => ", with flags that nothing reads",
            Some(Probe::Stub { .. }) => "",
            Some(Probe::Int3 { .. }) => ", by breakpoint",
            // The task was already there at the first comparison.
            None => return,
        };
        let (looks, detours) = (self.looks, self.detours);
        tracing::debug!(
            "execution point of event {} found after {looks} looks and {detours} detours{by}",
            event.number
        );
    }
}

/// The code in the task while the point is searched.
#[derive(Clone, Debug)]
pub(crate) enum Probe {
    /// A jump to a stub that compares, first this key.
    Stub { stub: Box<Stub>, key: Option<Key> },
    /// An `int3` at the point, permanently or until a key for a stub is known.
    Int3 { is_first: bool },
}

impl Probe {
    pub(crate) fn stub(&self) -> Option<&Stub> {
        match self {
            Probe::Stub { stub, .. } => Some(stub),
            Probe::Int3 { .. } => None,
        }
    }

    /// Returns whether the probe reads memory at each pass.
    pub(crate) fn reads_always(&self) -> bool {
        matches!(self, Probe::Stub { key: Some(key), .. } if matches!(key.place, Place::Word(_)))
    }
}

/// The execution point of an event, if the event is one: its registers, and the rest of its state.
pub(crate) fn point_of(event: &Event) -> Option<(&Registers, &Point)> {
    match &event.kind {
        EventKind::Point { at, point } => Some((at, point)),
        _ => None,
    }
}
