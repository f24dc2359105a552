//! gdb without a terminal: it connects with the server, prints the frames of all threads, and ends.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use rr_debugger::{Listener, Target, serve};
use rr_tracee::Tid;
use tempfile::NamedTempFile;

use crate::commands::replay::debugger::{DebuggerOptions, launch};

/// The most of gdb's output that is kept: nobody reads arrays in every frame of a hundred threads.
const OUTPUT_MOST: u64 = 4 << 20;
/// Lines of rr's script in gdb's output.
const CURRENT: &str = "--- rr: the current thread";
const FRAMES: &str = "--- rr: the frames";
const FRAMES_END: &str = "--- rr: the end of the frames";
const THROWER: &str = "--- rr: the last throw";
const END: &str = "--- rr: the end";
/// The functions that begin to unwind: of Rust's panics, and of the exceptions of the Itanium C++ ABI.
const THROWING: [&str; 2] = ["rust_panic", "__cxa_throw"];
/// The sentence of gdb's `info program` after a stop that is not one at the ends of the recording.
const AT_BREAKPOINT: &str = "It stopped at breakpoint ";
/// gdb runs back only if the program has one of the functions. `if` takes several lines, so it stands in a file.
const RUN_BACK: &str = "if !$_isvoid($bpnum)\nreverse-continue\nend\n";

/// The options that gdb is run with.
pub struct Options {
    /// gdb, if it is another one.
    pub gdb: Option<PathBuf>,
    /// The most frames of one thread.
    pub frames: usize,
    /// When it is ended.
    pub deadline: Instant,
    /// It reads the program's files out of the recording.
    pub serve_files: bool,
    /// It goes back to the last panic or exception too, and prints the frames there.
    pub last_throw: bool,
}

/// The frames of one thread.
#[derive(PartialEq, Eq, Debug)]
pub struct Section {
    /// The thread by gdb's name for it, and its frames.
    pub text: String,
    /// It is the thread that the place is about.
    pub is_current: bool,
}

/// The output of gdb.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Frames {
    /// The threads; first the one that the place is about.
    pub threads: Vec<Section>,
    /// The frames of the last panic or exception before the place, if one was asked for and there was one.
    pub thrower: Option<String>,
    /// The part that is missing, and why.
    pub cut: Option<String>,
}

/// An error if there is no gdb to run, with the reason.
pub fn check(gdb: Option<&PathBuf>) -> Result<(), String> {
    let name = gdb.cloned().unwrap_or_else(|| "gdb".into());
    let mut command = Command::new(&name);
    command.args(["-nx", "-batch"]);
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match quiet.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} does not work ({status})", name.display())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(format!(
            "there is no {}: backtraces need gdb (on Debian: apt install gdb; another one: -d PATH)",
            name.display()
        )),
        Err(e) => Err(format!("cannot start {}: {e}", name.display())),
    }
}

/// gdb's arguments. `run_back` is the file with [`RUN_BACK`], if it goes to the last throw.
fn words(options: &Options, address: &str, run_back: Option<&Path>) -> Vec<OsString> {
    let early = [
        "-batch",
        "-nx",
        "-iex",
        "set debuginfod enabled off",
        "-iex",
        "set pagination off",
        "-iex",
        "set width 0",
        "-iex",
        "set style enabled off",
        "-iex",
        "set print thread-events off",
    ];
    let options_of_gdb = DebuggerOptions {
        debugger: options.gdb.clone(),
        debugger_option: early.map(OsString::from).into(),
        ..DebuggerOptions::default()
    };
    let mut words = launch::connecting(
        &options_of_gdb,
        &launch::Server {
            address,
            program: "",
            serves_files: options.serve_files,
        },
    );
    let marker = |line: &str| OsString::from(format!("echo \\n{line}\\n"));
    let mut commands: Vec<OsString> = vec![
        marker(CURRENT),
        "thread".into(),
        marker(FRAMES),
        format!("thread apply all -c bt full {}", options.frames).into(),
        marker(FRAMES_END),
    ];
    if let Some(run_back) = run_back {
        commands.push("set breakpoint pending off".into());
        commands.extend(THROWING.map(|function| format!("break {function}").into()));
        let mut source = OsString::from("source ");
        source.push(run_back);
        commands.extend([
            source,
            marker(THROWER),
            "info program".into(),
            format!("bt full {}", options.frames).into(),
        ]);
    }
    commands.extend([marker(END), "disconnect".into()]);
    for command in commands {
        words.extend(["-ex".into(), command]);
    }
    words
}

/// Lets gdb print the frames of a target that stands where they are wanted.
pub fn frames(target: &mut dyn Target, options: &Options, thread: Tid) -> Result<Frames> {
    let mut listener = Listener::private()?;
    let run_back = match options.last_throw {
        true => Some(script(RUN_BACK)?),
        false => None,
    };
    let words = words(
        options,
        &listener.address(),
        run_back.as_ref().map(NamedTempFile::path),
    );
    let mut gdb = launch::Debugger::start(&words, false, |command| {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    })?;
    let ended = gdb.pidfd()?;
    let (stdout, stderr) = gdb.take_output();
    let is_late = AtomicBool::new(false);
    let (text, complaints) = std::thread::scope(|scope| {
        let stdout = scope.spawn(|| read_some(stdout));
        let stderr = scope.spawn(|| read_some(stderr));
        let limit = scope.spawn(|| end_at(options.deadline, &ended, &is_late));
        let mut serve_all = || -> Result<()> {
            while let Some(mut connection) = listener.accept(Some(ended.as_fd()))? {
                serve(&mut connection, target)?;
            }
            Ok(())
        };
        let served = serve_all();
        if served.is_err() {
            kill(ended.as_fd());
        }
        let _ = limit.join();
        let text = stdout.join().unwrap_or_default();
        let complaints = stderr.join().unwrap_or_default();
        served.map(|()| (text, complaints))
    })?;
    gdb.wait()?;
    Ok(parse(&text, &complaints, is_late.into_inner(), thread))
}

/// A file of gdb's commands.
fn script(commands: &str) -> Result<NamedTempFile> {
    let written =
        NamedTempFile::new().and_then(|mut file| file.write_all(commands.as_bytes()).map(|()| file));
    written.context("writing a script for gdb")
}

/// Reads all, and keeps so much.
fn read_some(from: Option<impl Read>) -> String {
    let Some(mut from) = from else {
        return String::new();
    };
    let mut kept = Vec::new();
    // Output that cannot be read is not shown; the end of the report says that it is missing.
    let _ = (&mut from).take(OUTPUT_MOST).read_to_end(&mut kept);
    let _ = io::copy(&mut from, &mut io::sink());
    String::from_utf8_lossy(&kept).into_owned()
}

/// Ends a process that has not ended at that time.
fn end_at(deadline: Instant, process: &OwnedFd, is_late: &AtomicBool) {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            is_late.store(true, Ordering::Relaxed);
            kill(process.as_fd());
            return;
        }
        let mut ended = libc::pollfd {
            fd: process.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let left = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
        // SAFETY: one valid pollfd, which lives through the call. Interrupted or not: the time is looked at again.
        if unsafe { libc::poll(&mut ended, 1, left) } > 0 {
            return;
        }
    }
}

fn kill(process: BorrowedFd) {
    // SAFETY: a system call with plain numbers; no siginfo is given. One that has ended already is no failure.
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            libc::SIGKILL,
            0,
            0,
        )
    };
}

/// Takes gdb's output apart.
fn parse(text: &str, complaints: &str, is_late: bool, thread: Tid) -> Frames {
    let mut lines = text.lines().skip_while(|line| *line != CURRENT).skip(1);
    let head: Vec<&str> = lines.by_ref().take_while(|line| *line != FRAMES).collect();
    // "[Current thread is 2 (Thread 10.12)]"
    let current = head.iter().find_map(|line| {
        let rest = line.strip_prefix("[Current thread is ")?;
        rest.split(' ').next()
    });
    let mut threads: Vec<Section> = Vec::new();
    let mut has_frames = false;
    for line in lines.by_ref() {
        if line == FRAMES_END {
            has_frames = true;
            break;
        }
        if let Some(rest) = line.strip_prefix("Thread ")
            && let Some((number, name)) = rest.split_once(" (")
            && number.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        {
            let is_current = match current {
                Some(current) => current == number,
                None => name.contains(&format!("Thread {thread}")) || name.contains(&format!(".{thread}")),
            };
            let text = String::new();
            threads.push(Section { text, is_current });
        }
        if let Some(section) = threads.last_mut() {
            section.text += line;
            section.text.push('\n');
        }
    }
    for section in &mut threads {
        section.text.truncate(section.text.trim_end().len());
    }
    threads.sort_by_key(|section| !section.is_current);
    // Between the markers gdb says where it runs.
    let rest: Vec<&str> = lines.collect();
    let thrower = rest.split(|line| *line == THROWER).nth(1).and_then(|lines| {
        let is_there = lines.iter().any(|line| line.starts_with(AT_BREAKPOINT));
        let first = lines.iter().position(|line| line.starts_with('#'))?;
        let frames = lines.split(|line| *line == END).next().unwrap_or_default();
        is_there.then(|| {
            frames
                .get(first..)
                .unwrap_or_default()
                .join("\n")
                .trim_end()
                .to_owned()
        })
    });
    let is_complete = has_frames && rest.contains(&END);
    let cut = (!is_complete).then(|| match is_late {
        true => "gdb was not done within the time limit (--timeout)".into(),
        false if text.len() as u64 >= OUTPUT_MOST => "this is too long to be shown".into(),
        false if has_frames => "gdb did not get to the last panic or exception".into(),
        false => {
            let last = complaints.lines().rfind(|line| !line.trim().is_empty());
            format!(
                "gdb did not print all of it: {}",
                last.unwrap_or("it said nothing")
            )
        }
    });
    Frames {
        threads,
        thrower,
        cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_thread_comes_first() {
        let text = format!(
            "noise\n\n{CURRENT}\n[Current thread is 2 (Thread 10.12)]\n#0 f\n\n{FRAMES}\n\nThread 3 (Thread 10.13):\n#0  a\n\
             \nThread 2 (Thread 10.12 \"x\"):\n#0  f\nNo locals.\n\n{FRAMES_END}\n\n{END}\n[Inferior 1 detached]\n"
        );
        let frames = parse(&text, "", false, Tid(12));
        assert_eq!(frames.cut, None);
        assert_eq!(frames.thrower, None);
        assert_eq!(
            frames.threads,
            [
                Section {
                    text: "Thread 2 (Thread 10.12 \"x\"):\n#0  f\nNo locals.".into(),
                    is_current: true
                },
                Section {
                    text: "Thread 3 (Thread 10.13):\n#0  a".into(),
                    is_current: false
                },
            ]
        );
    }

    #[test]
    fn the_last_throw_is_one_only_at_a_breakpoint() {
        let thrower = |stopped: &str| {
            let text = format!(
                "{CURRENT}\n{FRAMES}\nThread 1 (x):\n#0  exit\n{FRAMES_END}\nBreakpoint 1 at 0x10\n\n{THROWER}\n\
                 {stopped}\n#0  rust_panic ()\n#1  f () at a.rs:7\n\n{END}\n"
            );
            let frames = parse(&text, "", false, Tid(1));
            assert_eq!((frames.cut, frames.threads.len()), (None, 1));
            frames.thrower
        };
        assert_eq!(
            thrower("It stopped at breakpoint 1."),
            Some("#0  rust_panic ()\n#1  f () at a.rs:7".into())
        );
        assert_eq!(thrower("It stopped after being stepped."), None);
    }

    #[test]
    fn what_is_missing_is_said() {
        let cut = |text: &str, late| parse(text, "one\ntwo\n\n", late, Tid(1)).cut.unwrap();
        assert!(cut("", true).contains("--timeout"));
        assert!(cut("", false).ends_with("two"));
    }
}
