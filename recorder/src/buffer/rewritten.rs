//! Restores rewritten sites when their stub disappears, or when the program is about to change the
//! code.
//!
//! Invariant: every jump leads to a stub, and the program's writes into its code change the code that
//! it knows. The restoring writes are part of the event that requires them.
//!
//! A task that executes a stub meanwhile would be lost. But no task is stopped there (see `point`), and
//! only the task that makes this call has run since.

use rr_trace::event::MemWrite;
use rr_tracee::{Addr, AddrRange, ForkPolicy, Prot, SpaceId, SpaceOp, Tid};

use crate::buffer::sites::Sites;
use crate::error::Result;
use crate::session::RecordSession;

/// A site whose calls go to the library.
#[derive(Clone, Debug)]
pub(crate) struct Rewritten {
    /// Address of the first jump.
    pub start: Addr,
    /// The bytes that the jumps have overwritten.
    pub original: Vec<u8>,
    /// Address of the stub. `None` if the site is no call, but an instruction that was made to trap.
    pub stub: Option<Addr>,
    /// Address of the second jump, and of the instruction whose callers are sent there
    /// ([`rr_tracee::site`]).
    pub landing: Option<(Addr, Addr)>,
}

impl Rewritten {
    fn window(&self) -> AddrRange {
        AddrRange::sized(self.start, self.original.len() as u64)
    }

    fn leads_into(&self, stubs: &[AddrRange]) -> bool {
        self.stub
            .is_some_and(|stub| stubs.iter().any(|s| s.contains(stub)))
    }

    /// The original bytes with their addresses, except those in `gone`.
    fn bytes(&self, gone: Option<AddrRange>) -> impl Iterator<Item = (Addr, u8)> {
        let start = self.start;
        let places = (0..).map(move |n| start + n);
        places
            .zip(self.original.iter().copied())
            .filter(move |(at, _)| !gone.is_some_and(|g| g.contains(*at)))
    }
}

/// Effect of an operation on the sites and stubs in a range.
struct Effect {
    range: AddrRange,
    /// True if the code is gone, or has its original bytes again.
    code_gone: bool,
    /// True if the code is about to be changed.
    code_changes: bool,
    /// True if stubs are about to be changed, or are gone.
    stubs_gone: bool,
}

impl Effect {
    fn gone(range: AddrRange) -> Effect {
        Effect {
            range,
            code_gone: true,
            code_changes: false,
            stubs_gone: true,
        }
    }

    /// The effects of an operation, except on the pages that it moves.
    fn of(op: &SpaceOp) -> Option<Effect> {
        match op {
            SpaceOp::Map(mapping) => Some(Effect::gone(mapping.range)),
            SpaceOp::Unmap(range) | SpaceOp::Discard(range) => Some(Effect::gone(*range)),
            SpaceOp::Move { from, to, .. } => Some(Effect::gone(AddrRange::sized(*to, from.len()))),
            SpaceOp::Protect(range, prot) => Some(Effect {
                range: *range,
                code_gone: false,
                code_changes: prot.has(Prot::WRITE),
                stubs_gone: *prot != Prot(Prot::READ.0 | Prot::EXEC.0),
            }),
            // The child would not have the stubs.
            SpaceOp::SetFork(range, policy) => Some(Effect {
                range: *range,
                code_gone: false,
                code_changes: false,
                stubs_gone: *policy != ForkPolicy::Copy,
            }),
            SpaceOp::CreateObject { .. } | SpaceOp::ResizeObject { .. } => None,
        }
    }
}

impl Sites {
    /// Applies an operation: its sites are no longer rewritten. Returns the bytes to be restored.
    pub fn follow(&mut self, op: &SpaceOp) -> Vec<(Addr, u8)> {
        let mut restored = Vec::new();
        if let Some(effect) = Effect::of(op) {
            let touched = |range: AddrRange| range.intersect(effect.range).is_some();
            let stubs: Vec<AddrRange> = match effect.stubs_gone {
                true => self.stubs_in(effect.range),
                false => Vec::new(),
            };
            self.rewritten.retain(|site| {
                let lost = site.leads_into(&stubs);
                let code = touched(site.window());
                if code && effect.code_gone {
                    restored.extend(site.bytes(Some(effect.range)));
                } else if lost || code && effect.code_changes {
                    restored.extend(site.bytes(None));
                } else {
                    return true;
                }
                false
            });
            if effect.code_gone {
                self.forget(effect.range);
            } else if effect.stubs_gone {
                self.forget_stubs(effect.range);
            }
        }
        if let SpaceOp::Move { from, to, .. } = op {
            let stubs = self.stubs_in(*from);
            self.rewritten.retain(|site| {
                let moves = site.window().intersect(*from).is_some();
                let lost = site.leads_into(&stubs);
                if moves || lost {
                    restored.extend(site.bytes(None).map(|(at, byte)| match from.contains(at) {
                        true => (*to + (at - from.start), byte),
                        false => (at, byte),
                    }));
                }
                !moves && !lost
            });
            self.forget(*from);
        }
        restored
    }

    /// Returns whether an instruction in the range was made to trap.
    pub fn has_trap_in(&self, range: AddrRange) -> bool {
        let mut traps = self.rewritten.iter().filter(|site| site.stub.is_none());
        traps.any(|site| site.window().intersect(range).is_some())
    }

    /// Restores the original code in bytes that were read from `addr` on.
    pub fn show_original(&self, addr: Addr, bytes: &mut [u8]) {
        let range = AddrRange::sized(addr, bytes.len() as u64);
        let hit = |site: &&Rewritten| site.window().intersect(range).is_some();
        for (at, byte) in self
            .rewritten
            .iter()
            .filter(hit)
            .flat_map(|site| site.bytes(None))
        {
            if range.contains(at) {
                bytes[(at - addr) as usize] = byte;
            }
        }
    }

    /// The program steps itself: restores all sites, and rewrites none from now on.
    fn give_up(&mut self) -> Vec<(Addr, u8)> {
        self.stepped = true;
        // Instructions that were made to trap do not lead to the library, and stay.
        let all = std::mem::take(&mut self.rewritten);
        let (led, trap) = all.into_iter().partition::<Vec<_>, _>(|site| site.stub.is_some());
        self.rewritten = trap;
        led.iter().flat_map(|site| site.bytes(None)).collect()
    }

    /// The address where a program continues that has executed only a jump of ours, to `rip`.
    fn jumped_from(&self, rip: Addr) -> Option<Addr> {
        let from = |site: &Rewritten| match site.landing {
            _ if site.stub == Some(rip) => Some(site.start),
            Some((landing, call)) if rip == landing => Some(call),
            Some(_) => None,
            None => (site.window().contains(rip) && site.start != rip).then_some(site.start),
        };
        self.rewritten.iter().find_map(from)
    }

    /// `range` was written to by other means than the program's own instructions: restores the rest of
    /// the sites there.
    fn overwritten(&mut self, range: AddrRange) -> Vec<(Addr, u8)> {
        let mut restored = Vec::new();
        let stubs = self.stubs_in(range);
        self.rewritten.retain(|site| {
            let hit = site.window().intersect(range).is_some();
            if hit || site.leads_into(&stubs) {
                restored.extend(site.bytes(Some(range)));
                return false;
            }
            true
        });
        self.forget_stubs(range);
        restored
    }
}

impl RecordSession {
    /// Applies a call's changes of its address space to the model, and restores the sites that they
    /// concern.
    pub(crate) fn apply_ops(
        &mut self,
        tid: Tid,
        id: SpaceId,
        ops: &[SpaceOp],
        writes: &mut Vec<MemWrite>,
    ) -> Result<()> {
        let space = self.space_mut(id);
        let mut restored = Vec::new();
        for op in ops {
            restored.extend(space.apply(op));
        }
        self.restore(tid, id, restored, writes)
    }

    /// Restores sites after writes to memory as a file, or by `process_vm_writev`.
    pub(crate) fn undo_overwritten(&mut self, tid: Tid, writes: &mut Vec<MemWrite>) -> Result<()> {
        let written: Vec<_> = writes
            .iter()
            .map(|w| (w.space, AddrRange::sized(w.addr, w.data.len() as u64)))
            .collect();
        for (id, range) in written {
            if let Some(space) = self.spaces.get_mut(&id) {
                let restored = space.library.sites.overwritten(range);
                self.restore(tid, id, restored, writes)?;
            }
        }
        Ok(())
    }

    /// A task steps itself (the trap flag), and the instruction that it executed may have been a jump
    /// of ours: the program sees its own code from now on. Returns the address where it continues, or
    /// `None` if there is nothing to do.
    pub(crate) fn step_without_sites(
        &mut self,
        tid: Tid,
        rip: Addr,
    ) -> Result<Option<(Addr, Vec<MemWrite>)>> {
        let id = self.task(tid)?.space;
        let sites = &mut self.space_mut(id).library.sites;
        if sites.stepped {
            return Ok(None);
        }
        let rip = sites.jumped_from(rip).unwrap_or(rip);
        let restored = sites.give_up();
        let mut writes = Vec::new();
        self.restore(tid, id, restored, &mut writes)?;
        Ok(Some((rip, writes)))
    }

    pub(crate) fn restore(
        &mut self,
        tid: Tid,
        id: SpaceId,
        bytes: Vec<(Addr, u8)>,
        writes: &mut Vec<MemWrite>,
    ) -> Result<()> {
        let model = &self.space_mut(id).model;
        let there: Vec<_> = bytes
            .into_iter()
            .filter(|(at, _)| model.at(*at).is_some())
            .collect();
        for (addr, byte) in there {
            let owner = if self.task(tid)?.space == id {
                Some(tid)
            } else {
                self.leader(id)
            };
            let Some(owner) = owner else { continue };
            self.task(owner)?.memory.write_protected(addr, &[byte])?;
            match writes.last_mut() {
                // Adjacent bytes become one write.
                Some(last) if last.space == id && last.addr + last.data.len() as u64 == addr => {
                    last.data.push(byte)
                }
                _ => writes.push(MemWrite {
                    space: id,
                    addr,
                    data: vec![byte],
                }),
            }
        }
        Ok(())
    }
}
