//! Breakpoints of the debugger in one process, put into its code as `int3`.
//!
//! Keeps I8: breakpoints are part of the address space's [`CodeOverlay`], so neither the program nor a
//! reader of memory sees them. They belong only to the debugged process: other processes in its address
//! space pass over them. In a rewritten site, the program's instructions of the window are not executed
//! in place. A breakpoint on one of them is put at the beginning of the site, and the window is
//! executed by single steps.

mod set;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rr_trace::event::Event;
use rr_tracee::{Addr, Memory, Tid};

use crate::error::{Result, failed};
use crate::overlay::CodeOverlay;
use crate::own_code::sites_of;
use crate::passes::{remove_passes, stub_around};
use crate::point::remove_probe;
use crate::probe::{INT3, WhereTrue};
use crate::session::ReplaySession;

pub(crate) use set::{Breakpoints, Halting};

impl ReplaySession {
    /// Sets the debugged process, and the places where it stops before it executes the instruction.
    pub fn set_breakpoints(&mut self, process: Tid, wanted: BTreeSet<Addr>) -> Result<()> {
        let halting = wanted.into_iter().map(|addr| (addr, Vec::new()));
        set_counted(
            self,
            process,
            halting.collect(),
            WhereTrue::Stops,
            BTreeMap::new(),
        )
    }

    /// The addresses of the breakpoints.
    pub fn breakpoints(&self) -> &BTreeSet<Addr> {
        &self.stoppoints.breakpoints.wanted
    }
}

fn sync(
    overlay: &mut CodeOverlay,
    put: &mut BTreeSet<Addr>,
    wanted: &BTreeSet<Addr>,
    memory: &Memory,
) -> rr_tracee::Result<()> {
    for addr in put.difference(wanted).copied().collect::<Vec<_>>() {
        overlay.remove(memory, addr)?;
        put.remove(&addr);
    }
    for addr in wanted {
        // Nothing can be put where nothing is mapped (yet).
        if !put.contains(addr) && overlay.put(memory, *addr, &[INT3])? {
            put.insert(*addr);
        }
    }
    Ok(())
}

/// Same as [`ReplaySession::set_breakpoints`], and places that are counted without a stop.
pub(crate) fn set_counted(
    session: &mut ReplaySession,
    process: Tid,
    halting: Halting,
    where_true: WhereTrue,
    mut counted: BTreeMap<Addr, bool>,
) -> Result<()> {
    counted.retain(|addr, _| !halting.contains_key(addr));
    let wanted: BTreeSet<Addr> = halting.keys().chain(counted.keys()).copied().collect();
    let mut conditions = halting;
    conditions.retain(|_, programs| !programs.is_empty());
    let now = &session.stoppoints.breakpoints;
    let same = now.process == Some(process) && now.wanted == wanted;
    let same_conditions = now.conditions == conditions && now.where_true == where_true;
    if same && now.counted == counted && same_conditions && now.goal.is_none() {
        return Ok(());
    }
    if let Some(pending) = &session.interval.pending {
        let event = Arc::clone(&pending.event);
        remove_passes(session, &event)?;
        // A probe that is in the way of a breakpoint must be made anew.
        if !same {
            remove_probe(session, &event)?;
        }
    }
    session.stoppoints.breakpoints.counted = counted;
    session.stoppoints.breakpoints.conditions = conditions;
    session.stoppoints.breakpoints.where_true = where_true;
    session.stoppoints.breakpoints.goal = None;
    session.stoppoints.breakpoints.last = None;
    if same {
        return Ok(());
    }
    session.stoppoints.breakpoints.process = Some(process);
    session.stoppoints.breakpoints.wanted = wanted;
    session.stoppoints.breakpoints.stale = true;
    Ok(())
}

/// Returns whether the task may meet code that is not the program's.
pub(crate) fn has_foreign_code(session: &ReplaySession, tid: Tid) -> bool {
    let Some(task) = session.world.tasks.get(&tid) else {
        return false;
    };
    let patched = session
        .code
        .overlays
        .get(&task.space)
        .is_some_and(|o| !o.is_empty());
    patched
        || session.stoppoints.breakpoints.process == Some(task.tgid)
            && !session.stoppoints.breakpoints.wanted.is_empty()
}

/// Returns whether the task stops before it executes the instruction at `rip`.
pub(crate) fn is_breakpoint(session: &ReplaySession, tid: Tid, rip: Addr) -> bool {
    session.stoppoints.breakpoints.wanted.contains(&rip)
        && session.world.tasks.get(&tid).map(|t| t.tgid) == session.stoppoints.breakpoints.process
}

/// Returns whether the instruction at `rip` must be executed by a single step.
pub(crate) fn must_step(session: &ReplaySession, tid: Tid, rip: Addr) -> bool {
    let Some(space) = session.world.tasks.get(&tid).map(|t| t.space) else {
        return false;
    };
    let patched = session.code.overlays.get(&space).is_some_and(|o| o.has(rip));
    let site = session.code.sites.get(&space).and_then(|sites| sites.around(rip));
    patched && stub_around(session, rip).is_none() || site.is_some_and(|site| site.is_within(rip))
}

/// Puts the wanted breakpoints into the code of the event's task, and removes the others.
pub(crate) fn sync_breakpoints(session: &mut ReplaySession, event: &Event) -> Result<()> {
    let task = session.world.task(event)?;
    let (space, memory, tgid) = (task.space, task.memory(), task.tgid);
    if !session.stoppoints.breakpoints.stale || session.stoppoints.breakpoints.process != Some(tgid) {
        return Ok(());
    }
    sites_of(session, event);
    let sites = session.code.sites.get(&space);
    let wanted: BTreeSet<Addr> = session
        .stoppoints
        .breakpoints
        .wanted
        .iter()
        .flat_map(|addr| match sites.and_then(|s| s.around(*addr)) {
            Some(site) if site.is_within(*addr) => site.ways_to(*addr).collect(),
            _ => vec![*addr],
        })
        .collect();
    let overlay = session.code.overlays.entry(space).or_default();
    let put = session.stoppoints.breakpoints.put.entry(space).or_default();
    let synced = sync(overlay, put, &wanted, &memory);
    synced.map_err(|source| failed(event, source))?;
    session.stoppoints.breakpoints.stale = false;
    Ok(())
}
