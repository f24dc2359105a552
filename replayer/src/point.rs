//! Finding an execution point: a moment of an interval that is named by its state.
//!
//! Keeps I7: a moment counts as the point only if the *whole* state is equal: general and extended
//! registers, and the digest of the memory that the task could have written. A [`Stub`] in the task
//! finds moments that may be the point. If there is no room for a stub, or a breakpoint of the debugger
//! is in its way, an `int3` at the point does the same, slowly.
//!
//! If code is generated or changed in the same interval, it would overwrite the probe, and the point
//! would be missed. So if the program can write to its code, the debug registers watch the probe's
//! place, also where the same memory is mapped once more. After a write the probe is made anew, from
//! the new code: an `int3` first, because the code may be incomplete. Within a stub's jump it is not
//! always certain which bytes were written. If the point then does not come, the search begins anew at
//! the live checkpoint before it, without a stub ([`crate::sprint`]).

mod remove;
mod search;

use rr_trace::event::{Event, Point};
use rr_tracee::code::{self, INSTRUCTION_MOST, WINDOW_MAX, Window};
use rr_tracee::digest::{self, CHUNK};
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, AddrRange, Memory, ObjectId, Prot, Registers};

use crate::error::{Result, failed};
use crate::key::{Key, SAMPLES, Sample};
use crate::probe::{INT3, Stub};
use crate::probed::has_probe_to_wait;
use crate::session::ReplaySession;

pub(crate) use remove::{remove_probe, unput_probe};
pub(crate) use search::{PointSearch, Probe, point_of};

/// Maximum number of words of a point that can be keys. The first words are those that were seen to
/// change.
const KEY_WORDS: usize = 32;

/// Place of the task after a stop of the probe.
pub(crate) enum Found {
    /// At the point.
    Here,
    /// Before a patch, which must be stepped over.
    AtPatch,
    /// At another moment, from which the task continues.
    Elsewhere,
}

/// The write of the instruction before `regs.rip` to one of these ranges: that of the longest
/// instruction that can have ended there. (Of string instructions, which change their own addresses,
/// nothing is found.)
fn last_store(memory: &Memory, regs: &Registers, ranges: &[AddrRange]) -> Vec<(Addr, usize)> {
    let is_there = |(addr, len): &(Addr, usize)| {
        let written = AddrRange::sized(*addr, *len as u64);
        ranges.iter().any(|range| range.intersect(written).is_some())
    };
    let ending_there = |len: usize| {
        let start = Addr(regs.rip.checked_sub(len as u64)?);
        let bytes = memory.read_vec(start, len).ok()?;
        let instruction = code::decode(&bytes, start).filter(|i| i.len() == len)?;
        let mut written = code::written(&instruction, regs)?;
        written.retain(is_there);
        (!written.is_empty()).then_some(written)
    };
    (1..=INSTRUCTION_MOST)
        .rev()
        .find_map(ending_there)
        .unwrap_or_default()
}

/// Returns whether the event is an execution point, and its task is there.
pub(crate) fn is_at_point(session: &mut ReplaySession, event: &Event) -> Result<bool> {
    let Some((at, point)) = point_of(event) else {
        return Ok(false);
    };
    if session
        .interval
        .pending
        .as_ref()
        .is_some_and(|p| !p.changes.is_empty())
    {
        return Ok(false);
    }
    if session.world.regs_of(event)?.of_program() != at.of_program() {
        return Ok(false);
    }
    let task = session.world.task(event)?;
    let (memory, id) = (task.memory(), task.space);
    if let Some(overlay) = session.code.overlays.get(&id) {
        overlay.lift(&memory, digest::ALL).map_err(|e| failed(event, e))?;
    }
    let same = has_state(session, event, &memory, point);
    if let Some(overlay) = session.code.overlays.get(&id) {
        overlay
            .put_back(&memory, digest::ALL)
            .map_err(|e| failed(event, e))?;
    }
    same.map_err(|e| failed(event, e))
}

/// Returns whether the rest of the state is equal to the point's.
fn has_state(
    session: &mut ReplaySession,
    event: &Event,
    memory: &Memory,
    point: &Point,
) -> rr_tracee::Result<bool> {
    for (addr, value) in &point.discriminators {
        if memory.read_u64(*addr)? != *value {
            return Ok(false);
        }
    }
    let Some(task) = session.world.tasks.get(&event.tid) else {
        return Ok(false);
    };
    if task.xstate()?.normalised() != point.xstate.normalised() {
        return Ok(false);
    }
    let Some(space) = session.world.spaces.get(&task.space) else {
        return Ok(false);
    };
    let object = |id: ObjectId| session.world.backings.objects.get(&id).map(|o| &*o.file);
    let suspect = session.interval.pending.as_ref().and_then(|p| p.search.suspect);
    if let Some(suspect) = suspect {
        let chunk = AddrRange::sized(suspect, CHUNK);
        let recorded = point.digests.iter().filter(|s| s.start == suspect).copied();
        if digest::chunk_digests(memory.tid(), space, chunk, object)? != recorded.collect::<Vec<_>>() {
            return Ok(false);
        }
    }
    let digests = digest::chunk_digests(memory.tid(), space, digest::ALL, object)?;
    let differs = digest::first_difference(&digests, &point.digests);
    if let Some(pending) = &mut session.interval.pending {
        pending.search.suspect = differs;
    }
    Ok(differs.is_none())
}

/// The program has written over the probe, by the instruction before `regs.rip`.
pub(crate) fn note_overwritten(session: &mut ReplaySession, event: &Event, regs: &Registers) -> Result<()> {
    let (Some(pending), Some((at, _))) = (&mut session.interval.pending, point_of(event)) else {
        return Ok(());
    };
    pending.search.is_overwritten = true;
    let place = Addr(at.rip);
    let Some(task) = session.world.tasks.get(&event.tid) else {
        return Ok(());
    };
    let (memory, id) = (task.memory(), task.space);
    // An `int3` is there until the byte is another one. Of a stub's jump there may be a part.
    let is_stub = pending.search.probe.as_ref().is_some_and(|p| p.stub().is_some());
    pending.search.is_point_in_doubt |= is_stub;
    let own = AddrRange::sized(place, WINDOW_MAX as u64);
    let mut aliases = session.world.writable_at(event, own);
    aliases.push(own);
    let store = last_store(&memory, regs, &aliases);
    // The same bytes at the address where the code is executed.
    let in_code = |(addr, len): (Addr, usize)| {
        let written = AddrRange::sized(addr, len as u64);
        let alias = aliases.iter().find(|alias| alias.intersect(written).is_some())?;
        let moved = addr.0.wrapping_sub(alias.start.0).wrapping_add(place.0);
        Some(AddrRange::sized(Addr(moved), len as u64))
    };
    let written: Vec<AddrRange> = store.into_iter().filter_map(in_code).collect();
    let overlay = session.code.overlays.entry(id).or_default();
    let noted = overlay.note_written(&memory, place, &written);
    noted.map_err(|e| failed(event, e))
}

/// Returns whether the program can write to its code at the point.
pub(crate) fn is_point_writable(session: &ReplaySession, event: &Event) -> bool {
    let place = point_of(event).map(|(at, _)| AddrRange::sized(Addr(at.rip), 1));
    place.is_some_and(|place| !session.world.writable_at(event, place).is_empty())
}

/// The words of a point that the probe may compare: not those that the probe has overwritten.
fn comparable(session: &ReplaySession, event: &Event, at: &Registers, point: &Point) -> Vec<(Addr, u64)> {
    let own = AddrRange::sized(Addr(at.rip), WINDOW_MAX as u64);
    let mut patched = session.world.writable_at(event, own);
    patched.push(own);
    let is_clear = |addr: Addr| {
        let word = AddrRange::sized(addr, size_of::<u64>() as u64);
        patched.iter().all(|range| range.intersect(word).is_none())
    };
    let words = point.discriminators.iter();
    words.filter(|(addr, _)| is_clear(*addr)).copied().collect()
}

/// Puts the probe into the code, if the event is an execution point and the probe is not there yet.
pub(crate) fn install_probe(session: &mut ReplaySession, event: &Event) -> Result<()> {
    let Some((at, point)) = point_of(event) else {
        return Ok(());
    };
    // Memory that the probe reads may be watched.
    let probe = session
        .interval
        .pending
        .as_ref()
        .and_then(|p| p.search.probe.as_ref());
    if !session.watches().is_empty() && probe.is_some_and(Probe::reads_always) {
        remove_probe(session, event)?;
    }
    let waits = |p: &crate::pending::Pending| {
        let search = &p.search;
        search.probe.is_none() && !search.is_off && p.changes.is_empty()
    };
    if !session.interval.pending.as_ref().is_some_and(waits) || has_probe_to_wait(session, event) {
        return Ok(());
    }
    put_probe(session, event, at, point).map_err(|e| failed(event, e))
}

fn put_probe(
    session: &mut ReplaySession,
    event: &Event,
    at: &Registers,
    point: &Point,
) -> rr_tracee::Result<()> {
    let probe = make_probe(session, event, at, point)?;
    if let Some(pending) = &mut session.interval.pending {
        pending.search.probe = Some(probe);
    }
    Ok(())
}

fn make_probe(
    session: &mut ReplaySession,
    event: &Event,
    at: &Registers,
    point: &Point,
) -> rr_tracee::Result<Probe> {
    let Some(task) = session.world.tasks.get(&event.tid) else {
        return Ok(Probe::Int3 { is_first: false });
    };
    let (memory, id) = (task.memory(), task.space);
    let place = Addr(at.rip);
    let window = session.code.window(task, place);
    let is_clear = |w: &Window| {
        !session
            .stoppoints
            .breakpoints
            .within(AddrRange::sized(place, w.len() as u64))
    };
    let only_int3 = session
        .interval
        .pending
        .as_ref()
        .is_some_and(|p| p.search.only_int3);
    let window = window.filter(|w| !only_int3 && is_clear(w));
    let through = session.world.shared_code(event, place);
    let seen = session
        .interval
        .pending
        .as_ref()
        .map_or(&[][..], |p| &p.search.seen);
    let is_first = window.is_some() && seen.len() < SAMPLES;
    if !is_first {
        let words = comparable(session, event, at, point);
        let key = Key::choose(&sample(session, event, at, &words), seen);
        let space = session.world.spaces.get(&id);
        let taken: Vec<AddrRange> = session.stoppoints.breakpoints.passes.rooms().collect();
        let stub = window.and_then(|w| Stub::new(&w, at, &words, key.as_ref(), space?, &taken));
        let guarded = |stub: &Stub| AddrRange::sized(place, stub.window_len());
        if let Some(stub) = stub
            && guard(session, event, guarded(&stub))
            && session.world.map_stub(event, &stub)?
        {
            let overlay = session.code.overlays.entry(id).or_default();
            overlay.put_through(&memory, place, &stub.patch, through)?;
            let stub = Box::new(stub);
            return Ok(Probe::Stub { stub, key });
        }
    }
    // A copy of the instruction may be made.
    let is_guarded = guard(session, event, AddrRange::sized(place, INSTRUCTION_MOST as u64))
        || guard(session, event, AddrRange::sized(place, 1));
    if let Some(pending) = &mut session.interval.pending {
        pending.search.is_point_in_doubt |= !is_guarded;
    }
    // An existing breakpoint of the debugger serves as well.
    let overlay = session.code.overlays.entry(id).or_default();
    overlay.put_through(&memory, place, &[INT3], through)?;
    Ok(Probe::Int3 { is_first })
}

/// Guards the place of a probe against the program's writes. Returns `false` if there are too few
/// debug registers.
fn guard(session: &mut ReplaySession, event: &Event, range: AddrRange) -> bool {
    let ranges = session.world.writable_at(event, range);
    session.stoppoints.watches.set_guard(&ranges)
}

/// Candidates for a key: registers, and these words if they can always be read. (While a probe
/// exists, the address space stays unchanged, except that a stack grows when touched. Reads must
/// not be noticed.)
fn sample(session: &ReplaySession, event: &Event, regs: &Registers, words: &[(Addr, u64)]) -> Sample {
    let space = session
        .world
        .tasks
        .get(&event.tid)
        .and_then(|t| session.world.spaces.get(&t.space));
    let is_fixed = |addr: Addr| {
        let mapping = space.and_then(|space| space.at(addr));
        mapping.is_some_and(|m| m.prot.has(Prot::READ) && m.range.contains(addr + 7))
    };
    match session.watches().is_empty() {
        true => {
            let words: Vec<_> = words
                .iter()
                .filter(|(addr, _)| is_fixed(*addr))
                .copied()
                .collect();
            Sample::new(regs, &words)
        }
        false => Sample::new(regs, &[]),
    }
}

/// The task stands at the probe, but not at the point. After enough such passes, makes a stub with
/// a key. Returns the address where the task then continues.
fn learn(session: &mut ReplaySession, event: &Event) -> Result<Option<Addr>> {
    let Some((at, point)) = point_of(event) else {
        return Ok(None);
    };
    let regs = session.world.regs_of(event)?.of_program();
    let memory = session.world.task(event)?.memory();
    let now = |(addr, _): &(Addr, u64)| Some((*addr, memory.read_u64(*addr).ok()?));
    let words = comparable(session, event, at, point);
    let words: Vec<(Addr, u64)> = words.iter().take(KEY_WORDS).filter_map(now).collect();
    let sample = sample(session, event, &regs, &words);
    let Some(pending) = &mut session.interval.pending else {
        return Ok(None);
    };
    pending.search.seen.push(sample);
    if pending.search.seen.len() < SAMPLES {
        return Ok(None);
    }
    remove_probe(session, event)?;
    put_probe(session, event, at, point).map_err(|e| failed(event, e))?;
    Ok(session.interval.probe_stub().map(|stub| stub.moved))
}

/// The task has executed an `int3` that ends at `rip`. `None` means that it is not the probe's.
pub(crate) fn at_probe(session: &mut ReplaySession, event: &Event, rip: Addr) -> Result<Option<Found>> {
    let Some((at, _)) = point_of(event) else {
        return Ok(None);
    };
    let probe = session
        .interval
        .pending
        .as_ref()
        .and_then(|p| p.search.probe.as_ref());
    let (hit, moved) = match probe {
        Some(Probe::Stub { stub, .. }) => {
            if let Some(moved) = stub.moved_from(Addr(rip.0.wrapping_sub(1))) {
                if let Some(pending) = &mut session.interval.pending {
                    pending.search.detours += 1;
                }
                session.world.move_to(event, moved)?;
                return Ok(Some(Found::Elsewhere));
            }
            (stub.hit, Some(stub.moved))
        }
        Some(Probe::Int3 { .. }) => (Addr(at.rip), None),
        None => return Ok(None),
    };
    let is_first = matches!(probe, Some(Probe::Int3 { is_first: true }));
    if rip != hit + 1 {
        return Ok(None);
    }
    if let Some(pending) = &mut session.interval.pending {
        pending.search.looks += u64::from(!is_first);
    }
    session.world.move_to(event, Addr(at.rip))?;
    if session
        .interval
        .probe_stub()
        .is_some_and(|stub| stub.has_dead_flags)
    {
        let set = session.world.task(event)?.set_status_flags(at.eflags);
        set.map_err(|e| failed(event, e))?;
    }
    if is_at_point(session, event)? {
        return Ok(Some(Found::Here));
    }
    let moved = match is_first {
        true => learn(session, event)?,
        false => moved,
    };
    match moved {
        Some(moved) => {
            session.world.move_to(event, moved)?;
            Ok(Some(Found::Elsewhere))
        }
        None => Ok(Some(Found::AtPatch)),
    }
}
