//! Clocks and timers, the machine, keys.

use super::harness::*;

#[test]
fn clocks() {
    writes("time", |l| args([l.out(8)]));
    ok("time", |_| [0; 6]);
    writes("gettimeofday", |l| args([l.out(16), l.out(8)]));
    for clock in [0, 1, 2, 3, 4, 5, 7] {
        writes("clock_gettime", |l| args([clock, l.out(16)]));
        writes("clock_getres", |l| args([clock, l.out(16)]));
    }
    ok("clock_getres", |_| args([1, 0]));
    fails("clock_gettime", libc::EINVAL, |l| args([77, l.out(16)]));
    // Reading only: no mode is set.
    ok("adjtimex", |l| args([l.put(&[0; 208])]));
    ok("clock_adjtime", |l| args([0, l.put(&[0; 208])]));
    // The kernel writes although the call fails: the mode is invalid, or not allowed.
    check("adjtimex", |l| args([l.put(&[0x40; 208])]));
    check("clock_adjtime", |l| args([77, l.put(&[0; 208])]));
}

#[test]
fn timers() {
    writes("getitimer", |l| args([0, l.out(32)]));
    // ITIMER_VIRTUAL, switched off.
    writes("setitimer", |l| args([1, l.u64s(&[0; 4]), l.out(32)]));
    fails("setitimer", libc::EINVAL, |l| {
        args([77, l.u64s(&[0; 4]), l.out(32)])
    });

    let fires_late = [0, 0, 1 << 30, 5];
    let timer = take(raw("timerfd_create", args([1, 0])));
    writes("timerfd_settime", |l| {
        args([fd(&timer), 0, l.u64s(&fires_late), l.out(32)])
    });
    writes("timerfd_gettime", |l| args([fd(&timer), l.out(32)]));
}

#[test]
fn asynchronous_input_and_output() {
    writes("io_setup", |l| args([1, l.put(&[0; 8])]));
    fails("io_setup", libc::EINVAL, |l| args([0, l.put(&[0; 8])]));
    let mut context = 0u64;
    let at = std::ptr::from_mut(&mut context) as u64;
    assert_eq!(raw("io_setup", args([8, at])), 0);
    let dir = Dir::new();
    let file = dir.file("file", b"contents");
    // struct iocb: IOCB_CMD_FSYNC (2) of the file.
    let sync = [0, 0, 2 | fd(&file) << 32, 0, 0, 0, 0, 0];
    let list = [sync.as_ptr() as u64];
    let submit = || assert_eq!(raw("io_submit", args([context, 1, list.as_ptr() as u64])), 1);
    for call in ["io_getevents", "io_pgetevents"] {
        writes(call, |l| {
            submit();
            args([context, 1, 2, l.out(64)])
        });
        ok(call, |l| args([context, 0, 2, l.out(64)]));
        fails(call, libc::EINVAL, |l| args([context, 3, 2, l.out(64)]));
    }
    fails("io_cancel", libc::EINVAL, |_| args([context, list[0]]));
    assert_eq!(raw("io_destroy", args([context])), 0);
}

#[test]
fn posix_timers() {
    // struct sigevent: value, signal, SIGEV_NONE.
    let event = [0, 1 << 32, 0, 0, 0, 0, 0, 0];
    // The timers end with the process.
    writes("timer_create", |l| args([1, l.u64s(&event), l.out(4)]));
    let mut id = 0u32;
    let at = std::ptr::from_mut(&mut id) as u64;
    assert_eq!(raw("timer_create", args([1, event.as_ptr() as u64, at])), 0);
    let timer = u64::from(id);
    writes("timer_settime", |l| {
        args([timer, 0, l.u64s(&[0, 0, 1 << 30, 5]), l.out(32)])
    });
    writes("timer_gettime", |l| args([timer, l.out(32)]));
    fails("timer_gettime", libc::EINVAL, |l| args([77_777, l.out(32)]));
    assert_eq!(raw("timer_delete", args([timer])), 0);
}

#[test]
fn the_machine() {
    writes("uname", |l| args([l.out(390)]));
    writes("sysinfo", |l| args([l.out(112)]));
    assert_eq!(writes("getrandom", |l| args([l.out(64), 64, 0])), 64);
    ok("getrandom", |l| args([l.out(64), 0, 0]));
    fails("getrandom", libc::EINVAL, |l| args([l.out(64), 64, 77]));
    // SYSLOG_ACTION_READ_ALL and SIZE_BUFFER, which need privileges.
    check("syslog", |l| args([3, l.out(1000), 1000]));
    check("syslog", |_| args([10]));
    check("quotactl", |l| {
        args([0x8000_0700, l.text("/dev/no"), 0, l.out(72)])
    });
}

#[test]
fn keys() {
    let ring = raw("keyctl", args([0, u64::from(-3i32 as u32), 1])); // GET_KEYRING_ID of the session's
    if ring < 0 {
        eprintln!("no keys here (errno {}): not tested", -ring);
        return;
    }
    let process = u64::from(-2i32 as u32); // KEY_SPEC_PROCESS_KEYRING
    let (kind, name) = (c"user", c"rr-syscalls");
    let value = b"secret";
    let key = raw(
        "add_key",
        args([
            kind.as_ptr() as u64,
            name.as_ptr() as u64,
            value.as_ptr() as u64,
            6,
            process,
        ]),
    );
    if key < 0 {
        return;
    }
    let key = key as u64;
    for room in [0, 3, 100] {
        check("keyctl", |l| args([6, key, l.out(100), room])); // DESCRIBE
        check("keyctl", |l| args([11, key, l.out(100), room])); // READ
        check("keyctl", |l| args([17, key, l.out(100), room])); // GET_SECURITY
        check("keyctl", |l| args([31, l.out(100), room])); // CAPABILITIES
    }
    assert_eq!(raw("keyctl", args([3, key])), 0); // REVOKE
}
