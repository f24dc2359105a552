//! `SessionImage`: plain data that says everything about a session at an event, except page contents.
//!
//! It is the image that a *replay* has at that event (I4), whoever made it: no file descriptors, calls in
//! progress as "in system call", shared memory as emulated objects. Recorder and replayer both produce it;
//! equal images are equal sessions.

use rr_trace::event::EventNumber;
use rr_tracee::{AddressSpace, ExtendedState, ObjectId, Registers, SpaceId, Tid};

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
    /// Whether it is inside a system call whose return is an event to come. Then the registers are those at
    /// the entry; else `orig_rax` is −1.
    pub in_syscall: bool,
    /// General registers.
    pub regs: Registers,
    /// Extended state, as the kernel gave it (compare [`ExtendedState::normalised`]).
    pub xstate: ExtendedState,
}

/// One shared memory object; its pages are part of the snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObjectImage {
    /// Its id.
    pub id: ObjectId,
    /// Size in bytes.
    pub size: u64,
}
