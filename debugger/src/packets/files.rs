//! `vFile`: files of the recording, and the few of `/proc` that gdb asks for. Nothing can be written.

use crate::connection::MAX_PACKET;
use crate::hex;
use crate::open_files::{FileResult, Source, errno};
use crate::server::{Answer, Server};
use crate::target::Target;

/// Bits of the flags of `open` that say how the file is accessed.
const ACCESS: u64 = 3;
/// Flags that make or change files: append, create, truncate, exclusive.
const CHANGES: u64 = 0x8 | 0x200 | 0x400 | 0x800;

fn failed(errno: u32) -> Answer {
    Answer::text(format!("F-1,{errno:x}"))
}

/// The number of an open file, if it can be one.
fn descriptor(fd: &[u8]) -> FileResult<u32> {
    let fd = hex::number(fd).and_then(|fd| u32::try_from(fd).ok());
    fd.ok_or(errno::EBADF)
}

/// A result and bytes.
fn attached(bytes: &[u8]) -> Answer {
    let mut packet = format!("F{:x};", bytes.len()).into_bytes();
    packet.extend(bytes);
    Answer::Packet(packet)
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
            (b"fstat", [fd]) => self.fstat(fd).map(|status| attached(&status)),
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
        self.files.remove(descriptor(fd)?)
    }

    fn pread(&mut self, fd: &[u8], len: &[u8], offset: &[u8]) -> FileResult<Vec<u8>> {
        let (Some(len), Some(offset)) = (hex::number(len), hex::number(offset)) else {
            return Err(errno::EINVAL);
        };
        // Every byte may need an escape.
        let most = MAX_PACKET / 2 - 16;
        self.files
            .get(descriptor(fd)?)?
            .read(offset, usize::try_from(len).unwrap_or(most).min(most))
    }

    fn fstat(&self, fd: &[u8]) -> FileResult<[u8; 64]> {
        self.files.get(descriptor(fd)?)?.status()
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
