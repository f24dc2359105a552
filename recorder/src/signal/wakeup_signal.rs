//! Carriers: signals that bring a task to a delivery stop where the recorder delivers a stashed signal.
//!
//! Only the kernel can deliver a signal, and only a pending one. So the recorder sends the task a
//! signal (tgkill(2)), and at its delivery stop replaces it by the stashed one. Most signals are their
//! own carriers.
//!
//! The signals of job control are not. *Sending* a stop signal removes each pending SIGCONT of the
//! process, and SIGCONT each pending stop signal (signal(7)). So the carrier of a SIGSTOP would remove
//! a SIGCONT that came after this SIGSTOP, and the program would stay stopped for ever. A real-time
//! signal carries them instead: sending one removes nothing, and it is never merged with another.
//!
//! Invariant: a stashed stop is not delivered if a SIGCONT has come since. Three places see such a SIGCONT:
//!
//! ```text
//!   SIGSTOP stashed ──────── carrier sent ──────── carrier's delivery stop ──────── SIGSTOP delivered
//!   SIGCONT reported: removes it from the stash ─┤
//!   SIGCONT pending at the delivery stop ────────┤ the stop is dropped
//!   SIGCONT after that ──────────────────────────────────────────────────────────┤ the kernel drops the stop (JOBCTL_STOP_DEQUEUED)
//! ```

use rr_tracee::task::{SigInfo, send_signal, si_code, signo};
use rr_tracee::{Tid, procfs};

use crate::error::Result;
use crate::session::RecordSession;
use crate::signal::deliver::bit;

/// The last real-time signal.
const LAST: i32 = 64;
/// The first real-time signal of the kernel (signal(7)); glibc keeps this and the next for itself.
pub(crate) const FIRST_REAL_TIME: i32 = 32;
/// Signals that stop a process that does not handle them (signal(7)).
const STOPS: [i32; 4] = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Returns whether a signal stops a process that does not handle it.
pub(crate) fn is_stop(signal: i32) -> bool {
    STOPS.contains(&signal)
}

/// Returns whether sending a signal removes other pending signals.
fn is_job_control(signal: i32) -> bool {
    is_stop(signal) || signal == libc::SIGCONT
}

/// The carrier of `signal` for a task that blocks `mask`. If a program blocks every real-time signal,
/// including those of glibc, the signal carries itself. Then a SIGCONT between the check for pending
/// signals and the carrier is lost.
fn carrier(signal: i32, mask: u64) -> i32 {
    let open = |s: &i32| mask & bit(*s) == 0;
    if is_job_control(signal) {
        (FIRST_REAL_TIME..=LAST).rev().find(open).unwrap_or(signal)
    } else {
        signal
    }
}

/// The meaning of a signal's delivery stop.
pub(crate) enum Carried {
    /// The signal itself.
    Nothing,
    /// A stashed signal, which replaces the carrier.
    Stashed(SigInfo),
    /// The stashed signal was cancelled since: there is nothing to deliver.
    TakenBack,
}

impl RecordSession {
    /// Sends the carrier of a stashed signal that the task, which blocks `mask`, does not block.
    pub(crate) fn send_carrier(&mut self, tid: Tid, signal: i32, mask: u64) -> Result<()> {
        let tgid = self.task(tid)?.tgid;
        let carrier = carrier(signal, mask);
        continue_for_test(tgid, "before");
        if carrier == signal && is_stop(signal) && self.is_continued(tgid) {
            // The kernel cannot cancel a signal that is not pending, so the stash does.
            self.task_mut(tid)?.stash.retain(|i| !is_stop(signo(i)));
            return Ok(());
        }
        self.task_mut(tid)?.carriers |= bit(carrier);
        send_signal(tgid, tid, carrier)?;
        continue_for_test(tgid, "after");
        Ok(())
    }

    /// Handles the delivery stop of a signal, before it is treated as one of the program.
    pub(crate) fn carried(&mut self, tid: Tid, info: &SigInfo) -> Result<Carried> {
        let signal = signo(info);
        let task = self.task_mut(tid)?;
        let is_expected = task.carriers & bit(signal) != 0;
        if !is_ours(info, is_expected) {
            return Ok(Carried::Nothing);
        }
        task.carriers &= !bit(signal);
        let own = |i: &SigInfo| signo(i) == signal;
        let carries = |i: &SigInfo| is_job_control(signo(i)) && signal >= FIRST_REAL_TIME;
        let stash = &task.stash;
        let Some(n) = stash
            .iter()
            .position(own)
            .or_else(|| stash.iter().position(carries))
        else {
            // Not a carrier, but a stop or fatal signal that rr sent again after a checkpoint, whose
            // remote calls ended the first one. An ordinary signal that another signal's handler
            // blocked is no carrier either: the stashed signal became pending, and the kernel merged
            // the two.
            let is_carrier = is_expected && (is_job_control(signal) || signal >= FIRST_REAL_TIME);
            return Ok(match is_carrier {
                true => Carried::TakenBack,
                false => Carried::Nothing,
            });
        };
        let (info, tgid) = (task.stash.remove(n), task.tgid);
        Ok(if is_stop(signo(&info)) && self.is_continued(tgid) {
            Carried::TakenBack
        } else {
            Carried::Stashed(info)
        })
    }

    /// A stop signal and a SIGCONT cancel each other among the stashed signals of all threads, as they
    /// do among pending ones (signal(7)). Otherwise a stop would come after the SIGCONT that was meant
    /// to end it.
    pub(crate) fn cancel_opposite(&mut self, tid: Tid, signal: i32) -> Result<()> {
        let cancelled: &[i32] = match signal {
            libc::SIGCONT => &STOPS,
            _ if is_stop(signal) => &[libc::SIGCONT],
            _ => return Ok(()),
        };
        let tgid = self.task(tid)?.tgid;
        for other in self.tasks.matching_mut(|t| t.tgid == tgid) {
            other.stash.retain(|i| !cancelled.contains(&signo(i)));
        }
        Ok(())
    }

    /// Returns whether a SIGCONT is pending for a thread of the group, or for the group. It is newer
    /// than every stop signal that the group has been sent, because a stop signal removes older ones.
    pub(crate) fn is_continued(&self, tgid: Tid) -> bool {
        let mut threads = self.tasks.values().filter(|t| t.tgid == tgid);
        threads.any(|t| procfs::is_continued(t.tid).unwrap_or(false))
    }
}

/// Returns whether a signal came from us by tgkill(2). In another PID namespace, where the recorder has
/// no number, the sender is 0. Then the signal is ours if one of ours is expected.
pub(crate) fn is_ours(info: &SigInfo, is_expected: bool) -> bool {
    let pid = i32::from_ne_bytes([info[16], info[17], info[18], info[19]]);
    si_code(info) == libc::SI_TKILL && (pid == std::process::id() as i32 || pid == 0 && is_expected)
}

/// For tests: a debug build sends the process a SIGCONT `when` (before or after a carrier is sent) the
/// variable asks for it.
fn continue_for_test(tgid: Tid, when: &str) {
    if cfg!(debug_assertions) && std::env::var("RR_TEST_CONTINUE").is_ok_and(|wanted| wanted == when) {
        eprintln!("rr: test: continued {when} the carrier");
        // SAFETY: kill takes plain numbers.
        unsafe { libc::kill(tgid.0, libc::SIGCONT) };
    }
}
