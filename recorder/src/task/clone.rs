//! `clone` and similar calls.
//!
//! `vfork` is made as a `clone` without `CLONE_VFORK`, and the scheduler makes the parent wait. So the
//! parent is stopped at its event and not somewhere in the kernel, and looks like any other task to
//! checkpoints and replay.

use rr_trace::event::{MemWrite, TaskOp};
use rr_tracee::memory::ReadMemory;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::syscalls::Creation;
use rr_tracee::task::Resume;
use rr_tracee::{Memory, Registers, Stopped, Tid, rr_area};

use crate::call::answer::answer_call;
use crate::call::enter::enter_call;
use crate::call::record::record_call;
use crate::checkpoint::changes::forget_baseline;
use crate::drive::members::add_task;
use crate::error::Result;
use crate::ptrace::family::tracee_creates;
use crate::ptrace::stops::stop_as_due;
use crate::ptrace::tracee::Cause;
use crate::session::RecordSession;
use crate::task::auto_attach::{CLONE_VM, claim_new_task, forget_child};
use crate::userfault::rights::set_rights;
use crate::world::call::Call;
use crate::world::next::{Next, Record, Until};
use crate::world::space::Space;

const CLONE_VFORK: u64 = libc::CLONE_VFORK as u64;

const CLONE_PARENT_SETTID: u64 = libc::CLONE_PARENT_SETTID as u64;

const CLONE_CHILD_SETTID: u64 = libc::CLONE_CHILD_SETTID as u64;

const CLONE_PIDFD: u64 = libc::CLONE_PIDFD as u64;

const CLONE_UNTRACED: u64 = 0x0080_0000;

pub(crate) fn begin_clone(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    mut call: Call,
) -> Result<Next> {
    const NOT_PASSED_ON: u64 = CLONE_VFORK | CLONE_UNTRACED;
    let entry = call.entry;
    let creation = match Creation::of(&entry, &session.world.task(tid)?.memory)? {
        Ok(creation) => creation,
        Err(errno) => return answer_call(session, tid, stopped, &entry, -i64::from(errno), vec![]),
    };
    let flags = creation.flags;
    if flags & CLONE_VM == 0 {
        forget_baseline(&mut session.world, tid);
    }
    if flags & NOT_PASSED_ON != 0 {
        let mut regs = Registers {
            rdi: flags & !NOT_PASSED_ON,
            ..entry
        };
        if let Some(args) = creation.args_without(NOT_PASSED_ON) {
            // The kernel reads the structure before any other task runs.
            session.world.task(tid)?.memory.write(rr_area::PARAM, &args)?;
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
    }
    call.creation = Some(creation);
    enter_call(&mut session.world, tid, stopped, call, false)
}

/// Handles the parent's stop in the middle of the call. The child exists.
pub(crate) fn on_new_task(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    child: Tid,
) -> Result<Next> {
    let creation = session
        .world
        .task(tid)?
        .call
        .as_ref()
        .and_then(|c| c.creation.as_ref());
    if creation.is_none_or(|c| c.flags & CLONE_VM == 0) {
        forget_baseline(&mut session.world, tid);
    }
    if let Some(new) = claim_new_task(session, tid, child)? {
        session.world.new_tasks.insert(child, new);
    }
    let running = stopped.resume(Resume::Syscall, None)?;
    Ok(Next::Wait(running, Until::Stop))
}

pub(crate) fn finish_clone(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    call: Call,
    raw: Registers,
) -> Result<Next> {
    let created = call.created;
    let result = try_finish_clone(session, tid, stopped, call, raw);
    if result.is_err() {
        // The parent is dead.
        created
            .into_iter()
            .for_each(|child| forget_child(&mut session.world, child));
    }
    result
}

fn try_finish_clone(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    call: Call,
    raw: Registers,
) -> Result<Next> {
    let entry = call.entry;
    // Restores arguments that had other values during the call.
    let mut after = raw.with_arguments_of(&entry);
    after.orig_rax = entry.orig_rax;
    stopped.set_regs(&after)?;
    after.orig_rax = NOT_IN_SYSCALL;
    let new = call
        .created
        .and_then(|child| session.world.new_tasks.remove(&child));
    let parent = session.world.task(tid)?;
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
    let (Some((info, task)), Some(creation)) = (new, call.creation.as_ref()) else {
        let record = Record {
            writes,
            ..Record::of(&entry, after)
        };
        session.world.task_mut(tid)?.at_call.restarting =
            rr_tracee::regs::is_restart(raw.result()).then(|| Box::new(call));
        return Ok(record.then_ready(stopped));
    };
    if info.flags & CLONE_PARENT_SETTID != 0 {
        writes.extend(word(&parent.memory, parent_space, creation.parent_tid).ok());
    }
    if info.flags & CLONE_CHILD_SETTID != 0 {
        writes.extend(word(&task.memory, info.space, creation.child_tid).ok());
    }
    // The child has an address space of its own.
    if info.space != parent_space {
        session.world.last_space = info.space.0;
        let parent = session.world.space_mut(parent_space);
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
        let rights = parent.userfaults.regions.rights_of_fork();
        session.world.spaces.insert(info.space, forked);
        let ops = set_rights(&mut session.world, info.space, rights);
        let others = ops.into_iter().map(|op| (info.space, op));
        session.world.besides.others.extend(others);
    }
    // Adds the child, and records the call.
    let child = info.child;
    add_task(session, task);
    tracee_creates(&mut session.world, tid, &info)?;
    if creation.flags & CLONE_VFORK != 0 {
        session.world.task_mut(tid)?.life.held_by = Some(child);
    }
    let record = Record {
        task: Some(TaskOp::Clone(info)),
        writes,
        ..Record::of(&entry, after)
    };
    record_call(session, tid, record)?;
    // Its tracer hears of the child before the parent waits for that (`vfork`). The exit of the
    // call is reported only after the wait.
    let tracee = session.world.task(tid)?.tracee.as_ref();
    if let Some(Cause::Event(..)) = tracee.and_then(|t| t.due.front()) {
        stop_as_due(&mut session.world, tid)?;
    }
    Ok(Next::Ready(stopped))
}
