//! Facts that tell one state of a file from another without reading it: what the store's index goes by.
//!
//! Keeps: two states of a file with different contents have different keys, if the first one [is settled](Key::is_settled).

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rr_tracee::tsc;

/// A file changed less long ago than this could change again without a new ctime, where the file system takes the time from the
/// kernel's tick (1 to 10 ms; inode_set_ctime_current, ktime_get_coarse_real_ts64).
const SETTLED: Duration = Duration::from_millis(100);

/// The same for file systems that count in seconds. FAT counts in steps of two.
const SETTLED_SECONDS: Duration = Duration::from_secs(2);

/// No file system with ticks counts in steps as long as this, in nanoseconds. (exFAT counts in these.)
const LONG_STEP: i64 = 10_000_000;

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
        self.is_settled_at(tsc::real_time())
    }

    fn is_settled_at(&self, now: Duration) -> bool {
        let (seconds, nanoseconds) = self.ctime;
        let ctime = Duration::new(seconds.max(0) as u64, nanoseconds.clamp(0, 999_999_999) as u32);
        let settled = match nanoseconds % LONG_STEP {
            0 => SETTLED_SECONDS,
            _ => SETTLED,
        };
        ctime + settled < now
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests run as soon as they are built: their files shall not be read for two seconds by each recording.
    #[test]
    fn a_file_is_settled_when_its_clock_has_gone_on() {
        let changed = |nanoseconds| Key {
            dev: 1,
            ino: 2,
            size: 3,
            mtime: (0, 0),
            ctime: (100, nanoseconds),
        };
        let is_settled = |nanoseconds, age| {
            let ctime = Duration::new(100, nanoseconds as u32);
            changed(nanoseconds).is_settled_at(ctime + Duration::from_millis(age))
        };
        assert!(!is_settled(123_456_789, 99));
        assert!(is_settled(123_456_789, 101));
        for coarse in [0, 500_000_000, 120_000_000] {
            assert!(!is_settled(coarse, 1_999), "{coarse}");
            assert!(is_settled(coarse, 2_001), "{coarse}");
        }
        // A clock that goes back.
        assert!(!changed(1).is_settled_at(Duration::from_secs(99)));
    }
}
