//! `rr backtrace`: what a CI job puts into its log: where the processes of a recording were killed by a signal, with the
//! frames of all their threads.
//!
//! Each place is reached from the nearest checkpoint; gdb, without a terminal, prints the frames ([`gdb`]). Nothing of
//! this changes the trace.

mod gdb;
mod places;

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rr_replayer::Position;
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;
use rr_trace::processes;

use super::replay::debugger::launch;
use super::replay::target::{self, Start};
use crate::traces;
use gdb::Frames;
use places::{Cause, Place};

/// The command line of `rr backtrace`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Print backtraces of all threads where processes were killed by a signal",
    long_about = "Print, for each signal that killed a process of the recording (crashes, aborts, failed assertions), \
    the backtraces of all threads of that process with local variables, on standard output. For logs: no terminal is \
    needed, and nothing is asked.\n\nExit status: 0 if all was printed, also if no process was killed by a signal; 2 if \
    places are listed, but frames are missing (no gdb, or a time limit); 1 on other errors."
)]
pub struct Options {
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
    /// Print at most this many frames of each thread
    #[arg(long, value_name = "N", default_value = "64")]
    frames: NonZeroUsize,
    /// Print at most this many places
    #[arg(long, value_name = "N", default_value = "10")]
    limit: NonZeroUsize,
    /// Give up on a place after this time
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
    /// Print also where processes exit with a status other than 0 (as sanitizers let them), and the last panic (Rust) or
    /// exception (C++) before that
    #[arg(long)]
    on_exit_status: bool,
    /// Print also where the processes are that have not ended by the end of the recording
    #[arg(long)]
    at_end: bool,
    /// The gdb to use; gdb if omitted
    #[arg(short = 'd', long, value_name = "PATH")]
    debugger: Option<PathBuf>,
}

/// The heading of the frames where the last panic or exception before an exit began.
pub const LAST_THROW: &str = ">>> the last panic or exception before it:";
/// Frames of places are missing.
const INCOMPLETE: u8 = 2;

/// Asks for an end when it is time.
struct Until(Instant);

impl rr_replayer::Interrupt for Until {
    fn is_requested(&mut self) -> bool {
        Instant::now() >= self.0
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    rr_recorder::inherited::raise_file_limit();
    let reader = traces::open(options.trace.as_deref())?;
    let wanted = places::Wanted {
        exit_statuses: options.on_exit_status,
        end: options.at_end,
    };
    let all = places::all(&reader, wanted)?;
    let mut out = io::stdout();
    if all.is_empty() {
        let or = match options.on_exit_status {
            true => ", and no exit status other than 0",
            false => "",
        };
        writeln!(out, "no fatal signal in this recording{or}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let gdb = gdb::check(options.debugger.as_ref());
    if let Err(why) = &gdb {
        eprintln!("rr: {why}");
    }
    let mut is_complete = gdb.is_ok();
    for (n, place) in all.iter().take(options.limit.get()).enumerate() {
        writeln!(
            out,
            "{}",
            head(place, n + 1, all.len(), reader.path(), reader.last_event())
        )?;
        if gdb.is_err() {
            continue;
        }
        out.flush()?;
        is_complete &= match at(place, options, &reader) {
            Ok(frames) => {
                write!(out, "{}", body(place, &frames, options.frames.get()))?;
                frames.cut.is_none()
            }
            Err(e) => {
                writeln!(out, "\nno frames: {}\n", crate::error_text::of(&e))?;
                false
            }
        };
    }
    let left = all.len().saturating_sub(options.limit.get());
    if left > 0 {
        writeln!(out, "{left} more not shown (--limit)")?;
    }
    out.flush()?;
    Ok(match is_complete {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(INCOMPLETE),
    })
}

/// The heading of a place.
fn head(place: &Place, n: usize, count: usize, trace: &Path, last: EventNumber) -> String {
    let program = launch::shown(&place.args.iter().map(Into::into).collect::<Vec<_>>());
    let which = if place.executed { "-p" } else { "-f" };
    let words = ["rr", "replay", which].map(Into::into).into_iter().chain([
        place.process.to_string().into(),
        "-g".into(),
        place.event.to_string().into(),
        trace.into(),
    ]);
    format!(
        "=== {n} of {count}: process {}, thread {}: {}\n    program: {program}\n    event {} of {last}; to go there: {}",
        place.process,
        place.tid,
        place.cause.describe(),
        place.event,
        launch::shown(&words.collect::<Vec<_>>()),
    )
}

/// The frames as they are printed.
fn body(place: &Place, frames: &Frames, most: usize) -> String {
    let mut text = String::from("\n");
    for section in &frames.threads {
        if section.is_current {
            text += &format!(">>> {} here:\n", place.cause.describe());
        }
        text += &section.text;
        if section.text.lines().filter(|line| line.starts_with('#')).count() >= most {
            text += &format!("\n(at most {most} frames of a thread are shown: --frames)");
        }
        text += "\n\n";
    }
    if let Some(thrower) = &frames.thrower {
        text += &format!("{LAST_THROW}\n{thrower}\n\n");
    }
    if let Some(cut) = &frames.cut {
        text += &format!("frames are missing: {cut}\n\n");
    }
    text
}

/// Goes to a place, and lets gdb look at it.
fn at(place: &Place, options: &Options, reader: &Arc<TraceReader>) -> Result<Frames> {
    let deadline = Instant::now() + Duration::from_secs(options.timeout);
    let (at, to) = match place.cause {
        Cause::End => (place.event, Position::at_event(place.event)),
        Cause::Signal { .. } | Cause::Status(_) => {
            let before = EventNumber(place.event.0.saturating_sub(1));
            (before, Position::before_event(before))
        }
    };
    let start = Start {
        process: place.process,
        begin: place.began,
        at,
    };
    let processes = processes::all(reader)?;
    let mut until = Until(deadline);
    let made = target::make_at(Arc::clone(reader), processes, &start, &to, None, &mut until)?;
    let Some(mut made) = made else {
        bail!(
            "the place was not reached within {} s (--timeout)",
            options.timeout
        );
    };
    let options = gdb::Options {
        gdb: options.debugger.clone(),
        frames: options.frames.get(),
        deadline,
        serve_files: !made.files_are_here,
        last_throw: matches!(place.cause, Cause::Status(_)),
    };
    gdb::frames(&mut made.target, &options, place.tid)
}
