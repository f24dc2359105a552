//! Places that the user can go back to: numbered checkpoints, the last restart, and the stops that `back` goes through.

use std::collections::BTreeMap;

use rr_replayer::Position;

/// A place that `checkpoint` noted.
#[derive(Clone, Debug)]
struct Noted {
    position: Position,
    location: String,
}

/// The most stops that `back` can go through.
const HISTORY_MOST: usize = 1000;

/// All of them.
#[derive(Debug)]
pub(super) struct Places {
    noted: BTreeMap<u64, Noted>,
    next: u64,
    restart: Position,
    /// The stops before this one, the last at the end.
    before: Vec<Position>,
    /// The stops that `back` came from.
    after: Vec<Position>,
}

impl Places {
    pub fn new(begin: Position) -> Places {
        Places {
            noted: BTreeMap::new(),
            next: 1,
            restart: begin,
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    /// The destination of `run` without an argument.
    pub fn restart(&self) -> &Position {
        &self.restart
    }

    pub fn set_restart(&mut self, position: Position) {
        self.restart = position;
    }

    /// Notes a place; its number.
    pub fn note(&mut self, position: Position, location: String) -> u64 {
        let number = self.next;
        self.next += 1;
        self.noted.insert(number, Noted { position, location });
        number
    }

    /// A noted place.
    pub fn checkpoint(&self, number: u64) -> Option<&Position> {
        self.noted.get(&number).map(|noted| &noted.position)
    }

    /// Forgets a noted place; `false` if there is none with this number.
    pub fn forget(&mut self, number: u64) -> bool {
        self.noted.remove(&number).is_some()
    }

    /// The message about a number that no place has.
    pub fn no_such_checkpoint(&self, number: u64) -> String {
        let valid: Vec<String> = self.noted.keys().map(u64::to_string).collect();
        let valid = match valid.is_empty() {
            true => "none".to_owned(),
            false => valid.join(" "),
        };
        format!("Checkpoint {number} not found.\nValid checkpoints: {valid}")
    }

    /// The noted places as a table; empty if there are none.
    pub fn table(&self) -> String {
        let rows = self
            .noted
            .iter()
            .map(|(number, noted)| format!("{number}\t{}\t{}\n", noted.position.last, noted.location));
        rows.collect()
    }

    /// The user has stopped at a place.
    pub fn stopped(&mut self, position: Position) {
        if self.before.last() == Some(&position) {
            return;
        }
        self.before.push(position);
        self.after.clear();
        if self.before.len() > HISTORY_MOST {
            self.before.remove(0);
        }
    }

    /// The stop before the last one, where `back` goes.
    pub fn before(&self) -> Option<Position> {
        let n = self.before.len().checked_sub(2)?;
        self.before.get(n).cloned()
    }

    /// The stop that `back` came from last, where `forward` goes.
    pub fn after(&self) -> Option<Position> {
        self.after.last().cloned()
    }

    /// The user is at [`Places::before`] now.
    pub fn went_back(&mut self) {
        self.after.extend(self.before.pop());
    }

    /// The user is at [`Places::after`] now.
    pub fn went_forward(&mut self) {
        self.before.extend(self.after.pop());
    }
}

#[cfg(test)]
mod tests {
    use rr_trace::event::EventNumber;

    use super::*;

    fn at(event: u64) -> Position {
        Position::at_event(EventNumber(event))
    }

    #[test]
    fn back_and_forward_go_through_the_stops() {
        let mut places = Places::new(at(1));
        [1, 5, 5, 9]
            .into_iter()
            .for_each(|event| places.stopped(at(event)));
        assert_eq!(places.before(), Some(at(5)));
        places.went_back();
        assert_eq!(places.before(), Some(at(1)));
        places.went_back();
        assert_eq!(places.before(), None);
        assert_eq!(places.after(), Some(at(5)));
        places.went_forward();
        places.stopped(at(7));
        assert_eq!(places.after(), None, "another way was taken");
        assert_eq!(places.before(), Some(at(5)));
    }

    #[test]
    fn checkpoints_are_numbered_from_one() {
        let mut places = Places::new(at(1));
        assert_eq!(places.note(at(3), "main ()".into()), 1);
        assert_eq!(places.note(at(4), "f ()".into()), 2);
        assert!(places.forget(1) && !places.forget(1));
        assert_eq!(places.table(), "2\t4\tf ()\n");
        assert_eq!(
            places.no_such_checkpoint(1),
            "Checkpoint 1 not found.\nValid checkpoints: 2"
        );
    }
}
