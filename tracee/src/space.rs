//! The model of an address space: mappings and their backings.
//!
//! Recorder and replayer change their models by the same [`SpaceOp`]s, which are part of the events. So
//! the two models are equal at every event by construction (I4), and replay need not know the system
//! calls that caused an operation. Tests compare the recorder's model with `/proc/PID/maps`.
//!
//! Mappings never overlap and are sorted by address. Neighbours that can be merged are merged, so that
//! equal spaces have equal models whatever their history.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::{Addr, AddrRange, FileId, ObjectId};

/// Access rights of a mapping: `PROT_READ` (1), `PROT_WRITE` (2), `PROT_EXEC` (4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Prot(pub u8);

impl Prot {
    /// No access.
    pub const NONE: Prot = Prot(0);
    /// Readable.
    pub const READ: Prot = Prot(1);
    /// Writable.
    pub const WRITE: Prot = Prot(2);
    /// Executable.
    pub const EXEC: Prot = Prot(4);
    /// Readable and writable.
    pub const RW: Prot = Prot(3);

    /// The rights in the low three bits of an `mmap(2)` argument.
    pub fn from_bits(bits: u64) -> Prot {
        Prot((bits & 7) as u8)
    }

    /// Returns whether these rights include every right of `other`.
    pub fn has(self, other: Prot) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Contents of a mapping that nobody has written to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Backing {
    /// Zero.
    Anonymous,
    /// The file of this content in the trace, from `offset` on; mapped privately.
    File {
        /// The content.
        file: FileId,
        /// Offset of the mapping's first byte in the file; a multiple of the page size.
        offset: u64,
    },
    /// A shared memory object (shared file or shared anonymous memory), from `offset` on; mapped shared.
    Shared {
        /// The object.
        object: ObjectId,
        /// Offset of the mapping's first byte in the object; a multiple of the page size.
        offset: u64,
    },
    /// The same, mapped privately: a page that nobody has written to shows the object's current bytes.
    CopyOnWrite {
        /// The object.
        object: ObjectId,
        /// Offset of the mapping's first byte in the object; a multiple of the page size.
        offset: u64,
    },
    /// Memory of rr itself; private to it (I4), never captured or compared.
    Rr,
}

impl Backing {
    /// The object that this mapping is a part of, if it is shared memory: writes to the mapping change
    /// the object.
    pub fn object(&self) -> Option<ObjectId> {
        match self {
            Backing::Shared { object, .. } => Some(*object),
            Backing::Anonymous | Backing::File { .. } | Backing::CopyOnWrite { .. } | Backing::Rr => None,
        }
    }

    /// The content of the trace's file that this mapping shows.
    pub fn file(&self) -> Option<FileId> {
        match self {
            Backing::File { file, .. } => Some(*file),
            Backing::Anonymous | Backing::Shared { .. } | Backing::CopyOnWrite { .. } | Backing::Rr => None,
        }
    }

    /// The backing of the part that begins `delta` bytes later.
    pub fn advanced(&self, delta: u64) -> Backing {
        match *self {
            Backing::Anonymous => Backing::Anonymous,
            Backing::Rr => Backing::Rr,
            Backing::File { file, offset } => Backing::File {
                file,
                offset: offset.wrapping_add(delta),
            },
            Backing::Shared { object, offset } => Backing::Shared {
                object,
                offset: offset.wrapping_add(delta),
            },
            Backing::CopyOnWrite { object, offset } => Backing::CopyOnWrite {
                object,
                offset: offset.wrapping_add(delta),
            },
        }
    }
}

/// Effect of a fork on a mapping in the child (`madvise(2)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ForkPolicy {
    /// The child gets a copy (or shares it).
    #[default]
    Copy,
    /// The child does not have it (`MADV_DONTFORK`).
    Omit,
    /// The child has it, filled with zeros (`MADV_WIPEONFORK`).
    Wipe,
}

/// One mapping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// Addresses of the mapping: whole pages.
    pub range: AddrRange,
    /// Access rights.
    pub prot: Prot,
    /// Contents when untouched.
    pub backing: Backing,
    /// Effect of a fork.
    pub fork: ForkPolicy,
    /// The name shown to people: the file's path at recording, `[heap]`, `[stack]` or nothing.
    pub name: Arc<str>,
}

impl Mapping {
    /// The part of this mapping that lies in `range`, if any.
    pub fn clipped(&self, range: AddrRange) -> Option<Mapping> {
        let range = self.range.intersect(range)?;
        Some(Mapping {
            range,
            backing: self.backing.advanced(range.start - self.range.start),
            ..self.clone()
        })
    }

    /// The shared memory at an address of this mapping: the object, and the offset in it.
    pub fn shared_at(&self, addr: Addr) -> Option<(ObjectId, u64)> {
        match self.backing {
            Backing::Shared { object, offset } => {
                let distance = addr.0.checked_sub(self.range.start.0)?;
                Some((object, offset.checked_add(distance)?))
            }
            _ => None,
        }
    }

    /// Returns whether `next` continues this mapping and differs only in the place.
    fn continues_with(&self, next: &Mapping) -> bool {
        self.range.end == next.range.start
            && self.prot == next.prot
            && self.fork == next.fork
            && self.name == next.name
            && self.backing.advanced(self.range.len()) == next.backing
    }
}

/// One change of an address space, as events store it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SpaceOp {
    /// Map this, replacing whatever was there (`MAP_FIXED`).
    Map(Mapping),
    /// Unmap everything in the range.
    Unmap(AddrRange),
    /// Set the rights of everything in the range.
    Protect(AddrRange, Prot),
    /// Move pages and their contents to another place, replacing whatever is there (`mremap(2)`).
    Move {
        /// The old place. All of it is mapped.
        from: AddrRange,
        /// The new place.
        to: Addr,
        /// Keep the old place mapped, but empty (`MREMAP_DONTUNMAP`).
        keep: bool,
    },
    /// Make private pages in the range untouched again (`MADV_DONTNEED`).
    Discard(AddrRange),
    /// Set the effect of a fork on the range.
    SetFork(AddrRange, ForkPolicy),
    /// A shared memory object comes into being, before its first `Map`.
    CreateObject {
        /// Its number.
        object: ObjectId,
        /// Its size in bytes (rounded up to pages when mapped).
        size: u64,
        /// Initial contents; zeros if `None`.
        content: Option<FileId>,
    },
    /// Change the size of a shared memory object: bytes beyond it are lost, new ones are zero. An
    /// unchanged size means that the object no longer equals the file that it was made from; the
    /// event's writes hold the changes where it is mapped.
    ResizeObject {
        /// Its number.
        object: ObjectId,
        /// Its new size in bytes.
        size: u64,
    },
}

impl SpaceOp {
    /// The stored file that the operation refers to.
    pub fn file(&self) -> Option<FileId> {
        match self {
            SpaceOp::Map(mapping) => mapping.backing.file(),
            SpaceOp::CreateObject { content, .. } => *content,
            _ => None,
        }
    }
}

/// All mappings of one address space.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AddressSpace {
    maps: BTreeMap<Addr, Mapping>,
}

impl AddressSpace {
    /// An empty address space.
    pub fn new() -> Self {
        Self::default()
    }

    /// An address space with these mappings. Later ones replace earlier ones where they overlap.
    pub fn from_mappings(mappings: impl IntoIterator<Item = Mapping>) -> Self {
        let mut space = Self::new();
        for mapping in mappings {
            space.map(mapping);
        }
        space
    }

    /// All mappings in order of address.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Mapping> {
        self.maps.values()
    }

    /// The number of mappings.
    pub fn count(&self) -> usize {
        self.maps.len()
    }

    /// The mapping that holds `addr`.
    pub fn at(&self, addr: Addr) -> Option<&Mapping> {
        self.maps
            .range(..=addr)
            .next_back()
            .map(|(_, m)| m)
            .filter(|m| m.range.contains(addr))
    }

    /// The parts of all mappings that lie in `range`, in order.
    pub fn within(&self, range: AddrRange) -> Vec<Mapping> {
        self.touching(range).filter_map(|m| m.clipped(range)).collect()
    }

    /// All mappings that have a part in `range`, whole, in order.
    pub fn touching(&self, range: AddrRange) -> impl Iterator<Item = &Mapping> {
        let first = self.at(range.start).map_or(range.start, |m| m.range.start);
        self.maps
            .range(first..)
            .map(|(_, m)| m)
            .take_while(move |m| m.range.intersect(range).is_some())
    }

    /// All mappings of shared memory objects: the object, the part of it, and the mapping.
    pub fn objects(&self) -> impl Iterator<Item = (ObjectId, AddrRange, &Mapping)> {
        self.iter().filter_map(|m| match m.backing {
            Backing::Shared { object, offset } | Backing::CopyOnWrite { object, offset } => {
                Some((object, AddrRange::sized(Addr(offset), m.range.len()), m))
            }
            Backing::Anonymous | Backing::File { .. } | Backing::Rr => None,
        })
    }

    /// The mappings of [`AddressSpace::objects`] through which the objects can be written.
    pub fn shared(&self) -> impl Iterator<Item = (ObjectId, AddrRange, &Mapping)> {
        self.objects().filter(|(.., m)| m.backing.object().is_some())
    }

    /// Returns whether all of `range` is mapped with these rights.
    pub fn grants(&self, range: AddrRange, prot: Prot) -> bool {
        let mut at = range.start;
        while at < range.end {
            match self.at(at) {
                Some(m) if m.prot.has(prot) => at = m.range.end,
                _ => return false,
            }
        }
        true
    }

    /// Applies one operation.
    pub fn apply(&mut self, op: &SpaceOp) {
        match op {
            SpaceOp::Map(mapping) => self.map(mapping.clone()),
            SpaceOp::Unmap(range) => self.cut(*range),
            SpaceOp::Protect(range, prot) => self.change(*range, |m| m.prot = *prot),
            SpaceOp::SetFork(range, policy) => self.change(*range, |m| m.fork = *policy),
            SpaceOp::Move { from, to, keep } => {
                let moved = self.within(*from);
                if !keep {
                    self.cut(*from);
                }
                self.cut(AddrRange::sized(*to, from.len()));
                for mut mapping in moved {
                    mapping.range =
                        AddrRange::sized(*to + (mapping.range.start - from.start), mapping.range.len());
                    self.map(mapping);
                }
            }
            SpaceOp::Discard(_) | SpaceOp::CreateObject { .. } | SpaceOp::ResizeObject { .. } => {}
        }
    }

    /// The address space of a fork.
    pub fn forked(&self) -> AddressSpace {
        AddressSpace {
            maps: self
                .maps
                .iter()
                .filter(|(_, m)| m.fork != ForkPolicy::Omit)
                .map(|(a, m)| (*a, m.clone()))
                .collect(),
        }
    }

    fn map(&mut self, mut mapping: Mapping) {
        if mapping.range.is_empty() {
            return;
        }
        self.cut(mapping.range);
        if let Some((start, before)) = self.maps.range(..mapping.range.start).next_back()
            && before.continues_with(&mapping)
        {
            let start = *start;
            mapping = Mapping {
                range: AddrRange::new(start, mapping.range.end),
                ..before.clone()
            };
            self.maps.remove(&start);
        }
        if let Some(after) = self.maps.get(&mapping.range.end)
            && mapping.continues_with(after)
        {
            let end = after.range.end;
            self.maps.remove(&mapping.range.end);
            mapping.range.end = end;
        }
        self.maps.insert(mapping.range.start, mapping);
    }

    /// Removes everything in `range`. Mappings that reach across its ends are split.
    fn cut(&mut self, range: AddrRange) {
        let first = self.at(range.start).map_or(range.start, |m| m.range.start);
        let hit: Vec<Addr> = self
            .maps
            .range(first..range.end.max(first))
            .map(|(a, _)| *a)
            .collect();
        for start in hit {
            let Some(old) = self.maps.remove(&start) else {
                continue;
            };
            for keep in [
                AddrRange::new(old.range.start, range.start),
                AddrRange::new(range.end, old.range.end),
            ] {
                if let Some(part) = old.clipped(keep) {
                    self.maps.insert(part.range.start, part);
                }
            }
        }
    }

    fn change(&mut self, range: AddrRange, f: impl Fn(&mut Mapping)) {
        let parts = self.within(range);
        for mut part in parts {
            f(&mut part);
            self.map(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mapping(page: u64, pages: u64, prot: u8, file: bool) -> Mapping {
        let range = AddrRange::sized(Addr(page * 4096), pages * 4096);
        // A file mapping's offset follows its address, so that neighbours may merge.
        let backing = if file {
            Backing::File {
                file: FileId(7),
                offset: page * 4096,
            }
        } else {
            Backing::Anonymous
        };
        Mapping {
            range,
            prot: Prot(prot),
            backing,
            fork: ForkPolicy::Copy,
            name: "".into(),
        }
    }

    fn op() -> impl Strategy<Value = SpaceOp> {
        let range = || (0u64..32, 1u64..9).prop_map(|(p, n)| AddrRange::sized(Addr(p * 4096), n * 4096));
        prop_oneof![
            (0u64..32, 1u64..9, 0u8..4, any::<bool>())
                .prop_map(|(p, n, r, f)| SpaceOp::Map(mapping(p, n, r, f))),
            range().prop_map(SpaceOp::Unmap),
            (range(), 0u8..4).prop_map(|(r, p)| SpaceOp::Protect(r, Prot(p))),
            range().prop_map(|r| SpaceOp::SetFork(r, ForkPolicy::Omit)),
        ]
    }

    /// The simplest possible model: one entry for each page.
    type Pages = BTreeMap<u64, (Prot, Backing, ForkPolicy)>;

    fn apply_to_pages(pages: &mut Pages, op: &SpaceOp) {
        let numbers = |r: &AddrRange| r.start.0 / 4096..r.end.0 / 4096;
        match op {
            SpaceOp::Map(m) => {
                for p in numbers(&m.range) {
                    pages.insert(
                        p,
                        (m.prot, m.backing.advanced(p * 4096 - m.range.start.0), m.fork),
                    );
                }
            }
            SpaceOp::Unmap(r) => pages.retain(|p, _| !numbers(r).contains(p)),
            SpaceOp::Protect(r, prot) => numbers(r).for_each(|p| {
                if let Some(page) = pages.get_mut(&p) {
                    page.0 = *prot;
                }
            }),
            SpaceOp::SetFork(r, policy) => numbers(r).for_each(|p| {
                if let Some(page) = pages.get_mut(&p) {
                    page.2 = *policy;
                }
            }),
            _ => unreachable!(),
        }
    }

    proptest! {
        #[test]
        fn model_agrees_with_a_page_by_page_one(ops in proptest::collection::vec(op(), 1..40)) {
            let mut space = AddressSpace::new();
            let mut pages = Pages::new();
            for op in &ops {
                space.apply(op);
                apply_to_pages(&mut pages, op);
            }
            let mut seen = Pages::new();
            for m in space.iter() {
                for p in m.range.start.0 / 4096..m.range.end.0 / 4096 {
                    seen.insert(p, (m.prot, m.backing.advanced(p * 4096 - m.range.start.0), m.fork));
                }
            }
            prop_assert_eq!(&seen, &pages);
            // The model is canonical: built anew from its mappings in any order, it is the same.
            let again = AddressSpace::from_mappings(space.iter().rev().cloned());
            prop_assert_eq!(again, space);
        }
    }

    #[test]
    fn move_takes_the_mapping_along() {
        let mut space = AddressSpace::from_mappings([mapping(1, 2, 3, true)]);
        space.apply(&SpaceOp::Move {
            from: AddrRange::sized(Addr(4096), 8192),
            to: Addr(0x10000),
            keep: false,
        });
        let all: Vec<_> = space.iter().cloned().collect();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].range, AddrRange::sized(Addr(0x10000), 8192));
        assert_eq!(
            all[0].backing,
            Backing::File {
                file: FileId(7),
                offset: 4096
            }
        );
    }
}
