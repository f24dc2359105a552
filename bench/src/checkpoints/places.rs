//! The time to get to a place of a trace, near its end or anywhere.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result};
use rr_tests::programs::{self as inputs, Random, is_installed, shell};

use crate::args::Args;
use crate::figures::Figures;
use crate::helpers::{compile, fresh};
use crate::measure::{mb, median, rr_line, time, trace_info};

/// Replaying to 95 % of a run from the nearest checkpoint must be so many times faster than from the start.
const GOAL_SPEEDUP: f64 = 8.0;

/// Places that are looked at.
const PLACES: usize = 10;

/// Seconds that a replay to an event takes, without output; with more options.
pub fn seconds_to(rr: &Path, work: &Path, trace: &Path, event: u64, options: &[&str]) -> Result<f64> {
    let event = event.to_string();
    let goal = ["replay", "-a", "-q", "-g", &event, "--until", &event];
    Ok(time(&rr_line(rr, &[&goal[..], options].concat(), trace, &[]), work)?.seconds)
}

/// sqlite3, with a checkpoint every 1,000 calls: to an event at 95 %, from a checkpoint and from the start.
pub fn late_event(args: &Args, rr: &Path, work: &Path, figures: &mut Figures) -> Result<()> {
    if !is_installed("sqlite3") {
        figures.skipped("sqlite3 to 95 %", "no sqlite3 here");
        return Ok(());
    }
    let dir = fresh(work, "sqlite")?;
    let rows = if args.quick { 10_000 } else { 100_000 };
    std::fs::write(dir.join("in.sql"), inputs::sql(rows)).context("writing the input")?;
    let native = time(&shell("sqlite3 native.db < in.sql"), &dir)?;
    let (plain, trace) = (dir.join("plain"), dir.join("trace"));
    let recorded = time(
        &rr_line(
            rr,
            &["record", "--checkpoint-interval", "none", "-o"],
            &plain,
            &shell("sqlite3 plain.db < in.sql"),
        ),
        &dir,
    )?;
    let options = ["record", "--checkpoint-interval", "1000", "-o"];
    let with = time(
        &rr_line(rr, &options, &trace, &shell("sqlite3 test.db < in.sql")),
        &dir,
    )?;
    let info = trace_info(rr, &trace)?;
    let event = info.events * 95 / 100;
    let (mut near, mut far) = (vec![], vec![]);
    for _ in 0..args.runs {
        near.push(seconds_to(rr, work, &trace, event, &[])?);
        far.push(seconds_to(rr, work, &trace, event, &["--from-start"])?);
    }
    let (near, far) = (median(&near), median(&far));
    let bytes: Vec<f64> = info.checkpoints.iter().map(|c| c.bytes as f64).collect();
    println!(
        "sqlite3, {rows} inserts, `--checkpoint-interval 1000`: {:.2} s natively, {:.2} s recorded, {:.2} s with checkpoints; \
         {} events, {} buffered calls, {} checkpoints of {} (median) at a resident size of {}. To event {event} (95 %): {:.0} ms \
         from the nearest checkpoint, {:.0} ms from the start.\n",
        native.seconds,
        recorded.seconds,
        with.seconds,
        info.events,
        info.buffered_calls.unwrap_or(0),
        info.checkpoints.len(),
        mb(median(&bytes) as u64),
        mb(native.resident),
        near * 1000.0,
        far * 1000.0,
    );
    let goal = if args.quick { 10.0 } else { 100.0 };
    figures.at_least(
        format!("sqlite3, {rows} inserts, interval 1000: checkpoints"),
        info.checkpoints.len() as f64,
        goal,
        "",
    );
    figures.at_least(
        "the same: `-g` to 95 % against from the start",
        far / near,
        GOAL_SPEEDUP,
        "×",
    );
    Ok(())
}

/// Random places of a long trace with `auto`. Every call is an event (`-n`), so that random events are random places.
pub fn any_place(args: &Args, rr: &Path, work: &Path, figures: &mut Figures) -> Result<()> {
    let helper = compile(work, "places", include_str!("../debugger_long.c"), &["-O1", "-g"])?;
    // About 0.3 ms each: 6 s, and a minute with --full.
    let calls: u64 = match (args.quick, args.full) {
        (true, _) => 5_000,
        (_, false) => 20_000,
        (_, true) => 220_000,
    };
    let program: Vec<OsString> = vec![helper.into(), calls.to_string().into(), "300000".into()];
    let dir = fresh(work, "places")?;
    let (plain, trace) = (dir.join("plain"), dir.join("trace"));
    let native = time(&program, work)?;
    let recorded = time(
        &rr_line(
            rr,
            &["record", "-n", "--checkpoint-interval", "none", "-o"],
            &plain,
            &program,
        ),
        work,
    )?;
    let options = ["record", "-n", "--checkpoint-interval", "auto", "-o"];
    let with = time(&rr_line(rr, &options, &trace, &program), work)?;
    let info = trace_info(rr, &trace)?;
    let whole = time(&rr_line(rr, &["replay", "-a", "-q"], &trace, &[]), work)?.seconds;
    let mut random = Random::new(5);
    let mut times = vec![];
    for _ in 0..PLACES {
        let event = 1 + random.below(info.events);
        times.push(seconds_to(rr, work, &trace, event, &[])?);
    }
    let (median, most) = (median(&times), times.iter().copied().fold(0.0, f64::max));
    println!(
        "A long computation with {calls} system calls: {:.1} s natively, {:.1} s recorded, {:.1} s with `auto`: {} events, {} \
         checkpoints; {whole:.1} s to replay. To {PLACES} random places: {median:.2} s (median), {most:.2} s (slowest).\n",
        native.seconds,
        recorded.seconds,
        with.seconds,
        info.events,
        info.checkpoints.len(),
    );
    figures.at_most("random places with `auto`, median", median, 1.5, "s");
    let what = "the same, against a replay from the start";
    match args.full {
        true => figures.at_most(what, median / whole, 1.0 / 30.0, ""),
        // The goal is about a trace that takes at least a minute.
        false => figures.plain(what, median / whole, ""),
    }
    Ok(())
}
