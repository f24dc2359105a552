//! `rr replay`: replays a recording, from the beginning or from a checkpoint.

pub(super) mod debugger;
pub(super) mod target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use rr_replayer::ReplaySession;
use rr_replayer::stretch::Stored;
use rr_trace::TraceReader;
use rr_trace::event::{Event, EventKind, EventNumber};
use rr_trace::processes::{self, Process};
use rr_tracee::Tid;
use rr_tracee::cpus::{Cpus, bind_thread, set_of};

use crate::claimed;
use crate::compatibility::ReplayOptions;
use crate::echo::{Chosen, Echo};
use crate::global::Global;
use crate::{progress, registers, traces};

/// The command line of `rr replay`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Replay a recording",
    // -h is the debugger's host, as in the original.
    disable_help_flag = true,
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
    #[arg(short, long, alias = "no-redirect-output")]
    quiet: bool,
    /// Say on stderr from which checkpoint the replay started and when EVENT was reached
    #[arg(short, long)]
    verbose: bool,
    /// Show only what this process writes: the first that executes a program and has this number, or executes a
    /// program of this name; with --goto-exit, stop before it exits
    #[arg(short = 'p', long, value_name = "PID|COMMAND", conflicts_with = "onfork")]
    onprocess: Option<String>,
    /// The same for a process that need not execute a program
    #[arg(short = 'f', long, value_name = "PID")]
    onfork: Option<i32>,
    /// Stop just before the first process, or that of -p or -f, exits
    #[arg(short = 'e', long)]
    goto_exit: bool,
    /// Append what the program writes to FILE (a terminal, perhaps) instead of showing it here
    #[arg(long, value_name = "FILE", conflicts_with = "quiet")]
    tty: Option<PathBuf>,
    /// Print registers on stderr after EVENT and every later event
    #[arg(short = 't', long = "trace", value_name = "EVENT")]
    trace_from: Option<u64>,
    /// Print statistics on stderr every N events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    stats: Option<u64>,
    /// Accepted for compatibility: rr binds replay to one CPU
    #[arg(short = 'u', long, hide = true)]
    cpu_unbound: bool,
    /// Accepted for compatibility: a replay here has no transient errors
    #[arg(long, hide = true)]
    retry_transient_errors: bool,
    #[command(flatten)]
    compatibility: ReplayOptions,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
    // Last: what follows `--` comes after the trace.
    #[command(flatten)]
    debugger: debugger::DebuggerOptions,
}

impl Options {
    /// Says if the options are about one of the processes.
    fn chooses(&self) -> bool {
        self.onprocess.is_some() || self.onfork.is_some() || self.goto_exit
    }
}

/// The statuses that replay ends with before it begins. They are those of the original rr (docs/usage.md).
mod status {
    /// There is no such process.
    pub const NO_PROCESS: u8 = 2;
    /// Inside a recording, and no trace was named: the latest trace is the one being made.
    pub const NESTED: u8 = 3;
    /// `-k` without `-s`.
    pub const KEEP_WITHOUT_PORT: u8 = 4;
}

/// Says why, and the status to end with.
fn refuse(why: &str, status: u8) -> Result<ExitCode> {
    eprintln!("rr: {why}");
    Ok(ExitCode::from(status))
}

/// The process that -p, -f and -e are about, or why there is none.
fn chosen(options: &Options, reader: &TraceReader, all: &[Process]) -> Result<Option<Chosen>, String> {
    if !options.chooses() {
        return Ok(None);
    }
    let found = if let Some(name) = &options.onprocess {
        let found = processes::that_executed(all, name);
        let pid = name.parse().ok().map(Tid);
        match found {
            Some(found) => found,
            None if all.iter().any(|p| Some(p.pid) == pid) => {
                return Err(format!("process {name} executes no program (choose it with -f)"));
            }
            None => {
                return Err(format!(
                    "no process {name} executes a program in the recording (rr ps lists them)"
                ));
            }
        }
    } else {
        let first = all.first().map(|p| p.pid);
        let pid = options.onfork.map(Tid).or(first);
        match all.iter().find(|p| Some(p.pid) == pid) {
            Some(process) => (process, process.began),
            None => {
                let pid = pid.unwrap_or(Tid(0));
                return Err(format!(
                    "there is no process {pid} in the recording (rr ps lists them)"
                ));
            }
        }
    };
    let (process, from) = found;
    let to = process.ended.unwrap_or(reader.last_event());
    if options.goto_exit && process.ended.is_none() {
        return Err(format!("process {} does not exit in the recording", process.pid));
    }
    let pid = process.pid;
    Ok(Some(Chosen { pid, from, to }))
}

/// Lets the user debug the recording.
fn debug(options: &Options, global: &Global, reader: Arc<TraceReader>) -> Result<ExitCode> {
    let all = processes::all(&reader)?;
    let mut start = target::first(&all)?;
    match chosen(options, &reader, &all) {
        Ok(None) => {}
        Ok(Some(chosen)) => {
            let process = all
                .iter()
                .rfind(|p| p.pid == chosen.pid && p.began <= chosen.from);
            start.process = chosen.pid;
            // A program that the process executed before the named one is another program.
            start.begin = match options.onprocess {
                Some(_) => chosen.from,
                None => process.map_or(chosen.from, |p| p.began),
            };
            start.at = match options.goto_exit {
                true => EventNumber(chosen.to.0.saturating_sub(1)),
                false => chosen.from,
            };
        }
        Err(why) => return refuse(&why, status::NO_PROCESS),
    }
    if let Some(event) = options.goto {
        let process = all
            .iter()
            .rfind(|p| p.pid == start.process && p.began <= start.begin);
        // A process that is gone cannot be debugged.
        let last = process
            .and_then(|p| p.ended)
            .map_or(reader.last_event(), |ended| EventNumber(ended.0 - 1));
        start.at = EventNumber(event).min(last).max(start.begin);
    }
    let echo = match options.quiet {
        true => None,
        false => {
            let echo = Echo::new().with_marks(global.mark_stdio);
            Some(match &options.tty {
                Some(path) => echo.into_file(path)?,
                None => echo,
            })
        }
    };
    let mut made = target::make(reader, all, &start, echo)?;
    let serve_files = options.debugger.serve_files || !made.files_are_here;
    debugger::debug(&mut made.target, &options.debugger, serve_files)
}

/// Counts for `--stats`.
#[derive(Default)]
struct Counts {
    calls: u64,
    written: u64,
}

impl Counts {
    fn add(&mut self, event: &Event) {
        self.calls += u64::from(matches!(event.kind, EventKind::Syscall { .. }));
        self.written += event.writes.iter().map(|w| w.data.len() as u64).sum::<u64>();
    }
}

/// Runs the command.
pub fn run(options: &Options, global: &Global) -> Result<ExitCode> {
    rr_recorder::inherited::raise_file_limit();
    if options.debugger.keep_listening && options.debugger.dbgport.is_none() {
        return refuse("-k (--keep-listening) needs -s PORT", status::KEEP_WITHOUT_PORT);
    }
    if options.trace.is_none() && std::env::var_os("RUNNING_UNDER_RR").is_some() {
        return refuse(
            "inside a recording there is no latest trace: name one",
            status::NESTED,
        );
    }
    let reader = traces::open(options.trace.as_deref())?;
    let last = reader.last_event();
    // The event of a checkpoint, if the beginning of the recording is gone.
    let begin = reader.begins_at();
    let first = begin.map_or(EventNumber(1), EventNumber::next);
    for (name, event) in [("--goto", options.goto), ("--until", options.until)] {
        if let Some(event) = event.map(EventNumber)
            && (event > last || event < begin.unwrap_or(first))
        {
            let why = match begin {
                Some(_) => " (those before were deleted while it was made: rr record --keep-last)",
                None => "",
            };
            bail!("{name} {event}: the recording has the events {first} to {last}{why}");
        }
    }
    if let Some(begin) = begin {
        if options.from_start {
            bail!(
                "--from-start: the recording begins with event {first}, those before were deleted while it was made (rr record --keep-last)"
            );
        }
        if !options.quiet && options.goto.is_none() {
            eprintln!(
                "rr: the recording has lost its beginning (rr record --keep-last): replay starts at the checkpoint at event {begin}"
            );
        }
    }
    if !options.autopilot {
        return debug(options, global, reader);
    }
    let all = match options.chooses() {
        true => processes::all(&reader)?,
        false => Vec::new(),
    };
    let chosen = match chosen(options, &reader, &all) {
        Ok(chosen) => chosen,
        Err(why) => return refuse(&why, status::NO_PROCESS),
    };
    let mut echo = Echo::new()
        .only(chosen.filter(|_| options.onprocess.is_some() || options.onfork.is_some()))
        .with_marks(global.mark_stdio);
    if let Some(path) = &options.tty {
        echo = echo.into_file(path)?;
    }
    let cpus = Cpus::survey();
    let claim = claimed::for_replay(&cpus, &reader);
    let bound = claim.cpu();
    let began = Instant::now();
    let goto = options.goto.map(EventNumber).or(begin);
    let mut session = match goto {
        Some(event) if !options.from_start => {
            let stored = Stored::new(Arc::clone(&reader), cpus.set())?;
            let near = stored.session_near(event, |at| stored.session(at, Some(bound)))?;
            near.session
        }
        _ => ReplaySession::start(Arc::clone(&reader), Some(bound))?,
    };
    bind_thread(&set_of(&[bound]));
    if options.verbose {
        match session.last_event() {
            EventNumber(0) => eprintln!("rr: replay starts from the beginning"),
            event => eprintln!(
                "rr: replay starts from the checkpoint at event {event} ({} ms)",
                began.elapsed().as_millis()
            ),
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
    let before_exit = chosen
        .filter(|_| options.goto_exit)
        .map(|process| (process.pid, process.to));
    let mut until = options.until.map_or(last, EventNumber);
    if let Some((_, exit)) = before_exit {
        until = until.min(EventNumber(exit.0 - 1));
    }
    let mut counts = Counts::default();
    let bar = progress::bar(until.0, "replaying");
    bar.set_position(session.last_event().0);
    while session.last_event() < until {
        let Some(replayed) = session.step()? else { break };
        let (number, tid) = (replayed.event.number, replayed.event.tid);
        counts.add(&replayed.event);
        if !options.quiet {
            if bar.is_hidden() {
                echo.show(&session, replayed, &reader)?;
            } else {
                bar.suspend(|| echo.show(&session, replayed, &reader))?;
            }
        }
        reached(&session);
        if options.trace_from.is_some_and(|from| number.0 >= from) {
            let regs = session.registers(tid).map(|regs| registers::line(&regs));
            eprintln!("rr: event {number} tid {tid} {}", regs.unwrap_or("gone".into()));
        }
        if options.stats.is_some_and(|n| number.0 % n == 0) {
            eprintln!(
                "rr: {number} events: {} system calls, {} bytes written, {} ms",
                counts.calls,
                counts.written,
                began.elapsed().as_millis()
            );
        }
        if number.0 % 1024 == 0 {
            bar.set_position(number.0);
        }
    }
    bar.finish_and_clear();
    if let Some((pid, exit)) = before_exit
        && session.last_event() == until
        && until.0 == exit.0 - 1
    {
        eprintln!("rr: process {pid} exits at event {exit}; stopped before it, at event {until}");
    }
    if options.until.is_none() && before_exit.is_none() && !reader.is_complete() {
        eprintln!(
            "rr: the recording is incomplete (rr was killed or the disk was full): replayed up to its last flushed event {last}"
        );
    }
    Ok(ExitCode::SUCCESS)
}
