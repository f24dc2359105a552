//! `rr man`: the manual pages, made of the same texts as `--help`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

/// The command line of `rr man`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Write the manual pages into a directory",
    long_about = "Write the manual pages of rr and of each command (rr.1, rr-record.1, ...) into a directory, which must exist.\n\n\
    Example: rr man ~/.local/share/man/man1; man rr-record"
)]
pub struct Options {
    /// The directory
    dir: PathBuf,
}

/// Runs the command. `rr` is the whole command line.
pub fn run(options: &Options, rr: clap::Command) -> Result<ExitCode> {
    clap_mangen::generate_to(rr, &options.dir)
        .with_context(|| format!("writing manual pages into {}", options.dir.display()))?;
    Ok(ExitCode::SUCCESS)
}
