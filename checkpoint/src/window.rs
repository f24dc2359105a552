//! The window of a flight recorder: while a program is recorded, the trace keeps its last part and loses what is older.
//!
//! Runs on the thread that publishes checkpoints. Replay of what stays begins at a checkpoint, so the trace can become shorter only
//! when a checkpoint is published: it begins then with the last one that is as old as the window, or, if the window is a number of
//! bytes, with the first one from which on everything fits. *The latest published checkpoint stays* (see `budget`, for the same
//! reason), and so do the one before it and all after the beginning; the order of deletion is that of [`rr_trace::trim`].
//!
//! Removing checkpoints reads them all. So the window may become an eighth too large before something is deleted.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rr_trace::Trimmer;
use rr_trace::event::EventNumber;
use rr_tracee::FileId;

use crate::collection::{Collection, bytes_on_disk};
use crate::error::Result;
use crate::file::{Contents, checkpoint_path, open_file};
use crate::image::SessionImage;

/// The part of the window by which it may be too large, as its reciprocal.
const SLACK: u32 = 8;

/// The size of the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeepLast {
    /// So much time of the recording.
    Time(Duration),
    /// About so many bytes on the disk.
    Bytes(u64),
}

impl KeepLast {
    /// Maximum number of bytes of events from one checkpoint to the next: as many as are deleted at once.
    pub fn bytes_to_checkpoint(self) -> Option<u64> {
        match self {
            KeepLast::Bytes(bytes) => Some((bytes / u64::from(SLACK)).max(1)),
            KeepLast::Time(_) => None,
        }
    }
}

/// The part of a recording that is kept while it is made.
#[derive(Clone, Debug)]
pub struct Window {
    /// Its size.
    pub last: KeepLast,
    /// Deletes the rest.
    pub trimmer: Trimmer,
}

/// The window, and the checkpoints in it.
#[derive(Debug)]
pub(crate) struct WindowKeeper {
    dir: PathBuf,
    uuid: [u8; 16],
    window: Window,
    /// Published checkpoints and the times of their events, ascending. Some of them can be gone.
    published: VecDeque<(EventNumber, u64)>,
    /// The event of the checkpoint that the trace begins with, if something was deleted.
    begin: Option<EventNumber>,
    /// The number of removed checkpoints, for others to see.
    removed: Arc<AtomicU64>,
    /// The user has been told that something cannot be deleted…
    failed: bool,
    /// …that the window is too small…
    warned: bool,
    /// …and that somebody has held the trace for long.
    held: u32,
}

/// The number of attempts after which the user is told that somebody holds the trace.
const HELD_LONG: u32 = 64;

impl WindowKeeper {
    pub fn new(dir: PathBuf, uuid: [u8; 16], window: Window, removed: Arc<AtomicU64>) -> WindowKeeper {
        WindowKeeper {
            dir,
            uuid,
            window,
            published: VecDeque::new(),
            begin: None,
            removed,
            failed: false,
            warned: false,
            held: 0,
        }
    }

    /// The checkpoint that the trace begins with, if it has lost its beginning.
    pub fn begin(&self) -> Option<EventNumber> {
        self.begin
    }

    /// Checkpoints were published. Deletes what is out of the window. Returns whether anything was deleted.
    pub fn published(&mut self, new: impl IntoIterator<Item = (EventNumber, u64)>) -> bool {
        self.published.extend(new);
        match self.shorten() {
            Ok(deleted) => deleted,
            Err(e) => {
                match self.failed {
                    false => tracing::warn!("the recording keeps more than --keep-last says: {e}"),
                    true => tracing::debug!("the recording keeps more than --keep-last says: {e}"),
                }
                self.failed = true;
                false
            }
        }
    }

    fn shorten(&mut self) -> Result<bool> {
        if !self.is_too_large()? {
            return Ok(false);
        }
        let Some(deletion) = self.window.trimmer.deletion() else {
            self.held += 1;
            if self.held == HELD_LONG {
                tracing::warn!(
                    "the recording keeps more than --keep-last says as long as it is being packed"
                );
            }
            return Ok(false);
        };
        self.held = 0;
        let mut collection = Collection::read(&self.dir, &self.uuid)?;
        let begin = self.new_begin(&mut collection)?;
        let stay = |collection: &Collection| {
            let all = collection.checkpoints().map(|c| (c.event, c.time_ns));
            all.collect::<VecDeque<_>>()
        };
        // Nobody will use what is before the beginning.
        let unusable: Vec<EventNumber> = collection.unusable().map(|(event, _)| event).collect();
        for event in unusable
            .into_iter()
            .filter(|event| begin.is_some_and(|begin| *event < begin))
        {
            collection.remove(event);
        }
        let Some(begin) = begin.filter(|begin| self.begin.is_none_or(|now| now < *begin)) else {
            self.published = stay(&collection);
            return Ok(false);
        };
        let needed = self.files_of(begin)?;
        self.window.trimmer.begin_at(&deletion, begin)?;
        self.begin = Some(begin);
        self.published = stay(&collection);
        let removed = collection.apply()?;
        self.removed
            .fetch_add(removed.events.len() as u64, Ordering::Relaxed);
        self.window.trimmer.delete(&deletion, begin, &needed)?;
        tracing::debug!("the recording begins with the checkpoint at event {begin}: {removed:?}");
        Ok(true)
    }

    fn is_too_large(&self) -> Result<bool> {
        match self.window.last {
            KeepLast::Time(time) => {
                // The second one would be the beginning.
                let (Some((_, second)), Some((_, latest))) = (self.published.get(1), self.published.back())
                else {
                    return Ok(false);
                };
                let age = Duration::from_nanos(latest.saturating_sub(*second));
                Ok(age >= time + time / SLACK)
            }
            KeepLast::Bytes(bytes) => Ok(self.bytes()? > bytes),
        }
    }

    /// The bytes of the trace on the disk.
    fn bytes(&self) -> Result<u64> {
        let segments = self.window.trimmer.segments()?;
        let files = self.window.trimmer.bytes_of_files()?;
        let segments: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
        Ok(bytes_on_disk(&self.dir)? + segments + files)
    }

    /// The checkpoint that the trace should begin with. Those before it are taken out of the collection.
    fn new_begin(&mut self, collection: &mut Collection) -> Result<Option<EventNumber>> {
        let all: Vec<(EventNumber, u64)> = collection.checkpoints().map(|c| (c.event, c.time_ns)).collect();
        // The latest and the one before it stay.
        let Some(most) = all.len().checked_sub(2) else {
            return Ok(None);
        };
        let begin = match self.window.last {
            KeepLast::Time(time) => {
                let latest = all.last().map_or(0, |(_, time)| *time);
                let from = latest.saturating_sub(time.as_nanos() as u64);
                let old = all.partition_point(|(_, time)| *time <= from);
                let begin = old.saturating_sub(1).min(most);
                for (event, _) in &all[..begin] {
                    collection.remove(*event);
                }
                begin
            }
            KeepLast::Bytes(bytes) => {
                let goal = bytes - bytes / u64::from(SLACK);
                let segments = self.window.trimmer.segments()?;
                let files = self.window.trimmer.bytes_of_files()?;
                let total = |collection: &Collection, begin: EventNumber| {
                    let before = segments.partition_point(|(first, _)| *first <= begin.next());
                    let stay = segments.iter().skip(before.saturating_sub(1));
                    collection.bytes() + stay.map(|(_, bytes)| bytes).sum::<u64>() + files
                };
                let mut begin = 0;
                while begin < most && total(collection, all[begin].0) > goal {
                    collection.remove(all[begin].0);
                    begin += 1;
                }
                let stays = total(collection, all[begin].0);
                if stays > bytes && !self.warned {
                    self.warned = true;
                    tracing::warn!(
                        "--keep-last is too small: the last two checkpoints, the events after them and the mapped files take {stays} bytes, \
                         and the limit is {bytes}"
                    );
                }
                begin
            }
        };
        Ok((begin > 0).then(|| all[begin].0))
    }

    /// The mapped files that the checkpoint at an event refers to.
    fn files_of(&self, event: EventNumber) -> Result<BTreeSet<FileId>> {
        let path = checkpoint_path(&self.dir, event);
        let file = open_file(&path, "opening a checkpoint")?;
        let contents = Contents::read(&file, &path)?;
        contents.header.must_be_of(&path, &self.uuid, event)?;
        Ok(files_of(&contents.image))
    }
}

/// The mapped files that an image refers to.
fn files_of(image: &SessionImage) -> BTreeSet<FileId> {
    let mapped = image.spaces.iter().flat_map(|space| space.space.iter());
    let mapped = mapped.filter_map(|mapping| mapping.backing.file());
    mapped
        .chain(image.objects.iter().filter_map(|object| object.content))
        .collect()
}
