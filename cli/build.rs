//! Tells the compiler which commit is built (`$RR_COMMIT`), for `rr --version`.
//!
//! `$RR_BUILD` says something else, for those who build without the repository. Without either, the version stands alone. The
//! same source gives the same bytes: nothing of the machine or of the time goes in.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=RR_BUILD");
    println!("cargo::rerun-if-changed=build.rs");
    let build = std::env::var("RR_BUILD").ok().or_else(commit).unwrap_or_default();
    println!("cargo::rustc-env=RR_COMMIT={}", build.trim());
}

/// The commit that is checked out, if this is the repository of rr and not one around a copy of its source.
fn commit() -> Option<String> {
    let here = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    let root = Path::new(&here).parent()?;
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(root).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    // A commit or a checkout changes this file.
    let log = root.join(git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    if log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}
