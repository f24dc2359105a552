//! Runs the commands of a document like a reader who follows it: in one shell, one after the other, in
//! a directory of their own, with `rr` in `PATH`. `docs`, `tests` and `scripts` of the repository are
//! there, too.
//!
//! Differences from a reader's terminal are removed before an output is compared: the home directory is
//! `/home/you`, and a shell says only `Segmentation fault` about a command that died.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::blocks::{self, Section};
use super::compare::Roles;
use super::root;

/// Time limit of a command.
const LIMIT: Duration = Duration::from_secs(60);

/// First character of the line with the status of a command. No program of a document prints that
/// character.
const END: char = '\u{1e}';

/// The parts of the repository that commands of documents name.
const REPOSITORY: [&str; 3] = ["docs", "tests", "scripts"];

/// A shell that reads commands from a pipe.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    read: Vec<u8>,
}

impl Shell {
    fn start(rr: &Path, home: &Path, cwd: &Path) -> Shell {
        let programs = home.join(".bin");
        std::fs::create_dir_all(&programs).expect("a directory for rr");
        std::os::unix::fs::symlink(rr, programs.join("rr")).expect("a link to rr");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut path_with_rr = programs.into_os_string();
        path_with_rr.push(":");
        path_with_rr.push(path);
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut child = Command::new("bash")
            .args(["--norc", "--noprofile"])
            .current_dir(cwd)
            .env("PATH", path_with_rr)
            .env("HOME", home)
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "dumb")
            .env("COLUMNS", "200")
            .env_remove("_RR_TRACE_DIR")
            .env_remove("XDG_DATA_HOME")
            .env_remove("DEBUGINFOD_URLS")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::piped())
            .stderr(writer.try_clone().expect("the pipe again"))
            .stdout(writer)
            .process_group(0)
            .spawn()
            .expect("start bash");
        let input = child.stdin.take().expect("bash has an input");
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Shell {
            child,
            input,
            output,
            read: Vec::new(),
        }
    }

    /// Runs a command with an input, and returns what it printed and its status.
    fn run(&mut self, command: &str, input: Option<&str>) -> Result<(String, i32), String> {
        let redirected = match input {
            Some(input) => format!("<<'END_OF_INPUT'\n{input}END_OF_INPUT"),
            None => "</dev/null".into(),
        };
        let text = format!(
            "{{ {command}\n}} {redirected}\nstatus=$?; printf '\\n{END}%d\\n' $status; (exit $status)\n"
        );
        self.input
            .write_all(text.as_bytes())
            .map_err(|e| format!("the shell has ended: {e}"))?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let text = String::from_utf8_lossy(&self.read).into_owned();
            if let Some((output, status)) = text.split_once(&format!("\n{END}"))
                && let Some((status, _)) = status.split_once('\n')
            {
                self.read.clear();
                let status = status.parse().map_err(|e| format!("a bad status: {e}"))?;
                return Ok((output.strip_suffix('\n').unwrap_or(output).to_owned(), status));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.read.extend(bytes),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("no end within {LIMIT:?}; printed so far:\n{text}"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("the shell has ended; printed:\n{text}"));
                }
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // All processes that a document starts end with the shell.
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// An output as a reader at a terminal would see it.
fn as_read(output: &str, home: &Path) -> Vec<String> {
    let text = output.replace(&*home.to_string_lossy(), "/home/you");
    let lines = text.lines().map(|line| as_a_terminal_says(line.trim_end()));
    lines.map(|line| without_tabs(&line)).collect()
}

/// The lines without empty ones at the end.
fn without_end(lines: &[String]) -> &[String] {
    let end = lines.iter().rposition(|line| !line.is_empty());
    &lines[..end.map_or(0, |end| end + 1)]
}

/// A line in which spaces up to the next multiple of eight replace each tab.
fn without_tabs(line: &str) -> String {
    let mut text = String::new();
    for (n, part) in line.split('\t').enumerate() {
        if n > 0 {
            let width = text.chars().count();
            text.extend(std::iter::repeat_n(' ', 8 - width % 8));
        }
        text.push_str(part);
    }
    text
}

/// A shell that runs a script names the line of a command that died. A shell at a terminal does not.
fn as_a_terminal_says(line: &str) -> String {
    let deaths = [
        "Segmentation fault",
        "Aborted",
        "Killed",
        "Terminated",
        "Floating point exception",
    ];
    let death = deaths
        .iter()
        .find(|death| line.starts_with("bash: line ") && line.contains(&format!(" {death} ")));
    death.map_or(line.to_owned(), |death| (*death).to_owned())
}

/// The parts of a debugger's output: before the first command, and after each one.
fn parts(output: &str) -> Vec<&str> {
    let text = output.strip_prefix("(rr) ");
    let mut parts: Vec<&str> = match text {
        Some(rest) => std::iter::once("").chain(rest.split("\n(rr) ")).collect(),
        None => output.split("\n(rr) ").collect(),
    };
    // A command that prints nothing leaves the next prompt on its own line.
    parts = parts
        .into_iter()
        .flat_map(|part| {
            let silent = part.split("(rr) ").count() - 1;
            let mut pieces: Vec<&str> = part.splitn(silent + 1, "(rr) ").collect();
            let last = pieces.pop();
            pieces.into_iter().chain(last)
        })
        .collect();
    parts
}

/// Runs the commands of a document. Returns a complaint about each command that does not do what the
/// document says.
pub fn check(rr: &Path, name: &Path, text: &str) -> Vec<String> {
    let document = blocks::parse(text);
    let name = name.display();
    for (line, reason) in &document.left_out {
        eprintln!("{name}:{line}: not run: {reason}");
    }
    let mut complaints: Vec<String> = document
        .mistakes
        .iter()
        .map(|(line, mistake)| format!("{name}:{line}: {mistake}"))
        .collect();
    for section in &document.sections {
        let start = Instant::now();
        let found = check_section(rr, section);
        eprintln!(
            "{name}: {} commands in {:?}",
            section.commands.len(),
            start.elapsed()
        );
        complaints.extend(
            found
                .into_iter()
                .map(|(line, text)| format!("{name}:{line}: {text}")),
        );
    }
    complaints
}

fn check_section(rr: &Path, section: &Section) -> Vec<(usize, String)> {
    // Starts a shell in a directory with links to the repository, and prepares it.
    let home = tempfile::Builder::new()
        .prefix("rr-documents-")
        .tempdir()
        .expect("a home");
    let cwd: PathBuf = home.path().join("work");
    std::fs::create_dir(&cwd).expect("a directory");
    for part in REPOSITORY {
        std::os::unix::fs::symlink(root().join(part), cwd.join(part)).expect("a link");
    }
    let mut shell = Shell::start(rr, home.path(), &cwd);
    let line = section.commands.first().map_or(0, |c| c.line);
    match shell.run(&format!("( set -e\n{}\n)", section.first), None) {
        Ok((_, 0)) => {}
        Ok((output, status)) => {
            return vec![(
                line,
                format!("the preparation failed with status {status}:\n{output}"),
            )];
        }
        Err(error) => return vec![(line, format!("the preparation: {error}"))],
    }
    // Runs each command, and compares its output.
    let mut roles = Roles::default();
    let mut complaints = Vec::new();
    for (n, command) in section.commands.iter().enumerate() {
        let real = roles.real(&command.text);
        let input = (!command.debugger.is_empty()).then(|| {
            let mut input = String::new();
            for command in &command.debugger {
                let _ = writeln!(input, "{}", roles.real(&command.text));
            }
            input
        });
        let (output, status) = match shell.run(&real, input.as_deref()) {
            Ok(ended) => ended,
            Err(error) => {
                complaints.push((command.line, format!("`{real}`: {error}")));
                return complaints;
            }
        };
        // A document shows a status other than 0 by a death or by `echo $?`.
        let status_is_said = section
            .commands
            .get(n + 1)
            .is_some_and(|next| next.text.contains("$?"))
            || (status > 128 && command.output.is_some());
        if status != 0 && !status_is_said {
            complaints.push((
                command.line,
                format!("`{real}` ended with status {status}:\n{output}"),
            ));
            continue;
        }
        let Some(documented) = &command.output else {
            continue;
        };
        let mut expected = vec![(command.line, real.clone(), documented)];
        let mut printed = vec![&*output];
        if !command.debugger.is_empty() {
            let debugger = command.debugger.iter();
            expected
                .extend(debugger.map(|c| (c.line, c.text.clone(), c.output.as_ref().unwrap_or(documented))));
            printed = parts(&output);
            // The debugger's last words belong to the end of its input.
            printed.truncate(expected.len());
        }
        for (n, (line, command, documented)) in expected.iter().enumerate() {
            let real = as_read(printed.get(n).copied().unwrap_or_default(), home.path());
            if !roles.compare(without_end(documented), without_end(&real)) {
                let (documented, real) = (documented.join("\n"), real.join("\n"));
                complaints.push((
                    *line,
                    format!("`{command}` should print\n{documented}\n---- but printed\n{real}\n----"),
                ));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_debuggers_output() {
        assert_eq!(parts("hello\n(rr) one\n(rr) two"), ["hello", "one", "two"]);
        assert_eq!(
            parts("hello\n(rr) (rr) (rr) three\nlines\n(rr) four"),
            ["hello", "", "", "three\nlines", "four"]
        );
    }

    #[test]
    fn complaints() {
        let check = |text: &str| check(Path::new("/bin/true"), Path::new("x.md"), text).len();
        assert_eq!(check("```console\n$ echo a; echo b\na\nb\n$ rr\n```\n"), 0);
        assert_eq!(check("```console\n$ echo a\nb\n```\n"), 1);
        assert_eq!(check("```console\n$ echo a\n```\n"), 1);
        assert_eq!(check("```console\n$ false\n```\n"), 1);
        assert_eq!(check("```console\n$ (exit 3)\n$ echo $?\n3\n```\n"), 0);
        assert_eq!(check("```console\n$ kill -SEGV $BASHPID\n```\n"), 1);
        assert_eq!(
            check("```console\n$ bash -c 'kill -SEGV $$'\nSegmentation fault\n```\n"),
            0
        );
        assert_eq!(check("```sh\ntrue  # fine\nfalse  # not\n```\n"), 1);
        assert_eq!(
            check("<!-- first: echo a > f -->\n```console\n$ cat f\na\n```\n"),
            0
        );
        assert_eq!(check("<!-- first: false -->\n```console\n$ true\n```\n"), 1);
    }
}
