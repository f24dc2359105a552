//! Positions: names for the places of a replay, exact without any counter of the processor.
//!
//! An interval is deterministic. So a place inside it is named by a *path* from its beginning: "until
//! the instruction at A is about to be executed for the n-th time, then s single steps, then …". The
//! same path leads every session to the same place. Invariant: a path is extended only by counts of the
//! session itself since the path's end.
//!
//! ```text
//! event 41 ─────────────────── interval ──────────────────── event 42
//!          │         │        │                             ▲
//!          path []   Execute  Step(1)                       arrived
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use rr_trace::event::EventNumber;
use rr_tracee::Addr;
use rr_tracee::task::Watch;

/// An occurrence that can be counted while a task runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mark {
    /// The instruction at this address is about to be executed.
    Execute(Addr),
    /// An instruction has accessed this place.
    Access(Watch),
}

/// One part of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    /// Until this mark has occurred this many times.
    Until(Mark, u64),
    /// This many instructions.
    Step(u64),
    /// To the place where the task was interrupted: only a live checkpoint with this number knows it.
    Interrupted(u64),
}

/// A place inside an interval, as moves from its beginning.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Path(pub Vec<Move>);

impl Path {
    /// Adds a move. Adjacent moves of one kind become one.
    pub fn push(&mut self, next: Move) {
        match (self.0.last_mut(), next) {
            (Some(Move::Step(steps)), Move::Step(more)) => *steps += more,
            (Some(Move::Until(mark, count)), Move::Until(same, more)) if *mark == same => *count += more,
            _ => self.0.push(next),
        }
    }

    /// Returns whether the path is the interval's beginning.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A place of a replay.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Position {
    /// The last event that has been applied.
    pub last: EventNumber,
    /// The place in the interval of the next event.
    pub path: Path,
    /// True if the task of the next event has arrived at the event, which is not applied yet. (The path
    /// is then empty.)
    pub arrived: bool,
}

impl Position {
    /// Right after an event.
    pub fn at_event(last: EventNumber) -> Position {
        Position {
            last,
            ..Position::default()
        }
    }

    /// Just before the event after `last` is applied.
    pub fn before_event(last: EventNumber) -> Position {
        Position {
            last,
            path: Path::default(),
            arrived: true,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {}", self.last)?;
        for step in &self.path.0 {
            match step {
                Move::Until(Mark::Execute(addr), count) => write!(f, ", {addr} × {count}")?,
                Move::Until(Mark::Access(watch), count) => write!(f, ", access to {} × {count}", watch.addr)?,
                Move::Step(count) => write!(f, ", {count} steps")?,
                Move::Interrupted(_) => write!(f, ", interrupted")?,
            }
        }
        if self.arrived {
            write!(f, ", at the end of the interval")?;
        }
        Ok(())
    }
}

/// A session's knowledge of its place in the interval.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// The last named place.
    base: Path,
    /// Counts since that place.
    counts: BTreeMap<Mark, u64>,
    here: Here,
    /// True if the step that ends `base` has left the instruction at which it began.
    has_left: bool,
}

/// The way by which the task came to its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Here {
    /// The task is at the base.
    #[default]
    Base,
    /// This mark has just been counted.
    At(Mark),
    /// The task was stopped by the interrupt with this number.
    Nowhere(u64),
}

impl Progress {
    /// Returns whether a breakpoint at the task's place has been counted, or reached by a step. After
    /// an access it has not: the task may have reached the breakpoint by that very instruction (a turn
    /// of a `rep`).
    pub fn is_reported(&self) -> bool {
        match self.here {
            Here::Base => !self.base.is_empty(),
            Here::At(Mark::Execute(_)) => true,
            Here::At(Mark::Access(_)) | Here::Nowhere(_) => false,
        }
    }

    /// Counts a mark once.
    pub fn count(&mut self, mark: Mark) {
        *self.counts.entry(mark).or_default() += 1;
        self.here = Here::At(mark);
    }

    /// Sets the count of a mark since the base.
    pub fn set_counted(&mut self, mark: Mark, count: u64) {
        self.counts.insert(mark, count);
    }

    /// The place where the task was when this mark had just been counted for the n-th time.
    pub fn path_at(&self, mark: Mark, count: u64) -> Path {
        let mut there = self.clone();
        there.set_counted(mark, count);
        there.here = Here::At(mark);
        there.path()
    }

    /// The place of the interrupt with this number is now known by this path.
    pub fn rename(&mut self, number: u64, path: &Path) {
        if self.here == Here::Nowhere(number) {
            self.set_path(path.clone());
            return;
        }
        let found = self.base.0.iter().position(|m| *m == Move::Interrupted(number));
        if let Some(n) = found {
            let after = self.base.0.split_off(n + 1);
            self.base = path.clone();
            after.into_iter().for_each(|next| self.base.push(next));
        }
    }

    /// Count of a mark since the base.
    pub fn counted(&self, mark: Mark) -> u64 {
        self.counts.get(&mark).copied().unwrap_or(0)
    }

    /// The task was interrupted. Returns the number of this place, which has no name yet.
    pub fn interrupted(&mut self) -> u64 {
        static INTERRUPTS: AtomicU64 = AtomicU64::new(1);
        let number = INTERRUPTS.fetch_add(1, Ordering::Relaxed);
        self.here = Here::Nowhere(number);
        number
    }

    /// Notes that one instruction was executed. `left` is the instruction's address, if the task is not
    /// there again.
    pub fn stepped(&mut self, left: Option<Addr>) {
        self.commit();
        let from = match self.base.0.last() {
            Some(Move::Until(Mark::Execute(at), _)) => Some(*at),
            _ => None,
        };
        self.base.push(Move::Step(1));
        self.has_left = from.is_some() && from == left;
    }

    /// Makes the task's place the base, from which later counts begin.
    pub fn commit(&mut self) {
        match self.here {
            Here::Base => {}
            Here::At(mark) => {
                let count = self.counted(mark);
                self.append(mark, count);
            }
            Here::Nowhere(number) => self.base.push(Move::Interrupted(number)),
        }
        self.counts.clear();
        self.here = Here::Base;
    }

    /// Adds to the base. "A for the a-th time, a step away from there, A for the b-th time" becomes A
    /// for the (a+b)-th time.
    fn append(&mut self, mark: Mark, count: u64) {
        if self.has_left
            && let [.., Move::Until(same, before), Move::Step(1)] = &mut self.base.0[..]
            && *same == mark
        {
            *before += count;
            self.base.0.pop();
        } else {
            self.base.push(Move::Until(mark, count));
        }
        self.has_left = false;
    }

    /// The path of the task's place.
    pub fn path(&self) -> Path {
        let mut named = self.clone();
        named.commit();
        named.base
    }

    /// The task is at a place that is now known by this path.
    pub fn set_path(&mut self, path: Path) {
        *self = Progress {
            base: path,
            ..Progress::default()
        };
    }

    /// The rest of `path` from here, if the task has not passed its end, and if that can be told.
    pub fn remainder(&self, path: &Path) -> Option<Vec<Move>> {
        let mut rest = strip(&self.base.0, &path.0)?;
        if self.here == Here::Base {
            return Some(rest);
        }
        // All counted marks are counted from the base on.
        let Some(Move::Until(mark, count)) = rest.first_mut() else {
            return None;
        };
        *count = count.checked_sub(*self.counts.get(mark)?)?;
        if *count == 0 {
            if self.here != Here::At(*mark) {
                return None;
            }
            rest.remove(0);
        }
        Some(rest)
    }

    /// Returns whether the task's place, and the base of its counts, have names.
    pub fn is_named(&self) -> bool {
        let is_nameless = |m: &Move| matches!(m, Move::Interrupted(_));
        !matches!(self.here, Here::Nowhere(_)) && !self.base.0.iter().any(is_nameless)
    }

    /// Returns whether both have the same base, and fewer of these marks have been counted here than
    /// there.
    pub fn counts_less(&self, there: &Progress, marks: &[Mark]) -> bool {
        let is_less = |mark: &Mark| self.counted(*mark) < there.counted(*mark);
        let is_more = |mark: &Mark| self.counted(*mark) > there.counted(*mark);
        self.base == there.base && marks.iter().any(is_less) && !marks.iter().any(is_more)
    }

    /// The base, if none of these marks has been counted since.
    pub fn base_before(&self, marks: &[Mark]) -> Option<Path> {
        let is_counted = |mark: &Mark| self.counted(*mark) > 0;
        (!marks.iter().any(is_counted)).then(|| self.base.clone())
    }

    /// Starts to count a mark from now on.
    pub fn arm(&mut self, mark: Mark) {
        self.counts.entry(mark).or_default();
    }

    /// Returns whether a mark is counted.
    pub fn is_armed(&self, mark: Mark) -> bool {
        self.counts.contains_key(&mark)
    }

    /// Stops counting all marks except those to keep.
    pub fn disarm(&mut self, keep: impl Fn(Mark) -> bool) {
        if let Here::At(mark) = self.here
            && !keep(mark)
        {
            self.commit();
        }
        self.counts.retain(|mark, _| keep(*mark));
    }
}

/// The rest of `path` after `base`, which may end in the middle of one of its moves.
fn strip(base: &[Move], path: &[Move]) -> Option<Vec<Move>> {
    let Some((last, before)) = base.split_last() else {
        return Some(path.to_vec());
    };
    let rest = path.strip_prefix(before)?;
    let (first, after) = rest.split_first()?;
    let left = match (last, first) {
        (Move::Until(mark, done), Move::Until(same, count)) if mark == same => {
            Some(count.checked_sub(*done)?)
                .filter(|left| *left > 0)
                .map(|left| Move::Until(*mark, left))
        }
        (Move::Step(done), Move::Step(count)) => Some(count.checked_sub(*done)?)
            .filter(|left| *left > 0)
            .map(Move::Step),
        _ if last == first => None,
        _ => return None,
    };
    Some(left.into_iter().chain(after.iter().copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mark = Mark::Execute(Addr(0x1000));
    const B: Mark = Mark::Execute(Addr(0x2000));

    #[test]
    fn hits_are_counted_from_the_base() {
        let mut progress = Progress::default();
        progress.arm(A);
        progress.arm(B);
        progress.count(A);
        progress.count(B);
        progress.count(A);
        let path = progress.path();
        assert_eq!(path.0, [Move::Until(A, 2)]);
        // From there, three more and a step.
        let goal = Path(vec![Move::Until(A, 5), Move::Step(1)]);
        assert_eq!(
            progress.remainder(&goal).unwrap(),
            [Move::Until(A, 3), Move::Step(1)]
        );
        // The first of these moves is already behind.
        assert_eq!(progress.remainder(&Path(vec![Move::Until(B, 1)])), None);
        assert_eq!(progress.remainder(&Path(vec![Move::Until(A, 2)])), Some(vec![]));
    }

    #[test]
    fn continuing_from_a_breakpoint_again_and_again_is_one_move() {
        let mut progress = Progress::default();
        for _ in 0..3 {
            progress.arm(A);
            progress.count(A);
            // gdb removes its breakpoints, steps, and inserts them again.
            progress.disarm(|_| false);
            progress.stepped(Some(Addr(0x1000)));
        }
        progress.arm(A);
        progress.count(A);
        assert_eq!(progress.path().0, [Move::Until(A, 4)]);
    }

    #[test]
    fn a_jump_to_itself_is_not_taken_for_one_turn() {
        let mut progress = Progress::default();
        progress.arm(A);
        progress.count(A);
        progress.stepped(None);
        progress.arm(A);
        progress.count(A);
        assert_eq!(
            progress.path().0,
            [Move::Until(A, 1), Move::Step(1), Move::Until(A, 1)]
        );
    }

    #[test]
    fn a_breakpoint_that_an_access_has_led_to_is_still_to_be_counted() {
        let watch = rr_tracee::task::Watch {
            addr: Addr(0x3000),
            len: 8,
            kind: rr_tracee::task::WatchKind::Write,
        };
        let mut progress = Progress::default();
        progress.count(A);
        assert!(progress.is_reported());
        progress.count(Mark::Access(watch));
        assert!(!progress.is_reported());
    }

    #[test]
    fn an_interrupted_task_has_no_name() {
        let mut progress = Progress::default();
        progress.arm(A);
        progress.count(A);
        progress.interrupted();
        assert!(matches!(progress.path().0[..], [Move::Interrupted(_)]));
        assert!(!progress.is_reported());
        let goal = Path(vec![Move::Until(A, 3)]);
        assert_eq!(progress.remainder(&goal).unwrap(), [Move::Until(A, 2)]);
    }
}
