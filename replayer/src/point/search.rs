//! The search for an execution point, as far as it has come.

use rr_trace::event::Event;
use rr_tracee::Addr;

use crate::key::{Key, Place, Sample};
use crate::probe::Stub;

/// The search for an execution point.
#[derive(Clone, Debug, Default)]
pub(crate) struct Search {
    /// What is in the task's code to find it.
    pub(super) probe: Option<Probe>,
    /// The chunk of memory that differed last: looked at first, because it is likely to differ again.
    pub suspect: Option<Addr>,
    /// How often the task was looked at because it might be there.
    pub(super) looks: u64,
    /// How often it came between replaced instructions.
    pub(super) detours: u64,
    /// There is no probe for now.
    pub(super) is_off: bool,
    /// The program has written where the probe is.
    pub(super) is_overwritten: bool,
    /// The probe is an `int3` and no stub: the only one that is exact wherever the program writes.
    pub(super) only_int3: bool,
    /// The first passes of the instruction, as far as a key is still to be chosen by them.
    pub(super) seen: Vec<Sample>,
}

impl Search {
    /// Says what it took, once the point is found.
    pub fn tell(&self, event: &Event) {
        let by = match &self.probe {
            Some(Probe::Stub { .. }) => "",
            Some(Probe::Int3 { .. }) => ", by breakpoint",
            // The task was there when it was first looked at.
            None => return,
        };
        let (looks, detours) = (self.looks, self.detours);
        tracing::debug!(
            "execution point of event {} found after {looks} looks and {detours} detours{by}",
            event.number
        );
    }
}

/// What is in the code of the task while the point is looked for.
#[derive(Clone, Debug)]
pub(super) enum Probe {
    /// A jump to a stub that compares, this first.
    Stub { stub: Box<Stub>, key: Option<Key> },
    /// An `int3` at the point, for good or until a key for a stub is known.
    Int3 { is_first: bool },
}

impl Probe {
    pub(super) fn stub(&self) -> Option<&Stub> {
        match self {
            Probe::Stub { stub, .. } => Some(stub),
            Probe::Int3 { .. } => None,
        }
    }

    /// Whether it reads memory at each pass.
    pub(super) fn reads_always(&self) -> bool {
        matches!(self, Probe::Stub { key: Some(key), .. } if matches!(key.place, Place::Word(_)))
    }
}
