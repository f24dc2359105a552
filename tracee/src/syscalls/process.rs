//! Tasks: creation, end and waiting, scheduling, futexes, limits, `prctl`, and calls that confine or
//! observe a task.

use super::spec::{Emulated, MemorySpec, Spec};
use libc::{EINVAL, ENOSYS, EPERM};

use super::creation;
use super::forms::*;
use crate::ids::PAGE;
use crate::regs::Registers;

/// `struct rusage`.
const RUSAGE: u64 = 144;
/// The part of `siginfo_t` up to `si_status`; `waitid` writes these fields even if it fails.
const SIGCHLD_INFO: u64 = 28;

#[rustfmt::skip] // one call, one line
pub(super) static CALLS: &[Spec] = &[
    call(56, "clone").emulated(Emulated::Clone).memory(MemorySpec::Choice(creation::clone_memory)),
    call(435, "clone3").emulated(Emulated::Clone).computed(creation::clone3_parts, creation::clone3_written),
    call(57, "fork").emulated(Emulated::Clone),
    call(58, "vfork").emulated(Emulated::Clone),
    call(59, "execve").emulated(Emulated::Exec),
    call(322, "execveat").emulated(Emulated::Exec),
    call(60, "exit").emulated(Emulated::Exit),
    call(231, "exit_group").emulated(Emulated::Exit),
    call(61, "wait4").blocks_if(|r| r.arg(2) & WNOHANG == 0).outs(&[fixed(1, 4).if_positive(), fixed(3, RUSAGE).if_positive()]),
    call(247, "waitid").blocks_if(|r| r.arg(3) & WNOHANG == 0).outs(&[perhaps(2, SIGCHLD_INFO), perhaps(4, RUSAGE)]),
    call(218, "set_tid_address").emulated(Emulated::SetTidAddress),
    call(434, "pidfd_open"),
    call(438, "pidfd_getfd"),
    call(272, "unshare"),
    call(308, "setns"),

    // LOCK_PI and similar operations write the futex word while they wait, and other tasks see that
    // (I3): the recorder has code of its own for that word.
    call(202, "futex").blocks_if(futex_waits).memory(MemorySpec::Choice(futex_memory)),
    call(449, "futex_waitv").blocks(),
    call(454, "futex_wake"),
    call(455, "futex_wait").blocks(),
    call(456, "futex_requeue"),
    call(273, "set_robust_list"),
    call(274, "get_robust_list").outs(&[fixed(1, 8), fixed(2, 8)]),
    call(334, "rseq").emulated(Emulated::Rseq),

    call(24, "sched_yield"),
    call(142, "sched_setparam"),
    call(143, "sched_getparam").outs(&[fixed(1, 4)]),
    call(144, "sched_setscheduler"),
    call(145, "sched_getscheduler"),
    call(146, "sched_get_priority_max"),
    call(147, "sched_get_priority_min"),
    call(148, "sched_rr_get_interval").outs(&[fixed(1, 16)]),
    call(203, "sched_setaffinity").emulated(Emulated::SchedSetaffinity),
    call(204, "sched_getaffinity").emulated(Emulated::SchedGetaffinity).outs(&[buffer(2, 1)]),
    // E2BIG: the kernel writes the size that it knows into the structure's first word.
    call(314, "sched_setattr").outs(&[perhaps(1, 4)]),
    call(315, "sched_getattr").outs(&[sized(1, 2).with_holes().at_most(PAGE)]),
    call(140, "getpriority"),
    call(141, "setpriority"),
    call(251, "ioprio_set"),
    call(252, "ioprio_get"),
    call(309, "getcpu").outs(&[fixed(0, 4), fixed(1, 4)]),

    call(97, "getrlimit").outs(&[fixed(1, 16)]),
    call(160, "setrlimit"),
    call(302, "prlimit64").outs(&[fixed(3, 16)]),
    call(98, "getrusage").outs(&[fixed(1, RUSAGE)]),
    call(163, "acct"),
    call(135, "personality").emulated(Emulated::Personality),
    call(157, "prctl").emulated(Emulated::Prctl).commands(0, PRCTL_SILENT, PRCTL_OUTS),
    call(158, "arch_prctl").emulated(Emulated::ArchPrctl).commands(0, ARCH_PRCTL_SILENT, ARCH_PRCTL_OUTS),
    call(312, "kcmp"),

    call(317, "seccomp").emulated(Emulated::Seccomp).commands(0, &[0, 1, 2], &[(3, MemorySpec::One(fixed(2, 6)))]).refused_if(EINVAL, "a filter with a listener", seccomp_has_listener),
    call(444, "landlock_create_ruleset"),
    call(445, "landlock_add_rule"),
    call(446, "landlock_restrict_self"),
    call(101, "ptrace").emulated(Emulated::Ptrace),
    call(321, "bpf").refused(EPERM),
    call(298, "perf_event_open").refused(ENOSYS),
    call(335, "uretprobe").refused_quietly(ENOSYS),
    call(336, "uprobe").refused_quietly(ENOSYS),
];

const WNOHANG: u64 = libc::WNOHANG as u64;

/// The operation without `FUTEX_PRIVATE_FLAG` and `FUTEX_CLOCK_REALTIME`.
fn futex_op(r: &Registers) -> i32 {
    r.arg(1) as i32 & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME)
}

fn futex_waits(r: &Registers) -> bool {
    /// `LOCK_PI`, `WAIT_REQUEUE_PI`, `LOCK_PI2`.
    const INHERITING: [i32; 3] = [6, 11, 13];
    let op = futex_op(r);
    matches!(op, libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET) || INHERITING.contains(&op)
}

/// Only `WAKE_OP` writes: the word at its second address.
fn futex_memory(r: &Registers) -> Option<MemorySpec> {
    match futex_op(r) {
        libc::FUTEX_WAKE_OP => Some(MemorySpec::One(perhaps(4, 4))),
        0..=13 => Some(MemorySpec::None),
        _ => None,
    }
}

/// A filter with a listener: another process would answer calls. (A call without a filter asks if
/// listeners are supported.)
fn seccomp_has_listener(r: &Registers) -> bool {
    const SECCOMP_SET_MODE_FILTER: u32 = 1;
    r.arg(0) as u32 == SECCOMP_SET_MODE_FILTER
        && r.arg(1) & SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
        && r.arg(2) != 0
}

const SECCOMP_FILTER_FLAG_NEW_LISTENER: u64 = 8;

#[rustfmt::skip]
const PRCTL_SILENT: &[i32] = &[
    libc::PR_SET_PDEATHSIG, libc::PR_GET_DUMPABLE, libc::PR_SET_DUMPABLE, libc::PR_GET_KEEPCAPS,
    libc::PR_SET_KEEPCAPS, libc::PR_GET_TIMING, libc::PR_SET_TIMING, libc::PR_SET_NAME, libc::PR_GET_SECCOMP,
    libc::PR_SET_SECCOMP, libc::PR_CAPBSET_READ, libc::PR_CAPBSET_DROP, libc::PR_SET_TSC, libc::PR_GET_SECUREBITS,
    libc::PR_SET_SECUREBITS, libc::PR_SET_TIMERSLACK, libc::PR_GET_TIMERSLACK, libc::PR_TASK_PERF_EVENTS_DISABLE,
    libc::PR_TASK_PERF_EVENTS_ENABLE, libc::PR_MCE_KILL, libc::PR_MCE_KILL_GET, libc::PR_SET_MM, libc::PR_SET_PTRACER,
    libc::PR_SET_CHILD_SUBREAPER, libc::PR_SET_NO_NEW_PRIVS, libc::PR_GET_NO_NEW_PRIVS, libc::PR_SET_THP_DISABLE,
    libc::PR_GET_THP_DISABLE, libc::PR_CAP_AMBIENT, libc::PR_GET_SPECULATION_CTRL, libc::PR_SET_SPECULATION_CTRL,
    57, 58, // PR_SET_IO_FLUSHER, PR_GET_IO_FLUSHER
    59, // PR_SET_SYSCALL_USER_DISPATCH
    65, 66, // PR_SET_MDWE, PR_GET_MDWE
    67, 68, // PR_SET_MEMORY_MERGE, PR_GET_MEMORY_MERGE
    77, 78, // PR_TIMER_CREATE_RESTORE_IDS, PR_FUTEX_HASH
    libc::PR_SET_VMA,
];

const PRCTL_OUTS: &[(i32, MemorySpec)] = &[
    (libc::PR_GET_PDEATHSIG, MemorySpec::One(fixed(1, 4))),
    (libc::PR_GET_NAME, MemorySpec::One(fixed(1, 16))),
    (libc::PR_GET_TSC, MemorySpec::One(fixed(1, 4))),
    (libc::PR_GET_CHILD_SUBREAPER, MemorySpec::One(fixed(1, 4))),
    (libc::PR_GET_TID_ADDRESS, MemorySpec::One(fixed(1, 8))),
    (62, MemorySpec::One(fixed(4, 8))), // PR_SCHED_CORE: only its GET form accepts a pointer
    (0x4155_5856, MemorySpec::One(buffer(1, 2))), // PR_GET_AUXV: the result is the whole size
];

#[rustfmt::skip]
const ARCH_PRCTL_SILENT: &[i32] = &[
    0x1001, 0x1002, // ARCH_SET_GS, ARCH_SET_FS
    0x1011, 0x1012, // ARCH_GET_CPUID, ARCH_SET_CPUID
    0x1023, 0x1025, // ARCH_REQ_XCOMP_PERM, ARCH_REQ_XCOMP_GUEST_PERM
    0x2001, 0x2002, 0x2003, // ARCH_MAP_VDSO_X32, _32, _64
    0x4002, 0x4004, // ARCH_ENABLE_TAGGED_ADDR, ARCH_FORCE_TAGGED_SVA
    0x5001, 0x5002, 0x5003, 0x5004, // ARCH_SHSTK_ENABLE, _DISABLE, _LOCK, _UNLOCK
];

const ARCH_PRCTL_OUTS: &[(i32, MemorySpec)] = &[
    (0x1003, MemorySpec::One(fixed(1, 8))), // ARCH_GET_FS
    (0x1004, MemorySpec::One(fixed(1, 8))), // ARCH_GET_GS
    (0x1021, MemorySpec::One(fixed(1, 8))), // ARCH_GET_XCOMP_SUPP
    (0x1022, MemorySpec::One(fixed(1, 8))), // ARCH_GET_XCOMP_PERM
    (0x1024, MemorySpec::One(fixed(1, 8))), // ARCH_GET_XCOMP_GUEST_PERM
    (0x4001, MemorySpec::One(fixed(1, 8))), // ARCH_GET_UNTAG_MASK
    (0x4003, MemorySpec::One(fixed(1, 8))), // ARCH_GET_MAX_TAG_BITS
    (0x5005, MemorySpec::One(fixed(1, 8))), // ARCH_SHSTK_STATUS
];
