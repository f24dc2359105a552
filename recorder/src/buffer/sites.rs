//! The call sites of an address space, and those that are rewritten ([`crate::buffer::rewrite`]).
//!
//! Invariant: the table follows each change of the address space ([`Sites::follow`]), which gives back
//! the bytes to be restored.

use std::collections::HashMap;

use rr_tracee::stubs::{COPY_MOST, place_of_copy};
use rr_tracee::trapping::Kind;
use rr_tracee::{Addr, AddrRange, Backing, FileId, ForkPolicy, Mapping, Memory, Prot, Registers, SpaceOp};

use crate::buffer::guarded::Guarded;
use crate::error::Result;
use crate::policy::stats::Refused;

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
/// The call sites of an address space.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sites {
    /// The sites where calls were made.
    pub(crate) known: HashMap<Addr, State>,
    /// The mappings with stubs, and the first free address in each.
    pub(crate) stubs: Vec<(AddrRange, Addr)>,
    /// The rewritten sites.
    pub rewritten: Vec<Rewritten>,
    /// The pages that contain, or contained, these sites and their stubs.
    pub(crate) guarded: Guarded,
    /// True if the library has not been told of all of them.
    pub(crate) grown: bool,
    /// True if the program steps itself, or is traced: its code is not rewritten, except for
    /// instructions that are made to trap.
    pub stepped: bool,
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
    pub(crate) fn give_up(&mut self) -> Vec<(Addr, u8)> {
        self.stepped = true;
        // Instructions that were made to trap do not lead to the library, and stay.
        let all = std::mem::take(&mut self.rewritten);
        let (led, trap) = all.into_iter().partition::<Vec<_>, _>(|site| site.stub.is_some());
        self.rewritten = trap;
        led.iter().flat_map(|site| site.bytes(None)).collect()
    }

    /// The address where a program continues that has executed only a jump of ours, to `rip`.
    pub(crate) fn jumped_from(&self, rip: Addr) -> Option<Addr> {
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
    pub(crate) fn overwritten(&mut self, range: AddrRange) -> Vec<(Addr, u8)> {
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
/// State of a call site.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// Number of calls made there.
    Called(u32),
    /// Calls there go to the library.
    Rewritten,
    /// Calls cannot be sent to the library.
    Refused(Refused),
}
impl Sites {
    /// Counts a call at `site`. Returns the number so far, or `None` for a site that was examined
    /// already.
    pub(crate) fn count(&mut self, site: Addr) -> Option<u32> {
        match self.known.entry(site).or_insert(State::Called(0)) {
            State::Called(calls) => {
                *calls += 1;
                Some(*calls)
            }
            State::Rewritten | State::Refused(_) => None,
        }
    }

    /// Makes the library leave calls in this range to the recorder.
    pub fn guard(&mut self, range: AddrRange) {
        self.grown |= self.guarded.add(range);
    }

    /// Notes that the opcode at `at` was made to trap.
    pub fn add_trap(&mut self, at: Addr, kind: Kind) {
        self.guard(AddrRange::sized(at, 1));
        self.rewritten.push(Rewritten {
            start: at,
            original: vec![kind.own()],
            stub: None,
            landing: None,
        });
    }

    /// Forgets a range whose mapping is gone.
    pub fn forget(&mut self, range: AddrRange) {
        self.known.retain(|site, _| !range.contains(*site));
        self.forget_stubs(range);
    }

    /// Forgets stubs in a range that are gone, or belong to the program.
    pub fn forget_stubs(&mut self, range: AddrRange) {
        self.stubs.retain(|(stubs, _)| stubs.intersect(range).is_none());
    }

    /// The program's own code in a task: up to `len` bytes at `at`, as before sites were rewritten.
    pub fn read_code(&self, memory: &Memory, at: Addr, len: usize) -> Result<Vec<u8>> {
        let mut code = memory.read_up_to(at, len)?;
        self.show_original(at, &mut code);
        Ok(code)
    }

    /// Ranges that contain all rewritten code and stubs, and what else the library must leave alone.
    pub fn guarded(&self) -> &[AddrRange] {
        self.guarded.ranges()
    }

    /// The mappings with stubs that overlap `range`.
    pub fn stubs_in(&self, range: AddrRange) -> Vec<AddrRange> {
        let stubs = self.stubs.iter().map(|(stubs, _)| *stubs);
        stubs.filter(|stubs| stubs.intersect(range).is_some()).collect()
    }

    /// The registers of a task that has trapped at `regs`: at the program's own instruction, if the
    /// task has trapped at a stub's copy of that instruction.
    pub fn at_program(&self, memory: &Memory, regs: Registers) -> Result<Registers> {
        if !self.is_in_stub(Addr(regs.rip)) {
            return Ok(regs);
        }
        let code = memory.read_up_to(Addr(regs.rip), COPY_MOST)?;
        Ok(match place_of_copy(&code) {
            Some(Addr(rip)) => Registers { rip, ..regs },
            None => regs,
        })
    }

    fn is_in_stub(&self, rip: Addr) -> bool {
        self.stubs.iter().any(|(stubs, _)| stubs.contains(rip))
    }

    /// Returns whether a task at this address is between the program's code and the library.
    pub fn is_on_the_way(&self, rip: Addr) -> bool {
        let mut landings = self.rewritten.iter().filter_map(|site| site.landing);
        self.is_in_stub(rip) || landings.any(|(landing, _)| landing == rip)
    }
}
/// The part of a file that a mapping shows as code, if nobody writes to it.
pub(crate) fn code_of(mapping: &Mapping) -> Option<(FileId, u64)> {
    let is_code = mapping.prot.has(Prot::EXEC) && !mapping.prot.has(Prot::WRITE);
    match mapping.backing {
        Backing::File { file, offset } if is_code => Some((file, offset)),
        _ => None,
    }
}
/// The code that these operations map: its address, the file, and the offset.
pub(crate) fn code_mapped(ops: &[SpaceOp]) -> Vec<(AddrRange, FileId, u64)> {
    let code = |op: &SpaceOp| match op {
        SpaceOp::Map(mapping) => {
            let (file, offset) = code_of(mapping)?;
            Some((mapping.range, file, offset))
        }
        _ => None,
    };
    ops.iter().filter_map(code).collect()
}
