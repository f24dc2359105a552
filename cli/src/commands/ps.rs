//! `rr ps`: the processes of a recording.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use rr_trace::processes;

use crate::traces;

/// The command line of `rr ps`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Print the processes of a recording",
    long_about = "Print the processes of a recording, one a line, with tabs between: PID, PPID (`--` for the first), \
    EXIT (an exit status; -N: killed by signal N; `none`: the recording ended before) and CMD (what it executed last; \
    `(forked without exec)`)."
)]
pub struct Options {
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let reader = traces::open(options.trace.as_deref())?;
    println!("PID\tPPID\tEXIT\tCMD");
    for process in processes::all(&reader)? {
        let parent = process.parent.map_or("--".into(), |p| p.to_string());
        let exit = match process.status {
            None => "none".into(),
            Some(status) if libc::WIFSIGNALED(status) => format!("-{}", libc::WTERMSIG(status)),
            Some(status) => libc::WEXITSTATUS(status).to_string(),
        };
        let last = process.executed.last();
        let command = last.map_or("(forked without exec)".into(), |e| e.args.join(" "));
        println!("{}\t{parent}\t{exit}\t{command}", process.pid);
    }
    Ok(ExitCode::SUCCESS)
}
