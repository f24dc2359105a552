//! A clock tick for a thread that waits for tracees. While a task executes user code, the thread checks
//! regularly if something else needs attention (a signal, another task, the user).
//!
//! The tick is a signal to the waiting thread alone (timer_create(2), `SIGEV_THREAD_ID`). The signal
//! interrupts `waitpid` ([`crate::task::wait_for_tick`]), and its handler notes the tick
//! ([`take_tick`]). The note is needed because a task that stops every few microseconds always has a
//! report when the wait is interrupted, so `waitpid` never returns `EINTR`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(10);
/// Number of short ticks in one tick.
pub const SHORT_TICKS: u32 = 5;
/// Time between two short ticks.
pub const SHORT_TICK: Duration = Duration::from_millis(2);
const _: () = assert!(SHORT_TICK.as_nanos() * SHORT_TICKS as u128 == TICK.as_nanos());

/// Error: the clock could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {errno}; the limit of pending signals (ulimit -i) may be reached")]
pub struct NoTicker {
    /// The operation that failed.
    pub what: &'static str,
    /// The kernel's answer.
    pub errno: Errno,
}

/// The running clock. It stops when this is dropped.
#[derive(Debug)]
pub struct Ticker {
    timer: libc::timer_t,
    short: bool,
}

thread_local! {
    static HAS_TICKED: AtomicBool = const { AtomicBool::new(false) };
}

extern "C" fn tick(_: libc::c_int) {
    HAS_TICKED.with(|ticked| ticked.store(true, Ordering::Relaxed));
}

/// Returns whether the calling thread had a tick since the last call.
pub fn take_tick() -> bool {
    HAS_TICKED.with(|ticked| ticked.swap(false, Ordering::Relaxed))
}

fn failed(what: &'static str) -> NoTicker {
    NoTicker {
        what,
        errno: Errno::last(),
    }
}

impl Ticker {
    /// Interrupts the calling thread at every tick.
    pub fn start() -> Result<Ticker, NoTicker> {
        Ticker::every(TICK)
    }

    /// Same as [`Ticker::start`], with another time between two ticks.
    pub fn every(time: Duration) -> Result<Ticker, NoTicker> {
        let signal = libc::SIGRTMAX() - 1;
        // SAFETY: all-zero is a valid sigaction: no flags (in particular not SA_RESTART), an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = tick as extern "C" fn(libc::c_int) as usize;
        // SAFETY: the handler writes one atomic variable that needs no initialisation, so it may run anywhere.
        if unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } != 0 {
            return Err(failed("sigaction"));
        }
        // SAFETY: all-zero is a valid signal set, which is filled next.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is valid; only the mask of this thread changes.
        unsafe {
            libc::sigaddset(&mut set, signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        }
        // SAFETY: all-zero is a valid sigevent, whose fields are set below.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        // SAFETY: gettid has no arguments.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer: libc::timer_t = std::ptr::null_mut();
        // SAFETY: both pointers are valid for the call.
        if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) } != 0 {
            return Err(failed("timer_create"));
        }
        let ticker = Ticker { timer, short: false };
        ticker.set(time)?;
        Ok(ticker)
    }

    /// Returns whether ticks are short.
    pub fn is_short(&self) -> bool {
        self.short
    }

    /// Makes ticks short, or long again.
    pub fn make_short(&mut self, short: bool) -> Result<(), NoTicker> {
        if short != self.short {
            self.set(if short { SHORT_TICK } else { TICK })?;
            self.short = short;
        }
        Ok(())
    }

    fn set(&self, tick: Duration) -> Result<(), NoTicker> {
        let time = libc::timespec {
            tv_sec: 0,
            tv_nsec: tick.as_nanos() as libc::c_long,
        };
        let times = libc::itimerspec {
            it_interval: time,
            it_value: time,
        };
        // SAFETY: the timer exists, and the times are valid for the call.
        if unsafe { libc::timer_settime(self.timer, 0, &times, std::ptr::null_mut()) } != 0 {
            return Err(failed("timer_settime"));
        }
        Ok(())
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // SAFETY: the timer is ours.
        unsafe { libc::timer_delete(self.timer) };
    }
}
