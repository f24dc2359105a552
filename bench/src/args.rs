//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// What recording, replaying and checkpoints cost, as ratios from one run.
#[derive(Parser, Debug)]
pub struct Args {
    /// The rr binary to measure [default: beside this program].
    #[arg(long)]
    pub rr: Option<PathBuf>,
    /// Runs of each kind; the median counts.
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// A tenth of the size: to see that everything works, not to quote.
    #[arg(long)]
    pub quick: bool,
    /// Full size for what is about debugging and checkpoints: a replay of a minute, a process of a gigabyte.
    #[arg(long, conflicts_with = "quick")]
    pub full: bool,
    /// Only workloads and programs whose name contains this (and "checkpoints" and "debugger", for the tables about these).
    #[arg(long)]
    pub only: Option<String>,
    /// Leave out recordings without the buffer, which take nine tenths of the time.
    #[arg(long)]
    pub buffered: bool,
    /// Compare the CPU time of workloads, not the time that passes: for a machine that others use too.
    #[arg(long)]
    pub cpu_time: bool,
    /// Write the measurements of the workloads to this file, as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

impl Args {
    /// Returns whether the workload with this name is to be measured.
    pub fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}
