//! Shared memory objects: their sizes, and which of them still equal the file that they were made from.
//!
//! An object is *clean* as long as nothing could have changed it since it was created from a file of
//! the trace. Then the file says everything about it: a checkpoint stores none of its pages, and replay
//! maps the file itself. It stops being clean when
//!
//! * a mapping of it may be written to ([`SpaceOp::Map`], [`SpaceOp::Protect`]),
//! * the kernel changes it by another way than a mapping ([`SpaceOp::ResizeObject`]), or
//! * bytes are written where it is mapped (the writes of an event).
//!
//! An object never becomes clean again. Recorder and replayer both keep an [`Objects`] and show it the
//! same events, so both get the same answer (I4).

use std::collections::BTreeMap;

use crate::ids::{AddrRange, FileId, ObjectId};
use crate::space::{AddressSpace, Prot, SpaceOp};

/// State of a shared memory object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObjectState {
    /// Size in bytes.
    pub size: u64,
    /// The file of the trace that the object equals, if it is clean.
    pub content: Option<FileId>,
}

/// The shared memory objects of a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Objects {
    all: BTreeMap<ObjectId, ObjectState>,
}

impl Objects {
    /// The state of an object, if it exists.
    pub fn get(&self, object: ObjectId) -> Option<ObjectState> {
        self.all.get(&object).copied()
    }

    /// Adds an object from an image.
    pub fn insert(&mut self, object: ObjectId, state: ObjectState) {
        self.all.insert(object, state);
    }

    /// Forgets all objects except the wanted ones.
    pub fn retain(&mut self, wanted: impl Fn(ObjectId) -> bool) {
        self.all.retain(|object, _| wanted(*object));
    }

    /// Updates the objects for the operations of an event, which have already changed `space`.
    pub fn follow(&mut self, ops: &[SpaceOp], space: &AddressSpace) {
        for op in ops {
            match *op {
                SpaceOp::CreateObject {
                    object,
                    size,
                    content,
                } => self.insert(object, ObjectState { size, content }),
                SpaceOp::ResizeObject { object, size } => {
                    if let Some(state) = self.all.get_mut(&object) {
                        state.size = size;
                    }
                }
                _ => {}
            }
            exposed(op, space).into_iter().for_each(|o| self.soil(o));
        }
    }

    /// Updates the objects for bytes that were written into a range of `space`.
    pub fn written(&mut self, space: &AddressSpace, range: AddrRange) {
        // Most sessions have no clean objects, and an event can have many writes.
        if self.all.values().any(|state| state.content.is_some()) {
            objects_in(space, range).into_iter().for_each(|o| self.soil(o));
        }
    }

    /// Updates an object for bytes that were written into it by another way than a mapping.
    pub fn written_directly(&mut self, object: ObjectId) {
        self.soil(object);
    }

    fn soil(&mut self, object: ObjectId) {
        if let Some(state) = self.all.get_mut(&object) {
            state.content = None;
        }
    }
}

/// The objects that an operation on `space` changes, or that the program can change after the
/// operation.
pub fn exposed(op: &SpaceOp, space: &AddressSpace) -> Vec<ObjectId> {
    match op {
        SpaceOp::Map(mapping) if mapping.prot.has(Prot::WRITE) => {
            mapping.backing.object().into_iter().collect()
        }
        SpaceOp::Protect(range, prot) if prot.has(Prot::WRITE) => objects_in(space, *range),
        SpaceOp::ResizeObject { object, .. } => vec![*object],
        _ => vec![],
    }
}

/// The objects that are mapped in a range of `space`.
pub fn objects_in(space: &AddressSpace, range: AddrRange) -> Vec<ObjectId> {
    space.touching(range).filter_map(|m| m.backing.object()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Addr, PAGE};
    use crate::space::{Backing, ForkPolicy, Mapping};

    const ONE: ObjectId = ObjectId(1);

    fn range(page: u64, pages: u64) -> AddrRange {
        AddrRange::sized(Addr(page * PAGE), pages * PAGE)
    }

    fn mapped(page: u64, prot: Prot) -> SpaceOp {
        SpaceOp::Map(Mapping {
            range: range(page, 2),
            prot,
            backing: Backing::Shared {
                object: ONE,
                offset: 0,
            },
            fork: ForkPolicy::Copy,
            name: "".into(),
        })
    }

    /// Returns whether an object that was created from a file, and mapped read-only at page 4, is clean
    /// after these operations.
    fn clean_after(ops: &[SpaceOp], written: Option<AddrRange>) -> bool {
        let created = [
            SpaceOp::CreateObject {
                object: ONE,
                size: 5000,
                content: Some(FileId(9)),
            },
            mapped(4, Prot::READ),
        ];
        let (mut space, mut objects) = (AddressSpace::new(), Objects::default());
        for ops in [&created[..], ops] {
            ops.iter().for_each(|op| space.apply(op));
            objects.follow(ops, &space);
        }
        if let Some(range) = written {
            objects.written(&space, range);
        }
        objects.get(ONE).unwrap().content == Some(FileId(9))
    }

    #[test]
    fn reading_leaves_it_clean() {
        assert!(clean_after(&[], None));
        assert!(clean_after(&[mapped(8, Prot::READ)], Some(range(6, 2))));
        assert!(clean_after(
            &[SpaceOp::Protect(range(0, 4), Prot::RW)],
            Some(range(0, 4))
        ));
        assert!(clean_after(&[SpaceOp::Protect(range(4, 2), Prot(5))], None));
        assert!(clean_after(
            &[SpaceOp::Unmap(range(4, 2)), SpaceOp::Discard(range(4, 2))],
            None
        ));
    }

    #[test]
    fn whatever_may_change_it_does_not() {
        assert!(!clean_after(&[mapped(8, Prot::RW)], None));
        assert!(!clean_after(&[SpaceOp::Protect(range(5, 9), Prot::WRITE)], None));
        // A mapping that was writable for a while is enough.
        assert!(!clean_after(
            &[mapped(8, Prot::RW), SpaceOp::Unmap(range(8, 2))],
            None
        ));
        let size = 5000;
        assert!(!clean_after(&[SpaceOp::ResizeObject { object: ONE, size }], None));
        assert!(!clean_after(&[], Some(AddrRange::sized(Addr(6 * PAGE - 1), 1))));
        assert!(!clean_after(&[], Some(range(0, 5))));
        // Written at the place where it was moved to.
        let moved = SpaceOp::Move {
            from: range(4, 2),
            to: Addr(20 * PAGE),
            keep: false,
        };
        assert!(!clean_after(&[moved], Some(range(21, 1))));
    }
}
