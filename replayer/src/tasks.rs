//! Tasks of a replay: their creation, their exec, and their end.
//!
//! Invariants: no two tasks have the same recorded tid, and no event creates a task or an address space
//! that exists already. A trace that breaks this is rejected as bad.

use rr_trace::event::{CloneInfo, Event, EventNumber, ExecInfo};
use rr_tracee::{AddressSpace, SpaceId, Stopped, Tid};

use crate::code_changes::{forget_code, space_begins};
use crate::error::{Error, Result, bad, failed};
use crate::session::ReplaySession;
use crate::task::Task;
use crate::world::World;
use crate::zygote;

impl World {
    /// Returns a new process without memory.
    pub fn empty_process(&mut self, event: EventNumber) -> Result<Stopped> {
        let failed = |source| Error::Tracee { event, source };
        self.backings.family.empty_process().map_err(failed)
    }

    /// Checks that no task has this tid yet: a second one would replace the first one in the table, and
    /// then nothing would end the first one.
    pub fn check_new(&self, event: EventNumber, tid: Tid) -> Result<()> {
        if self.tasks.contains_key(&tid) {
            let what = format!("it creates task {tid}, which exists already");
            return Err(Error::BadTrace { event, what });
        }
        Ok(())
    }

    /// Creates a new process with an empty address space of its own.
    pub fn new_process(
        &mut self,
        event: EventNumber,
        tid: Tid,
        tgid: Tid,
        space: SpaceId,
        exe: &str,
    ) -> Result<()> {
        self.check_new(event, tid)?;
        let stopped = self.empty_process(event)?;
        self.tasks
            .insert(tid, Task::new(tid, tgid, space, exe.to_owned(), stopped));
        Ok(())
    }

    /// Creates a new task in the address space of `parent`.
    pub fn new_thread(
        &mut self,
        event: EventNumber,
        parent: Tid,
        new: (Tid, Tid),
        exe: &str,
        share: bool,
        space: SpaceId,
    ) -> Result<()> {
        let failed = |source| Error::Tracee { event, source };
        let missing = || Error::BadTrace {
            event,
            what: format!("there is no task {parent}"),
        };
        self.check_new(event, new.0)?;
        let from = self.tasks.get_mut(&parent).ok_or_else(missing)?;
        let (stopped, child) = zygote::clone_of(from.take().map_err(failed)?, share).map_err(failed)?;
        from.give(stopped);
        self.tasks
            .insert(new.0, Task::new(new.0, new.1, space, exe.to_owned(), child));
        Ok(())
    }
}

/// Creates the first task, which executes the program.
pub(crate) fn begin_program(
    session: &mut ReplaySession,
    event: EventNumber,
    tid: Tid,
    exec: &ExecInfo,
) -> Result<()> {
    if !session.world.tasks.is_empty() {
        let what = "the program starts a second time".to_owned();
        return Err(Error::BadTrace { event, what });
    }
    session.world.spaces.insert(exec.space, AddressSpace::new());
    session
        .world
        .new_process(event, tid, exec.tid, exec.space, &exec.path)
}

/// Creates the child of a clone: a thread, or a process with a copy of the address space.
pub(crate) fn clone_task(session: &mut ReplaySession, event: &Event, info: &CloneInfo) -> Result<()> {
    let parent = session.world.task(event)?;
    let (space, exe) = (parent.space, parent.exe.clone());
    let share = info.space == space;
    if session.world.tasks.contains_key(&info.child)
        || !share && session.world.spaces.contains_key(&info.space)
    {
        return Err(bad(
            event,
            "it creates a task or an address space that exists already",
        ));
    }
    session.world.new_thread(
        event.number,
        event.tid,
        (info.child, info.tgid),
        &exe,
        share,
        info.space,
    )?;
    if !share {
        let forked = session
            .world
            .spaces
            .get(&space)
            .map(AddressSpace::forked)
            .unwrap_or_default();
        session.world.spaces.insert(info.space, forked);
        let memory = session.world.tasks.get(&info.child).map(Task::memory);
        if let Some(memory) = memory {
            session
                .code
                .clean_copy(space, &memory)
                .map_err(|source| failed(event, source))?;
        }
    }
    let name = session.world.task(event)?.name.clone();
    let child = session
        .world
        .tasks
        .get_mut(&info.child)
        .ok_or_else(|| bad(event, "there is no such task"))?;
    child.name = name;
    child
        .stopped()
        .and_then(|s| s.set_regs(&info.regs))
        .map_err(|source| failed(event, source))
}

/// Replaces the task by a fresh process, because exec discards the old address space and all that
/// belongs to it. Returns the event for the new process.
pub(crate) fn exec_task(session: &mut ReplaySession, event: &Event, info: &ExecInfo) -> Result<Event> {
    let tgid = session.world.task(event)?.tgid;
    end_task(session, event.tid);
    if session.world.spaces.contains_key(&info.space) {
        return Err(bad(event, "it creates an address space that exists already"));
    }
    session.world.spaces.insert(info.space, AddressSpace::new());
    space_begins(session);
    session
        .world
        .new_process(event.number, info.tid, tgid, info.space, &info.path)?;
    let renamed = Event {
        tid: info.tid,
        ..event.clone()
    };
    Ok(renamed)
}

/// Ends a task, and forgets its address space with the last task in it.
pub(crate) fn end_task(session: &mut ReplaySession, tid: Tid) {
    let Some(task) = session.world.tasks.remove(&tid) else {
        return;
    };
    zygote::end(task.real);
    if !session.world.tasks.values().any(|t| t.space == task.space) {
        session.world.spaces.remove(&task.space);
        forget_code(session, task.space);
    }
}
