//! State shared by the sessions of one family: a session that was started or resumed, its live
//! checkpoints, and the sessions made from these.
//!
//! All their tasks are direct or indirect clones of one zygote, and so share one descriptor table
//! (`CLONE_FILES`). Invariants: the zygote, and the trace's files opened in that table, live as long as
//! the last session or checkpoint of the family; the memfds of a session are its own, and are closed in
//! the table when the session ends.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rr_trace::TraceReader;
use rr_tracee::remote::Remote;
use rr_tracee::trapping::{self, Place};
use rr_tracee::{Error as TraceeError, FileId, Stopped, Tid};

use crate::affinity;
use crate::error::{Error, Result};
use crate::machine;
use crate::zygote;

/// A file of the trace that replayed tasks have open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MappedFile {
    /// The descriptor in the shared table.
    pub fd: i32,
    /// Offset in the descriptor's file at which this file begins.
    pub start: u64,
    /// Offset at which this file ends, in whole pages, if something else follows there.
    pub end: Option<u64>,
}

/// A zygote and its descriptor table. A family belongs to the thread that traces the tasks.
#[derive(Debug)]
pub(crate) struct Family {
    /// The zygote. `None` only while other code works with it, and after it has died.
    zygote: RefCell<Option<Stopped>>,
    real: Tid,
    /// The open files of the trace.
    files: RefCell<HashMap<FileId, MappedFile>>,
    /// The descriptors by path. All files in a pack have the pack's descriptor.
    opened: RefCell<HashMap<PathBuf, i32>>,
    /// Descriptor of an empty memfd, once it exists.
    empty: Cell<Option<i32>>,
    /// Our own handles of those files that are shared memory objects, for live checkpoints, by
    /// descriptor.
    originals: RefCell<HashMap<i32, Rc<File>>>,
    /// The instructions in a file of the trace that may have been made to trap ([`trapping`]),
    /// for the files that were searched.
    trapping: RefCell<HashMap<FileId, Rc<[Place]>>>,
    /// The path of the trace as it was given, and its absolute path.
    given: PathBuf,
    root: PathBuf,
    cpu: Cell<Option<usize>>,
}

impl Family {
    /// Starts a new family, with its tasks bound to `cpu`.
    pub fn new(reader: &TraceReader, cpu: Option<usize>) -> Result<Rc<Family>> {
        machine::check(reader)?;
        // The replayed tasks open files by path, which must not depend on the working directory.
        let root = std::fs::canonicalize(reader.path()).map_err(|source| Error::Os {
            what: reader.path().display().to_string(),
            source,
        })?;
        let zygote = zygote::start(cpu, &reader.header().cpuid)?;
        Ok(Rc::new(Family {
            real: zygote.tid(),
            zygote: RefCell::new(Some(zygote)),
            files: RefCell::default(),
            opened: RefCell::default(),
            empty: Cell::new(None),
            originals: RefCell::default(),
            trapping: RefCell::default(),
            given: reader.path().to_owned(),
            root,
            cpu: Cell::new(cpu),
        }))
    }

    /// Returns the CPU that new tasks run on.
    pub fn cpu(&self) -> Option<usize> {
        self.cpu.get()
    }

    /// Binds future tasks to another CPU.
    pub fn bind(&self, cpu: usize) -> nix::Result<()> {
        self.cpu.set(Some(cpu));
        affinity::bind(self.real, cpu)
    }

    /// Makes a new process with nothing in it.
    pub fn empty_process(&self) -> rr_tracee::Result<Stopped> {
        let (zygote, new) = zygote::try_clone(self.take()?, false)?;
        self.zygote.replace(Some(zygote));
        new
    }

    fn take(&self) -> rr_tracee::Result<Stopped> {
        self.zygote.take().ok_or(TraceeError::Died(self.real))
    }

    /// Returns the absolute path of a file of the trace: of the trace itself, of a file in it, or of a
    /// file shared with other traces.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        if path == self.given {
            return self.root.clone();
        }
        match path.strip_prefix(&self.given) {
            Ok(within) => self.root.join(within),
            // Files that packs share have absolute paths.
            Err(_) => path.to_owned(),
        }
    }

    /// Returns a file of the trace, if it is open.
    pub fn file(&self, file: FileId) -> Option<MappedFile> {
        self.files.borrow().get(&file).copied()
    }

    /// Returns the descriptor of the file at `path`, if it is open.
    pub fn descriptor(&self, path: &Path) -> Option<i32> {
        self.opened.borrow().get(path).copied()
    }

    /// Notes that a file of the trace has been opened.
    pub fn opened(&self, file: FileId, path: &Path, mapped: MappedFile) {
        self.files.borrow_mut().insert(file, mapped);
        self.opened.borrow_mut().insert(path.to_owned(), mapped.fd);
    }

    /// Returns the descriptor of an empty file, if it is open.
    pub fn empty(&self) -> Option<i32> {
        self.empty.get()
    }

    /// Notes that an empty file has been opened.
    pub fn opened_empty(&self, fd: i32) {
        self.empty.set(Some(fd));
    }

    /// Returns our own handle of the file of the trace that is open as `fd` in the shared table. The
    /// handle is a copy of `file`, made once for all checkpoints.
    pub fn original(&self, fd: i32, file: &File) -> std::io::Result<Rc<File>> {
        let mut originals = self.originals.borrow_mut();
        if let Some(known) = originals.get(&fd) {
            return Ok(Rc::clone(known));
        }
        let file = Rc::new(file.try_clone()?);
        originals.insert(fd, Rc::clone(&file));
        Ok(file)
    }

    /// Returns the instructions in a file of the trace that may have been made to trap.
    pub fn trapping_in(&self, file: FileId, reader: &TraceReader) -> Rc<[Place]> {
        let mut known = self.trapping.borrow_mut();
        // If a file cannot be read, that is reported when the file is mapped.
        let search = || {
            let found = reader.open_file(file).ok().and_then(|f| trapping::find(&f).ok());
            found.unwrap_or_default().proven.into()
        };
        Rc::clone(known.entry(file).or_insert_with(search))
    }

    /// Closes descriptors of the shared table that no session needs any more.
    pub fn close(&self, mut fds: Vec<i32>) -> rr_tracee::Result<()> {
        if fds.is_empty() {
            return Ok(());
        }
        fds.sort_unstable();
        let mut remote = Remote::ours(self.take()?)?;
        // Most descriptors were opened one after the other, so ranges are closed.
        for run in fds.chunk_by(|a, b| *a + 1 == *b) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let args = [*first as u64, *last as u64, 0, 0, 0, 0];
            remote = remote.call(libc::SYS_close_range, args)?.0;
        }
        self.zygote.replace(Some(remote.finish()?));
        Ok(())
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        zygote::end(self.real);
    }
}
