//! `rr verify`: arguments, progress and report of [`rr_replayer::verify`].

mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use rr_replayer::verify::{Verdict, Verified, Verifier};
use rr_trace::event::EventNumber;
use rr_tracee::cpus::Cpus;

use crate::{interrupt, progress, traces};

/// The command line of `rr verify`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Check that replay gives back what was recorded: image and pages at every checkpoint",
    long_about = "Check that replay gives back exactly what was recorded. The replay runs from the start to \
    the first checkpoint, and from each checkpoint to the next one (from the last to the end); there the image \
    (tasks, registers, mappings) and all pages are compared with what was stored while recording. All CPUs are used. \
    Status 0: everything is identical.\n\nThe report says how many pages differ, and of the first one where it is \
    mapped, the nearest symbol, and a line of its bytes as recorded and as replayed.\n\n\
    Example: rr verify --checkpoint 25000 trace"
)]
pub struct Options {
    /// Verify only the stretch that begins at this checkpoint (0: at the start)
    #[arg(long, value_name = "EVENT")]
    from: Option<u64>,
    /// Compare only this checkpoint: replay to it from the one before (or from the start)
    #[arg(long, value_name = "EVENT", conflicts_with = "from")]
    checkpoint: Option<u64>,
    /// The most CPUs to use; by default all
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Print the result as JSON, one object, on stdout
    #[arg(long)]
    json: bool,
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
}

/// Says if a stretch is not what was recorded.
fn is_bad(verified: &Verified) -> bool {
    matches!(verified.verdict, Verdict::Differs { .. } | Verdict::Failed(_))
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    rr_recorder::inherited::raise_file_limit();
    let reader = traces::open(options.trace.as_deref())?;
    let cpus = Cpus::survey();
    let mut verifier = Verifier::new(reader.clone(), cpus)?;
    let is_there = match (options.from, options.checkpoint) {
        (Some(event), _) => verifier.only_from(EventNumber(event)),
        (_, Some(event)) => verifier.only_checkpoint(EventNumber(event)),
        (None, None) => true,
    };
    if !is_there {
        let event = options.from.or(options.checkpoint).unwrap_or(0);
        bail!("there is no checkpoint at event {event} (rr traceinfo lists them)");
    }
    // Files that replay does not use, or uses only in part, are compared with their checksums.
    if let Some(pack) = reader.pack() {
        pack.check_all()?;
    }
    let jobs = options.jobs.map_or(usize::MAX, usize::from);
    interrupt::notice();
    let bar = progress::bar(verifier.stretches().len() as u64, "verifying");
    let told = |verified: &Verified| {
        if is_bad(verified) && !options.json {
            bar.suspend(|| eprint!("{}", report::text(verified)));
        }
        bar.inc(1);
    };
    let all = verifier.run(jobs, &told, &mut interrupt::Asked);
    bar.finish_and_clear();

    let good = |verified: &&Verified| matches!(verified.verdict, Verdict::Same);
    let compared = all.iter().filter(good).count();
    let bad = all.iter().filter(|verified| is_bad(verified)).count();
    let is_whole = compared + bad == verifier.stretches().len();
    if options.json {
        println!("{:#}", report::json(&reader, &all, is_whole));
    }
    if bad > 0 {
        let all = verifier.stretches().len();
        if all > 1 {
            eprintln!("rr: {bad} of {all} stretches are not what was recorded");
        }
        return Ok(ExitCode::FAILURE);
    }
    if !is_whole {
        let all = verifier.stretches().len();
        let what = format!("{compared} of {all} stretches were verified, and are what was recorded");
        return Ok(interrupt::ended(&what));
    }
    if options.json {
        return Ok(ExitCode::SUCCESS);
    }
    match (options.from, options.checkpoint) {
        (None, None) => println!(
            "{} events, {} checkpoints: image and pages identical",
            reader.last_event(),
            verifier.stretches().iter().filter(|s| !s.is_first()).count()
        ),
        _ => {
            for verified in &all {
                println!("{}: image and pages identical", verified.stretch);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
