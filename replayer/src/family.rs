//! What the sessions of one family share: a session that was started or resumed, its live checkpoints, and the sessions
//! that come of them.
//!
//! All their tasks are clones, directly or not, of one zygote, and so share one descriptor table (`CLONE_FILES`). Keeps:
//! the zygote and the trace's files, opened in that table, live as long as the last session or checkpoint of the family; the
//! memfds of a session are its own, and are closed in the table when it goes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rr_trace::TraceReader;
use rr_tracee::remote::Remote;
use rr_tracee::{Error as TraceeError, FileId, Stopped, Tid, hardware_random};

use crate::affinity;
use crate::error::{Error, Result};
use crate::zygote;

/// A file of the trace that replayed tasks have open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MappedFile {
    /// The descriptor.
    pub fd: i32,
    /// Where the file begins there.
    pub start: u64,
    /// Where it ends, in whole pages, if something else follows there.
    pub end: Option<u64>,
}

/// A zygote and its descriptor table. It belongs to the thread that traces the tasks.
#[derive(Debug)]
pub(crate) struct Family {
    /// Absent only while it is in the hands of other code, and once it has died.
    zygote: RefCell<Option<Stopped>>,
    real: Tid,
    /// The trace's files that are open.
    files: RefCell<HashMap<FileId, MappedFile>>,
    /// The descriptors of the files that have them: a pack has all.
    opened: RefCell<HashMap<PathBuf, i32>>,
    /// An empty memfd, once there is one.
    empty: Cell<Option<i32>>,
    /// Those of them that are shared memory objects, as we have them open for live checkpoints.
    originals: RefCell<HashMap<i32, Rc<File>>>,
    /// Where files of the trace have instructions that were made to trap ([`hardware_random`]), once that was asked.
    random: RefCell<HashMap<FileId, Rc<[u64]>>>,
    /// The trace, and where it is.
    given: PathBuf,
    root: PathBuf,
    cpu: Cell<Option<usize>>,
}

impl Family {
    /// A family of its own, with its tasks bound to `cpu`.
    pub fn new(reader: &TraceReader, cpu: Option<usize>) -> Result<Rc<Family>> {
        // The replayed tasks open files by path: it must not depend on the working directory.
        let root = std::fs::canonicalize(reader.path()).map_err(|source| Error::Os {
            what: reader.path().display().to_string(),
            source,
        })?;
        let zygote = zygote::start(cpu)?;
        Ok(Rc::new(Family {
            real: zygote.tid(),
            zygote: RefCell::new(Some(zygote)),
            files: RefCell::default(),
            opened: RefCell::default(),
            empty: Cell::new(None),
            originals: RefCell::default(),
            random: RefCell::default(),
            given: reader.path().to_owned(),
            root,
            cpu: Cell::new(cpu),
        }))
    }

    /// The CPU that new tasks run on.
    pub fn cpu(&self) -> Option<usize> {
        self.cpu.get()
    }

    /// Binds the tasks to come to another CPU.
    pub fn bind(&self, cpu: usize) -> nix::Result<()> {
        self.cpu.set(Some(cpu));
        affinity::bind(self.real, cpu)
    }

    /// A new process with nothing in it.
    pub fn empty_process(&self) -> rr_tracee::Result<Stopped> {
        let (zygote, new) = zygote::try_clone(self.take()?, false)?;
        self.zygote.replace(Some(zygote));
        new
    }

    fn take(&self) -> rr_tracee::Result<Stopped> {
        self.zygote.take().ok_or(TraceeError::Died(self.real))
    }

    /// The absolute path of a file of the trace: the trace itself, something in it, or what it shares with others.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        if path == self.given {
            return self.root.clone();
        }
        match path.strip_prefix(&self.given) {
            Ok(within) => self.root.join(within),
            // What packs share is named absolutely.
            Err(_) => path.to_owned(),
        }
    }

    /// A file of the trace, if it is open.
    pub fn file(&self, file: FileId) -> Option<MappedFile> {
        self.files.borrow().get(&file).copied()
    }

    /// The descriptor of a file that has the contents of some.
    pub fn descriptor(&self, path: &Path) -> Option<i32> {
        self.opened.borrow().get(path).copied()
    }

    /// Takes notice that a file of the trace has been opened.
    pub fn opened(&self, file: FileId, path: &Path, mapped: MappedFile) {
        self.files.borrow_mut().insert(file, mapped);
        self.opened.borrow_mut().insert(path.to_owned(), mapped.fd);
    }

    /// The descriptor of an empty file, if it is open.
    pub fn empty(&self) -> Option<i32> {
        self.empty.get()
    }

    /// Takes notice that an empty file has been opened.
    pub fn opened_empty(&self, fd: i32) {
        self.empty.set(Some(fd));
    }

    /// A file of the trace that is open as `fd` in the common table and as `file` here: open once for all checkpoints.
    pub fn original(&self, fd: i32, file: &File) -> std::io::Result<Rc<File>> {
        let mut originals = self.originals.borrow_mut();
        if let Some(known) = originals.get(&fd) {
            return Ok(Rc::clone(known));
        }
        let file = Rc::new(file.try_clone()?);
        originals.insert(fd, Rc::clone(&file));
        Ok(file)
    }

    /// Where a file of the trace has instructions that were made to trap.
    pub fn random_in(&self, file: FileId, reader: &TraceReader) -> Rc<[u64]> {
        let mut random = self.random.borrow_mut();
        // A file that cannot be read has been reported where it was to be mapped.
        let search = || {
            let found = reader
                .open_file(file)
                .ok()
                .and_then(|f| hardware_random::find(&f).ok());
            found.unwrap_or_default().into()
        };
        Rc::clone(random.entry(file).or_insert_with(search))
    }

    /// Closes descriptors of the common table that no session needs any more.
    pub fn close(&self, mut fds: Vec<i32>) -> rr_tracee::Result<()> {
        if fds.is_empty() {
            return Ok(());
        }
        fds.sort_unstable();
        let mut remote = Remote::ours(self.take()?)?;
        // Most were opened one after the other.
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
