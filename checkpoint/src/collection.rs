//! The checkpoints of a trace together, and the removal of some: the others stay whole.
//!
//! A file holds the blocks of its checkpoint, and later checkpoints refer to them. So a removal is done in two steps, and the
//! second begins when the first is on the disk:
//!
//! 1. The name goes: `<event>.ckpt` is renamed `<event>.blocks`. From here on there is no such checkpoint, and a
//!    checkpoint that refers to its blocks finds them under the new name (`open_referred`).
//! 2. Bytes that no checkpoint refers to are given back: the whole file, or holes in it (`fallocate`(2)). If the file system
//!    knows no holes, these bytes stay.
//!
//! A removal that is killed leaves checkpoints that can be used, and perhaps bytes that nobody needs: the next one gives these
//! back. If there are both `<event>.ckpt` and `<event>.blocks`, the former has all blocks of the latter at the same
//! places: a checkpoint that is made anew begins with what is left of the removed one (`revive`).
//!
//! A caller must hold the lock of the directory (`file::lock`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, fallocate};
use rr_trace::event::EventNumber;
use rr_tracee::sparse;

use crate::error::{Error, Result};
use crate::file::{
    Contents, HEADER_LEN, blocks_path, checkpoint_path, list, lock, numbers, open_file, sweep,
};

/// The bytes of all checkpoints in a directory on the disk.
pub fn bytes_on_disk(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for (extension, path_of) in [
        ("ckpt", checkpoint_path as fn(&Path, EventNumber) -> PathBuf),
        ("blocks", blocks_path),
    ] {
        for event in numbers(dir, extension)? {
            let path = path_of(dir, event);
            match std::fs::symlink_metadata(&path) {
                Ok(meta) => bytes += meta.blocks() * 512,
                // Removed meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("examining a checkpoint", &path)(e)),
            }
        }
    }
    Ok(bytes)
}

/// Says if a snapshot of the trace has some of the files, too (`rr_trace::links`). Removing checkpoints gives back less then.
pub(crate) fn is_linked(dir: &Path) -> Result<bool> {
    for (extension, path_of) in [
        ("ckpt", checkpoint_path as fn(&Path, EventNumber) -> PathBuf),
        ("blocks", blocks_path),
    ] {
        for event in numbers(dir, extension)? {
            if std::fs::symlink_metadata(path_of(dir, event)).is_ok_and(|meta| meta.nlink() > 1) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A checkpoint among the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its event.
    pub event: EventNumber,
    /// When its event was recorded.
    pub time_ns: u64,
    /// The parts of its file that are not blocks.
    frame: Vec<Range<u64>>,
    /// The blocks that it needs: indices into [`Collection::blocks`].
    needs: Vec<u32>,
}

/// The place of a block.
#[derive(Debug)]
struct BlockLocation {
    /// The checkpoint in whose file it is, or was.
    event: u64,
    range: Range<u64>,
}

/// A block that some checkpoint refers to.
#[derive(Debug)]
struct Block {
    place: BlockLocation,
    /// The number of those that refer to it.
    holders: u32,
}

/// The effect of a removal.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Removed {
    /// The events of those that were removed, in the order in which they were chosen.
    pub events: Vec<EventNumber>,
    /// Bytes on the disk that were given back.
    pub freed: u64,
    /// Bytes that nobody needs and that could not be given back: the file system knows no holes.
    pub stuck: u64,
}

/// The checkpoints of a trace.
#[derive(Debug)]
pub struct Collection {
    dir: PathBuf,
    members: BTreeMap<u64, Member>,
    /// The checkpoints that cannot be used, with the errors.
    unusable: BTreeMap<u64, Error>,
    blocks: Vec<Block>,
    /// For each file, by its event: the blocks in it, and the bytes on the disk of what is needed of it.
    files: BTreeMap<u64, (Vec<u32>, u64)>,
    /// The bytes of all files.
    bytes: u64,
    removed: Vec<EventNumber>,
    /// As long as nobody else may write.
    _lock: Option<Flock<File>>,
}

impl Collection {
    /// The checkpoints in a directory, for the trace with this uuid. Refused while somebody else writes there. Files that a
    /// killed writer left unfinished go.
    pub fn open(dir: &Path, uuid: &[u8; 16]) -> Result<Collection> {
        let lock = lock(dir)?;
        sweep(dir)?;
        let mut collection = Collection::read(dir, uuid)?;
        collection._lock = lock;
        Ok(collection)
    }

    /// The same for a caller that holds the lock.
    pub(crate) fn read(dir: &Path, uuid: &[u8; 16]) -> Result<Collection> {
        let mut collection = Collection {
            dir: dir.to_path_buf(),
            members: BTreeMap::new(),
            unusable: BTreeMap::new(),
            blocks: Vec::new(),
            files: BTreeMap::new(),
            bytes: 0,
            removed: Vec::new(),
            _lock: None,
        };
        let mut known = HashMap::new();
        for event in list(dir)? {
            match read_member(dir, event, uuid) {
                Ok((member, blocks)) => collection.add(member, blocks, &mut known),
                // Nobody can say what it refers to; and it will never be used.
                Err(e @ (Error::Damaged { .. } | Error::OtherTrace { .. } | Error::OtherEvent { .. })) => {
                    collection.unusable.insert(event.0, e);
                }
                Err(e) => return Err(e),
            }
        }
        let all: Vec<u64> = collection.files.keys().copied().collect();
        all.into_iter().for_each(|event| collection.measure(event));
        Ok(collection)
    }

    fn add(&mut self, mut member: Member, blocks: Vec<BlockLocation>, known: &mut HashMap<(u64, u64), u32>) {
        for place in blocks {
            let new = self.blocks.len() as u32;
            let n = *known.entry((place.event, place.range.start)).or_insert(new);
            if n == new {
                self.files.entry(place.event).or_default().0.push(n);
                self.blocks.push(Block { place, holders: 0 });
            }
            self.blocks[n as usize].holders += 1;
            member.needs.push(n);
        }
        self.files.entry(member.event.0).or_default();
        self.members.insert(member.event.0, member);
    }

    /// The parts of a file that are needed.
    fn needed(&self, event: u64) -> Vec<Range<u64>> {
        let frame = self.members.get(&event).map(|member| member.frame.clone());
        let mut needed = frame.unwrap_or_default();
        let blocks = self.files.get(&event).map_or(&[][..], |(blocks, _)| blocks);
        let blocks = blocks.iter().map(|n| &self.blocks[*n as usize]);
        needed.extend(blocks.filter(|b| b.holders > 0).map(|b| b.place.range.clone()));
        if !needed.is_empty() {
            // A checkpoint that refers to the file looks at its header.
            needed.push(0..HEADER_LEN as u64);
        }
        needed
    }

    /// Counts anew what is needed of a file.
    fn measure(&mut self, event: u64) {
        let now = on_disk(self.needed(event));
        if let Some((_, bytes)) = self.files.get_mut(&event) {
            self.bytes = self.bytes - *bytes + now;
            *bytes = now;
        }
    }

    /// The checkpoints that can be used, ascending.
    pub fn checkpoints(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The checkpoints that cannot be used, with the errors.
    pub fn unusable(&self) -> impl Iterator<Item = (EventNumber, &Error)> {
        self.unusable.iter().map(|(event, e)| (EventNumber(*event), e))
    }

    /// The bytes on the disk that those which can be used need.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// One that is to go. Nothing happens to it before [`Collection::apply`]. `false`: there is no such checkpoint.
    pub fn remove(&mut self, event: EventNumber) -> bool {
        if let Some(member) = self.members.remove(&event.0) {
            let mut smaller = BTreeSet::from([event.0]);
            for n in member.needs {
                let block = &mut self.blocks[n as usize];
                block.holders -= 1;
                if block.holders == 0 {
                    smaller.insert(block.place.event);
                }
            }
            smaller.into_iter().for_each(|event| self.measure(event));
        } else if self.unusable.remove(&event.0).is_none() {
            return false;
        }
        self.removed.push(event);
        true
    }

    /// Removes them, and gives back what nobody needs, also what an earlier removal has left.
    pub fn apply(self) -> Result<Removed> {
        for event in &self.removed {
            let (from, to) = (checkpoint_path(&self.dir, *event), blocks_path(&self.dir, *event));
            std::fs::rename(&from, to).map_err(Error::io("removing a checkpoint", &from))?;
        }
        let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
        synced.map_err(Error::io("syncing the directory of checkpoints", &self.dir))?;
        self.give_back()
    }

    fn give_back(self) -> Result<Removed> {
        let mut removed = Removed {
            events: self.removed.clone(),
            ..Removed::default()
        };
        for event in numbers(&self.dir, "blocks")? {
            let path = blocks_path(&self.dir, event);
            let needed = self.needed(event.0);
            // If it was made anew, all is there.
            match needed.is_empty() || self.members.contains_key(&event.0) {
                true => removed.add_file(&path)?,
                false => removed.add_holes(&path, needed)?,
            }
        }
        // One that was made anew can have blocks of its predecessor that nobody needs any more.
        for event in self.members.keys() {
            let path = checkpoint_path(&self.dir, EventNumber(*event));
            removed.add_holes(&path, self.needed(*event))?;
        }
        Ok(removed)
    }
}

impl Removed {
    fn add_file(&mut self, path: &Path) -> Result<()> {
        let bytes = std::fs::symlink_metadata(path).map(|meta| meta.blocks() * 512);
        let gone = bytes.and_then(|bytes| std::fs::remove_file(path).map(|()| bytes));
        self.freed += gone.map_err(Error::io("removing the blocks of a checkpoint", path))?;
        Ok(())
    }

    /// Makes holes in a file where nothing stays.
    fn add_holes(&mut self, path: &Path, stays: Vec<Range<u64>>) -> Result<()> {
        let failed = |e| Error::io("giving back blocks of a checkpoint", path)(e);
        let meta = std::fs::symlink_metadata(path).map_err(failed)?;
        let holes = gaps(stays, meta.len());
        // A file with a second name belongs to a snapshot of the trace, too (`rr_trace::links`).
        if holes.is_empty() || meta.nlink() > 1 {
            return Ok(());
        }
        let file = open_to_change(path).map_err(failed)?;
        let before = file.metadata().map_err(failed)?.blocks();
        for hole in holes {
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            let (offset, bytes) = (hole.start as i64, (hole.end - hole.start) as i64);
            match fallocate(&file, flags, offset, bytes) {
                Ok(()) => {}
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => self.stuck += hole.end - hole.start,
                Err(e) => return Err(failed(e.into())),
            }
        }
        let after = file.metadata().map_err(failed)?.blocks();
        self.freed += before.saturating_sub(after) * 512;
        Ok(())
    }
}

fn open_to_change(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

fn read_member(dir: &Path, event: EventNumber, uuid: &[u8; 16]) -> Result<(Member, Vec<BlockLocation>)> {
    let path = checkpoint_path(dir, event);
    let file = open_file(&path, "opening a checkpoint")?;
    let contents = Contents::read(&file, &path)?;
    contents.header.must_be_of(&path, uuid, event)?;
    let sections = contents.header.sections.iter();
    let frame: Vec<Range<u64>> = sections.map(|s| s.offset..s.offset + s.stored).collect();
    let blocks = contents.index.blocks.iter().map(|b| BlockLocation {
        event: b.event,
        range: b.offset..b.offset + u64::from(b.length),
    });
    let blocks = blocks.collect();
    let member = Member {
        event,
        time_ns: contents.image.time_ns,
        frame,
        needs: Vec::new(),
    };
    Ok((member, blocks))
}

/// The number of bytes that a file system allocates at once, as a rule.
pub(crate) const UNIT: u64 = 4096;

/// The bytes on the disk that it takes to hold these ranges of a file.
fn on_disk(ranges: Vec<Range<u64>>) -> u64 {
    let units = |r: Range<u64>| r.start / UNIT..r.end.div_ceil(UNIT);
    let ranges: Vec<Range<u64>> = ranges.into_iter().map(units).collect();
    let end = ranges.iter().map(|r| r.end).max().unwrap_or(0);
    let holes: u64 = gaps(ranges, end).iter().map(|r| r.end - r.start).sum();
    (end - holes) * UNIT
}

/// The gaps between ranges, from 0 to `end`.
fn gaps(mut ranges: Vec<Range<u64>>, end: u64) -> Vec<Range<u64>> {
    ranges.sort_by_key(|r| r.start);
    let mut gaps = Vec::new();
    let mut at = 0;
    for range in ranges {
        let start = range.start.min(end);
        if start > at {
            gaps.push(at..start);
        }
        at = at.max(range.end);
    }
    if at < end {
        gaps.push(at..end);
    }
    gaps
}

/// Opens the file that has the blocks of the checkpoint at an event, whether that was removed or not.
pub(crate) fn open_referred(dir: &Path, event: EventNumber) -> Result<(PathBuf, File)> {
    let what = "opening a checkpoint that a later one refers to";
    let (checkpoint, blocks) = (checkpoint_path(dir, event), blocks_path(dir, event));
    // Between two looks it can be removed, or come back.
    for path in [&checkpoint, &blocks] {
        match open_file(path, what) {
            Err(e) if e.is_missing() => {}
            opened => return opened.map(|file| (path.clone(), file)),
        }
    }
    open_file(&checkpoint, what).map(|file| (checkpoint, file))
}

/// Puts into a new checkpoint file what is left of a removed one at the same event, at the same places. Returns where the new
/// blocks begin.
pub(crate) fn revive(dir: &Path, event: EventNumber, into: &File) -> Result<u64> {
    let path = blocks_path(dir, event);
    match open_file(&path, "opening the blocks of a removed checkpoint") {
        Ok(left) => {
            let copied = left.metadata().and_then(|meta| {
                sparse::copy(&left, 0..meta.len(), into, 0)?;
                Ok(meta.len().max(HEADER_LEN as u64))
            });
            copied.map_err(Error::io("copying the blocks of a removed checkpoint", &path))
        }
        Err(e) if e.is_missing() => Ok(HEADER_LEN as u64),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_is_not_needed() {
        assert_eq!(gaps(vec![], 10), [0..10]);
        assert_eq!(gaps(vec![0..10], 10), []);
        assert_eq!(gaps(vec![6..8, 0..4, 2..5], 10), [5..6, 8..10]);
        assert_eq!(gaps(vec![20..30, 40..50], 10), [0..10]);
    }

    #[test]
    fn what_is_on_the_disk_is_counted_in_units() {
        assert_eq!(on_disk(vec![]), 0);
        assert_eq!(on_disk(vec![0..160, 5000..5001, 160..4096]), 2 * UNIT);
        assert_eq!(on_disk(vec![0..1, 100_000..108_000]), 4 * UNIT);
    }
}
