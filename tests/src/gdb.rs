//! `rr replay` with a real gdb, driven by a script of commands and expected outputs.
//!
//! A script is a list of pairs: a command for gdb, and texts that must appear in its output before the
//! next command, in this order, separated by ` … `. A text that begins with `!` must not appear after
//! the text before. `{word}` is the number of the line of the program's source that ends with `//
//! word`.
//!
//! `save NAME` stores all registers that gdb knows and checksums of all writable memory. `same NAME`
//! compares the current place with the stored state, and fails the test if something differs.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::guest::{self, in_cache};
use crate::programs::is_installed;
use crate::rr::Rr;
use crate::run::{Run, run};

/// The directory of the programs that are debugged.
pub fn sources() -> PathBuf {
    guest::sources().join("debug")
}

/// A program to be debugged.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its source.
    pub source: PathBuf,
    /// The command to execute, with arguments.
    pub words: Vec<OsString>,
}

impl Program {
    /// Compiles a source without optimisation, or finds it compiled. The ending of the name says if it
    /// is C, C++, Rust or Go. `None` if there is no compiler.
    #[track_caller]
    pub fn build(name: &str) -> Option<Program> {
        let source = sources().join(name);
        let (stem, ending) = name.rsplit_once('.').expect("a source has an ending");
        let compiler: &[&str] = match ending {
            "c" => &[
                "gcc",
                "-std=gnu11",
                "-g",
                "-O0",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-pthread",
            ],
            "cc" => &["g++", "-g", "-O0", "-Wall", "-Wextra", "-Werror"],
            "rs" => &["rustc", "-g", "--edition=2021"],
            "go" => &["go", "build", "-gcflags=-N -l"],
            _ => panic!("{name}: in which language?"),
        };
        if !is_installed(compiler[0]) {
            eprintln!("skipped: there is no {} here", compiler[0]);
            return None;
        }
        let text = std::fs::read_to_string(&source).expect("a source");
        let mut hasher = DefaultHasher::new();
        // The path of the source is in the debug information: a checkout that was moved builds anew.
        (&source, &text, compiler).hash(&mut hasher);
        let path = in_cache(stem, hasher.finish(), |part| {
            let mut command = Command::new(compiler[0]);
            command.args(&compiler[1..]).arg("-o").arg(part).arg(&source);
            command.current_dir(sources());
            run(&mut command, Duration::from_secs(120)).expect_success();
        });
        let words = vec![path.into_os_string()];
        Some(Program { source, words })
    }

    /// Compiles a C program.
    #[track_caller]
    pub fn c(name: &str) -> Program {
        Program::build(&format!("{name}.c")).expect("the tests need gcc")
    }

    /// Adds an argument to the program's command line.
    pub fn arg(mut self, arg: &str) -> Program {
        self.words.push(arg.into());
        self
    }

    /// The executable.
    pub fn path(&self) -> &Path {
        Path::new(&self.words[0])
    }

    /// The number of the line that ends with `// word`.
    pub fn line(&self, word: &str) -> Option<usize> {
        let text = std::fs::read_to_string(&self.source).ok()?;
        let ending = format!("// {word}");
        text.lines()
            .position(|line| line.ends_with(&ending))
            .map(|n| n + 1)
    }

    /// Replaces `{word}` by line numbers.
    fn with_lines(&self, text: &str) -> String {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            result += before;
            match after.split_once('}') {
                Some((word, after)) if self.line(word).is_some() => {
                    let _ = write!(result, "{}", self.line(word).unwrap_or(0));
                    rest = after;
                }
                _ => {
                    result.push('{');
                    rest = after;
                }
            }
        }
        result + rest
    }
}

/// A trace to be debugged.
pub struct Debugged<'a> {
    rr: &'a Rr,
    /// The program.
    pub program: Program,
    /// The trace.
    pub dir: PathBuf,
    /// The recorder's run.
    pub recorded: Run,
}

/// Our commands for gdb before the script.
const PRELUDE: &str = include_str!("gdb_prelude.py");

impl<'a> Debugged<'a> {
    /// Records a program.
    #[track_caller]
    pub fn record(rr: &'a Rr, options: &[&str], program: &Program) -> Debugged<'a> {
        let recording = rr.record(options, &program.words);
        Debugged {
            rr,
            program: program.clone(),
            dir: recording.dir,
            recorded: recording.run,
        }
    }

    /// A file with the commands of a script, for gdb's -x.
    pub fn script(&self, script: &[(&str, &str)]) -> PathBuf {
        let mut text = PRELUDE.to_owned();
        for (command, _) in script {
            let _ = writeln!(text, "rr_do({:?})", self.program.with_lines(command));
        }
        let path = self.rr.new_dir().join("session.py");
        std::fs::write(&path, text).expect("write the script");
        path
    }

    /// `rr replay` with options.
    pub fn command(&self, options: &[&str]) -> Command {
        // gdb's output and error messages belong together.
        let shell = ["-c", "exec \"$@\" 2>&1", "sh"].map(OsString::from);
        let mut command = self.rr.plain_command("sh".as_ref(), self.rr.home());
        command.args(shell).arg(self.rr.bin());
        command.arg("replay").args(options).arg(&self.dir);
        command.env("TERM", "dumb").env_remove("DEBUGINFOD_URLS");
        command
    }

    /// Lets gdb execute a script without checking the output.
    #[track_caller]
    pub fn run(&self, options: &[&str], script: &[(&str, &str)]) -> Run {
        let file = self.script(script);
        let mut command = self.command(&[&["-o-nx", "-o-batch"], options].concat());
        command.arg("-x").arg(&file);
        run(&mut command, self.rr.limit)
    }

    /// Lets gdb execute a script and checks its output. Returns the whole output.
    #[track_caller]
    pub fn check(&self, options: &[&str], script: &[(&str, &str)]) -> String {
        let run = self.run(options, script);
        let output = run.out();
        check(
            &self.program,
            &output,
            &format!("{}\n{}", run.command, run.err()),
            script,
        );
        output
    }
}

/// Newer gdbs use other words. This translates them into those of gdb 13.
fn in_words_of_gdb_13(output: &str) -> String {
    output.replace(
        "Reached end of recorded history; stopping.\nBackward execution from here not possible.",
        "No more reverse-execution history.",
    )
}

/// Checks the output of a script.
#[track_caller]
pub fn check(program: &Program, output: &str, about: &str, script: &[(&str, &str)]) {
    let output = in_words_of_gdb_13(output);
    let mut rest = &*output;
    let mut missing = String::new();
    for (n, (command, texts)) in script.iter().enumerate() {
        let command = program.with_lines(command);
        let marker = format!("\n(test) {command}\n");
        let Some((_, after)) = rest.split_once(&marker) else {
            let _ = writeln!(missing, "{n}: {command:?} was not executed");
            break;
        };
        let mut printed = after.split("\n(test) ").next().unwrap_or(after);
        rest = &after[printed.len()..];
        if command.starts_with("same ") && !printed.contains("the same") {
            let _ = writeln!(missing, "{n}: {command:?}: something differs");
        }
        for text in texts.split(" … ").filter(|text| !text.is_empty()) {
            let text = program.with_lines(text);
            if let Some(text) = text.strip_prefix('!') {
                if printed.contains(text) {
                    let _ = writeln!(missing, "{n}: {text:?} after {command:?}");
                }
                continue;
            }
            match printed.find(&text) {
                Some(at) => printed = &printed[at + text.len()..],
                None => {
                    let _ = writeln!(missing, "{n}: no {text:?} after {command:?}");
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing}\n{about}\n{output}\n{missing}");
    for bad in [
        "panicked",
        "internal-error",
        "packet error",
        "Python Exception",
        "Remote communication error",
    ] {
        assert!(
            !output.contains(bad) && !about.contains(bad),
            "{bad}\n{about}\n{output}"
        );
    }
}
