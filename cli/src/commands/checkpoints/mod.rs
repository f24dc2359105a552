//! `rr checkpoints`: what checkpoints a recording has; removing some.

pub mod list;
mod remove;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

/// The command line of `rr checkpoints`.
#[derive(clap::Args, Debug)]
#[command(
    about = "List the checkpoints of a recording, or remove some",
    long_about = "List the checkpoints of a recording: event, time since the recording began, tasks, size of the memory that it \
    gives back, size of its file, how long the program stood still for it, and who made it.\n\n\
    Checkpoints refer to what earlier ones have stored. When one is removed, what others need of it stays, so that each of \
    them can be used as before.",
    args_conflicts_with_subcommands = true,
    subcommand_precedence_over_arg = true
)]
pub struct Options {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Remove the checkpoints at these events
    Rm {
        /// Trace directory or name (one that is a number: ./N), the latest one if omitted; and the events
        #[arg(required = true, value_name = "[TRACE] EVENT")]
        args: Vec<OsString>,
    },
    /// Remove those that are missed least, until the rest is small enough
    ///
    /// The first checkpoint and the latest ones stay, and the others get the sparser the farther they are from the end.
    Thin(remove::Thin),
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.action {
        None => list::run(options.trace.as_deref(), options.json),
        Some(Action::Rm { args }) => remove::rm(args),
        Some(Action::Thin(thin)) => remove::thin(thin),
    }
}
