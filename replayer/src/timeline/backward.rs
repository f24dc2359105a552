//! Going backwards: a session runs forwards from an earlier checkpoint to the user's place. The last
//! stop that it meets is the answer. If it meets none, another session runs from the checkpoint before
//! to that checkpoint.

use super::parallel::Found;
use super::seek::{Met, Walk, Way};
use super::{Stop, Timeline};
use crate::affinity::Beside;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::position::{Mark, Position, Progress};
use crate::session::ReplaySession;

impl Timeline {
    /// Goes back to the last stop before. If interrupted, the user's place is unchanged.
    pub fn reverse_continue(&mut self, user: &mut dyn Interrupt) -> Result<Stop> {
        let _beside = Beside::cpu(self.cpu);
        let Some(mut end) = self.here(user)? else {
            return Ok(Stop::Interrupted);
        };
        let marks = self.marks();
        let place = end.clone();
        // Start of a search in vain: no other search may end there.
        let mut tried: Option<(Position, Progress)> = None;
        loop {
            if end.last < self.begin || end == Position::at_event(self.begin) {
                return self.rewind(user);
            }
            match self.search_stored(&end, end != place, user)? {
                Some(Found::Met(met)) => return self.go_to(met, user),
                Some(Found::Nothing) => return self.rewind(user),
                Some(Found::Interrupted) => return Ok(Stop::Interrupted),
                None => {}
            }
            let Some((mut session, from)) = self.start_before(&end, &marks, tried.as_ref())? else {
                return self.rewind(user);
            };
            let begun = session.interval.progress.clone();
            let met = {
                let walk = Walk::new(self.process, Some(&self.stops), &mut self.kept, user);
                let mut walk = walk.counting_goal(end != place);
                match walk.to(&mut session, &end)? {
                    Way::Done => walk.met,
                    Way::Interrupted => return Ok(Stop::Interrupted),
                }
            };
            drop(session);
            if let Some(met) = met.filter(|met| met.position.last >= self.begin) {
                return self.go_to(met, user);
            }
            tried = None;
            if begun.is_named() {
                end = from;
            } else if let Some(path) = begun.base_before(&marks) {
                end = Position { path, ..from };
            } else {
                tried = Some((from, begun));
            }
        }
    }

    /// The marks that are counted on the way back.
    pub(super) fn marks(&self) -> Vec<Mark> {
        let execute = self.stops.breakpoints.keys().map(|addr| Mark::Execute(*addr));
        let access = self.stops.debug_registers().unwrap_or_default();
        execute.chain(access.into_iter().map(Mark::Access)).collect()
    }

    /// A session at a checkpoint strictly before a position, and its position.
    fn start_before(
        &mut self,
        end: &Position,
        marks: &[Mark],
        tried: Option<&(Position, Progress)>,
    ) -> Result<Option<(ReplaySession, Position)>> {
        let is_at = |event| *end == Position::at_event(event);
        let mut stored = self.stored.before(end.last);
        if stored.is_some_and(is_at) {
            stored = end
                .last
                .0
                .checked_sub(1)
                .and_then(|event| self.stored.before(rr_trace::event::EventNumber(event)));
        }
        if let Some((live, from)) = self.kept.before(end, marks, tried)
            && stored.is_none_or(|stored| stored <= from.last)
        {
            return Ok(Some((live.thaw()?, from)));
        }
        if let Some(stored) = stored {
            let session = self.load(stored)?;
            let from = session.position();
            return Ok(Some((session, from)));
        }
        if end.last.0 == 0 || self.reader.first_event().0 > 1 {
            return Ok(None);
        }
        let session = self.at_start()?;
        let from = session.position();
        Ok(Some((session, from)))
    }

    fn go_to(&mut self, met: Met, user: &mut dyn Interrupt) -> Result<Stop> {
        let position = match met.stop {
            // Before the access: the watched place has its old value.
            Stop::Watchpoint { .. } => match self.one_before(&met.position, user)? {
                Ok(before) => before.unwrap_or(met.position),
                Err(Way::Interrupted | Way::Done) => return Ok(Stop::Interrupted),
            },
            _ => met.position,
        };
        match self.seek(&position, user)? {
            true => Ok(met.stop),
            false => Ok(Stop::Interrupted),
        }
    }

    fn rewind(&mut self, user: &mut dyn Interrupt) -> Result<Stop> {
        match self.seek(&Position::at_event(self.begin), user)? {
            true => Ok(Stop::HistoryBegin),
            false => Ok(Stop::Interrupted),
        }
    }
}
