//! The exit of a system call.
//!
//! Keeps I2: everything that the kernel writes for a call is part of its event.

use std::ops::ControlFlow;

use rr_tracee::pid_namespace::Vpid;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::syscalls::Class;
use rr_tracee::{Registers, Stopped, Tid};

use crate::buffer::restore::undo_overwritten;
use crate::buffer::rewrite::consider_site;
use crate::call::cores::pretend_cpu;
use crate::call::emulated::finish_emulated;
use crate::call::output::output_of;
use crate::call::pi_futex::lock_word;
use crate::call::procfs_emulation::{memory_file_effect, other_memory_effect, substitute_file};
use crate::call::record::{gather_writes, make_again};
use crate::call::registers::before_call;
use crate::drive::locks::note_wake;
use crate::drive::members::refresh_priorities;
use crate::error::{Error, Result};
use crate::memory::objects::object_effect;
use crate::policy::warnings::Warning;
use crate::ptrace::wait::finish_wait;
use crate::session::RecordSession;
use crate::signal::forced::note_action;
use crate::world::model::World;
use crate::world::must_trace::limits_file_sizes;
use crate::world::next::{Next, Record};
use crate::world::numbers::named_task;
use rr_tracee::regs::is_restart;

pub(crate) fn on_exit(session: &mut RecordSession, tid: Tid, mut stopped: Stopped) -> Result<Next> {
    let raw = stopped.regs()?;
    let Some(call) = session.world.task_mut(tid)?.call.take() else {
        return Err(Error::Unexpected {
            tid,
            what: format!("left a system call that it did not enter ({raw:x?})"),
        });
    };
    let (finished, mut call, raw) = match finish_wait(session, tid, stopped, call, raw)? {
        ControlFlow::Continue(finished) => finished,
        ControlFlow::Break(next) => return Ok(next),
    };
    stopped = finished;
    let result = raw.result();
    // A file cannot be written while it is executed, and cannot be sealed while it is mapped for
    // writing.
    let busy = result == -i64::from(libc::ETXTBSY)
        || (result == -i64::from(libc::EBUSY)
            && call.entry.syscall() == libc::SYS_fcntl
            && call.entry.rsi as i32 == libc::F_ADD_SEALS);
    let why = "the program wants to write to an executable that its frozen processes kept busy";
    if busy && session.checkpoints.release_forks(why) {
        // A frozen fork may have caused the error: the program makes the call again, and does not
        // notice.
        stopped.set_regs(&before_call(&call.entry))?;
        return make_again(session, tid, stopped, &call.entry);
    }
    if let Some(Class::Emulated(emulated)) = call.spec.map(|s| s.class) {
        return finish_emulated(session, tid, stopped, call, emulated, raw);
    }
    pretend_cpu(session, tid, &call, result)?;
    // Collects the call's writes, and copies those to scratch memory into the program's buffers.
    let mut writes = gather_writes(&session.world, tid, &call, result)?;
    let mut after = raw.with_arguments_of(&call.entry);
    if after != raw {
        stopped.set_regs(&after)?;
    }
    if call.redirected.is_some() {
        for write in &writes {
            session.world.task(tid)?.memory.write(write.addr, &write.data)?;
        }
    }
    after.orig_rax = NOT_IN_SYSCALL;
    if let Some(spec) = call.spec
        && spec.unknown_effect(&call.described_by, result)
        && session.policy.warnings.is_new(Warning::UnknownEffect {
            call: spec.number,
            request: call.entry.rsi as u32,
        })
    {
        let (name, request) = (spec.name, call.entry.rsi);
        tracing::warn!(
            "{name} with request {request:#x} is not in the table: if it writes memory, replay will diverge"
        );
    }
    // Notes changes to state that the recorder keeps.
    match call.entry.syscall() {
        libc::SYS_sched_yield => session.drive.yields = true,
        libc::SYS_futex if result > 0 => {
            note_wake(&mut session.drive, &call.entry, result as usize);
        }
        libc::SYS_rt_sigprocmask => session.world.task_mut(tid)?.signals.blocked = None,
        libc::SYS_rt_sigaction => note_action(&mut session.world, tid, &mut call, result)?,
        libc::SYS_setrlimit | libc::SYS_prlimit64 => note_limit(&mut session.world, tid, &call.entry),
        libc::SYS_setpriority | libc::SYS_sched_setattr => refresh_priorities(session),
        _ => {}
    }
    writes.extend(lock_word(&session.world, tid, &call.entry));
    // Collects the effects on objects and on the memory of other tasks, and records the call.
    let output = output_of(session, tid, &call, result)?;
    let (mut ops, more) = object_effect(session, tid, &call, result)?;
    writes.extend(more);
    let mut elsewhere = memory_file_effect(&session.world, tid, &call, result)?;
    elsewhere.extend(other_memory_effect(&session.world, tid, &call, result)?);
    undo_overwritten(&mut session.world, tid, &mut elsewhere)?;
    writes.extend(elsewhere);
    let mut stopped = substitute_file(session, tid, stopped, &call, result)?;
    if !is_restart(result) {
        stopped = consider_site(session, tid, stopped, &call.entry, &mut ops, &mut writes)?;
    }
    let record = Record {
        ops,
        writes,
        output,
        ..Record::of(&call.entry, after)
    };
    session.world.task_mut(tid)?.at_call.restarting = is_restart(result).then(|| Box::new(call));
    Ok(record.then_ready(stopped))
}

/// Handles a call that may have limited the size of files, of this process or another's.
fn note_limit(world: &mut World, tid: Tid, entry: &Registers) {
    let (resource, whose) = match entry.syscall() {
        libc::SYS_setrlimit => (entry.rdi, tid),
        _ if entry.rdi as i32 == 0 => (entry.rsi, tid),
        _ => match named_task(world, tid, Vpid(entry.rdi as i32)) {
            Some(whose) => (entry.rsi, whose),
            None => return,
        },
    };
    world.must_trace.file_sizes_limited |=
        resource as u32 == libc::RLIMIT_FSIZE && limits_file_sizes(whose.0);
}
