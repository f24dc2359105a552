//! A seccomp filter that rr itself runs under, as containers have it.
//!
//! If such a filter refuses a call with an error, it does so before our filter is asked: of several
//! filters the most restrictive answer counts (seccomp(2)). So there is no stop at such a call, and no
//! event. The answer depends only on the call. So it is determined once, by a child that tries all
//! calls without making any of them, and kept in the trace's header. Replay answers the same
//! (`rr_trace::Header::refused`).
//!
//! A filter can look at arguments, so some commonly refused ones are tried. Such a call is refused with
//! one error or not at all.

use std::collections::BTreeMap;

use nix::errno::Errno;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::task::{Resume, Stop, Waited};
use rr_tracee::{Registers, Running, Stopped, Tid};

use crate::error::{Error, Result};
use crate::seccomp::ours;

/// Calls beyond this number do not exist yet.
const NUMBERS: i64 = 512;

/// Result of a call in the child if no filter has refused the call.
const NOT_REFUSED: i64 = 0x5252;

/// The argument of the `exit_group` that ends the child.
const LAST: u64 = 0x5253;

/// Calls with arguments that filters check: namespaces, virtual machines' sockets, personalities, input
/// for other terminals.
const WITH_ARGUMENTS: &[(i64, [u64; 2])] = &[
    (libc::SYS_clone, [0x7e02_0000, 0]),
    (libc::SYS_clone, [libc::CLONE_NEWUSER as u64, 0]),
    (libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0]),
    (libc::SYS_socket, [libc::AF_VSOCK as u64, 0]),
    (libc::SYS_socket, [libc::AF_NETLINK as u64, 0]),
    (libc::SYS_personality, [libc::ADDR_NO_RANDOMIZE as u64, 0]),
    (libc::SYS_ioctl, [0, libc::TIOCSTI]),
    (libc::SYS_ioctl, [0, libc::TIOCLINUX]),
];

/// The calls that a filter refuses, with their error numbers. Empty if there is no filter.
pub fn survey() -> Result<BTreeMap<i64, i32>> {
    // SAFETY: prctl with plain numbers.
    let mode = unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) };
    if mode != libc::SECCOMP_MODE_FILTER as i32 {
        return Ok(BTreeMap::new());
    }
    let failed = |what, errno| Error::Capability {
        what,
        errno,
        advice: "the machine is short of resources",
    };
    let (go_read, go_write) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| failed("pipe", e))?;
    // SAFETY: the child calls only async-signal-safe functions.
    let child = match unsafe { libc::fork() } {
        -1 => return Err(failed("fork", Errno::last())),
        0 => try_all(&go_read),
        pid => Tid(pid),
    };
    let told = watch(child, &go_write);
    rr_tracee::task::kill(child);
    while let Some(report) = rr_tracee::task::wait(Some(child), false).filter(|r| !r.is_gone()) {
        if let Ok(Waited::Stopped(dying, _)) = Running::newborn(child).waited(report) {
            let _ = dying.resume(Resume::Cont, None);
        }
    }
    Ok(told?)
}

/// The child: tries all calls and never returns.
fn try_all(go: &std::os::fd::OwnedFd) -> ! {
    use std::os::fd::AsRawFd;
    let mut byte = 0u8;
    // SAFETY: system calls with plain arguments, none of which is made once the filter is there.
    unsafe {
        libc::read(go.as_raw_fd(), (&raw mut byte).cast(), 1);
        if ours::install().is_ok() {
            let all = (0..NUMBERS).map(|n| (n, [0, 0]));
            for (number, [first, second]) in all.chain(WITH_ARGUMENTS.iter().copied()) {
                let result = libc::syscall(number, first, second, 0, 0, 0, 0);
                if result != NOT_REFUSED {
                    // Tells the parent, which reads the arguments.
                    libc::syscall(libc::SYS_exit, LAST, number, *libc::__errno_location());
                }
            }
            libc::syscall(libc::SYS_exit_group, LAST);
        }
        libc::_exit(1);
    }
}

/// Watches the child while it tries its calls, none of which is made.
fn watch(child: Tid, go: &std::os::fd::OwnedFd) -> rr_tracee::Result<BTreeMap<i64, i32>> {
    let mut refused = BTreeMap::new();
    let mut running = Running::seize(child)?;
    // If the child cannot read this, it has died, which is noticed next.
    let _ = nix::unistd::write(go, b"g");
    loop {
        let (mut stopped, stop): (Stopped, Stop) = match running.wait()? {
            Waited::Stopped(stopped, stop) => (stopped, stop),
            // The filter kills for some calls. No program makes these for long.
            Waited::Gone(_) => return Ok(refused),
        };
        if stop == Stop::Seccomp {
            let regs = stopped.regs()?;
            match (regs.syscall(), regs.rdi) {
                (libc::SYS_exit_group, LAST) => return Ok(refused),
                (libc::SYS_exit, LAST) => {
                    refused.insert(regs.rsi as i64, regs.rdx as i32);
                }
                _ => {}
            }
            stopped.set_regs(&Registers {
                rax: NOT_REFUSED as u64,
                orig_rax: NOT_IN_SYSCALL,
                ..regs
            })?;
        } else if stop == Stop::Exiting {
            stopped.resume(Resume::Cont, None)?;
            return Ok(refused);
        }
        running = stopped.resume(Resume::Cont, None)?;
    }
}
