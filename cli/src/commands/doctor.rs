//! `rr doctor`: what this machine can do, and what to do where it cannot.
//!
//! A check tries what can be tried; other lines say what a trial that failed is likely to depend on. Each check is one
//! function.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use rr_tracee::cpuid::{Level, Table};
use rr_tracee::pagemap::{self, Method};
use serde::Serialize;

use crate::size::Size;
use crate::traces;

/// The command line of `rr doctor`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Say what rr can do on this machine",
    long_about = "Say what rr can do on this machine: record, replay, and what they depend on. Each line that is not good says what to do \
    about it.\n\nExit status: 0 if programs can be recorded and replayed, 1 if not."
)]
pub struct Options {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The gdb to ask; gdb if omitted
    #[arg(short = 'd', long, value_name = "PATH")]
    debugger: Option<PathBuf>,
}

/// The verdict of a check.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "camelCase")]
enum Verdict {
    /// As it should be.
    Good,
    /// rr works, and something is missing or costs more.
    Limited,
    /// rr does not work.
    Bad,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Good => "good",
            Verdict::Limited => "limited",
            Verdict::Bad => "BAD",
        })
    }
}

/// A line of the report.
#[derive(Serialize, Debug)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    found: String,
    /// A thing to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            what,
            verdict: Verdict::Good,
            found: found.into(),
            advice: None,
        }
    }

    fn limited(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding {
            verdict: Verdict::Limited,
            advice: Some(advice.into()),
            ..Finding::good(what, found)
        }
    }

    fn bad(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding {
            verdict: Verdict::Bad,
            ..Finding::limited(what, found, advice)
        }
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let root = traces::root();
    let mut findings = vec![ptrace(), seccomp(), cpuid(), level(), pagemap(), disk(&root)];
    findings.extend(trial());
    findings.push(gdb(options.debugger.as_deref().unwrap_or(Path::new("gdb"))));
    if options.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        for finding in &findings {
            println!("{:<16} {:<8} {}", finding.what, finding.verdict, finding.found);
            if let Some(advice) = &finding.advice {
                println!("{:<16} {:<8} → {advice}", "", "");
            }
        }
    }
    let works = findings.iter().all(|finding| finding.verdict != Verdict::Bad);
    Ok(if works {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The answer of a child of rr's, as its exit status.
fn in_child(ask: impl FnOnce() -> i32) -> Option<i32> {
    // SAFETY: `ask` makes system calls alone, which is allowed after fork; the child does not return.
    match unsafe { libc::fork() } {
        -1 => None,
        // SAFETY: ends the child without running anything of ours.
        0 => unsafe { libc::_exit(ask()) },
        pid => {
            let mut status = 0;
            // SAFETY: our own child, and a valid place for its status.
            let reaped = unsafe { libc::waitpid(pid, &mut status, 0) };
            (reaped == pid && libc::WIFEXITED(status)).then(|| libc::WEXITSTATUS(status))
        }
    }
}

/// The error number of the last system call, as an exit status; 0 if it succeeded.
fn answer(result: i64) -> i32 {
    if result < 0 { Errno::last_raw() } else { 0 }
}

fn ptrace() -> Finding {
    let what = "ptrace";
    let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
    let yama = match &yama {
        Some(scope) => format!("kernel.yama.ptrace_scope is {}", scope.trim()),
        None => "no Yama".to_owned(),
    };
    // As rr does it: a parent seizes its child.
    let tried = in_child(|| {
        // SAFETY: plain system calls; the child of the child only waits to be killed.
        unsafe {
            let pid = libc::fork();
            if pid == 0 {
                loop {
                    libc::pause();
                }
            }
            let status = answer(libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0));
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL);
            status
        }
    });
    match tried {
        Some(0) => Finding::good(what, format!("a child can be traced ({yama})")),
        tried => {
            let why = tried.map_or("no child could be started".into(), |errno| {
                Errno::from_raw(errno).to_string()
            });
            Finding::bad(
                what,
                format!("a child cannot be traced: {why} ({yama})"),
                "in a container: run it with --cap-add=SYS_PTRACE, or with a seccomp profile that allows ptrace; with \
                 kernel.yama.ptrace_scope 2 rr needs CAP_SYS_PTRACE, and 3 allows nobody until the next boot",
            )
        }
    }
}

fn seccomp() -> Finding {
    const GET_ACTION_AVAIL: libc::c_ulong = 2;
    let what = "seccomp";
    let action = libc::SECCOMP_RET_TRACE;
    // SAFETY: the kernel reads the action from a valid place.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().to_owned())
    };
    let around = match field("Seccomp:").as_deref() {
        Some("2") => {
            "; a filter is around us already (a container's profile), and what it refuses programs cannot do in a recording either"
        }
        _ => "",
    };
    match answer(result) {
        0 => Finding::good(what, format!("filters can hand system calls to rr{around}")),
        errno => Finding::bad(
            what,
            format!(
                "filters cannot hand system calls to rr: {}{around}",
                Errno::from_raw(errno)
            ),
            "rr needs a kernel with CONFIG_SECCOMP_FILTER, and a container profile that allows seccomp(2)",
        ),
    }
}

fn cpuid() -> Finding {
    const ARCH_SET_CPUID: i32 = 0x1012;
    let what = "CPUID faulting";
    let tried = in_child(|| {
        // SAFETY: plain numbers; only the child is concerned.
        answer(unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, 0) })
    });
    match tried {
        Some(0) => Finding::good(what, "there: rr record --portable hides features from all code"),
        _ => Finding::limited(
            what,
            "not on this processor, or not in this virtual machine",
            "nothing needs to be done: rr record --portable hides features from code in files with tables of functions",
        ),
    }
}

fn level() -> Finding {
    let what = "processor";
    let table = Table::of_this_cpu();
    if !table.has_extended_state() {
        return Finding::bad(
            what,
            "has no XSAVE, or the kernel does not use it",
            "rr needs a processor since about 2011; in a virtual machine, another CPU model",
        );
    }
    match Level::of(&table) {
        Some(level) => Finding::good(
            what,
            format!("has {level}: replays what rr record --portable={level} records anywhere"),
        ),
        None => Finding::limited(
            what,
            format!("has not {}", Level::V2),
            "traces of rr record --portable cannot be replayed here",
        ),
    }
}

fn pagemap() -> Finding {
    let what = "PAGEMAP_SCAN";
    match pagemap::method() {
        Method::Scan => Finding::good(what, "checkpoints find changed pages the fast way"),
        Method::Table => Finding::limited(
            what,
            "the kernel does not have it: checkpoints read the table of all pages",
            "checkpoints of large programs pause less on Linux 6.7 or later",
        ),
    }
}

fn disk(root: &Path) -> Finding {
    const LITTLE: u64 = 1 << 30;
    let what = "disk";
    // A directory that is not there yet will be made where its parent is.
    let there = root
        .ancestors()
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("/"));
    let place = format!("at {}", root.display());
    let advice = "set _RR_TRACE_DIR to a directory with room, or name one with rr record -o";
    let writable = nix::unistd::access(there, nix::unistd::AccessFlags::W_OK);
    match (statvfs(there), writable) {
        (_, Err(e)) => Finding::bad(what, format!("{place}: nothing can be written: {e}"), advice),
        (Err(e), _) => Finding::limited(what, format!("{place}: {e}"), advice),
        (Ok(disk), Ok(())) => {
            let free = disk.blocks_available() * disk.fragment_size();
            let found = format!("{} free {place}", Size(free));
            match free < LITTLE {
                true => Finding::limited(what, found, advice),
                false => Finding::good(what, found),
            }
        }
    }
}

/// Records a program, and replays it.
fn trial() -> Vec<Finding> {
    let dir = std::env::temp_dir().join(format!("rr-doctor-{}", std::process::id()));
    let trace = dir.join("trace");
    let words = |command: &str| -> Vec<PathBuf> {
        let mut words: Vec<PathBuf> = vec![command.into()];
        match command {
            "record" => words.extend(["-o".into(), trace.clone(), "true".into()]),
            _ => words.extend(["-a".into(), trace.clone()]),
        }
        words
    };
    let advice = "rr needs what the other lines name; where they are good, please report this";
    let run = |what, command| {
        let rr = std::env::current_exe().unwrap_or_else(|_| "rr".into());
        let mut run = Command::new(rr);
        // A recording inside another one is another question.
        run.args(words(command)).env_remove("RUNNING_UNDER_RR");
        let output = run.stdin(Stdio::null()).stdout(Stdio::null()).output();
        match output {
            Ok(output) if output.status.success() => Finding::good(what, "tried, works"),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                let line = text.lines().find(|line| !line.trim().is_empty());
                let line = line.map_or_else(|| output.status.to_string(), str::to_owned);
                Finding::bad(what, format!("tried, fails: {line}"), advice)
            }
            Err(e) => Finding::bad(what, format!("cannot be tried: {e}"), advice),
        }
    };
    let findings = match std::fs::create_dir(&dir) {
        Ok(()) => vec![run("recording", "record"), run("replay", "replay")],
        Err(e) => vec![Finding::limited(
            "recording",
            format!("cannot be tried: {}: {e}", dir.display()),
            "set TMPDIR to a directory that can be written to",
        )],
    };
    // Leftovers are in the directory for temporary files.
    let _ = std::fs::remove_dir_all(&dir);
    findings
}

fn gdb(name: &Path) -> Finding {
    let what = "gdb";
    let advice = "rr replay and rr backtrace need gdb (on Debian: apt install gdb; another one: -d PATH)";
    let output = Command::new(name).arg("--version").stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            Finding::good(what, text.lines().next().unwrap_or_default())
        }
        Ok(output) => Finding::limited(
            what,
            format!("{} does not work ({})", name.display(), output.status),
            advice,
        ),
        Err(e) => Finding::limited(what, format!("cannot start {}: {e}", name.display()), advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_answers() {
        assert_eq!(in_child(|| 17), Some(17));
        let fails = || {
            // SAFETY: closing a number that is no descriptor.
            answer(unsafe { libc::close(-1) }.into())
        };
        assert_eq!(in_child(fails), Some(libc::EBADF));
        assert_eq!(in_child(|| answer(0)), Some(0));
    }

    #[test]
    fn what_is_missing_limits() {
        assert_ne!(
            disk(&std::env::temp_dir().join("not/there")).verdict,
            Verdict::Bad
        );
        let none = gdb(Path::new("/no/such/gdb"));
        assert!(none.verdict == Verdict::Limited && none.advice.is_some());
    }
}
