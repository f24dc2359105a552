//! Contexts of Linux AIO: the names that a program has for them, and their rings in rr's area.

use std::collections::BTreeMap;

use rr_tracee::{Addr, AddrRange, rr_area};

/// The contexts of an address space. A fork has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contexts {
    /// The rings, by the name that the program has for the context: the address where its ring was.
    rings: BTreeMap<Addr, AddrRange>,
}

impl Contexts {
    /// The ring of a context.
    pub fn ring(&self, name: Addr) -> Option<AddrRange> {
        self.rings.get(&name).copied()
    }

    /// Adds a context.
    pub fn add(&mut self, name: Addr, ring: AddrRange) {
        self.rings.insert(name, ring);
    }

    /// Removes a context. Returns its ring.
    pub fn remove(&mut self, name: Addr) -> Option<AddrRange> {
        self.rings.remove(&name)
    }

    /// A place for a ring, if there is room.
    pub fn place(&self, len: u64) -> Option<AddrRange> {
        let area = rr_area::aio();
        let mut used: Vec<AddrRange> = self.rings.values().copied().collect();
        used.sort_by_key(|ring| ring.start);
        let starts = std::iter::once(area.start).chain(used.iter().map(|ring| ring.end));
        let ends = used.iter().map(|ring| ring.start).chain([area.end]);
        starts
            .zip(ends)
            .find(|(start, end)| *end - *start >= len)
            .map(|(start, _)| AddrRange::sized(start, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_placed_side_by_side_and_their_places_are_used_again() {
        let mut contexts = Contexts::default();
        let area = rr_area::aio();
        let first = contexts.place(0x3000).unwrap();
        assert_eq!(first, AddrRange::sized(area.start, 0x3000));
        contexts.add(Addr(1), first);
        let second = contexts.place(0x1000).unwrap();
        assert_eq!(second.start, first.end);
        contexts.add(Addr(2), second);
        assert_eq!(contexts.place(area.len()), None);
        assert_eq!(contexts.remove(Addr(1)), Some(first));
        assert_eq!(contexts.remove(Addr(1)), None);
        assert_eq!(contexts.place(0x2000).unwrap().start, area.start);
        assert_eq!(contexts.place(0x4000).unwrap().start, second.end);
        assert_eq!(contexts.ring(Addr(2)), Some(second));
    }
}
