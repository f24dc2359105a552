//! Signals that the program sends to a whole process group, or to everybody.
//!
//! The recorder is in the group in which it was started, and so is the program: a terminal and a
//! shell's job control need that (^C, ^Z, `fg`). But a program that calls `kill(0, …)` means its own
//! processes. The recorder must not die of that, nor take it as a request to end the recording. So if
//! such a signal would reach the recorder, the calling task sends it to each of the others instead, and
//! last to itself. `/proc` lists the others.
//!
//! In one case the recorder gets the signal, too: a program on a terminal stops its own group (as
//! editors do when asked to suspend). The shell must see that its job is stopped, and the shell sees
//! the recorder.

use std::ops::ControlFlow;

use rr_tracee::pid_namespace::is_ours;
use rr_tracee::remote::Remote;
use rr_tracee::{Registers, Stopped, Tid, procfs};

use crate::call::record::record_call;
use crate::call::registers::returned;
use crate::error::Result;
use crate::session::RecordSession;
use crate::signal::numbers::is_stop;
use crate::world::model::World;
use crate::world::next::{Next, Record};

/// Target of a signal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The group that the recorder is in.
    OurGroup,
    /// All processes.
    Everybody,
}

/// Returns whether rr was started on a terminal.
fn on_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// The target of a call that sends a signal, if the signal would reach the recorder by its group.
fn group_target(tid: Tid, entry: &Registers) -> Option<Target> {
    let whom = entry.rdi as i32;
    if entry.syscall() != libc::SYS_kill || whom > 0 || !is_ours(tid) {
        return None;
    }
    // SAFETY: getpgrp takes nothing and cannot fail.
    let ours = unsafe { libc::getpgrp() };
    match whom {
        -1 => Some(Target::Everybody),
        0 => (procfs::group(tid).is_ok_and(|group| group == ours)).then_some(Target::OurGroup),
        _ => (whom.checked_neg() == Some(ours)).then_some(Target::OurGroup),
    }
}

/// The processes that `sender` wants to reach, without rr and its helpers, and with the sender
/// last.
fn members_of(world: &World, sender: Tid, target: Target) -> Vec<Tid> {
    let us = std::process::id() as i32;
    // SAFETY: getpgrp takes nothing and cannot fail.
    let group = unsafe { libc::getpgrp() };
    let known = |pid: Tid| world.tasks.values().any(|t| t.tgid == pid);
    let mut members = procfs::processes();
    members.retain(|pid| {
        let wanted = match target {
            Target::OurGroup => procfs::group(*pid).is_ok_and(|of| of == group),
            // kill(2): neither the first process nor the caller. Frozen forks do not concern the
            // program.
            Target::Everybody => {
                pid.0 != 1 && *pid != sender && (known(*pid) || procfs::tracer(*pid) != Some(Tid(us)))
            }
        };
        wanted && pid.0 != us
    });
    members.sort_by_key(|pid| *pid == sender);
    members
}

/// At the entry of a call: if it sends a signal that would reach the recorder, carries the call out
/// here.
pub(crate) fn signal_members(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    entry: &Registers,
) -> Result<ControlFlow<Next, Stopped>> {
    let Some(target) = group_target(tid, entry) else {
        return Ok(ControlFlow::Continue(stopped));
    };
    let tgid = session.world.task(tid)?.tgid;
    let members = members_of(&session.world, tgid, target);
    let mut after = returned(entry, -i64::from(libc::ESRCH));
    stopped.set_regs(&after)?;
    let mut remote = Remote::new(stopped, tgid)?;
    let (mut reached, mut refused) = (false, None);
    for member in members {
        let result;
        (remote, result) = remote.call(libc::SYS_kill, [member.0 as u64, entry.rsi, 0, 0, 0, 0])?;
        match result {
            0 => reached = true,
            // The process existed a moment ago.
            _ if result == -i64::from(libc::ESRCH) => {}
            error => refused = Some(error),
        }
    }
    if reached {
        after.rax = 0;
    } else if let Some(error) = refused {
        after.rax = error as u64;
    }
    remote.set_saved(after);
    let stopped = remote.finish()?;
    record_call(session, tid, Record::of(entry, after))?;
    let signal = entry.rsi as i32;
    if target == Target::OurGroup && reached && is_stop(signal) && on_terminal() {
        // SAFETY: sends a signal to ourselves, which stops us until somebody continues the group.
        unsafe { libc::kill(libc::getpid(), signal) };
    }
    Ok(ControlFlow::Break(Next::Ready(stopped)))
}
