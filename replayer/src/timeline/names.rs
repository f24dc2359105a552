//! Names for the places where the user has interrupted a task.
//!
//! At first such a place is known by a number and by a live checkpoint. It gets a name when somebody
//! goes back from there, or returns to it: the interval is run from the last named place before it,
//! counting the passes of the place's instruction until the state is that of the live checkpoint
//! ([`crate::place`]). Invariant: a walk gets only named positions, so it depends on no live
//! checkpoint.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::Timeline;
use super::seek::{Walk, Way, lost};
use crate::apply::load_buffered;
use crate::drive::{set_counting_stops, set_goal};
use crate::error::{Error, Result};
use crate::halt::{Halt, Pace};
use crate::interrupt::Interrupt;
use crate::marks::arm_marks;
use crate::place::{Goal, is_at_place, place_here};
use crate::position::{Move, Path, Position};
use crate::probe::WhereTrue;
use crate::session::ReplaySession;

impl Timeline {
    /// The user's place, by a name that every replay of the trace understands. `None` if the user has
    /// interrupted the search for it.
    pub fn here(&mut self, user: &mut dyn Interrupt) -> Result<Option<Position>> {
        self.named(&self.session.position(), user)
    }

    /// A position with a name. Of the interrupts in its path only the last one matters: its name leads
    /// there from the beginning of the interval.
    pub fn named(&mut self, position: &Position, user: &mut dyn Interrupt) -> Result<Option<Position>> {
        let moves = &position.path.0;
        let interrupts = moves.iter().enumerate().filter_map(|(at, next)| match next {
            Move::Interrupted(number) => Some((at, *number)),
            _ => None,
        });
        let interrupts: Vec<(usize, u64)> = interrupts.collect();
        let Some(&(at, number)) = interrupts.last() else {
            return Ok(Some(position.clone()));
        };
        if self.names.of(number).is_none() {
            // An earlier interrupt has a name, or the path has no interrupts up to the first.
            let earlier = interrupts
                .iter()
                .rev()
                .find_map(|(_, number)| self.names.of(*number));
            let path = match (earlier, interrupts.first()) {
                (Some(path), _) => path.clone(),
                (None, first) => Path(moves[..first.map_or(0, |(at, _)| *at)].to_vec()),
            };
            let base = Position { path, ..*position };
            let Some(path) = self.find_name(number, &base, position, user)? else {
                return Ok(None);
            };
            self.session.interval.progress.rename(number, &path);
            arm_marks(&mut self.session);
            self.names.named.push((number, path));
        }
        let mut path = self.names.of(number).cloned().unwrap_or_default();
        moves[at + 1..].iter().for_each(|next| path.push(*next));
        Ok(Some(Position { path, ..*position }))
    }

    /// The path after `base` to the place where an interrupt has stopped the task.
    fn find_name(
        &mut self,
        number: u64,
        base: &Position,
        goal: &Position,
        user: &mut dyn Interrupt,
    ) -> Result<Option<Path>> {
        let found = self.names.nameless.iter().position(|(n, _)| *n == number);
        let Some(mut there) = found.map(|n| self.names.nameless[n].1.thaw()).transpose()? else {
            return Err(Error::Forgotten {
                goal: goal.to_string(),
            });
        };
        let Some(mut session) = self.session_at(base, user)? else {
            return Ok(None);
        };
        let Some(way) = self.count_to(&mut session, &mut there, goal, user)? else {
            return Ok(None);
        };
        if let Some(n) = found {
            self.names.nameless.remove(n);
        }
        self.kept.add(session.freeze()?);
        Ok(Some(way))
    }

    /// Runs a session to the place of another one, inside one interval. Returns the path to it.
    fn count_to(
        &mut self,
        session: &mut ReplaySession,
        there: &mut ReplaySession,
        goal: &Position,
        user: &mut dyn Interrupt,
    ) -> Result<Option<Path>> {
        let Some(event) = session.next_event()? else {
            return Err(lost(session, goal));
        };
        let mut place = place_here(there, &event)?;
        load_buffered(session)?;
        if is_at_place(session, &event, &mut place)? {
            return Ok(Some(session.interval.progress.path()));
        }
        let owner = session.process_of(event.tid).unwrap_or(self.process);
        let counted = BTreeMap::from([(place.addr(), false)]);
        set_counting_stops(
            session,
            owner,
            Default::default(),
            WhereTrue::Stops,
            Vec::new(),
            counted,
        )?;
        set_goal(session, Goal::Place(Rc::new(RefCell::new(place))))?;
        let mut walk = Walk::new(self.process, None, &mut self.kept, user);
        loop {
            match walk.proceed(session, Pace::Free)? {
                Err(Way::Interrupted | Way::Done) => return Ok(None),
                Ok(Halt::Breakpoint(_)) => return Ok(Some(session.interval.progress.path())),
                Ok(Halt::Arrived) => return Err(lost(session, goal)),
                Ok(Halt::Interrupted | Halt::Stepped | Halt::Watchpoint(_)) => {}
            }
        }
    }
}
