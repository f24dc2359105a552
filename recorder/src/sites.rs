//! Rewriting system call sites, so that calls there go through the library (see [`rr_tracee::site`]).
//!
//! A site is rewritten when a call that the library knows was made there for the second time: most of a short
//! program's sites never are. The change is part of that call's event, as memory that was written: replay and
//! checkpoints know nothing else of it. Only code of files that nobody has written to is rewritten: what a program
//! generates or changes itself stays as it is.

use std::collections::HashMap;

use rr_trace::event::MemWrite;
use rr_tracee::memory::ReadMemory;
use rr_tracee::remote::Remote;
use rr_tracee::site::{BEFORE, STUB_MOST, Site, branches_to};
use rr_tracee::{
    Addr, AddrRange, AddressSpace, Backing, ForkPolicy, Mapping, Prot, Registers, SpaceId, SpaceOp, Stopped,
    Tid, ids::PAGE, rr_area,
};

use crate::error::Result;
use crate::session::RecordSession;

/// The name of the mappings that stubs are in.
pub(crate) const STUBS: &str = "[rr stubs]";
/// So many calls are made at a site before it is rewritten.
const CALLS: u32 = 2;
/// A stub page for a site is not farther away than this (and a jump reaches a little more).
const REACH: u64 = 0x7000_0000;
/// Code that is searched for branches into a window at most.
const SEARCHED: u64 = 64 << 20;
/// No mapping is below this (`vm.mmap_min_addr` is at most that in practice).
const LOWEST: u64 = 0x1_0000;

/// The call sites of an address space.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sites {
    /// Calls at each site that is not rewritten; none for one that was looked at already.
    calls: HashMap<Addr, Option<u32>>,
    /// The mappings with stubs, and where each is free.
    stubs: Vec<(AddrRange, Addr)>,
}

impl Sites {
    /// Counts a call at `site`; says whether the site is to be looked at now.
    fn is_hot(&mut self, site: Addr) -> bool {
        match self.calls.entry(site).or_insert(Some(0)) {
            Some(calls) => {
                *calls += 1;
                *calls >= CALLS
            }
            None => false,
        }
    }

    /// What was mapped there is gone.
    pub fn forget(&mut self, range: AddrRange) {
        self.calls.retain(|site, _| !range.contains(*site));
        self.stubs.retain(|(stubs, _)| stubs.intersect(range).is_none());
    }
}

/// A free page near `site`, below the mapping that it is in.
fn free_page(space: &AddressSpace, site: Addr) -> Option<AddrRange> {
    let taken: Vec<AddrRange> = space.iter().map(|m| m.range).collect();
    let mut at = taken.iter().rposition(|r| r.start <= site)?;
    loop {
        // Between this mapping and the one below; a page is left free at both ends.
        let below = at.checked_sub(1).map_or(LOWEST, |n| taken[n].end.0);
        let above = taken[at].start.0;
        if site.0 - above > REACH {
            return None;
        }
        if above >= below + 3 * PAGE {
            return Some(AddrRange::sized(Addr(above - 2 * PAGE), PAGE));
        }
        at = at.checked_sub(1)?;
    }
}

impl RecordSession {
    /// The pages with stubs in the address space of a task.
    pub(crate) fn stubs_of(&self, tid: Tid) -> Vec<AddrRange> {
        let space = self.tasks.get(&tid).and_then(|t| self.spaces.get(&t.space));
        let mappings = space.into_iter().flat_map(|s| s.model.iter());
        mappings.filter(|m| &*m.name == STUBS).map(|m| m.range).collect()
    }

    /// A call was made at a `syscall` instruction, and the task stands behind it. Rewrites the site if it is worth it; what
    /// changes goes into the call's event.
    pub(crate) fn consider_site(
        &mut self,
        tid: Tid,
        stopped: Stopped,
        entry: &Registers,
        ops: &mut Vec<SpaceOp>,
        writes: &mut Vec<MemWrite>,
    ) -> Result<Stopped> {
        if !self.options.buffered || !rr_preload::is_buffered(entry.syscall()) {
            return Ok(stopped);
        }
        let (id, call) = (self.task(tid)?.space, Addr(entry.rip - 2));
        if !self.space_mut(id).library.sites.is_hot(call) {
            return Ok(stopped);
        }
        self.space_mut(id).library.sites.calls.insert(call, None);
        let Some(site) = self.find_site(tid, id, call)? else {
            return Ok(stopped);
        };
        let (stopped, place) = self.place_for_stub(tid, stopped, id, call, ops)?;
        let Some((code, jump)) = place.and_then(|place| site.stub(place)) else {
            return Ok(stopped);
        };
        if !self.spaces[&id].library.installed {
            self.install_library(tid, id)?;
        }
        let sites = &mut self.space_mut(id).library.sites;
        if let (Some(place), Some((_, free))) = (
            place,
            sites
                .stubs
                .iter_mut()
                .find(|(r, _)| place.is_some_and(|p| r.contains(p))),
        ) {
            *free = Addr((place.0 + code.len() as u64).next_multiple_of(16));
            for (addr, data) in [(place, code), (site.start(), jump.to_vec())] {
                self.task(tid)?.memory.write(addr, &data)?;
                writes.push(MemWrite {
                    space: id,
                    addr,
                    data,
                });
            }
        }
        Ok(stopped)
    }

    /// The site of the call at `call`, if it may be rewritten.
    fn find_site(&self, tid: Tid, id: SpaceId, call: Addr) -> Result<Option<Site>> {
        let memory = &self.task(tid)?.memory;
        let Some(mapping) = self.spaces[&id].model.at(call) else {
            return Ok(None);
        };
        let is_program = matches!(mapping.backing, Backing::File { .. })
            && mapping.prot.has(Prot::EXEC)
            && !mapping.prot.has(Prot::WRITE);
        if !is_program || call.page_floor() != (call + 1).page_floor() {
            return Ok(None);
        }
        let begin = Addr(call.0.saturating_sub(BEFORE as u64).max(mapping.range.start.0));
        let code = memory.read_vec(begin, (call.0 - begin.0) as usize)?;
        let Some(site) = Site::find(&code, call) else {
            return Ok(None);
        };
        let inner = site.inner();
        if inner.is_empty() {
            return Ok(Some(site));
        }
        // Nobody may come into the middle of the jump: no branch, and no task that stands there now.
        let here = |t: &crate::task::Task| inner.contains(&Addr(t.boundary.rip));
        if mapping.range.len() > SEARCHED || self.tasks.values().any(here) {
            return Ok(None);
        }
        let text = memory.read_vec(mapping.range.start, mapping.range.len() as usize);
        let clear = text.is_ok_and(|text| !branches_to(&text, mapping.range.start, &inner));
        Ok(clear.then_some(site))
    }

    /// Where the next stub for a call at `call` goes; a page for it is mapped if there is none near.
    fn place_for_stub(
        &mut self,
        tid: Tid,
        stopped: Stopped,
        id: SpaceId,
        call: Addr,
        ops: &mut Vec<SpaceOp>,
    ) -> Result<(Stopped, Option<Addr>)> {
        let tgid = self.task(tid)?.tgid;
        let space = self.space_mut(id);
        let fits = |range: &AddrRange, free: Addr| {
            free.0.abs_diff(call.0) < REACH && free + STUB_MOST as u64 <= range.end
        };
        if let Some((_, free)) = space
            .library
            .sites
            .stubs
            .iter()
            .find(|(range, free)| fits(range, *free))
        {
            return Ok((stopped, Some(*free)));
        }
        let Some(range) = free_page(&space.model, call).filter(|r| r.intersect(rr_area::area()).is_none())
        else {
            return Ok((stopped, None));
        };
        let prot = Prot(Prot::READ.0 | Prot::EXEC.0);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let args = [
            range.start.0,
            range.len(),
            u64::from(prot.0),
            flags as u64,
            u64::MAX,
            0,
        ];
        let (remote, result) = Remote::new(stopped, tgid)?.call(libc::SYS_mmap, args)?;
        let stopped = remote.finish()?;
        if result != range.start.0 as i64 {
            return Ok((stopped, None));
        }
        let op = SpaceOp::Map(Mapping {
            range,
            prot,
            backing: Backing::Anonymous,
            fork: ForkPolicy::Copy,
            name: STUBS.into(),
        });
        space.model.apply(&op);
        space.library.sites.stubs.push((range, range.start));
        ops.push(op);
        Ok((stopped, Some(range.start)))
    }
}
