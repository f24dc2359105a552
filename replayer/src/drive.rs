//! Drives a session in single halts instead of whole events, and always knows the position.
//!
//! The timeline uses this. Invariant: the position is exact ([`crate::position`]); whatever a call
//! returns, every task is stopped and can be read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rr_trace::event::{Event, EventNumber};
use rr_tracee::memory::ReadMemory;
use rr_tracee::task::Watch;
use rr_tracee::ticker::take_tick;
use rr_tracee::{Addr, AddressSpace, ExtendedState, Tid, rr_area};

use crate::breakpoints::{Halting, set_counted};
use crate::error::Result;
use crate::halt::{Halt, Pace};
use crate::interrupt::Interrupt;
use crate::marks::{arm_marks, marks};
use crate::passes::{LastPass, remake_goal};
use crate::place::Goal;
use crate::position::{Mark, Path, Position};
use crate::probe::WhereTrue;
use crate::run::advance;
use crate::session::ReplaySession;

impl ReplaySession {
    /// The position of the replay.
    pub fn position(&self) -> Position {
        let arrived = self.interval.has_arrived();
        Position {
            last: self.events.last,
            path: match arrived {
                true => Path::default(),
                false => self.interval.progress.path(),
            },
            arrived,
        }
    }

    /// The next event, without replaying it; `None` at the end of the trace.
    pub fn next_event(&mut self) -> Result<Option<Arc<Event>>> {
        self.fetch()?;
        Ok(self.interval.pending.as_ref().map(|p| Arc::clone(&p.event)))
    }

    /// The recorded tids of the tasks of a process, in order.
    pub fn threads_of(&self, process: Tid) -> Vec<Tid> {
        let tasks = self.world.tasks.values().filter(|t| t.tgid == process);
        tasks.map(|t| t.tid).collect()
    }

    /// The program that a task executes.
    pub fn program_of(&self, tid: Tid) -> Option<&str> {
        self.world.tasks.get(&tid).map(|t| &*t.exe)
    }

    /// The name of a task as the kernel would show it: a name that it was given, or that of its
    /// program.
    pub fn name_of(&self, tid: Tid) -> Option<String> {
        let task = self.world.tasks.get(&tid)?;
        let program = || {
            let base = task.exe.rsplit('/').next().unwrap_or(&task.exe);
            base.chars().take(15).collect()
        };
        Some(task.name.clone().unwrap_or_else(program))
    }

    /// Extended state of a task.
    pub fn extended_state(&self, tid: Tid) -> Option<ExtendedState> {
        self.world.tasks.get(&tid)?.xstate().ok()
    }

    /// The number of the system call that a task is in.
    pub fn system_call_of(&self, tid: Tid) -> Option<i64> {
        let task = self.world.tasks.get(&tid).filter(|t| t.in_syscall)?;
        task.regs().ok().map(|regs| regs.syscall())
    }

    /// The address space of a task.
    pub fn space_of(&self, tid: Tid) -> Option<&AddressSpace> {
        self.world.spaces.get(&self.world.tasks.get(&tid)?.space)
    }

    /// Reads memory as the program sees it, from `addr` on. Returns the number of bytes that could be
    /// read.
    pub fn read_memory(&mut self, tid: Tid, addr: Addr, buf: &mut [u8]) -> usize {
        let Some(task) = self.world.tasks.get(&tid) else {
            return 0;
        };
        let (memory, space) = (task.memory(), task.space);
        let mut got = memory.read_some(addr, buf).unwrap_or(0);
        if got < buf.len() {
            // Protected pages can be read, too, page by page.
            while got < buf.len() {
                let at = addr + got as u64;
                let len = ((at.page_floor() + rr_tracee::ids::PAGE) - at).min((buf.len() - got) as u64);
                if memory.read(at, &mut buf[got..got + len as usize]).is_err() {
                    break;
                }
                got += len as usize;
            }
        }
        let buf = &mut buf[..got];
        if let Some(overlay) = self.code.overlays.get(&space) {
            overlay.mask(addr, buf);
        }
        if rr_area::area().contains(addr) {
            return got;
        }
        if let Some(model) = self.world.spaces.get(&space) {
            let (reader, overlay) = (
                (&*self.events.reader, &*self.world.backings.family),
                self.code.overlays.get(&space),
            );
            let sites = self
                .code
                .sites
                .entry(space)
                .or_insert_with(|| crate::sites::Sites::of(model, &memory, overlay, reader));
            sites.mask(addr, buf);
        }
        got
    }

    /// Time at which the last event was recorded, in nanoseconds since the recording began.
    pub fn time_ns(&self) -> u64 {
        self.events.time_ns
    }

    /// The last event of the trace.
    pub fn end(&self) -> EventNumber {
        self.events.reader.last_event()
    }
}

/// Lets the next event's task run on. At the end of the trace this does nothing and reports
/// arrival.
///
/// A caller that steps, or halts again and again, is interrupted between two calls: the task stays
/// in place.
pub(crate) fn proceed(
    session: &mut ReplaySession,
    pace: Pace,
    interrupt: &mut dyn Interrupt,
) -> Result<Halt> {
    if !session.fetch()? {
        return Ok(Halt::Arrived);
    }
    if take_tick() && interrupt.is_requested() {
        return Ok(Halt::Interrupted);
    }
    let before = match (&session.interval.pending, pace) {
        (Some(pending), Pace::Step) => session.registers(pending.event.tid).map(|r| r.rip),
        _ => None,
    };
    let halt = advance(session, pace, session.interval.progress.is_reported(), interrupt)?;
    match halt {
        Halt::Stepped => has_stepped(session, before),
        Halt::Watchpoint(_) if pace == Pace::Step => has_stepped(session, before),
        Halt::Watchpoint(hits) => {
            for (_, watch) in hit_watches(session, hits).rev() {
                session.interval.progress.count(Mark::Access(watch));
            }
        }
        Halt::Breakpoint(addr) => session.interval.progress.count(Mark::Execute(addr)),
        Halt::Interrupted => {
            session.interval.progress.interrupted();
        }
        Halt::Arrived => {}
    }
    Ok(halt)
}

/// The watched places whose bits are set, with their numbers.
pub(crate) fn hit_watches(
    session: &ReplaySession,
    hits: u8,
) -> impl DoubleEndedIterator<Item = (usize, Watch)> + use<> {
    let watches = session.watches().to_vec();
    let numbered = watches.into_iter().enumerate();
    numbered.filter(move |(n, _)| hits & 1 << n != 0)
}

fn has_stepped(session: &mut ReplaySession, before: Option<u64>) {
    let tid = session.interval.pending.as_ref().map(|p| p.event.tid);
    let after = tid.and_then(|tid| session.registers(tid)).map(|r| r.rip);
    session
        .interval
        .progress
        .stepped(before.filter(|before| after != Some(*before)).map(Addr));
    arm_marks(session);
}

/// Sets the stops of the debugged process. The position stays exact.
pub(crate) fn set_stops(
    session: &mut ReplaySession,
    process: Tid,
    breakpoints: Halting,
    watches: Vec<Watch>,
) -> Result<()> {
    let where_true = WhereTrue::Stops;
    set_counting_stops(
        session,
        process,
        breakpoints,
        where_true,
        watches,
        BTreeMap::new(),
    )
}

/// Same as [`set_stops`], and places that are counted without a stop (`true`: the
/// last pass is noted).
pub(crate) fn set_counting_stops(
    session: &mut ReplaySession,
    process: Tid,
    breakpoints: Halting,
    where_true: WhereTrue,
    watches: Vec<Watch>,
    counted: BTreeMap<Addr, bool>,
) -> Result<()> {
    set_counted(session, process, breakpoints, where_true, counted)?;
    session.set_watches(process, watches);
    let wanted: BTreeSet<Mark> = marks(session).collect();
    session.interval.progress.disarm(|mark| wanted.contains(&mark));
    if wanted
        .iter()
        .any(|mark| !session.interval.progress.is_armed(*mark))
    {
        session.interval.progress.commit();
        arm_marks(session);
    }
    Ok(())
}

/// Sets the end of the counting, which causes a halt. An existing stub from a live checkpoint does
/// not know the goal, and is made anew.
pub(crate) fn set_goal(session: &mut ReplaySession, goal: Goal) -> Result<()> {
    if let Some(pending) = &session.interval.pending
        && session.stoppoints.breakpoints.passes.has(goal.addr())
    {
        let event = Arc::clone(&pending.event);
        remake_goal(session, &event, goal.addr())?;
    }
    session.stoppoints.breakpoints.goal = Some(goal);
    Ok(())
}

/// The last pass, since the last call, of a breakpoint that is only counted, if it is noted.
pub(crate) fn take_last_pass(session: &mut ReplaySession) -> Option<LastPass> {
    session.stoppoints.breakpoints.last.take()
}
