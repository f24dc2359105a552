//! Contention: tasks that wait for a lock (futex(2)) and never get it.
//!
//! A task that drops a lock wakes a waiter, and continues. Without rr, the waiter soon runs on another
//! CPU. Under rr, the waiter runs only when the turn ends, and by then the lock may be taken again. A
//! turn ends at a call; if the owner makes calls only while it holds the lock, every turn ends there,
//! and the waiter wakes and waits again for ever.
//!
//! So a task is *starving* if it has waited at one word several times in a row and has done nothing in
//! between. From then on the recorder sees each wake at that word. At the wake the lock is free, and
//! the recorder ends the turn in favour of the starving task.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rr_tracee::regs::Registers;
use rr_tracee::{Addr, Tid};

/// A task is starving after this many waits in a row.
const STARVING: u32 = 3;

/// A task that executes for longer between two waits has done something else.
const AT_ONCE: Duration = Duration::from_micros(100);

/// The parts of a futex(2) call that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Futex {
    /// Waits at a word.
    Wait(Addr),
    /// Wakes the tasks that wait at a word.
    Wake(Addr),
}

impl Futex {
    /// The operation of a call at its entry.
    pub fn of(entry: &Registers) -> Option<Futex> {
        if entry.syscall() != libc::SYS_futex {
            return None;
        }
        let at = Addr(entry.rdi);
        match entry.rsi as i32 & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) {
            libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET => Some(Futex::Wait(at)),
            libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET => Some(Futex::Wake(at)),
            _ => None,
        }
    }
}

/// The waits of a task at one word, without anything in between.
#[derive(Clone, Copy, Debug)]
struct Waits {
    at: Addr,
    times: u32,
    /// Number of the last wait among those of all tasks.
    number: u64,
}

/// A wake at a word where a task is starving.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wake {
    /// The word.
    pub at: Addr,
    /// Number of tasks that were woken.
    pub woken: usize,
}

/// The tasks that wait for locks.
#[derive(Debug, Default)]
pub(crate) struct Contention {
    waits: HashMap<Tid, Waits>,
    /// The same tasks by word and number of the wait: those that have waited longest at a word are the first.
    by_word: BTreeMap<(Addr, u64), Tid>,
    /// The number of tasks that are starving.
    starving: usize,
    /// Number of waits so far.
    waited: u64,
}

impl Contention {
    /// Notes that a task is about to wait at a word. `idle` is the time since its last event, if it has
    /// made no call since.
    pub fn note_wait(&mut self, tid: Tid, at: Addr, idle: Option<Duration>) {
        let before = self.take(tid);
        let again = before.filter(|b| b.at == at && idle.is_some_and(|time| time < AT_ONCE));
        let times = again.map_or(1, |b| b.times.saturating_add(1));
        self.starving += usize::from(times >= STARVING);
        self.waited += 1;
        let number = self.waited;
        self.waits.insert(tid, Waits { at, times, number });
        self.by_word.insert((at, number), tid);
    }

    /// Forgets the waits of a task that is gone, or has done something else.
    pub fn forget(&mut self, tid: Tid) {
        self.take(tid);
    }

    fn take(&mut self, tid: Tid) -> Option<Waits> {
        let before = self.waits.remove(&tid)?;
        self.by_word.remove(&(before.at, before.number));
        self.starving -= usize::from(before.times >= STARVING);
        Some(before)
    }

    /// Returns true if any task is starving.
    pub fn is_any_starving(&self) -> bool {
        self.starving > 0
    }

    /// The tasks that have waited longest at a word, `most` of those for which `is_waiting` holds. The kernel wakes them first.
    pub fn longest_waiting_at(&self, at: Addr, most: usize, is_waiting: impl Fn(Tid) -> bool) -> Vec<Tid> {
        let there = self.by_word.range((at, 0)..=(at, u64::MAX)).map(|(_, tid)| *tid);
        there.filter(|tid| is_waiting(*tid)).take(most).collect()
    }

    /// The tasks that are starving at a word.
    pub fn starving_at(&self, at: Addr) -> impl Iterator<Item = Tid> {
        let these = self.waits.iter();
        these
            .filter(move |(_, waits)| waits.at == at && waits.times >= STARVING)
            .map(|(tid, _)| *tid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: Addr = Addr(0x1000);
    const OTHER: Addr = Addr(0x2000);
    const TID: Tid = Tid(7);
    const SOON: Option<Duration> = Some(Duration::from_micros(3));

    fn waits(contention: &mut Contention, at: Addr, idle: Option<Duration>) -> bool {
        contention.note_wait(TID, at, idle);
        assert_eq!(
            contention.is_any_starving(),
            contention.starving_at(at).next().is_some()
        );
        contention.is_any_starving()
    }

    #[test]
    fn who_waits_at_one_word_over_and_over_is_starving() {
        let mut contention = Contention::default();
        assert!(!waits(&mut contention, LOCK, SOON));
        assert!(!waits(&mut contention, LOCK, SOON));
        assert!(waits(&mut contention, LOCK, SOON));
        assert!(waits(&mut contention, LOCK, SOON));
        assert_eq!(contention.starving_at(OTHER).count(), 0);
        contention.forget(TID);
        assert!(!contention.is_any_starving());
    }

    #[test]
    fn the_kernel_wakes_whoever_has_waited_longest() {
        let mut contention = Contention::default();
        for (tid, at) in [(5, LOCK), (3, LOCK), (9, OTHER), (4, LOCK), (8, LOCK), (5, LOCK)] {
            contention.note_wait(Tid(tid), at, SOON);
        }
        let longest = |most| contention.longest_waiting_at(LOCK, most, |tid| tid != Tid(4));
        assert_eq!(longest(0), []);
        assert_eq!(longest(2), [Tid(3), Tid(8)]);
        assert_eq!(longest(3), [Tid(3), Tid(8), Tid(5)], "task 5 has begun anew");
        assert_eq!(longest(9).len(), 3);
        contention.forget(Tid(3));
        let all = contention.longest_waiting_at(LOCK, 9, |_| true);
        assert_eq!(all, [Tid(4), Tid(8), Tid(5)]);
    }

    #[test]
    fn whoever_does_something_in_between_is_not() {
        let long = Some(Duration::from_millis(1));
        for (at, idle) in [(OTHER, SOON), (LOCK, None), (LOCK, long)] {
            let mut contention = Contention::default();
            waits(&mut contention, LOCK, SOON);
            waits(&mut contention, LOCK, SOON);
            assert!(!waits(&mut contention, at, idle), "{at:?} {idle:?}");
        }
        let mut contention = Contention::default();
        for _ in 0..2 {
            waits(&mut contention, LOCK, SOON);
            waits(&mut contention, LOCK, SOON);
            contention.forget(TID);
            assert!(!contention.is_any_starving());
        }
    }
}
