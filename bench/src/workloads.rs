//! The everyday workloads whose cost has bounds (issue 4): record and replay against native runs, with and without the
//! system call buffer.
//!
//! All kinds of runs of a round take turns, so that what else the machine does hits them alike. Recordings and replays run
//! as a user would start them: rr binds itself and the program to one CPU. The native runs that count are bound to one
//! CPU too; what they take on all CPUs stands beside it.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result};
use rr_tests::programs::{self as inputs, shell};
use serde_json::{Value, json};

use crate::args::Args;
use crate::helpers::{compile, fresh};
use crate::measure::{Cost, Cpus, mb, median, rr_line, size_of, time, time_on, trace_info};

/// Place of the files of a workload.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the directory for temporary files.
    Disk,
    /// In memory.
    Tmpfs,
}

/// Writes the input into a directory that is there for all runs.
type Setup = Box<dyn Fn(&Path) -> Result<()>>;

/// Its command line, from the directory with the input. Runs in an empty directory of its own.
type Line = Box<dyn Fn(&Path) -> Vec<OsString>>;

struct Workload {
    name: &'static str,
    place: Place,
    setup: Setup,
    line: Line,
    /// The most that recording and replaying may take, against the native run.
    bounds: [f64; 2],
}

fn nothing(_: &Path) -> Result<()> {
    Ok(())
}

/// The path of a file in `dir`, for a shell.
fn quoted(dir: &Path, name: &str) -> String {
    format!("'{}'", dir.join(name).display())
}

fn all(quick: bool, helper: &Path) -> Vec<Workload> {
    let scale = |n: usize| if quick { n / 10 } else { n };
    let own = |name: &'static str, mode: &'static str, n: usize, bounds| Workload {
        name,
        place: Place::Disk,
        setup: Box::new(nothing),
        line: {
            let line = [helper.into(), mode.into(), scale(n).to_string().into()];
            Box::new(move |_| line.to_vec())
        },
        bounds,
    };
    let with_file = |name, file: &'static str, text: fn(usize) -> String, n, script: &'static str, bounds| {
        let n = scale(n);
        Workload {
            name,
            place: Place::Disk,
            setup: Box::new(move |dir| Ok(std::fs::write(dir.join(file), text(n))?)),
            line: Box::new(move |dir| shell(&script.replace("INPUT", &quoted(dir, file)))),
            bounds,
        }
    };
    let copy = |name, place, bounds| {
        let files = scale(5000);
        Workload {
            name,
            place,
            setup: Box::new(move |dir| {
                inputs::tree(&dir.join("tree"), files);
                Ok(())
            }),
            line: Box::new(|dir| vec!["cp".into(), "-r".into(), dir.join("tree").into(), "copy".into()]),
            bounds,
        }
    };
    let sum = scale(5_000_000);
    let loops = scale(100);
    vec![
        own("read of 1 byte, 1,000,000 times", "read", 1_000_000, [4.0, 1.5]),
        copy("cp -r of 5,000 small files, ext4", Place::Disk, [1.5, 0.6]),
        copy("cp -r of 5,000 small files, tmpfs", Place::Tmpfs, [6.0, 4.0]),
        Workload {
            line: Box::new(|dir| {
                ["gcc", "-O1", "-c"]
                    .map(OsString::from)
                    .into_iter()
                    .chain([dir.join("big.c").into()])
                    .collect()
            }),
            ..with_file(
                "gcc -O1 -c, 0.6 s",
                "big.c",
                inputs::c_source,
                100,
                "",
                [1.5, 1.4],
            )
        },
        Workload {
            name: "sh, 100 × /bin/true",
            place: Place::Disk,
            setup: Box::new(nothing),
            line: Box::new(move |_| shell(&format!("for i in $(seq {loops}); do /bin/true; done"))),
            bounds: [4.0, 3.0],
        },
        Workload {
            name: "python3, sum of 5,000,000 squares",
            place: Place::Disk,
            setup: Box::new(nothing),
            line: Box::new(move |_| {
                vec![
                    python(),
                    "-c".into(),
                    format!("print(sum(i*i for i in range({sum})))").into(),
                ]
            }),
            bounds: [1.10, 1.10],
        },
        own("compute-bound C, 1 s", "compute", 300_000_000, [1.02, 1.02]),
        own("mutex, 4 threads × 200,000", "mutex", 200_000, [2.5, 2.0]),
        with_file(
            "gzip -9 of 20 MB",
            "data",
            inputs::text,
            20 << 20,
            "exec gzip -9 < INPUT > data.gz",
            [1.1, 1.1],
        ),
        with_file(
            "sqlite3, 100,000 inserts in 100 transactions",
            "in.sql",
            sql,
            100_000,
            "exec sqlite3 test.db < INPUT",
            [1.6, 1.3],
        ),
        Workload {
            setup: {
                let megabytes = scale(1000);
                Box::new(move |dir| large_file(&dir.join("large"), megabytes))
            },
            ..with_file(
                "cat of 1 GB to wc -c",
                "large",
                inputs::text,
                0,
                "cat INPUT | wc -c",
                [3.0, 2.0],
            )
        },
        own("clock_gettime, 1,000,000 times", "clock", 1_000_000, [8.0, 4.0]),
    ]
}

/// The interpreter itself, not a script that looks for it (pyenv).
fn python() -> OsString {
    let path = Path::new("/usr/bin/python3");
    if path.exists() {
        path.into()
    } else {
        "python3".into()
    }
}

fn sql(rows: usize) -> String {
    inputs::sql_in(rows, 1000)
}

/// Text of so many megabytes, no two of them alike; in the page cache afterwards.
fn large_file(path: &Path, megabytes: usize) -> Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path)?;
    let mut text = inputs::text(1_000_000).into_bytes();
    text.truncate(1_000_000);
    for n in 0..megabytes {
        // Every digit depends on the piece: what was compressed once is no help for the next.
        let mut random = inputs::Random::new(n as u64 * 2 + 1);
        for byte in text.iter_mut().filter(|b| b.is_ascii_digit()) {
            *byte = b'0' + random.below(10) as u8;
        }
        file.write_all(&text)?;
    }
    Ok(())
}

/// Costs of recordings with the same options.
#[derive(Default)]
struct Recorded {
    record: Vec<Cost>,
    replay: Vec<Cost>,
    events: u64,
    /// Calls that cost no event; if the trace says so.
    buffered: Option<u64>,
    /// The trace without its mapped files.
    bytes: u64,
    /// Its mapped files (which it shares with other traces).
    files: u64,
}

impl Recorded {
    /// Records the program in `cwd`, and replays it.
    fn round(
        &mut self,
        rr: &Path,
        options: &[&str],
        line: &[OsString],
        cwd: &Path,
        work: &Path,
    ) -> Result<()> {
        let dir = fresh(work, "trace")?;
        let trace = dir.join("trace");
        let options = [&["record"], options, &["-o"]].concat();
        self.record.push(time(&rr_line(rr, &options, &trace, line), cwd)?);
        self.replay
            .push(time(&rr_line(rr, &["replay", "-a"], &trace, &[]), work)?);
        let info = trace_info(rr, &trace)?;
        self.events = info.events;
        self.buffered = info.buffered_calls;
        self.files = size_of(&trace.join("files"));
        self.bytes = size_of(&trace) - self.files;
        std::fs::remove_dir_all(&dir).context("removing a trace")
    }

    fn json(&self) -> Value {
        json!({ "record": times(&self.record), "replay": times(&self.replay), "events": self.events, "buffered_calls": self.buffered,
                "trace_bytes": self.bytes, "file_bytes": self.files })
    }

    fn bytes_per_event(&self) -> f64 {
        self.bytes as f64 / self.events.max(1) as f64
    }
}

/// Elapsed and CPU times in seconds.
fn times(costs: &[Cost]) -> Value {
    let pair = |cost: &Cost| json!({ "seconds": cost.seconds, "cpu": cost.cpu });
    costs.iter().map(pair).collect()
}

/// All measurements of a workload.
struct Row {
    name: &'static str,
    bounds: [f64; 2],
    native: Vec<Cost>,
    native_all: Vec<Cost>,
    /// CPU time counts, not the time that passes.
    cpu_time: bool,
    buffered: Recorded,
    /// Without the buffer; if that was asked for.
    plain: Option<Recorded>,
}

impl Row {
    fn median(&self, costs: &[Cost]) -> f64 {
        let value = |cost: &Cost| if self.cpu_time { cost.cpu } else { cost.seconds };
        median(&costs.iter().map(value).collect::<Vec<_>>())
    }

    fn ratio(&self, costs: &[Cost]) -> f64 {
        self.median(costs) / self.median(&self.native)
    }

    /// The ratios that have bounds.
    fn bounded(&self) -> [f64; 2] {
        [
            self.ratio(&self.buffered.record),
            self.ratio(&self.buffered.replay),
        ]
    }

    fn passed(&self) -> bool {
        self.bounded()
            .iter()
            .zip(self.bounds)
            .all(|(got, bound)| *got <= bound)
    }

    fn print(&self) {
        let cell = |got: f64, bound: f64| {
            let text = format!("{got:.2}×");
            let text = if got <= bound { text } else { format!("**{text}**") };
            format!("{text} | {bound}×")
        };
        let [record, replay] = self.bounded();
        let plain = |show: &dyn Fn(&Recorded) -> String| self.plain.as_ref().map_or("–".into(), show);
        println!(
            "| {} | {:.3} s ({:.3}) | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} | {} |",
            self.name,
            self.median(&self.native),
            self.median(&self.native_all),
            cell(record, self.bounds[0]),
            cell(replay, self.bounds[1]),
            plain(&|p| format!("{:.2}×", self.ratio(&p.record))),
            plain(&|p| format!("{:.2}×", self.ratio(&p.replay))),
            self.buffered.events,
            self.buffered.buffered.map_or("–".into(), |n| n.to_string()),
            plain(&|p| p.events.to_string()),
            mb(self.buffered.bytes),
            self.buffered.bytes_per_event(),
            plain(&|p| mb(p.bytes)),
        );
    }

    fn json(&self) -> Value {
        let [record, replay] = self.bounded();
        json!({ "name": self.name, "native": times(&self.native), "native_all_cpus": times(&self.native_all),
                "record_ratio": record, "record_bound": self.bounds[0], "replay_ratio": replay, "replay_bound": self.bounds[1],
                "passed": self.passed(), "buffered": self.buffered.json(), "unbuffered": self.plain.as_ref().map(Recorded::json) })
    }
}

/// Prints the table of workloads; `false` if a bound was missed. The measurements go to `out`.
pub fn report(args: &Args, rr: &Path, work: &Path, out: &mut Vec<Value>) -> Result<bool> {
    let helper = compile(
        work,
        "workloads",
        include_str!("workloads.c"),
        &["-O1", "-pthread"],
    )?;
    let chosen: Vec<Workload> = all(args.quick, &helper)
        .into_iter()
        .filter(|workload| args.wants(workload.name))
        .collect();
    if chosen.is_empty() {
        return Ok(true);
    }
    println!(
        "| workload | native (all CPUs) | record | ≤ | replay | ≤ | record -n | replay -n | events | buffered calls | \
         events -n | trace | bytes/event | trace -n |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut missed = 0;
    for workload in &chosen {
        let row = measure(args, rr, work, workload).with_context(|| workload.name.to_owned())?;
        row.print();
        missed += usize::from(!row.passed());
        out.push(row.json());
    }
    println!(
        "\n{} against the native run on one CPU, medians of {}; traces without the files that the program maps. \
         {} of {} workloads within their bounds{}\n",
        if args.cpu_time { "CPU times" } else { "Times" },
        args.runs,
        chosen.len() - missed,
        chosen.len(),
        if missed == 0 {
            ": **PASS**"
        } else {
            "; those in bold are not: **FAIL**"
        }
    );
    Ok(missed == 0)
}

fn measure(args: &Args, rr: &Path, work: &Path, workload: &Workload) -> Result<Row> {
    let memory;
    let place = match workload.place {
        Place::Disk => work,
        Place::Tmpfs => {
            memory = tempfile::Builder::new()
                .prefix("rr-bench-")
                .tempdir_in("/dev/shm")
                .context("a directory in memory")?;
            memory.path()
        }
    };
    let (input, runs) = (fresh(place, "input")?, fresh(place, "runs")?);
    (workload.setup)(&input).context("preparing the input")?;
    let line = (workload.line)(&input);
    let mut row = Row {
        name: workload.name,
        bounds: workload.bounds,
        cpu_time: args.cpu_time,
        native: vec![],
        native_all: vec![],
        buffered: Recorded::default(),
        plain: (!args.buffered).then(Recorded::default),
    };
    for _ in 0..args.runs {
        // Each run in a directory of its own. They are removed when all are done: removing files takes time, and ext4 looks for a
        // while at every inode that was freed lately before it takes another.
        let in_fresh = |run: &mut dyn FnMut(&Path) -> Result<()>| run(&fresh(&runs, "run")?);
        in_fresh(&mut |cwd| {
            row.native.push(time_on(Cpus::One, &line, cwd)?);
            Ok(())
        })?;
        in_fresh(&mut |cwd| row.buffered.round(rr, &[], &line, cwd, work))?;
        if let Some(plain) = &mut row.plain {
            in_fresh(&mut |cwd| plain.round(rr, &["-n"], &line, cwd, work))?;
        }
        in_fresh(&mut |cwd| {
            row.native_all.push(time(&line, cwd)?);
            Ok(())
        })?;
    }
    for dir in [&input, &runs] {
        std::fs::remove_dir_all(dir).context("removing a working directory")?;
    }
    Ok(row)
}
