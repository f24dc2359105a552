//! The places and the names of traces. They are those of the original rr.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rr_trace::TraceReader;
use rr_trace::pack::EXTENSION;

/// The symbolic link to the newest trace.
pub const LATEST: &str = "latest-trace";

/// The directory of mapped files in the trace directory.
pub const STORE: &str = ".files";

/// The trace directory: `$_RR_TRACE_DIR`; else `$XDG_DATA_HOME/rr` or `~/.local/share/rr` if it is there, else
/// `~/.rr` if that is there, else the former; without a home `/tmp/rr`.
pub fn root() -> PathBuf {
    let var = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(dir) = var("_RR_TRACE_DIR") {
        return dir;
    }
    let home = var("HOME");
    let data = var("XDG_DATA_HOME")
        .or_else(|| home.as_ref().map(|h| h.join(".local/share")))
        .map(|d| d.join("rr"));
    let legacy = home.map(|h| h.join(".rr"));
    match (data, legacy) {
        (Some(data), _) if data.is_dir() => data,
        (_, Some(legacy)) if legacy.is_dir() => legacy,
        (Some(data), _) => data,
        (None, _) => "/tmp/rr".into(),
    }
}

/// A trace named on the command line: nothing means the latest; a single word is looked up in the working directory
/// and then among the traces; a path is used as it is. A name may lack the extension of a pack: `rr ci` names a recording in its
/// backtraces before it packs it.
pub fn find(name: Option<&Path>) -> Result<PathBuf> {
    let Some(name) = name else {
        let latest = root().join(LATEST);
        if !latest.exists() {
            bail!(
                "there is no latest trace in {}: record a program first (rr record PROG), or name a trace",
                root().display()
            );
        }
        return Ok(latest);
    };
    if let Some(there) = existing(name) {
        return Ok(there);
    }
    let single = name.components().count() == 1 && !name.as_os_str().to_string_lossy().contains('/');
    if single {
        if let Some(among) = existing(&root().join(name)) {
            return Ok(among);
        }
        bail!(
            "there is no trace {} here or in {} (rr ls lists them)",
            name.display(),
            root().display()
        );
    }
    bail!("there is no trace {}", name.display());
}

/// A trace that is there, as a directory or as a file.
fn existing(trace: &Path) -> Option<PathBuf> {
    let pack = trace.with_added_extension(EXTENSION);
    [trace.to_owned(), pack].into_iter().find(|path| path.exists())
}

/// Opens a trace named on the command line.
pub fn open(name: Option<&Path>) -> Result<Arc<TraceReader>> {
    let path = find(name)?;
    // The reader's messages name files themselves.
    let reader = TraceReader::open(&path)?;
    if reader.torn_bytes() > 0 {
        tracing::info!(
            "{}: {} bytes at the torn end are not used",
            path.display(),
            reader.torn_bytes()
        );
    }
    Ok(Arc::new(reader))
}

/// The path for trace number `n` of `program`, in the trace directory, which is made if it is not there.
pub fn numbered(program: &OsStr, n: u32) -> Result<PathBuf> {
    let root = root();
    std::fs::create_dir_all(&root)
        .with_context(|| format!("cannot make the trace directory {}", root.display()))?;
    let mut name = Path::new(program).file_name().unwrap_or(program).to_owned();
    name.push(format!("-{n}"));
    Ok(root.join(name))
}

/// Lets `latest-trace` point to `trace`, a directory in the trace directory.
pub fn set_latest(trace: &Path) {
    let (Some(root), Some(name)) = (trace.parent(), trace.file_name()) else {
        return;
    };
    let temporary = root.join(format!(".{LATEST}-{}", std::process::id()));
    // One that a killed rr of the same number left.
    let _ = std::fs::remove_file(&temporary);
    // A missing link is an inconvenience, not a loss.
    let made = symlink(name, &temporary).and_then(|()| std::fs::rename(&temporary, root.join(LATEST)));
    if let Err(e) = made {
        tracing::warn!("cannot set {}: {e}", root.join(LATEST).display());
    }
}

/// Says if there is a recording at a path, as far as that is seen from outside.
pub fn looks_like_one(path: &Path) -> bool {
    path.join("header").is_file() || rr_trace::pack::is_pack(path)
}

/// The directory of mapped files for all traces in the trace directory.
pub fn store() -> PathBuf {
    root().join(STORE)
}

/// The bytes of a trace, a directory or a pack, on the disk: what was removed from a file leaves a hole in it.
pub fn bytes_on_disk(dir: &Path) -> u64 {
    if let Ok(meta) = dir.metadata()
        && meta.is_file()
    {
        return meta.blocks() * 512;
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_on_disk(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(of).sum()
}
