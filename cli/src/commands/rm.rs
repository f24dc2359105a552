//! `rr rm`: deletes recordings, and the contents of mapped files that no recording needs any more, in the store of the trace
//! directory and beside packs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::traces;

/// The command line of `rr rm`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Delete what does not look like a recording too
    #[arg(short, long)]
    force: bool,
    /// Trace directories or names
    #[arg(required = true)]
    traces: Vec<PathBuf>,
}

fn remove(path: &Path, force: bool) -> Result<()> {
    let path = &traces::find(Some(path))?;
    let real = path
        .canonicalize()
        .with_context(|| format!("cannot find {}", path.display()))?;
    if !force && !traces::looks_like_one(&real) {
        bail!(
            "{} does not look like a recording (no file `header` in it, and no pack); -f deletes it all the same",
            path.display()
        );
    }
    let removed = match real.is_dir() {
        true => std::fs::remove_dir_all(&real),
        false => std::fs::remove_file(&real),
    };
    removed.with_context(|| format!("cannot delete {}", real.display()))?;
    if let Some(dir) = real.parent()
        && let Err(e) = rr_trace::collect::collect_objects(dir)
    {
        eprintln!(
            "rr: {e}; so all that the packs in {} share is kept",
            dir.display()
        );
    }
    let latest = traces::root().join(traces::LATEST);
    if latest.symlink_metadata().is_ok() && !latest.exists() {
        std::fs::remove_file(&latest).with_context(|| format!("cannot delete {}", latest.display()))?;
    }
    Ok(())
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut status = ExitCode::SUCCESS;
    for trace in &options.traces {
        if let Err(e) = remove(trace, options.force) {
            eprintln!("rr: {}", crate::error_text::of(&e));
            status = ExitCode::FAILURE;
        }
    }
    let store = traces::store();
    if let Err(e) = rr_trace::prune::prune_store(&store, Duration::ZERO) {
        tracing::warn!("cannot clean {}: {e}", store.display());
    }
    Ok(status)
}
