//! Changes by the next event besides those of its call in the address space of its task.

use rr_trace::event::{MemWrite, ObjectWrite};
use rr_tracee::{SpaceId, SpaceOp};

/// Additional changes of the next event, outside of its call's changes in the address space of its
/// task.
#[derive(Debug, Default)]
pub(crate) struct Besides {
    /// Operations in other address spaces, and for mappings of files that become those of objects.
    pub others: Vec<(SpaceId, SpaceOp)>,
    /// Contents of the processes' own pages there.
    pub writes: Vec<MemWrite>,
    /// Writes to bytes of objects that are not mapped shared.
    pub object_writes: Vec<ObjectWrite>,
}
