//! Processes, ids, limits, scheduling, signals.

use std::process::{Child, Command};

use super::harness::*;

const EINVAL: i32 = libc::EINVAL;

#[test]
fn waiting_for_children() {
    let child = || Command::new("/bin/true").spawn().expect("/bin/true");
    // Each run needs a child of its own, and must not take one of another test.
    let pid = |c: Child| u64::from(c.id());
    writes("wait4", |l| args([pid(child()), l.out(4), 0, l.out(144)]));
    writes("waitid", |l| args([1, pid(child()), l.out(128), 4, l.out(144)])); // P_PID, WEXITED
    let mut sleeper = Command::new("/bin/sleep").arg("100").spawn().expect("/bin/sleep");
    let id = u64::from(sleeper.id());
    assert_eq!(ok("wait4", |l| args([id, l.out(4), 1, l.out(144)])), 0); // WNOHANG
    assert_eq!(writes("waitid", |l| args([1, id, l.out(128), 5, l.out(144)])), 0);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    fails("wait4", libc::ECHILD, |l| args([id, l.out(4), 0, l.out(144)]));
    // The call writes the fields of the siginfo although it fails.
    fails("waitid", libc::ECHILD, |l| {
        args([1, id, l.out(128), 4, l.out(144)])
    });
}

#[test]
fn users_and_groups() {
    writes("getresuid", |l| args([l.out(4), l.out(4), l.out(4)]));
    writes("getresgid", |l| args([l.out(4), l.out(4), l.out(4)]));
    // The kernel writes the first id before it finds that the second address is invalid.
    fails("getresuid", libc::EFAULT, |l| args([l.out(4), 8, l.out(4)]));
    ok("getgroups", |l| args([100, l.out(400)]));
    ok("getgroups", |l| args([0, l.out(400)]));
    for version in [0x1998_0330, 0x2007_1026, 0x2008_0522] {
        writes("capget", |l| args([l.u32s(&[version, 0]), l.out(24)]));
    }
    fails("capget", EINVAL, |l| args([l.u32s(&[7, 0]), l.out(24)]));
    ok("capget", |l| args([l.u32s(&[7, 0]), 0]));
    check("lsm_list_modules", |l| args([l.out(100), l.u32s(&[100]), 0]));
    check("lsm_list_modules", |l| args([l.out(100), l.u32s(&[1]), 0]));
    check("lsm_get_self_attr", |l| {
        args([100, l.out(100), l.u32s(&[100]), 0])
    });
}

#[test]
fn limits_and_usage() {
    writes("getrlimit", |l| args([7, l.out(16)]));
    writes("prlimit64", |l| args([0, 7, 0, l.out(16)]));
    ok("prlimit64", |_| args([0, 7]));
    writes("getrusage", |l| args([0, l.out(144)]));
    fails("getrusage", EINVAL, |l| args([77, l.out(144)]));
    writes("times", |l| args([l.out(32)]));
}

#[test]
fn scheduling() {
    writes("sched_getparam", |l| args([0, l.out(4)]));
    writes("sched_rr_get_interval", |l| args([0, l.out(16)]));
    for room in [48, 56, 100, 4096] {
        writes("sched_getattr", |l| args([0, l.out(room as usize), room, 0]));
    }
    fails("sched_getattr", EINVAL, |l| args([0, l.out(8), 8, 0]));
    fails("sched_setattr", libc::E2BIG, |l| args([0, l.u64s(&[300; 40]), 0]));
    writes("sched_getaffinity", |l| args([0, 1024, l.out(1024)]));
    writes("getcpu", |l| args([l.out(4), l.out(4)]));
    writes("getcpu", |l| args([l.out(4), 0]));
    writes("get_robust_list", |l| args([0, l.out(8), l.out(8)]));
    // FUTEX_WAKE_OP: add 1 to the second word.
    writes("futex", |l| {
        args([l.u32s(&[0]), 5, 1, 1, l.u32s(&[7]), 1 << 28 | 1 << 12])
    });
    fails("futex", libc::EAGAIN, |l| args([l.u32s(&[0]), 0, 1]));
}

#[test]
fn process_controls() {
    for option in [2, 16, 25, 37, 40] {
        // PR_GET_PDEATHSIG, NAME, TSC, CHILD_SUBREAPER, TID_ADDRESS
        check("prctl", |l| args([option, l.out(16)]));
    }
    writes("prctl", |l| args([16, l.out(16)]));
    check("prctl", |l| args([0x4155_5856, l.out(100), 100])); // PR_GET_AUXV: larger than the buffer
    check("prctl", |l| args([0x4155_5856, l.out(1000), 1000]));
    check("prctl", |l| args([62, 0, 0, 0, l.out(8)])); // PR_SCHED_CORE_GET
    fails("prctl", EINVAL, |l| args([7777, l.out(8)]));
    for option in [0x1003, 0x1004, 0x1021, 0x1022, 0x1024, 0x4001, 0x4003, 0x5005] {
        check("arch_prctl", |l| args([option, l.out(8)]));
    }
    writes("arch_prctl", |l| args([0x1003, l.out(8)]));
    writes("seccomp", |l| args([3, 0, l.out(6)])); // SECCOMP_GET_NOTIF_SIZES
}

#[test]
fn signal_state() {
    writes("rt_sigaction", |l| args([libc::SIGUSR2 as u64, 0, l.out(32), 8]));
    fails("rt_sigaction", EINVAL, |l| {
        args([libc::SIGUSR2 as u64, 0, l.out(32), 16])
    });
    writes("rt_sigprocmask", |l| args([0, 0, l.out(8), 8]));
    fails("rt_sigprocmask", EINVAL, |l| args([0, 0, l.out(16), 16]));
    writes("rt_sigpending", |l| args([l.out(8), 8]));
    writes("rt_sigpending", |l| args([l.out(8), 4]));
    writes("sigaltstack", |l| args([0, l.out(24)]));
}

#[test]
fn waiting_for_signals() {
    let signal = libc::SIGUSR2;
    let mask = [1u64 << (signal - 1)];
    let thread = raw("gettid", [0; 6]) as u64;
    // The signal is blocked only in this thread, so that no other thread gets it.
    assert_eq!(raw("rt_sigprocmask", args([0, mask.as_ptr() as u64, 0, 8])), 0);
    assert_eq!(
        writes("rt_sigtimedwait", |l| {
            raw(
                "tgkill",
                args([u64::from(std::process::id()), thread, signal as u64]),
            );
            args([l.u64s(&mask), l.out(128), 0, 8])
        }),
        i64::from(signal)
    );
    // Without a time to sleep in: a SIGCHLD for the child of another test would end a sleep with EINTR.
    fails("rt_sigtimedwait", libc::EAGAIN, |l| {
        args([l.u64s(&mask), l.out(128), l.u64s(&[0, 0]), 8])
    });
}
