//! The costs of recording, replaying, checkpoints and debugging.
//!
//! All figures are ratios of medians measured in one run on one machine, native and recorded runs taking
//! turns, so that they mean something elsewhere too. Prints a Markdown report (`scripts/bench` puts it into
//! `docs/performance.md`).

mod checkpoints;
mod debugger;
mod figures;
mod measure;
mod programs;
mod workloads;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;

/// What recording, replaying and checkpoints cost, as ratios from one run.
#[derive(Parser, Debug)]
struct Args {
    /// The rr binary to measure [default: beside this program].
    #[arg(long)]
    rr: Option<PathBuf>,
    /// Runs of each kind; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// A tenth of the size: to see that everything works, not to quote.
    #[arg(long)]
    quick: bool,
    /// Full size for what is about debugging and checkpoints: a replay of a minute, a process of a gigabyte.
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Only workloads and programs whose name contains this (and "checkpoints" and "debugger", for the tables about these).
    #[arg(long)]
    only: Option<String>,
    /// Leave out recordings without the buffer, which take nine tenths of the time.
    #[arg(long)]
    buffered: bool,
    /// Compare the CPU time of workloads, not the time that passes: for a machine that others use too.
    #[arg(long)]
    cpu_time: bool,
    /// Write the measurements of the workloads to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Args {
    /// Returns whether the workload with this name is to be measured.
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("rr-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints everything; `false` if a stated goal was missed.
fn run(args: &Args) -> Result<bool> {
    let rr = match &args.rr {
        Some(path) => path.clone(),
        None => beside_this_program()?,
    };
    let rr = rr
        .canonicalize()
        .with_context(|| format!("{}: no such program", rr.display()))?;
    if args.runs == 0 {
        bail!("--runs must be at least 1");
    }
    let work = tempfile::Builder::new()
        .prefix("rr-bench-")
        .tempdir()
        .context("a temporary directory")?;
    println!("{}\n", machine());
    let mut measured = Vec::new();
    let within = workloads::report(args, &rr, work.path(), &mut measured)?;
    if let Some(path) = &args.json {
        let report = serde_json::json!({ "machine": machine(), "runs": args.runs, "workloads": measured });
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| path.display().to_string())?;
    }
    programs::report(args, &rr, work.path())?;
    let reached = !args.wants("checkpoints") || checkpoints::report(args, &rr, work.path())?;
    let moved = !args.wants("debugger") || debugger::report(args, &rr, work.path())?;
    Ok(within && reached && moved)
}

fn beside_this_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program")?;
    let rr = own.with_file_name("rr");
    if !rr.exists() {
        bail!(
            "{}: not there; build it (cargo build --release --bin rr) or name another with --rr",
            rr.display()
        );
    }
    Ok(rr)
}

/// One line about the machine.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or(": unknown CPU");
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{} ({cores} cores), Linux {}.",
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim()
    )
}

/// A fresh directory below `work`.
fn fresh(work: &Path, name: &str) -> Result<PathBuf> {
    let dir = tempfile::Builder::new()
        .prefix(name)
        .tempdir_in(work)
        .context("a working directory")?;
    Ok(dir.keep())
}

/// Compiles one of our helpers in `work`.
fn compile(work: &Path, name: &str, text: &str, flags: &[&str]) -> Result<PathBuf> {
    let (source, helper) = (work.join(format!("{name}.c")), work.join(name));
    std::fs::write(&source, text).context("writing the helper's source")?;
    let status = Command::new("gcc")
        .args(flags)
        .arg("-o")
        .args([&helper, &source])
        .status()
        .context("gcc")?;
    if !status.success() {
        bail!("gcc cannot compile {}", source.display());
    }
    Ok(helper)
}
