//! The machine: its names and state, the kernel's log, modules and power, and interfaces to the kernel that
//! share memory with it and so cannot be recorded.

use super::spec::{MemorySpec, Spec};
use libc::{ENOSYS, EPERM};

use super::forms::*;

#[rustfmt::skip] // one call, one line
pub(super) static CALLS: &[Spec] = &[
    call(63, "uname").outs(&[fixed(0, 6 * 65)]), // struct utsname: six strings
    call(170, "sethostname"),
    call(171, "setdomainname"),
    call(99, "sysinfo").outs(&[fixed(0, 112)]),
    call(318, "getrandom").outs(&[buffer(0, 1)]),
    call(103, "syslog").blocks_if(|r| r.arg(0) as i32 == SYSLOG_READ).commands(0, SYSLOG_SILENT, SYSLOG_OUTS),
    call(153, "vhangup"),

    // These calls would change the machine under the recorder.
    call(167, "swapon").refused(EPERM),
    call(168, "swapoff").refused(EPERM),
    call(169, "reboot").refused(EPERM),
    call(172, "iopl").refused(EPERM),
    call(173, "ioperm").refused(EPERM),
    call(154, "modify_ldt").refused(ENOSYS),
    call(175, "init_module").refused(EPERM),
    call(313, "finit_module").refused(EPERM),
    call(176, "delete_module").refused(EPERM),
    call(246, "kexec_load").refused(EPERM),
    call(320, "kexec_file_load").refused(EPERM),

    // These use rings in shared memory, which the kernel writes at any time. Run-time libraries probe
    // for io_uring and fall back.
    call(425, "io_uring_setup").refused(ENOSYS),
    call(426, "io_uring_enter").refused(ENOSYS),
    call(427, "io_uring_register").refused(ENOSYS),
];

const SYSLOG_READ: i32 = 2;

/// CLOSE, OPEN, CLEAR, CONSOLE_OFF, CONSOLE_ON, CONSOLE_LEVEL, SIZE_UNREAD, SIZE_BUFFER (syslog(2)).
const SYSLOG_SILENT: &[i32] = &[0, 1, 5, 6, 7, 8, 9, 10];

const SYSLOG_OUTS: &[(i32, MemorySpec)] = &[
    (SYSLOG_READ, MemorySpec::One(buffer(1, 2))),
    (3, MemorySpec::One(buffer(1, 2))), // READ_ALL
    (4, MemorySpec::One(buffer(1, 2))), // READ_CLEAR
];
