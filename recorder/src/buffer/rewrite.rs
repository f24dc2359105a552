//! Rewriting system call sites, so that calls there go through the library (see [`rr_tracee::site`]).
//!
//! A site is rewritten when a call that the library knows was made there for the second time, because
//! most of a short program's sites are used only once. Sites that most programs use are rewritten when
//! their file is mapped (see [`crate::buffer::known_sites`]). The change is part of that call's event, as
//! memory that was written. Replay and checkpoints know nothing else of it. Only code of files that
//! nobody has written to is rewritten: code that a program generates or changes stays as it is. The
//! obstacle of each site that cannot be rewritten is kept for [`crate::policy::stats`].

use rr_preload::layout::{COUNTER_AND_PROCESSOR_NUMBER, COUNTER_NUMBER, CPUID_NUMBER};
use rr_trace::event::MemWrite;
use rr_tracee::ids::PAGE;
use rr_tracee::remote::Remote;
use rr_tracee::site::{BEFORE, Instruction, STUB_MOST, Site, SiteWindow, StubCode, branches_to, tables_name};
use rr_tracee::stubs::{STUB_ALIGN, STUBS};
use rr_tracee::{
    Addr, AddrRange, AddressSpace, Backing, ForkPolicy, Mapping, Memory, Prot, Registers, SpaceId, SpaceOp,
    Stopped, Tid, rr_area,
};

use crate::buffer::control::install_library;
use crate::buffer::edits::{Edits, carry_out_edits};
use crate::buffer::known_sites::{FilePlace, Verdict};
use crate::buffer::sites::{Rewritten, State, code_mapped, code_of};
use crate::buffer::trapping::trap_instructions;
use crate::error::Result;
use crate::policy::stats::{Obstacle, Why};
use crate::session::RecordSession;
use crate::world::model::World;

/// Number of calls at a site until it is rewritten.
const CALLS: u32 = 2;

/// Maximum distance of a site's stub page (a jump reaches a little more).
const REACH: u64 = 0x7000_0000;

/// Maximum size of the code, and of its data, that are searched for jumps into a window.
const SEARCHED: u64 = 64 << 20;

/// Lowest address of a mapping (`vm.mmap_min_addr` is not higher in practice).
const LOWEST: u64 = 0x1_0000;

/// A free page near `site`, below the site's mapping.
fn free_page(space: &AddressSpace, site: Addr) -> Option<AddrRange> {
    let taken: Vec<AddrRange> = space.iter().map(|m| m.range).collect();
    let mut at = taken.iter().rposition(|r| r.start <= site)?;
    loop {
        // Between this mapping and the one below. A page stays free at both ends.
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

/// The range of a window and the instruction after it.
fn window_and_call(call: Addr, window: &SiteWindow) -> AddrRange {
    AddrRange::new(
        Addr(call.0 - window.bytes().len() as u64),
        call + Instruction::LONGEST as u64,
    )
}

/// The site of the call at `call`, if `window` stands before it in `code`.
fn known_site(code: &[u8], call: Addr, window: SiteWindow) -> Option<Site> {
    let instruction = Instruction::of(code.strip_prefix(window.bytes())?)?;
    Site::known(window, call, instruction)
}

/// Code that was read for the last site. The next one is usually in the same page.
#[derive(Debug, Default)]
struct Near {
    start: Addr,
    bytes: Vec<u8>,
}

impl Near {
    /// The bytes at `place`, in a mapping of this range.
    fn read(&mut self, memory: &Memory, mapping: AddrRange, place: AddrRange) -> Result<&[u8]> {
        let end = Addr(self.start.0 + self.bytes.len() as u64);
        if place.start < self.start || place.end > end {
            let wanted = AddrRange::new(place.start, place.end).to_pages();
            let wanted = wanted.intersect(mapping).unwrap_or(place);
            self.start = wanted.start;
            self.bytes = memory.read_up_to(wanted.start, wanted.len() as usize)?;
        }
        // Empty for another mapping.
        let at = place.start.0.checked_sub(self.start.0);
        let found = at.and_then(|at| self.bytes.get(at as usize..)).unwrap_or(&[]);
        Ok(&found[..found.len().min(place.len() as usize)])
    }
}

/// A call was made at a `syscall` instruction, and the task stands behind it. Rewrites the site if
/// that is worth it. The changes become part of the call's event.
pub(crate) fn consider_site(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: &Registers,
    ops: &mut Vec<SpaceOp>,
    writes: &mut Vec<MemWrite>,
) -> Result<Stopped> {
    if !rr_preload::is_buffered(entry.syscall()) {
        return Ok(stopped);
    }
    consider_place(session, tid, stopped, Addr(entry.rip - 2), ops, writes)
}

/// Same as [`consider_site`], for any instruction at `call` that the library can
/// stand in for.
pub(crate) fn consider_place(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    call: Addr,
    ops: &mut Vec<SpaceOp>,
    writes: &mut Vec<MemWrite>,
) -> Result<Stopped> {
    if !session.policy.options.buffered {
        return Ok(stopped);
    }
    let id = session.world.task(tid)?.space;
    if session.world.space_mut(id).library.sites.stepped {
        return Ok(stopped);
    }
    match session.world.space_mut(id).library.sites.count(call) {
        Some(1) => {
            if let Some(place) = place_in_file(&session.world, id, call)
                && session.world.known_sites.called(place)
            {
                // This remembers the result, which this call does not need.
                let _ = find_site(&mut session.world, tid, id, call)?;
            }
            Ok(stopped)
        }
        Some(CALLS..) => match find_site(&mut session.world, tid, id, call)? {
            Ok(site) => {
                let mut edits = Edits::default();
                let stopped = rewrite_site(session, tid, stopped, id, call, &site, ops, &mut edits)?;
                carry_out_edits(&mut session.world, tid, id, edits, writes)?;
                Ok(stopped)
            }
            Err(obstacle) => {
                refuse_site(session, id, call, obstacle);
                Ok(stopped)
            }
        },
        _ => Ok(stopped),
    }
}

/// `ops` have mapped code, and the model has been changed already: rewrites the sites that most
/// programs use, in the same event.
pub(crate) fn rewrite_known(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    ops: &mut Vec<SpaceOp>,
    writes: &mut Vec<MemWrite>,
) -> Result<Stopped> {
    let id = session.world.task(tid)?.space;
    let mut edits = Edits::default();
    let code = match session.policy.options.buffered && !session.world.space_mut(id).library.sites.stepped {
        true => code_mapped(ops),
        false => Vec::new(),
    };
    for (range, file, offset) in code {
        let mut near = Near::default();
        for (at, window) in session
            .world
            .known_sites
            .mapped(file, offset..offset + range.len())
        {
            let call = range.start + (at - offset);
            let memory = &session.world.task(tid)?.memory;
            let place = window_and_call(call, &window);
            let Some(site) = known_site(near.read(memory, range, place)?, call, window) else {
                continue;
            };
            // The code there is read without pending changes.
            if !edits.touch(place) && !anybody_stands_in(&session.world, &site.inner()) {
                stopped = rewrite_site(session, tid, stopped, id, call, &site, ops, &mut edits)?;
            }
        }
    }
    // No jump changes such an instruction. They come last because the code of sites is read without pending changes.
    trap_instructions(&mut session.world, tid, id, ops, &mut edits)?;
    carry_out_edits(&mut session.world, tid, id, edits, writes)?;
    Ok(stopped)
}

/// Plans the stub of a site and the jump to it, if there is room nearby.
#[allow(clippy::too_many_arguments)] // the parts of an event
fn rewrite_site(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    id: SpaceId,
    call: Addr,
    site: &Site,
    ops: &mut Vec<SpaceOp>,
    edits: &mut Edits,
) -> Result<Stopped> {
    let (stopped, room) = room_for_stub(&mut session.world, tid, stopped, id, call, ops)?;
    let stub = room.and_then(|(page, place)| Some((page, place, site.stub(place)?)));
    let Some((page, place, StubCode { code, jumps })) = stub else {
        refuse_site(session, id, call, Obstacle::NoRoom);
        return Ok(stopped);
    };
    session.policy.stats.rewritten();
    if !session.world.spaces[&id].library.installed {
        install_library(session, tid, id)?;
        session.world.space_mut(id).library.sites.grown = true;
    }
    let sites = &mut session.world.space_mut(id).library.sites;
    sites.known.insert(call, State::Rewritten);
    // The page still exists, because nothing has run since room was found.
    sites.stubs[page].1 = Addr((place.0 + code.len() as u64).next_multiple_of(STUB_ALIGN));
    sites.rewritten.push(Rewritten {
        start: site.start(),
        original: site.original(),
        stub: Some(place),
        landing: site.landing().map(|landing| (landing, call)),
    });
    let stub = AddrRange::sized(place, code.len() as u64);
    let rewritten = AddrRange::new(site.start(), call + Instruction::LONGEST as u64);
    for range in [stub, rewritten] {
        sites.grown |= sites.guarded.add(range);
    }
    edits.push(place, code);
    for (at, jump) in jumps {
        edits.push(at, jump);
    }
    Ok(stopped)
}

/// Returns whether a mapping is made by the program's own loader (`ld.so`). The loader runs
/// natively, and maps code of this program. A program that translates code maps it as data, and
/// must find the file's bytes there.
pub(crate) fn is_loader(world: &World, tid: Tid, entry: &Registers) -> Result<bool> {
    let space = &world.spaces[&world.task(tid)?.space];
    let mapping = space.model.at(Addr(entry.rip.wrapping_sub(2)));
    let file = mapping.and_then(|m| match m.backing {
        Backing::File { file, .. } => Some(file),
        _ => None,
    });
    Ok(file.is_some() && file == space.loader)
}

/// File and offset of the code at `addr`, if it may be rewritten at all.
fn place_in_file(world: &World, id: SpaceId, addr: Addr) -> Option<FilePlace> {
    let mapping = world.spaces[&id].model.at(addr)?;
    let (file, offset) = code_of(mapping)?;
    Some(FilePlace {
        file,
        offset: offset + (addr - mapping.range.start),
    })
}

/// Returns whether a task stands at one of these places: no task may be in the middle of a jump.
fn anybody_stands_in(world: &World, places: &[Addr]) -> bool {
    let stands = |t: &crate::world::task::Task| places.contains(&Addr(t.interval.boundary.rip));
    !places.is_empty() && world.tasks.values().any(stands)
}

fn refuse_site(session: &mut RecordSession, id: SpaceId, call: Addr, obstacle: Obstacle) {
    let Some(space) = session.world.spaces.get_mut(&id) else {
        return;
    };
    let refused = session.policy.stats.refuse(call, space.model.at(call), obstacle);
    space.library.sites.known.insert(call, State::Refused(refused));
}

/// Counts a call that is traced.
pub(crate) fn count_call(session: &mut RecordSession, tid: Tid, entry: &Registers) {
    count_traced(session, tid, entry.syscall(), Addr(entry.rip.wrapping_sub(2)));
}

/// Counts a traced call, or an instruction that trapped, at `place`.
pub(crate) fn count_traced(session: &mut RecordSession, tid: Tid, number: i64, place: Addr) {
    let known = session
        .world
        .tasks
        .get(&tid)
        .and_then(|t| session.world.spaces.get(&t.space));
    let known = known.and_then(|s| s.library.sites.known.get(&place));
    const INSTRUCTIONS: [u64; 3] = [COUNTER_NUMBER, COUNTER_AND_PROCESSOR_NUMBER, CPUID_NUMBER];
    let is_buffered = rr_preload::is_buffered(number) || INSTRUCTIONS.contains(&(number as u64));
    let why = match known {
        _ if !session.policy.options.buffered || !is_buffered => Why::Unknown,
        Some(State::Rewritten) => Why::Left,
        Some(State::Refused(site)) => {
            session.policy.stats.call_at(*site);
            Why::Site
        }
        Some(State::Called(_)) | None => Why::First,
    };
    session.policy.stats.call(number, why);
}

/// The site of the call at `call`, or the reason why it may not be rewritten.
fn find_site(world: &mut World, tid: Tid, id: SpaceId, call: Addr) -> Result<Result<Site, Obstacle>> {
    let Some(place) = place_in_file(world, id, call) else {
        let mapping = world.spaces[&id].model.at(call);
        return Ok(Err(match mapping.map(|m| &m.backing) {
            Some(Backing::File { .. } | Backing::CopyOnWrite { .. }) => Obstacle::Writable,
            Some(Backing::Shared { .. }) => Obstacle::Shared,
            Some(Backing::Anonymous | Backing::Rr) | None => Obstacle::Generated,
        }));
    };
    let found = match world.known_sites.verdict(place) {
        Some(Verdict::Unfit(obstacle)) => Err(*obstacle),
        // If the bytes in memory differ from the file's, the program has written there.
        Some(Verdict::Window(window)) => {
            let place = window_and_call(call, window);
            let sites = &world.spaces[&id].library.sites;
            let code = sites.read_code(&world.task(tid)?.memory, place.start, place.len() as usize)?;
            known_site(&code, call, window.clone()).ok_or(Obstacle::Writable)
        }
        None => {
            let found = search_site(world, tid, id, call)?;
            let verdict = match &found {
                Ok(site) => Verdict::Window(site.window().clone()),
                Err(obstacle) => Verdict::Unfit(*obstacle),
            };
            world.known_sites.learn(place, verdict);
            found
        }
    };
    Ok(match found {
        Ok(site) if anybody_stands_in(world, &site.inner()) => Err(Obstacle::Occupied),
        other => other,
    })
}

/// Reads the code around a call that is not known yet.
fn search_site(world: &World, tid: Tid, id: SpaceId, call: Addr) -> Result<Result<Site, Obstacle>> {
    let memory = &world.task(tid)?.memory;
    let Some(mapping) = world.spaces[&id].model.at(call) else {
        return Ok(Err(Obstacle::Generated));
    };
    // Sites nearby may be rewritten. Their jumps hide the beginnings of instructions, and the
    // targets of branches.
    let sites = &world.spaces[&id].library.sites;
    let begin = Addr(call.0.saturating_sub(BEFORE as u64).max(mapping.range.start.0));
    let code = sites.read_code(memory, begin, (call.0 - begin.0) as usize)?;
    let instruction = Instruction::of(&sites.read_code(memory, call, Instruction::LONGEST)?);
    let candidates = instruction.map(|i| Site::candidates(&code, call, i));
    let mut obstacle = Obstacle::NoWindow;
    for site in candidates.into_iter().flatten() {
        match is_jumped_into_at(world, memory, id, mapping, &site.inner())? {
            None => return Ok(Ok(site)),
            Some(found) => obstacle = found,
        }
    }
    Ok(Err(obstacle))
}

/// Looks for a branch or a jump table that leads to one of these places in a mapping, which are in
/// the middle of a jump.
fn is_jumped_into_at(
    world: &World,
    memory: &Memory,
    id: SpaceId,
    mapping: &Mapping,
    places: &[Addr],
) -> Result<Option<Obstacle>> {
    if places.is_empty() {
        return Ok(None);
    }
    let space = &world.spaces[&id];
    let same_file = |m: &&Mapping| match (&m.backing, &mapping.backing) {
        (Backing::File { file, .. }, Backing::File { file: text, .. }) => file == text,
        _ => false,
    };
    let program: Vec<AddrRange> = space.model.iter().filter(same_file).map(|m| m.range).collect();
    if program.iter().map(|r| r.len()).sum::<u64>() > SEARCHED {
        return Ok(Some(Obstacle::TooLarge));
    }
    for range in program {
        // Memory that cannot be read (beyond the end of the file) holds nothing.
        let bytes = space
            .library
            .sites
            .read_code(memory, range.start, range.len() as usize)?;
        if range == mapping.range && branches_to(&bytes, range.start, places)
            || tables_name(&bytes, range.start, mapping.range, places)
        {
            return Ok(Some(Obstacle::BranchTarget));
        }
    }
    Ok(None)
}

/// The place of the next stub for a call at `call`: index in [`Sites::stubs`], and address. Maps a
/// page for it if there is none nearby.
fn room_for_stub(
    world: &mut World,
    tid: Tid,
    stopped: Stopped,
    id: SpaceId,
    call: Addr,
    ops: &mut Vec<SpaceOp>,
) -> Result<(Stopped, Option<(usize, Addr)>)> {
    let tgid = world.task(tid)?.tgid;
    let space = world.space_mut(id);
    let fits = |(range, free): &(AddrRange, Addr)| {
        free.0.abs_diff(call.0) < REACH && *free + STUB_MOST as u64 <= range.end
    };
    let stubs = &space.library.sites.stubs;
    if let Some(page) = stubs.iter().position(fits) {
        return Ok((stopped, Some((page, stubs[page].1))));
    }
    let Some(range) = free_page(&space.model, call).filter(|r| r.intersect(rr_area::area()).is_none()) else {
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
    ops.push(op);
    let stubs = &mut space.library.sites.stubs;
    stubs.push((range, range.start));
    Ok((stopped, Some((stubs.len() - 1, range.start))))
}
