//! Waiting for descriptors and for time, also interrupted; queues.

use std::cell::RefCell;
use std::io::{Write, pipe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::harness::*;

const SIGNALS: u64 = 8;

#[test]
fn descriptors_that_are_ready() {
    let (from, mut to) = pipe().unwrap();
    let (empty, _other_end) = pipe().unwrap();
    to.write_all(b"x").unwrap();
    let polled = |l: &mut Layout| {
        let entry = |fd: u64| fd | 1 << 32 | 0xffff << 48; // POLLIN, and revents that will change
        let entries = [entry(fd(&from)), entry(fd(&empty)), entry(u64::from(u32::MAX))];
        l.u64s(&entries)
    };
    assert_eq!(writes("poll", |l| args([polled(l), 3, 1000])), 1);
    assert_eq!(
        writes("ppoll", |l| args([
            polled(l),
            3,
            l.u64s(&[9, 0]),
            l.u64s(&[0]),
            SIGNALS
        ])),
        1
    );
    // Nothing is ready in time.
    assert_eq!(writes("poll", |l| args([polled(l) + 8, 1, 5])), 0);
    assert_eq!(
        writes("ppoll", |l| args([
            polled(l) + 8,
            1,
            l.u64s(&[0, 5_000_000]),
            0,
            0
        ])),
        0
    );
    fails("poll", libc::EINVAL, |l| args([polled(l), 1 << 30, 0]));

    let sets = |l: &mut Layout| {
        let bits = |fds: &[u64]| {
            let mut set = vec![0u64; 16];
            fds.iter().for_each(|f| set[*f as usize / 64] |= 1 << (f % 64));
            set
        };
        let readable = bits(&[fd(&from), fd(&empty)]);
        [l.u64s(&readable), l.u64s(&bits(&[fd(&to)])), l.u64s(&readable)]
    };
    for nfds in [fd(&from).max(fd(&to)).max(fd(&empty)) + 1, 1024] {
        let result = writes("select", |l| {
            let [r, w, e] = sets(l);
            args([nfds, r, w, e, l.u64s(&[9, 0])])
        });
        assert_eq!(result, 2);
        let result = writes("pselect6", |l| {
            let [r, w, e] = sets(l);
            args([nfds, r, w, e, l.u64s(&[9, 0]), 0])
        });
        assert_eq!(result, 2);
    }
    fails("select", libc::EINVAL, |l| {
        let [r, w, e] = sets(l);
        args([u64::from(u32::MAX), r, w, e, 0])
    });
    fails("select", libc::EBADF, |l| {
        args([1024, l.u64s(&[u64::MAX; 16]), 0, 0, l.u64s(&[0, 0])])
    });

    let epoll = take(raw("epoll_create1", [0; 6]));
    let event = [1u32, 7, 8];
    assert_eq!(
        raw(
            "epoll_ctl",
            args([fd(&epoll), 1, fd(&from), event.as_ptr() as u64])
        ),
        0
    );
    assert_eq!(writes("epoll_wait", |l| args([fd(&epoll), l.out(120), 10, 0])), 1);
    assert_eq!(
        writes("epoll_pwait", |l| args([
            fd(&epoll),
            l.out(120),
            10,
            0,
            0,
            SIGNALS
        ])),
        1
    );
    let result = writes("epoll_pwait2", |l| {
        args([fd(&epoll), l.out(120), 10, l.u64s(&[0, 0]), 0, SIGNALS])
    });
    assert_eq!(result, 1);
    fails("epoll_wait", libc::EINVAL, |l| {
        args([fd(&epoll), l.out(120), 0, 0])
    });
}

extern "C" fn ignore(_: libc::c_int) {}

/// Runs a function that sleeps for seconds while this thread gets signals with a handler.
fn interrupted(what: impl FnOnce()) {
    // SAFETY: the handler does nothing; no other test uses this signal.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let (process, thread) = (u64::from(std::process::id()), raw("gettid", [0; 6]) as u64);
    /// Ends the signals even if a check fails.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
                raw("tgkill", args([process, thread, libc::SIGUSR1 as u64]));
            }
        });
        let _end = End(&over);
        what();
    });
}

#[test]
fn sleeps_that_are_interrupted() {
    interrupted(|| {
        fails("nanosleep", libc::EINTR, |l| args([l.u64s(&[90, 0]), l.out(16)]));
        fails("nanosleep", libc::EINTR, |l| args([l.u64s(&[90, 0]), 0]));
        fails("nanosleep", libc::EINTR, |l| {
            let both = l.u64s(&[90, 0]);
            args([both, both])
        });
        fails("clock_nanosleep", libc::EINTR, |l| {
            args([1, 0, l.u64s(&[90, 0]), l.out(16)])
        });
        fails("clock_nanosleep", libc::EINTR, |l| {
            args([1, 1, l.u64s(&[1 << 40, 0]), l.out(16)])
        });
        let (empty, _other_end) = pipe().unwrap();
        let entry = fd(&empty) | 1 << 32 | 0xffff << 48;
        fails("poll", libc::EINTR, |l| args([l.u64s(&[entry]), 1, 90_000]));
        fails("ppoll", libc::EINTR, |l| {
            args([l.u64s(&[entry]), 1, l.u64s(&[90, 0]), 0, 0])
        });
        let set = |l: &mut Layout| {
            l.u64s(&{
                let mut set = [0u64; 16];
                set[fd(&empty) as usize / 64] |= 1 << (fd(&empty) % 64);
                set
            })
        };
        fails("select", libc::EINTR, |l| {
            args([fd(&empty) + 1, set(l), 0, 0, l.u64s(&[90, 0])])
        });
        fails("pselect6", libc::EINTR, |l| {
            args([fd(&empty) + 1, set(l), 0, 0, l.u64s(&[90, 0]), 0])
        });
        fails("read", libc::EINTR, |l| args([fd(&empty), l.out(100), 100]));
        fails("pause", libc::EINTR, |_| [0; 6]);
        fails("futex", libc::EINTR, |l| {
            args([l.u32s(&[1]), 0, 1, l.u64s(&[90, 0])])
        });
        fails("rt_sigsuspend", libc::EINTR, |l| args([l.u64s(&[0]), 8]));
    });
    ok("nanosleep", |l| args([l.u64s(&[0, 1000]), l.out(16)]));
    fails("nanosleep", libc::EINVAL, |l| {
        args([l.u64s(&[0, 1 << 40]), l.out(16)])
    });
}

#[test]
fn system_v_queues_and_semaphores() {
    let queue = raw("msgget", args([libc::IPC_PRIVATE as u64, 0o600]));
    assert!(queue >= 0);
    let queue = queue as u64;
    let sent = RefCell::new(0);
    let result = writes("msgrcv", |l| {
        let text = l.u64s(&[5, 0x1122_3344_5566_7788, 0x99aa]);
        assert_eq!(raw("msgsnd", args([queue, text, 11, 0])), 0);
        *sent.borrow_mut() += 1;
        args([queue, l.out(108), 100, 0, 0])
    });
    assert_eq!((result, *sent.borrow()), (11, 5));
    fails("msgrcv", libc::ENOMSG, |l| {
        args([queue, l.out(108), 100, 0, libc::IPC_NOWAIT as u64])
    });
    for command in [2, 3, 12] {
        writes("msgctl", |l| args([queue, command, l.out(120)]));
    }
    raw("msgctl", args([queue, 0]));

    let set = raw("semget", args([libc::IPC_PRIVATE as u64, 5, 0o600]));
    assert!(set >= 0);
    let set = set as u64;
    for command in [2, 3, 19, 13] {
        // IPC_STAT, IPC_INFO, SEM_INFO, GETALL
        writes("semctl", |l| args([set, 0, command, l.out(70_000)]));
    }
    ok("semctl", |_| args([set, 0, libc::GETVAL as u64]));
    raw("semctl", args([set, 0, 0]));

    let memory = raw("shmget", args([libc::IPC_PRIVATE as u64, 4096, 0o600]));
    assert!(memory >= 0);
    let memory = memory as u64;
    for command in [2, 3, 14] {
        writes("shmctl", |l| args([memory, command, l.out(120)]));
    }
    raw("shmctl", args([memory, 0]));
}

#[test]
fn posix_message_queues() {
    let name = std::ffi::CString::new(format!("rr-syscalls-{}", std::process::id())).unwrap();
    let flags = (libc::O_CREAT | libc::O_RDWR | libc::O_NONBLOCK) as u64;
    let queue = raw("mq_open", args([name.as_ptr() as u64, flags, 0o600, 0]));
    if queue < 0 {
        eprintln!("no message queues here (errno {}): not tested", -queue);
        return;
    }
    let queue = take(queue);
    raw("mq_unlink", args([name.as_ptr() as u64]));
    writes("mq_getsetattr", |l| args([fd(&queue), 0, l.out(64)]));
    let result = writes("mq_timedreceive", |l| {
        assert_eq!(
            raw("mq_timedsend", args([fd(&queue), l.text("hello"), 5, 3, 0])),
            0
        );
        args([fd(&queue), l.out(8192), 8192, l.out(4), 0])
    });
    assert_eq!(result, 5);
    fails("mq_timedreceive", libc::EAGAIN, |l| {
        args([fd(&queue), l.out(8192), 8192, l.out(4), 0])
    });
}
