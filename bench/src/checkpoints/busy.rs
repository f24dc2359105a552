//! A process that holds much, dirties 50 MB and makes 50,000 system calls a second: the cost of a checkpoint in each
//! second. The process does a fixed amount of work, so a "second" is as long as natively it would take, and each has the
//! same system calls and writes the same number of pages: a checkpoint every 50,000 calls sees so many changed pages, whatever
//! the machine does beside.

use std::path::Path;

use anyhow::{Result, bail};
use rr_tests::TraceInfo;

use super::criu;
use super::places::seconds_to;
use super::process::{Busy, PAGES, Ran, output};
use crate::args::Args;
use crate::figures::Figures;
use crate::helpers::fresh;
use crate::measure::{median, percentile, rr_line, trace_info};

/// System calls in a second of it.
const CALLS: &str = "50000";

/// Measures it all.
pub fn report(args: &Args, rr: &Path, work: &Path, figures: &mut Figures) -> Result<()> {
    let busy = Busy::new(args, work)?;
    let dir = fresh(work, "busy")?;
    let (plain_trace, trace) = (dir.join("plain"), dir.join("trace"));
    let (mut native, mut frozen, mut plain, mut with) = (vec![], vec![], vec![], vec![]);
    let (mut infos, mut forks): (Vec<TraceInfo>, Vec<f64>) = (vec![], vec![]);
    // They take turns: what else the machine does meets all of them.
    for _ in 0..if args.full { 1 } else { args.runs.min(3) } {
        for trace in [&plain_trace, &trace] {
            drop(std::fs::remove_dir_all(trace));
        }
        let line = busy.line(PAGES, false);
        let mib = busy.mib.to_string();
        let times = output(&busy.program, &["forks", &mib, "40"])?;
        forks.extend(times.lines().filter_map(|line| line.parse::<f64>().ok()));
        native.push(busy.run(&line)?);
        frozen.push(busy.run(&busy.line(PAGES, true))?);
        plain.push(busy.run(&rr_line(
            rr,
            &["record", "--checkpoint-interval", "none", "-o"],
            &plain_trace,
            &line,
        ))?);
        let options = ["record", "--checkpoint-interval", CALLS, "-o"];
        with.push(busy.run(&rr_line(rr, &options, &trace, &line))?);
        infos.push(trace_info(rr, &trace)?);
    }
    let Some(info) = infos.last().filter(|info| info.checkpoints.len() >= 3) else {
        bail!("fewer than three checkpoints in {} s", busy.seconds)
    };
    costs(args, &busy, info, [&native, &frozen, &plain, &with], figures);
    pauses(&busy, &infos, &forks, figures);
    bytes(&infos, figures);

    let last = info.checkpoints.last().map_or(0, |c| c.event);
    let mut times = vec![];
    for _ in 0..args.runs.max(3) {
        times.push(seconds_to(rr, work, &trace, last, &[])?);
    }
    let what = format!("`-g E --until E` with {} MiB", busy.mib);
    figures.at_most(what, median(&times), 1.0, "s");
    figures.plain(
        "the same, the fastest",
        times.iter().copied().fold(f64::MAX, f64::min),
        "s",
    );

    drop(std::fs::remove_dir_all(&trace));
    let options = ["record", "--checkpoint-interval", CALLS, "-o"];
    busy.run(&rr_line(rr, &options, &trace, &busy.line(0, false)))?;
    idle(&busy, &trace_info(rr, &trace)?, figures);
    criu::report(&busy, &dir, figures)?;
    drop(std::fs::remove_dir_all(&dir));
    Ok(())
}

/// Run times against those without checkpoints.
fn costs(args: &Args, busy: &Busy, info: &TraceInfo, ran: [&[Ran]; 4], figures: &mut Figures) {
    // The first image is of all pages. The seconds from here on have none of it.
    let first = info.checkpoints.first().map_or(0.0, |c| c.write_ms) / 1000.0;
    let begun = (2 + first.ceil() as usize).min(busy.seconds - 1);
    let seconds = |ran: &Ran| match args.cpu_time {
        true => ran.cost.cpu,
        false => ran.cost.seconds,
    };
    let [native, frozen, plain, with] = ran.map(|runs| median(&runs.iter().map(seconds).collect::<Vec<_>>()));
    let [native_after, frozen_after, plain_after, with_after] =
        ran.map(|runs| median(&runs.iter().map(|ran| ran.after(begun)).collect::<Vec<_>>()));
    println!(
        "{} MiB, 50 MB/s dirty, {CALLS} calls a second, a checkpoint in each of {} seconds; {} of {} became one. Natively {native:.2} \
         s, with a frozen fork each second {frozen:.2} s, recorded {plain:.2} s, with checkpoints {with:.2} s{}. The first took \
         {first:.2} s to write; from second {begun} on to the end: {native_after:.2}, {frozen_after:.2}, {plain_after:.2}, \
         {with_after:.2} s.\n",
        busy.mib,
        busy.seconds,
        info.checkpoints.len(),
        busy.seconds,
        if args.cpu_time { " (processor time)" } else { "" },
    );
    let copying = (frozen_after - native_after).max(0.0);
    figures.plain("busy: recorded against native", plain / native, "×");
    figures.plain(
        "busy: with checkpoints against recorded, the whole run",
        with / plain,
        "×",
    );
    figures.plain(
        "busy: copying caused by frozen forks, natively, of the run",
        copying / native_after,
        "",
    );
    figures.at_most(
        "busy: with checkpoints against recorded, after the first, without the copying",
        (with_after - copying) / plain_after,
        1.10,
        "×",
    );
    figures.plain("the same with the copying", with_after / plain_after, "×");
    let later: Vec<f64> = info.checkpoints.iter().skip(1).map(|c| c.write_ms).collect();
    figures.plain(
        "busy: time of the writer for a further checkpoint",
        median(&later),
        "ms",
    );
}

/// Pauses against plain forks. (Nothing of it is shared memory.)
fn pauses(busy: &Busy, infos: &[TraceInfo], forks: &[f64], figures: &mut Figures) {
    let pauses: Vec<f64> = infos
        .iter()
        .flat_map(|info| info.checkpoints.iter().map(|c| c.pause_us))
        .collect();
    println!(
        "A plain fork of {} MiB takes {:.0} µs (median of {}), {:.0} µs (99 %); a checkpoint pauses the program {:.0} µs (median of \
         {}), {:.0} µs (99 %).\n",
        busy.mib,
        median(forks),
        forks.len(),
        percentile(forks, 99.0),
        median(&pauses),
        pauses.len(),
        percentile(&pauses, 99.0),
    );
    figures.at_most(
        "busy: pause against a plain fork, median",
        median(&pauses) / median(forks),
        1.5,
        "×",
    );
    figures.at_most(
        "busy: pause against a plain fork, 99 %",
        percentile(&pauses, 99.0) / percentile(forks, 99.0),
        1.5,
        "×",
    );
}

/// Bytes of further checkpoints against what has changed.
fn bytes(infos: &[TraceInfo], figures: &mut Figures) {
    let mut ratios = vec![];
    for checkpoints in infos.iter().map(|info| &info.checkpoints) {
        let Some((first, later)) = checkpoints.split_first() else {
            continue;
        };
        let of_page = first.bytes as f64 / first.pages_stored.max(1) as f64;
        // One that follows a skipped one holds twice as much: all of them together are compared with the calls between.
        let calls = later.len() as f64;
        let bytes: f64 = later.iter().map(|c| c.bytes as f64).sum();
        ratios.push(bytes / (calls * PAGES as f64 * of_page));
    }
    figures.at_most(
        "busy: bytes of a further checkpoint against changed pages × ratio",
        median(&ratios),
        1.1,
        "×",
    );
}

/// The cost of checkpoints of a process that changes nothing.
fn idle(busy: &Busy, info: &TraceInfo, figures: &mut Figures) {
    let later = info.checkpoints.get(1..).unwrap_or_default();
    let bytes: Vec<f64> = later.iter().map(|c| c.bytes as f64 / 1e3).collect();
    let times: Vec<f64> = later.iter().map(|c| c.write_ms).collect();
    let what = format!("idle, {} MiB: bytes of a further checkpoint", busy.mib);
    figures.at_most(what, median(&bytes), 100.0, "KB");
    figures.at_most("idle: time of the writer for it", median(&times), 5.0, "ms");
}
