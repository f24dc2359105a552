//! Names for the places where the user has interrupted a task.
//!
//! Such a place is known by a number and by a live checkpoint at first. It is named when somebody goes back from there,
//! or comes back: the interval is run from the last place before that has a name, and the passes of the place's instruction
//! are counted until the state is that of the live checkpoint ([`crate::place`]). Keeps: a walk is only given named
//! positions, so it depends on no live checkpoint.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::Timeline;
use super::seek::{Walk, Way, lost};
use crate::error::Result;
use crate::live::LiveCheckpoint;
use crate::place::Goal;
use crate::position::{Move, Path, Position};
use crate::probe::WhereTrue;
use crate::run::{Halt, Interrupt, Pace};
use crate::session::ReplaySession;

/// The most live checkpoints of places without a name.
const MOST: usize = 12;

/// Where the user has interrupted a task.
#[derive(Default)]
pub(super) struct Names {
    /// Until the places have names: where they are.
    nameless: Vec<(u64, LiveCheckpoint)>,
    /// Their names.
    named: Vec<(u64, Path)>,
}

impl Names {
    /// A place that has no name yet. Of too many, the first is forgotten.
    pub fn add(&mut self, number: u64, live: LiveCheckpoint) {
        self.nameless.push((number, live));
        if self.nameless.len() > MOST {
            self.nameless.remove(0);
        }
    }

    fn of(&self, number: u64) -> Option<&Path> {
        let found = self.named.iter().find(|(n, _)| *n == number);
        found.map(|(_, path)| path)
    }
}

impl Timeline {
    /// Where the user is, by a name that every replay of the trace understands; `None` if the user has interrupted the
    /// search for it.
    pub fn here(&mut self, user: &mut dyn Interrupt) -> Result<Option<Position>> {
        self.named(&self.session.position(), user)
    }

    /// A position, with names for all places that it goes by.
    pub fn named(&mut self, position: &Position, user: &mut dyn Interrupt) -> Result<Option<Position>> {
        let mut named = Position {
            path: Path::default(),
            ..*position
        };
        for step in &position.path.0 {
            let Move::Interrupted(number) = step else {
                named.path.push(*step);
                continue;
            };
            if self.names.of(*number).is_none() {
                let Some(path) = self.find_name(*number, &named, position, user)? else {
                    return Ok(None);
                };
                self.session.progress.rename(*number, &path);
                self.session.arm_marks();
                self.names.named.push((*number, path));
            }
            if let Some(path) = self.names.of(*number) {
                named.path = path.clone();
            }
        }
        Ok(Some(named))
    }

    /// The path to where an interrupt has left the task, after `base`.
    fn find_name(
        &mut self,
        number: u64,
        base: &Position,
        goal: &Position,
        user: &mut dyn Interrupt,
    ) -> Result<Option<Path>> {
        let found = self.names.nameless.iter().position(|(n, _)| *n == number);
        let Some(mut there) = found.map(|n| self.names.nameless[n].1.thaw()).transpose()? else {
            return Err(lost(&self.session, goal));
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

    /// Runs a session to where another one is, inside one interval. Returns the path to there.
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
        let mut place = there.place(&event)?;
        session.load()?;
        if session.is_at_place(&event, &mut place)? {
            return Ok(Some(session.progress.path()));
        }
        let owner = session.process_of(event.tid).unwrap_or(self.process);
        let counted = BTreeMap::from([(place.addr(), false)]);
        session.set_counting_stops(owner, Default::default(), WhereTrue::Stops, Vec::new(), counted)?;
        session.set_goal(Goal::Place(Rc::new(RefCell::new(place))))?;
        let mut walk = Walk::new(self.process, None, &mut self.kept, user);
        loop {
            match walk.proceed(session, Pace::Free)? {
                Err(Way::Interrupted | Way::Done) => return Ok(None),
                Ok(Halt::Breakpoint(_)) => return Ok(Some(session.progress.path())),
                Ok(Halt::Arrived) => return Err(lost(session, goal)),
                Ok(Halt::Interrupted | Halt::Stepped | Halt::Watchpoint(_)) => {}
            }
        }
    }
}
