//! A place that is named by its state: where the user has interrupted a task.
//!
//! Nothing counts the instructions of a task that runs freely, so the place has no name at first. It
//! gets one when needed: the interval is run again, counting the passes of the place's instruction
//! until the state is equal. Invariant: two moments of an interval with the same state are the same
//! place, because the same follows from both. The state is that of an execution point (I7), and the
//! number of buffered calls that the task has used.
//!
//! A loop that repeats its registers is passed quickly, because the search learns: a word of memory
//! that distinguished a moment from the place is compared in the task from then on.

mod state;

use rr_trace::event::Event;
use rr_tracee::digest::{self, CHUNK};
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, AddrRange, Memory, Tid};

use crate::buffer;
use crate::error::{Result, failed};
use crate::own_code::with_own_code;
use crate::passes::remake_goal;
use crate::session::ReplaySession;

pub(crate) use state::{Goal, Place};

/// Maximum number of words that are compared in the task.
const WORDS_MOST: usize = 64;

/// Number of bytes of the interval's records that a task has used. (Without records, the word means
/// nothing.)
fn used(event: &Event, memory: &Memory) -> Result<u64> {
    match event.buffered.is_empty() {
        true => Ok(0),
        false => buffer::used(memory).map_err(|e| failed(event, e)),
    }
}

/// The state of the event's task. The session must live, and stay where it is, while the place is
/// searched.
pub(crate) fn place_here(session: &mut ReplaySession, event: &Event) -> Result<Place> {
    let regs = session.world.regs_of(event)?.of_program();
    let changes = session.interval.pending.as_ref().map_or(0, |p| p.changes.len());
    let task = session.world.task(event)?;
    let (memory, space) = (task.memory(), task.space);
    let xstate = task.xstate().map_err(|e| failed(event, e))?.normalised();
    let used = used(event, &memory)?;
    let overlay = session.code.overlays.get(&space).cloned().unwrap_or_default();
    let digests = with_own_code(session, || {
        session
            .world
            .digests(event.tid, digest::ALL)
            .map_err(|e| failed(event, e))
    })?;
    Ok(Place {
        regs,
        xstate,
        digests,
        changes,
        used,
        words: Vec::new(),
        suspect: None,
        memory,
        overlay,
    })
}

/// Returns whether the event's task is at a place. If only memory differs, a differing word is
/// compared from now on.
pub(crate) fn is_at_place(session: &mut ReplaySession, event: &Event, place: &mut Place) -> Result<bool> {
    if session.interval.pending.as_ref().map_or(0, |p| p.changes.len()) != place.changes
        || session.world.regs_of(event)?.of_program() != place.regs
    {
        return Ok(false);
    }
    let memory = session.world.task(event)?.memory();
    for (addr, value) in &place.words {
        if memory.read_u64(*addr).map_err(|e| failed(event, e))? != *value {
            return Ok(false);
        }
    }
    let used = used(event, &memory)?;
    let xstate = session
        .world
        .task(event)?
        .xstate()
        .map_err(|e| failed(event, e))?;
    if used != place.used || xstate.normalised() != place.xstate {
        return Ok(false);
    }
    let differs = with_own_code(session, || {
        chunk_that_differs(session, event.tid, place).map_err(|e| failed(event, e))
    })?;
    let Some(chunk) = differs else {
        return Ok(true);
    };
    place.suspect = Some(chunk);
    if place.words.len() < WORDS_MOST
        && let Some(word) = word_that_differs(session, event, place, chunk)
    {
        place.words.push(word);
        remake_goal(session, event, place.addr())?;
    }
    Ok(false)
}

fn chunk_that_differs(session: &ReplaySession, tid: Tid, place: &Place) -> rr_tracee::Result<Option<Addr>> {
    if let Some(chunk) = place.suspect {
        let now = session.world.digests(tid, AddrRange::sized(chunk, CHUNK))?;
        let then: Vec<_> = place
            .digests
            .iter()
            .filter(|s| s.start == chunk)
            .copied()
            .collect();
        if now != then {
            return Ok(Some(chunk));
        }
    }
    Ok(digest::first_difference(
        &session.world.digests(tid, digest::ALL)?,
        &place.digests,
    ))
}

/// The first word of a chunk that differs from the place, with its value at the place.
fn word_that_differs(
    session: &ReplaySession,
    event: &Event,
    place: &Place,
    chunk: Addr,
) -> Option<(Addr, u64)> {
    const PAGE: u64 = rr_tracee::ids::PAGE;
    let task = session.world.tasks.get(&event.tid)?;
    let (memory, space) = (task.memory(), session.world.spaces.get(&task.space)?);
    let overlay = session.code.overlays.get(&task.space);
    let chunk = AddrRange::sized(chunk, CHUNK);
    let parts = space
        .touching(chunk)
        .filter(|m| m.prot.has(rr_tracee::Prot::WRITE));
    for part in parts.filter_map(|m| m.clipped(chunk)) {
        let mut at = part.range.start;
        while at < part.range.end {
            let mut now = [0; PAGE as usize];
            let mut then = [0; PAGE as usize];
            let is_read = memory.read(at, &mut now).is_ok() && place.memory.read(at, &mut then).is_ok();
            if let Some(overlay) = overlay {
                overlay.mask(at, &mut now);
            }
            place.overlay.mask(at, &mut then);
            if is_read && now != then {
                let n = now
                    .chunks_exact(8)
                    .zip(then.chunks_exact(8))
                    .position(|(a, b)| a != b)?;
                let word = then[n * 8..]
                    .first_chunk()
                    .map(|bytes| u64::from_le_bytes(*bytes))?;
                return Some((at + n as u64 * 8, word));
            }
            at = at + PAGE;
        }
    }
    None
}
