//! Removing checkpoints: those that the user names, or those that are missed least.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rr_checkpoint::{Collection, retention};
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;

use crate::size::Size;
use crate::traces;

/// The command line of `rr checkpoints thin`.
#[derive(clap::Args, Debug)]
pub(super) struct Thin {
    #[command(flatten)]
    limit: Limit,
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
}

/// Bounds for what stays.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Limit {
    /// The most bytes that they may need: 500M, 2G
    #[arg(long, value_name = "SIZE")]
    budget: Option<Size>,
    /// The most checkpoints that may stay
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
}

fn number(arg: &OsString) -> Option<EventNumber> {
    arg.to_str()?.parse().ok().map(EventNumber)
}

/// The checkpoints that must stay: if the beginning of a recording is gone, replay begins at the first one.
fn needed(reader: &TraceReader, collection: &Collection) -> Vec<EventNumber> {
    let has_start = reader.first_event().0 <= 1;
    // A killed recorder may have left checkpoints before the beginning. They count for nothing.
    let mut all = collection.checkpoints().map(|member| member.event);
    let first = all.find(|event| event.next() >= reader.first_event());
    first.filter(|_| !has_start).into_iter().collect()
}

pub(super) fn rm(args: &[OsString]) -> Result<ExitCode> {
    let (trace, events) = match args.split_first() {
        Some((first, rest)) if number(first).is_none() => (Some(Path::new(first)), rest),
        _ => (None, args),
    };
    let mut wanted = Vec::new();
    for arg in events {
        wanted.push(number(arg).with_context(|| format!("{} is not an event", arg.to_string_lossy()))?);
    }
    if wanted.is_empty() {
        bail!("name the events whose checkpoints are to be removed (rr checkpoints lists them)");
    }
    let reader = traces::open(trace)?;
    let mut collection = Collection::open(&reader.checkpoint_dir()?, &reader.header().uuid)?;
    let needed = needed(&reader, &collection);
    wanted.sort_unstable();
    wanted.dedup();
    for event in wanted {
        if needed.contains(&event) {
            bail!(
                "the recording has lost its beginning, and is replayed from the checkpoint at event {event}"
            );
        }
        if !collection.remove(event) {
            bail!("there is no checkpoint at event {event} (rr checkpoints lists them); none was removed");
        }
    }
    apply(collection)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn thin(options: &Thin) -> Result<ExitCode> {
    let reader = traces::open(options.trace.as_deref())?;
    let mut collection = Collection::open(&reader.checkpoint_dir()?, &reader.header().uuid)?;
    let limit = match (options.limit.budget, options.limit.keep) {
        (Some(size), _) => retention::Limit::Bytes(size.0),
        (None, Some(count)) => retention::Limit::Count(count as usize),
        (None, None) => bail!("--budget or --keep says how much is to stay"),
    };
    let needed = needed(&reader, &collection);
    let holds = retention::thin(&mut collection, limit, &needed);
    let left = Size(collection.bytes());
    apply(collection)?;
    if !holds {
        eprintln!("rr: the budget is too small: the checkpoints that stay need {left}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn apply(collection: Collection) -> Result<()> {
    let removed = collection.apply()?;
    let count = removed.events.len();
    println!("{count} checkpoints removed, {} given back", Size(removed.freed));
    if removed.stuck > 0 {
        eprintln!(
            "rr: {} more are not needed, but the file system cannot make holes in files",
            Size(removed.stuck)
        );
    }
    Ok(())
}
