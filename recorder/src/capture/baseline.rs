//! What has not changed since the last checkpoint, as far as the kernel can tell ([`rr_tracee::pagemap::shared`]).
//!
//! Invariant: a [`Baseline`] stands for the capture that was submitted last, and its address space has not been forked since, except
//! for that capture itself. So a page that it shares with anybody now is as it was then, unless it was moved there. Hence
//!
//! * a baseline is forgotten when the program forks ([`RecordSession::forget_baseline`]), when a call that moves pages was not carried
//!   out to its end, and when forks were made for a capture that then was not submitted;
//! * the frozen fork of a large address space is *kept* when it is read, until the next capture: it is the one that the program
//!   shares its pages with. The program pays for that with a copy of each page that it writes to, which it would
//!   have paid for only until the fork was read. So it is not done for small address spaces, which are read as fast; nor where most
//!   of the memory had changed the last time, or where the machine has no memory to spare. A kept fork can die at any time: then less
//!   is known.
//!
//! An address space that was read in place, because all its tasks are blocked in the kernel, and none of which has gone on since, is
//! unchanged as a whole (I3), however small it is.

use std::sync::OnceLock;

use rr_checkpoint::{Changes, SharedSource, Unchanged, is_forked};
use rr_trace::event::EventNumber;
use rr_tracee::pagemap::{Pagemap, shared};
use rr_tracee::procfs::MachineMemory;
use rr_tracee::{AddrRange, AddressSpace, SpaceId, SpaceOp, Tid};

use super::Capture;
use crate::session::RecordSession;
use crate::task::{State, Task};

/// The least anonymous memory of an address space for which a frozen fork is kept.
const LEAST: u64 = 16 << 20;

/// Moves after which it is not worth remembering more.
const MOVES: usize = 1000;

/// The last capture of an address space, as long as it can be told what has changed since.
#[derive(Debug)]
pub(crate) struct Baseline {
    event: EventNumber,
    /// It was read in place, and no task has gone on since.
    rests: bool,
    /// Where pages have been moved to since.
    moved: Vec<AddrRange>,
}

impl Baseline {
    /// Takes notice of a change of the address space. Returns whether it still stands.
    pub fn follow(&mut self, op: &SpaceOp) -> bool {
        if let SpaceOp::Move { from, to, .. } = op {
            self.moved.push(AddrRange::sized(*to, from.len()));
        }
        self.moved.len() <= MOVES
    }

    /// A task goes on, or somebody else writes to the memory.
    pub fn disturb(&mut self) {
        self.rests = false;
    }

    /// What has not been written to since, in the address space of `tid`, which does not run.
    fn changes(&self, tid: Tid, model: &AddressSpace) -> rr_tracee::Result<Changes> {
        let pagemap = Pagemap::open(tid)?;
        let mut unchanged = Vec::new();
        for mapping in model.iter().filter(|m| is_forked(m)) {
            unchanged.extend(pagemap.shared(mapping.range)?);
        }
        if !shared::is_known() {
            return Ok(Changes::Unknown);
        }
        for moved in &self.moved {
            unchanged = unchanged
                .into_iter()
                .flat_map(|range| range.without([*moved].into_iter()))
                .collect();
        }
        let event = self.event;
        Ok(Changes::Since {
            event,
            unchanged: Unchanged::Pages(unchanged),
        })
    }
}

/// [`LEAST`], but for tests: they let forks of small programs be kept, too.
fn least() -> u64 {
    static LEAST_OF_TEST: OnceLock<Option<u64>> = OnceLock::new();
    let of_test =
        || cfg!(debug_assertions).then(|| std::env::var("RR_TEST_BASELINE_MIN").ok()?.parse().ok())?;
    LEAST_OF_TEST.get_or_init(of_test).unwrap_or(LEAST)
}

/// Lets the frozen fork of this source live on if that is worth what it costs.
fn keep_if_worth(source: &SharedSource, changes: &Changes) {
    let bytes = source.anonymous_bytes();
    let is_mostly_changed = match changes {
        Changes::Since {
            unchanged: Unchanged::Pages(pages),
            ..
        } => pages.iter().map(|range| range.len()).sum::<u64>() < bytes / 2,
        _ => false,
    };
    if bytes < least() || (is_mostly_changed && least() > 0) || !shared::is_known() {
        return;
    }
    // If the program writes to all of it, there is twice as much.
    if MachineMemory::now().is_some_and(|memory| memory.available / 2 >= bytes) {
        source.keep();
    }
}

impl Capture {
    /// Nobody wants to know any more what of this address space has changed.
    pub(crate) fn let_go(&mut self, space: SpaceId) {
        let kept = self.kept.remove(&space).unwrap_or_default();
        kept.iter().for_each(SharedSource::release);
    }

    pub(super) fn let_all_go(&mut self) {
        let spaces: Vec<SpaceId> = self.kept.keys().copied().collect();
        spaces.into_iter().for_each(|space| self.let_go(space));
    }
}

/// What a capture will be the baseline of, if it is submitted.
pub(super) struct Captured {
    space: SpaceId,
    source: SharedSource,
    /// No task of it can go on by itself.
    is_blocked: bool,
    is_fork: bool,
}

impl Captured {
    /// The source of an address space in a capture, made of its task `leader`.
    pub fn new(space: SpaceId, source: &SharedSource, leader: &State, is_fork: bool) -> Captured {
        Captured {
            space,
            source: source.clone(),
            is_blocked: matches!(leader, State::InKernel(_)),
            is_fork,
        }
    }

    /// Keeps its frozen fork if that is worth it.
    pub fn keep(&self, changes: &Changes) {
        keep_if_worth(&self.source, changes);
    }
}

impl RecordSession {
    /// The address space of a task is forked, or pages are moved in it, one does not know where to.
    pub(crate) fn forget_baseline(&mut self, tid: Tid) {
        let space = self.tasks.get(&tid).map(|t| t.space);
        if let Some(space) = space.and_then(|id| self.spaces.get_mut(&id)) {
            space.baseline = None;
        }
    }

    /// What has not changed in an address space since it was captured last. `leader` is one of its tasks, a stopped one if there is
    /// one. The baseline is gone: the space is about to be forked, and whether that will be for a capture that is submitted is
    /// not known yet. (The capture may end with an error: a process was killed.)
    pub(super) fn changes(&mut self, id: SpaceId, leader: Tid) -> Changes {
        let baseline = self.spaces.get_mut(&id).and_then(|space| space.baseline.take());
        let (Some(baseline), Some(space)) = (baseline, self.spaces.get(&id)) else {
            return Changes::Unknown;
        };
        let is_blocked = |task: &Task| matches!(task.state, State::InKernel(_));
        if baseline.rests && self.tasks.get(&leader).is_some_and(is_blocked) {
            return Changes::Since {
                event: baseline.event,
                unchanged: Unchanged::All,
            };
        }
        let kept = self.capture.kept.get(&id);
        if !kept.is_some_and(|kept| kept.iter().any(SharedSource::is_kept)) {
            return Changes::Unknown;
        }
        // A task that was killed meanwhile has no memory: the capture will notice.
        baseline.changes(leader, &space.model).unwrap_or_default()
    }

    /// A capture at `event` was submitted.
    pub(super) fn set_baselines(&mut self, event: EventNumber, captured: Vec<Captured>) {
        for captured in captured {
            if captured.is_fork {
                self.capture.let_go(captured.space);
            }
            let kept = self.capture.kept.entry(captured.space).or_default();
            kept.push(captured.source);
            kept.retain(SharedSource::is_kept);
            self.space_mut(captured.space).baseline = Some(Baseline {
                event,
                rests: captured.is_blocked && !captured.is_fork,
                moved: Vec::new(),
            });
        }
    }
}
