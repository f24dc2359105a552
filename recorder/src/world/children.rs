//! For tests of handlers: a world whose tasks are forked children that stand still, without a recording.

use rr_trace::{Header, TraceWriter, WriterOptions};
use rr_tracee::task::{Waited, kill, wait};
use rr_tracee::{
    Addr, AddrRange, Backing, ForkPolicy, Mapping, Prot, Running, SpaceId, SpaceOp, Stop, Stopped, Tid,
};

use crate::world::model::World;
use crate::world::task::{State, Task};

/// The address space of all children.
pub(crate) const SPACE: SpaceId = SpaceId(1);

/// A world, and its children, which end with it.
pub(crate) struct Children {
    pub world: World,
    tids: Vec<Tid>,
    _dir: tempfile::TempDir,
}

impl Children {
    /// A world without tasks.
    pub fn new() -> Children {
        let dir = tempfile::tempdir().unwrap();
        let header = Header::for_this_machine("test", vec!["true".into()], "/tmp".into(), vec![]).unwrap();
        let writer =
            TraceWriter::create(&dir.path().join("trace"), &header, &WriterOptions::default()).unwrap();
        Children {
            world: World::new(writer.files().clone()),
            tids: Vec::new(),
            _dir: dir,
        }
    }

    /// Forks a child with our memory, which waits for signals, and stops it. It is a thread group of its own.
    pub fn add(&mut self) -> Tid {
        // SAFETY: the child calls nothing but pause and _exit.
        let tid = match unsafe { libc::fork() } {
            -1 => panic!("fork failed"),
            0 => loop {
                // SAFETY: as above.
                unsafe { libc::pause() };
            },
            pid => Tid(pid),
        };
        let running = Running::seize(tid).unwrap();
        running.interrupt().unwrap();
        let Waited::Stopped(stopped, Stop::Event) = running.wait().unwrap() else {
            panic!("the child does not stop");
        };
        let regs = stopped.regs().unwrap();
        self.world.tasks.insert(tid, Task::new(stopped, tid, SPACE, regs));
        self.world.space_mut(SPACE);
        self.tids.push(tid);
        tid
    }

    /// Says that the children may write to these pages.
    pub fn map(&mut self, range: AddrRange) {
        self.world.space_mut(SPACE).model.apply(&SpaceOp::Map(Mapping {
            range: range.to_pages(),
            prot: Prot::RW,
            backing: Backing::Anonymous,
            fork: ForkPolicy::Copy,
            name: "".into(),
        }));
    }

    /// Takes a child that stands still out of the table.
    pub fn stopped(&mut self, tid: Tid) -> Stopped {
        match self.world.task_mut(tid).unwrap().take_state() {
            State::Ready(stopped) => stopped,
            state => panic!("the child is {state:?}"),
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for tid in &self.tids {
            kill(*tid);
            while wait(Some(*tid), false).is_some_and(|report| !report.is_gone()) {
                // It stops once more on its way.
                let _ = Running::newborn(*tid).interrupt();
                // SAFETY: PTRACE_CONT takes no address, and no signal here.
                unsafe { libc::ptrace(libc::PTRACE_CONT, tid.0, 0, 0) };
            }
        }
    }
}

/// The range of a value in our memory, and in that of the children forked after it was made.
pub(crate) fn range_of<T>(value: &[T]) -> AddrRange {
    AddrRange::sized(Addr(value.as_ptr() as u64), size_of_val(value) as u64)
}
