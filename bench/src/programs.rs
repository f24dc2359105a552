//! Real programs: recording and replaying them against running them.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result};
use rr_tests::programs::{self as inputs, shell};

use crate::args::Args;
use crate::helpers::fresh;
use crate::measure::{mb, median, rr_line, size_of, time, trace_info};

/// Writes a program's input into a directory.
type Setup = Box<dyn Fn(&Path) -> std::io::Result<()>>;

/// One benchmark.
struct Program {
    name: &'static str,
    line: Vec<OsString>,
    setup: Setup,
}

fn all(quick: bool) -> Vec<Program> {
    let scale = |n: usize| if quick { n / 10 } else { n };
    let rows = scale(100_000);
    let bytes = scale(20 << 20);
    let files = scale(1000);
    let functions = scale(400);
    vec![
        Program {
            name: "sqlite3, 100,000 inserts",
            line: shell("sqlite3 test.db < in.sql"),
            setup: Box::new(move |dir| std::fs::write(dir.join("in.sql"), inputs::sql(rows))),
        },
        Program {
            name: "gzip -9, 20 MB",
            line: shell("gzip -9 < data > data.gz"),
            setup: Box::new(move |dir| std::fs::write(dir.join("data"), inputs::text(bytes))),
        },
        Program {
            name: "gcc -O1 -c",
            line: shell("gcc -O1 -c big.c"),
            setup: Box::new(move |dir| std::fs::write(dir.join("big.c"), inputs::c_source(functions))),
        },
        Program {
            name: "sh, 100 × /bin/true",
            line: shell("for i in $(seq 100); do /bin/true; done"),
            setup: Box::new(|_| Ok(())),
        },
        Program {
            name: "git add and commit, 1,000 files",
            line: shell(inputs::GIT),
            setup: Box::new(move |dir| {
                inputs::tree(dir, files);
                Ok(())
            }),
        },
    ]
}

/// Prints the table of programs.
pub fn report(args: &Args, rr: &Path, work: &Path) -> Result<()> {
    let chosen: Vec<Program> = all(args.quick)
        .into_iter()
        .filter(|p| args.wants(p.name))
        .collect();
    if chosen.is_empty() {
        return Ok(());
    }
    println!(
        "| program | native | record | with checkpoints | replay | events | trace | of it checkpoints |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for program in chosen {
        row(args, rr, work, &program).with_context(|| program.name.to_owned())?;
    }
    println!(
        "\nTimes against native, medians of {}; checkpoints every 1,000 events.\n",
        args.runs
    );
    Ok(())
}

fn row(args: &Args, rr: &Path, work: &Path, program: &Program) -> Result<()> {
    let (mut native, mut plain, mut with, mut replay) = (vec![], vec![], vec![], vec![]);
    let (mut events, mut size, mut checkpoints) = (0, 0, 0);
    for _ in 0..args.runs {
        let prepare = || -> Result<_> {
            let dir = fresh(work, "run")?;
            (program.setup)(&dir).context("preparing the input")?;
            Ok(dir)
        };
        let dir = prepare()?;
        native.push(time(&program.line, &dir)?.seconds);
        let dirs = [dir, prepare()?, prepare()?];
        let traces = [
            fresh(work, "trace")?.join("trace"),
            fresh(work, "trace")?.join("trace"),
        ];
        plain.push(
            time(
                &rr_line(
                    rr,
                    &["record", "--checkpoint-interval", "none", "-o"],
                    &traces[0],
                    &program.line,
                ),
                &dirs[1],
            )?
            .seconds,
        );
        let options = ["record", "--checkpoint-interval", "1000", "-o"];
        with.push(time(&rr_line(rr, &options, &traces[1], &program.line), &dirs[2])?.seconds);
        replay.push(time(&rr_line(rr, &["replay", "-a", "-q"], &traces[0], &[]), work)?.seconds);
        events = trace_info(rr, &traces[1])?.events;
        size = size_of(&traces[1]);
        checkpoints = size_of(&traces[1].join("checkpoints"));
        for dir in dirs.iter().chain(
            traces
                .iter()
                .filter_map(|t| t.parent().map(|p| p.to_owned()))
                .collect::<Vec<_>>()
                .iter(),
        ) {
            std::fs::remove_dir_all(dir).ok();
        }
    }
    let base = median(&native);
    let ratio = |values: &[f64]| format!("{:.1}×", median(values) / base);
    println!(
        "| {} | {base:.2} s | {} | {} | {} | {events} | {} | {} |",
        program.name,
        ratio(&plain),
        ratio(&with),
        ratio(&replay),
        mb(size),
        mb(checkpoints),
    );
    Ok(())
}
