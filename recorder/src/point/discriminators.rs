//! The words that distinguish the moments of a loop: part of the name of an execution point.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, HashMap, VecDeque};

use rr_tracee::ids::PAGE;
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, AddrRange, AddressSpace, Memory, Prot};

/// Maximum number of pages that are watched because the task touches them.
const PAGES: usize = 64;

/// Maximum number of pages that are watched.
const PAGES_MOST: usize = 512;

/// Maximum number of changing words in the name of a point.
const WORDS: usize = 32;

/// Maximum number of words from the top of the stack: in a recursion, the frames distinguish the
/// passes.
const STACK_WORDS: usize = 128;

/// Size of the memory below the top of the stack that a function may use without moving the stack
/// pointer (x86-64 psABI, "The Stack Frame").
const RED_ZONE: u64 = 128;

/// Number of pages of the stack that are watched even if they are not touched.
const STACK_PAGES: u64 = 8;

/// The words, with their values.
pub(crate) type Discriminators = Vec<(Addr, u64)>;

/// Observed changes of a word.
#[derive(Debug)]
struct Change {
    /// Number of samples in which the word had changed.
    times: u32,
    /// The direction of all its changes, if there is one.
    direction: Option<Ordering>,
}

impl Change {
    /// Returns whether the word seems to count turns: it only goes up or only down, and has changed
    /// more than twice.
    fn counts(&self) -> bool {
        self.direction.is_some() && self.times > 2
    }
}

/// Memory that is sampled while the task runs, to find words that change.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    contents: BTreeMap<Addr, Vec<u8>>,
    changes: HashMap<Addr, Change>,
}

impl Pages {
    /// Adds the page with this address, which the task touches.
    pub(crate) fn add(&mut self, memory: &Memory, addr: Addr) {
        self.add_if(memory, addr, PAGES);
    }

    /// Adds the page with this address, which the task has written.
    pub(crate) fn add_changed(&mut self, memory: &Memory, addr: Addr) {
        self.add_if(memory, addr, PAGES_MOST);
    }

    /// Adds the page with this address if there are fewer than `most`.
    fn add_if(&mut self, memory: &Memory, addr: Addr, most: usize) {
        let page = addr.page_floor();
        if self.contents.len() < most
            && !self.contents.contains_key(&page)
            && let Ok(bytes) = memory.read_vec(page, PAGE as usize)
        {
            self.contents.insert(page, bytes);
        }
    }

    /// Number of watched pages.
    pub(crate) fn count(&self) -> usize {
        self.contents.len()
    }

    /// Adds the top of the stack: if everything else repeats, the counter of the turns may be in a
    /// frame far up.
    pub(crate) fn add_stack(&mut self, memory: &Memory, space: &AddressSpace, rsp: Addr) {
        let Some(stack) = stack_at(space, rsp) else {
            return;
        };
        let first = Addr(rsp.0.saturating_sub(RED_ZONE)).max(stack.start).page_floor();
        let pages = (0..STACK_PAGES).map(|n| first + n * PAGE);
        for page in pages.take_while(|page| *page < stack.end) {
            self.add(memory, page);
        }
    }

    /// Reads the pages again.
    pub(crate) fn sample(&mut self, memory: &Memory) {
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

    /// The words that distinguish best. Half of them count, because others may have the same value in
    /// every turn of a loop when it passes the point. The other half are those that changed most often, and
    /// those that changed least often: the count of an outer loop.
    pub(crate) fn best(self, memory: &Memory) -> Discriminators {
        let mut words: Vec<_> = self.changes.into_iter().collect();
        words.sort_by_key(|(addr, change)| (!change.counts(), Reverse(change.times), *addr));
        let counters = words.iter().take_while(|(_, change)| change.counts()).count();
        let others = words.split_off(counters.min(WORDS / 2));
        let mut others: VecDeque<_> = others.into();
        while words.len() < WORDS
            && let Some(often) = others.pop_front()
        {
            words.push(often);
            words.extend(others.pop_back());
        }
        let best = words.into_iter().take(WORDS);
        best.filter_map(|(addr, _)| Some((addr, memory.read_u64(addr).ok()?)))
            .collect()
    }
}

/// Adds words from the top of the stack, and the memory that a function without a frame may use below
/// it.
pub(crate) fn add_stack(words: &mut Discriminators, memory: &Memory, space: &AddressSpace, rsp: Addr) {
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

/// The mapping that contains the stack, if it is writable.
fn stack_at(space: &AddressSpace, rsp: Addr) -> Option<AddrRange> {
    let mapping = space.at(rsp).filter(|m| m.prot.has(Prot::RW))?;
    Some(mapping.range)
}

/// A word's bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use rr_tracee::Tid;

    use super::*;

    /// Number of words of a page.
    const COUNT: usize = PAGE as usize / 8;

    /// The numbers of the words that are chosen in a page of this test's own, after `samples` of the page.
    /// `change` is called before each sample with its number.
    fn best(samples: u64, mut change: impl FnMut(u64, &mut [u64])) -> Vec<usize> {
        // A whole page lies within two: nothing else of this process may change there.
        let mut words = vec![0u64; 2 * COUNT];
        let first = words.as_ptr().align_offset(PAGE as usize);
        let memory = Memory::of(Tid(std::process::id() as i32));
        let page = Addr(words[first..].as_ptr() as u64);
        let mut pages = Pages::default();
        pages.add(&memory, page);
        for n in 0..samples {
            change(n, &mut words[first..first + COUNT]);
            pages.sample(&memory);
        }
        let found = pages.best(&memory);
        found
            .iter()
            .map(|(addr, _)| ((*addr - page) / 8) as usize)
            .collect()
    }

    #[test]
    fn a_counter_comes_before_words_that_only_change() {
        let found = best(6, |n, words| {
            for word in &mut words[..100] {
                *word = n % 2;
            }
            words[150] += 1;
        });
        assert_eq!(found[0], 150);
    }

    #[test]
    fn among_many_counters_there_is_room_for_a_slow_one() {
        let found = best(6, |n, words| {
            for word in &mut words[..100] {
                *word += 1;
            }
            words[150] += u64::from(n == 3);
        });
        assert!(found.len() <= WORDS && found.contains(&150), "{found:?}");
    }
}
