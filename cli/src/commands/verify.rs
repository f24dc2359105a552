//! `rr verify`: checks I4. From each checkpoint the replay runs to the next one, and image and pages are compared.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rr_checkpoint::Checkpoint;
use rr_replayer::ReplaySession;
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;

use crate::{cpu, progress, traces};

/// The command line of `rr verify`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Check that replay gives back what was recorded: image and pages at every checkpoint",
    long_about = "Check that replay gives back exactly what was recorded. The replay runs from the start to \
    the first checkpoint, and from each checkpoint to the next one (from the last to the end); there the image \
    (tasks, registers, mappings) and all pages are compared with what was stored while recording. Status 0: \
    everything is identical."
)]
pub struct Options {
    /// Verify only the stretch that begins at this checkpoint (0: at the start)
    #[arg(long, value_name = "EVENT")]
    from: Option<u64>,
    /// Number of stretches to verify at the same time; by default one per CPU
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
}

/// From one checkpoint (0: the start) to the next (none: the end).
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: EventNumber,
    to: Option<EventNumber>,
}

/// Verifies one stretch; says what differs.
fn verify(reader: &Arc<TraceReader>, stretch: Stretch) -> Result<Vec<String>> {
    let cpus = cpu::survey();
    let bound = cpu::for_replay(&cpus, reader.header());
    let open = |at| Checkpoint::open_at(&reader.checkpoint_dir(), at, &reader.header().uuid);
    let mut session = if stretch.from.0 == 0 {
        ReplaySession::start(Arc::clone(reader), Some(bound))?
    } else {
        let checkpoint = open(stretch.from)?;
        let session = ReplaySession::resume(Arc::clone(reader), &checkpoint, Some(bound))?;
        // What was restored must be what was stored, before anything runs.
        let report = session.compare(&checkpoint, 10)?;
        if !report.is_empty() {
            return Ok(report
                .into_iter()
                .map(|line| format!("after restoring: {line}"))
                .collect());
        }
        session
    };
    let until = stretch.to.unwrap_or(reader.last_event());
    cpu::bind(&[bound]);
    while session.last_event() < until {
        if session.step()?.is_none() {
            bail!(
                "the trace ends at event {}, before the checkpoint at {until}",
                session.last_event()
            );
        }
    }
    cpu::bind(&cpus.all());
    match stretch.to {
        Some(to) => Ok(session.compare(&open(to)?, 10)?),
        None => Ok(Vec::new()),
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    rr_recorder::inherited::raise_file_limit();
    let reader = traces::open(options.trace.as_deref())?;
    let checkpoints: Vec<EventNumber> = reader
        .checkpoints()?
        .into_iter()
        .filter(|at| *at <= reader.last_event())
        .collect();
    let starts: Vec<EventNumber> = if reader.first_event().0 <= 1 {
        [EventNumber(0)]
            .into_iter()
            .chain(checkpoints.iter().copied())
            .collect()
    } else {
        checkpoints.clone()
    };
    let stretches: Vec<Stretch> = starts
        .iter()
        .enumerate()
        .map(|(n, from)| Stretch {
            from: *from,
            to: starts.get(n + 1).copied(),
        })
        .collect();
    if let Some(from) = options.from {
        let stretch = stretches.iter().find(|s| s.from.0 == from);
        let stretch = *stretch.with_context(|| format!("there is no checkpoint at event {from}"))?;
        return verify_one(&reader, stretch);
    }
    verify_all(options, &reader, &stretches)
}

fn verify_one(reader: &Arc<TraceReader>, stretch: Stretch) -> Result<ExitCode> {
    let report = verify(reader, stretch).with_context(|| describe(stretch))?;
    if report.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("rr: {}: the replay is not what was recorded", describe(stretch));
    for line in report {
        eprintln!("  {line}");
    }
    Ok(ExitCode::FAILURE)
}

/// Each stretch in a process of its own: they are independent, and so are their tracees.
fn verify_all(options: &Options, reader: &TraceReader, stretches: &[Stretch]) -> Result<ExitCode> {
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    let jobs = options.jobs.map_or(cpus, usize::from);
    let exe = std::env::current_exe().context("cannot find rr's own program")?;
    let bar = progress::bar(stretches.len() as u64, "verifying");
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failed = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(stretches.len()) {
            scope.spawn(|| {
                while let Some(stretch) =
                    stretches.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let outcome = Command::new(&exe)
                        .args(["verify", "--from", &stretch.from.to_string()])
                        .arg(reader.path())
                        .stdin(Stdio::null())
                        .output();
                    let fine = outcome.as_ref().is_ok_and(|o| o.status.success());
                    if !fine {
                        failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        let text = match &outcome {
                            Ok(o) if o.stderr.is_empty() => {
                                format!("rr: {}: ended with {}\n", describe(*stretch), o.status)
                            }
                            Ok(o) => String::from_utf8_lossy(&o.stderr).into_owned(),
                            Err(e) => format!("rr: cannot start {}: {e}\n", exe.display()),
                        };
                        bar.suspend(|| eprint!("{text}"));
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let failed = failed.into_inner();
    if failed > 0 {
        eprintln!(
            "rr: {failed} of {} stretches are not what was recorded",
            stretches.len()
        );
        return Ok(ExitCode::FAILURE);
    }
    println!(
        "{} events, {} checkpoints: image and pages identical",
        reader.last_event(),
        stretches.iter().filter(|s| s.from.0 > 0).count()
    );
    Ok(ExitCode::SUCCESS)
}

fn describe(stretch: Stretch) -> String {
    let from = if stretch.from.0 == 0 {
        "the start".into()
    } else {
        format!("the checkpoint at event {}", stretch.from)
    };
    match stretch.to {
        Some(to) => format!("from {from} to the checkpoint at event {to}"),
        None => format!("from {from} to the end"),
    }
}
