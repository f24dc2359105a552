//! Wakeup signals: signals that bring a task to a delivery stop where the recorder delivers a deferred signal.
//!
//! Only the kernel can deliver a signal, and only a pending one. So the recorder sends the task a
//! signal (tgkill(2)), and at its delivery stop replaces it by the deferred one. Most signals are their
//! own wakeup signals.
//!
//! The signals of job control are not. *Sending* a stop signal removes each pending SIGCONT of the
//! process, and SIGCONT each pending stop signal (signal(7)). So the wakeup signal of a SIGSTOP would remove
//! a SIGCONT that came after this SIGSTOP, and the program would stay stopped for ever. A real-time
//! signal carries them instead: sending one removes nothing, and it is never merged with another.
//!
//! Invariant: a deferred stop is not delivered if a SIGCONT has come since. Three places see such a SIGCONT:
//!
//! ```text
//!   SIGSTOP deferred ─────── wakeup sent ─────── wakeup's delivery stop ─────── SIGSTOP delivered
//!   SIGCONT reported: the stop is no longer deferred ─┤
//!   SIGCONT pending at the delivery stop ─────────────┤ the stop is dropped
//!   SIGCONT after that ───────────────────────────────────────────────────────┤ the kernel drops the stop (JOBCTL_STOP_DEQUEUED)
//! ```

use rr_tracee::task::{SigInfo, send_signal, si_code, signo};
use rr_tracee::{Tid, procfs};

use crate::error::Result;
use crate::signal::numbers::{FIRST_REAL_TIME, LAST, STOPS, bit, is_job_control, is_stop};
use crate::world::model::World;

/// The wakeup signal of `signal` for a task that blocks `mask`. If a program blocks every real-time signal,
/// including those of glibc, the signal carries itself. Then a SIGCONT between the check for pending
/// signals and the wakeup signal is lost.
fn wakeup_for(signal: i32, mask: u64) -> i32 {
    let open = |s: &i32| mask & bit(*s) == 0;
    if is_job_control(signal) {
        (FIRST_REAL_TIME..=LAST).rev().find(open).unwrap_or(signal)
    } else {
        signal
    }
}

/// The meaning of a signal's delivery stop.
pub(crate) enum Wakeup {
    /// None: the signal is one of the program.
    No,
    /// A deferred signal, which replaces the wakeup signal.
    For(SigInfo),
    /// The deferred signal was cancelled since: there is nothing to deliver.
    Cancelled,
}

/// Sends the wakeup signal of a deferred signal that the task, which blocks `mask`, does not block.
pub(crate) fn send_wakeup(world: &mut World, tid: Tid, signal: i32, mask: u64) -> Result<()> {
    let tgid = world.task(tid)?.tgid;
    let wakeup = wakeup_for(signal, mask);
    continue_for_test(tgid, "before");
    if wakeup == signal && is_stop(signal) && is_continued(world, tgid) {
        // The kernel cannot cancel a signal that is not pending, so the recorder does.
        world
            .task_mut(tid)?
            .signals
            .deferred
            .retain(|i| !is_stop(signo(i)));
        return Ok(());
    }
    world.task_mut(tid)?.signals.wakeups |= bit(wakeup);
    send_signal(tgid, tid, wakeup)?;
    continue_for_test(tgid, "after");
    Ok(())
}

/// Handles the delivery stop of a signal, before it is treated as one of the program.
pub(crate) fn unwrap_wakeup(world: &mut World, tid: Tid, info: &SigInfo) -> Result<Wakeup> {
    let signal = signo(info);
    let task = world.task_mut(tid)?;
    let is_expected = task.signals.wakeups & bit(signal) != 0;
    if !is_ours(info, is_expected) {
        return Ok(Wakeup::No);
    }
    task.signals.wakeups &= !bit(signal);
    let own = |i: &SigInfo| signo(i) == signal;
    let wakes_for = |i: &SigInfo| is_job_control(signo(i)) && signal >= FIRST_REAL_TIME;
    let deferred = &task.signals.deferred;
    let Some(n) = deferred
        .iter()
        .position(own)
        .or_else(|| deferred.iter().position(wakes_for))
    else {
        // Not a wakeup signal, but a stop or fatal signal that rr sent again after a checkpoint, whose
        // remote calls ended the first one. An ordinary signal that another signal's handler
        // blocked is no wakeup signal either: the deferred signal became pending, and the kernel merged
        // the two.
        let is_wakeup = is_expected && (is_job_control(signal) || signal >= FIRST_REAL_TIME);
        return Ok(match is_wakeup {
            true => Wakeup::Cancelled,
            false => Wakeup::No,
        });
    };
    let (info, tgid) = (task.signals.deferred.remove(n), task.tgid);
    Ok(if is_stop(signo(&info)) && is_continued(world, tgid) {
        Wakeup::Cancelled
    } else {
        Wakeup::For(info)
    })
}

/// A stop signal and a SIGCONT cancel each other among the deferred signals of all threads, as they
/// do among pending ones (signal(7)). Otherwise a stop would come after the SIGCONT that was meant
/// to end it.
pub(crate) fn cancel_opposite(world: &mut World, tid: Tid, signal: i32) -> Result<()> {
    let cancelled: &[i32] = match signal {
        libc::SIGCONT => &STOPS,
        _ if is_stop(signal) => &[libc::SIGCONT],
        _ => return Ok(()),
    };
    let tgid = world.task(tid)?.tgid;
    for other in world.tasks.matching_mut(|t| t.tgid == tgid) {
        other.signals.deferred.retain(|i| !cancelled.contains(&signo(i)));
    }
    Ok(())
}

/// Returns whether a SIGCONT is pending for a thread of the group, or for the group. It is newer
/// than every stop signal that the group has been sent, because a stop signal removes older ones.
pub(crate) fn is_continued(world: &World, tgid: Tid) -> bool {
    let mut threads = world.tasks.values().filter(|t| t.tgid == tgid);
    threads.any(|t| procfs::is_continued(t.tid).unwrap_or(false))
}

/// Returns whether a signal came from us by tgkill(2). In another PID namespace, where the recorder has
/// no number, the sender is 0. Then the signal is ours if one of ours is expected.
pub(crate) fn is_ours(info: &SigInfo, is_expected: bool) -> bool {
    let pid = i32::from_ne_bytes([info[16], info[17], info[18], info[19]]);
    si_code(info) == libc::SI_TKILL && (pid == std::process::id() as i32 || pid == 0 && is_expected)
}

/// For tests: a debug build sends the process a SIGCONT `when` (before or after a wakeup signal is sent) the
/// variable asks for it.
fn continue_for_test(tgid: Tid, when: &str) {
    if cfg!(debug_assertions) && std::env::var("RR_TEST_CONTINUE").is_ok_and(|wanted| wanted == when) {
        eprintln!("rr: test: continued {when} the wakeup signal");
        // SAFETY: kill takes plain numbers.
        unsafe { libc::kill(tgid.0, libc::SIGCONT) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::children::Children;
    use rr_tracee::Stop;
    use rr_tracee::task::{Resume, Waited, siginfo};

    /// Defers `signal`, and brings the child to the delivery stop of its wakeup signal. Returns the number of
    /// that signal, and the stop's meaning, if the process gets a SIGCONT meanwhile or does not.
    fn woken(signal: i32, is_continued: bool) -> (i32, Wakeup) {
        let mut children = Children::new();
        let tid = children.add();
        let stopped = children.stopped(tid);
        let world = &mut children.world;
        let info = siginfo(signal, libc::SI_USER);
        world.task_mut(tid).unwrap().signals.deferred.push(info);
        send_wakeup(world, tid, signal, 0).unwrap();
        let running = stopped.resume(Resume::Cont, None).unwrap();
        let Waited::Stopped(stopped, Stop::Signal(wakeup)) = running.wait().unwrap() else {
            panic!("there is no delivery stop");
        };
        if is_continued {
            // SAFETY: kill takes plain numbers.
            unsafe { libc::kill(tid.0, libc::SIGCONT) };
        }
        let meaning = unwrap_wakeup(world, tid, &stopped.siginfo().unwrap()).unwrap();
        let signals = &world.task(tid).unwrap().signals;
        assert!(signals.deferred.is_empty() && signals.wakeups == 0);
        (wakeup, meaning)
    }

    #[test]
    fn an_ordinary_signal_is_its_own_wakeup_signal() {
        let (wakeup, meaning) = woken(libc::SIGUSR1, false);
        assert_eq!(wakeup, libc::SIGUSR1);
        assert!(matches!(meaning, Wakeup::For(info) if info == siginfo(libc::SIGUSR1, libc::SI_USER)));
    }

    #[test]
    fn a_real_time_signal_wakes_for_a_stop_signal() {
        let (wakeup, meaning) = woken(libc::SIGTSTP, false);
        assert_eq!(wakeup, LAST);
        assert!(matches!(meaning, Wakeup::For(info) if signo(&info) == libc::SIGTSTP));
    }

    #[test]
    fn a_stop_is_not_delivered_after_a_continue() {
        assert!(matches!(woken(libc::SIGTSTP, true), (LAST, Wakeup::Cancelled)));
        assert!(matches!(
            woken(libc::SIGUSR1, true),
            (libc::SIGUSR1, Wakeup::For(_))
        ));
    }

    #[test]
    fn a_continue_cancels_deferred_stops_and_a_stop_cancels_a_continue() {
        let mut children = Children::new();
        let (tid, other) = (children.add(), children.add());
        let world = &mut children.world;
        let deferred = |world: &World, tid| -> Vec<i32> {
            let signals = &world.task(tid).unwrap().signals;
            signals.deferred.iter().map(signo).collect()
        };
        for tid in [tid, other] {
            let signals = &mut world.task_mut(tid).unwrap().signals;
            let all = [libc::SIGTSTP, libc::SIGCONT, libc::SIGUSR1];
            signals
                .deferred
                .extend(all.map(|signal| siginfo(signal, libc::SI_USER)));
        }
        cancel_opposite(world, tid, libc::SIGUSR1).unwrap();
        assert_eq!(deferred(world, tid).len(), 3);
        cancel_opposite(world, tid, libc::SIGCONT).unwrap();
        assert_eq!(deferred(world, tid), [libc::SIGCONT, libc::SIGUSR1]);
        cancel_opposite(world, tid, libc::SIGTTIN).unwrap();
        assert_eq!(deferred(world, tid), [libc::SIGUSR1]);
        // Another process.
        assert_eq!(deferred(world, other).len(), 3);
    }
}
