//! The debugger as a process of its own in the foreground: how it is called, started and waited for.

use std::ffi::OsString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitCode};

use anyhow::{Context, Result, anyhow, bail};
use rr_debugger::{Listener, Target, script, serve};
use std::os::fd::AsFd;

use super::options::DebuggerOptions;

/// The debugger's name, and whether it is LLDB rather than gdb.
fn debugger(options: &DebuggerOptions) -> (OsString, bool) {
    let path = options.debugger.clone().unwrap_or_else(|| "gdb".into());
    let lldb = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().contains("lldb"));
    (path.into(), lldb)
}

/// The address and the files that a debugger connects with.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// The path of a socket, or host and port.
    pub address: &'a str,
    /// The program that is debugged: LLDB does not ask for it.
    pub program: &'a str,
    /// Files are read out of the recording.
    pub serves_files: bool,
}

/// A command line that connects with a server.
pub fn connecting(options: &DebuggerOptions, server: &Server<'_>) -> Vec<OsString> {
    let (debugger, lldb) = debugger(options);
    let address = server.address;
    let mut words = vec![debugger];
    if lldb {
        if !server.program.is_empty() {
            words.push(server.program.into());
        }
        words.extend(options.debugger_option.iter().cloned());
        let place = if address.starts_with('/') {
            format!("unix-connect://{address}")
        } else {
            format!("connect://{address}")
        };
        words.push("-o".into());
        words.push(format!("process connect --plugin gdb-remote {place}").into());
        return words;
    }
    // Seconds that gdb waits for an answer: some take a replay.
    words.extend(["-l", "10000"].map(OsString::from));
    words.extend(options.debugger_option.iter().cloned());
    if let Some(name) = &options.interpreter {
        words.push("-i".into());
        words.push(name.clone());
    }
    if options.fullname {
        words.push("-fullname".into());
    }
    let sysroot = if server.serves_files {
        "set sysroot target:/"
    } else {
        "set sysroot /"
    };
    words.extend(["-ex", sysroot].map(OsString::from));
    words.push("-ex".into());
    words.push(format!("target extended-remote {address}").into());
    words
}

/// The command line of the debugger that rr starts. The user's files come last: then there is a program.
fn launching(options: &DebuggerOptions, server: &Server<'_>, script: &Path) -> Vec<OsString> {
    let mut words = connecting(options, server);
    if debugger(options).1 {
        for file in &options.gdb_x {
            words.extend(["-s".into(), file.clone().into()]);
        }
    } else {
        // Before the connection, which is the last command.
        let at = words.len() - 2;
        words.splice(at..at, ["-x".into(), script.into()]);
        for file in &options.gdb_x {
            words.extend(["-x".into(), file.clone().into()]);
        }
    }
    words.extend(options.more.iter().cloned());
    words
}

/// A command line as a shell would take it.
pub fn shown(words: &[OsString]) -> String {
    let quoted = |word: &OsString| {
        let word = word.to_string_lossy();
        if !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_alphanumeric() || "-_./:=,+".contains(c))
        {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// While it lives, ^C on the terminal is for the debugger only: rr hears of it from there.
struct IgnoredInterrupts(libc::sighandler_t);

impl IgnoredInterrupts {
    fn new() -> IgnoredInterrupts {
        // SAFETY: setting a disposition to "ignore" runs no code of ours.
        IgnoredInterrupts(unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) })
    }
}

impl Drop for IgnoredInterrupts {
    fn drop(&mut self) {
        // SAFETY: what was set before is set again.
        unsafe { libc::signal(libc::SIGINT, self.0) };
    }
}

/// The debugger's process. It does not outlive rr's interest in it.
pub struct Debugger(Child);

impl Drop for Debugger {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            // It may have ended meanwhile; then there is nothing to kill.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

impl Debugger {
    /// Starts it; `streams` may give it others than ours.
    pub fn start(words: &[OsString], lldb: bool, streams: impl FnOnce(&mut Command)) -> Result<Debugger> {
        let (program, arguments) = words.split_first().context("no debugger is named")?;
        let mut command = Command::new(program);
        command.args(arguments);
        streams(&mut command);
        command.env(if lldb { "LLDB_UNDER_RR" } else { "GDB_UNDER_RR" }, "1");
        // SAFETY: what runs between fork and exec are system calls, and nothing that allocates.
        unsafe { command.pre_exec(as_a_program_of_its_own) };
        match command.spawn() {
            Ok(child) => Ok(Debugger(child)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => bail!(
                "there is no debugger {}: install gdb (on Debian: apt install gdb), name another with -d, or connect one from \
                 elsewhere with -s PORT",
                program.to_string_lossy()
            ),
            Err(e) => Err(anyhow!(
                "cannot start the debugger {}: {e}",
                program.to_string_lossy()
            )),
        }
    }

    /// Its outputs, if those are pipes.
    pub fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.0.stdout.take(), self.0.stderr.take())
    }

    /// Becomes readable when the debugger ends.
    pub fn pidfd(&self) -> Result<OwnedFd> {
        // SAFETY: a system call with plain numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.0.id(), 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("cannot watch the debugger's process");
        }
        // SAFETY: the descriptor is new, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    /// Waits for its end; its exit status is the answer.
    pub fn wait(mut self) -> Result<ExitCode> {
        let status = self.0.wait().context("cannot wait for the debugger")?;
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(ExitCode::from(
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        ))
    }
}

/// Takes back what rr has arranged for itself, and what a child would inherit.
fn as_a_program_of_its_own() -> io::Result<()> {
    // SAFETY: system calls on plain numbers and a set of ours; failures leave a debugger that is slower, no more.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_DFL);
        libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_ENABLE, 0, 0, 0);
        let mut all: libc::cpu_set_t = std::mem::zeroed();
        for cpu in 0..libc::CPU_SETSIZE as usize {
            libc::CPU_SET(cpu, &mut all);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const all);
    }
    Ok(())
}

/// Starts the debugger and serves it until it ends; its exit status is rr's.
pub fn run(target: &mut dyn Target, options: &DebuggerOptions, serve_files: bool) -> Result<ExitCode> {
    let mut listener = Listener::private()?;
    let directory = listener
        .directory()
        .context("a private listener has a directory")?;
    let script = directory.join("rr.gdb");
    std::fs::write(&script, script::script())
        .with_context(|| format!("cannot write {}", script.display()))?;
    let server = Server {
        address: &listener.address(),
        program: &target.exec_file(),
        serves_files: serve_files,
    };
    let words = launching(options, &server, &script);
    let _ignored = IgnoredInterrupts::new();
    let debugger = Debugger::start(&words, debugger(options).1, |_| ())?;
    let ended = debugger.pidfd()?;
    // gdb may disconnect and connect again.
    while let Some(mut connection) = listener.accept(Some(ended.as_fd()))? {
        let how = serve(&mut connection, target)?;
        tracing::debug!("the debugger's connection ended: {how:?}");
    }
    debugger.wait()
}
