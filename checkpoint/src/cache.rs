//! Decompressed blocks, kept for the next reader.
//!
//! Neighbouring checkpoints share nearly all their blocks, and address spaces that were forked from each other share
//! theirs: without this, restoring and comparing decompress the same bytes again and again. The cache is
//! bounded in bytes; the block that was used least recently goes first. A block gets in after it was read, checked and
//! decompressed, so a block from here is as good as one from the file.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::block::BlockRef;
use crate::error::Result;

/// A block of a directory of checkpoints. (Not of a trace's uuid: of two copies of a trace one can be damaged.)
type Key = (Arc<Path>, BlockRef);

/// Decompressed blocks, up to a number of bytes. Can be shared by threads and checkpoints ([`crate::Checkpoint::share`]).
#[derive(Debug)]
pub struct BlockCache {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default, Debug)]
struct Kept {
    blocks: HashMap<Key, Entry>,
    /// The keys by the moment of their last use.
    by_use: BTreeMap<u64, Key>,
    /// The next moment.
    now: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    pages: Arc<Vec<u8>>,
    used: u64,
}

impl BlockCache {
    /// Keeps at most this many bytes.
    pub fn new(limit: usize) -> BlockCache {
        BlockCache {
            limit,
            kept: Mutex::default(),
        }
    }

    /// Bytes that are kept now.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// The pages of a block of the checkpoints in `dir`; `read` is asked for them if they are not here. Two threads that want
    /// the same block at the same time may both read it.
    pub(crate) fn get(
        &self,
        dir: &Arc<Path>,
        block: &BlockRef,
        read: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Arc<Vec<u8>>> {
        let key = (dir.clone(), *block);
        if let Some(pages) = self.lock().find(&key) {
            return Ok(pages);
        }
        let pages = Arc::new(read()?);
        self.lock().insert(key, pages.clone(), self.limit);
        Ok(pages)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn find(&mut self, key: &Key) -> Option<Arc<Vec<u8>>> {
        let entry = self.blocks.get_mut(key)?;
        if let Some(key) = self.by_use.remove(&entry.used) {
            entry.used = self.now;
            self.by_use.insert(self.now, key);
            self.now += 1;
        }
        Some(entry.pages.clone())
    }

    fn insert(&mut self, key: Key, pages: Arc<Vec<u8>>, limit: usize) {
        if pages.len() > limit {
            return;
        }
        let used = self.now;
        self.now += 1;
        self.bytes += pages.len();
        self.by_use.insert(used, key.clone());
        if let Some(old) = self.blocks.insert(key, Entry { pages, used }) {
            self.by_use.remove(&old.used);
            self.bytes -= old.pages.len();
        }
        while self.bytes > limit
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            if let Some(gone) = self.blocks.remove(&oldest) {
                self.bytes -= gone.pages.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn block(event: u64) -> BlockRef {
        BlockRef {
            event,
            offset: 160,
            length: 10,
            pages: 1,
            compression: crate::compression::Compression::Stored,
            checksum: 0,
        }
    }

    fn dir(name: &str) -> Arc<Path> {
        Path::new(name).into()
    }

    /// Says if the block had to be read.
    fn is_read(cache: &BlockCache, dir: &Arc<Path>, event: u64) -> bool {
        let mut read = false;
        let pages = cache.get(dir, &block(event), || {
            read = true;
            Ok(vec![event as u8; 100])
        });
        assert_eq!(*pages.unwrap(), [event as u8; 100]);
        assert!(cache.bytes() <= cache.limit, "{} bytes", cache.bytes());
        let kept = cache.lock();
        assert_eq!(
            (kept.blocks.len(), kept.blocks.len() * 100),
            (kept.by_use.len(), kept.bytes)
        );
        read
    }

    #[test]
    fn a_block_is_read_once() {
        let (cache, dir) = (BlockCache::new(1000), dir("a"));
        assert!(is_read(&cache, &dir, 1));
        assert!(!is_read(&cache, &dir, 1));
        assert_eq!(cache.bytes(), 100);
    }

    #[test]
    fn the_bound_holds_and_the_least_recently_used_goes() {
        let (cache, dir) = (BlockCache::new(399), dir("a"));
        (1..=3).for_each(|event| assert!(is_read(&cache, &dir, event)));
        assert!(!is_read(&cache, &dir, 1));
        assert!(is_read(&cache, &dir, 4));
        assert!(!is_read(&cache, &dir, 1));
        assert!(!is_read(&cache, &dir, 3));
        assert!(!is_read(&cache, &dir, 4));
        assert!(is_read(&cache, &dir, 2), "it was the least recently used");
        assert!(is_read(&cache, &dir, 1), "then this one");
        for event in 0..1000 {
            is_read(&cache, &dir, event * 7 % 13);
        }
        assert_eq!(cache.bytes(), 300);
    }

    #[test]
    fn what_is_larger_than_the_bound_is_not_kept() {
        let (cache, dir) = (BlockCache::new(99), dir("a"));
        assert!(is_read(&cache, &dir, 1));
        assert!(is_read(&cache, &dir, 1));
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn directories_are_told_apart_and_failures_not_kept() {
        let cache = BlockCache::new(1000);
        assert!(is_read(&cache, &dir("a"), 1));
        let rotten = || Err(Error::damaged(Path::new("b"), 160, "rotten"));
        for _ in 0..2 {
            assert!(cache.get(&dir("b"), &block(1), rotten).is_err());
        }
        assert!(is_read(&cache, &dir("b"), 1));
    }

    #[test]
    fn threads_share_it() {
        let (cache, dir) = (BlockCache::new(550), dir("a"));
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (cache, dir) = (&cache, &dir);
                scope.spawn(move || {
                    for i in 0..2000 {
                        let event = (i * (thread + 1)) % 11;
                        let pages = cache.get(dir, &block(event), || Ok(vec![event as u8; 100]));
                        assert_eq!(pages.unwrap()[99], event as u8);
                    }
                });
            }
        });
        let kept = cache.lock();
        assert_eq!((kept.blocks.len(), kept.by_use.len(), kept.bytes), (5, 5, 500));
    }
}
