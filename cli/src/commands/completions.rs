//! `rr completions`: how a shell completes the command line of rr.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap_complete::Shell;

/// The command line of `rr completions`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Print the completions of rr's command line for a shell",
    long_about = "Print a script that lets a shell complete commands and options of rr.\n\n\
    Example: rr completions bash > ~/.local/share/bash-completion/completions/rr"
)]
pub struct Options {
    /// The shell
    shell: Shell,
}

/// Runs the command. `rr` is the whole command line.
pub fn run(options: &Options, mut rr: clap::Command) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut rr, "rr", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
