//! Reading and writing another process's memory.
//!
//! A [`Memory`] can be used from any thread, whether its process is stopped or not. The caller decides
//! who may read or write when (I1, I3). Ordinary accesses use
//! `process_vm_readv(2)`/`process_vm_writev(2)`, which respect protections. Accesses that these refuse
//! use `/proc/PID/mem`, where a tracer can ignore protections (ptrace(2), proc(5)).

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};

use crate::death;
use crate::error::{Error, Result};
use crate::ids::{Addr, Tid};

/// A source of tracee memory.
pub trait ReadMemory {
    /// Fills `buf` from `addr`. Fails if not all of it can be read.
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<()>;

    /// `len` bytes from `addr`.
    fn read_vec(&self, addr: Addr, len: usize) -> Result<Vec<u8>> {
        let mut buf = vec![0; len];
        self.read(addr, &mut buf)?;
        Ok(buf)
    }

    /// A little-endian 32-bit word.
    fn read_u32(&self, addr: Addr) -> Result<u32> {
        let mut b = [0; 4];
        self.read(addr, &mut b)?;
        Ok(u32::from_le_bytes(b))
    }

    /// A little-endian 64-bit word.
    fn read_u64(&self, addr: Addr) -> Result<u64> {
        let mut b = [0; 8];
        self.read(addr, &mut b)?;
        Ok(u64::from_le_bytes(b))
    }

    /// The bytes of a C string without its terminator, at most `max` of them.
    fn read_cstring(&self, addr: Addr, max: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut at = addr;
        while out.len() < max {
            let to_page_end = (at.page_floor() + crate::ids::PAGE) - at;
            let chunk = self.read_vec(at, (to_page_end as usize).min(256).min(max - out.len()))?;
            if let Some(end) = chunk.iter().position(|&b| b == 0) {
                out.extend_from_slice(&chunk[..end]);
                break;
            }
            at = at + chunk.len() as u64;
            out.extend_from_slice(&chunk);
        }
        Ok(out)
    }
}

/// The memory of a process.
#[derive(Debug)]
pub struct Memory {
    tid: Tid,
    file: OnceLock<Option<File>>,
}

impl Memory {
    /// The memory of the process that task `tid` belongs to.
    pub fn of(tid: Tid) -> Memory {
        Memory {
            tid,
            file: OnceLock::new(),
        }
    }

    /// The task whose memory this is.
    pub fn tid(&self) -> Tid {
        self.tid
    }

    fn file(&self) -> Result<&File> {
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(format!("/proc/{}/mem", self.tid))
                .ok()
        };
        self.file.get_or_init(open).as_ref().ok_or(Error::Died(self.tid))
    }

    /// The error of a failed access.
    pub fn error(&self, what: &'static str, addr: Addr, len: usize, e: &std::io::Error) -> Error {
        let errno = e.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        if errno == Errno::ESRCH {
            Error::Died(self.tid)
        } else {
            Error::Memory {
                tid: self.tid,
                what,
                addr,
                len,
                errno,
            }
        }
    }

    /// Reads as many bytes as possible from `addr` on; 0 if the first page cannot be read.
    pub fn read_some(&self, addr: Addr, buf: &mut [u8]) -> Result<usize> {
        death::moment(self.tid);
        let len = buf.len();
        let remote = [RemoteIoVec {
            base: addr.0 as usize,
            len,
        }];
        match process_vm_readv(self.tid.pid(), &mut [IoSliceMut::new(buf)], &remote) {
            Ok(n) => Ok(n),
            Err(Errno::EFAULT) => Ok(0),
            Err(Errno::ESRCH) => Err(Error::Died(self.tid)),
            Err(errno) => Err(Error::Memory {
                tid: self.tid,
                what: "reading",
                addr,
                len,
                errno,
            }),
        }
    }

    /// Fills `first` from `at` on and, with the same system call, as much of `buf` as can be read at
    /// `addr`. Returns the number of bytes in `buf`.
    pub fn read_both(&self, at: Addr, first: &mut [u8], addr: Addr, buf: &mut [u8]) -> Result<usize> {
        death::moment(self.tid);
        let len = first.len();
        let remote = [(at, len), (addr, buf.len())].map(|(addr, len)| RemoteIoVec {
            base: addr.0 as usize,
            len,
        });
        let mut local = [IoSliceMut::new(first), IoSliceMut::new(buf)];
        match process_vm_readv(self.tid.pid(), &mut local, &remote) {
            Ok(n) if n >= len => Ok(n - len),
            Err(Errno::ESRCH) => Err(Error::Died(self.tid)),
            _ => self.read(at, first).map(|()| 0),
        }
    }

    /// Up to `len` bytes from `addr` on: as many as can be read.
    pub fn read_up_to(&self, addr: Addr, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let got = self.read_some(addr, &mut bytes)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    /// Fills `buf` from `addr` and leaves shared pages shared. `process_vm_readv` pins the pages that
    /// it reads, and for that the kernel gives the process a copy of each anonymous page that it shares
    /// with another process. Without such pages, `process_vm_readv` is faster.
    pub fn read_shared(&self, addr: Addr, buf: &mut [u8]) -> Result<()> {
        death::moment(self.tid);
        let len = buf.len();
        self.file()?
            .read_exact_at(buf, addr.0)
            .map_err(|e| self.error("reading", addr, len, &e))
    }

    /// Writes these parts one after the other, starting at `addr`.
    pub fn write_parts(&self, addr: Addr, parts: &[&[u8]]) -> Result<()> {
        death::moment(self.tid);
        let len = parts.iter().map(|part| part.len()).sum();
        let local: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let base = addr.0 as usize;
        if process_vm_writev(self.tid.pid(), &local, &[RemoteIoVec { base, len }]) == Ok(len) {
            return Ok(());
        }
        let mut at = addr;
        for part in parts {
            self.write(at, part)?;
            at = at + part.len() as u64;
        }
        Ok(())
    }

    /// Writes bytes at several places, whatever the protection of the pages. Needs few system calls if
    /// all places are writable.
    pub fn write_places(&self, places: &[(Addr, &[u8])]) -> Result<()> {
        /// `UIO_MAXIOV` of the kernel (process_vm_writev(2)).
        const MOST: usize = 1024;
        death::moment(self.tid);
        for places in places.chunks(MOST) {
            let local: Vec<IoSlice<'_>> = places.iter().map(|(_, bytes)| IoSlice::new(bytes)).collect();
            let remote: Vec<RemoteIoVec> = places
                .iter()
                .map(|(addr, bytes)| RemoteIoVec {
                    base: addr.0 as usize,
                    len: bytes.len(),
                })
                .collect();
            let len = places.iter().map(|(_, bytes)| bytes.len()).sum();
            if process_vm_writev(self.tid.pid(), &local, &remote) == Ok(len) {
                continue;
            }
            for (addr, bytes) in places {
                self.write(*addr, bytes)?;
            }
        }
        Ok(())
    }

    /// Writes all of `bytes` at `addr`, whatever the protection of the pages.
    pub fn write(&self, addr: Addr, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        death::moment(self.tid);
        let remote = [RemoteIoVec {
            base: addr.0 as usize,
            len: bytes.len(),
        }];
        match process_vm_writev(self.tid.pid(), &[IoSlice::new(bytes)], &remote) {
            Ok(n) if n == bytes.len() => Ok(()),
            Err(Errno::ESRCH) => Err(Error::Died(self.tid)),
            _ => self.write_protected(addr, bytes),
        }
    }

    /// Same as [`Memory::write`], for pages that are known to be write-protected.
    pub fn write_protected(&self, addr: Addr, bytes: &[u8]) -> Result<()> {
        death::moment(self.tid);
        let written = self.file()?.write_all_at(bytes, addr.0);
        written.map_err(|e| self.error("writing", addr, bytes.len(), &e))
    }
}

impl ReadMemory for Memory {
    fn read_vec(&self, addr: Addr, len: usize) -> Result<Vec<u8>> {
        death::moment(self.tid);
        // Programs' large reads come this way, so the buffer is not cleared before it is overwritten.
        let mut buf: Vec<u8> = Vec::with_capacity(len);
        let local = libc::iovec {
            iov_base: buf.as_mut_ptr().cast(),
            iov_len: len,
        };
        let remote = libc::iovec {
            iov_base: addr.0 as *mut libc::c_void,
            iov_len: len,
        };
        // SAFETY: the kernel writes at most `len` bytes into the buffer, which has room for them.
        let read = unsafe { libc::process_vm_readv(self.tid.0, &local, 1, &remote, 1, 0) };
        if read == len as isize {
            // SAFETY: the kernel has written `len` bytes.
            unsafe { buf.set_len(len) };
        } else {
            buf.resize(len, 0);
            self.read(addr, &mut buf)?;
        }
        Ok(buf)
    }

    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<()> {
        if buf.is_empty() || self.read_some(addr, buf)? == buf.len() {
            return Ok(());
        }
        self.read_shared(addr, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PAGE;

    #[test]
    fn places_are_written_whatever_their_protection() {
        let memory = Memory::of(Tid(std::process::id() as i32));
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let map = |prot| {
            // SAFETY: maps new memory wherever there is room.
            let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE as usize, prot, flags, -1, 0) };
            assert_ne!(page, libc::MAP_FAILED);
            Addr(page as u64)
        };
        let pages = [libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ].map(map);
        let texts = [[1; 8], [2; 8], [3; 8]];
        let places = [
            (pages[0] + 100, &texts[0][..]),
            (pages[1], &texts[1]),
            (pages[0] + 200, &texts[2]),
        ];
        memory.write_places(&places).unwrap();
        for (addr, text) in places {
            assert_eq!(memory.read_vec(addr, 8).unwrap(), text);
        }
        // More places than one system call takes.
        let bytes: Vec<u8> = (0..3000u32).map(|n| n as u8).collect();
        let places: Vec<(Addr, &[u8])> = (0..3000)
            .map(|n| (pages[0] + n as u64, &bytes[n..n + 1]))
            .collect();
        memory.write_places(&places).unwrap();
        assert_eq!(memory.read_vec(pages[0], 3000).unwrap(), bytes);
        for page in pages {
            // SAFETY: ours, and nobody has a reference into it.
            unsafe { libc::munmap(page.0 as *mut libc::c_void, PAGE as usize) };
        }
    }

    #[test]
    fn reading_ends_where_nothing_can_be_read() {
        let memory = Memory::of(Tid(std::process::id() as i32));
        let (prot, flags) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let len = 2 * PAGE as usize;
        // SAFETY: maps new memory wherever there is room.
        let pages = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, -1, 0) };
        assert_ne!(pages, libc::MAP_FAILED);
        let start = Addr(pages as u64);
        let second = (start + PAGE).0 as *mut libc::c_void;
        // SAFETY: the second page is ours, and nobody has a reference into it.
        let r = unsafe { libc::mprotect(second, PAGE as usize, libc::PROT_NONE) };
        assert_eq!(r, 0);
        assert_eq!(
            memory.read_up_to(start + 100, len).unwrap(),
            [0; PAGE as usize - 100]
        );
        assert_eq!(memory.read_up_to(start, 10).unwrap(), [0; 10]);
        assert!(memory.read_up_to(start + PAGE, 10).unwrap().is_empty());
        // SAFETY: as above.
        unsafe { libc::munmap(pages, len) };
    }
}
