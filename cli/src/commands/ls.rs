//! `rr ls`: the recordings in the trace directory.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rr_trace::TraceReader;

use crate::traces;

/// The command line of `rr ls`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Also print start time, number of events, checkpoints and size
    #[arg(short = 'l', long = "full-listing")]
    long: bool,
    /// Oldest first, instead of by name
    #[arg(short = 't', long = "sort-by-age")]
    by_age: bool,
    /// Reverse the order
    #[arg(short, long)]
    reverse: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let root = traces::root();
    if !root.exists() {
        return Ok(ExitCode::SUCCESS);
    }
    let mut found: Vec<(String, SystemTime)> = Vec::new();
    let entries = std::fs::read_dir(&root).with_context(|| format!("cannot read {}", root.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let meta = entry.metadata();
        if let Ok(meta) = meta
            && (meta.is_dir() || rr_trace::pack::is_pack(&entry.path()))
            && !name.starts_with('.')
        {
            let header = entry.path().join("header").metadata().and_then(|m| m.modified());
            found.push((name, header.or_else(|_| meta.modified()).unwrap_or(UNIX_EPOCH)));
        }
    }
    found.sort();
    if options.by_age {
        found.sort_by_key(|(_, time)| *time);
    }
    if options.reverse {
        found.reverse();
    }
    for (name, _) in found {
        if !options.long {
            println!("{name}");
            continue;
        }
        let path = root.join(&name);
        match TraceReader::open(&path) {
            Ok(reader) => println!(
                "{name}\t{}\t{} events\t{} checkpoints\t{} KiB\t{}",
                reader.header().started_ns / 1_000_000_000,
                reader.last_event(),
                reader.checkpoints().map_or(0, |c| c.len()),
                traces::bytes_on_disk(&path) / 1024,
                if reader.is_complete() {
                    "complete"
                } else {
                    "incomplete"
                },
            ),
            Err(e) => println!("{name}\t{e}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}
