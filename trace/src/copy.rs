//! Copying a file while its content hash is computed.
//!
//! The hash is always that of the copy and not of the original, which may change while it is read. Holes stay holes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use rr_tracee::{FileId, sparse};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

const CHUNK: usize = 1 << 20;

/// A hole at least so long counts as its length in the name of a file, and not as so many zeros: there are files of terabytes that
/// hold next to nothing.
const LONG_HOLE: u64 = 1 << 30;
/// The bytes before that length. (Any bytes that no file has.)
const HOLE_MARK: [u8; 17] = *b"\x93\xf2rr:a hole of \xb1\x0c";

/// The contents of a file in memory, without its holes.
#[derive(Debug)]
pub(crate) struct Content {
    /// The length of the file.
    pub len: u64,
    /// Its data, each with its offset.
    pub parts: Vec<(u64, Vec<u8>)>,
}

impl Content {
    /// The memory that it takes, in bytes.
    pub fn weight(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Writes it into an empty file.
    pub fn write(&self, to: &File) -> io::Result<()> {
        for (offset, bytes) in &self.parts {
            to.write_all_at(bytes, *offset)?;
        }
        to.set_len(self.len)
    }
}

/// Reads a file that has at most so much data, and says its name; none if there is more.
pub(crate) fn read(file: &File, most: u64) -> io::Result<Option<(FileId, Content)>> {
    let mut parts = Vec::new();
    let mut room = most;
    let keep = |offset, bytes: &[u8]| {
        room = room.checked_sub(bytes.len() as u64).ok_or(Errno::EFBIG)?;
        parts.push((offset, bytes.to_vec()));
        Ok(())
    };
    // A descriptor of our own: seeking must not move the offset of the caller's, which a tracee may share.
    let own = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let walked = match &own {
        Ok(own) => walk(own, true, keep),
        Err(_) => walk(file, false, keep),
    };
    match walked {
        Ok((id, len)) => Ok(Some((id, Content { len, parts }))),
        Err(e) if e.raw_os_error() == Some(libc::EFBIG) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The name of a file's contents.
pub(crate) fn name(file: &File) -> io::Result<FileId> {
    Ok(walk(file, true, |_, _| Ok(()))?.0)
}

/// The name of what a part of a file has in it; `sink` gets what is not a hole, with its offset in the part. A part beyond the end
/// of the file is cut off: the second value is its length.
pub(crate) fn walk_part(
    file: &File,
    part: Range<u64>,
    sink: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<(FileId, u64)> {
    // A descriptor of our own: others may seek in the same one.
    match File::open(format!("/proc/self/fd/{}", file.as_raw_fd())) {
        Ok(own) => walk_in(&own, part, true, sink),
        Err(_) => walk_in(file, part, false, sink),
    }
}

/// The name of some bytes.
pub(crate) fn hash(bytes: &[u8]) -> FileId {
    FileId(xxh3_128(bytes))
}

/// Copies all of `from` into the empty file `to` (open for reading and writing): shares its blocks where the file system can
/// (`FICLONE`, ioctl_ficlonerange(2)), else copies what is not a hole. The name of the copy.
pub(crate) fn copy(from: &File, to: &File) -> io::Result<FileId> {
    if reflink(from, to) {
        return Ok(walk(to, true, |_, _| Ok(()))?.0);
    }
    let write = |offset, bytes: &[u8]| to.write_all_at(bytes, offset);
    // A descriptor of our own: seeking must not move the offset of the caller's, which a tracee may share.
    let own = File::open(format!("/proc/self/fd/{}", from.as_raw_fd()));
    let (id, len) = match &own {
        Ok(own) => walk(own, true, write)?,
        Err(_) => walk(from, false, write)?,
    };
    // There may be a hole at the end.
    to.set_len(len)?;
    Ok(id)
}

/// Lets `to` share the blocks of `from`; says if that worked.
fn reflink(from: &File, to: &File) -> bool {
    // SAFETY: FICLONE takes a descriptor as its argument and touches no memory; both are open.
    let result = unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE as _, from.as_raw_fd()) };
    result == 0
}

/// Reads a file from its beginning to its end, hands what is not a hole to `sink` with its offset, and returns hash and length.
fn walk(
    file: &File,
    may_seek: bool,
    sink: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<(FileId, u64)> {
    walk_in(file, 0..u64::MAX, may_seek, sink)
}

/// The same for a part of a file.
fn walk_in(
    file: &File,
    part: Range<u64>,
    may_seek: bool,
    mut sink: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<(FileId, u64)> {
    let most = part.end - part.start;
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; CHUNK];
    let zeros = vec![0; CHUNK];
    let mut offset = 0;
    loop {
        let (data, hole) = match may_seek {
            true => match sparse::next_data(file, part.start.saturating_add(offset), u64::MAX)? {
                Some(data) => (data.start, data.end),
                // Nothing but a hole up to the end.
                None => {
                    let end = file.metadata()?.len();
                    (end, end)
                }
            },
            false => (part.start.saturating_add(offset), u64::MAX),
        };
        let within = |at: u64| at.saturating_sub(part.start).min(most).max(offset);
        let (data, hole) = (within(data), within(hole));
        let mut left = data - offset;
        if left >= LONG_HOLE {
            hash.update(&HOLE_MARK);
            hash.update(&left.to_le_bytes());
            left = 0;
        }
        while left > 0 {
            let n = left.min(CHUNK as u64);
            hash.update(&zeros[..n as usize]);
            left -= n;
        }
        offset = data;
        if data == hole {
            return Ok((FileId(hash.digest128()), offset));
        }
        while offset < hole {
            let want = (hole - offset).min(CHUNK as u64) as usize;
            let n = match file.read_at(&mut buffer[..want], part.start + offset) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if n == 0 {
                return Ok((FileId(hash.digest128()), offset));
            }
            hash.update(&buffer[..n]);
            sink(offset, &buffer[..n])?;
            offset += n as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom, Write};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn holes_stay_holes() {
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(b"head").unwrap();
        from.seek(SeekFrom::Start(64 << 20)).unwrap();
        from.write_all(&[7; 5000]).unwrap();
        from.set_len(200 << 20).unwrap();
        let offset = from.stream_position().unwrap();
        let to = tempfile::tempfile().unwrap();
        let id = copy(&from, &to).unwrap();
        assert_eq!(from.stream_position().unwrap(), offset);
        assert_eq!(to.metadata().unwrap().len(), 200 << 20);
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);

        let mut all = vec![0; 200 << 20];
        to.read_exact_at(&mut all, 0).unwrap();
        assert_eq!(&all[..4], b"head");
        assert_eq!(all[64 << 20], 7);
        assert_eq!(hash(&all), id);
        // Without seeking it is the same.
        assert_eq!(walk(&from, false, |_, _| Ok(())).unwrap(), (id, 200 << 20));
    }

    #[test]
    fn empty_file() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        assert_eq!(copy(&from, &to).unwrap(), hash(b""));
        assert_eq!(to.metadata().unwrap().len(), 0);
    }
}
