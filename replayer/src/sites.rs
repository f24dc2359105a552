//! Rewritten sites in a replay: the places whose calls go to the library, and the program's own code
//! there.
//!
//! With `overlay`, keeps I8: a debugger sees the code that the program was built with. The sites are
//! found by their stubs ([`rr_tracee::stubs`]). Instructions that were made to trap are found as the
//! recorder has found them ([`rr_tracee::trapping`]). The original bytes come from the trace's
//! copy of the mapped file, because only code of files that nobody has written to is rewritten.
//!
//! ```text
//! start ─► jmp stub  ┐            inside, the program's instructions are executed one by one (`run::step`);
//!  entry ─► jmp start ┘ window     at `call` the library is entered as its stub would do it
//! call  ─► syscall
//! ```
//!
//! At the site of a counter with a landing, `call` is a jump, too. The instruction's copy is in the stub.

use rr_trace::TraceReader;
use rr_tracee::code::JUMP_LEN;
use rr_tracee::memory::ReadMemory;
use rr_tracee::site::{Instruction, SHORT_LEN, WINDOW_MOST};
use rr_tracee::stubs::{self, STUBS};
use rr_tracee::trapping::Kind;
use rr_tracee::{Addr, AddrRange, AddressSpace, Backing, Memory, Prot, ReadAt};

use crate::family::Family;
use crate::overlay::CodeOverlay;

/// A rewritten site.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// Address of the jump to the stub.
    pub start: Addr,
    /// Address where callers come in behind padding, if they are sent back from there.
    pub entry: Option<Addr>,
    /// Address of that instruction.
    pub call: Addr,
    /// The instruction that the library stands in for.
    pub instruction: Instruction,
    /// The program's bytes from `start` to `call`, or to the end of the jump there.
    pub original: Vec<u8>,
    /// The bytes that are there now.
    pub rewritten: Vec<u8>,
    /// The code of the stub.
    pub stub: AddrRange,
    /// Address of the stub's copy of the instruction, if callers at `call` are sent to the stub.
    pub copy: Option<Addr>,
}

impl Site {
    /// The places where the program comes by on its way to `addr`, which is within the site.
    pub fn ways_to(&self, addr: Addr) -> impl Iterator<Item = Addr> {
        let straight = self.copy.is_some() && addr == self.call;
        [self.start].into_iter().chain(straight.then_some(addr))
    }

    /// Address where the library goes on if it leaves the instruction to the kernel.
    pub fn go_on(&self) -> Addr {
        self.copy.unwrap_or(self.call)
    }

    /// Returns whether a task at `rip` is on its way to the call, but not at the site's beginning. Such
    /// a place has no code of the program to run.
    pub fn is_within(&self, rip: Addr) -> bool {
        self.start < rip && rip <= self.call && Some(rip) != self.entry
    }
}

/// The rewritten sites of an address space.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sites {
    /// The sites of system calls and counters, in order.
    calls: Vec<Site>,
    /// The bytes of instructions that may have been made to trap, in order.
    traps: Vec<(Addr, Kind)>,
}

impl Sites {
    /// No sites.
    pub const fn none() -> Sites {
        Sites {
            calls: Vec::new(),
            traps: Vec::new(),
        }
    }

    /// Finds the sites, in memory that has the patches of `overlay`.
    pub fn of(
        space: &AddressSpace,
        memory: &Memory,
        overlay: Option<&CodeOverlay>,
        (reader, family): (&TraceReader, &Family),
    ) -> Sites {
        let mut sites = Vec::new();
        for page in space.iter().filter(|m| &*m.name == STUBS) {
            let Ok(code) = memory.read_vec(page.range.start, page.range.len() as usize) else {
                continue;
            };
            let found = stubs::find(&code, page.range.start);
            sites.extend(
                found
                    .iter()
                    .filter_map(|stub| site_of(stub, space, memory, overlay, reader)),
            );
        }
        sites.sort_by_key(|site: &Site| site.start);
        let mut traps = Vec::new();
        for mapping in space.iter().filter(|m| m.prot.has(Prot::EXEC)) {
            if let Backing::File { file, offset } = mapping.backing {
                let places = family.trapping_in(file, reader);
                let end = offset + mapping.range.len();
                let here = places
                    .iter()
                    .filter(|place| (offset..end).contains(&place.offset));
                traps.extend(here.map(|place| (mapping.range.start + (place.offset - offset), place.kind)));
            }
        }
        Sites { calls: sites, traps }
    }

    /// The site that contains an address from its jump up to its call, including the call.
    pub fn around(&self, addr: Addr) -> Option<&Site> {
        let n = self
            .calls
            .partition_point(|site| site.start <= addr)
            .checked_sub(1)?;
        self.calls.get(n).filter(|site| addr <= site.call)
    }

    /// The ranges where memory differs from the program's own.
    pub fn ranges(&self) -> impl Iterator<Item = AddrRange> {
        let calls = self.calls.iter();
        let calls = calls.map(|site| AddrRange::sized(site.start, site.rewritten.len() as u64));
        calls.chain(self.traps.iter().map(|(at, _)| AddrRange::sized(*at, 1)))
    }

    /// The instruction whose callers are sent to the jump at `rip`.
    pub fn sent_to(&self, rip: Addr) -> Option<Addr> {
        let site = self.around(rip).filter(|site| site.copy.is_some())?;
        (rip - site.start == JUMP_LEN as u64).then_some(site.call)
    }

    /// The site whose stub contains `rip`.
    pub fn by_stub(&self, rip: Addr) -> Option<&Site> {
        self.calls.iter().find(|site| site.stub.contains(rip))
    }

    /// Turns bytes that were read at `addr` into the program's own.
    pub fn mask(&self, addr: Addr, bytes: &mut [u8]) {
        let range = AddrRange::sized(addr, bytes.len() as u64);
        let first = self.traps.partition_point(|(at, _)| *at < range.start);
        for (at, kind) in self.traps[first..].iter().take_while(|(at, _)| *at < range.end) {
            let byte = &mut bytes[(*at - addr) as usize];
            if *byte == kind.trap() {
                *byte = kind.own();
            }
        }
        let first = self
            .calls
            .partition_point(|site| site.start + site.rewritten.len() as u64 <= range.start);
        let sites = self.calls[first..].iter().take_while(|s| s.start < range.end);
        for site in sites {
            for (n, (original, rewritten)) in site.original.iter().zip(&site.rewritten).enumerate() {
                let place = (site.start.0 + n as u64).checked_sub(addr.0);
                if let Some(byte) = place.and_then(|n| bytes.get_mut(n as usize))
                    && byte == rewritten
                {
                    *byte = *original;
                }
            }
        }
    }
}

/// The site of a stub; `None` if nothing leads to the stub (any more).
fn site_of(
    stub: &stubs::Stub,
    space: &AddressSpace,
    memory: &Memory,
    overlay: Option<&CodeOverlay>,
    reader: &TraceReader,
) -> Option<Site> {
    let mapping = space.at(stub.call)?;
    let Backing::File { file, offset } = mapping.backing else {
        return None;
    };
    let from = Addr(stub.call.0.saturating_sub(WINDOW_MOST as u64)).max(mapping.range.start);
    // The jump of two bytes at the call is part of the site.
    let end = stub.call + stub.copy.map_or(0, |_| SHORT_LEN as u64);
    let mut near = memory.read_vec(from, (end - from) as usize).ok()?;
    if let Some(overlay) = overlay {
        overlay.mask(from, &mut near);
    }
    let leads_here = |n: &usize| {
        let Some([0xe9, distance @ ..]) = near.get(*n..*n + JUMP_LEN) else {
            return false;
        };
        let distance = <[u8; 4]>::try_from(distance).map_or(0, i32::from_le_bytes);
        let next = from + (*n + JUMP_LEN) as u64;
        next.0.wrapping_add_signed(distance.into()) == stub.range.start.0
    };
    let at = (0..near.len()).find(leads_here)?;
    let start = from + at as u64;
    let rewritten = near[at..].to_vec();
    let mut original = vec![0; rewritten.len()];
    let place = offset + (start - mapping.range.start);
    reader
        .open_file(file)
        .ok()?
        .read_exact_at(&mut original, place)
        .ok()?;
    // The jump back for callers that come in behind padding.
    let window = (stub.call - start) as usize;
    let jumps = stub.copy.map_or(JUMP_LEN, |_| 2 * JUMP_LEN);
    let entry = (jumps..(window + 1).saturating_sub(SHORT_LEN))
        .find(|n| rewritten[*n] == 0xeb && original[*n..*n + SHORT_LEN] != rewritten[*n..*n + SHORT_LEN]);
    Some(Site {
        start,
        entry: entry.map(|n| start + n as u64),
        call: stub.call,
        instruction: stub.instruction,
        original,
        rewritten,
        stub: stub.range,
        copy: stub.copy,
    })
}
