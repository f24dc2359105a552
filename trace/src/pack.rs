//! A pack: a trace in one file. It replays in place, and is never changed.
//!
//! ```text
//! offset size
//!      0    8  magic "rr-pack\n"
//!      8    4  version of this format (1); the layout up to here is the same in all versions
//!     12    4  zero
//!     16   16  uuid of the trace
//!     32    8  length of the file
//!     40    8  where the table is
//!     48    8  members in it
//!     56    8  xxh3-64 of the table
//!     64    8  xxh3-64 of bytes 0 to 63
//!     72       members, each at a multiple of 8; mapped files at multiples of 4096, with zeros up to the end of the last page
//!              table: entries of 64 bytes, ascending by kind and name
//!
//! entry    0    4  kind: 1 header, 2 segment, 3 mapped file, 4 checkpoint, 5 note
//!          4    4  place: 0 in this file, 1 in `objects` beside it
//!          8   16  name: 0; first event; hash; event; 1 `ci.json`, 2 `backtrace`, 3 `debug`
//!         24    8  offset (0 for one in `objects`)
//!         32    8  length
//!         40   16  xxh3-128 of the contents, as names of mapped files have it (`copy`)
//!         56    8  zero
//! ```
//!
//! All numbers are little-endian. A member has the format of the file of a directory that it stands for, but it is compressed better;
//! and there are no `checkpoints/<event>.blocks`, since a block is in the first checkpoint that needs it. Two entries with the same contents share a
//! place. Mapped files are as they were: replay maps them where they are, which is why they lie at multiples of a page. Another
//! member follows the last page of such a file, and is never mapped with it.
//!
//! # Packs that share
//!
//! ```text
//! DIR/NAME.rrpack            a pack
//! DIR/objects/<xxh3-128>     contents of mapped files, in 32 hexadecimal digits, that packs of this directory have in common
//! DIR/objects/<hash>.dict    what their events have in common (`dictionary`)
//! ```
//!
//! Contents are complete before they get their name, and are never changed. They can go when no pack refers to them (`collect`).
//!
//! # Invariants
//!
//! - A file with another length than its header says is refused; so is a table with a wrong checksum, or an entry that leads anywhere else than
//!   into the members or into `objects`. So a pack that was cut off anywhere does not open.
//! - A mapped file or the header is compared with its checksum before it is used first, so a reader gets the bytes that were packed.
//!   Segments and checkpoints have checksums of their own for each part that is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rr_tracee::FileId;
use rr_tracee::ids::PAGE;
use xxhash_rust::xxh3::xxh3_64;

use crate::copy;
use crate::dictionary::Dictionaries;
use crate::dir::file_name;
use crate::error::{Error, Result};
use crate::event::EventNumber;
use crate::frame::{bytes_at, sum_is};
use crate::member::Member;
use crate::name::{Name, Note};

/// The version of the format.
pub const PACK_VERSION: u32 = 1;
/// The usual end of a pack's name.
pub const EXTENSION: &str = "rrpack";
/// The directory of the contents that packs share.
pub const OBJECTS: &str = "objects";

const MAGIC: [u8; 8] = *b"rr-pack\n";
/// Bytes of the header that are not zeros.
pub(crate) const HEADER_LEN: usize = 72;
const ENTRY_LEN: usize = 64;
/// Maximum number of members: a table of 256 MiB.
const MEMBERS_MAX: u64 = 4 << 20;

/// The place of the contents of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In the pack, at this offset.
    Here(u64),
    /// In the directory of contents that packs share.
    Shared,
}

/// The entry of a member in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) len: u64,
    /// The hash of the contents.
    pub(crate) sum: FileId,
}

/// The members by their names.
pub(crate) type Table = BTreeMap<Name, Entry>;

/// A member lies at a multiple of this.
pub(crate) fn alignment(name: Name) -> u64 {
    match name {
        Name::File(_) => PAGE,
        Name::Header | Name::Segment(_) | Name::Checkpoint(_) | Name::Note(_) | Name::Beginning => 8,
    }
}

/// Beginning and end of a pack: its header, and its table.
pub(crate) fn encode(uuid: &[u8; 16], table: &Table, table_at: u64) -> ([u8; HEADER_LEN], Vec<u8>) {
    let mut bytes = Vec::with_capacity(table.len() * ENTRY_LEN);
    for (name, entry) in table {
        let (kind, number): (u32, u128) = match name {
            Name::Header => (1, 0),
            Name::Segment(first) => (2, first.0.into()),
            Name::File(file) => (3, file.0),
            Name::Checkpoint(event) => (4, event.0.into()),
            Name::Note(Note::Ci) => (5, 1),
            Name::Note(Note::Backtrace) => (5, 2),
            Name::Note(Note::DebugFiles) => (5, 3),
            Name::Beginning => (6, 0),
        };
        let (place, offset) = match entry.place {
            Place::Here(offset) => (0u32, offset),
            Place::Shared => (1, 0),
        };
        bytes.extend(kind.to_le_bytes());
        bytes.extend(place.to_le_bytes());
        bytes.extend(number.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.extend(entry.len.to_le_bytes());
        bytes.extend(entry.sum.0.to_le_bytes());
        bytes.extend([0; 8]);
    }
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&PACK_VERSION.to_le_bytes());
    header[16..32].copy_from_slice(uuid);
    let words = [
        table_at + bytes.len() as u64,
        table_at,
        table.len() as u64,
        xxh3_64(&bytes),
    ];
    for (n, word) in words.into_iter().enumerate() {
        header[32 + 8 * n..40 + 8 * n].copy_from_slice(&word.to_le_bytes());
    }
    let sum = xxh3_64(&header[..64]);
    header[64..].copy_from_slice(&sum.to_le_bytes());
    (header, bytes)
}

/// Says if a file begins as a pack does.
pub fn is_pack(path: &Path) -> bool {
    let mut magic = [0; MAGIC.len()];
    let read = open(path).and_then(|file| file.read_exact_at(&mut magic, 0));
    read.is_ok() && magic == MAGIC
}

/// Opens a regular file for reading.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a regular file")),
    }
}

/// An opened pack.
#[derive(Debug)]
pub struct Pack {
    path: Arc<Path>,
    file: Arc<File>,
    /// The directory of what packs share, as an absolute path.
    objects: PathBuf,
    dictionaries: Arc<Dictionaries>,
    uuid: [u8; 16],
    table: Table,
    /// The members that have been compared with their checksums.
    checked: Mutex<BTreeSet<Name>>,
}

impl Pack {
    /// Opens a pack, and checks its header and its table.
    pub fn open(path: &Path) -> Result<Pack> {
        let failed = |e| Error::io(path, "opening the pack", e);
        let file = open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let mut header = [0; HEADER_LEN];
        let not_a_trace = |why: &str| Error::NotATrace {
            path: path.to_owned(),
            why: why.to_owned(),
        };
        if len >= MAGIC.len() as u64 {
            let there = HEADER_LEN.min(len as usize);
            file.read_exact_at(&mut header[..there], 0).map_err(failed)?;
        }
        if header[..8] != MAGIC {
            return Err(not_a_trace("it is a file, and not a pack (rr pack makes one)"));
        }
        if len < HEADER_LEN as u64 {
            return Err(Error::damaged(path, len, "the pack ends within its header"));
        }
        let version = u32::from_le_bytes(bytes_at(&header, 8));
        if version != PACK_VERSION {
            return Err(Error::Version {
                path: path.to_owned(),
                found: version,
                known: PACK_VERSION,
            });
        }
        if !sum_is(&header[..64], u64::from_le_bytes(bytes_at(&header, 64))) {
            return Err(Error::damaged(path, 0, "wrong checksum of the pack's header"));
        }
        let word = |n: usize| u64::from_le_bytes(bytes_at(&header, 32 + 8 * n));
        let (file_len, table_at, count, sum) = (word(0), word(1), word(2), word(3));
        if file_len != len {
            let why = format!("the pack has {len} bytes and should have {file_len}");
            return Err(Error::damaged(path, len.min(file_len), why));
        }
        let fits = count <= MEMBERS_MAX && table_at.checked_add(count * ENTRY_LEN as u64) == Some(len);
        if !fits || table_at < HEADER_LEN as u64 {
            return Err(Error::damaged(path, 40, "impossible place of the table"));
        }
        let mut bytes = vec![0; (len - table_at) as usize];
        file.read_exact_at(&mut bytes, table_at).map_err(failed)?;
        if !sum_is(&bytes, sum) {
            return Err(Error::damaged(path, table_at, "wrong checksum of the table"));
        }
        let mut table = Table::new();
        for (n, entry) in bytes.chunks_exact(ENTRY_LEN).enumerate() {
            let at = table_at + (n * ENTRY_LEN) as u64;
            let read = read_entry(entry, table_at);
            let (name, entry) = read.map_err(|why| Error::damaged(path, at, why))?;
            if table.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(Error::damaged(path, at, "an entry out of order"));
            }
            table.insert(name, entry);
        }
        let real = path.canonicalize().map_err(failed)?;
        let objects = real.parent().unwrap_or(Path::new("/")).join(OBJECTS);
        Ok(Pack {
            dictionaries: Arc::new(Dictionaries::new(&objects)),
            objects,
            path: path.into(),
            file: Arc::new(file),
            uuid: bytes_at(&header, 16),
            table,
            checked: Mutex::default(),
        })
    }

    /// Its path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The uuid of the trace.
    pub fn uuid(&self) -> &[u8; 16] {
        &self.uuid
    }

    /// Opens the checkpoint at an event. One that is not there is an [`Error::Io`] of kind `NotFound`.
    pub fn checkpoint(&self, event: EventNumber) -> Result<Member> {
        self.open_member(Name::Checkpoint(event))
    }

    /// Bytes of all checkpoints.
    pub fn bytes_of_checkpoints(&self) -> u64 {
        let all = self.table.iter();
        let all = all.filter(|(name, _)| matches!(name, Name::Checkpoint(_)));
        all.map(|(_, entry)| entry.len).sum()
    }

    /// The path that messages give a checkpoint.
    pub fn checkpoint_path(&self, event: EventNumber) -> PathBuf {
        Name::Checkpoint(event).path_in(&self.path)
    }

    pub(crate) fn segments(&self) -> Vec<EventNumber> {
        let number = |name: &Name| match name {
            Name::Segment(first) => Some(*first),
            _ => None,
        };
        self.table.keys().filter_map(number).collect()
    }

    pub(crate) fn checkpoints(&self) -> Vec<EventNumber> {
        let number = |name: &Name| match name {
            Name::Checkpoint(event) => Some(*event),
            _ => None,
        };
        self.table.keys().filter_map(number).collect()
    }

    pub(crate) fn files(&self) -> Vec<FileId> {
        let id = |name: &Name| match name {
            Name::File(file) => Some(*file),
            _ => None,
        };
        self.table.keys().filter_map(id).collect()
    }

    /// The mapped files that it shares with the packs beside it.
    pub(crate) fn shared(&self) -> impl Iterator<Item = FileId> {
        let entries = self.table.values();
        entries
            .filter(|entry| matches!(entry.place, Place::Shared))
            .map(|entry| entry.sum)
    }

    /// All members.
    pub(crate) fn names(&self) -> impl Iterator<Item = Name> {
        self.table.keys().copied()
    }

    /// Opens a member, and compares it with its checksum.
    pub(crate) fn open_whole(&self, name: Name) -> Result<Member> {
        let member = self.open_member(name)?;
        check(name, self.entry(name)?, &member)?;
        Ok(member)
    }

    fn entry(&self, name: Name) -> Result<&Entry> {
        self.table.get(&name).ok_or_else(|| {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            Error::io(&name.path_in(&self.path), "opening", missing)
        })
    }

    /// The length of a member.
    pub(crate) fn size(&self, name: Name) -> Result<u64> {
        self.entry(name).map(|entry| entry.len)
    }

    /// Opens a member. One that is not there is an [`Error::Io`] of kind `NotFound`.
    pub(crate) fn open_member(&self, name: Name) -> Result<Member> {
        let path = name.path_in(&self.path);
        let entry = self.entry(name)?;
        let member = match entry.place {
            Place::Here(offset) => Member::part(&self.file, &self.path, offset, entry.len, path),
            Place::Shared => self.open_shared(entry.sum, path)?,
        };
        match name {
            Name::Header | Name::File(_) | Name::Note(_) | Name::Beginning => {
                self.check_once(name, entry, &member)?
            }
            Name::Segment(_) => return Ok(member.with_dictionaries(&self.dictionaries)),
            Name::Checkpoint(_) => {}
        }
        Ok(member)
    }

    fn open_shared(&self, sum: FileId, path: PathBuf) -> Result<Member> {
        let at = self.objects.join(file_name(sum));
        let opened = open(&at).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::Damaged {
                path: path.clone(),
                offset: 0,
                why: format!(
                    "its contents should be in {}, where there is nothing: a pack of a directory of packs needs that directory",
                    at.display()
                ),
            },
            _ => Error::io(&at, "opening", e),
        })?;
        Ok(Member::whole(opened, at))
    }

    /// Compares a member with its checksum when it is opened first.
    fn check_once(&self, name: Name, entry: &Entry, member: &Member) -> Result<()> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if !checked.contains(&name) {
            check(name, entry, member)?;
            checked.insert(name);
        }
        Ok(())
    }

    /// Compares every member with its checksum.
    pub fn check_all(&self) -> Result<()> {
        self.names().try_for_each(|name| self.open_whole(name).map(drop))
    }
}

/// Compares a member with its checksum, and what follows it up to the end of its last page, which a process that maps it sees, with zeros.
fn check(name: Name, entry: &Entry, member: &Member) -> Result<()> {
    let failed = |e| Error::io(member.path(), "reading", e);
    let start = member.start();
    let size = member.size().map_err(failed)?;
    let (sum, len) = copy::walk_part(member.file(), start..start + size, |_, _| Ok(())).map_err(failed)?;
    if len != entry.len || sum != entry.sum {
        let why = "the contents do not match their checksum";
        return Err(Error::damaged(member.path(), 0, why));
    }
    if matches!(name, Name::File(_)) && !member.is_whole_file() && len % PAGE != 0 {
        let mut rest = vec![0; (PAGE - len % PAGE) as usize];
        member
            .file()
            .read_exact_at(&mut rest, start + len)
            .map_err(failed)?;
        if rest.iter().any(|byte| *byte != 0) {
            let why = "there is something after the last byte";
            return Err(Error::damaged(member.path(), len, why));
        }
    }
    Ok(())
}

/// A member in its stored form; what is wrong with it otherwise. Members end before `end`.
fn read_entry(bytes: &[u8], end: u64) -> std::result::Result<(Name, Entry), &'static str> {
    let int = |at: usize| u32::from_le_bytes(bytes_at(bytes, at));
    let word = |at: usize| u64::from_le_bytes(bytes_at(bytes, at));
    let number = u128::from_le_bytes(bytes_at(bytes, 8));
    let event = u64::try_from(number).map(EventNumber);
    let name = match (int(0), event) {
        (1, Ok(EventNumber(0))) => Name::Header,
        (2, Ok(first)) => Name::Segment(first),
        (3, _) => Name::File(FileId(number)),
        (4, Ok(event)) => Name::Checkpoint(event),
        (5, Ok(EventNumber(1))) => Name::Note(Note::Ci),
        (5, Ok(EventNumber(2))) => Name::Note(Note::Backtrace),
        (5, Ok(EventNumber(3))) => Name::Note(Note::DebugFiles),
        (6, Ok(EventNumber(0))) => Name::Beginning,
        _ => return Err("an entry with an impossible name"),
    };
    let (offset, len) = (word(24), word(32));
    let place = match int(4) {
        0 => Place::Here(offset),
        1 if offset == 0 => Place::Shared,
        _ => return Err("an entry with an impossible place"),
    };
    let unit = alignment(name);
    let taken = len
        .checked_next_multiple_of(unit)
        .and_then(|len| offset.checked_add(len));
    let fits = || offset % unit == 0 && offset >= HEADER_LEN as u64 && taken.is_some_and(|to| to <= end);
    if place != Place::Shared && !fits() {
        return Err("an entry that leads out of the members");
    }
    let sum = FileId(u128::from_le_bytes(bytes_at(bytes, 40)));
    if matches!(name, Name::File(file) if file != sum) || word(56) != 0 {
        return Err("an entry that contradicts itself");
    }
    Ok((name, Entry { place, len, sum }))
}
