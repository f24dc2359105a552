//! The stops of the debugged process, and their reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rr_trace::event::{Disposition, Event, EventKind, EventNumber, TaskOp};
use rr_tracee::task::{WATCHES, Watch, WatchKind};
use rr_tracee::{Addr, AddrRange, Registers, Tid};

use crate::condition::Program;
use crate::drive::{hit_watches, set_stops};
use crate::error::Result;
use crate::halt::Halt;
use crate::session::ReplaySession;

/// Decides by the registers, and by memory that it reads.
type Holds = dyn Fn(&Registers, &mut dyn FnMut(Addr, &mut [u8]) -> bool) -> bool + Send + Sync;

/// Decides if a breakpoint stops the program.
pub struct Condition {
    holds: Box<Holds>,
    program: Option<Arc<Program>>,
}

impl Condition {
    /// A condition that `holds` decides. If `program` is false, `holds` must be false, too: then it
    /// need not be asked.
    pub fn new(
        holds: impl Fn(&Registers, &mut dyn FnMut(Addr, &mut [u8]) -> bool) -> bool + Send + Sync + 'static,
        program: Option<Arc<Program>>,
    ) -> Condition {
        Condition {
            holds: Box::new(holds),
            program,
        }
    }
}

/// The parts of a breakpoint's conditions that a task can evaluate: empty unless it can evaluate all of
/// them.
pub(super) fn programs(conditions: &[Condition]) -> Vec<Arc<Program>> {
    let all = conditions.iter().map(|condition| condition.program.clone());
    all.collect::<Option<_>>().unwrap_or_default()
}

/// The reason why the debugged process has stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The process is about to execute an instruction with a breakpoint.
    Breakpoint {
        /// The thread.
        tid: Tid,
        /// The place.
        addr: Addr,
    },
    /// A watched place was accessed, or changed by an event. (When going back, it is about to be.)
    Watchpoint {
        /// The thread.
        tid: Tid,
        /// The watched place.
        range: AddrRange,
        /// The accesses that are watched.
        kind: WatchKind,
    },
    /// The thread has made its step.
    Stepped {
        /// The thread.
        tid: Tid,
    },
    /// A signal is about to be delivered.
    Signal {
        /// The thread.
        tid: Tid,
        /// Its number.
        signo: i32,
    },
    /// A system call is about to be made, or has returned.
    Syscall {
        /// The thread.
        tid: Tid,
        /// Its number.
        number: i64,
        /// True before the call, false after it.
        entry: bool,
    },
    /// The process forked.
    Forked {
        /// The thread.
        tid: Tid,
        /// The new process.
        child: Tid,
        /// True for vfork(2).
        vfork: bool,
    },
    /// The process executes another program.
    Executed {
        /// The thread.
        tid: Tid,
        /// The program.
        path: String,
    },
    /// The user has interrupted the process.
    Interrupted,
    /// The last thread of the process is about to exit.
    Exiting {
        /// The thread.
        tid: Tid,
    },
    /// The process is gone. The status is as in wait(2).
    Exited {
        /// The status.
        status: i32,
    },
    /// The beginning of the process's history: nothing before its first event can be debugged.
    HistoryBegin,
    /// The trace ends, or the last wanted event ([`Stops::until`]) has happened, while the process is
    /// alive.
    HistoryEnd,
}

/// The stops of the process besides the end of a step.
#[derive(Default)]
pub struct Stops {
    /// Breakpoints. They stop without a condition, or if one of the conditions holds.
    pub breakpoints: BTreeMap<Addr, Vec<Condition>>,
    /// Watched places.
    pub watches: Vec<(AddrRange, WatchKind)>,
    /// Signals that are passed without a stop.
    pub pass_signals: BTreeSet<i32>,
    /// System calls that stop the process: an empty set means all.
    pub catch_syscalls: Option<BTreeSet<i64>>,
    /// True if fork stops the process.
    pub forks: bool,
    /// True if vfork stops the process.
    pub vforks: bool,
    /// True if exec stops the process.
    pub execs: bool,
    /// The last event when going forwards.
    pub until: Option<EventNumber>,
}

impl std::fmt::Debug for Stops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stops")
            .field("breakpoints", &self.breakpoints.keys())
            .field("watches", &self.watches)
            .finish_non_exhaustive()
    }
}

/// The aligned pieces of a place that debug registers can watch.
fn pieces(range: AddrRange, kind: WatchKind) -> Vec<Watch> {
    let mut pieces = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let left = range.end - at;
        let len = [8u64, 4, 2, 1]
            .into_iter()
            .find(|len| at.0.is_multiple_of(*len) && *len <= left)
            .unwrap_or(1);
        pieces.push(Watch {
            addr: at,
            len: len as u8,
            kind,
        });
        at = at + len;
    }
    pieces
}

impl Stops {
    /// The debug registers for all watched places. `None` if there are not enough.
    pub fn debug_registers(&self) -> Option<Vec<Watch>> {
        let mut all = Vec::new();
        for (range, kind) in &self.watches {
            // Longer places always need too many.
            if range.len() > 8 * WATCHES as u64 {
                return None;
            }
            for piece in pieces(*range, *kind) {
                if !all.contains(&piece) {
                    all.push(piece);
                }
            }
        }
        (all.len() <= WATCHES).then_some(all)
    }

    /// The watched place of a debug register.
    fn place_of(&self, watch: Watch) -> Option<(AddrRange, WatchKind)> {
        let belongs =
            |(range, kind): &&(AddrRange, WatchKind)| *kind == watch.kind && range.contains(watch.addr);
        self.watches.iter().find(belongs).copied()
    }

    /// Arms all of these stops in a session.
    pub(crate) fn arm(&self, session: &mut ReplaySession, process: Tid) -> Result<()> {
        let breakpoints = self.breakpoints.iter();
        let breakpoints = breakpoints.map(|(addr, conditions)| (*addr, programs(conditions)));
        let breakpoints = breakpoints.collect();
        let watches = self.debug_registers().unwrap_or_default();
        set_stops(session, process, breakpoints, watches)
    }

    /// The stop for a halt inside an interval, if the halt stops the process.
    pub(crate) fn at_halt(
        &self,
        session: &mut ReplaySession,
        process: Tid,
        tid: Tid,
        halt: Halt,
    ) -> Option<Stop> {
        if session.process_of(tid) != Some(process) {
            return None;
        }
        match halt {
            Halt::Breakpoint(addr) => self
                .holds(session, tid, addr)
                .then_some(Stop::Breakpoint { tid, addr }),
            Halt::Watchpoint(hits) => {
                let mut hit = hit_watches(session, hits);
                let (range, kind) = hit.find_map(|(_, watch)| self.place_of(watch))?;
                Some(Stop::Watchpoint { tid, range, kind })
            }
            Halt::Arrived | Halt::Stepped | Halt::Interrupted => None,
        }
    }

    /// Returns whether a breakpoint at `addr` has conditions that stop the thread there.
    pub(crate) fn holds(&self, session: &mut ReplaySession, tid: Tid, addr: Addr) -> bool {
        let Some(conditions) = self.breakpoints.get(&addr) else {
            return false;
        };
        let Some(regs) = session.registers(tid) else {
            return true;
        };
        let mut read = |addr: Addr, buf: &mut [u8]| session.read_memory(tid, addr, buf) == buf.len();
        conditions.is_empty()
            || conditions
                .iter()
                .any(|condition| (condition.holds)(&regs, &mut read))
    }

    /// The stop of a process whose task has arrived at an event, before the event is applied.
    pub(crate) fn before(&self, session: &ReplaySession, process: Tid, event: &Event) -> Option<Stop> {
        let tid = event.tid;
        if session.process_of(tid) != Some(process) {
            return None;
        }
        match &event.kind {
            EventKind::Signal { signo, .. } if !self.pass_signals.contains(signo) => {
                Some(Stop::Signal { tid, signo: *signo })
            }
            EventKind::SyscallEnter { entry }
            | EventKind::Syscall {
                entry: Some(entry), ..
            } => self.catches(entry.syscall()).then(|| Stop::Syscall {
                tid,
                number: entry.syscall(),
                entry: true,
            }),
            EventKind::Exit { .. } if session.threads_of(process) == [tid] => Some(Stop::Exiting { tid }),
            _ => None,
        }
    }

    fn catches(&self, number: i64) -> bool {
        let caught = self.catch_syscalls.as_ref();
        caught.is_some_and(|numbers| numbers.is_empty() || numbers.contains(&number))
    }

    /// The stop of a process after an event. `number` is the system call that the task was in before.
    pub(crate) fn after(&self, process: Tid, event: &Event, number: Option<i64>) -> Option<Stop> {
        let tid = event.tid;
        let EventKind::Syscall { task, .. } = &event.kind else {
            return None;
        };
        match task {
            Some(TaskOp::Clone(info)) if info.tgid != process => {
                let vfork = info.flags & libc::CLONE_VFORK as u64 != 0;
                let wanted = if vfork { self.vforks } else { self.forks };
                let child = info.tgid;
                wanted.then_some(Stop::Forked { tid, child, vfork })
            }
            Some(TaskOp::Exec(info)) => self.execs.then(|| Stop::Executed {
                tid: info.tid,
                path: info.path.clone(),
            }),
            _ => {
                let number = number.filter(|number| self.catches(*number))?;
                let entry = false;
                Some(Stop::Syscall { tid, number, entry })
            }
        }
    }

    /// The first watched place whose value has changed. A place that could not be read before, or
    /// cannot be now, has not been accessed: it was mapped, or belongs to another program.
    pub(crate) fn changed(
        &self,
        session: &ReplaySession,
        before: &[Option<Vec<u8>>],
    ) -> Option<(AddrRange, WatchKind)> {
        let now = session.watched_values();
        let differs = |n: &usize| match (before.get(*n), &now[*n]) {
            (Some(Some(old)), Some(new)) => old != new,
            _ => false,
        };
        let n = (0..now.len()).find(differs)?;
        self.place_of(*session.watches().get(n)?)
    }
}

/// Returns whether an event completes one step of the program.
pub(crate) fn is_step(kind: &EventKind) -> bool {
    match kind {
        EventKind::Syscall { .. } => true,
        EventKind::Trap { .. } => !kind.is_page_fault(),
        EventKind::Signal { disposition, .. } => *disposition == Disposition::Handler,
        EventKind::Start { .. }
        | EventKind::SyscallEnter { .. }
        | EventKind::Restart { .. }
        | EventKind::SetRegisters { .. }
        | EventKind::Point { .. }
        | EventKind::Exit { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(start: u64, len: u64) -> Vec<(u64, u8)> {
        let range = AddrRange::sized(Addr(start), len);
        let pieces = pieces(range, WatchKind::Write);
        pieces.iter().map(|p| (p.addr.0, p.len)).collect()
    }

    #[test]
    fn places_are_watched_in_aligned_pieces() {
        assert_eq!(lens(0x1000, 8), [(0x1000, 8)]);
        assert_eq!(lens(0x1001, 4), [(0x1001, 1), (0x1002, 2), (0x1004, 1)]);
        assert_eq!(lens(0x1004, 8), [(0x1004, 4), (0x1008, 4)]);
    }

    #[test]
    fn there_are_four_registers() {
        let watch = |n: u64| (AddrRange::sized(Addr(0x1000 + 16 * n), 8), WatchKind::Write);
        let stops = |n| Stops {
            watches: (0..n).map(watch).collect(),
            ..Stops::default()
        };
        assert_eq!(stops(4).debug_registers().map(|r| r.len()), Some(4));
        assert_eq!(stops(5).debug_registers(), None);
    }
}
