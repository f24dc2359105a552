//! Searching backwards on all CPUs in parallel.
//!
//! The stretches ([`crate::stretch`]) before the user's place are searched newest first, each by its
//! own session. The last stop of the newest stretch that has any is the answer. As soon as a stretch
//! has one, earlier stretches are given up.
//!
//! ```text
//!  stored     stored     stored     stored       user
//! ───●──────────●──────────●──────────●───────────│───►
//!    │  3       │  2       │  1       │  0        │
//!       away       away       away      home, then 1, 2, … as they come
//! ```
//!
//! Invariant: the answer is that of a search on one CPU. (Undetected would be code that reads the
//! number of its CPU, meets a breakpoint or not because of it, and forgets it before the next event.)

use std::sync::Arc;

use rr_trace::event::EventNumber;
use rr_tracee::Tid;
use rr_tracee::cpus::numbers;

use super::kept::Kept;
use super::seek::{Met, Walk, Way};
use super::{Stops, Timeline};
use crate::affinity::runs_anywhere;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::position::Position;
use crate::session::ReplaySession;
use crate::stretch::pool::{self, Walked};
use crate::stretch::{self, Stored, Stretch};

/// Result of a search.
pub(super) enum Found {
    /// The last stop.
    Met(Met),
    /// There is no earlier stop.
    Nothing,
    /// The user has interrupted the search.
    Interrupted,
}

/// Result of a stretch.
enum Outcome {
    Met(Box<Met>),
    Nothing,
    Failed(Error),
}

impl Outcome {
    /// Stretches before a stop, or a failure, are not needed.
    fn walked(self) -> Walked<Outcome> {
        match self {
            Outcome::Nothing => Walked::Done(self),
            _ => Walked::Enough(self),
        }
    }

    fn of(met: Option<Met>) -> Outcome {
        met.map_or(Outcome::Nothing, |met| Outcome::Met(Box::new(met)))
    }
}

/// State shared by all threads.
struct Search<'a> {
    stored: &'a Stored,
    process: Tid,
    begin: EventNumber,
    stops: &'a Stops,
    /// Newest first.
    stretches: &'a [Stretch],
    /// Stops at the end of the newest one count: it is not the user's place.
    counts_end: bool,
    /// The CPU of the recording, if that matters.
    recorded: Option<usize>,
}

impl Search<'_> {
    /// Replays a stretch.
    fn walk(
        &self,
        n: usize,
        session: &mut ReplaySession,
        kept: &mut Kept,
        user: &mut dyn Interrupt,
    ) -> Result<(Way, Option<Met>)> {
        let walk = Walk::new(self.process, Some(self.stops), kept, user);
        let mut walk = walk.counting_goal(n > 0 || self.counts_end);
        let way = walk.to(session, &self.stretches[n].to)?;
        let met = walk.met.filter(|met| met.position.last >= self.begin);
        Ok((way, met))
    }

    /// Returns whether a session at the end of its stretch has the recorded state.
    fn is_as_recorded(&self, n: usize, session: &ReplaySession) -> Result<bool> {
        let stretch = &self.stretches[n];
        if !stretch.ends_stored {
            return Ok(false);
        }
        let checkpoint = self.stored.open(stretch.to.last)?;
        Ok(session.compare(&checkpoint, 1)?.is_empty())
    }

    /// Searches a stretch on a CPU away from home.
    fn away(&self, n: usize, cpu: usize, wanted: &mut dyn Interrupt) -> Walked<Outcome> {
        let must_compare = self.recorded.is_some_and(|recorded| recorded != cpu);
        let from = self.stretches[n].from;
        let mut walked = || -> Result<Option<Outcome>> {
            let mut session = self.stored.session_beside(from, cpu)?;
            let (way, met) = self.walk(n, &mut session, &mut Kept::default(), wanted)?;
            if way == Way::Interrupted {
                return Ok(Some(Outcome::Nothing));
            }
            let counts = !must_compare || self.is_as_recorded(n, &session)?;
            Ok(counts.then(|| Outcome::of(met)))
        };
        match walked() {
            Ok(Some(outcome)) => {
                tracing::debug!("from event {from} on CPU {cpu}: searched");
                outcome.walked()
            }
            Ok(None) => {
                tracing::debug!("from event {from} on CPU {cpu}: not as recorded; again on the recorded CPU");
                Walked::AtHome
            }
            Err(e) if must_compare => {
                tracing::debug!("from event {from} on CPU {cpu}: {e}; again on the recorded CPU");
                Walked::AtHome
            }
            // At home, the checkpoint before is tried.
            Err(Error::Checkpoint(_)) => Walked::AtHome,
            Err(e) => Outcome::Failed(e).walked(),
        }
    }

    /// Searches a stretch at home, from an older checkpoint if its own cannot be used. Leaves live
    /// checkpoints behind.
    fn home(
        &self,
        n: usize,
        cpu: Option<usize>,
        kept: &mut Kept,
        wanted: &mut dyn Interrupt,
    ) -> Walked<Outcome> {
        let opened = (self.stored).session_near(self.stretches[n].from, |at| self.stored.session(at, cpu));
        let walked = opened.and_then(|mut near| {
            let session = &mut near.session;
            let (way, met) = self.walk(n, session, kept, wanted)?;
            Ok(Outcome::of(met.filter(|_| way == Way::Done)))
        });
        walked.unwrap_or_else(Outcome::Failed).walked()
    }
}

impl Timeline {
    /// Searches all stretches before `end` in parallel, for stops at `end` too if `counts_end` is true. `None` if there are not several stretches, or if a live
    /// checkpoint is nearer than the stored ones.
    pub(super) fn search_stored(
        &mut self,
        end: &Position,
        counts_end: bool,
        user: &mut dyn Interrupt,
    ) -> Result<Option<Found>> {
        let mut others = numbers(&self.stored.cpus());
        others.retain(|cpu| Some(*cpu) != self.cpu);
        let stretches = stretch::between(self.stored.events(), self.stored.has_start(), self.begin, end);
        let live = self
            .kept
            .before(end, &self.marks(), None)
            .map(|(_, from)| from.last);
        if others.is_empty() || stretches.len() < 2 || live > stretches.first().map(|s| s.from) {
            return Ok(None);
        }
        let stops = std::mem::take(&mut self.stops);
        let reader = Arc::clone(&self.reader);
        let search = Search {
            stored: &self.stored,
            process: self.process,
            begin: self.begin,
            stops: &stops,
            stretches: &stretches,
            counts_end,
            recorded: self.cpu.filter(|_| !runs_anywhere(&reader)),
        };
        let (cpu, kept) = (self.cpu, &mut self.kept);
        let ended = pool::run(
            stretches.len(),
            &others,
            &|n, cpu, wanted| search.away(n, cpu, wanted),
            &mut |n, wanted| search.home(n, cpu, kept, wanted),
            user,
        );
        self.stops = stops;
        if ended.is_interrupted {
            return Ok(Some(Found::Interrupted));
        }
        for outcome in ended.outcomes.into_values() {
            match outcome {
                Outcome::Met(met) => return Ok(Some(Found::Met(*met))),
                Outcome::Nothing => {}
                Outcome::Failed(e) => return Err(e),
            }
        }
        Ok(Some(Found::Nothing))
    }
}
