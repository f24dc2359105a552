//! Tasks of a replay: their creation, their exec, and their end.
//!
//! Invariants: no two tasks have the same recorded tid, and no event creates a task or an address space
//! that exists already. A trace that breaks this is rejected as bad.

use rr_trace::event::{CloneInfo, Event, EventNumber, ExecInfo};
use rr_tracee::{AddressSpace, ExtendedState, Registers, SpaceId, Stopped, Tid};

use super::{ReplaySession, bad};
use crate::error::{Error, Result, failed};
use crate::task::Task;
use crate::zygote;

impl ReplaySession {
    fn empty_process(&mut self, event: EventNumber) -> Result<Stopped> {
        let failed = |source| Error::Tracee { event, source };
        self.world.backings.family.empty_process().map_err(failed)
    }

    /// Checks that no task has this tid yet: a second one would replace the first one in the table, and
    /// then nothing would end the first one.
    fn check_new(&self, event: EventNumber, tid: Tid) -> Result<()> {
        if self.world.tasks.contains_key(&tid) {
            let what = format!("it creates task {tid}, which exists already");
            return Err(Error::BadTrace { event, what });
        }
        Ok(())
    }

    /// Creates a new process with an empty address space of its own.
    pub(crate) fn new_process(
        &mut self,
        event: EventNumber,
        tid: Tid,
        tgid: Tid,
        space: SpaceId,
        exe: &str,
    ) -> Result<()> {
        self.check_new(event, tid)?;
        let stopped = self.empty_process(event)?;
        self.world
            .tasks
            .insert(tid, Task::new(tid, tgid, space, exe.to_owned(), stopped));
        Ok(())
    }

    /// Creates a new task in the address space of `parent`.
    pub(crate) fn new_thread(
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
        let from = self.world.tasks.get_mut(&parent).ok_or_else(missing)?;
        let (stopped, child) = zygote::clone_of(from.take().map_err(failed)?, share).map_err(failed)?;
        from.give(stopped);
        self.world
            .tasks
            .insert(new.0, Task::new(new.0, new.1, space, exe.to_owned(), child));
        Ok(())
    }

    pub(super) fn begin(&mut self, tid: Tid, exec: &ExecInfo, event: EventNumber) -> Result<()> {
        if !self.world.tasks.is_empty() {
            let what = "the program starts a second time".to_owned();
            return Err(Error::BadTrace { event, what });
        }
        self.world.spaces.insert(exec.space, AddressSpace::new());
        self.new_process(event, tid, exec.tid, exec.space, &exec.path)
    }

    pub(super) fn clone_task(&mut self, event: &Event, info: &CloneInfo) -> Result<()> {
        let parent = self.task(event)?;
        let (space, exe) = (parent.space, parent.exe.clone());
        let share = info.space == space;
        if self.world.tasks.contains_key(&info.child) || !share && self.world.spaces.contains_key(&info.space)
        {
            return Err(bad(
                event,
                "it creates a task or an address space that exists already",
            ));
        }
        self.new_thread(
            event.number,
            event.tid,
            (info.child, info.tgid),
            &exe,
            share,
            info.space,
        )?;
        if !share {
            let forked = self
                .world
                .spaces
                .get(&space)
                .map(AddressSpace::forked)
                .unwrap_or_default();
            self.world.spaces.insert(info.space, forked);
            let memory = self.world.tasks.get(&info.child).map(Task::memory);
            if let Some(memory) = memory {
                self.clean_copy(space, &memory)
                    .map_err(|source| failed(event, source))?;
            }
        }
        let name = self.task(event)?.name.clone();
        let child = self
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
    /// belongs to it.
    pub(super) fn exec(
        &mut self,
        event: &Event,
        info: &ExecInfo,
        after: &Registers,
        xstate: Option<&ExtendedState>,
    ) -> Result<()> {
        let tgid = self.task(event)?.tgid;
        self.exit(event.tid);
        if self.world.spaces.contains_key(&info.space) {
            return Err(bad(event, "it creates an address space that exists already"));
        }
        self.world.spaces.insert(info.space, AddressSpace::new());
        self.space_begins();
        self.new_process(event.number, info.tid, tgid, info.space, &info.path)?;
        let renamed = Event {
            tid: info.tid,
            ..event.clone()
        };
        self.settle(&renamed, after, xstate)
    }

    pub(super) fn exit(&mut self, tid: Tid) {
        let Some(task) = self.world.tasks.remove(&tid) else {
            return;
        };
        zygote::end(task.real);
        if !self.world.tasks.values().any(|t| t.space == task.space) {
            self.world.spaces.remove(&task.space);
            self.forget_code(task.space);
        }
    }
}
