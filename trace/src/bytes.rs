//! Bytes that an event carries, in one part or several, each of a block that it may share with others.
//!
//! Bytes that a group holds twice are in memory once: the blocks are the contents of the group's Data frames, and replay
//! hands them to the kernel as they are. Invariant: no part is empty, and all parts lie within their blocks.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Bytes in shared parts.
#[derive(Clone, Default)]
pub struct Bytes {
    parts: Vec<(Arc<Vec<u8>>, Range<usize>)>,
    len: usize,
}

impl Bytes {
    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Says if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(|(block, range)| &block[range.clone()])
    }

    /// All of them in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts().collect::<Vec<_>>().concat()
    }

    /// To be read from the beginning.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            parts: self.parts.iter(),
            current: &[],
        }
    }

    /// Adds a part of a block: that much of `range` as lies within it.
    pub(crate) fn push(&mut self, block: &Arc<Vec<u8>>, range: Range<usize>) {
        let range = range.start.min(block.len())..range.end.min(block.len());
        self.len += range.len();
        match self.parts.last_mut() {
            Some((last, there)) if there.end == range.start && Arc::ptr_eq(last, block) => {
                there.end = range.end
            }
            _ if range.is_empty() => {}
            _ => self.parts.push((Arc::clone(block), range)),
        }
    }

    /// In how many parts they are.
    pub(crate) fn count(&self) -> usize {
        self.parts.len()
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        let mut all = Bytes::default();
        if !bytes.is_empty() {
            let len = bytes.len();
            all.push(&Arc::new(bytes), 0..len);
        }
        all
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Bytes) -> bool {
        self.len == other.len && self.to_vec() == other.to_vec()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_vec().fmt(f)
    }
}

/// Bytes in memory that somebody else may write. They are copied when their turn comes, on the thread that writes the trace.
pub trait Lend: Send {
    /// The number of bytes.
    fn size(&self) -> usize;

    /// Adds them to `buf`.
    fn copy_to(&self, buf: &mut Vec<u8>);
}

impl Bytes {
    /// Adds what was lent.
    pub(crate) fn take_over(&mut self, lent: &dyn Lend) {
        let mut block = Vec::with_capacity(lent.size());
        lent.copy_to(&mut block);
        let len = block.len();
        self.push(&Arc::new(block), 0..len);
    }
}

/// Reads [`Bytes`].
#[derive(Debug)]
pub struct Reader<'a> {
    parts: std::slice::Iter<'a, (Arc<Vec<u8>>, Range<usize>)>,
    /// The rest of the part under way.
    current: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next bytes, up to the end of the part.
    pub(crate) fn here(&mut self) -> &'a [u8] {
        if self.current.is_empty()
            && let Some((block, range)) = self.parts.next()
        {
            self.current = &block[range.clone()];
        }
        self.current
    }

    /// The next bytes: at most `most`, fewer if the part ends, none at the end.
    fn next(&mut self, most: usize) -> &'a [u8] {
        let here = self.here();
        let (now, later) = here.split_at(most.min(here.len()));
        self.current = later;
        now
    }

    /// Fills `buf` with the next bytes; `false` if fewer are left.
    pub fn fill(&mut self, buf: &mut [u8]) -> bool {
        let mut have = 0;
        while have < buf.len() {
            let more = self.next(buf.len() - have);
            if more.is_empty() {
                return false;
            }
            buf[have..have + more.len()].copy_from_slice(more);
            have += more.len();
        }
        true
    }

    /// The next eight bytes as a little-endian number; `None` if fewer are left.
    pub fn word(&mut self) -> Option<u64> {
        let mut word = [0; 8];
        self.fill(&mut word).then(|| u64::from_le_bytes(word))
    }

    /// Leaves out `count` bytes; `false` if fewer are left.
    pub fn skip(&mut self, mut count: usize) -> bool {
        while count > 0 {
            let left_out = self.next(count).len();
            if left_out == 0 {
                return false;
            }
            count -= left_out;
        }
        true
    }

    /// Says if all bytes have been read.
    pub fn is_at_end(&self) -> bool {
        self.current.is_empty() && self.parts.as_slice().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_one() {
        let block = Arc::new((0..100).collect::<Vec<u8>>());
        let mut bytes = Bytes::default();
        for range in [10..13, 13..20, 5..5, 90..100, 0..3, 99..200, 300..400] {
            bytes.push(&block, range);
        }
        let all: Vec<u8> = (10..20).chain(90..100).chain(0..3).chain(99..100).collect();
        assert_eq!((bytes.len(), bytes.count(), bytes.to_vec()), (24, 4, all.clone()));
        assert_eq!(bytes, Bytes::from(all.clone()));
        assert_ne!(bytes, Bytes::from(all[1..].to_vec()));
        let mut reader = bytes.reader();
        assert_eq!(reader.word().unwrap().to_le_bytes(), all[..8]);
        assert_eq!(reader.word().unwrap().to_le_bytes(), all[8..16]);
        assert!(reader.skip(1) && !reader.is_at_end());
        assert_eq!((reader.word(), reader.is_at_end()), (None, true));
        assert!(bytes.reader().skip(24) && !bytes.reader().skip(25));
        assert!(Bytes::from(vec![]).is_empty() && Bytes::default().reader().is_at_end());
    }
}
