//! Checkpoints: the pause that they cause against a plain fork, their size against the resident size, and
//! what they save when replaying to a late event.
//!
//! Recorded without the system call buffer (`-n`): what is measured is checkpoints at so many system calls, and events are as many only
//! without it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rr_tests::programs::{self as inputs, shell};

use crate::measure::{mb, median, rr_line, time, trace_info};
use crate::{Args, compile, fresh};

/// Replaying to 95 % of a run from the nearest checkpoint must be so many times faster than from the start.
const GOAL_SPEEDUP: f64 = 8.0;

/// Prints the tables about checkpoints; `false` if the goal was missed.
pub fn report(args: &Args, rr: &Path, work: &Path) -> Result<bool> {
    pauses(args, rr, work)?;
    late_event(args, rr, work)
}

/// Pause and size for processes of known resident sizes.
fn pauses(args: &Args, rr: &Path, work: &Path) -> Result<()> {
    let helper = compile(work, "rss", include_str!("rss.c"), &["-O2"])?;
    println!(
        "| resident | plain fork | checkpoint pause | ratio | first checkpoint | later ones | of resident |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    let sizes: &[u64] = if args.quick {
        &[16, 64]
    } else {
        &[16, 64, 256, 512]
    };
    for &mib in sizes {
        let (mut forks, mut pauses, mut first, mut later) = (vec![], vec![], vec![], vec![]);
        for _ in 0..args.runs {
            let mib = mib.to_string();
            let output = Command::new(&helper)
                .args(["fork", &mib])
                .output()
                .context("the fork helper")?;
            forks.push(
                String::from_utf8_lossy(&output.stdout)
                    .trim()
                    .parse()
                    .context("the fork helper's output")?,
            );
            let trace = fresh(work, "trace")?.join("trace");
            let program: Vec<OsString> = vec![
                helper.clone().into(),
                "events".into(),
                mib.clone().into(),
                "4000".into(),
            ];
            time(
                &rr_line(
                    rr,
                    &["record", "-n", "--checkpoint-interval", "1000", "-o"],
                    &trace,
                    &program,
                ),
                work,
            )?;
            let info = trace_info(rr, &trace)?;
            let Some((head, rest)) = info.checkpoints.split_first() else {
                bail!("no checkpoints in a recording of {} events", info.events)
            };
            first.push(head.bytes as f64);
            for checkpoint in &info.checkpoints {
                pauses.push(checkpoint.pause_us);
            }
            later.extend(rest.iter().map(|checkpoint| checkpoint.bytes as f64));
            std::fs::remove_dir_all(&trace).ok();
        }
        let (fork, pause) = (median(&forks), median(&pauses));
        let bytes = if later.is_empty() {
            median(&first)
        } else {
            median(&later)
        };
        println!(
            "| {mib} MiB | {fork:.0} µs | {pause:.0} µs | {:.1}× | {} | {} | {:.1} % |",
            pause / fork,
            mb(median(&first) as u64),
            mb(bytes as u64),
            100.0 * bytes / (mib << 20) as f64,
        );
    }
    println!(
        "\nHalf of every page is random. Later checkpoints come 1,000 events, and as many page writes, apart.\n"
    );
    Ok(())
}

/// The sqlite run: to an event at 95 %, from a checkpoint and from the start.
fn late_event(args: &Args, rr: &Path, work: &Path) -> Result<bool> {
    let dir = fresh(work, "sqlite")?;
    let rows = if args.quick { 10_000 } else { 100_000 };
    std::fs::write(dir.join("in.sql"), inputs::sql(rows)).context("writing the input")?;
    let program = shell("sqlite3 test.db < in.sql");
    let native = time(&shell("sqlite3 native.db < in.sql"), &dir)?;
    let trace = dir.join("trace");
    time(
        &rr_line(
            rr,
            &["record", "-n", "--checkpoint-interval", "200", "-o"],
            &trace,
            &program,
        ),
        &dir,
    )?;
    let info = trace_info(rr, &trace)?;
    let event = (info.events * 95 / 100).to_string();
    let (mut near, mut far) = (vec![], vec![]);
    for _ in 0..args.runs {
        let goal = ["replay", "-a", "-q", "-g", &event, "--until", &event];
        near.push(time(&rr_line(rr, &goal, &trace, &[]), work)?.seconds);
        let from_start = [&goal[..], &["--from-start"]].concat();
        far.push(time(&rr_line(rr, &from_start, &trace, &[]), work)?.seconds);
    }
    let (near, far) = (median(&near), median(&far));
    let passed = far / near >= GOAL_SPEEDUP;
    let bytes: Vec<f64> = info
        .checkpoints
        .iter()
        .map(|checkpoint| checkpoint.bytes as f64)
        .collect();
    println!(
        "sqlite3 with a checkpoint every 200 events: {} events, {} checkpoints of {} (median) at a resident size of {}.",
        info.events,
        info.checkpoints.len(),
        mb(median(&bytes) as u64),
        mb(native.resident),
    );
    println!(
        "To event {event} (95 %): {:.0} ms from the nearest checkpoint, {:.0} ms from the start: {:.1}× as fast \
         (goal {GOAL_SPEEDUP}×): **{}**",
        near * 1000.0,
        far * 1000.0,
        far / near,
        if passed { "PASS" } else { "FAIL" },
    );
    Ok(passed)
}
