//! Debugging: what the user waits for, forwards and backwards, with stored checkpoints and without, on one CPU and on
//! all of them.
//!
//! All of it is measured in gdb, in batch mode, against the real server: a script in gdb's own Python takes the times.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::helpers::{compile, fresh};
use crate::measure::{median, rr_line, time};

/// Seconds after which a session is ended.
const LIMIT: &str = "1200";
/// A search to 99 % must be so many times faster with stored checkpoints.
const GOAL_STORED: f64 = 5.0;
/// And so many times faster on two CPUs.
const GOAL_CPUS: f64 = 1.6;

/// The beginning of all scripts.
const PRELUDE: &str = r#"
import gdb, time
gdb.execute("set pagination off")
gdb.execute("set confirm off")
def run(command):
    return gdb.execute(command, to_string=True)
def took(name, command):
    start = time.monotonic()
    said = run(command)
    seconds = time.monotonic() - start
    print("TIME %s %.6f %s" % (name, seconds, " ".join(said.split())[-200:]), flush=True)
    return said
"#;

/// A trace, and what is needed to look at it.
struct Trace {
    path: PathBuf,
    /// The CPU that it was recorded on.
    cpu: u64,
}

impl Trace {
    fn record(rr: &Path, work: &Path, options: &[&str], program: &[OsString]) -> Result<Trace> {
        let path = fresh(work, "debugger")?.join("trace");
        time(
            &rr_line(rr, &[&["record"], options, &["-o"]].concat(), &path, program),
            work,
        )?;
        let output = Command::new(rr)
            .arg("traceinfo")
            .arg(&path)
            .output()
            .context("rr traceinfo")?;
        let info: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("the output of rr traceinfo")?;
        let cpu = info["bindToCpu"].as_u64().unwrap_or(0);
        Ok(Trace { path, cpu })
    }

    /// Runs a script in gdb at the place that the options name; the seconds of each thing that it has timed, and of
    /// the whole session as the last.
    fn debug(&self, rr: &Path, options: &[&str], one_cpu: bool, script: &str) -> Result<Vec<(String, f64)>> {
        let file = self.path.with_file_name("script.py");
        std::fs::write(&file, format!("{PRELUDE}{script}")).context("writing a script for gdb")?;
        let mut command = Command::new("timeout");
        command.args(["-k", "5", LIMIT]);
        if one_cpu {
            command.args(["taskset", "-c", &self.cpu.to_string()]);
        }
        command
            .arg(rr)
            .args(["replay", "-q", "-o-nx", "-o-batch"])
            .args(options);
        command.arg(&self.path).args(["--", "-x"]).arg(&file);
        let begin = Instant::now();
        let output = command.stdin(Stdio::null()).output().context("rr replay")?;
        let whole = begin.elapsed().as_secs_f64();
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || text.contains("rr:") {
            bail!(
                "{command:?}: {}: {text}{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let line = |line: &str| {
            let mut words = line.strip_prefix("TIME ")?.split(' ');
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        };
        let mut times: Vec<(String, f64)> = text.lines().filter_map(line).collect();
        times.push(("whole".into(), whole));
        Ok(times)
    }
}

/// The one that has this name.
fn of(times: &[(String, f64)], name: &str) -> Result<f64> {
    let found = times.iter().find(|(n, _)| n == name);
    Ok(found.with_context(|| format!("gdb did not come to {name}"))?.1)
}

/// Prints the tables; `false` if a goal was missed.
pub fn report(args: &Args, rr: &Path, work: &Path) -> Result<bool> {
    let far = searches(args, rr, work)?;
    let near = moves(rr, work)?;
    Ok(far && near)
}

fn verdict(passed: bool) -> &'static str {
    if passed { "PASS" } else { "FAIL" }
}

/// Backwards over a long trace.
fn searches(args: &Args, rr: &Path, work: &Path) -> Result<bool> {
    let helper = compile(
        work,
        "debugger_long",
        include_str!("debugger_long.c"),
        &["-O1", "-g"],
    )?;
    // About 0.3 ms each.
    let calls: u64 = match (args.quick, args.full) {
        (true, _) => 2_000,
        (_, false) => 20_000,
        (_, true) => 200_000,
    };
    let program: Vec<OsString> = vec![helper.into(), calls.to_string().into(), "300000".into()];
    let every = (calls / 30).to_string();
    let with = Trace::record(rr, work, &["-n", "--checkpoint-interval", &every], &program)?;
    let without = Trace::record(rr, work, &["-n", "--checkpoint-interval", "none"], &program)?;
    let begin = Instant::now();
    time(&rr_line(rr, &["replay", "-a", "-q"], &with.path, &[]), work)?;
    let length = begin.elapsed().as_secs_f64();
    let runs = args.runs.min(if args.full { 1 } else { 3 });
    let ways = [
        ("stored", &with, false),
        ("one", &with, true),
        ("without", &without, false),
    ];
    let mut prompt = Vec::new();
    for (_, trace, one_cpu) in ways {
        prompt.push(of(&trace.debug(rr, &["-e"], one_cpu, "")?, "whole")?);
    }
    println!(
        "A replay of {length:.1} s, {calls} system calls as events, checkpoints every {every}; seconds, medians of {runs}:\n"
    );
    println!("| | stored checkpoints, all CPUs | stored checkpoints, one CPU | without |");
    println!("|---|---:|---:|---:|");
    println!(
        "| to the prompt with `-e` | {:.2} | {:.2} | {:.2} |",
        prompt[0], prompt[1], prompt[2]
    );
    let mut at_99 = [0.0; 3];
    for back in [1, 50, 99] {
        let mut times = [vec![], vec![], vec![]];
        // They take turns: what else the machine does meets all of them.
        for _ in 0..runs {
            for ((_, trace, one_cpu), times) in ways.iter().zip(&mut times) {
                let script = format!(
                    "run('break back_{back}')\nsaid = took('back', 'reverse-continue')\nassert 'back_{back} (' in said, said\n"
                );
                times.push(of(&trace.debug(rr, &["-e"], *one_cpu, &script)?, "back")?);
            }
        }
        let medians = times.map(|times| median(&times));
        println!(
            "| `reverse-continue` to a breakpoint {back} % back | {:.2} | {:.2} | {:.2} |",
            medians[0], medians[1], medians[2]
        );
        at_99 = medians;
    }
    let [all, one, none] = at_99;
    let (stored, cpus) = (none / all, one / all);
    let from_the_end = (prompt[2] + none) / (prompt[0] + all);
    println!(
        "\nPrompt and search 99 % back together: {from_the_end:.1}× as fast with stored checkpoints as without."
    );
    println!(
        "\n99 % back, stored checkpoints are {stored:.1}× as fast as none (goal {GOAL_STORED}×): **{}**; all CPUs {cpus:.2}× as \
         fast as one (goal {GOAL_CPUS}×): **{}**\n",
        verdict(stored >= GOAL_STORED),
        verdict(cpus >= GOAL_CPUS),
    );
    Ok(stored >= GOAL_STORED && cpus >= GOAL_CPUS)
}

/// Passes of the breakpoint with a condition.
const PASSES: u64 = 1_000_000;

/// Small moves.
fn moves(rr: &Path, work: &Path) -> Result<bool> {
    let helper = compile(
        work,
        "debugger_moves",
        include_str!("debugger_moves.c"),
        &["-O0", "-g"],
    )?;
    let program: Vec<OsString> = vec![helper.into(), PASSES.to_string().into()];
    let trace = Trace::record(rr, work, &[], &program)?;
    let script = r"
run('break before_passes')
run('continue')
for n in range(21):
    took('stepi-%d' % n, 'reverse-stepi')
run('continue')
run('watch written')
took('watch', 'reverse-continue')
run('delete')
run('break many_calls')
run('reverse-continue')
run('delete')
run('finish')
run('next')
took('next', 'reverse-next')
run('break before_passes')
run('continue')
run('delete')
run('break pass if n == -1')
run('tbreak after_passes')
took('condition', 'continue')
run('delete')
run('tbreak pass if n == 1')
took('back', 'reverse-continue')
";
    let times = trace.debug(rr, &[], false, script)?;
    let steps: Vec<f64> = (1..=20)
        .map(|n| of(&times, &format!("stepi-{n}")))
        .collect::<Result<_>>()?;
    let slowest = steps.iter().copied().fold(0.0, f64::max);
    let rows = [
        (
            "`reverse-stepi`, the slowest of 20 after the first",
            slowest * 1e3,
            "ms",
            100.0,
        ),
        (
            "`reverse-stepi`, median of them",
            median(&steps) * 1e3,
            "ms",
            100.0,
        ),
        (
            "`reverse-next` over a function with 1,000 system calls",
            of(&times, "next")?,
            "s",
            1.0,
        ),
        (
            "`reverse-continue`, watching a variable written 10,000 times",
            of(&times, "watch")?,
            "s",
            5.0,
        ),
        (
            "a breakpoint with a false condition, each pass",
            of(&times, "condition")? / PASSES as f64 * 1e6,
            "µs",
            0.3,
        ),
        (
            "the same backwards",
            of(&times, "back")? / PASSES as f64 * 1e6,
            "µs",
            0.3,
        ),
    ];
    println!("| move | takes | goal |\n|---|---:|---:|");
    for (what, value, unit, goal) in rows {
        let mark = if value > goal { "**" } else { "" };
        println!("| {what} | {mark}{value:.3} {unit}{mark} | ≤ {goal} {unit} |");
    }
    println!("\nThe condition: {PASSES} passes.\n");
    Ok(rows.iter().all(|(_, value, _, goal)| value <= goal))
}
