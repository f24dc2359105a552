//! `rr ci report`: the artefacts of a job, in Markdown for its page.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use rr_trace::TraceReader;
use serde_json::json;

use super::artifact::{self, Record};
use crate::commands::backtrace::LAST_THROW;
use crate::traces;

/// The command line of `rr ci report`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Summarise recordings of failures in Markdown",
    long_about = "Print a summary of the recordings that `rr ci` has kept in a directory, in Markdown: the tests, their failures, \
    the first frames, the sizes, and the commands that replay them.\n\nExample: rr ci report failures >> \"$GITHUB_STEP_SUMMARY\""
)]
pub struct Options {
    /// The directory with the recordings
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print at most N frames of each test
    #[arg(long, value_name = "N", default_value_t = 8)]
    frames: usize,
}

struct Artifact {
    dir: PathBuf,
    record: Record,
    bytes: u64,
    /// The frames of the thread that the failure is about.
    frames: Vec<String>,
}

fn read(dir: &Path, most: usize) -> Option<Artifact> {
    let reader = TraceReader::open(dir).ok()?;
    let record = Record::of(&reader).ok()?;
    let text = artifact::backtrace_of(&reader);
    Some(Artifact {
        dir: dir.to_path_buf(),
        record,
        bytes: traces::bytes_on_disk(dir),
        frames: frames(&text, most),
    })
}

/// The first frames of a backtrace, without local variables: those of the first thread of the first place, or, where a panic or an
/// exception came before an exit, those below the functions that unwind.
fn frames(text: &str, most: usize) -> Vec<String> {
    let place = text.split("\n=== ").next().unwrap_or_default();
    if let Some((_, thrower)) = place.split_once(LAST_THROW) {
        let mut frames = first_frames(thrower, usize::MAX);
        let program = frames.iter().position(|frame| !is_unwinding(frame));
        frames.drain(..program.unwrap_or(0));
        frames.truncate(most);
        return frames;
    }
    first_frames(place, most)
}

/// Says if a frame belongs to the machinery of panics and exceptions: nobody looks for the failure there.
fn is_unwinding(frame: &str) -> bool {
    // "#2  0x000055 in core::panicking::panic_fmt () at …"; the first frame has no address.
    let words = frame.split_once(' ').map_or("", |(_, rest)| rest.trim_start());
    let function = match words.split_once(" in ") {
        Some((address, function)) if address.starts_with("0x") => function,
        _ => words,
    };
    ["std::", "core::", "__rustc", "rust_", "__cxa_throw"]
        .iter()
        .any(|start| function.starts_with(start))
}

fn first_frames(text: &str, most: usize) -> Vec<String> {
    let from_first = text.lines().skip_while(|line| !line.starts_with("#0 "));
    let mut frames: Vec<String> = Vec::new();
    for line in from_first {
        let is_frame = line.starts_with('#');
        if line.is_empty()
            || frames.len() == most
            || (is_frame && line.starts_with("#0 ") && !frames.is_empty())
        {
            break;
        }
        if is_frame {
            frames.push(line.trim_end().to_owned());
        }
    }
    frames
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let entries = std::fs::read_dir(&options.dir);
    let entries = entries.with_context(|| format!("cannot read {}", options.dir.display()))?;
    let mut artifacts: Vec<Artifact> = entries
        .flatten()
        .filter_map(|entry| read(&entry.path(), options.frames))
        .collect();
    artifacts.sort_by(|a, b| a.dir.cmp(&b.dir));
    match options.json {
        true => {
            let all: Vec<_> = artifacts
                .iter()
                .map(|a| json!({ "path": a.dir, "test": a.record, "bytes": a.bytes, "frames": a.frames }))
                .collect();
            println!("{}", serde_json::to_string_pretty(&all)?);
        }
        false => print!("{}", markdown(&artifacts)),
    }
    Ok(ExitCode::SUCCESS)
}

/// A text inside a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn markdown(artifacts: &[Artifact]) -> String {
    if artifacts.is_empty() {
        return "No test that was recorded has failed.\n".into();
    }
    let mut text = String::from("| test | failure | events | size | replay |\n|---|---|---|---|---|\n");
    for a in artifacts {
        let failure = a.record.failure.as_deref().unwrap_or("passed");
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | `rr replay {}` |",
            cell(&a.record.name),
            cell(failure),
            a.record.outcome.events,
            indicatif::HumanBytes(a.bytes),
            cell(&a.dir.display().to_string()),
        );
    }
    for a in artifacts.iter().filter(|a| !a.frames.is_empty()) {
        let _ = writeln!(text, "\n### {}\n\n```", a.record.name);
        for frame in &a.frames {
            let _ = writeln!(text, "{frame}");
        }
        text.push_str("```\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    const BACKTRACE: &str = "=== 1 of 1: process 7, thread 8: SIGSEGV\n\n>>> SIGSEGV here:\nThread 8\n#0  boom (at=0x0) at a.c:3\n        \
        local = 9\n#1  0x12 in main () at a.c:9\nNo locals.\n\nThread 7\n#0  pause ()\n";

    #[test]
    fn frames_are_those_of_the_first_thread() {
        assert_eq!(
            frames(BACKTRACE, 8),
            ["#0  boom (at=0x0) at a.c:3", "#1  0x12 in main () at a.c:9"]
        );
        assert_eq!(frames(BACKTRACE, 1).len(), 1);
        assert!(frames("no frames", 8).is_empty());
    }

    #[test]
    fn frames_of_a_panic_begin_in_the_program() {
        let text = format!(
            "=== 1 of 2: process 7\n\n>>> exit with status 101 here:\nThread 7\n#0  _exit ()\n#1  main ()\n\n{LAST_THROW}\n\
             #0  std::panicking::rust_panic () at a.rs:1\n        x = 1\n#1  0x12 in core::panicking::panic_fmt () at a.rs:2\n\
             #2  0x34 in own::tests::bad () at own.rs:8\n#3  0x56 in core::ops::FnOnce::call_once () at f.rs:3\n\n\
             === 2 of 2: process 9\n#0  other ()\n"
        );
        assert_eq!(
            frames(&text, 8),
            [
                "#2  0x34 in own::tests::bad () at own.rs:8",
                "#3  0x56 in core::ops::FnOnce::call_once () at f.rs:3"
            ]
        );
    }

    #[test]
    fn a_report_is_a_table_and_frames() {
        let record = Record {
            name: "a|b".into(),
            test: vec!["./t".into()],
            failure: Some("killed by SIGSEGV".into()),
            attempt: 1,
            seed: None,
            outcome: Outcome {
                exit_code: None,
                signal: Some(11),
                timed_out: false,
                events: 12,
                crashes: vec![],
            },
        };
        let artifact = Artifact {
            dir: "failures/a-0".into(),
            record,
            bytes: 4096,
            frames: frames(BACKTRACE, 1),
        };
        let expected = "| test | failure | events | size | replay |\n|---|---|---|---|---|\n\
            | a\\|b | killed by SIGSEGV | 12 | 4.00 KiB | `rr replay failures/a-0` |\n\n### a|b\n\n```\n#0  boom (at=0x0) at a.c:3\n```\n";
        assert_eq!(markdown(&[artifact]), expected);
        assert_eq!(markdown(&[]), "No test that was recorded has failed.\n");
    }
}
