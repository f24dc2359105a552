//! Readers that need all of a trace while it is recorded, and the recorder that deletes parts of it meanwhile.
//!
//! Both lock the trace's directory (flock(2)), readers together and a deletion alone. A reader waits for a deletion, which is
//! short; the recorder never waits: it deletes the next time. Where the file system has no locks, nobody is kept out.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::{Error, Result};

/// As long as it lives, nothing is deleted from a trace that is being recorded.
#[derive(Debug)]
pub struct Hold {
    _lock: Option<Flock<File>>,
}

impl Hold {
    /// Holds the trace at this path. To be called before the trace is opened. Nothing is deleted from a pack.
    pub fn of(trace: &Path) -> Result<Hold> {
        let file = File::open(trace).map_err(|e| Error::io(trace, "opening the trace", e))?;
        let mut locked = Flock::lock(file, FlockArg::LockShared);
        while let Err((file, Errno::EINTR)) = locked {
            locked = Flock::lock(file, FlockArg::LockShared);
        }
        Ok(Hold { _lock: locked.ok() })
    }
}

/// As long as it lives, nobody holds a trace.
#[derive(Debug)]
pub struct Deletion {
    _lock: Option<Flock<File>>,
}

impl Deletion {
    /// Begins to delete from the trace in a directory. `None`: somebody holds it now.
    pub fn begin(trace: &Path) -> Option<Deletion> {
        let file = File::open(trace).ok()?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Some(Deletion { _lock: Some(lock) }),
            Err((_, Errno::EWOULDBLOCK)) => None,
            Err(_) => Some(Deletion { _lock: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_and_a_deletion_is_alone() {
        let dir = tempfile::tempdir().unwrap();
        let holds = [Hold::of(dir.path()).unwrap(), Hold::of(dir.path()).unwrap()];
        assert!(Deletion::begin(dir.path()).is_none());
        drop(holds);
        let deletion = Deletion::begin(dir.path()).unwrap();
        assert!(Deletion::begin(dir.path()).is_none());
        drop(deletion);
        assert!(Deletion::begin(dir.path()).is_some());
    }
}
