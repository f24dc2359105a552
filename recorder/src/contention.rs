//! Contention: tasks that wait for a lock (futex(2)) and never get it.
//!
//! Who drops a lock wakes a waiter, and goes on. Natively the waiter soon runs on another CPU; here it runs when the turn ends, and
//! by then the lock may be taken again. If turns always end where it is held, because the calls at which they can end are made under
//! it, the waiter wakes and waits again for ever. So a task that was woken and waits at the same word again, without having done
//! anything else, several times in a row, is *starving*: from then on each wake at that word is traced, and ends the turn in
//! its favour, for there the lock is free.

use std::collections::HashMap;
use std::time::Duration;

use rr_tracee::regs::Registers;
use rr_tracee::{Addr, Tid};

/// So often in a row a task has to wait at one word.
const STARVING: u32 = 3;
/// A task that executes for longer between two waits has done something else.
const AT_ONCE: Duration = Duration::from_micros(100);

/// A call of futex(2), as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Futex {
    /// Waits at a word.
    Wait(Addr),
    /// Wakes those who wait there.
    Wake(Addr),
}

impl Futex {
    /// Of a call at its entry.
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

/// How often a task has waited at a word.
#[derive(Clone, Copy, Debug)]
struct Waits {
    at: Addr,
    times: u32,
}

/// Who waits for which lock.
#[derive(Debug, Default)]
pub(crate) struct Contention {
    waits: HashMap<Tid, Waits>,
    /// How many tasks are starving.
    starving: usize,
}

impl Contention {
    /// A task makes a call. `idle`: it has made no other since its last event, which was so long ago.
    pub fn note_call(&mut self, tid: Tid, futex: Option<Futex>, idle: Option<Duration>) {
        let before = self.take(tid);
        let Some(Futex::Wait(at)) = futex else { return };
        let again = before.filter(|b| b.at == at && idle.is_some_and(|time| time < AT_ONCE));
        let times = again.map_or(1, |b| b.times.saturating_add(1));
        self.starving += usize::from(times >= STARVING);
        self.waits.insert(tid, Waits { at, times });
    }

    /// A task is gone, or has done something else.
    pub fn forget(&mut self, tid: Tid) {
        self.take(tid);
    }

    fn take(&mut self, tid: Tid) -> Option<Waits> {
        let before = self.waits.remove(&tid);
        self.starving -= usize::from(before.is_some_and(|b| b.times >= STARVING));
        before
    }

    /// Whether any task is starving.
    pub fn is_any_starving(&self) -> bool {
        self.starving > 0
    }

    /// Those that are starving at a word.
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
        contention.note_call(TID, Some(Futex::Wait(at)), idle);
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
            contention.note_call(TID, Some(Futex::Wake(LOCK)), SOON);
            assert!(!contention.is_any_starving());
        }
    }
}
