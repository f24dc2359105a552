//! The places where `rr ci` records runs: directories in the store of mapped files, beside the other traces.
//!
//! ```text
//! STORE/places/N/trace/          the trace
//! ```
//!
//! A place is in use while somebody has locked it (flock(2)). Afterwards it is emptied, and its directories stay for the next run:
//! to make and remove them takes longer than to record a short test, since ext4 does not use an inode again for seconds, and looks
//! at each of those that were freed. Keeps: no two runs share a place, and a run finds none of what an earlier one has left, however
//! that ended.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The most places.
const MOST: u32 = 1000;
const TRACE: &str = "trace";

/// All places.
pub struct Places(PathBuf);

/// The place of one run.
pub struct Place {
    dir: PathBuf,
    /// Nothing on a file system that knows no locks.
    lock: Option<Flock<File>>,
}

/// The result of trying to lock a place.
enum Locked {
    Ours(Flock<File>),
    /// Somebody else uses it, or has just removed it.
    Theirs,
    /// The file system knows no locks.
    Never,
}

impl Place {
    /// The trace.
    pub fn trace(&self) -> PathBuf {
        self.dir.join(TRACE)
    }

    /// Removes what a run has left, but no directories.
    fn empty(&self) -> io::Result<()> {
        rr_trace::recycle(&self.trace())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let emptied = match self.lock {
            Some(_) => self.empty(),
            None => fs::remove_dir_all(&self.dir),
        };
        if let Err(e) = emptied {
            eprintln!("rr: cannot remove {}: {e}", self.dir.display());
        }
    }
}

/// Locks a place, if it is there.
fn lock(dir: &Path) -> io::Result<Locked> {
    let opened = match File::open(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Locked::Theirs),
        other => other?,
    };
    let inode = opened.metadata()?.ino();
    Ok(match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
        // Somebody may have removed it before it was locked, and made another one.
        Ok(lock) if dir.metadata().is_ok_and(|now| now.ino() == inode) => Locked::Ours(lock),
        Ok(_) | Err((_, Errno::EWOULDBLOCK)) => Locked::Theirs,
        Err(_) => Locked::Never,
    })
}

impl Places {
    /// The places in a store.
    pub fn in_store(store: &Path) -> Places {
        Places(store.join("places"))
    }

    /// Takes a place that nobody uses.
    pub fn take(&self) -> Result<Place> {
        let fail = |dir: &Path| format!("cannot record into {}", dir.display());
        // The store is for its owner alone.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.with_context(|| fail(&self.0))?;
        for n in 0..MOST {
            let dir = self.0.join(n.to_string());
            match fs::create_dir(&dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(e).with_context(|| fail(&dir));
                }
                _ => {}
            }
            match lock(&dir).with_context(|| fail(&dir))? {
                Locked::Ours(lock) => {
                    let lock = Some(lock);
                    let place = Place { dir, lock };
                    // A killed run empties nothing.
                    place.empty().with_context(|| fail(&place.dir))?;
                    return Ok(place);
                }
                Locked::Theirs => {}
                Locked::Never => return self.take_own(),
            }
        }
        bail!(
            "cannot record into {}: {MOST} runs are in progress",
            self.0.display()
        )
    }

    /// Makes a place for one run only. (What a killed run leaves in it stays.)
    fn take_own(&self) -> Result<Place> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let dir = self.0.join(format!("{}-{number}", std::process::id()));
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(Place { dir, lock: None }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).with_context(|| format!("cannot record into {}", dir.display())),
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.map(|entry| entry.path())
    }

    /// Returns whether runs are in progress.
    pub fn are_in_use(&self) -> bool {
        self.all()
            .any(|dir| matches!(lock(&dir), Ok(Locked::Theirs | Locked::Never)))
    }

    /// Removes places that nobody has used for this time.
    pub fn remove(&self, unused: Duration) {
        for dir in self.all() {
            // Each run makes a header in the trace's directory, which changes the directory.
            let age = || dir.join(TRACE).metadata().ok()?.modified().ok()?.elapsed().ok();
            if age().is_none_or(|age| age >= unused)
                && let Ok(Locked::Ours(_lock)) = lock(&dir)
            {
                // What stays is removed another time.
                let _ = fs::remove_dir_all(dir);
            }
        }
    }
}
