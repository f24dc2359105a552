//! `rr replay`: replays a recording, from the beginning or from a checkpoint.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rr_checkpoint::Checkpoint;
use rr_replayer::ReplaySession;
use rr_trace::TraceReader;
use rr_trace::event::{EventNumber, Stdio};

use crate::{cpu, progress, traces};

/// The command line of `rr replay`.
#[derive(clap::Args, Debug)]
#[command(
    long_about = "Replay a recording. What the program wrote to standard output and error is shown at the \
    same points (not with -q).\n\nWith --goto the replay starts at the nearest checkpoint at or before EVENT, so \
    that it takes as long as the distance from there. `rr traceinfo` lists the checkpoints, `rr dump` and \
    `rr ps` help to find events."
)]
pub struct Options {
    /// Replay without a debugger
    #[arg(short, long)]
    autopilot: bool,
    /// Go to EVENT, starting from the nearest checkpoint at or before it
    #[arg(short, long, value_name = "EVENT")]
    goto: Option<u64>,
    /// Stop after EVENT, with status 0
    #[arg(long, value_name = "EVENT")]
    until: Option<u64>,
    /// Start at the first event even if there are checkpoints
    #[arg(long)]
    from_start: bool,
    /// Do not show what the program wrote
    #[arg(short, long)]
    quiet: bool,
    /// Say on stderr from which checkpoint the replay started and when EVENT was reached
    #[arg(short, long)]
    verbose: bool,
    /// Accepted for compatibility: rr binds replay to one CPU
    #[arg(short = 'u', long, hide = true)]
    cpu_unbound: bool,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    retry_transient_errors: bool,
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
}

/// The newest checkpoint at or before `event` that can be used; damaged ones are passed over with a warning.
pub fn nearest_checkpoint(reader: &TraceReader, event: EventNumber) -> Result<Option<Checkpoint>> {
    for at in reader
        .checkpoints()?
        .into_iter()
        .rev()
        .filter(|at| *at <= event && *at <= reader.last_event())
    {
        match Checkpoint::open_at(&reader.checkpoint_dir(), at, &reader.header().uuid) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(e) => eprintln!("rr: {e}; using the checkpoint before it"),
        }
    }
    Ok(None)
}

fn show(output: &(Stdio, Vec<u8>)) -> Result<()> {
    match output.0 {
        Stdio::Out => {
            let mut out = std::io::stdout().lock();
            out.write_all(&output.1)
                .and_then(|()| out.flush())
                .context("writing the program's output")
        }
        Stdio::Err => std::io::stderr()
            .write_all(&output.1)
            .context("writing the program's error output"),
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !options.autopilot {
        bail!("debugging a replay is not built yet: use `rr replay -a` (with --goto and --until)");
    }
    let reader = traces::open(options.trace.as_deref())?;
    let last = reader.last_event();
    for (name, event) in [("--goto", options.goto), ("--until", options.until)] {
        if let Some(event) = event
            && (event > last.0 || event == 0)
        {
            bail!("{name} {event}: the recording has the events 1 to {last}");
        }
    }
    let cpus = cpu::survey();
    let bound = cpu::for_replay(&cpus, reader.header());
    let began = Instant::now();
    let goto = options.goto.map(EventNumber);
    let checkpoint = match goto {
        Some(event) if !options.from_start => nearest_checkpoint(&reader, event)?,
        _ => None,
    };
    let mut session = match &checkpoint {
        Some(checkpoint) => ReplaySession::resume(Arc::clone(&reader), checkpoint, Some(bound))?,
        None => ReplaySession::start(Arc::clone(&reader), Some(bound))?,
    };
    cpu::bind(&[bound]);
    if options.verbose {
        match &checkpoint {
            Some(checkpoint) => eprintln!(
                "rr: replay starts from the checkpoint at event {} ({} ms)",
                checkpoint.event(),
                began.elapsed().as_millis()
            ),
            None => eprintln!("rr: replay starts from the beginning"),
        }
    }
    let reached = |session: &ReplaySession| {
        if options.verbose
            && let Some(event) = goto
            && session.last_event() == event
        {
            eprintln!(
                "rr: event {event} reached after {} ms",
                began.elapsed().as_millis()
            );
        }
    };
    reached(&session);
    let until = options.until.map_or(last, EventNumber);
    let bar = progress::bar(until.0, "replaying");
    bar.set_position(session.last_event().0);
    while session.last_event() < until {
        let Some(replayed) = session.step()? else { break };
        if let Some(output) = replayed.output.filter(|_| !options.quiet) {
            bar.suspend(|| show(&output))?;
        }
        reached(&session);
        if replayed.event.number.0 % 1024 == 0 {
            bar.set_position(replayed.event.number.0);
        }
    }
    bar.finish_and_clear();
    if options.until.is_none() && !reader.is_complete() {
        eprintln!(
            "rr: the recording is incomplete (rr was killed or the disk was full): replayed up to its last flushed event {last}"
        );
    }
    Ok(ExitCode::SUCCESS)
}
