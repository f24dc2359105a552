//! The files that a client has open, by number: files of the recording, and texts that stand for files of `/proc`.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use rr_trace::Member;
use rr_tracee::ReadAt;

/// Errors by the numbers of the protocol (GDB manual, "Errno Values").
pub(crate) mod errno {
    pub const ENOENT: u32 = 2;
    pub const EBADF: u32 = 9;
    pub const EINVAL: u32 = 22;
    pub const EMFILE: u32 = 24;
    pub const EROFS: u32 = 30;
    pub const EIO: u32 = 9999;
}

/// The number of files that a client may have open.
const MAX_OPEN: usize = 256;

/// The contents of an open file.
pub(crate) enum Source {
    File(Member),
    Text(Vec<u8>),
}

/// The files that the client has open.
#[derive(Default)]
pub(crate) struct Files {
    open: BTreeMap<u32, Source>,
}

/// A result, or the number of an error.
pub(crate) type FileResult<T> = Result<T, u32>;

/// `struct stat` of the protocol: big-endian, with three long fields.
fn status(size: u64, other: Option<&std::fs::Metadata>) -> [u8; 64] {
    let mut out = [0; 64];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    // Long fields hold what is cut off here: times until 2106 fit, and nothing else matters to a debugger.
    let short = |n: u64| (n as u32).to_be_bytes();
    let of = |f: fn(&std::fs::Metadata) -> u64| other.map(f).unwrap_or_default();
    // A regular file that its owner reads.
    let mode = other.map_or(0o100_444, std::fs::Metadata::mode);
    put(&short(of(MetadataExt::dev)));
    put(&short(of(MetadataExt::ino)));
    put(&mode.to_be_bytes());
    put(&short(of(MetadataExt::nlink)));
    put(&short(of(|m| m.uid().into())));
    put(&short(of(|m| m.gid().into())));
    put(&short(of(MetadataExt::rdev)));
    put(&size.to_be_bytes());
    put(&4096u64.to_be_bytes());
    put(&size.div_ceil(512).to_be_bytes());
    put(&short(of(|m| m.atime().cast_unsigned())));
    put(&short(of(|m| m.mtime().cast_unsigned())));
    put(&short(of(|m| m.ctime().cast_unsigned())));
    out
}

impl Source {
    /// Its `struct stat`.
    pub fn status(&self) -> FileResult<[u8; 64]> {
        match self {
            Source::File(member) => {
                let metadata = member.file().metadata().map_err(|_| errno::EIO)?;
                let size = member.size().map_err(|_| errno::EIO)?;
                Ok(status(size, Some(&metadata)))
            }
            Source::Text(text) => Ok(status(text.len() as u64, None)),
        }
    }

    /// Up to `len` bytes from `offset` on; none at the end.
    pub fn read(&self, offset: u64, len: usize) -> FileResult<Vec<u8>> {
        match self {
            Source::File(file) => {
                let mut bytes = vec![0; len];
                let n = file.read_at(&mut bytes, offset).map_err(|_| errno::EIO)?;
                bytes.truncate(n);
                Ok(bytes)
            }
            Source::Text(text) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
                let end = start.saturating_add(len).min(text.len());
                Ok(text[start..end].to_vec())
            }
        }
    }
}

impl Files {
    /// Opens one: the lowest free number, as open(2).
    pub fn add(&mut self, source: Source) -> FileResult<u32> {
        if self.open.len() >= MAX_OPEN {
            return Err(errno::EMFILE);
        }
        let fd = (3..)
            .find(|fd| !self.open.contains_key(fd))
            .ok_or(errno::EMFILE)?;
        self.open.insert(fd, source);
        Ok(fd)
    }

    /// An open file.
    pub fn get(&self, fd: u32) -> FileResult<&Source> {
        self.open.get(&fd).ok_or(errno::EBADF)
    }

    /// Closes one.
    pub fn remove(&mut self, fd: u32) -> FileResult<()> {
        self.open.remove(&fd).map(drop).ok_or(errno::EBADF)
    }
}
