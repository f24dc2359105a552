//! Facts that tell one state of a file from another without reading it: what the store's index goes by.
//!
//! Keeps: two states of a file with different contents have different keys, if the first one [is settled](Key::is_settled).

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rr_tracee::tsc;

/// A file changed less long ago than this could change again without a new ctime (file systems count in
/// ticks of some milliseconds, some in seconds).
const SETTLED: Duration = Duration::from_secs(2);

/// Facts that tell one state of a file from another without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    dev: u64,
    ino: u64,
    pub(super) size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Key {
    pub(super) fn of(file: &File) -> io::Result<Key> {
        let m = file.metadata()?;
        if !m.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let (mtime, ctime) = ((m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec()));
        Ok(Key {
            dev: m.dev(),
            ino: m.ino(),
            size: m.size(),
            mtime,
            ctime,
        })
    }

    /// Says if a change after now would show in the key.
    pub(super) fn is_settled(&self) -> bool {
        // The recorder has no time-stamp counter, which the clock of the vDSO reads.
        let now = tsc::real_time();
        let ctime = Duration::new(
            self.ctime.0.max(0) as u64,
            self.ctime.1.clamp(0, 999_999_999) as u32,
        );
        ctime + SETTLED < now
    }

    /// Its name in the index.
    pub(super) fn name(&self) -> String {
        let Key {
            dev,
            ino,
            size,
            mtime,
            ctime,
        } = self;
        format!(
            "{dev:x}-{ino:x}-{size:x}-{:x}.{:x}-{:x}.{:x}",
            mtime.0, mtime.1, ctime.0, ctime.1
        )
    }
}
