//! Clocks, timers, sleeping.

use super::forms::*;
use super::spec::Spec;

/// `struct timespec`, `struct timeval`.
const TIME: u64 = 16;
/// `struct itimerval`, `struct itimerspec`.
const INTERVAL: u64 = 32;
/// `struct timex`; written even if the call fails.
const TIMEX: u64 = 208;

#[rustfmt::skip] // one call, one line
pub(super) static CALLS: &[Spec] = &[
    call(201, "time").outs(&[fixed(0, 8)]),
    call(96, "gettimeofday").outs(&[fixed(0, TIME), fixed(1, 8)]),
    call(164, "settimeofday"),
    call(228, "clock_gettime").outs(&[fixed(1, TIME)]),
    call(229, "clock_getres").outs(&[fixed(1, TIME)]),
    call(227, "clock_settime"),
    call(159, "adjtimex").outs(&[perhaps(0, TIMEX)]),
    call(305, "clock_adjtime").outs(&[perhaps(1, TIMEX)]),
    call(100, "times").outs(&[fixed(0, 32)]),

    // The kernel writes the remaining time when a signal interrupts the call.
    call(35, "nanosleep").blocks().outs(&[perhaps(1, TIME)]),
    call(230, "clock_nanosleep").blocks().outs(&[perhaps(3, TIME)]),
    call(37, "alarm"),

    call(36, "getitimer").outs(&[fixed(1, INTERVAL)]),
    call(38, "setitimer").outs(&[fixed(2, INTERVAL)]),
    call(222, "timer_create").outs(&[perhaps(2, 4)]), // written before the last check
    call(223, "timer_settime").outs(&[fixed(3, INTERVAL)]),
    call(224, "timer_gettime").outs(&[fixed(1, INTERVAL)]),
    call(225, "timer_getoverrun"),
    call(226, "timer_delete"),
    call(283, "timerfd_create"),
    call(286, "timerfd_settime").outs(&[fixed(3, INTERVAL)]),
    call(287, "timerfd_gettime").outs(&[fixed(1, INTERVAL)]),
];
