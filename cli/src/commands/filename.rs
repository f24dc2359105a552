//! `rr filename`: under which name the recorded program mapped a file that lies in a trace.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rr_trace::TraceReader;

use crate::mapped;

/// The command line of `rr filename`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Print the original name of a file in a trace",
    long_about = "Print the original names of files in a trace (TRACE/files/...): one line each, several if the \
    recorded program mapped files of the same contents."
)]
pub struct Options {
    /// Files in the directory `files` of a trace
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn names(file: &Path) -> Result<BTreeSet<String>> {
    let path = std::path::absolute(file).with_context(|| format!("{}", file.display()))?;
    let (Some(id), Some(trace)) = (path.file_name(), path.parent().and_then(Path::parent)) else {
        bail!("{} is not a file in a trace", file.display());
    };
    let reader = TraceReader::open(trace)?;
    let mut names = BTreeSet::new();
    mapped::for_each(&reader, |mapping, content| {
        if *content.to_string() == *id {
            names.insert(mapping.name.to_string());
        }
    })?;
    names.remove("");
    Ok(names)
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    for file in &options.files {
        let names = names(file)?;
        if names.is_empty() {
            bail!("{}: no mapped file of its trace", file.display());
        }
        names.iter().for_each(|name| println!("{name}"));
    }
    Ok(ExitCode::SUCCESS)
}
