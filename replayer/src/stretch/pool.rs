//! Replays stretches on all CPUs in parallel.
//!
//! The calling thread is *home*: it takes the first stretch, others in order, and those that must be
//! replayed on its CPU. One thread for each other CPU is *away*. ptrace belongs to a thread, so the
//! thread that replays a stretch opens and ends its session.
//!
//! Invariant: the outcomes are those of a replay at home from the first stretch to the last. A stretch
//! whose outcome depends on the CPU is replayed at home. A stretch after one whose outcome is enough
//! has no outcome.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rr_tracee::ticker::Ticker;

use crate::interrupt::Interrupt;

/// Maximum number of threads away, because each keeps events that it has read.
const AWAY_MOST: usize = 15;
/// Time between two checks if the threads away are done.
const WAIT: Duration = Duration::from_millis(2);

/// Result of a stretch.
#[derive(Debug)]
pub(crate) enum Walked<T> {
    /// The stretch has this outcome.
    Done(T),
    /// The stretch has this outcome, and later stretches are not needed.
    Enough(T),
    /// No valid outcome: the stretch must be replayed at home. (At home: there is no outcome.)
    AtHome,
}

/// Result of all stretches.
#[derive(Debug)]
pub(crate) struct Ended<T> {
    /// The outcomes by the number of the stretch.
    pub outcomes: BTreeMap<usize, T>,
    /// True if the user has interrupted the work.
    pub is_interrupted: bool,
}

/// State shared by all threads.
struct Pool<T> {
    count: usize,
    /// The next stretch that nobody has taken. The first one is taken at home.
    next: AtomicUsize,
    /// Stretches after this one are not needed.
    enough: AtomicUsize,
    /// True if the user, or a panic, ends the work.
    is_over: AtomicBool,
    state: Mutex<State<T>>,
}

struct State<T> {
    outcomes: BTreeMap<usize, T>,
    /// Stretches that must be replayed at home.
    at_home: Vec<usize>,
    /// Number of threads away that are at work.
    underway: usize,
}

/// Replays `count` stretches by their numbers: `home` here, `away` on each of `cpus`. Both get an
/// interrupt that says if the stretch is still wanted.
pub(crate) fn run<T: Send>(
    count: usize,
    cpus: &[usize],
    away: &(dyn Fn(usize, usize, &mut dyn Interrupt) -> Walked<T> + Sync),
    home: &mut dyn FnMut(usize, &mut dyn Interrupt) -> Walked<T>,
    user: &mut dyn Interrupt,
) -> Ended<T> {
    let pool = Pool {
        count,
        next: AtomicUsize::new(1),
        enough: AtomicUsize::new(usize::MAX),
        is_over: AtomicBool::new(false),
        state: Mutex::new(State {
            outcomes: BTreeMap::new(),
            at_home: Vec::new(),
            underway: 0,
        }),
    };
    let is_interrupted = std::thread::scope(|scope| {
        let _over = Over(&pool.is_over);
        for cpu in cpus.iter().take(count.saturating_sub(1).min(AWAY_MOST)) {
            let pool = &pool;
            // With one thread less it is only slower.
            let _ = std::thread::Builder::new()
                .name(format!("rr-stretch-{cpu}"))
                .spawn_scoped(scope, move || pool.work(*cpu, away));
        }
        pool.take_part(home, user)
    });
    let state = pool.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ended {
        outcomes: state.outcomes,
        is_interrupted,
    }
}

impl<T> Pool<T> {
    // A thread that panics has completed its changes of the state.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_wanted(&self, n: usize) -> bool {
        n <= self.enough.load(Ordering::Relaxed) && !self.is_over.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<usize> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        (n < self.count && self.is_wanted(n)).then_some(n)
    }

    fn end(&self, n: usize, walked: Walked<T>) {
        let mut state = self.state();
        match walked {
            Walked::Done(outcome) => drop(state.outcomes.insert(n, outcome)),
            Walked::Enough(outcome) => {
                self.enough.fetch_min(n, Ordering::Relaxed);
                state.outcomes.insert(n, outcome);
            }
            Walked::AtHome => state.at_home.push(n),
        }
    }

    /// A thread away: replays stretches until there are no more.
    fn work(&self, cpu: usize, away: &(dyn Fn(usize, usize, &mut dyn Interrupt) -> Walked<T> + Sync)) {
        let Ok(_ticker) = Ticker::start() else { return };
        loop {
            // Begin before taking: this thread must count as at work until nobody else can find
            // something to do.
            let _underway = Underway::begin(self);
            let Some(n) = self.take() else { return };
            let walked = away(n, cpu, &mut Wanted { pool: self, n });
            self.end(n, walked);
        }
    }

    /// The work at home. Returns whether the user has interrupted it.
    fn take_part(
        &self,
        home: &mut dyn FnMut(usize, &mut dyn Interrupt) -> Walked<T>,
        user: &mut dyn Interrupt,
    ) -> bool {
        let mut mine = (self.count > 0).then_some(0);
        loop {
            let again = || {
                let mut state = self.state();
                let first = (0..state.at_home.len()).min_by_key(|at| state.at_home[*at])?;
                Some(state.at_home.swap_remove(first))
            };
            if let Some(n) = mine.take().or_else(again).or_else(|| self.take()) {
                if self.is_wanted(n) {
                    let wanted = Wanted { pool: self, n };
                    match home(n, &mut User { wanted, user }) {
                        Walked::AtHome => {}
                        walked => self.end(n, walked),
                    }
                }
                continue;
            }
            if user.is_requested() {
                self.is_over.store(true, Ordering::Relaxed);
            }
            if self.is_over.load(Ordering::Relaxed) {
                return true;
            }
            let state = self.state();
            let wanted = self.enough.load(Ordering::Relaxed).saturating_add(1);
            let is_done = (0..self.count.min(wanted)).all(|n| state.outcomes.contains_key(&n));
            // No thread is at work, and nothing is left: a thread could not begin.
            if is_done || state.underway == 0 && state.at_home.is_empty() {
                return false;
            }
            drop(state);
            std::thread::sleep(WAIT);
        }
    }
}

/// Marks a thread away as at work, until dropped.
struct Underway<'a, T>(&'a Pool<T>);

impl<'a, T> Underway<'a, T> {
    fn begin(pool: &'a Pool<T>) -> Self {
        pool.state().underway += 1;
        Underway(pool)
    }
}

impl<T> Drop for Underway<'_, T> {
    fn drop(&mut self) {
        self.0.state().underway -= 1;
    }
}

/// Says if a stretch is still wanted.
struct Wanted<'a, T> {
    pool: &'a Pool<T>,
    n: usize,
}

impl<T> Interrupt for Wanted<'_, T> {
    fn is_requested(&mut self) -> bool {
        !self.pool.is_wanted(self.n)
    }
}

/// Asks the user, too.
struct User<'a, T> {
    wanted: Wanted<'a, T>,
    user: &'a mut dyn Interrupt,
}

impl<T> Interrupt for User<'_, T> {
    fn is_requested(&mut self) -> bool {
        if self.user.is_requested() {
            self.wanted.pool.is_over.store(true, Ordering::Relaxed);
        }
        self.wanted.is_requested()
    }
}

/// Ends the other threads' work when dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Never;
    use std::sync::atomic::AtomicU64;

    struct Now;

    impl Interrupt for Now {
        fn is_requested(&mut self) -> bool {
            true
        }
    }

    fn at_home(walked: &AtomicU64) -> impl FnMut(usize, &mut dyn Interrupt) -> Walked<usize> {
        |n, _| {
            walked.fetch_add(1 << n, Ordering::Relaxed);
            Walked::Done(n * 10)
        }
    }

    #[test]
    fn each_is_walked_once_and_what_depends_on_the_cpu_at_home() {
        for cpus in [&[][..], &[0], &[0, 0, 0]] {
            let home = AtomicU64::new(0);
            let away = |n: usize, _: usize, _: &mut dyn Interrupt| match n % 3 {
                0 => Walked::AtHome,
                _ => Walked::Done(n * 10),
            };
            let ended = run(20, cpus, &away, &mut at_home(&home), &mut Never);
            assert!(!ended.is_interrupted);
            let expected: Vec<_> = (0..20).map(|n| (n, n * 10)).collect();
            assert_eq!(ended.outcomes.into_iter().collect::<Vec<_>>(), expected);
            // At least every third one.
            assert_eq!(home.into_inner() & 0x49249, 0x49249);
        }
    }

    #[test]
    fn what_is_enough_ends_it_but_not_what_comes_before() {
        for _ in 0..50 {
            let away = |n: usize, _: usize, _: &mut dyn Interrupt| match n {
                5.. => Walked::Enough(n),
                _ => Walked::Done(n),
            };
            let mut home = |n: usize, wanted: &mut dyn Interrupt| away(n, 0, wanted);
            let ended = run(1000, &[0, 0], &away, &mut home, &mut Never);
            let outcomes: Vec<usize> = ended.outcomes.into_keys().collect();
            assert_eq!(outcomes[..6], [0, 1, 2, 3, 4, 5]);
            assert!(outcomes.len() < 10, "{outcomes:?}");
        }
    }

    #[test]
    fn the_user_can_interrupt_it() {
        let away = |_: usize, _: usize, wanted: &mut dyn Interrupt| {
            while !wanted.is_requested() {
                std::thread::yield_now();
            }
            Walked::Done(0)
        };
        let mut home = |n: usize, wanted: &mut dyn Interrupt| away(n, 0, wanted);
        assert!(run(10, &[0, 0], &away, &mut home, &mut Now).is_interrupted);
        assert!(!run(0, &[0], &away, &mut home, &mut Never).is_interrupted);
    }

    #[test]
    fn a_panic_away_does_not_hang() {
        let away = |_: usize, _: usize, _: &mut dyn Interrupt| panic!("on purpose");
        let mut home = |n: usize, _: &mut dyn Interrupt| {
            std::thread::sleep(Duration::from_millis(10));
            Walked::Done(n)
        };
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(10, &[0], &away, &mut home, &mut Never)
        }));
        assert!(ended.is_err());
    }
}
