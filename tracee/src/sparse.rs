//! Finds the data in files with holes (lseek(2), `SEEK_DATA`).
//!
//! Everything outside of the holes is found, even if the file system does not know holes (then all of
//! the file counts as data). The search moves the descriptor's offset, so no caller may rely on the
//! offset.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// Maximum number of bytes copied at once.
const PIECE: u64 = 1 << 20;

/// Returns the first stretch of data at or after `from`, up to `end` at most. `None` means that there
/// is only a hole.
pub fn next_data(file: &File, from: u64, end: u64) -> io::Result<Option<Range<u64>>> {
    if from >= end {
        return Ok(None);
    }
    let seek = |at: u64, whence| {
        let at = i64::try_from(at).map_err(|_| Errno::ENXIO)?;
        lseek(file.as_fd(), at, whence).map(i64::cast_unsigned)
    };
    let start = match seek(from, Whence::SeekData) {
        Ok(start) => start,
        Err(Errno::ENXIO) => return Ok(None),
        // The file system does not know holes.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Some(from..end)),
        Err(e) => return Err(e.into()),
    };
    if start >= end {
        return Ok(None);
    }
    let hole = match seek(start, Whence::SeekHole) {
        Ok(hole) => hole,
        // The file has been truncated since.
        Err(Errno::ENXIO) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    Ok(Some(start..hole.clamp(start, end)))
}

/// Copies the data of a part of a file to a place in another file that contains only a hole. A part
/// beyond the end of the file is left out.
pub fn copy(from: &File, part: Range<u64>, to: &File, to_at: u64) -> io::Result<()> {
    let end = part.end.min(from.metadata()?.len());
    let mut buffer = vec![0; PIECE.min(end.saturating_sub(part.start)) as usize];
    let mut at = part.start;
    while let Some(data) = next_data(from, at, end)? {
        at = data.start;
        while at < data.end {
            let n = buffer.len().min((data.end - at) as usize);
            from.read_exact_at(&mut buffer[..n], at)?;
            to.write_all_at(&buffer[..n], to_at + (at - part.start))?;
            at += n as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with 5,000 bytes at 1 MiB, and a hole up to 3 MiB.
    fn with_holes() -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 5000], 1 << 20).unwrap();
        file.set_len(3 << 20).unwrap();
        file
    }

    #[test]
    fn data_is_found_and_holes_are_not() {
        let file = with_holes();
        let found = next_data(&file, 0, 3 << 20).unwrap().unwrap();
        // File systems store whole blocks.
        assert!(
            found.contains(&(1 << 20)) && found.contains(&((1 << 20) + 4999)),
            "{found:?}"
        );
        assert!(found.start > 900_000 && found.end < 1_200_000, "{found:?}");
        assert_eq!(next_data(&file, 0, 1000).unwrap(), None);
        assert_eq!(next_data(&file, 2 << 20, u64::MAX).unwrap(), None);
        assert_eq!(next_data(&file, 5 << 20, 6 << 20).unwrap(), None);
        assert_eq!(next_data(&file, u64::MAX - 1, u64::MAX).unwrap(), None);
        let middle = (1 << 20) + 10;
        assert_eq!(
            next_data(&file, middle, middle + 20).unwrap(),
            Some(middle..middle + 20)
        );
    }

    #[test]
    fn a_part_is_copied_to_another_place() {
        let (from, to) = (with_holes(), tempfile::tempfile().unwrap());
        copy(&from, (1 << 20) + 1000..9 << 20, &to, 10_000).unwrap();
        let mut bytes = vec![1; 4010];
        to.read_exact_at(&mut bytes[..4000], 10_000).unwrap();
        assert!(bytes[..4000].iter().all(|b| *b == 7));
        assert_eq!(to.read_at(&mut bytes, 0).unwrap(), 4010);
        assert!(bytes.iter().all(|b| *b == 0));
    }
}
