//! One member of a trace: a file of its own in a directory, a part of a file in a pack.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rr_tracee::ReadAt;

use crate::dictionary::Dictionaries;

/// A member, open for reading. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Member {
    file: Arc<File>,
    file_path: Arc<Path>,
    /// Start and length; the whole file if there is nothing.
    part: Option<(u64, u64)>,
    path: PathBuf,
    /// The files that it may name.
    dictionaries: Option<Arc<Dictionaries>>,
}

impl Member {
    /// A whole file.
    pub fn whole(file: File, path: PathBuf) -> Member {
        Member {
            file: Arc::new(file),
            file_path: path.as_path().into(),
            part: None,
            path,
            dictionaries: None,
        }
    }

    /// `len` bytes of a file, from `start` on. Messages call them `path`.
    pub(crate) fn part(
        file: &Arc<File>,
        file_path: &Arc<Path>,
        start: u64,
        len: u64,
        path: PathBuf,
    ) -> Member {
        Member {
            file: Arc::clone(file),
            file_path: Arc::clone(file_path),
            part: Some((start, len)),
            path,
            dictionaries: None,
        }
    }

    /// The same with the dictionaries that it may name.
    pub(crate) fn with_dictionaries(mut self, dictionaries: &Arc<Dictionaries>) -> Member {
        self.dictionaries = Some(Arc::clone(dictionaries));
        self
    }

    /// The dictionaries that it may name.
    pub(crate) fn dictionaries(&self) -> Option<&Dictionaries> {
        self.dictionaries.as_deref()
    }

    /// The path that messages name: where the file is, or would be in a directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that has its bytes.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path of that file.
    pub fn file_path(&self) -> &Path {
        &self.file_path
    }

    /// The offset in that file at which it begins.
    pub fn start(&self) -> u64 {
        self.part.map_or(0, |(start, _)| start)
    }

    /// Says if that file holds nothing else.
    pub fn is_whole_file(&self) -> bool {
        self.part.is_none()
    }

    /// The number of its bytes.
    pub fn size(&self) -> io::Result<u64> {
        match self.part {
            Some((_, len)) => Ok(len),
            None => self.file.size(),
        }
    }

    /// A reader that begins at its beginning.
    pub fn reader(&self) -> MemberReader {
        MemberReader {
            member: self.clone(),
            at: 0,
        }
    }
}

impl ReadAt for Member {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some((start, len)) = self.part else {
            return self.file.read_at(buf, offset);
        };
        let most = len.saturating_sub(offset).min(buf.len() as u64) as usize;
        match most {
            0 => Ok(0),
            _ => self.file.read_at(&mut buf[..most], start + offset),
        }
    }

    fn size(&self) -> io::Result<u64> {
        Member::size(self)
    }
}

/// Reads a member from its beginning on.
#[derive(Debug)]
pub struct MemberReader {
    member: Member,
    at: u64,
}

impl Read for MemberReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.member.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for MemberReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.member.size()?.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
