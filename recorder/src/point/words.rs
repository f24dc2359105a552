//! The words that tell one moment of a loop from the next: part of the name of an execution point.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, HashMap};

use rr_tracee::ids::PAGE;
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, AddrRange, AddressSpace, Memory, Prot};

/// Pages that are watched.
const PAGES: usize = 64;
/// Words in the name of a point that were seen to change.
const WORDS: usize = 32;
/// Words in it from the top of the stack: in a recursion, what tells one pass from the other is in the frames.
const STACK_WORDS: usize = 128;
/// What a function may use below the top of the stack without saying so (x86-64 psABI, "The Stack Frame").
const RED_ZONE: u64 = 128;
/// Pages of the stack that are watched whether they are touched or not.
const STACK_PAGES: u64 = 8;

/// Words of memory with what they hold.
pub(super) type Words = Vec<(Addr, u64)>;

/// What was seen of a word that changed.
#[derive(Debug)]
struct Change {
    /// In how many samples it had changed.
    times: u32,
    /// The direction of all its changes, if there is one.
    direction: Option<Ordering>,
}

impl Change {
    /// Whether it seems to count turns: up or down, and not just once or twice.
    fn counts(&self) -> bool {
        self.direction.is_some() && self.times > 2
    }
}

/// Memory that is looked at while the task goes on, to find words that change.
#[derive(Debug, Default)]
pub(super) struct Pages {
    contents: BTreeMap<Addr, Vec<u8>>,
    changes: HashMap<Addr, Change>,
}

impl Pages {
    /// Adds the page with this address.
    pub(super) fn add(&mut self, memory: &Memory, addr: Addr) {
        let page = addr.page_floor();
        if self.contents.len() < PAGES
            && !self.contents.contains_key(&page)
            && let Ok(bytes) = memory.read_vec(page, PAGE as usize)
        {
            self.contents.insert(page, bytes);
        }
    }

    /// How many pages are watched.
    pub(super) fn count(&self) -> usize {
        self.contents.len()
    }

    /// Adds the top of the stack: where all else repeats, the counter of the turns may stand in a frame far up.
    pub(super) fn add_stack(&mut self, memory: &Memory, space: &AddressSpace, rsp: Addr) {
        let Some(stack) = stack_at(space, rsp) else {
            return;
        };
        let first = Addr(rsp.0.saturating_sub(RED_ZONE)).max(stack.start).page_floor();
        let pages = (0..STACK_PAGES).map(|n| first + n * PAGE);
        for page in pages.take_while(|page| *page < stack.end) {
            self.add(memory, page);
        }
    }

    /// Looks again.
    pub(super) fn sample(&mut self, memory: &Memory) {
        for (page, old) in &mut self.contents {
            let Ok(new) = memory.read_vec(*page, PAGE as usize) else {
                continue;
            };
            let words = old.chunks_exact(8).zip(new.chunks_exact(8)).enumerate();
            for (n, (old, new)) in words.filter(|(_, (old, new))| old != new) {
                let direction = Some(number(new).cmp(&number(old)));
                let change = self.changes.entry(*page + 8 * n as u64);
                let change = change.or_insert(Change { times: 0, direction });
                change.times += 1;
                change.direction = change.direction.filter(|_| change.direction == direction);
            }
            *old = new;
        }
    }

    /// The words that changed most often; first those that count, because others may have the same value in every turn of
    /// a loop when it comes by the point.
    pub(super) fn best(self, memory: &Memory) -> Words {
        let mut words: Vec<_> = self.changes.into_iter().collect();
        words.sort_by_key(|(addr, change)| (!change.counts(), Reverse(change.times), *addr));
        let best = words.into_iter().take(WORDS);
        best.filter_map(|(addr, _)| Some((addr, memory.read_u64(addr).ok()?)))
            .collect()
    }
}

/// Adds what is at the top of the stack, and what a function without a frame may have below it.
pub(super) fn add_stack(words: &mut Words, memory: &Memory, space: &AddressSpace, rsp: Addr) {
    let Some(stack) = stack_at(space, rsp) else {
        return;
    };
    let bottom = rsp
        .0
        .saturating_sub(RED_ZONE)
        .max(stack.start.0)
        .next_multiple_of(8);
    let len = (STACK_WORDS as u64 * 8 + RED_ZONE).min(stack.end.0.saturating_sub(bottom));
    let bytes = memory.read_up_to(Addr(bottom), len as usize).unwrap_or_default();
    for (n, word) in bytes.chunks_exact(8).enumerate() {
        let addr = Addr(bottom + 8 * n as u64);
        if !words.iter().any(|(known, _)| *known == addr) {
            words.push((addr, number(word)));
        }
    }
}

/// The mapping with the stack, if it is one.
fn stack_at(space: &AddressSpace, rsp: Addr) -> Option<AddrRange> {
    let mapping = space.at(rsp).filter(|m| m.prot.has(Prot::RW))?;
    Some(mapping.range)
}

/// A word's bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}
