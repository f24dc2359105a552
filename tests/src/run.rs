//! Runs a command with a time limit.
//!
//! A recorder that hangs must fail its test and not the whole run. So the command gets its own process
//! group, and when the limit is reached, that group is killed (tracees outside of it die with their
//! tracer). Output goes to unnamed files, so that a process that outlives the command cannot block a
//! reader.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// Result of a command.
#[derive(Debug)]
pub struct Run {
    /// The command line, for messages.
    pub command: String,
    /// Status of the ended command.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Running time.
    pub elapsed: Duration,
    /// Processor time of the command and of the children that it has waited for, in steps of 10 ms. (Other than the running
    /// time, this does not grow with the load of the machine.)
    pub processor_time: Duration,
}

impl Run {
    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The program's standard error, without rr's own messages (lines that begin with `rr: `, also where the program has not ended
    /// its line, and its log).
    pub fn program_stderr(&self) -> Vec<u8> {
        let own = |line: &[u8]| {
            // The log may be coloured: "\x1b[33m WARN\x1b[0m …".
            let start = String::from_utf8_lossy(&line[..line.len().min(20)]).into_owned();
            let word = start.trim_start_matches(|c: char| !c.is_ascii_uppercase());
            let log =
                start.starts_with([' ', '\x1b']) && (word.starts_with("WARN") || word.starts_with("ERROR"));
            log || start.starts_with("rr: ")
        };
        // A warning that comes while the program is in the middle of a line ends with a line's end of its own.
        const WARNING: &[u8] = b"rr: warning: ";
        let without_warning = |line: &[u8]| {
            let at = line.windows(WARNING.len()).position(|part| part == WARNING);
            line[..at.unwrap_or(line.len())].to_vec()
        };
        self.stderr
            .split_inclusive(|&b| b == b'\n')
            .filter(|line| !own(line))
            .flat_map(without_warning)
            .collect()
    }

    /// The exit status as a shell shows it: 128 + signal for a death by signal.
    pub fn shell_status(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Checks that the command succeeded and that rr did not panic.
    #[track_caller]
    pub fn expect_success(self) -> Run {
        self.expect_status(0)
    }

    /// Checks the exit status (128 + signal for a death) and that rr did not panic.
    #[track_caller]
    pub fn expect_status(self, status: i32) -> Run {
        assert!(
            !self.err().contains("panicked"),
            "rr panicked\n{}",
            self.describe()
        );
        assert_eq!(
            self.shell_status(),
            status,
            "unexpected exit status\n{}",
            self.describe()
        );
        self
    }

    /// Everything about the run, for a message: command, status, the ends of both outputs.
    pub fn describe(&self) -> String {
        format!(
            "command: {}\nstatus: {} after {:?}\nstdout (end): {}\nstderr (end): {}",
            self.command,
            self.status,
            self.elapsed,
            tail(&self.stdout),
            tail(&self.stderr)
        )
    }
}

fn tail(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(3000)..]).into_owned()
}

/// A command that was started and not yet waited for.
pub struct Started {
    child: std::process::Child,
    command: String,
    stdout: File,
    stderr: File,
    start: Instant,
}

/// Starts a command without standard input, with its outputs in files.
#[track_caller]
pub fn start(command: &mut Command) -> Started {
    let stdout = tempfile::tempfile().expect("a temporary file for standard output");
    let stderr = tempfile::tempfile().expect("a temporary file for standard error");
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().expect("duplicate of the output file"))
        .stderr(stderr.try_clone().expect("duplicate of the error file"));
    // Whoever started the tests may have blocked signals (perf record blocks SIGWINCH), and guests wait for them.
    let unblocked = nix::sys::signal::SigSet::empty().thread_set_mask();
    unblocked.expect("an empty signal mask");
    let line = format!("{command:?}");
    let start = Instant::now();
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!("cannot start {line}: {error}"),
    };
    Started {
        child,
        command: line,
        stdout,
        stderr,
        start,
    }
}

impl Started {
    /// The process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Standard output so far.
    pub fn stdout_so_far(&self) -> Vec<u8> {
        contents(&self.stdout)
    }

    /// The process id that the program writes as its first line.
    #[track_caller]
    pub fn written_pid(&mut self, limit: Duration) -> Pid {
        loop {
            assert!(self.start.elapsed() < limit, "the program said nothing");
            let text = String::from_utf8_lossy(&self.stdout_so_far()).into_owned();
            if let Some((line, _)) = text.split_once('\n') {
                return Pid::from_raw(line.parse().expect("a process id"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns whether the command has ended. (It stays a zombie, whose times can be read.)
    pub fn ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let status = waitid(Id::Pid(self.pid()), flags).expect("wait for a child");
        status != WaitStatus::StillAlive
    }

    /// Sends a signal to the process (not to its group).
    pub fn signal(&self, signal: Signal) {
        // If the child has ended, there is nothing to signal.
        let _ = nix::sys::signal::kill(self.pid(), signal);
    }

    /// Waits for the end, for at most `limit` from now. After that, the command is killed with its group, and
    /// the test fails.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> Run {
        let from = Instant::now();
        let mut pause = Duration::from_micros(500);
        while !self.ended() {
            if from.elapsed() > limit {
                let tree = describe_tree(self.pid());
                let _ = killpg(self.pid(), Signal::SIGKILL);
                let _ = self.child.wait();
                panic!(
                    "no end within {limit:?}\ncommand: {}\nprocesses:\n{tree}stdout (end): {}\nstderr (end): {}",
                    self.command,
                    tail(&contents(&self.stdout)),
                    tail(&contents(&self.stderr))
                );
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        let elapsed = self.start.elapsed();
        let processor_time = processor_time(self.pid());
        let status = self.child.wait().expect("wait for a child");
        Run {
            command: std::mem::take(&mut self.command),
            status,
            stdout: contents(&self.stdout),
            stderr: contents(&self.stderr),
            elapsed,
            processor_time,
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // A test that failed between start and finish must not leave a recorder behind.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = killpg(self.pid(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Runs a command to its end, at most `limit` long.
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> Run {
    start(command).finish(limit)
}

/// Processor time of a process and of the children that it has waited for: proc_pid_stat(5), utime to cstime, which count
/// hundredths of a second.
fn processor_time(pid: Pid) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the state of a child");
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let times = fields.split_whitespace().skip(11).take(4);
    let ticks: u64 = times.map(|time| time.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(10 * ticks)
}

fn contents(file: &File) -> Vec<u8> {
    // The descriptor shares its offset with the child: reads that name their place leave it alone.
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read_at(&mut chunk, bytes.len() as u64) {
            Ok(0) => return bytes,
            Ok(len) => bytes.extend_from_slice(&chunk[..len]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => panic!("read an output file: {e}"),
        }
    }
}

/// The processes below `root`, one in each line, with state and current system call, to diagnose a
/// hang.
fn describe_tree(root: Pid) -> String {
    let mut text = String::new();
    let mut todo = vec![(root.as_raw(), 0)];
    while let Some((pid, depth)) = todo.pop() {
        let field = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let stat = field("stat");
        let state = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .chars()
            .next()
            .unwrap_or('?');
        let _ = writeln!(
            text,
            "{:depth$}{pid} {} {state} syscall {}",
            "",
            field("comm").trim(),
            field("syscall")
                .split(' ')
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
                .trim(),
        );
        let children = field(&format!("task/{pid}/children"));
        todo.extend(
            children
                .split_whitespace()
                .filter_map(|c| c.parse().ok())
                .map(|c| (c, depth + 2)),
        );
    }
    text
}

/// Checks that no process works in a directory, or none after a moment: tracees and frozen forks die
/// with their rr.
#[track_caller]
pub fn no_process_left_in(dir: &Path) {
    let dir = dir.canonicalize().expect("a directory");
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let left: Vec<String> = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| std::fs::read_link(format!("/proc/{name}/cwd")).is_ok_and(|cwd| cwd == dir))
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "processes left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
