//! `vFile`: files of the recording, and the few of `/proc` that gdb asks for. Nothing can be written.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use rr_trace::Member;
use rr_tracee::ReadAt;

use crate::connection::MAX_PACKET;
use crate::hex;
use crate::server::{Answer, Server};
use crate::target::Target;

/// Errors by the numbers of the protocol (GDB manual, "Errno Values").
mod errno {
    pub const ENOENT: u32 = 2;
    pub const EBADF: u32 = 9;
    pub const EINVAL: u32 = 22;
    pub const EMFILE: u32 = 24;
    pub const EROFS: u32 = 30;
    pub const EIO: u32 = 9999;
}

/// The number of files that a client may have open.
const MAX_OPEN: usize = 256;
/// Bits of the flags of `open` that say how the file is accessed.
const ACCESS: u64 = 3;
/// Flags that make or change files: append, create, truncate, exclusive.
const CHANGES: u64 = 0x8 | 0x200 | 0x400 | 0x800;

enum Source {
    File(Member),
    Text(Vec<u8>),
}

/// The files that the client has open.
#[derive(Default)]
pub(crate) struct Files {
    open: BTreeMap<u32, Source>,
}

type FileResult<T> = Result<T, u32>;

fn failed(errno: u32) -> Answer {
    Answer::text(format!("F-1,{errno:x}"))
}

/// A result and bytes.
fn attached(bytes: &[u8]) -> Answer {
    let mut packet = format!("F{:x};", bytes.len()).into_bytes();
    packet.extend(bytes);
    Answer::Packet(packet)
}

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
    fn status(&self) -> FileResult<[u8; 64]> {
        match self {
            Source::File(member) => {
                let metadata = member.file().metadata().map_err(|_| errno::EIO)?;
                let size = member.size().map_err(|_| errno::EIO)?;
                Ok(status(size, Some(&metadata)))
            }
            Source::Text(text) => Ok(status(text.len() as u64, None)),
        }
    }

    fn read(&self, offset: u64, len: usize) -> FileResult<Vec<u8>> {
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

/// The name below `/proc/PID` of a path there, for the debugged process.
fn in_proc<'p>(target: &dyn Target, path: &'p str) -> Option<&'p str> {
    let (pid, name) = path.strip_prefix("/proc/")?.split_once('/')?;
    (pid == "self" || pid.parse() == Ok(target.process().0)).then_some(name)
}

fn open(target: &dyn Target, path: &str) -> Option<Source> {
    match in_proc(target, path) {
        Some("maps") => Some(Source::Text(target.maps().into_bytes())),
        Some("exe") => target.open_file(&target.exec_file()).map(Source::File),
        Some(_) => None,
        None => target.open_file(path).map(Source::File),
    }
}

impl Files {
    fn add(&mut self, source: Source) -> FileResult<u32> {
        if self.open.len() >= MAX_OPEN {
            return Err(errno::EMFILE);
        }
        let fd = (3..)
            .find(|fd| !self.open.contains_key(fd))
            .ok_or(errno::EMFILE)?;
        self.open.insert(fd, source);
        Ok(fd)
    }

    fn get(&self, fd: &[u8]) -> FileResult<&Source> {
        let fd = hex::number(fd).and_then(|fd| u32::try_from(fd).ok());
        fd.and_then(|fd| self.open.get(&fd)).ok_or(errno::EBADF)
    }
}

impl Server<'_> {
    /// `OPERATION:ARGUMENT,…`
    pub(super) fn file(&mut self, rest: &[u8]) -> Answer {
        let Some((operation, arguments)) = hex::split(rest, b':') else {
            return Answer::invalid();
        };
        let arguments: Vec<&[u8]> = arguments.split(|b| *b == b',').collect();
        let result = match (operation, &arguments[..]) {
            // All processes see the same files.
            (b"setfs", [_]) => Ok(Answer::text("F0")),
            (b"open", [path, flags, _mode]) => {
                self.open(path, flags).map(|fd| Answer::text(format!("F{fd:x}")))
            }
            (b"close", [fd]) => self.close(fd).map(|()| Answer::text("F0")),
            (b"pread", [fd, len, offset]) => self.pread(fd, len, offset).map(|bytes| attached(&bytes)),
            (b"fstat", [fd]) => self
                .files
                .get(fd)
                .and_then(Source::status)
                .map(|status| attached(&status)),
            (b"stat" | b"lstat", [path]) => self.stat(path).map(|status| attached(&status)),
            (b"readlink", [path]) => self.readlink(path).map(|target| attached(target.as_bytes())),
            (b"pwrite" | b"unlink", _) => Err(errno::EROFS),
            (b"setfs" | b"open" | b"close" | b"pread" | b"fstat" | b"stat" | b"readlink", _) => {
                Err(errno::EINVAL)
            }
            _ => return Answer::unsupported(),
        };
        result.unwrap_or_else(failed)
    }

    fn source(&self, path: &[u8]) -> FileResult<Source> {
        let path = hex::decode_text(path).ok_or(errno::EINVAL)?;
        open(self.target, &path).ok_or(errno::ENOENT)
    }

    fn open(&mut self, path: &[u8], flags: &[u8]) -> FileResult<u32> {
        let flags = hex::number(flags).ok_or(errno::EINVAL)?;
        if flags & (ACCESS | CHANGES) != 0 {
            return Err(errno::EROFS);
        }
        let source = self.source(path)?;
        self.files.add(source)
    }

    fn close(&mut self, fd: &[u8]) -> FileResult<()> {
        let fd = hex::number(fd).and_then(|fd| u32::try_from(fd).ok());
        fd.and_then(|fd| self.files.open.remove(&fd))
            .map(drop)
            .ok_or(errno::EBADF)
    }

    fn pread(&mut self, fd: &[u8], len: &[u8], offset: &[u8]) -> FileResult<Vec<u8>> {
        let (Some(len), Some(offset)) = (hex::number(len), hex::number(offset)) else {
            return Err(errno::EINVAL);
        };
        // Every byte may need an escape.
        let most = MAX_PACKET / 2 - 16;
        self.files
            .get(fd)?
            .read(offset, usize::try_from(len).unwrap_or(most).min(most))
    }

    fn stat(&mut self, path: &[u8]) -> FileResult<[u8; 64]> {
        self.source(path)?.status()
    }

    fn readlink(&mut self, path: &[u8]) -> FileResult<String> {
        let path = hex::decode_text(path).ok_or(errno::EINVAL)?;
        match in_proc(self.target, &path) {
            Some("exe") => Ok(self.target.exec_file()),
            Some(_) => Err(errno::ENOENT),
            None => Err(errno::EINVAL),
        }
    }
}
