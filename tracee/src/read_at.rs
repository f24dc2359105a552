//! Bytes that can be read at any place: a file, or a part of one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A source of bytes.
pub trait ReadAt {
    /// Reads bytes at `offset`, like pread(2): perhaps fewer than `buf` holds, none at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Number of bytes.
    fn size(&self) -> io::Result<u64>;

    /// Reads from `offset` on until `buf` is full or the source ends. Returns the number of bytes read.
    fn read_up_to(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut n = 0;
        while n < buf.len() {
            match self.read_at(&mut buf[n..], offset + n as u64) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(n)
    }

    /// Fills `buf`. Fails with `UnexpectedEof` if there are fewer bytes.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match self.read_up_to(buf, offset)? == buf.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl ReadAt for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for &[u8] {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).ok().and_then(|start| self.get(start..));
        let there = from.unwrap_or_default();
        let n = there.len().min(buf.len());
        buf[..n].copy_from_slice(&there[..n]);
        Ok(n)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_a_file_is() {
        let bytes = b"0123456789";
        let file = tempfile::tempfile().unwrap();
        FileExt::write_all_at(&file, bytes, 0).unwrap();
        let sources: [&dyn ReadAt; 2] = [&file, &&bytes[..]];
        for source in sources {
            assert_eq!(source.size().unwrap(), 10);
            for (offset, there) in [(0, 4), (7, 3), (10, 0), (11, 0), (1 << 60, 0)] {
                let mut buf = [0; 4];
                assert_eq!(source.read_at(&mut buf, offset).unwrap(), there, "{offset}");
                assert_eq!(&buf[..there], &bytes[10.min(offset as usize)..][..there]);
                let end = source.read_exact_at(&mut buf, offset).map_err(|e| e.kind());
                let expected = if there == 4 {
                    Ok(())
                } else {
                    Err(io::ErrorKind::UnexpectedEof)
                };
                assert_eq!(end, expected);
            }
        }
    }
}
