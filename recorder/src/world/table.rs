//! The table of all tasks.
//!
//! With a thousand tasks rr cannot look at all of them at each event. So the answers needed at each
//! event (which tasks can run, are dying, or share an address space) are stored beside the tasks, and
//! updated for those that have changed since. Invariant: a task can only be changed through this table,
//! which notes that. So the stored answers are never older than the tasks.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;

use rr_tracee::{SpaceId, Stop, Tid};

use crate::world::task::{State, Task};

/// The tasks, by tid.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    all: BTreeMap<Tid, Task>,
    known: RefCell<Known>,
}

/// Stored answers about all tasks.
#[derive(Debug, Default)]
struct Known {
    /// The tasks that were added, removed, or open to changes. (A task can be listed more than once.)
    changed: Vec<Tid>,
    facts: HashMap<Tid, Facts>,
    dying: BTreeSet<Tid>,
    /// The processes in each address space, with their numbers of threads.
    homes: BTreeMap<SpaceId, BTreeMap<Tid, usize>>,
    /// Tasks that have become able or unable to run since the scheduler was last told.
    news: Vec<(Tid, bool)>,
}

/// Stored answers about one task.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Facts {
    is_runnable: bool,
    is_dying: bool,
    /// The task's address space and process.
    home: Option<(SpaceId, Tid)>,
}

impl Facts {
    fn of(task: &Task) -> Facts {
        Facts {
            is_runnable: task.is_runnable(),
            is_dying: matches!(task.state, State::Reported(_, Stop::Exiting))
                && !task.is_stopped_for_tracer(),
            home: (!task.life.exited).then_some((task.space, task.tgid)),
        }
    }
}

impl Known {
    fn note(&mut self, tid: Tid) {
        if self.changed.last() != Some(&tid) {
            self.changed.push(tid);
        }
    }

    /// Updates the answers for changed tasks.
    fn follow(&mut self, all: &BTreeMap<Tid, Task>) {
        while let Some(tid) = self.changed.pop() {
            let now = all.get(&tid).map(Facts::of);
            let before = match now {
                Some(facts) => self.facts.insert(tid, facts),
                None => self.facts.remove(&tid),
            };
            let (before, now) = (before.unwrap_or_default(), now.unwrap_or_default());
            if before.is_runnable != now.is_runnable {
                self.news.push((tid, now.is_runnable));
            }
            if now.is_dying {
                self.dying.insert(tid);
            } else if before.is_dying {
                self.dying.remove(&tid);
            }
            if before.home != now.home {
                self.move_home(before.home, now.home);
            }
        }
    }

    fn move_home(&mut self, from: Option<(SpaceId, Tid)>, to: Option<(SpaceId, Tid)>) {
        if let Some((space, tgid)) = from
            && let Some(processes) = self.homes.get_mut(&space)
            && let Some(threads) = processes.get_mut(&tgid)
        {
            *threads -= 1;
            if *threads == 0 {
                processes.remove(&tgid);
            }
            if processes.is_empty() {
                self.homes.remove(&space);
            }
        }
        if let Some((space, tgid)) = to {
            *self.homes.entry(space).or_default().entry(tgid).or_default() += 1;
        }
    }
}

impl Tasks {
    /// A task that may be changed.
    pub fn get_mut(&mut self, tid: &Tid) -> Option<&mut Task> {
        let task = self.all.get_mut(tid)?;
        self.known.get_mut().note(*tid);
        Some(task)
    }

    /// All tasks for which this is true. They may be changed.
    pub fn matching_mut(&mut self, is_meant: impl Fn(&Task) -> bool) -> impl Iterator<Item = &mut Task> {
        let known = self.known.get_mut();
        let meant = self.all.values_mut().filter(move |task| is_meant(task));
        meant.inspect(|task| known.note(task.tid))
    }

    /// Adds or replaces a task.
    pub fn insert(&mut self, tid: Tid, task: Task) {
        self.known.get_mut().note(tid);
        self.all.insert(tid, task);
    }

    /// Removes a task.
    pub fn remove(&mut self, tid: &Tid) -> Option<Task> {
        self.known.get_mut().note(*tid);
        self.all.remove(tid)
    }

    /// The tasks that have become able (or unable) to run since the last call.
    pub fn take_news(&mut self) -> Vec<(Tid, bool)> {
        let known = self.known.get_mut();
        known.follow(&self.all);
        std::mem::take(&mut known.news)
    }

    /// A task that stands at its end.
    pub fn dying(&self) -> Option<Tid> {
        let mut known = self.known.borrow_mut();
        known.follow(&self.all);
        known.dying.first().copied()
    }

    /// Returns whether a process other than `tgid` lives in an address space.
    pub fn share(&self, space: SpaceId, tgid: Tid) -> bool {
        let mut known = self.known.borrow_mut();
        known.follow(&self.all);
        let mut processes = known.homes.get(&space).into_iter().flat_map(BTreeMap::keys);
        processes.any(|process| *process != tgid)
    }

    /// Returns whether any task lives in an address space.
    pub fn is_inhabited(&self, space: SpaceId) -> bool {
        let mut known = self.known.borrow_mut();
        known.follow(&self.all);
        known.homes.contains_key(&space)
    }
}

impl Deref for Tasks {
    type Target = BTreeMap<Tid, Task>;

    fn deref(&self) -> &BTreeMap<Tid, Task> {
        &self.all
    }
}
