//! When a recording takes checkpoints, as the command line says.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use rr_checkpoint::Interval;

/// The value of `--checkpoint-interval`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checkpoints {
    /// No checkpoints are made.
    Never,
    /// One in each interval.
    Every(Interval),
}

impl Checkpoints {
    /// The interval, if there is one.
    pub fn interval(self) -> Option<Interval> {
        match self {
            Checkpoints::Never => None,
            Checkpoints::Every(interval) => Some(interval),
        }
    }
}

impl FromStr for Checkpoints {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Checkpoints> {
        match text {
            "none" => Ok(Checkpoints::Never),
            interval => interval
                .parse()
                .map(Checkpoints::Every)
                .map_err(|e| anyhow!("{e}, or none")),
        }
    }
}

impl fmt::Display for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Checkpoints::Never => f.write_str("none"),
            Checkpoints::Every(interval) => interval.fmt(f),
        }
    }
}
