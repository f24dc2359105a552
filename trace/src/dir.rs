//! The trace directory: names, and opening what they name.
//!
//! Everything is reached from a descriptor of the directory, one component at a time and without following
//! symbolic links, so that a hostile trace cannot make us read a file elsewhere (or hang in a FIFO); only the name of the
//! trace itself may be a link.

use std::fs::{DirEntry, File};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::dir::Dir;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use rr_tracee::FileId;

use crate::error::{Error, Result};
use crate::event::EventNumber;

/// The file that makes a directory a trace.
pub(crate) const HEADER: &str = "header";

/// The file that says where a trace begins whose first events were deleted.
pub(crate) const BEGINNING: &str = "beginning";

/// A directory inside the trace directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// `segments/`.
    Segments,
    /// `files/`.
    Files,
    /// `checkpoints/`.
    Checkpoints,
}

impl Part {
    const ALL: [Part; 3] = [Part::Segments, Part::Files, Part::Checkpoints];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Segments => "segments",
            Part::Files => "files",
            Part::Checkpoints => "checkpoints",
        }
    }
}

/// Empties a trace's directory, if it is there. Its parts stay, so that the next trace can be made in it
/// ([`crate::WriterOptions::is_recycled`]).
pub fn recycle(trace: &Path) -> std::io::Result<()> {
    for entry in entries(trace)? {
        let path = entry.path();
        let is_part = Part::ALL.iter().any(|part| entry.file_name() == *part.name());
        match entry.file_type()?.is_dir() {
            true if is_part => entries(&path)?
                .iter()
                .try_for_each(|entry| remove(&entry.path()))?,
            _ => remove(&path)?,
        }
    }
    Ok(())
}

/// Returns whether a directory is one of a trace that was emptied.
fn is_blank(path: &Path) -> bool {
    let is_empty_part = |entry: &DirEntry| {
        let is_part = Part::ALL.iter().any(|part| entry.file_name() == *part.name());
        // A link to a directory elsewhere is none.
        is_part
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && entries(&entry.path()).is_ok_and(|all| all.is_empty())
    };
    entries(path).is_ok_and(|all| all.iter().all(is_empty_part))
}

/// The entries of a directory; none if it is not there.
fn entries(dir: &Path) -> std::io::Result<Vec<DirEntry>> {
    match std::fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other?.collect(),
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match path.symlink_metadata()?.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    }
}

/// A trace directory.
#[derive(Clone, Debug)]
pub(crate) struct TraceDir {
    path: PathBuf,
    fd: Arc<OwnedFd>,
}

impl TraceDir {
    /// Makes a new one, with its parts.
    pub(crate) fn create(path: &Path) -> Result<TraceDir> {
        TraceDir::begin(path, false)
    }

    /// As [`TraceDir::create`]. One that is `recycled` may be there already.
    pub(crate) fn begin(path: &Path, recycled: bool) -> Result<TraceDir> {
        let is_there = recycled && is_blank(path);
        let make = |path: &Path| match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(e) if is_there && e.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other,
        };
        make(path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Error::Exists {
                path: path.to_owned(),
            },
            _ => Error::io(path, "making the trace directory", e),
        })?;
        let parts = Part::ALL.iter().try_for_each(|part| {
            let path = path.join(part.name());
            make(&path).map_err(|e| Error::io(&path, "making a directory of the trace", e))
        });
        parts.and_then(|()| TraceDir::open(path)).inspect_err(|_| {
            // The directory is ours: it was made a moment ago.
            let _ = std::fs::remove_dir_all(path);
        })
    }

    /// Opens one.
    pub(crate) fn open(path: &Path) -> Result<TraceDir> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty())
            .map_err(|e| Error::io(path, "opening the trace directory", e))?;
        Ok(TraceDir {
            path: path.to_owned(),
            fd: Arc::new(fd),
        })
    }

    /// Its path, as it was given.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its descriptor.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The path of a file, for messages and other programs.
    pub(crate) fn path_of(&self, part: Option<Part>, name: &str) -> PathBuf {
        match part {
            Some(part) => self.path.join(part.name()).join(name),
            None => self.path.join(name),
        }
    }

    /// Opens one of its directories.
    pub(crate) fn open_part(&self, part: Part) -> Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&*self.fd, part.name(), flags, Mode::empty()).map_err(|e| {
            Error::io(
                &self.path.join(part.name()),
                "opening a directory of the trace",
                e,
            )
        })
    }

    /// One of its directories, or itself.
    fn directory(&self, part: Option<Part>) -> Result<Arc<OwnedFd>> {
        part.map_or_else(|| Ok(self.fd.clone()), |part| self.open_part(part).map(Arc::new))
    }

    /// Opens a regular file for reading. `name` is one that this program made up, without a slash.
    pub(crate) fn open_file(&self, part: Option<Part>, name: &str) -> Result<File> {
        let path = self.path_of(part, name);
        let dir = self.directory(part)?;
        let flags =
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = File::from(
            openat(&*dir, name, flags, Mode::empty()).map_err(|e| Error::io(&path, "opening", e))?,
        );
        let kind = file.metadata().map_err(|e| Error::io(&path, "examining", e))?;
        if !kind.is_file() {
            let why = "it is not a regular file".to_owned();
            return Err(Error::NotATrace { path, why });
        }
        Ok(file)
    }

    /// Creates a file for writing in one of its directories.
    pub(crate) fn create_file(&self, part: Option<Part>, name: &str) -> Result<File> {
        let dir = self.directory(part)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&*dir, name, flags, Mode::from_bits_truncate(0o600))
            .map(File::from)
            .map_err(|e| Error::io(&self.path_of(part, name), "creating", e))
    }

    /// The event numbers in the names `<16 digits>.<extension>` of a directory, ascending. Other names are not ours.
    pub(crate) fn numbers(&self, part: Part, extension: &str) -> Result<Vec<EventNumber>> {
        let fail = |e: nix::Error| Error::io(&self.path.join(part.name()), "listing", e);
        let mut dir = Dir::from_fd(self.open_part(part)?).map_err(fail)?;
        let mut all = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(fail)?;
            all.extend(
                entry
                    .file_name()
                    .to_str()
                    .ok()
                    .and_then(|name| number(name, extension)),
            );
        }
        all.sort_unstable();
        Ok(all)
    }

    /// The mapped files that are in it, ascending.
    pub(crate) fn files(&self) -> Result<Vec<FileId>> {
        let fail = |e: nix::Error| Error::io(&self.path.join(Part::Files.name()), "listing", e);
        let mut dir = Dir::from_fd(self.open_part(Part::Files)?).map_err(fail)?;
        let mut all = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(fail)?;
            all.extend(entry.file_name().to_str().ok().and_then(file_of));
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Makes its names durable: those in the directory itself and in its parts.
    pub(crate) fn sync(&self) -> Result<()> {
        for part in Part::ALL {
            let path = self.path.join(part.name());
            nix::unistd::fsync(self.open_part(part)?).map_err(|e| Error::io(&path, "syncing", e))?;
        }
        nix::unistd::fsync(&*self.fd).map_err(|e| Error::io(&self.path, "syncing", e))
    }
}

/// Name of a segment file.
pub(crate) fn segment_name(first: EventNumber) -> String {
    format!("{:016}.seg", first.0)
}

/// Name of a checkpoint file.
pub(crate) fn checkpoint_name(event: EventNumber) -> String {
    format!("{:016}.ckpt", event.0)
}

/// Name of a mapped file.
pub(crate) fn file_name(file: FileId) -> String {
    file.to_string()
}

/// The mapped file with this name.
pub(crate) fn file_of(name: &str) -> Option<FileId> {
    let id = u128::from_str_radix(name, 16).ok().map(FileId)?;
    (file_name(id) == name).then_some(id)
}

/// The number in a name `<16 digits>.<extension>`.
fn number(name: &str, extension: &str) -> Option<EventNumber> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    let ours = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit());
    if ours {
        digits.parse().ok().map(EventNumber)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_numbers() {
        assert_eq!(
            number(&segment_name(EventNumber(17)), "seg"),
            Some(EventNumber(17))
        );
        assert_eq!(
            number(&checkpoint_name(EventNumber(9_999_999_999_999_999)), "ckpt")
                .unwrap()
                .0,
            9_999_999_999_999_999
        );
        for bad in [
            "17.seg",
            "+000000000000017.seg",
            "00000000000000017.seg",
            "0000000000000017.ckpt",
            ".seg",
            "seg",
            "",
        ] {
            assert_eq!(number(bad, "seg"), None, "{bad}");
        }
    }

    #[test]
    fn links_and_fifos_are_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = TraceDir::create(&tmp.path().join("t")).unwrap();
        std::fs::write(tmp.path().join("secret"), b"x").unwrap();
        let link = dir.path_of(Some(Part::Files), "link");
        std::os::unix::fs::symlink(tmp.path().join("secret"), link).unwrap();
        assert!(matches!(
            dir.open_file(Some(Part::Files), "link"),
            Err(Error::Io { .. })
        ));
        nix::unistd::mkfifo(
            &dir.path_of(Some(Part::Files), "fifo"),
            Mode::from_bits_truncate(0o600),
        )
        .unwrap();
        assert!(matches!(
            dir.open_file(Some(Part::Files), "fifo"),
            Err(Error::NotATrace { .. })
        ));
        std::fs::remove_dir(dir.path().join("checkpoints")).unwrap();
        std::os::unix::fs::symlink(tmp.path(), dir.path().join("checkpoints")).unwrap();
        assert!(matches!(
            dir.numbers(Part::Checkpoints, "ckpt"),
            Err(Error::Io { .. })
        ));
    }
}
