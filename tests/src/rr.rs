//! The `rr` binary under test and its traces.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use crate::run::{Run, Started, run, start};

/// `nobody`: the unprivileged user that tests switch to when they are root.
pub const NOBODY: u32 = 65534;

/// An `rr` with its own working directories, traces, and user.
pub struct Rr {
    bin: PathBuf,
    home: TempDir,
    user: Option<u32>,
    /// The time limit of every command.
    pub limit: Duration,
    /// True if recordings keep frozen forks of small programs, too.
    keeps_forks: bool,
}

/// The output of `rr traceinfo` (the keys that tests need).
#[derive(Debug, Deserialize)]
pub struct TraceInfo {
    /// The number of the last event.
    pub events: u64,
    /// True if the recording ended properly.
    pub complete: bool,
    /// Number of system calls that were buffered in the program and have no event of their own.
    #[serde(default, rename = "bufferedCalls")]
    pub buffered_calls: Option<u64>,
    /// True if every `cpuid` was intercepted.
    #[serde(rename = "cpuidFaulting")]
    pub cpuid_faulting: bool,
    /// True if no instruction of the program could tell it on which CPU it ran.
    #[serde(rename = "cpuHidden")]
    pub cpu_hidden: bool,
    /// The checkpoints in the trace, by event.
    pub checkpoints: Vec<Checkpoint>,
}

/// The output of `rr traceinfo` about a checkpoint.
#[derive(Debug, Deserialize)]
pub struct Checkpoint {
    /// The event of the checkpoint.
    pub event: u64,
    /// Number of tasks.
    pub tasks: u64,
    /// Time that the recording was stopped for the checkpoint, in microseconds.
    pub pause_us: f64,
    /// Number of pages examined.
    pub pages_scanned: u64,
    /// Number of pages stored as references.
    pub pages_referenced: u64,
    /// Number of pages stored with their contents.
    pub pages_stored: u64,
    /// Size of the checkpoint's file.
    pub bytes: u64,
    /// Time to write the checkpoint, while the recording went on, in milliseconds.
    pub write_ms: f64,
}

/// A trace, and the run of the recorder that made it.
pub struct Recording<'a> {
    rr: &'a Rr,
    /// The trace directory.
    pub dir: PathBuf,
    /// The recorder's run: status and output of the recorded program.
    pub run: Run,
}

/// The binary: `$RR_BIN`, or built in this workspace in the profile of the tests.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("RR_BIN") {
            return PathBuf::from(path);
        }
        let exe = std::env::current_exe().expect("the test's own path");
        let profile_dir = exe
            .ancestors()
            .nth(2)
            .expect("a test binary below the target directory");
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the workspace");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["build", "--quiet", "--bin", "rr"])
            .current_dir(workspace);
        cargo
            .arg("--target-dir")
            .arg(profile_dir.parent().expect("the target directory"));
        if profile_dir.file_name() == Some(OsStr::new("release")) {
            cargo.arg("--release");
        }
        run(&mut cargo, Duration::from_secs(900)).expect_success();
        profile_dir.join("rr")
    })
}

impl Rr {
    /// An `rr` that runs as the user of the tests.
    pub fn new() -> Rr {
        Rr {
            bin: binary().to_owned(),
            home: temp_home(&std::env::temp_dir()),
            user: None,
            limit: Duration::from_secs(120),
            keeps_forks: false,
        }
    }

    /// An `rr` that runs as `nobody`. `None` if the tests have no right to change the user.
    pub fn unprivileged() -> Option<Rr> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let mut rr = Rr::new();
        rr.user = Some(NOBODY);
        let home = rr.home.path().to_owned();
        // The target directory may be inaccessible to nobody.
        let copy = home.join("rr");
        copy_program(&rr.bin, &copy);
        for path in [&home, &copy] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
            std::os::unix::fs::chown(path, rr.user, rr.user).expect("chown");
        }
        rr.bin = copy;
        Some(rr)
    }

    /// Keeps the traces in a file system of memory, where nothing ever waits for a disk.
    pub fn with_traces_in_memory(mut self) -> Rr {
        self.home = temp_home(Path::new("/dev/shm"));
        self
    }

    /// Sets the time limit of every command.
    pub fn with_limit(mut self, limit: Duration) -> Rr {
        self.limit = limit;
        self
    }

    /// Lets recordings (of a debug build) treat small programs like programs of many megabytes: the
    /// frozen fork of each checkpoint is kept for the next one, to find changed pages. Recordings with
    /// an interval of one event do so anyway.
    pub fn with_kept_forks(mut self) -> Rr {
        self.keeps_forks = true;
        self
    }

    /// The directory of traces and working directories.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The binary.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// A new empty directory that belongs to the user of this `rr`.
    pub fn new_dir(&self) -> PathBuf {
        let dir = tempfile::Builder::new()
            .prefix("work")
            .tempdir_in(self.home())
            .expect("a working directory")
            .keep();
        self.give(&dir);
        dir
    }

    /// Gives a file or directory to the user of this `rr`.
    pub fn give(&self, path: &Path) {
        if self.user.is_some() {
            std::os::unix::fs::chown(path, self.user, self.user).expect("chown");
        }
    }

    /// A program that this `rr`'s user can run: the program itself, or a copy if the original is
    /// inaccessible.
    pub fn reachable(&self, program: &Path) -> PathBuf {
        if self.user.is_none() {
            return program.to_owned();
        }
        let name = program.file_name().expect("a program has a name");
        let copy = self.home().join(name);
        if !copy.exists() {
            copy_program(program, &copy);
            std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        copy
    }

    /// Any command, run as the user of this `rr` in `cwd`.
    pub fn plain_command(&self, program: &OsStr, cwd: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(cwd)
            .env("HOME", self.home())
            .env("_RR_TRACE_DIR", self.home().join("traces"));
        command
            .env_remove("GUEST_RECORDED")
            .env("LC_ALL", "C")
            .env_remove("RUST_BACKTRACE")
            // Cargo sets this for tests. With it, each loader looks for its libraries in some hundred directories.
            .env_remove("LD_LIBRARY_PATH");
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        with_default_signals(&mut command);
        command
    }

    /// An `rr` command.
    pub fn command<I, S>(&self, args: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = self.plain_command(self.bin.as_os_str(), self.home());
        command.args(args);
        command
    }

    /// Runs an `rr` command.
    #[track_caller]
    pub fn rr<I, S>(&self, args: I) -> Run
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        run(&mut self.command(args), self.limit)
    }

    /// The command that records a program into `dir`.
    pub fn record_command(&self, options: &[&str], dir: &Path, cwd: &Path, program: &[OsString]) -> Command {
        let mut command = self.plain_command(self.bin.as_os_str(), cwd);
        command
            .arg("record")
            .args(options)
            .args(["-v", "GUEST_RECORDED=1", "-o"])
            .arg(dir)
            .args(program);
        if self.keeps_forks || options.contains(&"1e") {
            command.env("RR_TEST_BASELINE_MIN", "0");
        }
        command
    }

    /// A path for a new trace.
    pub fn new_trace(&self) -> PathBuf {
        self.new_dir().join("trace")
    }

    /// Records a program in a new empty directory.
    #[track_caller]
    pub fn record(&self, options: &[&str], program: &[OsString]) -> Recording<'_> {
        self.record_in(options, program, &self.new_dir())
    }

    /// Records a program in a given directory.
    #[track_caller]
    pub fn record_in(&self, options: &[&str], program: &[OsString], cwd: &Path) -> Recording<'_> {
        let dir = self.new_trace();
        let run = run(&mut self.record_command(options, &dir, cwd, program), self.limit);
        assert!(!run.err().contains("panicked"), "rr panicked\n{}", run.describe());
        Recording { rr: self, dir, run }
    }

    /// Starts recording and returns at once, with the directory of the trace.
    #[track_caller]
    pub fn start_recording(&self, options: &[&str], program: &[OsString], cwd: &Path) -> (Started, PathBuf) {
        let dir = self.new_trace();
        (start(&mut self.record_command(options, &dir, cwd, program)), dir)
    }

    /// The trace of a started recorder.
    pub fn recording_from(&self, dir: PathBuf, run: Run) -> Recording<'_> {
        Recording { rr: self, dir, run }
    }

    /// Runs a program natively, in the same way as its recording.
    #[track_caller]
    pub fn native(&self, program: &[OsString], cwd: &Path) -> Run {
        let mut command = self.plain_command(&program[0], cwd);
        command.args(&program[1..]);
        run(&mut command, self.limit)
    }
}

/// Lets a command ignore no signal, whoever started the tests: `nohup` ignores `SIGHUP`, and a script's
/// `… &` ignores `SIGINT`.
fn with_default_signals(command: &mut Command) {
    // SAFETY: plain system calls, allowed between fork and exec; no disposition set here runs code.
    unsafe {
        command.pre_exec(|| {
            // Signals that cannot be changed are never ignored.
            for signal in 1..=libc::SIGRTMAX() {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
}

/// Copies a program that is to be executed soon.
///
/// Another process makes the copy. If this process had a descriptor open for writing, a child that
/// another thread is about to start would hold it too until its own exec, and executing the copy would
/// fail meanwhile (ETXTBSY).
pub fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("--")
        .arg(from)
        .arg(to)
        .status()
        .expect("run cp");
    assert!(status.success(), "cannot copy {from:?} to {to:?}: {status}");
}

impl Default for Rr {
    fn default() -> Self {
        Rr::new()
    }
}

fn temp_home(parent: &Path) -> TempDir {
    let mut home = tempfile::Builder::new()
        .prefix("rr-tests-")
        .tempdir_in(parent)
        .expect("a temporary directory");
    if std::env::var_os("RR_TESTS_KEEP").is_some() {
        home.disable_cleanup(true);
        eprintln!("kept: {}", home.path().display());
    }
    home
}

impl Recording<'_> {
    /// An `rr` command on this trace: `args[0]`, the rest of `args`, then the directory.
    #[track_caller]
    pub fn rr(&self, args: &[&str]) -> Run {
        let args = args
            .iter()
            .map(|arg| OsString::from(*arg))
            .chain([self.dir.clone().into_os_string()]);
        self.rr.rr(args)
    }

    /// Runs `rr replay -a …`, whatever its status is.
    #[track_caller]
    pub fn replay(&self, options: &[&str]) -> Run {
        self.rr(&[&["replay", "-a"], options].concat())
    }

    /// `rr traceinfo`.
    #[track_caller]
    pub fn info(&self) -> TraceInfo {
        let run = self.rr(&["traceinfo"]).expect_success();
        match serde_json::from_slice(&run.stdout) {
            Ok(info) => info,
            Err(error) => panic!("traceinfo: {error}\n{}", run.describe()),
        }
    }

    /// Runs `rr verify`, which must find nothing.
    #[track_caller]
    pub fn verify(&self) -> Run {
        self.rr(&["verify"]).expect_success()
    }

    /// Removes the trace before the end of the test, because some are large.
    pub fn remove(self) {
        let parent = self.dir.parent().expect("a trace lies in a directory of its own");
        if std::env::var_os("RR_TESTS_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(parent);
        }
    }
}

/// A command line from strings and paths.
pub fn words<I, S>(words: I) -> Vec<OsString>
where
    I: IntoIterator<Item = S>,
    S: Into<OsString>,
{
    words.into_iter().map(Into::into).collect()
}
