//! Working directories, and small programs of our own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A fresh directory below `work`.
pub fn fresh(work: &Path, name: &str) -> Result<PathBuf> {
    let dir = tempfile::Builder::new()
        .prefix(name)
        .tempdir_in(work)
        .context("a working directory")?;
    Ok(dir.keep())
}

/// Compiles one of our helpers in `work`.
pub fn compile(work: &Path, name: &str, text: &str, flags: &[&str]) -> Result<PathBuf> {
    let (source, helper) = (work.join(format!("{name}.c")), work.join(name));
    std::fs::write(&source, text).context("writing the helper's source")?;
    let status = Command::new("gcc")
        .args(flags)
        .arg("-o")
        .args([&helper, &source])
        .status()
        .context("gcc")?;
    if !status.success() {
        bail!("gcc cannot compile {}", source.display());
    }
    Ok(helper)
}
