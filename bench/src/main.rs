//! The costs of recording, replaying, checkpoints and debugging.
//!
//! All figures are ratios of medians measured in one run on one machine, native and recorded runs taking
//! turns, so that they mean something elsewhere too. Prints a Markdown report (`scripts/bench` puts it into
//! `docs/performance.md`).

mod args;
mod checkpoints;
mod debugger;
mod figures;
mod helpers;
mod measure;
mod programs;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use args::Args;

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
