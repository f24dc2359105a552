//! The option that limits the checkpoints of a trace on the disk.

use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::statvfs::statvfs;

use crate::size::Size;

/// Without a word from the user, checkpoints may take this part of what is free on the disk when the command begins, as its reciprocal.
const SHARE: u64 = 10;

/// The command line's option.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct BudgetOption {
    /// The most that the trace's checkpoints may take on the disk: bytes, or with K, M, G after the number. When they take more,
    /// some are removed: the first one and the latest ones stay, and the others get the sparser the farther they are from
    /// the end. By default a tenth of what is free on the disk when the command begins
    #[arg(long, value_name = "SIZE")]
    checkpoint_budget: Option<Size>,
}

impl BudgetOption {
    /// The budget for checkpoints in this directory.
    pub fn bytes(self, dir: &Path) -> Result<u64> {
        if let Some(size) = self.checkpoint_budget {
            return Ok(size.0);
        }
        let disk = statvfs(dir).with_context(|| format!("asking for the free space at {}", dir.display()))?;
        Ok(disk.blocks_available() * disk.fragment_size() / SHARE)
    }

    /// Says if the user has given it.
    pub fn is_given(self) -> bool {
        self.checkpoint_budget.is_some()
    }
}
