//! CRIU on the same process, where it is installed and can run: how long the process stands still, how many bytes there are, how
//! long it takes to get the process back.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use rr_tests::programs::is_installed;

use super::process::{Busy, PAGES};
use crate::figures::Figures;
use crate::measure::size_of;

/// Ends a process when it is dropped.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn criu(args: &[&str]) -> Result<(Output, f64)> {
    let begin = Instant::now();
    let output = Command::new("timeout")
        .args(["-k", "5", "120", "criu"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("criu")?;
    Ok((output, begin.elapsed().as_secs_f64()))
}

/// The last line that a command has written to standard error.
fn last_words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().last().unwrap_or("it says nothing").trim().to_owned()
}

/// A figure of criu's statistics file, in microseconds: `crit` decodes it.
fn frozen_us(dir: &Path) -> Option<f64> {
    let output = Command::new("crit")
        .args(["decode", "-i"])
        .arg(dir.join("stats-dump"))
        .output()
        .ok()?;
    let stats: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    stats["entries"][0]["dump"]["frozen_time"].as_f64()
}

/// Pre-dumps, dumps and restores it.
pub fn report(busy: &Busy, dir: &Path, figures: &mut Figures) -> Result<()> {
    if !is_installed("criu") {
        figures.skipped("CRIU", "not installed");
        return Ok(());
    }
    let (check, _) = criu(&["check"])?;
    if !check.status.success() {
        figures.skipped("CRIU", format!("cannot run here: {}", last_words(&check)));
        return Ok(());
    }
    let line = busy.line(PAGES, false);
    let mut command = Command::new("setsid");
    command.args(&line).stdin(Stdio::null());
    let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let process = Process(process.context("starting the process")?);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let pid = process.0.id().to_string();
    let (pre, full) = (dir.join("criu-pre"), dir.join("criu-full"));
    for dir in [&pre, &full] {
        std::fs::create_dir_all(dir).context("a directory for criu")?;
    }
    let steps: [(&str, &Path, Vec<&str>); 2] = [
        ("pre-dump", &pre, vec!["--track-mem"]),
        (
            "dump",
            &full,
            vec!["--track-mem", "--prev-images-dir", "../criu-pre", "--shell-job"],
        ),
    ];
    for (verb, into, options) in steps {
        let images = into.display().to_string();
        let args = [&[verb, "-t", &pid, "-D", &images], &options[..]].concat();
        let (output, seconds) = criu(&args)?;
        if !output.status.success() {
            figures.skipped(format!("CRIU {verb}"), format!("failed: {}", last_words(&output)));
            return Ok(());
        }
        figures.plain(format!("CRIU {verb}"), seconds, "s");
        if let Some(us) = frozen_us(into) {
            figures.plain(format!("CRIU {verb}: frozen"), us, "µs");
        }
        figures.plain(format!("CRIU {verb}: bytes"), size_of(into) as f64 / 1e6, "MB");
    }
    let images = full.display().to_string();
    let (output, seconds) = criu(&[
        "restore",
        "-D",
        &images,
        "--shell-job",
        "--restore-detached",
        "--pidfile",
        "pid",
    ])?;
    if output.status.success() {
        figures.plain("CRIU restore", seconds, "s");
        // The restored process is not our child.
        if let Ok(pid) = std::fs::read_to_string(full.join("pid"))
            && let Ok(pid) = pid.trim().parse::<i32>()
        {
            // SAFETY: a plain system call; criu has just said that this is the process which it has made.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    } else {
        figures.skipped("CRIU restore", "failed");
    }
    Ok(())
}
