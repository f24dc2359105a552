//! `SessionImage`: plain data that says everything about a session at an event, except page contents.
//!
//! It is the image that a *replay* has at that event (I4), whoever made it: no file descriptors, calls in
//! progress as "in system call", shared memory as emulated objects. Recorder and replayer both produce it;
//! equal images are equal sessions.

use std::collections::BTreeSet;

use rr_trace::event::EventNumber;
use rr_tracee::{
    AddrRange, AddressSpace, ExtendedState, FileId, Mapping, ObjectId, ObjectState, Objects, Registers,
    SpaceId, Tid,
};

/// A session at an event.
#[derive(Clone, PartialEq, Debug)]
pub struct SessionImage {
    /// The last event that has happened.
    pub event: EventNumber,
    /// Time of that event: nanoseconds since the recording began.
    pub time_ns: u64,
    /// All address spaces, by id.
    pub spaces: Vec<SpaceImage>,
    /// All live tasks, by tid.
    pub tasks: Vec<TaskImage>,
    /// All shared memory objects that are mapped somewhere, by id.
    pub objects: Vec<ObjectImage>,
}

impl SessionImage {
    /// Bytes of memory, about: its mappings and tasks. Names are shared with the recorder.
    pub(crate) fn weight(&self) -> u64 {
        let mappings: usize = self.spaces.iter().map(|s| s.space.count()).sum();
        (mappings * size_of::<Mapping>() + self.tasks.len() * size_of::<TaskImage>()) as u64
    }

    /// The image of a session that has these spaces and tasks. Of its shared memory objects, those that are mapped belong
    /// to it.
    pub fn new<'a>(
        event: EventNumber,
        time_ns: u64,
        spaces: impl Iterator<Item = (SpaceId, &'a AddressSpace)>,
        tasks: Vec<TaskImage>,
        objects: &Objects,
    ) -> SessionImage {
        let spaces: Vec<SpaceImage> = spaces
            .map(|(id, space)| SpaceImage {
                id,
                space: space.clone(),
            })
            .collect();
        let views = spaces.iter().flat_map(|s| s.space.objects());
        let mapped: BTreeSet<ObjectId> = views.map(|(object, ..)| object).collect();
        let objects = mapped
            .into_iter()
            .filter_map(|id| Some((id, objects.get(id)?)))
            .map(|(id, ObjectState { size, content })| ObjectImage { id, size, content })
            .collect();
        SessionImage {
            event,
            time_ns,
            spaces,
            tasks,
            objects,
        }
    }

    /// The parts of a shared memory object that are mapped somewhere: whole pages, ascending, apart from each other. Only
    /// these belong to the snapshot. Nobody sees the other parts, and replay learns of them when they are mapped.
    pub fn mapped_parts(&self, object: ObjectId) -> Vec<AddrRange> {
        let views = self.spaces.iter().flat_map(|s| s.space.objects());
        let mut parts: Vec<AddrRange> = views
            .filter(|(id, ..)| *id == object)
            .map(|(_, part, _)| part)
            .collect();
        parts.sort_by_key(|p| p.start);
        parts.dedup_by(|next, last| {
            let joins = next.start <= last.end;
            if joins {
                last.end = last.end.max(next.end);
            }
            joins
        });
        parts
    }
}

/// One address space.
#[derive(Clone, PartialEq, Debug)]
pub struct SpaceImage {
    /// Its id.
    pub id: SpaceId,
    /// Its mappings.
    pub space: AddressSpace,
}

/// One task.
#[derive(Clone, PartialEq, Debug)]
pub struct TaskImage {
    /// Recorded tid.
    pub tid: Tid,
    /// Recorded thread group.
    pub tgid: Tid,
    /// Its address space.
    pub space: SpaceId,
    /// The program that it executes, for people.
    pub exe: String,
    /// True if the task is inside a system call whose return is an event to come. Then the registers are those at the
    /// entry; else `orig_rax` is −1.
    pub in_syscall: bool,
    /// General registers.
    pub regs: Registers,
    /// Extended state, as the kernel gave it (compare [`ExtendedState::normalised`]).
    pub xstate: ExtendedState,
}

/// One shared memory object; its pages are part of the snapshot, unless it is a file of the trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObjectImage {
    /// Its id.
    pub id: ObjectId,
    /// Size in bytes.
    pub size: u64,
    /// The file of the trace that it still is ([`rr_tracee::objects`]). Then the snapshot has no pages of it, and no
    /// mapping of it is writable.
    pub content: Option<FileId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rr_tracee::{Addr, Backing, ForkPolicy, Mapping, Prot};

    #[test]
    fn parts_that_touch_are_one() {
        let page = |n: u64| Addr(n * 0x1000);
        let mapping = |at: u64, object, offset: u64, pages: u64| Mapping {
            range: AddrRange::new(page(at), page(at + pages)),
            prot: Prot::READ,
            backing: Backing::Shared {
                object: ObjectId(object),
                offset: offset * 0x1000,
            },
            fork: ForkPolicy::Copy,
            name: "".into(),
        };
        let space = |id, mappings: Vec<Mapping>| SpaceImage {
            id: SpaceId(id),
            space: AddressSpace::from_mappings(mappings),
        };
        let image = SessionImage {
            event: EventNumber(1),
            time_ns: 0,
            spaces: vec![
                space(
                    1,
                    vec![mapping(10, 1, 8, 2), mapping(20, 1, 0, 5), mapping(30, 2, 0, 99)],
                ),
                space(
                    2,
                    vec![mapping(10, 1, 1, 2), mapping(40, 1, 5, 1), mapping(50, 1, 9, 3)],
                ),
            ],
            tasks: vec![],
            objects: vec![],
        };
        let part = |start, end| AddrRange::new(page(start), page(end));
        assert_eq!(image.mapped_parts(ObjectId(1)), [part(0, 6), part(8, 12)]);
        assert_eq!(image.mapped_parts(ObjectId(3)), []);
    }
}
