//! Breakpoints and watchpoints as the server sets them, and what the timeline makes of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use rr_replayer::timeline::{self, Stops};
use rr_tracee::task::WatchKind;
use rr_tracee::{Addr, AddrRange};

use crate::target::{Condition, PointKind, StopOptions, TargetError};

/// The end of a process's memory, with page tables of four levels.
const TOP: u64 = 0x7fff_ffff_f000;

type Conditions = Arc<Vec<Box<dyn Condition>>>;

/// All that is set.
#[derive(Debug, Default)]
pub(super) struct Points(BTreeMap<(PointKind, Addr, u64), Conditions>);

impl Points {
    /// Sets one, or the conditions of one that is set.
    pub fn insert(
        &mut self,
        kind: PointKind,
        addr: Addr,
        len: u64,
        conditions: Vec<Box<dyn Condition>>,
    ) -> Result<(), TargetError> {
        // The kernel takes no other address into a debug register (ptrace(2), `PTRACE_POKEUSER`).
        if watch_kind(kind).is_some() && addr.0.checked_add(len).is_none_or(|end| end > TOP) {
            return Err(TargetError::NoResources);
        }
        let key = (kind, addr, len);
        let former = self.0.insert(key, Arc::new(conditions));
        if watch_kind(kind).is_some() && self.stops(&StopOptions::default()).debug_registers().is_none() {
            match former {
                Some(former) => self.0.insert(key, former),
                None => self.0.remove(&key),
            };
            return Err(TargetError::NoResources);
        }
        Ok(())
    }

    /// Takes one away.
    pub fn remove(&mut self, kind: PointKind, addr: Addr, len: u64) {
        self.0.remove(&(kind, addr, len));
    }

    /// The stops of the timeline.
    pub fn stops(&self, options: &StopOptions) -> Stops {
        let mut stops = Stops {
            pass_signals: options.pass_signals.iter().copied().collect(),
            catch_syscalls: options
                .catch_syscalls
                .as_ref()
                .map(|numbers| numbers.iter().copied().collect()),
            forks: options.fork_events,
            vforks: options.vfork_events,
            execs: options.exec_events,
            ..Stops::default()
        };
        let mut unconditional = Vec::new();
        for ((kind, addr, len), conditions) in &self.0 {
            if let Some(kind) = watch_kind(*kind) {
                stops.watches.push((AddrRange::sized(*addr, *len), kind));
                continue;
            }
            if conditions.is_empty() {
                unconditional.push(*addr);
            }
            let list = stops.breakpoints.entry(*addr).or_default();
            list.extend((0..conditions.len()).map(|n| condition(Arc::clone(conditions), n)));
        }
        // Of two at one place, one without a condition stops always.
        for addr in unconditional {
            stops.breakpoints.insert(addr, Vec::new());
        }
        stops
    }

    /// The addresses of all breakpoints.
    pub fn breakpoints(&self) -> impl Iterator<Item = Addr> {
        let breakpoints = self.0.keys().filter(|(kind, ..)| watch_kind(*kind).is_none());
        breakpoints.map(|(_, addr, _)| *addr)
    }

    /// Says if the breakpoint at a place was asked for as a hardware breakpoint.
    pub fn is_hardware(&self, addr: Addr) -> bool {
        let at = |kind| self.0.keys().any(|(k, a, _)| *k == kind && *a == addr);
        at(PointKind::Hardware) && !at(PointKind::Software)
    }

    /// The kind that a watched place was asked for as.
    pub fn kind_of(&self, range: AddrRange, kind: WatchKind) -> PointKind {
        let same = |(k, addr, len): &&(PointKind, Addr, u64)| {
            watch_kind(*k) == Some(kind) && AddrRange::sized(*addr, *len) == range
        };
        self.0
            .keys()
            .find(same)
            .map_or(PointKind::Write, |(kind, ..)| *kind)
    }
}

fn condition(conditions: Conditions, n: usize) -> timeline::Condition {
    let program = conditions.get(n).and_then(|condition| condition.program());
    timeline::Condition::new(
        move |registers, read| conditions.get(n).is_none_or(|c| c.holds(registers, read)),
        program,
    )
}

/// The timeline's name for a kind of watching.
fn watch_kind(kind: PointKind) -> Option<WatchKind> {
    match kind {
        PointKind::Software | PointKind::Hardware => None,
        PointKind::Write => Some(WatchKind::Write),
        PointKind::Read | PointKind::Access => Some(WatchKind::Access),
    }
}
