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
use rr_tracee::digest::ALL;
use rr_tracee::{Addr, AddrRange, Memory, Prot, SpaceId, SpaceOp, Tid};

use crate::error::{Result, failed};
use crate::overlay::CodeOverlay;
use crate::probe::{INT3, WhereTrue};
use crate::session::ReplaySession;
use crate::sites::Sites;

pub(crate) use set::{Breakpoints, Halting};

impl ReplaySession {
    /// Sets the debugged process, and the places where it stops before it executes the instruction.
    pub fn set_breakpoints(&mut self, process: Tid, wanted: BTreeSet<Addr>) -> Result<()> {
        let halting = wanted.into_iter().map(|addr| (addr, Vec::new()));
        self.set_counted(process, halting.collect(), WhereTrue::Stops, BTreeMap::new())
    }

    /// Same as [`ReplaySession::set_breakpoints`], and places that are counted without a stop.
    pub(crate) fn set_counted(
        &mut self,
        process: Tid,
        halting: Halting,
        where_true: WhereTrue,
        mut counted: BTreeMap<Addr, bool>,
    ) -> Result<()> {
        counted.retain(|addr, _| !halting.contains_key(addr));
        let wanted: BTreeSet<Addr> = halting.keys().chain(counted.keys()).copied().collect();
        let mut conditions = halting;
        conditions.retain(|_, programs| !programs.is_empty());
        let now = &self.stoppoints.breakpoints;
        let same = now.process == Some(process) && now.wanted == wanted;
        let same_conditions = now.conditions == conditions && now.where_true == where_true;
        if same && now.counted == counted && same_conditions && now.goal.is_none() {
            return Ok(());
        }
        if let Some(pending) = &self.interval.pending {
            let event = Arc::clone(&pending.event);
            self.remove_passes(&event)?;
            // A probe that is in the way of a breakpoint must be made anew.
            if !same {
                self.remove_probe(&event)?;
            }
        }
        self.stoppoints.breakpoints.counted = counted;
        self.stoppoints.breakpoints.conditions = conditions;
        self.stoppoints.breakpoints.where_true = where_true;
        self.stoppoints.breakpoints.goal = None;
        self.stoppoints.breakpoints.last = None;
        if same {
            return Ok(());
        }
        self.stoppoints.breakpoints.process = Some(process);
        self.stoppoints.breakpoints.wanted = wanted;
        self.stoppoints.breakpoints.stale = true;
        Ok(())
    }

    /// The addresses of the breakpoints.
    pub fn breakpoints(&self) -> &BTreeSet<Addr> {
        &self.stoppoints.breakpoints.wanted
    }

    /// Returns whether the task may meet code that is not the program's.
    pub(crate) fn has_foreign_code(&self, tid: Tid) -> bool {
        let Some(task) = self.world.tasks.get(&tid) else {
            return false;
        };
        let patched = self.code.overlays.get(&task.space).is_some_and(|o| !o.is_empty());
        patched
            || self.stoppoints.breakpoints.process == Some(task.tgid)
                && !self.stoppoints.breakpoints.wanted.is_empty()
    }

    /// Returns whether the task stops before it executes the instruction at `rip`.
    pub(crate) fn is_breakpoint(&self, tid: Tid, rip: Addr) -> bool {
        self.stoppoints.breakpoints.wanted.contains(&rip)
            && self.world.tasks.get(&tid).map(|t| t.tgid) == self.stoppoints.breakpoints.process
    }

    /// Returns whether the instruction at `rip` must be executed by a single step.
    pub(crate) fn must_step(&self, tid: Tid, rip: Addr) -> bool {
        let Some(space) = self.world.tasks.get(&tid).map(|t| t.space) else {
            return false;
        };
        let patched = self.code.overlays.get(&space).is_some_and(|o| o.has(rip));
        let site = self.code.sites.get(&space).and_then(|sites| sites.around(rip));
        patched && self.stub_around(rip).is_none() || site.is_some_and(|site| site.is_within(rip))
    }

    /// Puts the wanted breakpoints into the code of the event's task, and removes the others.
    pub(crate) fn sync_breakpoints(&mut self, event: &Event) -> Result<()> {
        let task = self.task(event)?;
        let (space, memory, tgid) = (task.space, task.memory(), task.tgid);
        if !self.stoppoints.breakpoints.stale || self.stoppoints.breakpoints.process != Some(tgid) {
            return Ok(());
        }
        self.sites_of(event);
        let sites = self.code.sites.get(&space);
        let wanted: BTreeSet<Addr> = self
            .stoppoints
            .breakpoints
            .wanted
            .iter()
            .flat_map(|addr| match sites.and_then(|s| s.around(*addr)) {
                Some(site) if site.is_within(*addr) => site.ways_to(*addr).collect(),
                _ => vec![*addr],
            })
            .collect();
        let overlay = self.code.overlays.entry(space).or_default();
        let put = self.stoppoints.breakpoints.put.entry(space).or_default();
        let synced = sync(overlay, put, &wanted, &memory);
        synced.map_err(|source| failed(event, source))?;
        self.stoppoints.breakpoints.stale = false;
        Ok(())
    }

    /// The rewritten sites in the address space of the event's task.
    pub(crate) fn sites_of(&mut self, event: &Event) -> &Sites {
        static NONE: Sites = Sites::none();
        let Some(task) = self.world.tasks.get(&event.tid) else {
            return &NONE;
        };
        let (space, memory) = (task.space, task.memory());
        let (model, overlay) = (self.world.spaces.get(&space), self.code.overlays.get(&space));
        let reader = (&*self.events.reader, &*self.world.backings.family);
        self.code.sites.entry(space).or_insert_with(|| {
            model.map_or(Sites::none(), |model| Sites::of(model, &memory, overlay, reader))
        })
    }

    /// The memory of an address space is about to change in a range: removes patches there, and forgets
    /// its sites.
    pub(crate) fn code_changes(&mut self, space: SpaceId, range: AddrRange) -> rr_tracee::Result<()> {
        let overlay = self.code.overlays.get_mut(&space).filter(|o| !o.is_empty());
        if overlay.is_none()
            && !self.code.sites.contains_key(&space)
            && self.stoppoints.breakpoints.wanted.is_empty()
        {
            return Ok(());
        }
        if let (Some(overlay), Some(task)) = (overlay, self.world.tasks.values().find(|t| t.space == space)) {
            overlay.clear(&task.memory(), range)?;
            if let Some(put) = self.stoppoints.breakpoints.put.get_mut(&space) {
                put.retain(|addr| overlay.has(*addr));
            }
        }
        let executable = |m: &rr_tracee::Mapping| m.prot.has(Prot::EXEC);
        let in_code = self
            .world
            .spaces
            .get(&space)
            .is_some_and(|s| s.touching(range).any(executable));
        if in_code {
            self.code.sites.remove(&space);
        }
        self.stoppoints.breakpoints.stale = true;
        Ok(())
    }

    /// Same as [`ReplaySession::code_changes`], for operations on an address space.
    pub(crate) fn code_is_mapped(&mut self, space: SpaceId, ops: &[SpaceOp]) -> rr_tracee::Result<()> {
        for op in ops {
            match op {
                SpaceOp::Map(mapping) => {
                    if mapping.prot.has(Prot::EXEC) {
                        self.code.sites.remove(&space);
                    }
                    self.code_changes(space, mapping.range)?;
                }
                SpaceOp::Unmap(range) | SpaceOp::Discard(range) => self.code_changes(space, *range)?,
                SpaceOp::Move { from, to, .. } => {
                    self.code_changes(space, *from)?;
                    self.code_changes(space, AddrRange::sized(*to, from.len()))?;
                }
                SpaceOp::Protect(..)
                | SpaceOp::SetFork(..)
                | SpaceOp::CreateObject { .. }
                | SpaceOp::ResizeObject { .. } => {}
            }
        }
        Ok(())
    }

    /// Notes that a process has a new address space, which needs the breakpoints, too.
    pub(crate) fn space_begins(&mut self) {
        self.stoppoints.breakpoints.stale = true;
    }

    /// Forgets an address space that is gone.
    pub(crate) fn forget_code(&mut self, space: SpaceId) {
        self.code.overlays.remove(&space);
        self.code.sites.remove(&space);
        self.stoppoints.breakpoints.put.remove(&space);
        self.stoppoints.breakpoints.stale = true;
    }

    /// Calls `what` while all memory has the program's own bytes.
    pub(crate) fn with_own_code<T>(&self, what: impl FnOnce() -> Result<T>) -> Result<T> {
        self.lift_code()?;
        let done = what();
        self.put_code_back()?;
        done
    }

    /// Gives all memory the program's own bytes until [`ReplaySession::put_code_back`].
    pub(crate) fn lift_code(&self) -> Result<()> {
        self.each_overlay(|overlay, memory| overlay.lift(memory, ALL))
    }

    /// Reverts [`ReplaySession::lift_code`].
    pub(crate) fn put_code_back(&self) -> Result<()> {
        self.each_overlay(|overlay, memory| overlay.put_back(memory, ALL))
    }

    fn each_overlay(&self, act: impl Fn(&CodeOverlay, &Memory) -> rr_tracee::Result<()>) -> Result<()> {
        for (space, overlay) in self.code.overlays.iter().filter(|(_, o)| !o.is_empty()) {
            if let Some(task) = self.world.tasks.values().find(|t| t.space == *space) {
                act(overlay, &task.memory()).map_err(|source| crate::error::Error::Tracee {
                    event: self.events.last,
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// A new address space is a copy of another, including patches: restores the program's own bytes.
    pub(crate) fn clean_copy(&mut self, from: SpaceId, memory: &Memory) -> rr_tracee::Result<()> {
        match self.code.overlays.get(&from) {
            Some(overlay) => overlay.lift(memory, ALL),
            None => Ok(()),
        }
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
