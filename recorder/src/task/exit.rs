//! Creation and end of tasks: `clone` and similar calls, and exit.
//!
//! `vfork` is made as a `clone` without `CLONE_VFORK`, and the scheduler makes the parent wait. So the
//! parent is stopped at its event and not somewhere in the kernel, and looks like any other task to
//! checkpoints and replay.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rr_trace::event::{MemWrite, TaskOp};
use rr_tracee::memory::ReadMemory;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::syscalls::Creation;
use rr_tracee::task::{Resume, wait};
use rr_tracee::{
    Addr, AddrRange, Memory, ObjectId, Prot, Registers, Running, SpaceId, SpaceOp, Stop, Stopped, Tid,
    pagemap, procfs, rr_area,
};

use crate::error::Result;
use crate::ptrace::Cause;
use crate::session::{RecordSession, Space};
use crate::world::task::{Call, State, Task};

pub(crate) const CLONE_VM: u64 = libc::CLONE_VM as u64;
const CLONE_VFORK: u64 = libc::CLONE_VFORK as u64;
pub(crate) const CLONE_THREAD: u64 = libc::CLONE_THREAD as u64;
const CLONE_PARENT_SETTID: u64 = libc::CLONE_PARENT_SETTID as u64;
const CLONE_CHILD_SETTID: u64 = libc::CLONE_CHILD_SETTID as u64;
pub(crate) const CLONE_CHILD_CLEARTID: u64 = libc::CLONE_CHILD_CLEARTID as u64;
const CLONE_PIDFD: u64 = libc::CLONE_PIDFD as u64;
const CLONE_UNTRACED: u64 = 0x0080_0000;

/// Words that the kernel writes when a task leaves its memory: it marks the locks of the task's robust
/// list, gives locks to those that wait for them ([`crate::call::pi_futex`]), and clears the word of
/// `set_tid_address(2)` if other tasks have that memory, too.
#[derive(Debug)]
pub struct Leaving {
    space: SpaceId,
    /// Words in the address space's own memory.
    words: Vec<Addr>,
    /// Locks in shared memory objects, as object and offset.
    shared: Vec<(ObjectId, u64)>,
}

impl RecordSession {
    /// The words that the kernel writes when a task, whose memory still exists, leaves it.
    pub(crate) fn leaving(&self, tid: Tid) -> Result<Leaving> {
        let task = self.task(tid)?;
        let space = task.space;
        let mut words = robust_words(tid, &task.memory);
        let mut shared = self.shared_words(space, &mut words);
        for (waiting, word) in self.awaited_locks() {
            let mut private = vec![word];
            shared.extend(self.shared_words(waiting, &mut private));
            words.extend(private.into_iter().filter(|_| waiting == space));
        }
        words.extend((!task.clear_child_tid.is_null()).then_some(task.clear_child_tid));
        Ok(Leaving { space, words, shared })
    }

    /// The contents of these words after the kernel has written them.
    pub(crate) fn left_behind(&mut self, tid: Tid, leaving: &Leaving) -> Result<Vec<MemWrite>> {
        self.let_owners_in();
        let mut writes = Vec::new();
        for (object, offset) in &leaving.shared {
            writes.extend(self.object_change(*object, *offset, 4)?.1);
        }
        let space = leaving.space;
        let others = |t: &&Task| t.space == space && t.tid != tid && !t.exited;
        if let Some(witness) = self.tasks.values().find(others) {
            for addr in &leaving.words {
                if let Ok(data) = witness.memory.read_vec(*addr, 4) {
                    writes.push(MemWrite {
                        space,
                        addr: *addr,
                        data,
                    });
                }
            }
        }
        Ok(writes)
    }

    pub(crate) fn begin_clone(&mut self, tid: Tid, mut stopped: Stopped, mut call: Call) -> Result<()> {
        const NOT_PASSED_ON: u64 = CLONE_VFORK | CLONE_UNTRACED;
        let entry = call.entry;
        let creation = match Creation::of(&entry, &self.task(tid)?.memory)? {
            Ok(creation) => creation,
            Err(errno) => return self.answer(tid, stopped, &entry, -i64::from(errno), vec![]),
        };
        let flags = creation.flags;
        if flags & CLONE_VM == 0 {
            self.forget_baseline(tid);
        }
        if flags & NOT_PASSED_ON != 0 {
            let mut regs = Registers {
                rdi: flags & !NOT_PASSED_ON,
                ..entry
            };
            if let Some(args) = creation.args_without(NOT_PASSED_ON) {
                // The kernel reads the structure before any other task runs.
                self.task(tid)?.memory.write(rr_area::PARAM, &args)?;
                (regs.rdi, regs.rsi) = (rr_area::PARAM.0, args.len() as u64);
            }
            if entry.syscall() == libc::SYS_vfork {
                regs = Registers {
                    orig_rax: libc::SYS_clone as u64,
                    rsi: 0,
                    rdx: 0,
                    r10: 0,
                    r8: 0,
                    ..regs
                };
            }
            stopped.set_regs(&regs)?;
            call.vfork = flags & CLONE_VFORK != 0;
        }
        call.creation = Some(creation);
        self.enter(tid, stopped, call, false)
    }

    /// Handles the parent's stop in the middle of the call. The child exists.
    pub(crate) fn on_new_task(&mut self, tid: Tid, stopped: Stopped, child: Tid) -> Result<()> {
        let creation = self.task(tid)?.call.as_ref().and_then(|c| c.creation.as_ref());
        if creation.is_none_or(|c| c.flags & CLONE_VM == 0) {
            self.forget_baseline(tid);
        }
        let new = self.receive(tid, child)?;
        if let Some(call) = &mut self.task_mut(tid)?.call {
            call.new_task = new;
        }
        let running = stopped.resume(Resume::Syscall, None)?;
        self.await_stop(tid, running)
    }

    pub(crate) fn finish_clone(
        &mut self,
        tid: Tid,
        stopped: Stopped,
        call: Call,
        raw: Registers,
    ) -> Result<()> {
        let created = call.created;
        let result = self.try_finish_clone(tid, stopped, call, raw);
        if result.is_err() {
            // The parent is dead.
            created.into_iter().for_each(|child| self.forget_child(child));
        }
        result
    }

    fn try_finish_clone(
        &mut self,
        tid: Tid,
        mut stopped: Stopped,
        mut call: Call,
        raw: Registers,
    ) -> Result<()> {
        let entry = call.entry;
        // Restores arguments that had other values during the call.
        let mut after = raw;
        for n in 0..6 {
            after.set_arg(n, entry.arg(n));
        }
        after.orig_rax = entry.orig_rax;
        stopped.set_regs(&after)?;
        after.orig_rax = NOT_IN_SYSCALL;
        let parent = self.task(tid)?;
        let parent_space = parent.space;
        // The kernel ignores a bad address, and so does rr.
        let word = |memory: &Memory, space, addr| -> Result<MemWrite> {
            Ok(MemWrite {
                space,
                addr,
                data: memory.read_vec(addr, 4)?,
            })
        };
        // Collects the words that the kernel has written. A call that fails may have written the
        // descriptor before.
        let mut writes = Vec::new();
        if let Some(creation) = call.creation.as_ref().filter(|c| c.flags & CLONE_PIDFD != 0) {
            writes.extend(word(&parent.memory, parent_space, creation.pidfd).ok());
        }
        // The call failed.
        let (Some((info, task)), Some(creation)) = (call.new_task.take(), call.creation.as_ref()) else {
            self.record_call(tid, &entry, after, None, None, vec![], writes, None)?;
            let task = self.task_mut(tid)?;
            task.restarting = crate::call::syscall::is_restart(raw.result()).then(|| Box::new(call));
            task.state = State::Ready(stopped);
            return Ok(());
        };
        if info.flags & CLONE_PARENT_SETTID != 0 {
            writes.extend(word(&parent.memory, parent_space, creation.parent_tid).ok());
        }
        if info.flags & CLONE_CHILD_SETTID != 0 {
            writes.extend(word(&task.memory, info.space, creation.child_tid).ok());
        }
        // The child has an address space of its own.
        if info.space != parent_space {
            self.last_space = info.space.0;
            let parent = self.space_mut(parent_space);
            let forked = Space {
                library: parent.library.forked(&task.memory),
                model: parent.model.forked(),
                brk: parent.brk,
                scratch: parent.scratch.forked(),
                stack: parent.stack,
                loader: parent.loader,
                not_dumpable: parent.not_dumpable,
                ..Space::default()
            };
            self.spaces.insert(info.space, forked);
        }
        // Adds the child, and records the call.
        let child = info.child;
        self.add_task(*task);
        self.tracee_creates(tid, &info)?;
        if call.vfork {
            self.task_mut(tid)?.held_by = Some(child);
        }
        self.record_call(
            tid,
            &entry,
            after,
            None,
            Some(TaskOp::Clone(info)),
            vec![],
            writes,
            None,
        )?;
        self.task_mut(tid)?.state = State::Ready(stopped);
        // Its tracer hears of the child before the parent waits for that (`vfork`). The exit of the
        // call is reported only after the wait.
        match self.task(tid)?.tracee.as_ref().and_then(|t| t.due.front()) {
            Some(Cause::Event(..)) => self.stop_as_due(tid),
            _ => Ok(()),
        }
    }

    /// Removes the words that lie in shared memory objects from `words`, and returns them as object and
    /// offset.
    fn shared_words(&self, space: SpaceId, words: &mut Vec<Addr>) -> Vec<(ObjectId, u64)> {
        let mut shared = Vec::new();
        let Some(space) = self.spaces.get(&space) else {
            return shared;
        };
        words.retain(|word| {
            let Some(mapping) = space.model.at(*word) else {
                return false;
            };
            let in_object = mapping.shared_at(*word);
            shared.extend(in_object);
            in_object.is_none()
        });
        shared
    }

    /// Handles the exit of a thread that did not ask to exit alone: all threads of its group were
    /// killed with it. Those that were stopped are on their way to their own exit stops.
    ///
    /// No thread may be resumed as if it were still in its former stop. It could have reached its exit
    /// stop meanwhile, unseen, and would leave that stop. A leader would then become a zombie without a
    /// report, and waiting for it would never end, because its threads wait for us in their exit stops.
    ///
    /// There is no checkpoint until all threads are gone. Threads that wait in calls see memory of an
    /// interval that is not replayed, and words that the kernel has written for the dead ones.
    pub(crate) fn group_is_dying(&mut self, tgid: Tid) {
        let has_xstate = |t: &Task| t.call.as_ref().is_some_and(|call| call.xstate.is_some());
        let waiting = self.tasks.matching_mut(|t| t.tgid == tgid && has_xstate(t));
        for call in waiting.filter_map(|t| t.call.as_mut()) {
            call.xstate = None;
        }
        let stopped = |t: &Task| {
            t.tgid == tgid
                && match &t.state {
                    State::Ready(_) => true,
                    State::Reported(_, stop) => *stop != Stop::Exiting,
                    State::InKernel(_) | State::Busy => false,
                }
        };
        for task in self.tasks.matching_mut(stopped) {
            task.state = State::InKernel(Running::newborn(task.tid));
        }
    }

    /// A task of another process that shares the memory of `tid` (`vfork`, `CLONE_VM`).
    pub(crate) fn survivor(&self, tid: Tid) -> Option<Tid> {
        let task = self.tasks.get(&tid)?;
        if !self.tasks.share(task.space, task.tgid) {
            return None;
        }
        let other = |t: &&Task| t.space == task.space && t.tgid != task.tgid && !t.exited;
        self.tasks.values().find(other).map(|t| t.tid)
    }

    /// A process that shares another's memory is killed, in the middle of an interval or of a call
    /// (`interrupted`) that is not replayed. All its changes that the other can see become part of its
    /// end. That is much data, but rare.
    pub(crate) fn left_in_space(
        &mut self,
        tid: Tid,
        interrupted: bool,
    ) -> Result<(Vec<SpaceOp>, Vec<MemWrite>)> {
        let (mut ops, mut writes) = (Vec::new(), Vec::new());
        let ran = self.task(tid)?.ran;
        let Some(survivor) = self.survivor(tid).filter(|_| interrupted || ran) else {
            return Ok((ops, writes));
        };
        if ran {
            self.forget_records(survivor)?;
        }
        let space = self.task(survivor)?.space;
        let (changed, refreshed) = self.carried_out(tid, survivor)?;
        ops.extend(changed);
        writes.extend(refreshed);
        self.apply_ops(survivor, space, &ops, &mut writes)?;
        let model = self.spaces.get(&space).map(|s| &s.model);
        let writable = model.into_iter().flat_map(|m| m.iter());
        for mapping in
            writable.filter(|m| m.prot.has(Prot::WRITE) && m.range.intersect(rr_area::area()).is_none())
        {
            writes.extend(self.pages_there(survivor, mapping.range)?);
        }
        Ok((ops, writes))
    }

    /// The contents of the existing pages of `range`, as `tid` sees them.
    fn pages_there(&self, tid: Tid, range: AddrRange) -> Result<Vec<MemWrite>> {
        const PIECE: u64 = 1 << 20;
        let task = self.task(tid)?;
        let mut writes = Vec::new();
        for (mut run, _) in pagemap::populated(tid, range)? {
            while !run.is_empty() {
                let (addr, len) = (run.start, run.len().min(PIECE));
                let data = task.memory.read_up_to(addr, len as usize)?;
                if !data.is_empty() {
                    let space = task.space;
                    writes.push(MemWrite { space, addr, data });
                }
                run = AddrRange::new(addr + len, run.end);
            }
        }
        Ok(writes)
    }

    /// A task dies in the middle of an interval, which is not replayed: its possible writes to memory
    /// that other processes share become part of its end. The page table says which pages these are.
    fn left_in_shared(&self, tid: Tid) -> Result<Vec<MemWrite>> {
        let task = self.task(tid)?;
        let mut writes = Vec::new();
        if !task.ran {
            return Ok(writes);
        }
        let others = self.spaces.iter().filter(|(id, _)| **id != task.space);
        let seen: HashSet<ObjectId> = others
            .flat_map(|(_, s)| s.model.objects().map(|(o, ..)| o))
            .collect();
        let model = self.spaces.get(&task.space).map(|s| &s.model);
        let shared = model.into_iter().flat_map(|m| m.shared());
        for (_, _, mapping) in shared.filter(|(o, _, m)| seen.contains(o) && m.prot.has(Prot::WRITE)) {
            writes.extend(self.pages_there(tid, mapping.range)?);
        }
        Ok(writes)
    }

    /// Same as [`RecordSession::left_in_shared`], for a task that is already gone: it was killed in
    /// another stop, and we resumed it from there when it had reached its exit stop. Its page table is
    /// gone, too, so this takes all memory that it could write to.
    pub(crate) fn left_in_objects(&mut self, tid: Tid) -> Result<(Vec<SpaceOp>, Vec<MemWrite>)> {
        let task = self.task(tid)?;
        let (mut ops, mut writes) = (Vec::new(), Vec::new());
        let Some(space) = self.spaces.get(&task.space).filter(|_| task.ran) else {
            return Ok((ops, writes));
        };
        let writable = space.model.shared().filter(|(_, _, m)| m.prot.has(Prot::WRITE));
        let writable: Vec<_> = writable.map(|(object, view, _)| (object, view)).collect();
        let own = task.space;
        for (object, view) in writable {
            let others = self.spaces.iter().filter(|(id, _)| **id != own);
            let shown: Vec<_> = others
                .flat_map(|(id, s)| s.model.objects().map(|o| (*id, o)))
                .filter(|(_, (o, ..))| *o == object)
                .map(|(id, (_, other, mapping))| (id, other, mapping.range.start))
                .collect();
            if shown.is_empty() {
                continue;
            }
            if self.mapped.file(object).is_some() {
                let (more, shown) = self.object_change(object, view.start.0, view.len())?;
                ops.extend(more);
                writes.extend(shown);
                continue;
            }
            for (id, other, start) in shown {
                let (Some(bytes), Some(leader)) = (view.intersect(other), self.leader(id)) else {
                    continue;
                };
                let addr = start + (bytes.start - other.start);
                let memory = &self.task(leader)?.memory;
                writes.push(MemWrite {
                    space: id,
                    addr,
                    data: memory.read_up_to(addr, bytes.len() as usize)?,
                });
            }
        }
        Ok((ops, writes))
    }

    /// A fault kills the first process of a pid namespace, but not while it is traced: the signal would
    /// have no effect, and the instruction would cause it again, for ever. So the task is detached.
    /// Then its next instruction is its last, and there are no more reports.
    pub(crate) fn die_untraced(&mut self, tid: Tid, stopped: Stopped, signal: i32) -> Result<()> {
        let task = self.task(tid)?;
        let (space, tgid) = (task.space, task.tgid);
        self.lose_snapshots(space);
        let mut writes = self.left_in_shared(tid)?;
        let leaving = self.leaving(tid)?;
        stopped.detach()?;
        self.group_is_dying(tgid);
        // Its sibling threads are stopped once more on their way, and its parent cannot reap it until
        // they are gone.
        let deadline = Instant::now() + MOMENT;
        while !matches!(procfs::state(tid), Ok('Z') | Err(_)) && Instant::now() < deadline {
            // SAFETY: sched_yield has no arguments.
            unsafe { libc::sched_yield() };
        }
        writes.extend(self.left_behind(tid, &leaving)?);
        self.record_exit(tid, signal, vec![], writes)?;
        self.gone(tid, signal)
    }

    /// Handles a task that is about to exit: its memory still exists.
    pub(crate) fn on_exiting(&mut self, tid: Tid, stopped: Stopped) -> Result<()> {
        let status = stopped.event_message()? as i32;
        let task = self.task(tid)?;
        let (space, tgid) = (task.space, task.tgid);
        self.forget_call(tid);
        let last = stopped.regs()?.orig_rax as i64;
        if last != libc::SYS_exit {
            self.group_is_dying(tgid);
        }
        let Some(stopped) = self.stop_at_end(tid, stopped)? else {
            return Ok(());
        };
        let witness = self
            .tasks
            .values()
            .any(|t| t.space == space && t.tid != tid && !t.exited);
        self.lose_snapshots(space);
        // If the task is on its way into a call, that ends its interval.
        self.flush_entries()?;
        let mut writes = self.left_in_shared(tid)?;
        let leaving = self.leaving(tid)?;
        let running = stopped.resume(Resume::Cont, None)?;
        self.task_mut(tid)?.state = State::InKernel(running);
        // The kernel marks the robust locks that the task held, and clears a word when the task leaves
        // memory that others share (set_tid_address(2)). It must have done so before any other task
        // runs.
        let mut gone = None;
        if witness || !leaving.shared.is_empty() {
            gone = wait_for_end(tid, tid == tgid);
        }
        writes.extend(self.left_behind(tid, &leaving)?);
        let by_itself = [libc::SYS_exit, libc::SYS_exit_group].contains(&last);
        let (ops, left) = self.left_in_space(tid, !by_itself)?;
        writes.extend(left);
        self.record_exit(tid, status, ops, writes)?;
        match gone {
            Some(report) => self.note(report),
            None => Ok(()),
        }
    }
}

/// Maximum time to wait for the end of a task that is no longer traced.
const MOMENT: Duration = Duration::from_millis(500);

/// The futex words of the robust locks that a task holds: the kernel marks them when it dies (get_robust_list(2),
/// Documentation/locking/robust-futexes.rst).
///
/// ```text
/// head ─► next entry   8    (the list ends where it points back to the head)
///         futex offset 8    from an entry to its futex word, signed
///         pending      8    an entry that is being locked or unlocked
/// ```
fn robust_words(tid: Tid, memory: &Memory) -> Vec<Addr> {
    /// `ROBUST_LIST_LIMIT` of the kernel.
    const LIMIT: usize = 2048;
    let (mut head, mut len) = (0u64, 0usize);
    // SAFETY: the kernel stores a pointer and a size into our two variables.
    let got = unsafe { libc::syscall(libc::SYS_get_robust_list, tid.0, &raw mut head, &raw mut len) };
    if got != 0 || head == 0 {
        return Vec::new();
    }
    let read = |addr: u64| memory.read_u64(Addr(addr)).ok();
    let (Some(offset), Some(pending)) = (read(head + 8), read(head + 16)) else {
        return Vec::new();
    };
    // The lowest bit of an entry's address marks priority inheritance.
    let word = |entry: u64| Addr((entry & !1).wrapping_add(offset));
    let mut words: Vec<Addr> = Vec::new();
    let mut entry = read(head);
    while let Some(at) = entry.filter(|at| *at & !1 != head && words.len() < LIMIT) {
        words.push(word(at));
        entry = read(at & !1);
    }
    words.extend((pending & !1 != 0).then(|| word(pending)));
    words
}

/// Waits until a dying task has left its memory: until it is gone, or, for the leader of a group that
/// lives on (whose end is reported only later), until it is a zombie.
fn wait_for_end(tid: Tid, leader: bool) -> Option<rr_tracee::task::Report> {
    if !leader {
        return wait(Some(tid), false);
    }
    loop {
        if let Some(report) = wait(Some(tid), true) {
            return Some(report);
        }
        if !matches!(procfs::state(tid), Ok('R' | 'D' | 'S')) {
            return None;
        }
        // SAFETY: sched_yield has no arguments.
        unsafe { libc::sched_yield() };
    }
}
