//! `rr ci`: one word before a test command records it. A green run leaves nothing; a red one leaves its recording, and the
//! backtraces in the log.
//!
//! Keeps: the test's own result is never changed. Each attempt is recorded by a process of its own ([`attempt`]); its output,
//! its signals and its end are passed through. If the recording fails, the test runs without it.
//!
//! ```text
//! attempt ─► outcome ─► passed ──────────────► the trace is removed
//!                    └► failed, timed out,  ─► the trace becomes an artefact, one file with its backtraces (artifact)
//!                       a process crashed       └► again, if --retries or --until-failure says so
//! ```

mod artifact;
mod attempt;
mod name;
mod place;
mod report;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use rr_tracee::tsc::Measurement;

use super::record::{self, TIMED_OUT};
use crate::compatibility::PortableOption;
use crate::interval::Checkpoints;
use crate::secrets::SecretNames;
use crate::{started, traces};
use artifact::{Artifacts, Record};
use attempt::{Attempt, Ended};

/// The command line of `rr ci`.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(
    about = "Record a test; keep the recording only if the test fails",
    long_about = "Record a test and all processes that it starts, with automatic checkpoints. Output, exit status and signals \
    are those of the test.\n\n\
    If the test passes, nothing is left. The recording is kept if the test exits with a status other than 0, if a signal kills it, \
    if any of its processes crashes (a signal that dumps core), or after --timeout. It is put into the directory of --artifacts, \
    and standard error gets its path, the command that replays it, and the backtraces at the failure.\n\n\
    Inside another `rr ci` or `rr record` the test just runs: the outer one records it. So it does, after a message, where \
    programs cannot be recorded.\n\n\
    The exit status is the test's, and 124 after --timeout.\n\n\
    Example: rr ci --artifacts failures -- ctest",
    after_help = "A recording contains the memory and the environment of the test. Variables that look like secrets are named when \
    a recording is kept."
)]
pub struct Options {
    #[command(subcommand)]
    command: Option<Subcommand>,
    #[command(flatten)]
    run: RunOptions,
}

#[derive(clap::Subcommand, Debug)]
enum Subcommand {
    Report(report::Options),
}

/// The options of a run.
#[derive(clap::Args, Debug)]
pub struct RunOptions {
    /// Put recordings of failures into this directory; without, into the trace directory
    #[arg(long, value_name = "DIR", env = "RR_ARTIFACTS")]
    artifacts: Option<PathBuf>,
    /// Call the recording so; without, the name that the test's runner says, or the program's
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Keep recordings of failures only, or always
    #[arg(long, value_enum, default_value_t = Keep::OnFailure)]
    keep: Keep,
    /// End the test after so long (90s, 5m, 2h); its recording ends where its threads are then
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    timeout: Option<Duration>,
    /// If the test fails, run it again, up to N times; the result is that of the last run
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "until_failure")]
    retries: u32,
    /// Run the test until it fails, at most N times
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    until_failure: Option<u32>,
    /// Schedule at random, each run with another seed (see `rr record --chaos`)
    #[arg(long)]
    chaos: bool,
    /// The seed of the first run (and --chaos itself)
    #[arg(long, value_name = "N")]
    chaos_seed: Option<u64>,
    /// Checkpoints in the recording, as `rr record` takes it
    #[arg(long, value_name = "auto|N|Ns|Nms|none", default_value = "auto")]
    checkpoint_interval: Checkpoints,
    /// Leave the recording a directory, and do not put it into one file
    #[arg(long)]
    no_pack: bool,
    #[command(flatten)]
    portable: PortableOption,
    #[command(flatten)]
    secrets: SecretNames,
    /// Print no backtraces
    #[arg(long)]
    no_backtrace: bool,
    /// The test and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    test: Vec<OsString>,
}

/// The recordings that are kept.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Keep {
    OnFailure,
    Always,
}

/// Runs the command.
pub fn run(options: Options, measurement: Measurement) -> Result<ExitCode> {
    if let Some(Subcommand::Report(report)) = &options.command {
        return report::run(report);
    }
    let options = options.run;
    if std::env::var_os("RUNNING_UNDER_RR").is_some() {
        return Ok(started::replace_by(&options.test));
    }
    let artifacts = Artifacts::new(options.artifacts.as_deref());
    let (most, until_failure) = match options.until_failure {
        Some(most) => (most, true),
        None => (options.retries.saturating_add(1), false),
    };
    let first_seed = match options.chaos_seed {
        None if options.chaos => Some(record::random_seed()?),
        given => given,
    };
    let passed_on = attempt::Signals::block()?;
    for number in 1.. {
        let seed = first_seed.map(|seed| seed.wrapping_add(u64::from(number) - 1));
        let place = match artifacts.place() {
            Ok(place) => place,
            Err(e) => {
                eprintln!("rr: {}", crate::error_text::of(&e));
                return Ok(unrecorded(&options.test, &passed_on));
            }
        };
        let began = Instant::now();
        let ended = Attempt {
            place: &place,
            test: &options.test,
            checkpoints: options.checkpoint_interval,
            timeout: options.timeout,
            seed,
            portable: options.portable.portable,
            measurement,
        }
        .run(&passed_on)?;
        let outcome = match ended {
            Ended::Recorded(outcome) => outcome,
            Ended::Asked(status) => {
                drop(place);
                return Ok(record::end_like(status).into());
            }
            Ended::NotRecorded => {
                drop(place);
                return Ok(unrecorded(&options.test, &passed_on));
            }
        };
        let failure = outcome.failure();
        if failure.is_some() || options.keep == Keep::Always {
            let record = Record {
                name: name::of_test(options.name.as_deref(), &options.test[0]),
                test: options
                    .test
                    .iter()
                    .map(|w| w.to_string_lossy().into_owned())
                    .collect(),
                failure: failure.clone(),
                attempt: number,
                seed,
                outcome: outcome.clone(),
            };
            keep(&artifacts, &place, &record, &options, &passed_on);
        }
        // The end may be a signal.
        drop(place);
        artifacts.tidy_store(began.elapsed());
        let is_last = number >= most || passed_on.end_was_asked();
        if is_last || failure.is_some() == until_failure {
            if number > 1 {
                let what = if failure.is_some() { "failed" } else { "passed" };
                eprintln!("rr: the test {what} in run {number}");
            }
            let status = match outcome.timed_out {
                true => TIMED_OUT,
                false => record::end_like(outcome.wait_status()),
            };
            return Ok(status.into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the test without recording it, in place of this process.
fn unrecorded(test: &[OsString], signals: &attempt::Signals) -> ExitCode {
    eprintln!("rr: this run was not recorded; the test runs without rr");
    signals.unblock();
    started::replace_by(test)
}

/// Makes an artefact of a recording and says so. An error here does not change the test's result.
fn keep(
    artifacts: &Artifacts,
    place: &place::Place,
    record: &Record,
    options: &RunOptions,
    signals: &attempt::Signals,
) {
    let what = record.failure.as_deref().unwrap_or("passed");
    eprintln!("rr: {}: {what}", record.name);
    let dir = match artifacts.keep(place, record) {
        Ok(dir) => dir,
        Err(e) => {
            eprintln!("rr: the recording is lost: {}", crate::error_text::of(&e));
            return;
        }
    };
    if let Ok(reader) = rr_trace::TraceReader::open(&dir) {
        options.secrets.tell(&reader);
    }
    // From a directory, so that it has what was packed.
    if record.failure.is_some()
        && !options.no_backtrace
        && let Err(e) = artifact::backtrace(&dir, &record.outcome)
    {
        eprintln!("rr: no backtraces: {}", crate::error_text::of(&e));
    }
    let kept = match options.no_pack {
        true => dir,
        false => artifact::pack(&dir, &|| signals.end_is_pending()).unwrap_or_else(|e| {
            eprintln!(
                "rr: the recording stays a directory: {}",
                crate::error_text::of(&e)
            );
            dir
        }),
    };
    let size = indicatif::HumanBytes(traces::bytes_on_disk(&kept));
    eprintln!(
        "rr: recorded in {} ({size}, {} events)",
        kept.display(),
        record.outcome.events
    );
    eprintln!("rr: to debug it: rr replay {}", kept.display());
}
