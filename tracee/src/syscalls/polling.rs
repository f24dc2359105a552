//! Calls that wait for descriptors: poll, select, epoll.

use super::forms::*;
use super::spec::{Extent, Len, Out, Spec};
use crate::regs::Registers;

/// Size of the remaining time. All calls write it except the variants of `poll` and `epoll_wait` with
/// milliseconds.
const TIME: u64 = 16;
/// `struct epoll_event`, packed on x86-64.
const EPOLL_EVENT: u64 = 12;
/// No process can have more descriptors (`fs.nr_open`, unless root has raised it), or poll more.
const MAX_FDS: u64 = 1 << 20;

#[rustfmt::skip] // one call, one line
pub(super) static CALLS: &[Spec] = &[
    call(7, "poll").blocks_if(|r| r.arg(2) as i32 != 0).outs(&[POLL_FDS]),
    call(271, "ppoll").blocks().outs(&[POLL_FDS, perhaps(2, TIME)]),
    call(23, "select").blocks().outs(&[fd_set(1), fd_set(2), fd_set(3), perhaps(4, TIME)]),
    call(270, "pselect6").blocks().outs(&[fd_set(1), fd_set(2), fd_set(3), perhaps(4, TIME)]),

    call(213, "epoll_create"),
    call(291, "epoll_create1"),
    call(233, "epoll_ctl"),
    call(232, "epoll_wait").blocks_if(|r| r.arg(3) as i32 != 0).outs(&[elements(1, 2, EPOLL_EVENT)]),
    call(281, "epoll_pwait").blocks_if(|r| r.arg(3) as i32 != 0).outs(&[elements(1, 2, EPOLL_EVENT)]),
    call(441, "epoll_pwait2").blocks().outs(&[elements(1, 2, EPOLL_EVENT)]),
];

/// `struct pollfd { int fd; short events; short revents; }[nfds]`. The kernel writes only the last
/// field, and only that field may be copied back: another task may change the rest meanwhile.
const POLL_FDS: Out = Out {
    arg: 0,
    len: Len::Arg { arg: 1, unit: 8 },
    max: MAX_FDS * 8,
    extent: Extent::Field {
        stride: 8,
        offset: 6,
        len: 2,
    },
    copy_in: true,
};

/// A set of `nfds` bits, in whole words. The kernel limits `nfds` to the size of its descriptor table,
/// so some of the set may not exist. Therefore it has `copy_in`, which limits it to existing memory.
const fn fd_set(arg: u8) -> Out {
    let len = Len::Of(fd_set_len);
    Out {
        arg,
        len,
        max: MAX_FDS / 8,
        extent: Extent::Success,
        copy_in: true,
    }
}

fn fd_set_len(r: &Registers) -> u64 {
    u64::try_from(r.arg(0) as i32).unwrap_or(0).div_ceil(64) * 8
}
