//! `rr create-checkpoints`: arguments, progress and report of [`rr_replayer::create`].

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use nix::unistd::{AccessFlags, access};
use rr_checkpoint::{Budget, CheckpointWriter, Interval, Maker, bytes_on_disk};
use rr_replayer::create::{Account, End, Plan, Request, Told, create};
use rr_replayer::stretch::Stored;
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;
use rr_tracee::cpus::Cpus;

use crate::budget::BudgetOption;
use crate::size::Size;
use crate::{interrupt, progress, traces};

/// The command line of `rr create-checkpoints`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Add checkpoints to a recording by replaying it",
    long_about = "Add checkpoints to a recording by replaying it, so that `rr replay -g` and going backwards start near \
    every place. They are the ones that `rr record --checkpoint-interval` would have stored at the same events, and \
    the interval is the same: a number of events and buffered calls (1000), the time of the recording (2s, 500ms), \
    `auto` (every second), or events alone (1000e). A checkpoint can only be made at an event: a long computation \
    without system calls has none.\n\n\
    A checkpoint that is there counts as one of them. The command can be interrupted at any time: what was stored \
    stays, and the same command goes on from there.\n\nExample: rr create-checkpoints -i 1000 -s 50000 -e 60000 trace"
)]
pub struct Options {
    /// The distance between two checkpoints
    #[arg(short, long, value_name = "N|Ns|Nms|Ne|auto", default_value = "auto")]
    interval: Interval,
    /// The event of the first one; by default it comes an interval after the beginning
    #[arg(short, long, value_name = "EVENT")]
    start: Option<u64>,
    /// None after this event; by default the last one of the recording
    #[arg(short, long, value_name = "EVENT")]
    end: Option<u64>,
    #[command(flatten)]
    budget: BudgetOption,
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
}

/// Captures that wait for the writer: frozen processes, which the replay waits for when there are more.
const QUEUE: usize = 4;

impl Options {
    fn request(&self, reader: &TraceReader) -> Result<Request> {
        let last = reader.last_event().0;
        for (name, event) in [("--start", self.start), ("--end", self.end)] {
            if let Some(event) = event
                && (event > last || event == 0)
            {
                bail!("{name} {event}: the recording has the events 1 to {last}");
            }
        }
        let end = self.end.unwrap_or(last);
        if let Some(start) = self.start
            && start > end
        {
            bail!("--start {start} comes after --end {end}");
        }
        Ok(Request {
            interval: self.interval,
            start: self.start.map(EventNumber),
            end: EventNumber(end),
        })
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    rr_recorder::inherited::raise_file_limit();
    // The limit of file sizes is an error like a full disk.
    // SAFETY: setting a disposition to "ignore" runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let reader = traces::open(options.trace.as_deref())?;
    let request = options.request(&reader)?;
    let cpus = Cpus::survey();
    let stored = Stored::new(reader.clone(), cpus.set())?;
    interrupt::notice();
    let bar = progress::bar(request.end.0, "reading events");
    let plan = Plan::make(
        &stored,
        &request,
        &mut |event| {
            if event.0 % 1024 == 0 {
                bar.set_position(event.0);
            }
        },
        &mut interrupt::Asked,
    );
    bar.finish_and_clear();
    let Some(mut plan) = plan? else {
        return Ok(interrupt::ended("the same command goes on from here"));
    };
    if plan.missing() == 0 {
        println!("0 checkpoints written, {} were there already", plan.there());
        return Ok(ExitCode::SUCCESS);
    }
    let dir = reader.checkpoint_dir()?;
    access(&dir, AccessFlags::W_OK)
        .with_context(|| format!("cannot write checkpoints into {}", dir.display()))?;
    // Replay begins at the first checkpoint if the beginning is gone.
    let first = stored.events().first().filter(|_| !stored.has_start());
    let budget = Budget {
        bytes: options.budget.bytes(&dir)?,
        kept: first.copied().into_iter().collect(),
    };
    let (used, missing) = (bytes_on_disk(&dir)?, plan.missing() as u64);
    // A single event is asked for by name: it is worth another checkpoint's room.
    let is_named = options.start.is_some() && options.start == options.end;
    if !is_named && budget.is_full_for(missing, used, stored.events().len() as u64) {
        println!(
            "0 checkpoints written, {} were there already; {} more have no room: those that are there take {} of {} \
             (--checkpoint-budget)",
            plan.there(),
            missing,
            Size(used),
            Size(budget.bytes),
        );
        return Ok(ExitCode::SUCCESS);
    }
    let writer_options = rr_checkpoint::Options {
        queue: QUEUE,
        cpus: Some(cpus.set()),
        maker: Maker::CreateCheckpoints,
        budget: Some(budget),
        ..Default::default()
    };
    let mut writer = CheckpointWriter::start(dir, reader.header().uuid, writer_options)?;
    // From here on nobody else writes: what another rr has stored until now is left alone.
    let stored = Stored::new(reader.clone(), cpus.set())?;
    plan.leave_out(&stored);

    let bar = progress::bar(plan.missing() as u64, "writing checkpoints");
    let mut account = Account::default();
    let mut told = |told| match told {
        Told::Passed => bar.inc(1),
        Told::Impossible(e) => bar.suspend(|| eprintln!("rr: {e}")),
    };
    let end = create(
        &stored,
        &plan,
        &cpus,
        &mut writer,
        &mut account,
        &mut told,
        &mut interrupt::Asked,
    );
    let is_interrupted = matches!(end, Ok(End::Interrupted));
    let summary = match is_interrupted {
        true => writer.give_up(),
        false => writer.finish(),
    };
    let summary = summary?;
    account.add(summary.outcomes);
    bar.finish_and_clear();
    println!(
        "{} checkpoints written, {} were there already",
        account.written,
        plan.there()
    );
    if summary.removed > 0 {
        println!("{} were removed to keep the budget", summary.removed);
    }
    end?;
    if is_interrupted {
        return Ok(interrupt::ended("the same command goes on from here"));
    }
    if account.failed > 0 {
        let left = plan.missing() as u64 - account.written - account.impossible;
        eprintln!("rr: {left} checkpoints could not be written; the same command tries it again");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
