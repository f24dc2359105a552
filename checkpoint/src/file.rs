//! The checkpoint file.
//!
//! One file per checkpoint, `<event, 16 digits>.ckpt`, in one directory. It is written under a temporary name
//! (`.<event>.ckpt.tmp`), synced and renamed, so that a file of the right name is complete (I5). All integers
//! are little-endian, all checksums XXH3-64 with seed 0.
//!
//! ```text
//!      0  ┌──────────────────────────────────────────────┐
//!         │  0  magic  "rr-ckpt\x1a"               8     │
//!         │  8  format version (now 3)             4     │   these 16 bytes are the same
//!         │ 12  length of this header (160)        4     │   in every version to come
//!         ├╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌┤
//!         │ 16  uuid of the trace                 16     │
//!         │ 32  event                              8     │
//!         │ 40  length of the file                 8     │
//!         │ 48  section: page index               32     │   each: offset 8, bytes in the file 8,
//!         │ 80  section: image                    32     │   bytes decompressed 8,
//!         │112  section: statistics               32     │   checksum of the bytes in the file 8
//!         │144  zeros                              8     │
//!         │152  checksum of bytes 0 to 151         8     │
//!    160  ├──────────────────────────────────────────────┤
//!         │ blocks: up to 64 pages each, zstd or as      │   where they are, their codecs and
//!         │ they are, one after the other                │   checksums say the page indices
//!         ├──────────────────────────────────────────────┤
//!         │ page index │ image │ statistics              │   packed Cap'n Proto
//!         └──────────────────────────────────────────────┘   (schema/checkpoint.capnp), brotli; as it is
//!                                                            if both lengths are equal
//! ```
//!
//! A checkpoint that was removed leaves `<event>.blocks` as long as later ones refer to its blocks: the same file, with
//! holes where nobody needs anything ([`crate::collection`]).
//!
//! Every byte of the file is covered by a checksum that stands elsewhere; the reader trusts no length before
//! it has compared it with the file's, and no section's length before it has been compared with what brotli
//! can make of its bytes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use rr_trace::compress::{compress, decompress};
use rr_trace::event::EventNumber;
use rr_tracee::ReadAt;
use xxhash_rust::xxh3::xxh3_64;

use crate::block::BlockRef;
use crate::checksum::checksum_matches;
use crate::codec;
use crate::error::{Error, Result};
use crate::image::SessionImage;
use crate::index::PageIndex;
use crate::stats::CheckpointStats;

/// The first bytes of every checkpoint file.
pub const MAGIC: [u8; 8] = *b"rr-ckpt\x1a";

/// The format version that is written, and the latest that is read. 3: blocks name their codec, and it is zstd
/// ([`crate::compression`]); before, it was brotli, and such files are read as before. 2: shared memory objects that are files of the
/// trace have no pages ([`crate::image::ObjectImage::content`]); 1 had no such objects, and is read as before.
pub const VERSION: u32 = 3;

/// Bytes of the fixed header; the first block begins here.
pub const HEADER_LEN: usize = 160;

/// Brotli quality for sections. Those of a small process take as long as its pages; 4 would make its file 4 %
/// smaller, and clears tables of twice the size each time.
const SECTION_QUALITY: i32 = 2;

/// Sections shorter than this are kept as they are: the encoder's set-up is not worth it.
const SECTION_MIN: usize = 256;

/// The most that a section can decompress to.
const MAX_SECTION: u64 = 1 << 30;

/// The most that `stored` bytes of a section may decompress to. (The writer stores a section as it is if it
/// would exceed this.)
fn section_limit(stored: u64) -> u64 {
    stored
        .saturating_mul(256)
        .saturating_add(1 << 16)
        .min(MAX_SECTION)
}

/// The path of the checkpoint at an event, in the directory of checkpoints.
pub fn checkpoint_path(dir: &Path, event: EventNumber) -> PathBuf {
    dir.join(format!("{:016}.ckpt", event.0))
}

/// The path of what other checkpoints need of a removed one ([`crate::collection`]).
pub(crate) fn blocks_path(dir: &Path, event: EventNumber) -> PathBuf {
    dir.join(format!("{:016}.blocks", event.0))
}

/// The path under which it is written.
pub(crate) fn temporary_path(dir: &Path, event: EventNumber) -> PathBuf {
    dir.join(format!(".{:016}.ckpt.tmp", event.0))
}

/// Keeps other writers out as long as it lives, also those of other processes (flock(2)). Nothing where the file system
/// has no locks.
pub(crate) fn lock(dir: &Path) -> Result<Option<Flock<File>>> {
    let opened = File::open(dir).map_err(Error::io("opening the directory of checkpoints", dir))?;
    match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Err(Error::Busy {
            path: dir.to_path_buf(),
        }),
        Err((_, errno)) => {
            tracing::debug!("{}: no lock: {errno}", dir.display());
            Ok(None)
        }
    }
}

/// Removes what a writer that was killed left unfinished. To be called with the [`lock`].
pub(crate) fn sweep(dir: &Path) -> Result<()> {
    let failed = Error::io("sweeping the directory of checkpoints", dir);
    let left = |entry: &std::fs::DirEntry| {
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|n| n.strip_prefix('.')?.strip_suffix(".tmp"));
        number.and_then(|n| event_of(n, "ckpt")).is_some()
    };
    let sweep = || -> std::io::Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if left(&entry) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    sweep().map_err(failed)
}

/// The event in a name `<16 digits>.<extension>`; nothing if it is not exactly such a name.
fn event_of(name: &str, extension: &str) -> Option<EventNumber> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    let event = EventNumber(digits.parse().ok()?);
    (format!("{:016}", event.0) == digits).then_some(event)
}

/// The events of all checkpoint files in a directory, ascending; none if there is no such directory. The
/// files are not opened.
pub fn list(dir: &Path) -> Result<Vec<EventNumber>> {
    numbers(dir, "ckpt")
}

/// The events in all names `<16 digits>.<extension>`, ascending.
pub(crate) fn numbers(dir: &Path, extension: &str) -> Result<Vec<EventNumber>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io("listing checkpoints", dir))?,
    };
    let mut events = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("listing checkpoints", dir))?;
        let name = entry.file_name();
        events.extend(name.to_str().and_then(|name| event_of(name, extension)));
    }
    events.sort();
    Ok(events)
}

/// Opens a checkpoint file. A link is not followed, and what is not a file is refused (opening a FIFO could
/// wait for ever): a trace can come from anywhere.
pub(crate) fn open_file(path: &Path, what: &'static str) -> Result<File> {
    let open = || {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(std::io::Error::other("not a regular file"))
        }
    };
    open().map_err(Error::io(what, path))
}

/// One section's entry in the header.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Section {
    pub offset: u64,
    pub stored: u64,
    pub raw: u64,
    pub checksum: u64,
}

/// The fixed header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub uuid: [u8; 16],
    pub event: u64,
    pub file_len: u64,
    /// Page index, image, statistics.
    pub sections: [Section; 3],
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(HEADER_LEN as u32).to_le_bytes());
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&self.event.to_le_bytes());
        out.extend_from_slice(&self.file_len.to_le_bytes());
        for s in &self.sections {
            for word in [s.offset, s.stored, s.raw, s.checksum] {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&xxh3_64(&out).to_le_bytes());
        let mut header = [0; HEADER_LEN];
        header.copy_from_slice(&out);
        header
    }

    /// Reads and checks the header of a file.
    pub fn read(source: &impl ReadAt, path: &Path) -> Result<Header> {
        let len = source.size().map_err(Error::io("reading its length", path))?;
        let mut b = [0; HEADER_LEN];
        if len < b.len() as u64 {
            return Err(Error::damaged(path, len, "the file ends inside its header"));
        }
        source
            .read_exact_at(&mut b, 0)
            .map_err(Error::io("reading the header", path))?;
        if b[..8] != MAGIC {
            return Err(Error::damaged(path, 0, "this is not a checkpoint file"));
        }
        let version = word32(&b, 8);
        if version > VERSION {
            return Err(Error::Future {
                path: path.to_path_buf(),
                version,
                supported: VERSION,
            });
        }
        let matches = checksum_matches(&b[..152], word(&b, 152));
        if version == 0 || word32(&b, 12) as usize != HEADER_LEN || !matches {
            return Err(Error::damaged(path, 0, "checksum of the header does not match"));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&b[16..32]);
        let section = |i: usize| Section {
            offset: word(&b, 48 + 32 * i),
            stored: word(&b, 56 + 32 * i),
            raw: word(&b, 64 + 32 * i),
            checksum: word(&b, 72 + 32 * i),
        };
        let sections = [section(0), section(1), section(2)];
        let header = Header {
            uuid,
            event: word(&b, 32),
            file_len: word(&b, 40),
            sections,
        };
        if header.file_len != len {
            let why = format!("the file has {len} bytes and should have {}", header.file_len);
            return Err(Error::damaged(path, len.min(header.file_len), why));
        }
        for (i, s) in sections.iter().enumerate() {
            let inside =
                s.offset >= HEADER_LEN as u64 && s.offset.checked_add(s.stored).is_some_and(|end| end <= len);
            if !inside || s.raw < s.stored || (s.raw != s.stored && s.raw > section_limit(s.stored)) {
                return Err(Error::damaged(
                    path,
                    48 + 32 * i as u64,
                    "impossible place or length of a section",
                ));
            }
        }
        Ok(header)
    }
}

impl Header {
    /// An error unless it is that of the checkpoint at this event of the trace with this uuid.
    pub fn must_be_of(&self, path: &Path, uuid: &[u8; 16], event: EventNumber) -> Result<()> {
        let path = || path.to_path_buf();
        if self.uuid != *uuid {
            return Err(Error::OtherTrace {
                path: path(),
                found: self.uuid,
                expected: *uuid,
            });
        }
        if self.event != event.0 {
            return Err(Error::OtherEvent {
                path: path(),
                found: self.event,
                expected: event.0,
            });
        }
        Ok(())
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut w = [0; 8];
    w.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(w)
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    let mut w = [0; 4];
    w.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(w)
}

/// A section as it goes into the file, and its entry for that place.
pub(crate) fn pack_section(raw: Vec<u8>, offset: u64) -> (Vec<u8>, Section) {
    pack_section_with(raw, offset, SECTION_QUALITY)
}

/// The same with another brotli quality.
pub(crate) fn pack_section_with(raw: Vec<u8>, offset: u64, quality: i32) -> (Vec<u8>, Section) {
    let raw_len = raw.len() as u64;
    let packed = (raw.len() >= SECTION_MIN)
        .then(|| compress(&raw, quality))
        .flatten()
        .filter(|p| (p.len() as u64) < raw_len && raw_len <= section_limit(p.len() as u64));
    let bytes = packed.unwrap_or(raw);
    let section = Section {
        offset,
        stored: bytes.len() as u64,
        raw: raw_len,
        checksum: xxh3_64(&bytes),
    };
    (bytes, section)
}

/// Everything of a checkpoint file but the pages.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Contents {
    pub header: Header,
    pub image: SessionImage,
    pub index: PageIndex,
    pub stats: CheckpointStats,
}

impl Contents {
    /// Reads and checks everything of a file but its blocks.
    pub fn read(source: &impl ReadAt, path: &Path) -> Result<Contents> {
        let header = Header::read(source, path)?;
        let section = |i: usize| {
            let s = header.sections[i];
            read_section(source, path, s).map(|bytes| (bytes, s.offset))
        };
        let (bytes, index_at) = section(0)?;
        let index = codec::decode_index(&bytes)
            .map_err(|e| Error::damaged(path, index_at, format!("page index: {e}")))?;
        let (bytes, at) = section(1)?;
        let image =
            codec::decode_image(&bytes).map_err(|e| Error::damaged(path, at, format!("image: {e}")))?;
        let (bytes, stats_at) = section(2)?;
        let stats = codec::decode_stats(&bytes)
            .map_err(|e| Error::damaged(path, stats_at, format!("statistics: {e}")))?;
        if image.event.0 != header.event {
            return Err(Error::damaged(
                path,
                at,
                "header and image speak of different events",
            ));
        }
        let end = header
            .sections
            .iter()
            .map(|s| s.offset)
            .min()
            .unwrap_or(header.file_len);
        if let Some(why) = index.fault(&image, HEADER_LEN as u64..end) {
            return Err(Error::damaged(path, index_at, format!("page index: {why}")));
        }
        let stats = CheckpointStats {
            bytes: header.file_len,
            tasks: image.tasks.len() as u64,
            ..stats
        };
        Ok(Contents {
            header,
            image,
            index,
            stats,
        })
    }
}

fn read_section(source: &impl ReadAt, path: &Path, s: Section) -> Result<Vec<u8>> {
    // Both lengths were compared with the file's when the header was read.
    let mut bytes = vec![0; s.stored as usize];
    source
        .read_exact_at(&mut bytes, s.offset)
        .map_err(Error::io("reading a section", path))?;
    if !checksum_matches(&bytes, s.checksum) {
        return Err(Error::damaged(
            path,
            s.offset,
            "checksum of a section does not match",
        ));
    }
    if s.raw == s.stored {
        return Ok(bytes);
    }
    decompress(&bytes, s.raw as usize)
        .map_err(|e| Error::damaged(path, s.offset, format!("section does not decompress: {e}")))
}

/// Reads a block of this file: its bytes into `packed`, its pages into `pages`, whatever was there before.
pub(crate) fn read_block(
    source: &impl ReadAt,
    path: &Path,
    block: &BlockRef,
    packed: &mut Vec<u8>,
    pages: &mut Vec<u8>,
) -> Result<()> {
    let len = source.size().map_err(Error::io("reading its length", path))?;
    if block
        .offset
        .checked_add(u64::from(block.length))
        .is_none_or(|end| end > len)
    {
        return Err(Error::damaged(
            path,
            len,
            "the file ends before a page block that is referred to",
        ));
    }
    packed.resize(block.length as usize, 0);
    source
        .read_exact_at(packed, block.offset)
        .map_err(Error::io("reading a page block", path))?;
    block
        .unpack(packed, pages)
        .map_err(|why| Error::damaged(path, block.offset, why))
}

/// Reads a checkpoint file whole, as far as it can be without the files that it refers to. For fuzzing and
/// for checking a file of unknown origin: whatever `bytes` are, this ends with an answer.
pub fn read_all(bytes: &[u8]) -> Result<()> {
    let path = Path::new("(memory)");
    let contents = Contents::read(&bytes, path)?;
    let (mut packed, mut pages) = (Vec::new(), Vec::new());
    for block in contents
        .index
        .blocks
        .iter()
        .filter(|b| b.event == contents.header.event)
    {
        read_block(&bytes, path, block, &mut packed, &mut pages)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
