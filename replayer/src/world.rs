//! The model of the replayed program: tasks, address spaces and shared memory objects.
//!
//! Invariant: the model says what the events have made of the program, and the real processes and files
//! are in that state whenever no event is being applied.

use std::collections::BTreeMap;
use std::rc::Rc;

use rr_tracee::{AddressSpace, Objects, SpaceId, Tid};

use crate::backings::Backings;
use crate::family::Family;
use crate::task::Task;

/// What a session knows of the program.
#[derive(Debug)]
pub(crate) struct World {
    pub tasks: BTreeMap<Tid, Task>,
    pub spaces: BTreeMap<SpaceId, AddressSpace>,
    /// The shared memory objects as the events describe them.
    pub objects: Objects,
    /// The same objects as real files.
    pub backings: Backings,
}

impl World {
    /// No task.
    pub fn new(family: Rc<Family>) -> World {
        World {
            tasks: BTreeMap::new(),
            spaces: BTreeMap::new(),
            objects: Objects::default(),
            backings: Backings::new(family),
        }
    }
}
