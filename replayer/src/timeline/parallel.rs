//! Searching backwards on all CPUs at once.
//!
//! Between stored checkpoints the replay is cut into *stretches*, which are independent: each is walked by a session of
//! its own, from one stored checkpoint to the next, newest first. The last stop of the newest stretch that has any is
//! the answer; as soon as a stretch has one, those before it are given up.
//!
//! ```text
//!  stored     stored     stored     stored       user
//! ───●──────────●──────────●──────────●───────────│───►
//!    │  3       │  2       │  1       │  0        │
//!       others     others     others    this thread, then 1, 2, … as they come
//! ```
//!
//! ptrace belongs to a thread: whoever walks a stretch opens it, and ends it. Keeps: the answer is that of a search on one
//! CPU.
//!
//! *The number of the CPU.* Where `cpuid` cannot be intercepted, a program sees on which CPU it runs (APIC id, Intel SDM
//! vol. 2A, CPUID leaves 1, 0BH and 1FH). The dynamic loader looks when it starts and stores it; libraries look when they are
//! loaded; in the middle of a program next to nothing does. So a stretch is walked on any CPU, but if it was not the one
//! of the recording, it counts only if at its end image and all memory are those of the stored checkpoint there (I4): then
//! nothing that was executed has depended on the CPU and left a trace of it. Else the stretch is walked again
//! on the recorded CPU. (What would escape: code that looks at the number, comes by a breakpoint or not because of
//! it, and forgets it before the next event. Registers are compared at every event, I7.)

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;
use rr_tracee::Tid;
use rr_tracee::ticker::Ticker;

use super::kept::Kept;
use super::seek::{Met, Walk, Way};
use super::{OpenCheckpoint, Stops, Timeline};
use crate::affinity;
use crate::error::{Error, Result};
use crate::position::Position;
use crate::run::Interrupt;
use crate::session::ReplaySession;

/// The most threads beside the user's: each keeps events that it has read.
const OTHERS_MOST: usize = 15;
/// What is between two looks whether the others are done.
const WAIT: Duration = Duration::from_millis(2);

/// The end of a search.
pub(super) enum Found {
    /// The last stop.
    Met(Met),
    /// There is no stop before.
    Nothing,
    /// The user has interrupted it.
    Interrupted,
}

/// From a stored checkpoint (0: the start) to where the stretch after it begins.
#[derive(Clone, Debug)]
struct Stretch {
    from: EventNumber,
    to: Position,
}

/// How a stretch has ended.
enum Outcome {
    Met(Box<Met>),
    Nothing,
    Failed(Error),
}

/// What all threads share.
struct Search<'a> {
    reader: &'a Arc<TraceReader>,
    open: &'a OpenCheckpoint,
    process: Tid,
    begin: EventNumber,
    stops: &'a Stops,
    /// The CPUs that the threads may use which read checkpoints and events.
    cpus: CpuSet,
    /// Newest first.
    stretches: &'a [Stretch],
    /// The CPU of the recording, if that matters.
    recorded: Option<usize>,
    /// The next stretch that nobody has taken.
    next: AtomicUsize,
    /// Stretches from this one on are of no interest: a newer one has the answer.
    enough: AtomicUsize,
    /// The user, or a failure, ends it all.
    is_over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    outcomes: BTreeMap<usize, Outcome>,
    /// Stretches that have to be walked on the recorded CPU.
    again: Vec<usize>,
    /// Stretches that are being walked by other threads.
    underway: usize,
}

impl Search<'_> {
    // What a thread that died of a panic has done to it is done whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_wanted(&self, n: usize) -> bool {
        n < self.enough.load(Ordering::Relaxed) && !self.is_over.load(Ordering::Relaxed)
    }

    /// The next stretch, newest first.
    fn take(&self) -> Option<usize> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        (n < self.stretches.len() && self.is_wanted(n)).then_some(n)
    }

    fn end(&self, n: usize, outcome: Outcome) {
        if !matches!(outcome, Outcome::Nothing) {
            self.enough.fetch_min(n, Ordering::Relaxed);
        }
        self.state().outcomes.insert(n, outcome);
    }

    fn open(&self, n: usize, cpu: Option<usize>) -> Result<ReplaySession> {
        let from = self.stretches[n].from;
        if from.0 == 0 {
            return ReplaySession::start(Arc::clone(self.reader), cpu);
        }
        let checkpoint = (self.open)(self.reader, from)?;
        ReplaySession::resume(Arc::clone(self.reader), &checkpoint, cpu)
    }

    /// Walks a stretch.
    fn walk(
        &self,
        n: usize,
        session: &mut ReplaySession,
        kept: &mut Kept,
        user: &mut dyn Interrupt,
    ) -> Result<(Way, Option<Met>)> {
        let mut walk = Walk::new(self.process, Some(self.stops), kept, user);
        let way = walk.to(session, &self.stretches[n].to)?;
        let met = walk.met.filter(|met| met.position.last >= self.begin);
        Ok((way, met))
    }

    /// Whether a session at the end of its stretch is what was recorded.
    fn is_as_recorded(&self, n: usize, session: &ReplaySession) -> Result<bool> {
        let to = &self.stretches[n].to;
        if *to != Position::at_event(to.last) {
            return Ok(false);
        }
        let checkpoint = (self.open)(self.reader, to.last)?;
        Ok(session.compare(&checkpoint, 1)?.is_empty())
    }

    /// A thread beside the user's: walks stretches on a CPU until there are no more.
    fn work(&self, cpu: usize) {
        let Ok(_ticker) = Ticker::start() else { return };
        loop {
            // Not between the two: this thread counts as at work until nobody else can find something to do.
            self.state().underway += 1;
            let taken = self.take();
            if let Some(n) = taken {
                self.work_on(n, cpu);
            }
            self.state().underway -= 1;
            if taken.is_none() {
                return;
            }
        }
    }

    fn work_on(&self, n: usize, cpu: usize) {
        let must_compare = self.recorded.is_some_and(|recorded| recorded != cpu);
        let mut wanted = Wanted { search: self, n };
        let mut walked = || -> Result<Option<Outcome>> {
            // The threads that this starts go where they like. Only speed depends on it, here and below.
            let _ = sched_setaffinity(Pid::from_raw(0), &self.cpus);
            let mut session = self.open(n, Some(cpu))?;
            // Beside its tasks: a wake-up across CPUs is slow.
            let _ = affinity::bind(Tid(0), cpu);
            let mut kept = Kept::default();
            let (way, met) = self.walk(n, &mut session, &mut kept, &mut wanted)?;
            if way == Way::Interrupted {
                return Ok(Some(Outcome::Nothing));
            }
            if must_compare && !self.is_as_recorded(n, &session)? {
                return Ok(None);
            }
            Ok(Some(
                met.map_or(Outcome::Nothing, |met| Outcome::Met(Box::new(met))),
            ))
        };
        match walked() {
            Ok(Some(outcome)) => {
                tracing::debug!("from event {} on CPU {cpu}: searched", self.stretches[n].from);
                self.end(n, outcome);
            }
            Ok(None) => {
                let from = self.stretches[n].from;
                tracing::debug!("from event {from} on CPU {cpu}: not as recorded; again on the recorded CPU");
                self.state().again.push(n);
            }
            Err(e) if must_compare => {
                let from = self.stretches[n].from;
                tracing::debug!("from event {from} on CPU {cpu}: {e}; again on the recorded CPU");
                self.state().again.push(n);
            }
            // The user's thread tries it with the checkpoint before.
            Err(Error::Checkpoint(_)) => self.state().again.push(n),
            Err(e) => self.end(n, Outcome::Failed(e)),
        }
    }
}

/// Asks whether a stretch is still wanted.
struct Wanted<'a> {
    search: &'a Search<'a>,
    n: usize,
}

impl Interrupt for Wanted<'_> {
    fn is_requested(&mut self) -> bool {
        !self.search.is_wanted(self.n)
    }
}

/// Asks the user too.
struct User<'a> {
    wanted: Wanted<'a>,
    user: &'a mut dyn Interrupt,
}

impl Interrupt for User<'_> {
    fn is_requested(&mut self) -> bool {
        if self.user.is_requested() {
            self.wanted.search.is_over.store(true, Ordering::Relaxed);
        }
        self.wanted.is_requested()
    }
}

/// Ends the other threads' work, whatever happens.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The CPUs of a set.
fn numbers(set: &CpuSet) -> Vec<usize> {
    let all = 0..CpuSet::count();
    all.filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect()
}

/// The CPUs that the calling thread may use.
pub(super) fn cpus() -> CpuSet {
    sched_getaffinity(Pid::from_raw(0)).unwrap_or_default()
}

impl Timeline {
    /// Searches all stretches before `end` at once, if there are several, and no live checkpoint is nearer than the stored
    /// ones; else `None`.
    pub(super) fn search_stored(
        &mut self,
        end: &Position,
        user: &mut dyn Interrupt,
    ) -> Result<Option<Found>> {
        let mut others = numbers(&self.all_cpus);
        others.retain(|cpu| Some(*cpu) != self.cpu);
        let stretches = self.stretches(end);
        let live = self
            .kept
            .before(end, &self.marks(), None)
            .map(|(_, from)| from.last);
        if others.is_empty() || stretches.len() < 2 || live > stretches.first().map(|s| s.from) {
            return Ok(None);
        }
        let open = Arc::clone(&self.open);
        let stops = std::mem::take(&mut self.stops);
        let reader = Arc::clone(&self.reader);
        let search = Search {
            reader: &reader,
            open: &open,
            process: self.process,
            begin: self.begin,
            stops: &stops,
            cpus: self.all_cpus,
            stretches: &stretches,
            recorded: self.cpu.filter(|_| !reader.header().cpuid_faulting),
            next: AtomicUsize::new(1),
            enough: AtomicUsize::new(usize::MAX),
            is_over: AtomicBool::new(false),
            state: Mutex::default(),
        };
        let found = std::thread::scope(|scope| {
            let _over = Over(&search.is_over);
            for cpu in others.into_iter().take((stretches.len() - 1).min(OTHERS_MOST)) {
                let search = &search;
                scope.spawn(move || search.work(cpu));
            }
            self.take_part(&search, user)
        });
        self.stops = stops;
        found.map(Some)
    }

    /// The stretches before a position, newest first.
    fn stretches(&self, end: &Position) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let mut to = end.clone();
        while to.last > self.begin || to.last == self.begin && to != Position::at_event(self.begin) {
            let before = match to == Position::at_event(to.last) {
                true => to.last.0.checked_sub(1).map(EventNumber),
                false => Some(to.last),
            };
            let Some(before) = before else { break };
            let from = self.stored_before(before);
            if from.is_none() && self.reader.first_event().0 > 1 {
                break;
            }
            let from = from.unwrap_or_default();
            stretches.push(Stretch { from, to });
            to = Position::at_event(from);
        }
        stretches
    }

    /// What the user's thread does: it walks the newest stretch, others as they come, and those that have to be walked
    /// on its CPU.
    fn take_part(&mut self, search: &Search, user: &mut dyn Interrupt) -> Result<Found> {
        let mut mine = Some(0);
        loop {
            let again = || {
                let mut state = search.state();
                let newest = (0..state.again.len()).min_by_key(|at| state.again[*at])?;
                Some(state.again.swap_remove(newest))
            };
            if let Some(n) = mine.take().or_else(again).or_else(|| search.take()) {
                if search.is_wanted(n) {
                    self.walk_here(search, n, user);
                }
                continue;
            }
            if user.is_requested() {
                search.is_over.store(true, Ordering::Relaxed);
            }
            if search.is_over.load(Ordering::Relaxed) {
                return Ok(Found::Interrupted);
            }
            let state = search.state();
            let wanted = search.enough.load(Ordering::Relaxed);
            let is_done = (0..search.stretches.len().min(wanted)).all(|n| state.outcomes.contains_key(&n));
            // Nobody is at work, and nothing is left: a thread could not begin.
            if is_done || state.underway == 0 && state.again.is_empty() {
                break;
            }
            drop(state);
            std::thread::sleep(WAIT);
        }
        let outcomes = std::mem::take(&mut search.state().outcomes);
        for outcome in outcomes.into_values() {
            match outcome {
                Outcome::Met(met) => return Ok(Found::Met(*met)),
                Outcome::Nothing => {}
                Outcome::Failed(e) => return Err(e),
            }
        }
        Ok(Found::Nothing)
    }

    fn walk_here(&mut self, search: &Search, n: usize, user: &mut dyn Interrupt) {
        let mut asked = User {
            wanted: Wanted { search, n },
            user,
        };
        let mut walked = || -> Result<Outcome> {
            let mut session = match search.open(n, self.cpu) {
                Err(Error::Checkpoint(e)) => {
                    let from = search.stretches[n].from;
                    tracing::warn!("the checkpoint at event {from} cannot be used: {e}");
                    let older = search.stretches[n + 1..].iter();
                    let older = older
                        .enumerate()
                        .find_map(|(m, _)| search.open(n + 1 + m, self.cpu).ok());
                    match older {
                        Some(session) => session,
                        None => ReplaySession::start(Arc::clone(search.reader), self.cpu)?,
                    }
                }
                opened => opened?,
            };
            let (way, met) = search.walk(n, &mut session, &mut self.kept, &mut asked)?;
            Ok(match met {
                Some(met) if way == Way::Done => Outcome::Met(Box::new(met)),
                _ => Outcome::Nothing,
            })
        };
        match walked() {
            Ok(outcome) => search.end(n, outcome),
            Err(e) => search.end(n, Outcome::Failed(e)),
        }
    }
}
