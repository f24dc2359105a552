//! The model of the program: its tasks, their address spaces, the files and objects that they map.
//!
//! Invariant: the model changes only by what an event says, and by what the library's records say. So it is always that of the last event.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use rr_trace::FileStore;
use rr_trace::event::CloneInfo;
use rr_tracee::stubs::STUBS;
use rr_tracee::{AddrRange, ObjectId, Objects, Running, SpaceId, Tid, procfs};

use crate::buffer::known_sites::KnownSites;
use crate::error::{Error, Result};
use crate::memory::mapped::Mapped;
use crate::ptrace::tracee::Tracers;
use crate::world::besides::Besides;
use crate::world::must_trace::MustTrace;
use crate::world::space::Space;
use crate::world::table::Tasks;
use crate::world::task::{State, Task};

/// What the recorder knows of the program.
pub(crate) struct World {
    pub tasks: Tasks,
    pub spaces: BTreeMap<SpaceId, Space>,
    /// The number of the last address space.
    pub last_space: u32,
    pub mapped: Mapped,
    pub known_sites: KnownSites,
    /// The shared memory objects as the events describe them.
    pub objects: Objects,
    /// The contents of files in the trace.
    pub files: Arc<FileStore>,
    /// Tasks whose creation is not recorded yet: their parents are still in the calls that have created them.
    pub new_tasks: HashMap<Tid, (CloneInfo, Task)>,
    /// Changes by the next event in other address spaces, and of objects.
    pub besides: Besides,
    /// State of tasks that trace others.
    pub tracers: Tracers,
    pub must_trace: MustTrace,
    /// States of tasks in the kernel.
    pub states: procfs::States,
}

impl World {
    /// The world before the program exists.
    pub fn new(files: Arc<FileStore>) -> World {
        World {
            tasks: Tasks::default(),
            spaces: BTreeMap::new(),
            last_space: 0,
            mapped: Mapped::default(),
            known_sites: KnownSites::of(Arc::clone(&files)),
            objects: Objects::default(),
            files,
            new_tasks: HashMap::new(),
            besides: Besides::default(),
            tracers: Tracers::default(),
            must_trace: MustTrace::inherited(),
            states: procfs::States::default(),
        }
    }
}

impl World {
    /// The pages with stubs in the address space of a task.
    pub(crate) fn stubs_of(&self, tid: Tid) -> Vec<AddrRange> {
        let space = self.tasks.get(&tid).and_then(|t| self.spaces.get(&t.space));
        let mappings = space.into_iter().flat_map(|s| s.model.iter());
        mappings.filter(|m| &*m.name == STUBS).map(|m| m.range).collect()
    }

    /// The task to fork for an address space: a stopped one if possible.
    pub(crate) fn leader(&self, space: SpaceId) -> Option<Tid> {
        let rank = |t: &Task| match t.state {
            State::Ready(_) => 0,
            State::Reported(..) => 1,
            State::InKernel(_) | State::Busy => 2,
        };
        self.tasks
            .values()
            .filter(|t| t.space == space && !t.life.exited)
            .min_by_key(|t| rank(t))
            .map(|t| t.tid)
    }

    pub(crate) fn forget_unmapped_objects(&mut self) {
        let mapped: HashSet<ObjectId> = self
            .spaces
            .values()
            .flat_map(|s| s.model.objects())
            .map(|(object, ..)| object)
            .collect();
        self.mapped.retain(|object| mapped.contains(&object));
        self.objects.retain(|object| mapped.contains(&object));
    }

    pub(crate) fn dying(&mut self, tid: Tid) {
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.state = State::InKernel(Running::newborn(tid));
        }
    }

    pub(crate) fn is_in_kernel(&self, tid: Tid) -> bool {
        matches!(self.task(tid).map(|t| &t.state), Ok(State::InKernel(_)))
    }

    pub(crate) fn task(&self, tid: Tid) -> Result<&Task> {
        self.tasks
            .get(&tid)
            .ok_or(Error::Tracee(rr_tracee::Error::Died(tid)))
    }

    pub(crate) fn task_mut(&mut self, tid: Tid) -> Result<&mut Task> {
        self.tasks
            .get_mut(&tid)
            .ok_or(Error::Tracee(rr_tracee::Error::Died(tid)))
    }

    pub(crate) fn space_mut(&mut self, id: SpaceId) -> &mut Space {
        self.spaces.entry(id).or_default()
    }

    /// A task of another process that shares the memory of `tid` (`vfork`, `CLONE_VM`).
    pub(crate) fn survivor(&self, tid: Tid) -> Option<Tid> {
        let task = self.tasks.get(&tid)?;
        if !self.tasks.share(task.space, task.tgid) {
            return None;
        }
        let other = |t: &&Task| t.space == task.space && t.tgid != task.tgid && !t.life.exited;
        self.tasks.values().find(other).map(|t| t.tid)
    }
}
