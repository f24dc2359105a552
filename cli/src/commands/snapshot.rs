//! `rr snapshot`: packs what there is of a recording that is being made, while the program goes on.
//!
//! A process of its own does this, with low priority, beside the CPU of the recording. It links the files of the trace first
//! ([`rr_trace::links`]), so the recorder may delete what it wants meanwhile. The recorder starts the same process when it gets a
//! `SIGUSR1`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use nix::unistd::ForkResult;
use rr_trace::links::Links;
use rr_trace::pack::EXTENSION;
use rr_trace::{Hold, TraceReader};
use rr_tracee::cpus::{Cpus, bind_thread, set_of};

use crate::commands::pack;
use crate::secrets::SecretNames;
use crate::size::Size;
use crate::{interrupt, traces};

/// The command line of `rr snapshot`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Pack a recording that is being made, while the program goes on",
    long_about = "Put what there is of a recording into one file (see rr pack) while it is being made: the program is neither stopped nor slowed \
    down. With rr record --keep-last that is its last part. A SIGUSR1 to rr record does the same.\n\n\
    The file is named TRACE-snapshot-N.rrpack and lies beside the recording, unless -o says otherwise.\n\n\
    Example: rr snapshot $(pidof my-server)"
)]
pub struct Options {
    /// The file to make
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    secrets: SecretNames,
    /// For rr record, which does not wait for the snapshot
    #[arg(long, hide = true)]
    detached: bool,
    /// A trace directory or name, or the number of a process that is being recorded, or of the rr that records it; the latest trace
    /// if omitted
    #[arg(value_name = "PID|TRACE")]
    what: Option<PathBuf>,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.detached && detach()? == Side::Starter {
        return Ok(ExitCode::SUCCESS);
    }
    be_modest();
    let made = snapshot(options);
    match made {
        Err(_) if interrupt::is_requested() => Ok(interrupt::ended("nothing is left of it")),
        // Nobody looks at the exit status.
        Err(e) if options.detached => Err(e.context("the snapshot failed; the recording goes on")),
        made => made.map(|()| ExitCode::SUCCESS),
    }
}

fn snapshot(options: &Options) -> Result<()> {
    let trace = match options.what.as_deref().map(|what| (what, number(what))) {
        Some((what, Some(pid))) if !what.exists() => trace_of(pid)?,
        what => traces::find(what.map(|(what, _)| what))?,
    };
    let trace = trace
        .canonicalize()
        .with_context(|| format!("cannot find {}", trace.display()))?;
    let (_kept, reader) = as_it_is(&trace)?;
    keep_off(reader.header().bound_cpu);
    if reader.last_event() < reader.first_event() {
        bail!("{}: nothing is recorded yet", trace.display());
    }
    let target = match &options.output {
        Some(path) => path.clone(),
        None => free_name(&trace),
    };
    options.secrets.tell(&reader);
    interrupt::notice();
    eprintln!(
        "rr: snapshot of events {} to {} into {}",
        reader.first_event(),
        reader.last_event(),
        target.display()
    );
    let packed = pack::pack(&reader, &target, &pack::Wish::default(), &interrupt::is_requested)?;
    let line = format!(
        "{}: {}, events {} to {}, {} checkpoints",
        target.display(),
        Size(packed.bytes),
        reader.first_event(),
        reader.last_event(),
        packed.checkpoints
    );
    match options.detached {
        // Standard output is the program's.
        true => eprintln!("rr: snapshot: {line}"),
        false => println!("{line}"),
    }
    Ok(())
}

/// Keeps a trace as it is: by links or, where there can be none, by a hold.
enum Kept {
    Links { _links: Links },
    Hold { _hold: Hold },
}

/// The trace as it is now, whatever is deleted from it later.
fn as_it_is(trace: &Path) -> Result<(Kept, TraceReader)> {
    if trace.is_dir() {
        let own = format!("{LINKS}{}", std::process::id());
        sweep(trace);
        match Links::make(trace, &trace.join(own)) {
            Ok((links, reader)) => return Ok((Kept::Links { _links: links }, reader)),
            Err(e @ rr_trace::Error::NotATrace { .. }) => return Err(e.into()),
            Err(e) => tracing::info!("{e}; the recording keeps what is older until the snapshot is made"),
        }
    }
    let hold = Hold::of(trace)?;
    Ok((Kept::Hold { _hold: hold }, TraceReader::open(trace)?))
}

/// The name of a directory of links in a trace, before the number of the process.
const LINKS: &str = ".snapshot-";

/// Removes what snapshots that were killed have left.
fn sweep(trace: &Path) {
    for entry in std::fs::read_dir(trace).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(LINKS)?.parse::<i32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another snapshot may be faster.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn number(what: &Path) -> Option<i32> {
    what.to_str()?.parse().ok().filter(|pid| *pid > 0)
}

/// The trace that a recorder writes; `pid` is the recorder, or one of its tracees.
fn trace_of(pid: i32) -> Result<PathBuf> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.with_context(|| format!("there is no process {pid}, nor a trace of this name"))?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    let tracer = tracer.and_then(|tracer| tracer.trim().parse().ok());
    let recorder = tracer.filter(|tracer| *tracer != 0).unwrap_or(pid);
    let open = format!("/proc/{recorder}/fd");
    let entries =
        std::fs::read_dir(&open).with_context(|| format!("cannot look at process {recorder}: {open}"))?;
    let targets = entries
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let mut traces = targets.filter(|target| target.is_dir() && traces::looks_like_one(target));
    traces
        .next()
        .with_context(|| format!("process {pid} is no rr that records, nor recorded by one"))
}

/// A name beside the trace that nobody has.
fn free_name(trace: &Path) -> PathBuf {
    let mut n = 1u32;
    loop {
        let mut name = trace.file_name().unwrap_or("trace".as_ref()).to_owned();
        name.push(format!("-snapshot-{n}.{EXTENSION}"));
        let path = trace.with_file_name(name);
        if path.symlink_metadata().is_err() {
            return path;
        }
        n += 1;
    }
}

/// Starts the snapshot of a trace that this process is recording. Its outcome is told on standard error.
pub fn start(trace: &Path) {
    let started = std::env::current_exe().and_then(|rr| {
        let mut command = Command::new(rr);
        command.args(["snapshot", "--detached"]).arg(trace);
        command.stdin(std::process::Stdio::null());
        // The recorder waits for its tracees, and so for this child, which ends at once.
        command.spawn()
    });
    if let Err(e) = started {
        eprintln!("rr: cannot start a snapshot: {e}");
    }
}

#[derive(PartialEq, Eq)]
enum Side {
    /// The process that was started.
    Starter,
    /// Its child, whose parent will be another one.
    Child,
}

/// Lets a child go on alone: the recorder waits for all its children.
fn detach() -> Result<Side> {
    // SAFETY: there is only one thread yet.
    match unsafe { nix::unistd::fork() }.context("cannot start a process for the snapshot")? {
        ForkResult::Parent { .. } => Ok(Side::Starter),
        ForkResult::Child => {
            take_back();
            Ok(Side::Child)
        }
    }
}

/// Takes back the state of the recorder that the process has inherited: a mask of signals, and `rdtsc` that faults.
fn take_back() {
    // SAFETY: plain numbers, and a set of our own.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_ENABLE, 0, 0, 0);
    }
}

/// Takes a quarter of a processor that another process wants too, and goes last at the disk. Threads inherit this.
///
/// Less would be no favour. With the nice value 19 a snapshot gets one part in seventy beside a busy process, and
/// takes minutes for a second of work.
fn be_modest() {
    const WHO_PROCESS: i32 = 1;
    const BEST_EFFORT_LAST: i32 = (2 << 13) | 7;
    // SAFETY: plain numbers. If one of them fails, the snapshot is less modest.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 5);
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, BEST_EFFORT_LAST);
    }
}

/// Leaves the CPU of the recording alone, if there are others.
fn keep_off(cpu: Option<u32>) {
    let all = Cpus::survey().all().to_vec();
    let others: Vec<usize> = all.into_iter().filter(|one| Some(*one as u32) != cpu).collect();
    if !others.is_empty() {
        bind_thread(&set_of(&others));
    }
}
