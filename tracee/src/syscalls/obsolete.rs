//! Numbers that no longer have a function, or never had one: programs see the kernel's answer.

use super::spec::Spec;
use libc::ENOSYS;

use super::forms::call;

#[rustfmt::skip] // one call, one line
pub(super) static CALLS: &[Spec] = &[
    call(134, "uselib").refused_quietly(ENOSYS),
    call(139, "sysfs").refused_quietly(ENOSYS), // not configured since Linux 6.15
    call(156, "_sysctl").refused_quietly(ENOSYS),
    call(174, "create_module").refused_quietly(ENOSYS),
    call(177, "get_kernel_syms").refused_quietly(ENOSYS),
    call(178, "query_module").refused_quietly(ENOSYS),
    call(180, "nfsservctl").refused_quietly(ENOSYS),
    call(181, "getpmsg").refused_quietly(ENOSYS),
    call(182, "putpmsg").refused_quietly(ENOSYS),
    call(183, "afs_syscall").refused_quietly(ENOSYS),
    call(184, "tuxcall").refused_quietly(ENOSYS),
    call(185, "security").refused_quietly(ENOSYS),
    call(205, "set_thread_area").refused_quietly(ENOSYS), // 32-bit programs only
    call(211, "get_thread_area").refused_quietly(ENOSYS),
    call(212, "lookup_dcookie").refused_quietly(ENOSYS),
    call(214, "epoll_ctl_old").refused_quietly(ENOSYS),
    call(215, "epoll_wait_old").refused_quietly(ENOSYS),
    call(236, "vserver").refused_quietly(ENOSYS),
];
