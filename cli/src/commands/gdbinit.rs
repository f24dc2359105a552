//! `rr gdbinit`: the commands that gdb gets, for debuggers that rr does not start itself.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;

/// The command line of `rr gdbinit`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Print gdb's commands for replays",
    long_about = "Print a script that teaches gdb the commands of rr (when, checkpoint, restart, run EVENT, ...). \
    `rr replay` gives it to gdb by itself; a gdb that connects with `rr replay -s PORT` wants it in its .gdbinit or \
    by -x."
)]
pub struct Options {}

/// Runs the command.
pub fn run(_options: &Options) -> Result<ExitCode> {
    std::io::stdout().write_all(rr_debugger::script::script().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
