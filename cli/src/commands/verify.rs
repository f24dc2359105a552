//! `rr verify`: checks I4. From each checkpoint the replay runs to the next one, and image and pages are compared.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use rr_checkpoint::{BlockCache, Checkpoint};
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
    /// With --from: this many stretches from there on; each that is fine is a line on stdout, the first that is not
    /// ends it
    #[arg(long, value_name = "N", requires = "from", hide = true)]
    count: Option<usize>,
    /// With --from: restore on this CPU
    #[arg(long, value_name = "CPU", requires = "from", hide = true)]
    on: Option<usize>,
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

/// Bytes of decompressed blocks that one process keeps: neighbouring checkpoints share most of theirs.
const CACHED: usize = 256 << 20;

/// The most stretches that one process verifies, one after the other.
const LONGEST_RUN: usize = 32;

/// Verifies one stretch; says what differs.
///
/// The replay runs on the CPU of the recording, as others may do at the same time; restoring is most of a short stretch's
/// work and is done where this process is.
fn verify(
    reader: &Arc<TraceReader>,
    stretch: Stretch,
    cache: &Arc<BlockCache>,
    cpus: &cpu::Cpus,
) -> Result<Vec<String>> {
    let bound = cpu::for_replay(cpus, reader.header());
    let open = |at| -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint::open_at(&reader.checkpoint_dir(), at, &reader.header().uuid)?;
        checkpoint.share(Arc::clone(cache));
        checkpoint.set_cpus(cpus.set());
        Ok(checkpoint)
    };
    let mut session = if stretch.from.0 == 0 {
        ReplaySession::start(Arc::clone(reader), Some(bound))?
    } else {
        let checkpoint = open(stretch.from)?;
        let mut session = ReplaySession::resume(Arc::clone(reader), &checkpoint, Some(cpus.bound))?;
        // What was restored must be what was stored, before anything runs.
        let report = session.compare(&checkpoint, 10)?;
        if !report.is_empty() {
            return Ok(report
                .into_iter()
                .map(|line| format!("after restoring: {line}"))
                .collect());
        }
        session.bind(bound)?;
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
        let first = stretches.iter().position(|s| s.from.0 == from);
        let first = first.with_context(|| format!("there is no checkpoint at event {from}"))?;
        let count = options.count.unwrap_or(1).min(stretches.len() - first);
        return verify_some(
            &reader,
            &stretches[first..first + count],
            options.count.is_some(),
            options.on,
        );
    }
    verify_all(options, &reader, &stretches)
}

/// Verifies stretches one after the other, up to the first that is not fine. With `tell`, says on stdout when one is.
fn verify_some(
    reader: &Arc<TraceReader>,
    stretches: &[Stretch],
    tell: bool,
    on: Option<usize>,
) -> Result<ExitCode> {
    let cache = Arc::new(BlockCache::new(CACHED));
    let mut cpus = cpu::survey();
    if let Some(cpu) = on.filter(|cpu| cpus.all().contains(cpu)) {
        cpus.choose(cpu);
    }
    for stretch in stretches {
        let report = verify(reader, *stretch, &cache, &cpus).with_context(|| describe(*stretch))?;
        if !report.is_empty() {
            eprintln!("rr: {}: the replay is not what was recorded", describe(*stretch));
            for line in report {
                eprintln!("  {line}");
            }
            return Ok(ExitCode::FAILURE);
        }
        if tell {
            let mut out = std::io::stdout();
            writeln!(out, "{}", stretch.from).and_then(|()| out.flush())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a process that verified a run of stretches said and how it ended.
struct Ended {
    fine: usize,
    status: ExitStatus,
    stderr: String,
}

/// Verifies stretches in a process of their own (they are independent, and so are their tracees), up to the first that is
/// not fine; calls `fine` after each that is.
fn verify_apart(
    exe: &Path,
    trace: &Path,
    stretches: &[Stretch],
    cpu: usize,
    fine: impl Fn(),
) -> std::io::Result<Ended> {
    let first = stretches.first().map_or(0, |s| s.from.0);
    let mut child = Command::new(exe)
        .args(["verify", "--from", &first.to_string()])
        .args(["--count", &stretches.len().to_string()])
        .args(["--on", &cpu.to_string()])
        .arg(trace)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        // Beside stdout, so that neither pipe fills up.
        let stderr = scope.spawn(|| {
            let mut bytes = Vec::new();
            let read = stderr.map(|mut pipe| pipe.read_to_end(&mut bytes));
            read.transpose().map(|_| bytes)
        });
        let mut count = 0;
        for line in stdout.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
            line?;
            count += 1;
            fine();
        }
        let bytes = stderr.join().unwrap_or_else(|_| Ok(Vec::new()))?;
        Ok(Ended {
            fine: count,
            status: child.wait()?,
            stderr: String::from_utf8_lossy(&bytes).into_owned(),
        })
    })
}

/// Verifies all, in runs of neighbours, several runs at the same time.
fn verify_all(options: &Options, reader: &TraceReader, stretches: &[Stretch]) -> Result<ExitCode> {
    let cpus = cpu::survey().all();
    let jobs = options.jobs.map_or(cpus.len(), usize::from).max(1);
    let exe = std::env::current_exe().context("cannot find rr's own program")?;
    let bar = progress::bar(stretches.len() as u64, "verifying");
    // Short enough that no job is left alone with a long one at the end.
    let runs: Vec<&[Stretch]> = stretches
        .chunks((stretches.len() / (jobs * 4)).clamp(1, LONGEST_RUN))
        .collect();
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let verify_run = |run: &[Stretch], cpu: usize| {
        let mut rest = run;
        while let Some(first) = rest.first() {
            let outcome = verify_apart(&exe, reader.path(), rest, cpu, || bar.inc(1));
            let fine = outcome.as_ref().map_or(0, |ended| ended.fine.min(rest.len()));
            rest = &rest[fine..];
            if rest.is_empty() && outcome.as_ref().is_ok_and(|ended| ended.status.success()) {
                break;
            }
            // One that failed after its last stretch failed all the same.
            let stretch = *rest.first().unwrap_or(first);
            failed.fetch_add(1, Ordering::Relaxed);
            let text = match &outcome {
                Ok(o) if o.stderr.is_empty() => {
                    format!("rr: {}: ended with {}\n", describe(stretch), o.status)
                }
                Ok(o) => o.stderr.clone(),
                Err(e) => format!("rr: cannot start {}: {e}\n", exe.display()),
            };
            bar.suspend(|| eprint!("{text}"));
            bar.inc(1);
            rest = rest.get(1..).unwrap_or_default();
        }
    };
    std::thread::scope(|scope| {
        for cpu in cpus.iter().cycle().take(jobs.min(runs.len())) {
            scope.spawn(|| {
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    verify_run(run, *cpu);
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
