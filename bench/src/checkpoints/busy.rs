//! A process that holds much, dirties 50 MB and makes 50,000 system calls a second: the cost of a checkpoint in each
//! second. The process does a fixed amount of work, so a "second" is as long as natively it would take, and each has the
//! same system calls and writes the same number of pages: a checkpoint every 50,000 calls sees so many changed pages, whatever
//! the machine does beside.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rr_tests::TraceInfo;

use super::criu;
use super::places::seconds_to;
use crate::figures::Figures;
use crate::measure::{Cost, median, percentile, rr_line, time, trace_info};
use crate::{Args, compile, fresh};

/// System calls in a second of it.
const CALLS: &str = "50000";

/// Pages that it writes in a second: 50 MB.
pub const PAGES: u64 = 12_200;

/// The process.
#[derive(Clone)]
pub struct Busy {
    pub program: PathBuf,
    pub mib: u64,
    seconds: usize,
    turns: String,
    work: PathBuf,
}

/// One run of it.
struct Ran {
    cost: Cost,
    /// When each second ended, and the run, in seconds since the epoch.
    ends: Vec<f64>,
}

impl Ran {
    /// From the end of a second to the end of the run.
    fn after(&self, second: usize) -> f64 {
        self.ends.last().unwrap_or(&0.0) - self.ends[second - 1]
    }
}

impl Busy {
    fn new(args: &Args, work: &Path) -> Result<Busy> {
        let program = compile(work, "busy", include_str!("busy.c"), &["-O2"])?;
        let turns = output(&program, &["turns"])?;
        let (mib, seconds) = match (args.quick, args.full) {
            (true, _) => (64, 4),
            (_, false) => (256, 10),
            (_, true) => (1024, 30),
        };
        Ok(Busy {
            program,
            mib,
            seconds,
            turns: turns.trim().to_owned(),
            work: work.to_path_buf(),
        })
    }

    /// Its command line; `pages` are written in a second.
    pub fn line(&self, pages: u64, frozen: bool) -> Vec<OsString> {
        let (mib, seconds, pages) = (self.mib.to_string(), self.seconds.to_string(), pages.to_string());
        let stamps = self.stamps();
        let args = ["run", &mib, &seconds, &self.turns, &pages];
        let mut line = vec![self.program.clone().into_os_string()];
        line.extend(args.iter().map(OsString::from));
        line.push(stamps.into());
        line.extend(frozen.then(|| "frozen".into()));
        line
    }

    fn stamps(&self) -> PathBuf {
        self.work.join("stamps")
    }

    fn run(&self, line: &[OsString]) -> Result<Ran> {
        let cost = time(line, &self.work)?;
        let end = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .context("the clock")?;
        let stamps = std::fs::read_to_string(self.stamps()).context("the stamps")?;
        let mut ends: Vec<f64> = stamps
            .lines()
            .map(|line| line.parse::<f64>().map(|us| us / 1e6))
            .collect::<Result<_, _>>()
            .context("the stamps")?;
        if ends.len() != self.seconds {
            bail!("{} stamps of {}", ends.len(), self.seconds);
        }
        ends.push(end.as_secs_f64());
        Ok(Ran { cost, ends })
    }
}

fn output(program: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().context("a helper")?;
    if !output.status.success() {
        bail!("{} {args:?}: {}", program.display(), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

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
