//! Live checkpoints: a replay frozen at its current position, which can be continued from there any
//! number of times.
//!
//! [`ReplaySession::freeze`] forks every address space once. The forks never run;
//! [`LiveCheckpoint::thaw`] clones them for a new session and makes the threads of the session anew,
//! with the saved registers. Invariant I4: whatever the frozen session and the sessions thawed from it
//! do, a thawed session is in exactly the state that was frozen, at any position: after an event, or
//! inside an interval.
//!
//! | state | kept in |
//! |---|---|
//! | private memory | the forks, copy on write |
//! | memory that a fork omits or wipes (madvise(2)) | the forks: the advice is lifted for the fork, and given again in the thawed session |
//! | shared memory objects | one memfd with copies of all of them, which only we have open; each thawed session gets a memfd of its own for each object, which takes the object's place wherever it is mapped. Objects that are files of the trace cannot change: all sessions share them |
//! | registers, extended state, the siginfo of the last stop | plain data |
//! | pages that are private copies of an object's pages | plain data: a fork would lose them when the object is truncated |
//! | hardware breakpoints | nothing: a fork has none |
//!
//! The state that a session shares with its checkpoints and the sessions from them is their `Family`.

use std::cell::RefCell;
use std::fs::File;
use std::ops::Range;
use std::os::fd::FromRawFd;
use std::rc::Rc;
use std::sync::Arc;

use rr_trace::event::EventNumber;
use rr_trace::{EventSource, TraceReader};
use rr_tracee::memory::ReadMemory;
use rr_tracee::pagemap::{self, PageKind};
use rr_tracee::remote::Remote;
use rr_tracee::task::SigInfo;
use rr_tracee::{
    Addr, AddressSpace, Backing, Error as TraceeError, ExtendedState, ForkPolicy, Memory, ObjectId, Objects,
    Registers, SpaceId, SpaceOp, Stopped, Tid, sparse,
};

use crate::affinity::{self, Beside};
use crate::backings::Object;
use crate::code::Code;
use crate::error::{Error, Result};
use crate::family::Family;
use crate::interval::Interval;
use crate::position::{Position, Progress};
use crate::session::ReplaySession;
use crate::space::perform;
use crate::stoppoints::Stoppoints;
use crate::task::Task;
use crate::zygote;

/// A frozen session. It keeps processes and memory as long as it lives.
#[derive(Debug)]
pub struct LiveCheckpoint {
    reader: Arc<TraceReader>,
    source: Arc<EventSource>,
    family: Rc<Family>,
    /// The CPU that the forks are bound to.
    cpu: Option<usize>,
    last: EventNumber,
    time_ns: u64,
    /// Number of the next event of the source.
    next: EventNumber,
    midway: Midway,
    position: Position,
    spaces: Vec<FrozenSpace>,
    objects: FrozenObjects,
}

/// The shared memory objects.
#[derive(Debug)]
struct FrozenObjects {
    models: Objects,
    contents: Vec<(ObjectId, Content)>,
    /// The contents of all objects that can change, one after the other.
    copies: Option<File>,
    sweep_at: usize,
}

/// The state of a session that has stopped inside an interval.
#[derive(Clone, Debug)]
struct Midway {
    interval: Interval,
    code: Code,
    stoppoints: Stoppoints,
}

/// An address space, with its tasks.
#[derive(Debug)]
struct FrozenSpace {
    id: SpaceId,
    model: AddressSpace,
    /// The fork of the address space. `None` only while it is being cloned, and after it has died.
    fork: RefCell<Option<Stopped>>,
    real: Tid,
    tasks: Vec<FrozenTask>,
    /// Pages that are private copies of an object's pages, and their contents.
    copied: Vec<(Addr, Vec<u8>)>,
}

#[derive(Debug)]
struct FrozenTask {
    tid: Tid,
    tgid: Tid,
    exe: String,
    name: Option<String>,
    in_syscall: bool,
    state: State,
}

/// The state of a task beside its memory, as ptrace(2) gives it.
#[derive(Debug)]
struct State {
    regs: Registers,
    xstate: ExtendedState,
    info: Option<SigInfo>,
}

/// Contents of a shared memory object.
#[derive(Debug)]
enum Content {
    /// A file of the trace, and its descriptor in the family's table.
    Original(Rc<File>, i32),
    /// A part of the checkpoint's copies.
    Copy(Range<u64>),
}

impl State {
    fn of(stopped: &Stopped) -> rr_tracee::Result<State> {
        Ok(State {
            regs: stopped.regs()?,
            xstate: stopped.xstate()?,
            // Not every stop has a siginfo.
            info: stopped.siginfo().ok(),
        })
    }

    fn give(&self, stopped: &mut Stopped) -> rr_tracee::Result<()> {
        stopped.set_regs(&self.regs)?;
        stopped.set_xstate(&self.xstate)?;
        self.give_info(stopped)
    }

    fn give_info(&self, stopped: &mut Stopped) -> rr_tracee::Result<()> {
        match &self.info {
            Some(info) => stopped.set_siginfo(info),
            None => Ok(()),
        }
    }
}

/// Returns the operations that make a fork copy all parts of the space, and the operations that restore
/// the original advice.
fn fork_advice(space: &AddressSpace) -> (Vec<SpaceOp>, Vec<SpaceOp>) {
    let kept_back = space.iter().filter(|m| m.fork != ForkPolicy::Copy);
    kept_back
        .map(|m| {
            (
                SpaceOp::SetFork(m.range, ForkPolicy::Copy),
                SpaceOp::SetFork(m.range, m.fork),
            )
        })
        .unzip()
}

fn os(what: String) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Os { what, source }
}

fn copying(object: ObjectId) -> impl FnOnce(std::io::Error) -> Error {
    os(format!("copying shared memory object {}", object.0))
}

/// Creates a file in memory that no task has open.
fn memory_file() -> std::io::Result<File> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"rr-frozen".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and has no other owner.
    Ok(unsafe { File::from_raw_fd(fd) })
}

impl ReplaySession {
    /// Makes a live checkpoint of the session at its current position. All tasks of the session are
    /// left as they were (with all hardware breakpoints), but
    /// [`rr_tracee::task::Stopped::syscall_phase`] no longer says that a task is at the entry of a
    /// system call.
    ///
    /// If the checkpoint cannot be made, for example because there are too many processes, the session
    /// can still be continued.
    pub fn freeze(&mut self) -> Result<LiveCheckpoint> {
        let family = Rc::clone(&self.world.backings.family);
        let _beside = Beside::cpu(family.cpu());
        let source = Arc::clone(self.events.cursor.source());
        // A caller that freezes a session means to return, so the source keeps more of the events.
        self.events.cursor.keep(rr_trace::source::KEEP_MOST);
        let mut frozen = LiveCheckpoint {
            reader: Arc::clone(&self.events.reader),
            source,
            cpu: family.cpu(),
            family,
            last: self.events.last,
            time_ns: self.events.time_ns,
            next: self.events.cursor.next_number(),
            midway: midway(self),
            position: self.position(),
            spaces: Vec::new(),
            objects: freeze_objects(self)?,
        };
        let models: Vec<_> = self.world.spaces.iter().map(|(id, m)| (*id, m.clone())).collect();
        for (id, model) in models {
            frozen.spaces.extend(freeze_space(self, id, model)?);
        }
        Ok(frozen)
    }
}

impl ReplaySession {
    /// Returns the real processes of the session's tasks, for tests and for `/proc`.
    pub fn processes(&self) -> impl Iterator<Item = Tid> {
        self.world.tasks.values().map(|task| task.real)
    }
}

/// Returns the pages of private mappings of objects that the process has written to.
fn copied_pages(tid: Tid, model: &AddressSpace) -> rr_tracee::Result<Vec<(Addr, Vec<u8>)>> {
    let private = |m: &&rr_tracee::Mapping| matches!(m.backing, Backing::CopyOnWrite { .. });
    let memory = Memory::of(tid);
    let mut pages = Vec::new();
    for mapping in model.iter().filter(private) {
        for (run, kind) in pagemap::populated(tid, mapping.range)? {
            if kind == PageKind::Private {
                pages.push((run.start, memory.read_vec(run.start, run.len() as usize)?));
            }
        }
    }
    Ok(pages)
}

/// Error for a task that is missing in a table of the session.
fn missing(event: EventNumber) -> Error {
    Error::BadTrace {
        event,
        what: "a task of a live checkpoint is not there".into(),
    }
}

impl LiveCheckpoint {
    /// Returns the last event that had been replayed.
    pub fn event(&self) -> EventNumber {
        self.last
    }

    /// Returns the position of the checkpoint.
    pub fn position(&self) -> Position {
        self.position.clone()
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.midway.interval.progress
    }

    /// Returns the recorded tids of all tasks in the checkpoint.
    pub fn tasks(&self) -> impl Iterator<Item = Tid> {
        self.spaces.iter().flat_map(|s| s.tasks.iter().map(|t| t.tid))
    }

    /// Returns the number of processes that the checkpoint keeps.
    pub fn processes(&self) -> usize {
        self.spaces.len()
    }

    /// Returns a new session in the state that was frozen.
    pub fn thaw(&self) -> Result<ReplaySession> {
        let _beside = Beside::cpu(self.cpu);
        let cursor = self.source.from(self.next)?;
        let mut session = ReplaySession::empty(Arc::clone(&self.reader), cursor, Rc::clone(&self.family));
        session.events.last = self.last;
        session.events.time_ns = self.time_ns;
        set_midway(&mut session, self.midway.clone());
        session.world.objects = self.objects.models.clone();
        session.world.backings.sweep_at = self.objects.sweep_at;
        for space in &self.spaces {
            thaw_space(&mut session, space)?;
        }
        furnish(&mut session, self)?;
        let objects = &session.world.backings.objects;
        for overlay in session.code.overlays.values_mut() {
            overlay.rebind(|id| objects.get(&id).map(|made| Arc::clone(&made.file)));
        }
        let cpu = self.family.cpu();
        if cpu != self.cpu
            && let Some(cpu) = cpu
        {
            for task in session.world.tasks.values() {
                affinity::bind(task.real, cpu)
                    .map_err(|errno| os("binding a thawed task".into())(errno.into()))?;
            }
        }
        Ok(session)
    }
}

impl Drop for LiveCheckpoint {
    fn drop(&mut self) {
        let forks: Vec<Tid> = self.spaces.iter().map(|space| space.real).collect();
        zygote::end_all(&forks);
    }
}

fn midway(session: &ReplaySession) -> Midway {
    Midway {
        interval: session.interval.clone(),
        code: session.code.clone(),
        stoppoints: session.stoppoints.clone(),
    }
}

fn set_midway(session: &mut ReplaySession, midway: Midway) {
    session.interval = midway.interval;
    session.code = midway.code;
    session.stoppoints = midway.stoppoints;
}

fn freeze_objects(session: &ReplaySession) -> Result<FrozenObjects> {
    let mut contents = Vec::new();
    let mut copies = None;
    let mut end = 0;
    for (id, object) in &session.world.backings.objects {
        let content = if object.original {
            let shared = session.world.backings.family.original(object.fd, &object.file);
            Content::Original(shared.map_err(copying(*id))?, object.fd)
        } else {
            let to = match &copies {
                Some(to) => to,
                None => copies.insert(memory_file().map_err(copying(*id))?),
            };
            let size = object.file.metadata().map_err(copying(*id))?.len();
            sparse::copy(&object.file, 0..size, to, end).map_err(copying(*id))?;
            let part = end..end + Addr(size).page_ceil().0;
            end = part.end;
            Content::Copy(part)
        };
        contents.push((*id, content));
    }
    Ok(FrozenObjects {
        models: session.world.objects.clone(),
        contents,
        copies,
        sweep_at: session.world.backings.sweep_at,
    })
}

fn freeze_space(
    session: &mut ReplaySession,
    id: SpaceId,
    model: AddressSpace,
) -> Result<Option<FrozenSpace>> {
    let event = session.events.last;
    let failed = |source| Error::Tracee { event, source };
    let mut tasks = Vec::new();
    for task in session.world.tasks.values_mut().filter(|task| task.space == id) {
        let (tid, tgid, in_syscall) = (task.tid, task.tgid, task.in_syscall);
        tasks.push(FrozenTask {
            tid,
            tgid,
            exe: task.exe.clone(),
            name: task.name.clone(),
            in_syscall,
            state: State::of(task.stopped().map_err(failed)?).map_err(failed)?,
        });
    }
    let Some(first) = tasks.first() else {
        return Ok(None);
    };
    let leader = session
        .world
        .tasks
        .get_mut(&first.tid)
        .ok_or_else(|| missing(event))?;
    let (lift, restore) = fork_advice(&model);
    let mut advise = |stopped, ops: &[SpaceOp]| {
        perform(stopped, ops, &mut session.world.backings, &session.events.reader).map_err(|f| f.at(event))
    };
    let copied = copied_pages(leader.real, &model).map_err(failed)?;
    let stopped = advise(leader.take().map_err(failed)?, &lift)?;
    let (stopped, fork) = zygote::try_clone(stopped, false).map_err(failed)?;
    let fork = fork.map(|fork| FrozenSpace {
        id,
        model,
        real: fork.tid(),
        fork: RefCell::new(Some(fork)),
        tasks: Vec::new(),
        copied,
    });
    let mut stopped = advise(stopped, &restore)?;
    let given = first.state.give_info(&mut stopped);
    leader.give(stopped);
    given.map_err(failed)?;
    let mut space = fork.map_err(failed)?;
    space.tasks = tasks;
    Ok(Some(space))
}

fn thaw_space(session: &mut ReplaySession, frozen: &FrozenSpace) -> Result<()> {
    let event = session.events.last;
    let failed = |source| Error::Tracee { event, source };
    let fork = frozen.fork.take();
    let fork = fork.ok_or(TraceeError::Died(frozen.real)).map_err(failed)?;
    let (fork, leader) = zygote::try_clone(fork, false).map_err(failed)?;
    frozen.fork.replace(Some(fork));
    let leader = leader.map_err(failed)?;
    let real = leader.tid();
    let made = zygote::clone_threads(leader, frozen.tasks.len().saturating_sub(1));
    // The new process is in no table yet, so nothing else would end it.
    let made = made.inspect_err(|_| zygote::end(real)).map_err(failed)?;
    let all = std::iter::once(made.0).chain(made.1);
    for (task, stopped) in frozen.tasks.iter().zip(all) {
        let mut thawed = Task::new(task.tid, task.tgid, frozen.id, task.exe.clone(), stopped);
        thawed.in_syscall = task.in_syscall;
        thawed.name = task.name.clone();
        session.world.tasks.insert(task.tid, thawed);
    }
    session.world.spaces.insert(frozen.id, frozen.model.clone());
    Ok(())
}

/// Gives the session its own objects, and its tasks their mappings, copied pages and registers.
fn furnish(session: &mut ReplaySession, checkpoint: &LiveCheckpoint) -> Result<()> {
    let event = session.events.last;
    let failed = |source| Error::Tracee { event, source };
    let mut copies = Vec::new();
    for (id, content) in &checkpoint.objects.contents {
        match content {
            Content::Original(file, fd) => {
                let object = Object {
                    file: Arc::new(file.try_clone().map_err(copying(*id))?),
                    fd: *fd,
                    original: true,
                };
                session.world.backings.objects.insert(*id, object);
            }
            Content::Copy(part) => copies.push((*id, part.clone())),
        }
    }
    for (n, frozen) in checkpoint.spaces.iter().enumerate() {
        let leader = frozen.tasks.first().map(|task| task.tid);
        let leader = leader.and_then(|tid| session.world.tasks.get_mut(&tid));
        let leader = leader.ok_or_else(|| missing(event))?;
        let mut stopped = leader.take().map_err(failed)?;
        if n == 0 && !copies.is_empty() {
            let real = stopped.tid();
            let mut remote = Remote::ours(stopped).map_err(failed)?;
            for (id, part) in std::mem::take(&mut copies) {
                let size = part.end - part.start;
                let content = checkpoint.objects.copies.as_ref().map(|file| (file, part));
                let made = session
                    .world
                    .backings
                    .create_memfd(remote, real, id, size, content);
                remote = made.map_err(|f| f.at(event))?;
            }
            stopped = remote.finish().map_err(failed)?;
        }
        let is_copy = |id| {
            session
                .world
                .backings
                .objects
                .get(&id)
                .is_some_and(|o| !o.original)
        };
        let shared = frozen.model.objects().filter(|(id, ..)| is_copy(*id));
        let mut ops: Vec<SpaceOp> = shared.map(|(.., m)| SpaceOp::Map(m.clone())).collect();
        ops.extend(fork_advice(&frozen.model).1);
        let stopped = perform(stopped, &ops, &mut session.world.backings, &session.events.reader);
        leader.give(stopped.map_err(|f| f.at(event))?);
        let memory = leader.memory();
        for (addr, bytes) in &frozen.copied {
            memory.write(*addr, bytes).map_err(failed)?;
        }
    }
    for task in checkpoint.spaces.iter().flat_map(|space| &space.tasks) {
        let thawed = session
            .world
            .tasks
            .get_mut(&task.tid)
            .ok_or_else(|| missing(event))?;
        let stopped = thawed.stopped().map_err(failed)?;
        task.state.give(stopped).map_err(failed)?;
    }
    Ok(())
}
