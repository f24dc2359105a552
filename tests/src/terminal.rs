//! A command on a terminal of its own, and its output there.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The running command. Dropping this ends it and all processes of its session's first group.
pub struct Terminal {
    master: File,
    child: Child,
    /// Output that has appeared and was not waited for.
    rest: String,
    /// Maximum time that [`Terminal::types`] waits for its text.
    pub limit: Duration,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

impl Terminal {
    /// Runs a command on a new terminal.
    #[track_caller]
    pub fn run(command: &mut Command) -> Terminal {
        let (master, slave) = open_terminal();
        for stream in [Command::stdin, Command::stdout, Command::stderr] {
            stream(
                command,
                slave.try_clone().expect("another descriptor of the terminal"),
            );
        }
        // SAFETY: system calls between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().expect("start the command");
        Terminal {
            master,
            child,
            rest: String::new(),
            limit: Duration::from_secs(60),
        }
    }

    /// The process of the command.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Types something. Returns the output up to and including the text `until`.
    #[track_caller]
    pub fn types(&mut self, keys: &str, until: &str) -> String {
        self.master.write_all(keys.as_bytes()).expect("type");
        let end = Instant::now() + self.limit;
        let mut seen = std::mem::take(&mut self.rest);
        loop {
            if let Some(at) = seen.find(until) {
                self.rest = seen.split_off(at + until.len());
                return seen;
            }
            assert!(Instant::now() < end, "no {until:?} after {keys:?}:\n{seen}");
            let mut fds = [libc::pollfd {
                fd: self.master.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            }];
            // SAFETY: one entry, and it is ours.
            if unsafe { libc::poll(fds.as_mut_ptr(), 1, 100) } > 0 {
                let mut buf = [0; 1024];
                let n = self.master.read(&mut buf).unwrap_or(0);
                assert!(
                    n > 0,
                    "the terminal is closed; no {until:?} after {keys:?}:\n{seen}"
                );
                seen.push_str(&String::from_utf8_lossy(&buf[..n]));
            }
        }
    }

    /// Waits for the end of the command. Returns its exit status.
    #[track_caller]
    pub fn ends(&mut self) -> Option<i32> {
        let end = Instant::now() + self.limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for the command") {
                return status.code();
            }
            assert!(Instant::now() < end, "the command does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Both ends of a new terminal. Neither is ever open in a process that another thread starts: a terminal hangs up only when nobody
/// has its master any more.
fn open_terminal() -> (File, File) {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_NOCTTY);
    let master = options.open("/dev/ptmx").expect("a new terminal");
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: system calls on the master of a terminal, which touch no memory of ours.
    let slave = unsafe {
        assert_eq!(
            libc::unlockpt(master.as_raw_fd()),
            0,
            "{}",
            io::Error::last_os_error()
        );
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags)
    };
    assert!(slave >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the descriptor is new, and nobody else has it.
    (master, unsafe { File::from_raw_fd(slave) })
}
