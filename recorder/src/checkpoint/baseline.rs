//! Memory that has not changed since the last checkpoint, as far as the kernel can tell
//! ([`rr_tracee::pagemap::shared`]).
//!
//! Invariant: a [`Baseline`] stands for the capture that was submitted last, and its address space has
//! not been forked since, except for that capture itself. So a page that it now shares with another
//! process is unchanged since then, unless the page was moved there. Hence
//!
//! * a baseline is forgotten when the program forks ([`RecordSession::forget_baseline`]), when a call
//!   that moves pages fails midway, and when forks were made for a capture that was not submitted;
//! * the frozen fork of a large address space is *kept* after it was read, until the next capture,
//!   because the program shares its pages with that fork. The price is a copy of each page that the
//!   program writes to, which the program would otherwise pay only until the fork was read. So small
//!   address spaces are not kept, because they are read as fast, nor those whose memory had mostly
//!   changed the last time. Nothing is kept if the machine has no memory to spare. A kept fork can die
//!   at any time: then less is known.
//!
//! An address space that was read in place because all its tasks are blocked in the kernel is unchanged
//! as a whole (I3) until one of these tasks continues, however small it is.

use std::sync::OnceLock;

use rr_checkpoint::{Changes, SharedSource, Unchanged, is_forked};
use rr_trace::event::EventNumber;
use rr_tracee::pagemap::{Pagemap, shared};
use rr_tracee::procfs::MachineMemory;
use rr_tracee::{AddrRange, AddressSpace, SpaceId, SpaceOp, Tid};

use crate::checkpoint::capture::Capture;
use crate::world::task::State;

/// Minimum anonymous memory of an address space for which a frozen fork is kept.
const LEAST: u64 = 16 << 20;

/// Maximum number of moves that are remembered.
const MOVES: usize = 1000;

/// The last capture of an address space, while its changes since then can be told.
#[derive(Debug)]
pub(crate) struct Baseline {
    pub(crate) event: EventNumber,
    /// True if the space was read in place, and no task has continued since.
    pub(crate) rests: bool,
    /// Ranges that pages have been moved to since.
    pub(crate) moved: Vec<AddrRange>,
}

impl Baseline {
    /// Notes a change of the address space. Returns whether the baseline is still valid.
    pub fn follow(&mut self, op: &SpaceOp) -> bool {
        if let SpaceOp::Move { from, to, .. } = op {
            self.moved.push(AddrRange::sized(*to, from.len()));
        }
        self.moved.len() <= MOVES
    }

    /// Called when a task continues, or when the memory is written from outside.
    pub fn disturb(&mut self) {
        self.rests = false;
    }

    /// The memory that has not been written to since, in the address space of `tid`, which does not
    /// run.
    pub(crate) fn changes(&self, tid: Tid, model: &AddressSpace) -> rr_tracee::Result<Changes> {
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

/// [`LEAST`], which tests can lower so that forks of small programs are kept, too.
fn least() -> u64 {
    static LEAST_OF_TEST: OnceLock<Option<u64>> = OnceLock::new();
    let of_test =
        || cfg!(debug_assertions).then(|| std::env::var("RR_TEST_BASELINE_MIN").ok()?.parse().ok())?;
    LEAST_OF_TEST.get_or_init(of_test).unwrap_or(LEAST)
}

/// Keeps the frozen fork of this source alive if the benefit is worth the cost.
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
    // If the program writes to all of it, the memory is needed twice.
    if MachineMemory::now().is_some_and(|memory| memory.available / 2 >= bytes) {
        source.keep();
    }
}

impl Capture {
    /// Releases the kept forks of an address space: its changes are not needed any more.
    pub(crate) fn let_go(&mut self, space: SpaceId) {
        let kept = self.kept.remove(&space).unwrap_or_default();
        kept.iter().for_each(SharedSource::release);
    }

    pub(crate) fn let_all_go(&mut self) {
        let spaces: Vec<SpaceId> = self.kept.keys().copied().collect();
        spaces.into_iter().for_each(|space| self.let_go(space));
    }
}

/// A capture that becomes a baseline if it is submitted.
pub(crate) struct Captured {
    pub(crate) space: SpaceId,
    pub(crate) source: SharedSource,
    /// True if no task of the space can continue by itself.
    pub(crate) is_blocked: bool,
    pub(crate) is_fork: bool,
}

impl Captured {
    /// The source of an address space in a capture, made from its task `leader`.
    pub fn new(space: SpaceId, source: &SharedSource, leader: &State, is_fork: bool) -> Captured {
        Captured {
            space,
            source: source.clone(),
            is_blocked: matches!(leader, State::InKernel(_)),
            is_fork,
        }
    }

    /// Keeps the frozen fork if that is worth its cost.
    pub fn keep(&self, changes: &Changes) {
        keep_if_worth(&self.source, changes);
    }
}
