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

mod state;

use rr_trace::event::{Event, EventKind};
use rr_tracee::code::{WINDOW_MAX, Window};
use rr_tracee::memory::ReadMemory;
use rr_tracee::remote::Remote;
use rr_tracee::{Addr, AddrRange, Prot};

use crate::error::{Result, failed};
use crate::kept_off::together;
use crate::place::Goal;
use crate::position::Mark;
use crate::probe::{Counting, End, INT3, Stub};
use crate::session::ReplaySession;
use crate::words::{COUNT_WORDS, COUNTERS, COUNTS, GOALS, KEPT_OFF, LAST, LEFT, RANGES};
use state::Pass;
pub(crate) use state::{LastPass, Passes, Trapped};

/// Number of passes of a breakpoint in one interval before it gets a stub.
const PASSES: u32 = 4;
/// Number of times that a task may come between the replaced instructions before the stub's benefit is
/// checked.
const DETOURS: u64 = 16;

impl ReplaySession {
    /// The task is about to execute an instruction with a breakpoint. Returns whether the breakpoint is
    /// only counted, and counts it.
    pub(crate) fn is_only_counted(&mut self, event: &Event, rip: Addr) -> Result<bool> {
        let Some(is_noted) = self.stoppoints.breakpoints.counted.get(&rip).copied() else {
            return Ok(false);
        };
        let mark = Mark::Execute(rip);
        match &self.stoppoints.breakpoints.goal {
            Some(Goal::Count(goal, enough))
                if *goal == rip && self.interval.progress.counted(mark) + 1 >= *enough =>
            {
                return Ok(false);
            }
            Some(Goal::Place(place)) if place.borrow().addr() == rip => {
                let place = std::rc::Rc::clone(place);
                if self.is_at_place(event, &mut place.borrow_mut())? {
                    return Ok(false);
                }
            }
            _ => {}
        }
        self.interval.progress.count(mark);
        if is_noted {
            let goals = self.goals();
            let count = self.interval.progress.counted(mark);
            self.stoppoints.breakpoints.last = Some(LastPass {
                addr: rip,
                count,
                goals,
            });
        }
        Ok(true)
    }

    /// Number of times that the goal has been met.
    fn goals(&self) -> u64 {
        let goal = self.stoppoints.breakpoints.goal.as_ref().map(Goal::addr);
        goal.map_or(0, |addr| self.interval.progress.counted(Mark::Execute(addr)))
    }

    /// The address where a task before a breakpoint continues, if it need not be stepped.
    pub(crate) fn way_past(&mut self, event: &Event, rip: Addr) -> Result<Option<Addr>> {
        if !self.is_breakpoint(event.tid, rip) && !self.is_probed_by_int3(event, rip) {
            return Ok(None);
        }
        let passes = &mut self.stoppoints.breakpoints.passes;
        let passed = passes.passed.entry(rip).or_default();
        *passed += 1;
        if *passed == PASSES {
            self.make_pass(event, rip).map_err(|e| failed(event, e))?;
        }
        let made = self.stoppoints.breakpoints.passes.here.get(&rip);
        Ok(made.map(|pass| pass.stub.moved))
    }

    fn make_pass(&mut self, event: &Event, at: Addr) -> rr_tracee::Result<()> {
        self.sites_of(event);
        let Some(task) = self.world.tasks.get(&event.tid) else {
            return Ok(());
        };
        let (memory, id) = (task.memory(), task.space);
        let Some(space) = self.world.spaces.get(&id) else {
            return Ok(());
        };
        // Code that the program can write to may change.
        let is_fixed = |m: &rr_tracee::Mapping| m.prot.has(Prot::EXEC) && !m.prot.has(Prot::WRITE);
        let is_put = self.stoppoints.breakpoints.is_put(id, at) || self.is_probed_by_int3(event, at);
        if !space.at(at).is_some_and(is_fixed) || !is_put {
            return Ok(());
        }
        // Reads the program's code there.
        let mut code = [0; WINDOW_MAX];
        let got = memory.read_some(at, &mut code)?;
        if let Some(overlay) = self.code.overlays.get(&id) {
            overlay.mask(at, &mut code[..got]);
        }
        let code = &code[..got];
        let mut taken: Vec<AddrRange> = self.stoppoints.breakpoints.passes.rooms().collect();
        taken.extend(self.probe_stub().map(|stub| stub.room));
        let is_free = |window: &Window| {
            let mut bytes = (0..window.len() as u64).map(|n| at + n);
            let site = |addr| {
                self.code
                    .sites
                    .get(&id)
                    .is_some_and(|sites| sites.around(addr).is_some())
            };
            // A repeated instruction counts at each of its turns.
            !window.begins_with_repeat() && !window.shows_place() && !bytes.any(site)
        };
        // Settings of the stub: conditions, counting, and the goal.
        let conditions = self
            .stoppoints
            .breakpoints
            .conditions
            .get(&at)
            .map_or(&[][..], |all| all);
        let is_noted = self.stoppoints.breakpoints.counted.get(&at).copied();
        let counting = is_noted
            .or((!conditions.is_empty()).then_some(false))
            .filter(|_| self.stoppoints.breakpoints.passes.counters.len() < COUNTERS);
        let goal = self
            .stoppoints
            .breakpoints
            .goal
            .as_ref()
            .filter(|goal| goal.addr() == at);
        let point = match &event.kind {
            EventKind::Point { at: regs, point } if regs.rip == at.0 => Some((regs, point)),
            _ => None,
        };
        let probed = self.probed(event);
        let counter = self.stoppoints.breakpoints.passes.counters.len();
        // Makes the stub: one that counts if possible, otherwise a copy of one instruction.
        let window = Window::new(code, at).filter(|w| {
            let inside = AddrRange::new(at + 1, at + w.len() as u64);
            let all = AddrRange::sized(at, w.len() as u64);
            let is_apart = |p: AddrRange| p.end <= all.start || all.end <= p.start || p.start == at;
            // The goal comes before the execution point, so the probe can wait.
            let is_clear = goal.is_some() || probed.is_none_or(is_apart);
            !self.stoppoints.breakpoints.within(inside) && is_clear && is_free(w)
        });
        let goal_window = window.as_ref().filter(|_| goal.is_some());
        let goal_window = goal_window.map(|w| AddrRange::sized(at, w.len() as u64));
        let counting = counting.and_then(|is_noted| {
            let place = match goal {
                Some(Goal::Place(place)) => Some(place.borrow()),
                _ => None,
            };
            let changes = self.interval.pending.as_ref().map_or(0, |p| p.changes.len());
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
                where_true: self.stoppoints.breakpoints.where_true,
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
        if !self.map_stub(event, &stub)? {
            return Ok(());
        }
        if is_patched && goal_window.is_some_and(|window| self.is_in_the_way(event, window)) {
            self.unput_probe(event)?;
        }
        if stub.asking.is_some() {
            let sites = self
                .code
                .sites
                .get(&id)
                .into_iter()
                .flat_map(|sites| sites.ranges());
            self.stoppoints.breakpoints.passes.sites = together(sites.collect(), RANGES);
        }
        let pass = Pass {
            stub,
            is_patched,
            goal: goal_window,
            counted: self.interval.progress.counted(Mark::Execute(at)),
            detours: 0,
        };
        if is_patched {
            let overlay = self.code.overlays.entry(id).or_default();
            overlay.remove(&memory, at)?;
            if !overlay.put(&memory, at, &pass.stub.patch)? {
                overlay.put(&memory, at, &[INT3])?;
                return self.unmap_stub(event, &pass.stub);
            }
            self.stoppoints.breakpoints.passes.counters.push(at);
        }
        self.stoppoints.breakpoints.passes.here.insert(at, pass);
        Ok(())
    }

    /// The window at the event's execution point, if the event is one: there is a probe, or will be.
    pub(crate) fn probed(&self, event: &Event) -> Option<AddrRange> {
        let EventKind::Point { at, .. } = &event.kind else {
            return None;
        };
        let task = self.world.tasks.get(&event.tid)?;
        let at = Addr(at.rip);
        let window = self.code.window(task, at);
        Some(AddrRange::sized(
            at,
            window.map_or(1, |window| window.len()) as u64,
        ))
    }

    fn is_in_the_way(&self, event: &Event, window: AddrRange) -> bool {
        let probed = self.probed(event);
        probed.is_some_and(|probed| probed.intersect(window).is_some())
    }

    /// Returns whether the stub of the goal is where the event's probe should be.
    pub(crate) fn has_probe_to_wait(&self, event: &Event) -> bool {
        let mut goals = self
            .stoppoints
            .breakpoints
            .passes
            .here
            .values()
            .filter(|pass| pass.is_patched);
        goals.any(|pass| pass.goal.is_some_and(|window| self.is_in_the_way(event, window)))
    }

    /// Removes all stubs and copies.
    pub(crate) fn remove_passes(&mut self, event: &Event) -> Result<()> {
        let passes = std::mem::take(&mut self.stoppoints.breakpoints.passes);
        for (at, pass) in &passes.here {
            self.unmake_pass(event, *at, pass).map_err(|e| failed(event, e))?;
        }
        Ok(())
    }

    fn unmake_pass(&mut self, event: &Event, at: Addr, pass: &Pass) -> rr_tracee::Result<()> {
        if pass.is_patched
            && let Some(task) = self.world.tasks.get(&event.tid)
        {
            let memory = task.memory();
            let overlay = self.code.overlays.entry(task.space).or_default();
            overlay.remove(&memory, at)?;
            overlay.put(&memory, at, &[INT3])?;
        }
        self.unmap_stub(event, &pass.stub)
    }

    /// The goal has changed: its stub is made anew when it is passed next.
    pub(crate) fn remake_goal(&mut self, event: &Event, at: Addr) -> Result<()> {
        self.stoppoints.breakpoints.passes.passed.insert(at, PASSES - 1);
        if !self.stoppoints.breakpoints.passes.here.contains_key(&at) {
            return Ok(());
        }
        // Numbers of counters are not reused, so all stubs are made anew.
        let passed = self.stoppoints.breakpoints.passes.passed.clone();
        self.remove_passes(event)?;
        let again = passed.into_iter().map(|(at, n)| (at, n.min(PASSES - 1)));
        self.stoppoints.breakpoints.passes.passed = again.collect();
        Ok(())
    }

    /// Maps a stub's room and writes its code. Returns `false` if there is no room.
    pub(crate) fn map_stub(&mut self, event: &Event, stub: &Stub) -> rr_tracee::Result<bool> {
        let Some(task) = self.world.tasks.get_mut(&event.tid) else {
            return Ok(false);
        };
        let args = [
            stub.room.start.0,
            stub.room.len(),
            (libc::PROT_READ | libc::PROT_EXEC) as u64,
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE) as u64,
            u64::MAX,
            0,
        ];
        let (remote, mapped) = Remote::ours(task.take()?)?.call(libc::SYS_mmap, args)?;
        task.give(remote.finish()?);
        if mapped != stub.room.start.0 as i64 {
            return Ok(false);
        }
        task.memory().write(stub.place, &stub.code)?;
        Ok(true)
    }

    /// Unmaps a stub's room.
    pub(crate) fn unmap_stub(&mut self, event: &Event, stub: &Stub) -> rr_tracee::Result<()> {
        let Some(task) = self.world.tasks.get_mut(&event.tid) else {
            return Ok(());
        };
        let stopped = Remote::ours(task.take()?)?.unmap(stub.room)?.finish()?;
        task.give(stopped);
        Ok(())
    }

    /// Sets the stubs' counters to the counts of the position.
    pub(crate) fn give_counts(&mut self, event: &Event) -> Result<()> {
        if self.stoppoints.breakpoints.passes.counters.is_empty() {
            return Ok(());
        }
        let mut words = [0u64; COUNT_WORDS];
        for (word, addr) in words.iter_mut().zip(&self.stoppoints.breakpoints.passes.counters) {
            *word = self.interval.progress.counted(Mark::Execute(*addr));
        }
        words[GOALS] = self.goals() << 8;
        if let Some(Goal::Count(addr, enough)) = &self.stoppoints.breakpoints.goal {
            words[LEFT] = enough.saturating_sub(self.interval.progress.counted(Mark::Execute(*addr)));
        }
        if self.stoppoints.breakpoints.passes.ask() {
            for (n, range) in self.kept_off(event)?.iter().enumerate() {
                // The range is widened by seven bytes, because an access has up to eight bytes.
                words[KEPT_OFF + 2 * n] = range.start.0.saturating_sub(7);
                words[KEPT_OFF + 2 * n + 1] = range.len() + 7;
            }
        }
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        let written = self.task(event)?.memory().write(COUNTS, &bytes);
        written.map_err(|e| failed(event, e))
    }

    /// Adds the stubs' counts to the position.
    pub(crate) fn take_counts(&mut self, event: &Event) -> Result<()> {
        if self.stoppoints.breakpoints.passes.counters.is_empty() {
            return Ok(());
        }
        let mut bytes = [0; COUNT_WORDS * 8];
        let memory = self.task(event)?.memory();
        memory.read(COUNTS, &mut bytes).map_err(|e| failed(event, e))?;
        let mut words = [0u64; COUNT_WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        let counters = &self.stoppoints.breakpoints.passes.counters;
        for (word, addr) in words.iter().zip(counters) {
            self.interval.progress.set_counted(Mark::Execute(*addr), *word);
        }
        let number = (words[LAST] & 0xff) as usize;
        if let Some(addr) = number.checked_sub(1).and_then(|n| counters.get(n)) {
            self.stoppoints.breakpoints.last = Some(LastPass {
                addr: *addr,
                count: self.interval.progress.counted(Mark::Execute(*addr)),
                goals: words[LAST] >> 8,
            });
        }
        Ok(())
    }

    /// The meaning of an `int3` that ends at `rip`, if it belongs to a stub.
    pub(crate) fn at_stub(&self, rip: Addr) -> Option<Trapped> {
        for (at, pass) in &self.stoppoints.breakpoints.passes.here {
            let int3 = Addr(rip.0.wrapping_sub(1));
            if pass.stub.traps_at(int3) && pass.is_patched {
                return Some(Trapped::At(*at));
            }
            if pass.is_patched
                && let Some(moved) = pass.stub.moved_from(int3)
            {
                return Some(Trapped::Moved(*at, moved));
            }
        }
        None
    }

    /// The address where a task continues that has met an invalid instruction within a jump, and the
    /// address of that jump.
    pub(crate) fn moved_from(&self, rip: Addr) -> Option<(Addr, Addr)> {
        let passes = self.stoppoints.breakpoints.passes.here.iter();
        let stubs = passes.filter(|(_, pass)| pass.is_patched);
        let stubs = stubs.map(|(at, pass)| (*at, &pass.stub));
        let probe = self.probe_stub().map(|stub| (stub.at, stub));
        stubs
            .chain(probe)
            .find_map(|(at, stub)| Some((at, stub.moved_from(rip)?)))
    }

    /// The address where a task continues after a fault at `rip`, if a condition could not be read.
    pub(crate) fn after_fault(&self, rip: Addr) -> Option<Addr> {
        self.stoppoints
            .breakpoints
            .passes
            .around(rip)?
            .stub
            .after_fault(rip)
    }

    /// Notes that a task has come between instructions that the jump at `at` replaces, which costs a
    /// stop. If that happens more often than the breakpoint is passed, the breakpoint gets its `int3`
    /// back, and the stub becomes a copy.
    pub(crate) fn note_detour(&mut self, event: &Event, at: Addr) -> Result<()> {
        let passed = self.interval.progress.counted(Mark::Execute(at));
        let Some(pass) = self
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
        let task = self.task(event)?;
        let (memory, space) = (task.memory(), task.space);
        let overlay = self.code.overlays.entry(space).or_default();
        let put = overlay.remove(&memory, at);
        put.and_then(|()| overlay.put(&memory, at, &[INT3]))
            .map_err(|e| failed(event, e))?;
        Ok(())
    }

    /// Returns whether the passes of the instruction at `at` can be counted in the task, as far as its
    /// code shows.
    pub(crate) fn can_be_counted(&mut self, event: &Event, at: Addr) -> bool {
        self.sites_of(event);
        let Some(task) = self.world.tasks.get(&event.tid) else {
            return false;
        };
        let Some(window) = self.code.window(task, at) else {
            return false;
        };
        let sites = self.code.sites.get(&task.space);
        let mut bytes = (0..window.len() as u64).map(|n| at + n);
        let in_site = bytes.any(|at| sites.is_some_and(|sites| sites.around(at).is_some()));
        let fits = |space| Stub::fits(&window, at, space);
        let is_plain = !window.begins_with_repeat() && !window.shows_place() && window.leads_on();
        is_plain && !in_site && self.world.spaces.get(&task.space).is_some_and(fits)
    }

    /// The stub or copy that contains this address.
    pub(crate) fn stub_around(&self, rip: Addr) -> Option<&Stub> {
        let pass = self
            .stoppoints
            .breakpoints
            .passes
            .around(rip)
            .map(|pass| &pass.stub);
        pass.or_else(|| self.probe_stub().filter(|stub| stub.room.contains(rip)))
    }
}
