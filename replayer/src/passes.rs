//! Passing over breakpoints: the instruction at a breakpoint is executed elsewhere, and a breakpoint
//! that only counts does not stop the task.
//!
//! An `int3` that does not stop the user costs a stop of the task and a single step. So a breakpoint
//! that is passed again and again in an interval gets a copy of its instruction. A breakpoint that is
//! only counted gets a [`Stub`] that counts in the task itself.
//!
//! ```text
//!                          per pass    what the task meets
//! first passes             a step      int3; the instruction in its own place, by a single step
//! a stop that goes on      a stop      int3; the copy of the instruction
//! a count                  nothing     jump to the stub: count; the copies of the instructions
//! a condition              nothing     jump to the stub: evaluate; false: as a count; true: a stop
//! ```
//!
//! Invariant: positions and counts are exactly those of stops at every pass. So no stub is used where
//! it could count differently, and a task that is interrupted in a stub continues to an instruction of
//! the program. Stubs and copies exist until the task arrives at its event, a buffered call changes the
//! address space, or other places are to be counted: no event meets them.

mod find;
mod remove;
mod state;

use rr_trace::event::{Event, EventKind};
use rr_tracee::code::{WINDOW_MAX, Window};
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, AddrRange, Prot};

use crate::breakpoints::is_breakpoint;
use crate::error::{Result, failed};
use crate::kept_off::{kept_off, together};
use crate::own_code::sites_of;
use crate::place::{Goal, is_at_place};
use crate::point::unput_probe;
use crate::position::Mark;
use crate::probe::{Counting, End, INT3, Stub};
use crate::probed::{is_in_the_way, probed};
use crate::session::ReplaySession;
use crate::words::{COUNT_WORDS, COUNTERS, COUNTS, GOALS, KEPT_OFF, LAST, LEFT, RANGES};
use find::goals;
use state::{PASSES, Pass};

pub(crate) use find::{after_fault, at_stub, moved_from, stub_around};
pub(crate) use remove::{remake_goal, remove_passes};
pub(crate) use state::{LastPass, Passes, Trapped};

/// Number of times that a task may come between the replaced instructions before the stub's benefit is
/// checked.
const DETOURS: u64 = 16;

/// The task is about to execute an instruction with a breakpoint. Returns whether the breakpoint is
/// only counted, and counts it.
pub(crate) fn is_only_counted(session: &mut ReplaySession, event: &Event, rip: Addr) -> Result<bool> {
    let Some(is_noted) = session.stoppoints.breakpoints.counted.get(&rip).copied() else {
        return Ok(false);
    };
    let mark = Mark::Execute(rip);
    match &session.stoppoints.breakpoints.goal {
        Some(Goal::Count(goal, enough))
            if *goal == rip && session.interval.progress.counted(mark) + 1 >= *enough =>
        {
            return Ok(false);
        }
        Some(Goal::Place(place)) if place.borrow().addr() == rip => {
            let place = std::rc::Rc::clone(place);
            if is_at_place(session, event, &mut place.borrow_mut())? {
                return Ok(false);
            }
        }
        _ => {}
    }
    session.interval.progress.count(mark);
    if is_noted {
        let goals = goals(session);
        let count = session.interval.progress.counted(mark);
        session.stoppoints.breakpoints.last = Some(LastPass {
            addr: rip,
            count,
            goals,
        });
    }
    Ok(true)
}

/// The address where a task before a breakpoint continues, if it need not be stepped.
pub(crate) fn way_past(session: &mut ReplaySession, event: &Event, rip: Addr) -> Result<Option<Addr>> {
    if !is_breakpoint(session, event.tid, rip) && !session.interval.is_probed_by_int3(event, rip) {
        return Ok(None);
    }
    let passes = &mut session.stoppoints.breakpoints.passes;
    let passed = passes.passed.entry(rip).or_default();
    *passed += 1;
    if *passed == PASSES {
        make_pass(session, event, rip).map_err(|e| failed(event, e))?;
    }
    let made = session.stoppoints.breakpoints.passes.here.get(&rip);
    Ok(made.map(|pass| pass.stub.moved))
}

fn make_pass(session: &mut ReplaySession, event: &Event, at: Addr) -> rr_tracee::Result<()> {
    sites_of(session, event);
    let Some(task) = session.world.tasks.get(&event.tid) else {
        return Ok(());
    };
    let (memory, id) = (task.memory(), task.space);
    let Some(space) = session.world.spaces.get(&id) else {
        return Ok(());
    };
    // Code that the program can write to may change.
    let is_fixed = |m: &rr_tracee::Mapping| m.prot.has(Prot::EXEC) && !m.prot.has(Prot::WRITE);
    let is_put =
        session.stoppoints.breakpoints.is_put(id, at) || session.interval.is_probed_by_int3(event, at);
    if !space.at(at).is_some_and(is_fixed) || !is_put {
        return Ok(());
    }
    // Reads the program's code there.
    let mut code = [0; WINDOW_MAX];
    let got = memory.read_some(at, &mut code)?;
    if let Some(overlay) = session.code.overlays.get(&id) {
        overlay.mask(at, &mut code[..got]);
    }
    let code = &code[..got];
    let mut taken: Vec<AddrRange> = session.stoppoints.breakpoints.passes.rooms().collect();
    taken.extend(session.interval.probe_stub().map(|stub| stub.room));
    let is_free = |window: &Window| {
        let mut bytes = (0..window.len() as u64).map(|n| at + n);
        let site = |addr| {
            session
                .code
                .sites
                .get(&id)
                .is_some_and(|sites| sites.around(addr).is_some())
        };
        // A repeated instruction counts at each of its turns.
        !window.begins_with_repeat() && !window.shows_place() && !bytes.any(site)
    };
    // Settings of the stub: conditions, counting, and the goal.
    let conditions = session
        .stoppoints
        .breakpoints
        .conditions
        .get(&at)
        .map_or(&[][..], |all| all);
    let is_noted = session.stoppoints.breakpoints.counted.get(&at).copied();
    let counting = is_noted
        .or((!conditions.is_empty()).then_some(false))
        .filter(|_| session.stoppoints.breakpoints.passes.counters.len() < COUNTERS);
    let goal = session
        .stoppoints
        .breakpoints
        .goal
        .as_ref()
        .filter(|goal| goal.addr() == at);
    let point = match &event.kind {
        EventKind::Point { at: regs, point } if regs.rip == at.0 => Some((regs, point)),
        _ => None,
    };
    let probed = probed(session, event);
    let counter = session.stoppoints.breakpoints.passes.counters.len();
    // Makes the stub: one that counts if possible, otherwise a copy of one instruction.
    let window = Window::new(code, at).filter(|w| {
        let inside = AddrRange::new(at + 1, at + w.len() as u64);
        let all = AddrRange::sized(at, w.len() as u64);
        let is_apart = |p: AddrRange| p.end <= all.start || all.end <= p.start || p.start == at;
        // The goal comes before the execution point, so the probe can wait.
        let is_clear = goal.is_some() || probed.is_none_or(is_apart);
        !session.stoppoints.breakpoints.within(inside) && is_clear && is_free(w)
    });
    let goal_window = window.as_ref().filter(|_| goal.is_some());
    let goal_window = goal_window.map(|w| AddrRange::sized(at, w.len() as u64));
    let counting = counting.and_then(|is_noted| {
        let place = match goal {
            Some(Goal::Place(place)) => Some(place.borrow()),
            _ => None,
        };
        let changes = session.interval.pending.as_ref().map_or(0, |p| p.changes.len());
        let end = match (goal, &place) {
            (None, _) => point.map_or(End::Never, |(regs, point)| {
                End::State(regs, &point.discriminators)
            }),
            (Some(Goal::Count(..)), _) => End::Enough,
            (_, Some(place)) if place.changes() == changes => End::State(place.regs(), place.words()),
            _ => End::Never,
        };
        let what = Counting {
            counter,
            is_noted,
            is_goal: goal.is_some(),
            end,
            conditions,
            where_true: session.stoppoints.breakpoints.where_true,
        };
        Stub::counting(&window?, at, &what, space, &taken)
    });
    let is_patched = counting.is_some();
    let stub = counting.or_else(|| {
        let window = Window::single(code, at).filter(is_free)?;
        Stub::copy(&window, at, space, &taken)
    });
    let Some(stub) = stub else {
        return Ok(());
    };
    // Writes the stub, and patches the code.
    if !session.world.map_stub(event, &stub)? {
        return Ok(());
    }
    if is_patched && goal_window.is_some_and(|window| is_in_the_way(session, event, window)) {
        unput_probe(session, event)?;
    }
    if stub.asking.is_some() {
        let sites = session
            .code
            .sites
            .get(&id)
            .into_iter()
            .flat_map(|sites| sites.ranges());
        session.stoppoints.breakpoints.passes.sites = together(sites.collect(), RANGES);
    }
    let pass = Pass {
        stub,
        is_patched,
        goal: goal_window,
        counted: session.interval.progress.counted(Mark::Execute(at)),
        detours: 0,
    };
    if is_patched {
        let overlay = session.code.overlays.entry(id).or_default();
        overlay.remove(&memory, at)?;
        if !overlay.put(&memory, at, &pass.stub.patch)? {
            overlay.put(&memory, at, &[INT3])?;
            return session.world.unmap_stub(event, &pass.stub);
        }
        session.stoppoints.breakpoints.passes.counters.push(at);
    }
    session.stoppoints.breakpoints.passes.here.insert(at, pass);
    Ok(())
}

/// Sets the stubs' counters to the counts of the position.
pub(crate) fn give_counts(session: &mut ReplaySession, event: &Event) -> Result<()> {
    if session.stoppoints.breakpoints.passes.counters.is_empty() {
        return Ok(());
    }
    let mut words = [0u64; COUNT_WORDS];
    for (word, addr) in words
        .iter_mut()
        .zip(&session.stoppoints.breakpoints.passes.counters)
    {
        *word = session.interval.progress.counted(Mark::Execute(*addr));
    }
    words[GOALS] = goals(session) << 8;
    if let Some(Goal::Count(addr, enough)) = &session.stoppoints.breakpoints.goal {
        words[LEFT] = enough.saturating_sub(session.interval.progress.counted(Mark::Execute(*addr)));
    }
    if session.stoppoints.breakpoints.passes.ask() {
        for (n, range) in kept_off(session, event)?.iter().enumerate() {
            // The range is widened by seven bytes, because an access has up to eight bytes.
            words[KEPT_OFF + 2 * n] = range.start.0.saturating_sub(7);
            words[KEPT_OFF + 2 * n + 1] = range.len() + 7;
        }
    }
    let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    let written = session.world.task(event)?.memory().write(COUNTS, &bytes);
    written.map_err(|e| failed(event, e))
}

/// Adds the stubs' counts to the position.
pub(crate) fn take_counts(session: &mut ReplaySession, event: &Event) -> Result<()> {
    if session.stoppoints.breakpoints.passes.counters.is_empty() {
        return Ok(());
    }
    let mut bytes = [0; COUNT_WORDS * 8];
    let memory = session.world.task(event)?.memory();
    memory.read(COUNTS, &mut bytes).map_err(|e| failed(event, e))?;
    let mut words = [0u64; COUNT_WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = bytes.try_into().map_or(0, u64::from_le_bytes);
    }
    let counters = &session.stoppoints.breakpoints.passes.counters;
    for (word, addr) in words.iter().zip(counters) {
        session.interval.progress.set_counted(Mark::Execute(*addr), *word);
    }
    let number = (words[LAST] & 0xff) as usize;
    if let Some(addr) = number.checked_sub(1).and_then(|n| counters.get(n)) {
        session.stoppoints.breakpoints.last = Some(LastPass {
            addr: *addr,
            count: session.interval.progress.counted(Mark::Execute(*addr)),
            goals: words[LAST] >> 8,
        });
    }
    Ok(())
}

/// Notes that a task has come between instructions that the jump at `at` replaces, which costs a
/// stop. If that happens more often than the breakpoint is passed, the breakpoint gets its `int3`
/// back, and the stub becomes a copy.
pub(crate) fn note_detour(session: &mut ReplaySession, event: &Event, at: Addr) -> Result<()> {
    let passed = session.interval.progress.counted(Mark::Execute(at));
    let Some(pass) = session
        .stoppoints
        .breakpoints
        .passes
        .here
        .get_mut(&at)
        .filter(|pass| pass.is_patched)
    else {
        return Ok(());
    };
    pass.detours += 1;
    if pass.detours < DETOURS || pass.detours <= passed.saturating_sub(pass.counted) {
        return Ok(());
    }
    pass.is_patched = false;
    let task = session.world.task(event)?;
    let (memory, space) = (task.memory(), task.space);
    let overlay = session.code.overlays.entry(space).or_default();
    let put = overlay.remove(&memory, at);
    put.and_then(|()| overlay.put(&memory, at, &[INT3]))
        .map_err(|e| failed(event, e))?;
    Ok(())
}

/// Returns whether the passes of the instruction at `at` can be counted in the task, as far as its
/// code shows.
pub(crate) fn can_be_counted(session: &mut ReplaySession, event: &Event, at: Addr) -> bool {
    sites_of(session, event);
    let Some(task) = session.world.tasks.get(&event.tid) else {
        return false;
    };
    let Some(window) = session.code.window(task, at) else {
        return false;
    };
    let sites = session.code.sites.get(&task.space);
    let mut bytes = (0..window.len() as u64).map(|n| at + n);
    let in_site = bytes.any(|at| sites.is_some_and(|sites| sites.around(at).is_some()));
    let fits = |space| Stub::fits(&window, at, space);
    let is_plain = !window.begins_with_repeat() && !window.shows_place() && window.leads_on();
    is_plain && !in_site && session.world.spaces.get(&task.space).is_some_and(fits)
}
