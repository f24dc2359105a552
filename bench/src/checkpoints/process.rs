//! The process of the table about checkpoints: it holds much, dirties 50 MB and makes 50,000 system calls a second.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::helpers::compile;
use crate::measure::{Cost, time};

/// Pages that it writes in a second: 50 MB.
pub const PAGES: u64 = 12_200;

/// The process.
#[derive(Clone)]
pub struct Busy {
    pub program: PathBuf,
    pub mib: u64,
    pub seconds: usize,
    turns: String,
    work: PathBuf,
}

/// One run of it.
pub struct Ran {
    pub cost: Cost,
    /// When each second ended, and the run, in seconds since the epoch.
    pub ends: Vec<f64>,
}

impl Ran {
    /// From the end of a second to the end of the run.
    pub fn after(&self, second: usize) -> f64 {
        self.ends.last().unwrap_or(&0.0) - self.ends[second - 1]
    }
}

impl Busy {
    pub fn new(args: &Args, work: &Path) -> Result<Busy> {
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

    pub fn run(&self, line: &[OsString]) -> Result<Ran> {
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

/// The output of a helper.
pub fn output(program: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().context("a helper")?;
    if !output.status.success() {
        bail!("{} {args:?}: {}", program.display(), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
