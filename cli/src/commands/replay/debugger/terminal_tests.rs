use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rr_debugger::mock::Mock;

use super::*;

/// Not a test by itself: what the other runs on a terminal.
#[test]
#[ignore = "needs a terminal"]
fn on_a_terminal() {
    let options = DebuggerOptions {
        debugger_option: ["-nx", "-q", "-iex", "set confirm off"]
            .map(OsString::from)
            .into(),
        ..DebuggerOptions::default()
    };
    let code = debug(&mut Mock::endless(), &options, false).unwrap();
    println!("ended with {code:?}");
}

/// A program on a terminal of its own; with the terminal, everything on it goes.
struct Terminal {
    master: File,
    child: Child,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Terminal {
    fn run(command: &mut Command) -> Terminal {
        let (mut master, mut slave) = (-1, -1);
        let none = std::ptr::null_mut();
        // SAFETY: two places for descriptors; no name, no settings.
        let result = unsafe { libc::openpty(&mut master, &mut slave, none, none.cast(), none.cast()) };
        assert_eq!(result, 0);
        // SAFETY: the descriptors are new, and nobody else has them.
        let (master, slave) = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
        for stream in [Command::stdin, Command::stdout, Command::stderr] {
            stream(command, slave.try_clone().unwrap());
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
        let child = command.spawn().unwrap();
        Terminal { master, child }
    }

    /// Types something; what appears up to, and with, this text.
    fn types(&mut self, keys: &str, until: &str) -> String {
        self.master.write_all(keys.as_bytes()).unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        let mut seen = String::new();
        while !seen.contains(until) {
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
                seen.push_str(&String::from_utf8_lossy(&buf[..n]));
            }
        }
        seen
    }
}

#[test]
fn an_interrupt_on_the_terminal_stops_the_program_and_not_rr() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--nocapture", "terminal_tests::on_a_terminal"]);
    command.env("TERM", "dumb");
    let mut terminal = Terminal::run(&mut command);
    terminal.types("", "(rr) ");
    terminal.types("continue\n", "Continuing.");
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    terminal.types("\x03", "received signal SIGINT, Interrupt.");
    assert!(began.elapsed() < Duration::from_secs(5));
    // One with nothing to interrupt.
    terminal.types("\x03", "(rr) ");
    terminal.types("when\n", "Completed event: 0");
    terminal.types("quit\n", "ended with ExitCode(unix_exit_status(0))");
}
