//! The backings of replayed tasks' mappings: files of the trace, and shared memory objects.
//!
//! Invariant: all replayed tasks have a file, or an object, open under the same descriptor number.

use std::collections::HashMap;
use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;

use rr_trace::TraceReader;
use rr_tracee::remote::Remote;
use rr_tracee::{Addr, FileId, ObjectId};

use crate::error::Error;
use crate::failure::Failure;
use crate::family::{Family, MappedFile};

/// A shared memory object: a file that all replayed tasks have open under the same number, and rr, too.
#[derive(Debug)]
pub(crate) struct Object {
    pub file: Arc<File>,
    pub fd: i32,
    /// True if the object is a file of the trace, and not a memfd.
    pub original: bool,
}

/// The trace's files and the shared objects, as descriptors of the replayed tasks' common table.
#[derive(Debug)]
pub(crate) struct Backings {
    pub family: Rc<Family>,
    pub objects: HashMap<ObjectId, Object>,
    /// Number of objects at which unmapped ones are looked for.
    pub sweep_at: usize,
}

/// Minimum number of objects for which looking is worth the time.
pub(crate) const FEW_OBJECTS: usize = 32;

impl Backings {
    pub fn new(family: Rc<Family>) -> Backings {
        Backings {
            family,
            objects: HashMap::new(),
            sweep_at: FEW_OBJECTS,
        }
    }

    /// The descriptor of a file of the trace, which is opened if needed.
    pub fn file(
        &mut self,
        mut remote: Remote,
        reader: &TraceReader,
        file: FileId,
    ) -> Result<(Remote, MappedFile), Failure> {
        if let Some(mapped) = self.family.file(file) {
            return Ok((remote, mapped));
        }
        // A missing or unusual file is detected here, and the error names it.
        let member = reader.open_file(file)?;
        let path = self.family.absolute(member.file_path());
        let fd = match self.family.descriptor(&path) {
            Some(fd) => fd,
            None => {
                let mut bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec();
                bytes.push(0);
                let name = remote.param(&bytes)?;
                let flags = libc::O_RDONLY | libc::O_CLOEXEC;
                let args = [libc::AT_FDCWD as u64, name.0, flags as u64, 0, 0, 0];
                let fd;
                (remote, fd) = remote.must("opening a file of the trace", libc::SYS_openat, args)?;
                fd as i32
            }
        };
        let measured = |source| {
            let what = format!("measuring {}", member.path().display());
            Failure::Other(Box::new(Error::Os { what, source }))
        };
        let end = match member.is_whole_file() {
            true => None,
            false => Some(Addr(member.size().map_err(measured)?).page_ceil().0),
        };
        let start = member.start();
        let mapped = MappedFile { fd, start, end };
        self.family.opened(file, &path, mapped);
        Ok((remote, mapped))
    }

    /// The descriptor of an empty file: touching a page of it gives a `SIGBUS`, as beyond the end of
    /// every file (mmap(2)).
    pub fn empty(&mut self, mut remote: Remote) -> Result<(Remote, i32), Failure> {
        if let Some(fd) = self.family.empty() {
            return Ok((remote, fd));
        }
        let name = remote.param(b"rr-empty\0")?;
        let args = [name.0, libc::MFD_CLOEXEC.into(), 0, 0, 0, 0];
        let fd;
        (remote, fd) = remote.must("memfd_create", libc::SYS_memfd_create, args)?;
        self.family.opened_empty(fd as i32);
        Ok((remote, fd as i32))
    }
}
