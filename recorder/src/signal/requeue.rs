//! Blocked signals that become pending again, and tasks that are turned back from a call for a deferred signal.

use std::ops::ControlFlow;

use rr_tracee::remote::Remote;
use rr_tracee::task::{SigInfo, si_code, signo};
use rr_tracee::{Registers, Stopped, Tid};

use crate::call::registers::before_call;
use crate::error::Result;
use crate::signal::numbers::{bit, is_stop};
use crate::signal::wakeup_signal::{is_continued, send_wakeup};
use crate::world::model::World;
use crate::world::next::Next;

/// At a system call entry: if a signal is deferred, turns the task back from the call, so that the
/// task takes the signal or the signal becomes pending.
pub(crate) fn turn_back_for_signal(
    world: &mut World,
    tid: Tid,
    mut stopped: Stopped,
    entry: &Registers,
) -> Result<ControlFlow<Next, Stopped>> {
    if world.task(tid)?.signals.deferred.is_empty() {
        return Ok(ControlFlow::Continue(stopped));
    }
    let mask = stopped.sigmask()?;
    let task = world.task_mut(tid)?;
    let back = before_call(entry);
    stopped.set_regs(&back)?;
    let open = task
        .signals
        .deferred
        .iter()
        .find(|info| mask & bit(signo(info)) == 0);
    let Some(signal) = open.map(signo) else {
        let stopped = make_pending(world, tid, stopped)?;
        world.task_mut(tid)?.at_call.retrying = true;
        return Ok(ControlFlow::Break(Next::Ready(stopped)));
    };
    task.signals.turned_back = Some(*entry);
    task.interval.boundary = back;
    send_wakeup(world, tid, signal, mask)?;
    Ok(ControlFlow::Break(Next::Ready(stopped)))
}

/// Gives the deferred signals back to the kernel, all of which the task must block: they become
/// pending again with their original siginfo. The task itself queues them, because no other task
/// may claim that the kernel or another process was the sender.
///
/// A signal for the whole process stays one where that is possible, because another thread may be
/// waiting for the signal.
fn make_pending(world: &mut World, tid: Tid, stopped: Stopped) -> Result<Stopped> {
    let deferred = std::mem::take(&mut world.task_mut(tid)?.signals.deferred);
    requeue_signals(world, tid, stopped, deferred)
}

/// Makes blocked signals pending again.
pub(crate) fn requeue_signals(
    world: &mut World,
    tid: Tid,
    stopped: Stopped,
    deferred: Vec<SigInfo>,
) -> Result<Stopped> {
    let tgid = world.task(tid)?.tgid;
    // The task's ids may be different in its own pid namespace.
    let (remote, pid) = Remote::new(stopped, tgid)?.call(libc::SYS_getpid, [0; 6])?;
    let (mut remote, own) = remote.call(libc::SYS_gettid, [0; 6])?;
    for info in deferred {
        let signal = signo(&info);
        if is_stop(signal) && is_continued(world, tgid) {
            continue;
        }
        let at = remote.param(&info)?.0;
        // For a thread other than the first, the kernel does not allow every code with
        // rt_sigqueueinfo.
        let mine = pid != own || matches!(si_code(&info), libc::SI_TKILL | libc::SI_TIMER);
        let (number, args) = if mine {
            (
                libc::SYS_rt_tgsigqueueinfo,
                [pid as u64, own as u64, signal as u64, at, 0, 0],
            )
        } else {
            (
                libc::SYS_rt_sigqueueinfo,
                [pid as u64, signal as u64, at, 0, 0, 0],
            )
        };
        let result;
        (remote, result) = remote.call(number, args)?;
        if result < 0 {
            tracing::warn!(
                "signal {signal} of task {tid} is lost: the kernel does not queue it again ({result})"
            );
        }
    }
    Ok(remote.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::children::Children;
    use rr_tracee::task::siginfo;

    #[test]
    fn a_task_without_deferred_signals_makes_its_call() {
        let mut children = Children::new();
        let tid = children.add();
        let stopped = children.stopped(tid);
        let entry = stopped.regs().unwrap();
        let next = turn_back_for_signal(&mut children.world, tid, stopped, &entry).unwrap();
        assert!(matches!(next, ControlFlow::Continue(_)));
    }

    #[test]
    fn a_deferred_signal_comes_before_the_call() {
        let mut children = Children::new();
        let tid = children.add();
        let stopped = children.stopped(tid);
        let entry = Registers {
            orig_rax: libc::SYS_getpid as u64,
            ..stopped.regs().unwrap()
        };
        let world = &mut children.world;
        let info = siginfo(libc::SIGUSR1, libc::SI_USER);
        world.task_mut(tid).unwrap().signals.deferred.push(info);
        let next = turn_back_for_signal(world, tid, stopped, &entry).unwrap();
        let ControlFlow::Break(Next::Ready(stopped)) = next else {
            panic!("it makes the call");
        };
        assert_eq!(stopped.regs().unwrap().rip, before_call(&entry).rip);
        let task = world.task(tid).unwrap();
        assert_eq!(task.signals.turned_back, Some(entry));
        assert_eq!(task.signals.wakeups, bit(libc::SIGUSR1));
        assert!(!task.at_call.retrying);
    }
}
