//! Recordings of failures, as a file each in the directory of artefacts:
//!
//! ```text
//! ARTIFACTS/NAME-N.rrpack      a packed trace (`rr_trace::pack`), with two members more:
//!                  ci.json     the test and its failure (`Record`)
//!                  backtrace   the output of `rr backtrace`
//! ```
//!
//! First it is a directory `ARTIFACTS/NAME-N` with these files; so nothing is lost if there is no time, or no room, to pack it.
//!
//! A run is recorded beside the other traces ([`place`](super::place)), since these share the files that the programs have mapped; a
//! green run so costs no copy of them. Only a red run is moved.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rr_trace::pack::EXTENSION;
use rr_trace::parallel::Asked;
use rr_trace::{Note, TraceReader};
use serde::{Deserialize, Serialize};

use super::place::{Place, Places};
use crate::commands::pack::Wish;
use crate::outcome::Outcome;
use crate::{commands, traces};

/// Seconds that all frames of one place may take, and the places that are shown.
const BACKTRACE_SECONDS: &str = "120";
const BACKTRACE_PLACES: &str = "5";

/// A run for which it does not matter that its files are copied again: that takes some 50 ms.
const LONG_RUN: Duration = Duration::from_secs(2);
/// Mapped files of removed runs stay so long.
const UNUSED: Duration = Duration::from_secs(600);
/// The file in the store whose time says when short runs last removed what was unused, and the time until they do so again.
const TIDIED: &str = ".tidied";
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// The longest note that is read.
const NOTE_MOST: u64 = 64 << 20;

/// The test and its failure.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The test's name.
    pub name: String,
    /// The program and its arguments.
    pub test: Vec<String>,
    /// The reason why it counts as failed.
    pub failure: Option<String>,
    /// Its number among the runs of one `rr ci`, from 1.
    pub attempt: u32,
    /// The seed of its schedule.
    pub seed: Option<u64>,
    /// Its end.
    pub outcome: Outcome,
}

impl Record {
    /// Reads the record in an artefact.
    pub fn of(artifact: &TraceReader) -> Result<Record> {
        let bytes = note(artifact, Note::Ci)?.context("no artefact of rr ci")?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}

/// Reads a note beside the recording of an artefact.
fn note(artifact: &TraceReader, note: Note) -> Result<Option<Vec<u8>>> {
    let Some(member) = artifact.open_note(note)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    member.reader().take(NOTE_MOST).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// The output of `rr backtrace` in an artefact, if it is there.
pub fn backtrace_of(artifact: &TraceReader) -> String {
    let bytes = note(artifact, Note::Backtrace).ok().flatten();
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// Puts an artefact that is a directory into one file, and removes the directory.
pub fn pack(dir: &Path, asked: Asked<'_>) -> Result<PathBuf> {
    let file = dir.with_added_extension(EXTENSION);
    let reader = TraceReader::open(dir)?;
    commands::pack::pack(&reader, &file, &Wish::default(), asked)?;
    if let Err(e) = fs::remove_dir_all(dir) {
        eprintln!("rr: cannot remove {}: {e}", dir.display());
    }
    Ok(file)
}

/// The places where runs are recorded, and where artefacts go.
pub struct Artifacts {
    work: PathBuf,
    dir: PathBuf,
}

fn usable(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK)
        .with_context(|| format!("cannot write into {}", dir.display()))
}

impl Artifacts {
    /// With the directory that the user names. A directory that cannot be used is no reason not to run the test: recordings then go
    /// to the trace directory, or to the one for temporary files.
    pub fn new(dir: Option<&Path>) -> Artifacts {
        let fallback = || std::env::temp_dir().join(format!("rr-{}", nix::unistd::getuid()));
        let root = traces::root();
        let work = if usable(&root).is_ok() { root } else { fallback() };
        let dir = match dir.map(|dir| (dir, usable(dir))) {
            None => work.clone(),
            Some((dir, Ok(()))) => dir.to_path_buf(),
            Some((_, Err(e))) => {
                eprintln!(
                    "rr: {}: recordings of failures go to {}",
                    crate::error_text::of(&e),
                    work.display()
                );
                work.clone()
            }
        };
        Artifacts { work, dir }
    }

    /// A place for a run.
    pub fn place(&self) -> Result<Place> {
        usable(&self.work)?;
        self.places().take()
    }

    fn places(&self) -> Places {
        Places::in_store(&self.work.join(traces::STORE))
    }

    /// Removes the files that removed runs had mapped, after a run that took this time and left no recording. The next run copies
    /// the files that are gone: so those in use stay while other runs are in progress, and for a while after a short run, since
    /// a runner that starts each test by itself starts the next one at once.
    pub fn tidy_store(&self, run: Duration) {
        let store = traces::store();
        let unused = match run >= LONG_RUN && !self.places().are_in_use() {
            true => Duration::ZERO,
            false => UNUSED,
        };
        // To look at all files takes longer than to record a short test.
        let stamp = store.join(TIDIED);
        let age = || stamp.metadata().ok()?.modified().ok()?.elapsed().ok();
        if !unused.is_zero() && age().is_some_and(|age| age < TIDY_EVERY) {
            return;
        }
        self.places().remove(unused);
        // The store is a cache. What stays is removed another time.
        let tidied = rr_trace::prune::prune_store(&store, unused).and_then(|_| match store.is_dir() {
            true => fs::write(&stamp, ""),
            false => Ok(()),
        });
        if let Err(e) = tidied {
            tracing::warn!("{}: {e}", store.display());
        }
    }

    /// Makes an artefact of a run. Returns its directory.
    pub fn keep(&self, place: &Place, record: &Record) -> Result<PathBuf> {
        let trace = place.trace();
        let written = serde_json::to_vec_pretty(record).map_err(io::Error::from);
        let written = written.and_then(|bytes| fs::write(trace.join(Note::Ci.file_name()), bytes));
        written.with_context(|| format!("cannot write into {}", trace.display()))?;
        for n in 0..10_000 {
            let dir = self.dir.join(format!("{}-{n}", record.name));
            if dir.with_added_extension(EXTENSION).symlink_metadata().is_ok() {
                continue;
            }
            // The run that makes the directory has the name.
            match fs::create_dir(&dir) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(e).with_context(|| format!("cannot make {}", dir.display())),
            }
            let moved = match fs::rename(&trace, &dir) {
                Err(e) if e.kind() == io::ErrorKind::CrossesDevices => copy_dir(&trace, &dir),
                other => other,
            };
            if let Err(e) = moved {
                // Half a recording is of no use, and the disk may be full.
                let _ = fs::remove_dir_all(&dir);
                return Err(e).with_context(|| format!("cannot put it into {}", dir.display()));
            }
            return Ok(dir);
        }
        bail!("no free name for it in {}", self.dir.display())
    }
}

/// Copies a trace, which consists of directories and plain files.
fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Prints the backtraces of an artefact to standard error, and puts them into it.
pub fn backtrace(dir: &Path, outcome: &Outcome) -> Result<()> {
    let rr = std::env::current_exe().context("rr does not find itself")?;
    let mut command = Command::new(rr);
    command.args([
        "backtrace",
        "--timeout",
        BACKTRACE_SECONDS,
        "--limit",
        BACKTRACE_PLACES,
    ]);
    if outcome.timed_out {
        command.arg("--at-end");
    } else if outcome.crashes.is_empty() {
        command.arg("--on-exit-status");
    }
    command.arg(dir).stdin(Stdio::null()).stdout(Stdio::piped());
    let output = command.stderr(Stdio::inherit()).spawn()?.wait_with_output()?;
    // The log may be closed by now; the artefact has them all the same.
    let _ = io::stderr().write_all(&output.stdout);
    fs::write(dir.join(Note::Backtrace.file_name()), &output.stdout)
        .with_context(|| format!("cannot write into {}", dir.display()))
}
