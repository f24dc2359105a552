//! Signals: actions, masks, sending, waiting for them.

use super::forms::*;
use super::spec::{Emulated, Spec};

#[rustfmt::skip] // one call, one line
pub(super) static CALLS: &[Spec] = &[
    call(13, "rt_sigaction").outs(&[fixed(2, 32)]), // the kernel's struct sigaction
    call(14, "rt_sigprocmask").outs(&[sized(2, 3).at_most(SIGSET)]),
    call(15, "rt_sigreturn").emulated(Emulated::RtSigreturn),
    call(127, "rt_sigpending").outs(&[sized(0, 1).at_most(SIGSET)]),
    call(128, "rt_sigtimedwait").blocks().outs(&[fixed(1, 128).if_positive()]), // siginfo_t
    call(130, "rt_sigsuspend").blocks(),
    call(34, "pause").blocks(),
    call(131, "sigaltstack").outs(&[fixed(1, 24)]),
    call(62, "kill"),
    call(200, "tkill"),
    call(234, "tgkill"),
    call(129, "rt_sigqueueinfo"),
    call(297, "rt_tgsigqueueinfo"),
    call(424, "pidfd_send_signal"),
    call(282, "signalfd"),
    call(289, "signalfd4"),
    // The kernel makes the program perform this call to continue a call that a signal has interrupted.
    // The call writes the interrupted call's outputs, so the recorder uses that call's entry.
    call(219, "restart_syscall").blocks(),
];

/// The kernel's `sigset_t`; it refuses larger sizes.
const SIGSET: u64 = 8;
