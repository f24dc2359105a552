//! The registered pages of an address space: who handles their faults, and which pages fault.
//!
//! The kernel never learns of the registration. A page that is missing has no access rights, and a page that is protected from writing has
//! all but that one. Invariant: [`Regions::wanted`] gives the rights that the pages have in the model of the address space, and the
//! program's rights ([`Region::prot`]) are those that it has set.

use std::collections::BTreeMap;

use rr_tracee::{Addr, AddrRange, Prot, SpaceOp};

use super::api::{Cause, Mode};
use super::key::ObjectKey;
use super::pages::Pages;

/// A run of registered pages that are alike: what the kernel would have as one mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Region {
    pub range: AddrRange,
    /// The object whose descriptor gets the messages.
    pub owner: ObjectKey,
    pub mode: Mode,
    /// The access rights that the program has set.
    pub prot: Prot,
}

impl Region {
    fn clipped(&self, range: AddrRange) -> Option<Region> {
        let range = self.range.intersect(range)?;
        Some(Region { range, ..*self })
    }

    fn is_like(&self, other: &Region) -> bool {
        (self.owner, self.mode, self.prot) == (other.owner, other.mode, other.prot)
    }
}

/// The access that an instruction asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    Write,
    Execute,
}

/// A fault that is not the program's error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub owner: ObjectKey,
    pub cause: Cause,
    pub is_write: bool,
}

/// The registered pages of an address space.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Regions {
    /// By their starts. Neighbours differ.
    all: BTreeMap<Addr, Region>,
    /// Registered pages that do not exist.
    missing: Pages,
    /// Registered pages that may not be written.
    protected: Pages,
}

impl Regions {
    /// Returns whether no page is registered.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The region at an address.
    pub fn at(&self, addr: Addr) -> Option<&Region> {
        let before = self.all.range(..=addr).next_back();
        before
            .map(|(_, region)| region)
            .filter(|r| r.range.contains(addr))
    }

    /// The parts of regions in `range`, in order.
    pub fn within(&self, range: AddrRange) -> Vec<Region> {
        let first = self.at(range.start).map_or(range.start, |r| r.range.start);
        let touching = self.all.range(first..range.end.max(first));
        touching.filter_map(|(_, region)| region.clipped(range)).collect()
    }

    /// The ranges that an object has registered.
    pub fn of(&self, owner: ObjectKey) -> Vec<AddrRange> {
        let own = self.all.values().filter(|r| r.owner == owner);
        own.map(|r| r.range).collect()
    }

    /// The missing pages of a range.
    pub fn missing_in(&self, range: AddrRange) -> Vec<AddrRange> {
        self.missing.within(range)
    }

    /// Registers a range.
    pub fn register(&mut self, region: Region) {
        self.cut(region.range);
        if !region.mode.has_missing() {
            self.missing.remove(region.range);
        }
        if !region.mode.has_protected() {
            self.protected.remove(region.range);
        }
        self.put(region);
    }

    /// Removes a range. Returns its regions and, with them, the rights that the pages have from now on.
    pub fn unregister(&mut self, range: AddrRange) -> Vec<Region> {
        let gone = self.within(range);
        self.cut(range);
        self.missing.remove(range);
        self.protected.remove(range);
        gone
    }

    /// These pages of a range are missing from now on.
    pub fn set_missing(&mut self, range: AddrRange, is_missing: bool) {
        self.missing.remove(range);
        if is_missing {
            for region in self.within(range).iter().filter(|r| r.mode.has_missing()) {
                self.missing.insert(region.range);
                self.protected.remove(region.range);
            }
        }
    }

    /// These pages of a range may not be written (or may be, again).
    pub fn set_protected(&mut self, range: AddrRange, is_protected: bool) {
        self.protected.remove(range);
        if is_protected {
            for region in self.within(range).iter().filter(|r| r.mode.has_protected()) {
                self.protected.insert(region.range);
            }
        }
    }

    /// The access rights that the registered pages of a range must have.
    pub fn wanted(&self, range: AddrRange) -> Vec<(AddrRange, Prot)> {
        let mut wanted: Vec<(AddrRange, Prot)> = Vec::new();
        for region in self.within(range) {
            let missing = self.missing.within(region.range);
            for part in region.range.without(missing.iter().copied()) {
                let protected = self.protected.within(part);
                wanted.extend(protected.iter().map(|p| (*p, without_write(region.prot))));
                let free = part.without(protected.into_iter());
                wanted.extend(free.into_iter().map(|part| (part, region.prot)));
            }
            wanted.extend(missing.into_iter().map(|part| (part, Prot::NONE)));
        }
        wanted
    }

    /// The fault that an access causes, if it is not an error of the program.
    pub fn fault(&self, addr: Addr, access: Access) -> Option<Fault> {
        let region = self.at(addr)?;
        let (cause, access) = if self.missing.contains(addr) {
            (Cause::Missing, access)
        } else if self.protected.contains(addr) && access != Access::Execute {
            // A read would not have failed.
            (Cause::WriteProtected, Access::Write)
        } else {
            return None;
        };
        let is_allowed = match access {
            Access::Read => region.prot != Prot::NONE,
            Access::Write => region.prot.has(Prot::WRITE),
            Access::Execute => region.prot.has(Prot::EXEC),
        };
        is_allowed.then_some(Fault {
            owner: region.owner,
            cause,
            is_write: access == Access::Write,
        })
    }

    /// Follows a change of the address space by the program. Returns the changes of access rights that must follow.
    pub fn follow(&mut self, op: &SpaceOp) -> Vec<(AddrRange, Prot)> {
        match op {
            SpaceOp::Map(mapping) => {
                self.unregister(mapping.range);
                vec![]
            }
            SpaceOp::Unmap(range) => {
                self.unregister(*range);
                vec![]
            }
            SpaceOp::Protect(range, prot) => {
                for part in self.within(*range) {
                    self.cut(part.range);
                    self.put(Region { prot: *prot, ..part });
                }
                let mut wanted = self.wanted(*range);
                wanted.retain(|(_, wanted)| wanted != prot);
                wanted
            }
            SpaceOp::Discard(range) => {
                let protected = self.protected.within(*range);
                self.set_missing(*range, true);
                self.set_protected(*range, false);
                let mut wanted = self.wanted(*range);
                let is_changed = |part: &AddrRange, prot: Prot| {
                    prot == Prot::NONE || protected.iter().any(|p| p.intersect(*part).is_some())
                };
                wanted.retain(|(part, prot)| is_changed(part, *prot));
                wanted
            }
            // The pages are not registered in their new place.
            SpaceOp::Move { from, to, keep } => {
                self.unregister(AddrRange::sized(*to, from.len()));
                let moved = match keep {
                    true => self.within(*from),
                    false => self.unregister(*from),
                };
                let place = |r: &Region| AddrRange::sized(*to + (r.range.start - from.start), r.range.len());
                let mut wanted: Vec<_> = moved.iter().map(|r| (place(r), r.prot)).collect();
                if *keep {
                    self.set_missing(*from, true);
                    wanted.extend(self.wanted(*from));
                }
                wanted
            }
            SpaceOp::SetFork(..) | SpaceOp::CreateObject { .. } | SpaceOp::ResizeObject { .. } => vec![],
        }
    }

    /// The access rights that a fork, in which nothing is registered, must set.
    pub fn rights_of_fork(&self) -> Vec<(AddrRange, Prot)> {
        let regions = self.all.values();
        let parts = regions.flat_map(|r| {
            let missing = self.missing.within(r.range);
            let protected = self.protected.within(r.range);
            missing.into_iter().chain(protected).map(|part| (part, r.prot))
        });
        parts.collect()
    }

    fn put(&mut self, mut region: Region) {
        if let Some((start, before)) = self.all.range(..region.range.start).next_back()
            && before.range.end == region.range.start
            && before.is_like(&region)
        {
            region.range.start = *start;
        }
        if let Some(after) = self.all.get(&region.range.end).copied()
            && after.is_like(&region)
        {
            self.all.remove(&after.range.start);
            region.range.end = after.range.end;
        }
        self.all.insert(region.range.start, region);
    }

    /// Removes a range from the regions.
    fn cut(&mut self, range: AddrRange) {
        let parts = self.within(range);
        for part in parts {
            let Some(whole) = self.at(part.range.start).copied() else {
                continue;
            };
            self.all.remove(&whole.range.start);
            for left in whole.range.without([part.range].into_iter()) {
                self.all.insert(left.start, Region { range: left, ..whole });
            }
        }
    }
}

fn without_write(prot: Prot) -> Prot {
    Prot(prot.0 & !Prot::WRITE.0)
}

#[cfg(test)]
mod tests {
    use rr_tracee::ids::PAGE;

    use super::*;

    fn range(first: u64, pages: u64) -> AddrRange {
        AddrRange::sized(Addr(first * PAGE), pages * PAGE)
    }

    /// Pages 10 to 19, of which 12 to 15 are missing.
    fn registered(mode: Mode) -> Regions {
        let mut regions = Regions::default();
        regions.register(Region {
            range: range(10, 10),
            owner: ObjectKey(7),
            mode,
            prot: Prot::RW,
        });
        regions.set_missing(range(12, 4), true);
        regions
    }

    fn sorted(mut rights: Vec<(AddrRange, Prot)>) -> Vec<(AddrRange, Prot)> {
        rights.sort_by_key(|(range, _)| range.start);
        rights
    }

    #[test]
    fn missing_pages_have_no_rights_and_fault() {
        let mut regions = registered(Mode::Missing);
        assert_eq!(
            sorted(regions.wanted(range(0, 100))),
            [
                (range(10, 2), Prot::RW),
                (range(12, 4), Prot::NONE),
                (range(16, 4), Prot::RW)
            ]
        );
        let missing = |is_write| Fault {
            owner: ObjectKey(7),
            cause: Cause::Missing,
            is_write,
        };
        assert_eq!(regions.fault(Addr(12 * PAGE), Access::Read), Some(missing(false)));
        assert_eq!(regions.fault(Addr(12 * PAGE), Access::Write), Some(missing(true)));
        assert_eq!(regions.fault(Addr(12 * PAGE), Access::Execute), None);
        assert_eq!(regions.fault(Addr(11 * PAGE), Access::Write), None);
        regions.set_missing(range(13, 1), false);
        assert_eq!(regions.missing_in(range(0, 100)), [range(12, 1), range(14, 2)]);
    }

    #[test]
    fn the_program_sets_rights_that_missing_pages_get_later() {
        let mut regions = registered(Mode::Missing);
        let follows = regions.follow(&SpaceOp::Protect(range(11, 3), Prot::READ));
        assert_eq!(follows, [(range(12, 2), Prot::NONE)]);
        assert_eq!(regions.at(Addr(13 * PAGE)).unwrap().prot, Prot::READ);
        assert_eq!(regions.fault(Addr(13 * PAGE), Access::Write), None);
        assert!(regions.fault(Addr(13 * PAGE), Access::Read).is_some());
        // All of it again: one region.
        regions.follow(&SpaceOp::Protect(range(11, 3), Prot::RW));
        assert_eq!(regions.all.len(), 1);
    }

    #[test]
    fn discarded_pages_are_missing_and_unmapped_ones_are_not_registered() {
        let mut regions = registered(Mode::Both);
        regions.set_protected(range(16, 2), true);
        assert_eq!(
            sorted(regions.wanted(range(15, 3))),
            [(range(15, 1), Prot::NONE), (range(16, 2), Prot::READ)]
        );
        let follows = regions.follow(&SpaceOp::Discard(range(16, 1)));
        assert_eq!(follows, [(range(16, 1), Prot::NONE)]);
        regions.follow(&SpaceOp::Unmap(range(13, 4)));
        assert_eq!(regions.within(range(0, 100)).len(), 2);
        assert_eq!(regions.missing_in(range(0, 100)), [range(12, 1)]);
        let fault = regions.fault(Addr(17 * PAGE), Access::Write).unwrap();
        assert_eq!((fault.cause, fault.is_write), (Cause::WriteProtected, true));
        regions.follow(&SpaceOp::Protect(range(17, 1), Prot::READ));
        assert_eq!(regions.fault(Addr(17 * PAGE), Access::Write), None);
    }

    #[test]
    fn moved_pages_get_their_rights_back() {
        let mut regions = registered(Mode::Missing);
        let follows = regions.follow(&SpaceOp::Move {
            from: range(12, 4),
            to: Addr(50 * PAGE),
            keep: false,
        });
        assert_eq!(follows, [(range(50, 4), Prot::RW)]);
        assert!(regions.missing_in(range(0, 100)).is_empty());
        assert_eq!(regions.within(range(0, 100)).len(), 2);
    }
}
