//! `rr mv`: renames or moves a recording.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::traces;

/// The command line of `rr mv`.
#[derive(clap::Args, Debug)]
#[command(
    about = "Rename or move a recording",
    long_about = "Rename or move a recording.\n\nA TO of one word is a name in the trace directory if FROM lies \
    there, otherwise a path. `latest-trace` follows."
)]
pub struct Options {
    /// Trace directory or name
    from: PathBuf,
    /// Its new name or path, where nothing may be yet
    to: PathBuf,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let found = traces::find(Some(&options.from))?;
    let from = found
        .canonicalize()
        .with_context(|| format!("cannot find {}", found.display()))?;
    if !traces::looks_like_one(&from) {
        bail!(
            "{} does not look like a recording (no file `header` in it, and no pack)",
            from.display()
        );
    }
    let root = traces::root();
    let among = root
        .canonicalize()
        .is_ok_and(|root| from.parent() == Some(root.as_path()));
    let one_word = options.to.components().count() == 1 && !options.to.to_string_lossy().contains('/');
    let to = if among && one_word {
        root.join(&options.to)
    } else {
        options.to.clone()
    };
    if to.symlink_metadata().is_ok() {
        bail!("{} exists already", to.display());
    }
    let latest = root.join(traces::LATEST);
    let is_latest = latest.canonicalize().is_ok_and(|latest| latest == from);
    std::fs::rename(&from, &to)
        .with_context(|| format!("cannot move {} to {}", from.display(), to.display()))?;
    if is_latest {
        follow(&latest, &to)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets the link to the latest trace point to where the trace is now; outside of the trace directory: to nothing.
fn follow(latest: &Path, to: &Path) -> Result<()> {
    let moved = to
        .canonicalize()
        .with_context(|| format!("cannot find {}", to.display()))?;
    if traces::root()
        .canonicalize()
        .is_ok_and(|root| moved.parent() == Some(root.as_path()))
    {
        traces::set_latest(&traces::root().join(moved.file_name().unwrap_or_default()));
        return Ok(());
    }
    std::fs::remove_file(latest).with_context(|| format!("cannot delete {}", latest.display()))
}
