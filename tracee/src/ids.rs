//! Newtypes for the numbers that must not be mixed up.

use std::fmt;

/// Size of a page on x86-64, in bytes.
pub const PAGE: u64 = 4096;

/// End of a program's addresses with four levels of page tables (`TASK_SIZE_MAX`, arch/x86).
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// A task (thread) id as the recorder saw it in its own pid namespace.
///
/// In a replay this stays the *recorded* number; the real one of the replayed
/// task is known only to the replayer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(pub i32);

impl Tid {
    /// The number in nix's type.
    pub fn pid(self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.0)
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tid({})", self.0)
    }
}

/// A file descriptor number in a tracee.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TraceeFd(pub i32);

/// An address in a tracee.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Addr(pub u64);

impl Addr {
    /// The null address.
    pub const NULL: Addr = Addr(0);

    /// Returns whether this is the null address.
    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The start of the page that holds this address.
    pub fn page_floor(self) -> Addr {
        Addr(self.0 & !(PAGE - 1))
    }

    /// The first page boundary at or above this address (saturating).
    pub fn page_ceil(self) -> Addr {
        Addr(self.0.saturating_add(PAGE - 1) & !(PAGE - 1))
    }
}

impl std::ops::Add<u64> for Addr {
    type Output = Addr;
    fn add(self, n: u64) -> Addr {
        Addr(self.0.wrapping_add(n))
    }
}

impl std::ops::Sub<Addr> for Addr {
    type Output = u64;
    fn sub(self, other: Addr) -> u64 {
        self.0.wrapping_sub(other.0)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A half-open range of addresses `[start, end)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddrRange {
    /// First byte.
    pub start: Addr,
    /// One past the last byte; never below `start`.
    pub end: Addr,
}

impl AddrRange {
    /// The range of `len` bytes from `start`; the end saturates at the top of the address space.
    pub fn sized(start: Addr, len: u64) -> AddrRange {
        AddrRange {
            start,
            end: Addr(start.0.saturating_add(len)),
        }
    }

    /// `[start, end)`; an `end` below `start` gives the empty range at `start`.
    pub fn new(start: Addr, end: Addr) -> AddrRange {
        AddrRange {
            start,
            end: end.max(start),
        }
    }

    /// Number of bytes.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Returns whether the range has no byte.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Returns whether `addr` lies in the range.
    pub fn contains(self, addr: Addr) -> bool {
        self.start <= addr && addr < self.end
    }

    /// The bytes that both ranges have in common, if any.
    pub fn intersect(self, other: AddrRange) -> Option<AddrRange> {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        (start < end).then_some(AddrRange { start, end })
    }

    /// The parts of this range that lie in none of `others`, which are sorted.
    pub fn without(self, others: impl Iterator<Item = AddrRange>) -> Vec<AddrRange> {
        let mut left = Vec::new();
        let mut at = self.start;
        for other in others.filter_map(|other| other.intersect(self)) {
            left.push(AddrRange::new(at, other.start.max(at)));
            at = at.max(other.end);
        }
        left.push(AddrRange::new(at, self.end));
        left.retain(|part| !part.is_empty());
        left
    }

    /// The smallest range of whole pages around this range.
    pub fn to_pages(self) -> AddrRange {
        AddrRange::new(self.start.page_floor(), self.end.page_ceil())
    }
}

impl fmt::Display for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

impl fmt::Debug for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// An address space of the recording: numbered from 1 in order of creation, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpaceId(pub u32);

impl fmt::Display for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The content of a mapped file, named by its 128-bit hash; a file of that name lies in the trace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(pub u128);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A shared memory object of the recording (shared file or shared anonymous
/// mapping), emulated in replay; numbered from 1 in order of creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectId(pub u32);
