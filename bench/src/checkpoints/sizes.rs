//! Pause and size against the resident size.
//!
//! Recorded without the system call buffer (`-n`): what is measured is checkpoints at so many system calls, and events are as many only
//! without it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::helpers::{compile, fresh};
use crate::measure::{mb, median, rr_line, time, trace_info};

/// Pause and size for processes of known resident sizes.
pub fn report(args: &Args, rr: &Path, work: &Path) -> Result<()> {
    let helper = compile(work, "rss", include_str!("../rss.c"), &["-O2"])?;
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
