//! The calls in which tracers wait, and waking them.

use rr_tracee::pid_namespace::{Vpid, group_for};
use rr_tracee::{Registers, Tid};

use crate::error::Result;
use crate::world::model::World;
use crate::world::task::{State, Task};

/// The tracees that a call waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whom {
    Anyone,
    One(Vpid),
    Group(Vpid),
    /// No tracees (the call waits for a file descriptor).
    Nobody,
}

/// The parameters of a call that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    whom: Whom,
    pub(crate) options: i32,
    /// True if the call waits for ends of tracees.
    pub(crate) ends: bool,
    pub(crate) is_waitid: bool,
    /// Address of the status or siginfo, and then of the rusage.
    pub(crate) answer: u64,
    pub(crate) usage: u64,
}

impl Asked {
    /// The parameters of the call at this entry, if it is one that waits.
    pub(crate) fn of(entry: &Registers, tgid: Tid) -> Option<Asked> {
        let group = |id: i32| match id {
            0 => Whom::Group(group_for(tgid, tgid)),
            id => Whom::Group(Vpid(id)),
        };
        let id = entry.rdi as i32;
        match entry.syscall() {
            libc::SYS_wait4 => Some(Asked {
                whom: match id {
                    1.. => Whom::One(Vpid(id)),
                    -1 => Whom::Anyone,
                    0 => group(0),
                    _ => group(id.wrapping_neg()),
                },
                options: entry.rdx as i32,
                ends: true,
                is_waitid: false,
                answer: entry.rsi,
                usage: entry.r10,
            }),
            libc::SYS_waitid => {
                let id = entry.rsi as i32;
                let options = entry.r10 as i32;
                Some(Asked {
                    whom: match entry.rdi as u32 {
                        libc::P_ALL => Whom::Anyone,
                        libc::P_PID => Whom::One(Vpid(id)),
                        libc::P_PGID => group(id),
                        _ => Whom::Nobody,
                    },
                    options,
                    ends: options & libc::WEXITED != 0,
                    is_waitid: true,
                    answer: entry.rdx,
                    usage: entry.r8,
                })
            }
            _ => None,
        }
    }

    pub(crate) fn is_nohang(&self) -> bool {
        self.options & libc::WNOHANG != 0
    }

    /// Returns whether the call of a task `by` waits for a tracee, which has this number for `by`.
    pub(crate) fn is_for(&self, by: Tid, number: Vpid, tgid: Tid) -> bool {
        match self.whom {
            Whom::Anyone => true,
            Whom::One(one) => one == number,
            Whom::Group(group) => group_for(by, tgid) == group,
            Whom::Nobody => false,
        }
    }
}

/// Code and value of an end in the form of waitid(2), from a wait status.
pub(super) fn ending(status: i32) -> (i32, i32) {
    if libc::WIFEXITED(status) {
        (libc::CLD_EXITED, libc::WEXITSTATUS(status))
    } else if libc::WCOREDUMP(status) {
        (libc::CLD_DUMPED, libc::WTERMSIG(status))
    } else {
        (libc::CLD_KILLED, libc::WTERMSIG(status))
    }
}

/// Returns whether a call of `tid` waits for tracees of `tracer`.
pub(crate) fn waits_for(world: &World, tid: Tid, tracer: Tid, asked: &Asked) -> bool {
    if asked.options & libc::__WNOTHREAD != 0 {
        return tracer == tid;
    }
    let of = |tid: Tid| world.tasks.get(&tid).map(|t| t.tgid);
    of(tid).is_some() && of(tid) == of(tracer)
}

/// There is news of `tid`, a tracee of `tracer` with this number: wakes the tasks that wait for it.
pub(crate) fn wake_waiting(world: &mut World, tracer: Tid, (tid, number): (Tid, Vpid)) -> Result<()> {
    let Some(tgid) = world.tasks.get(&tracer).map(|t| t.tgid) else {
        return Ok(());
    };
    let of = world.tasks.get(&tid).map_or(tid, |t| t.tgid);
    let waits = |t: &&Task| {
        let is_waiting = matches!(t.state, State::InKernel(_));
        let call = t.call.as_ref().filter(|_| is_waiting && t.tgid == tgid);
        let asked = call
            .filter(|call| call.wait.is_some_and(|wait| !wait.is_woken))
            .and_then(|call| Asked::of(&call.entry, tgid));
        asked.is_some_and(|asked| waits_for(world, t.tid, tracer, &asked) && asked.is_for(t.tid, number, of))
    };
    let Some(waiting) = world.tasks.values().find(waits).map(|t| t.tid) else {
        return Ok(());
    };
    let task = world.task_mut(waiting)?;
    if let Some(wait) = task.call.as_mut().and_then(|call| call.wait.as_mut()) {
        wait.is_woken = true;
    }
    if let State::InKernel(running) = &task.state {
        running.interrupt()?;
    }
    Ok(())
}
