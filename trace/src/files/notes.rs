//! Notes about contents, in the store beside the traces: what a recorder has found out about a file, for the next one.
//!
//! ```text
//! STORE/notes/<hash>.<kind>     8  xxh3-64 of what follows
//!                                  what the recorder has written
//! ```
//!
//! Keeps: a note is there as a whole or not at all, also after a failure of power. It is a cache of what the contents
//! decide, and of what programs did with them; the name of its kind tells the version of what was found out, too.

use std::fs::File;
use std::io::{self, Read, Write};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use rr_tracee::FileId;
use xxhash_rust::xxh3::xxh3_64;

use super::store::Store;
use crate::dir::file_name;

/// The directory of notes.
pub(crate) const NOTES: &str = "notes";
/// Most bytes of a note.
const MOST: u64 = 1 << 20;

fn name(id: FileId, kind: &str) -> String {
    format!("{NOTES}/{}.{kind}", file_name(id))
}

impl Store {
    /// The note of this kind about these contents, if there is one.
    pub(super) fn note(&self, id: FileId, kind: &str) -> io::Result<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&self.contents.fd, &*name(id, kind), flags, Mode::empty())?);
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        match bytes.split_first_chunk() {
            Some((sum, note)) if u64::from_le_bytes(*sum) == xxh3_64(note) => Ok(note.to_vec()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Leaves a note.
    pub(super) fn set_note(&self, id: FileId, kind: &str, bytes: &[u8]) -> io::Result<()> {
        let store = &self.contents.fd;
        match mkdirat(store, NOTES, Mode::from_bits_truncate(0o700)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let temporary = self.contents.temporary()?;
        (&temporary.file).write_all(&[&xxh3_64(bytes).to_le_bytes(), bytes].concat())?;
        temporary.publish_as(&name(id, kind))
    }
}
