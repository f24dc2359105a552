//! Tasks that spin: they wait in a loop, without a system call, for something that another task has to do.
//!
//! Nobody else executes user code meanwhile (I1), so what such a loop reads does not change: if after a pass of it the task is in the
//! very state that it was in before, registers, extended state and memory, it goes on like that for ever, until another task has its
//! turn. That is proved by single steps; to be worth them, two looks at the task a moment apart must find it at one place
//! with the same registers, which a loop that computes does not show.
//!
//! The state of a spinning task is the best name that an execution point can have: the first pass of the loop in replay is it. So
//! nothing needs to be watched to find words that change, and the interval ends some hundred microseconds after the look.

use std::time::Duration;

use rr_tracee::code::{self, JUMP_LEN, Window};
use rr_tracee::memory::ReadMemory;
use rr_tracee::regs::Registers;
use rr_tracee::{Addr, Memory, Stopped, Tid};

use super::place::{Moment, instruction_at};
use super::words::{self, Words};
use crate::error::Result;
use crate::session::RecordSession;

/// Looks at a task to find it twice at one place, and how long it is let go between two.
const LOOKS: usize = 5;
const MOMENT: Duration = Duration::from_micros(20);
/// Instructions of a pass at most.
const PASS_MAX: usize = 48;

/// What a task does that was interrupted.
pub(super) enum Doing {
    /// It spins, and stands at a place where that can be named, with these words.
    Spins(Stopped, Words),
    /// Something else, as far as can be seen.
    Else(Stopped),
    /// Its interval ended meanwhile, or it cannot be stepped here.
    Over,
}

/// Bytes that a pass of a loop has written, and what they are.
type Written = Vec<(Addr, Vec<u8>)>;

/// What became of one pass of a loop.
enum Pass {
    /// The registers are as before it. `place`: an instruction where a jump fits best.
    Same {
        stopped: Stopped,
        written: Written,
        place: Addr,
    },
    Different(Stopped),
    Over,
}

/// Registers without what stepping leaves there.
fn plain(stopped: &Stopped) -> Result<Registers> {
    Ok(stopped.regs()?.outside_call().without_resume_flag())
}

impl RecordSession {
    /// Whether an interrupted task spins.
    pub(super) fn look_for_spin(&mut self, tid: Tid, stopped: Stopped) -> Result<Doing> {
        let mut stopped = stopped;
        let mut seen: Vec<Registers> = Vec::with_capacity(LOOKS);
        loop {
            let regs = plain(&stopped)?;
            if let Some(before) = seen.iter().rev().find(|before| before.rip == regs.rip) {
                if *before != regs {
                    return Ok(Doing::Else(stopped));
                }
                return self.prove_spin(tid, stopped);
            }
            if seen.len() + 1 == LOOKS {
                return Ok(Doing::Else(stopped));
            }
            seen.push(regs);
            match self.run_a_moment(tid, stopped, MOMENT, Duration::ZERO)? {
                Moment::Here(now) => stopped = now,
                Moment::Over => return Ok(Doing::Over),
            }
        }
    }

    /// Steps the task through its loop: once if it writes nothing, else twice, and the second time it must write what is there.
    fn prove_spin(&mut self, tid: Tid, stopped: Stopped) -> Result<Doing> {
        let xstate = stopped.xstate()?.normalised();
        let (mut stopped, mut before) = (stopped, None);
        loop {
            let (now, written, place) = match self.pass(tid, stopped)? {
                Pass::Same {
                    stopped,
                    written,
                    place,
                } => (stopped, written, place),
                Pass::Different(stopped) => return Ok(Doing::Else(stopped)),
                Pass::Over => return Ok(Doing::Over),
            };
            stopped = now;
            if stopped.xstate()?.normalised() != xstate {
                return Ok(Doing::Else(stopped));
            }
            if written.is_empty() || before.as_ref() == Some(&written) {
                return self.step_to(tid, stopped, place);
            }
            if before.is_some() {
                return Ok(Doing::Else(stopped));
            }
            before = Some(written);
        }
    }

    /// One pass of a loop: until the task is where it is now.
    fn pass(&mut self, tid: Tid, stopped: Stopped) -> Result<Pass> {
        let (memory, space) = (Memory::of(tid), self.task(tid)?.space);
        let begin = plain(&stopped)?;
        let (mut stopped, mut regs) = (stopped, begin);
        let mut places: Vec<Addr> = Vec::new();
        let mut written: Vec<(Addr, usize)> = Vec::new();
        // Where a jump fits, and how well.
        let mut best: Option<(bool, Addr)> = None;
        for _ in 0..PASS_MAX {
            let at = Addr(regs.rip);
            if self.spaces[&space].library.sites.is_in_stub(at) {
                return Ok(Pass::Different(stopped));
            }
            let (bytes, instruction) = instruction_at(&memory, at)?;
            let Some(instruction) = instruction.filter(|i| !code::repeats(i)) else {
                return Ok(Pass::Different(stopped));
            };
            let Some(writes) = code::written(&instruction, &regs) else {
                return Ok(Pass::Different(stopped));
            };
            written.extend(writes);
            places.push(at);
            if let Some(window) = Window::new(&bytes, at) {
                let fits = window.first_len() >= JUMP_LEN;
                if best.is_none_or(|(before, _)| fits && !before) {
                    best = Some((fits, at));
                }
            }
            match self.step(tid, stopped, Some(&instruction))? {
                Moment::Here(now) => stopped = now,
                Moment::Over => return Ok(Pass::Over),
            }
            regs = plain(&stopped)?;
            if regs.rip == begin.rip {
                if regs != begin {
                    return Ok(Pass::Different(stopped));
                }
                written.sort_unstable();
                written.dedup();
                let mut bytes = Vec::new();
                for (addr, len) in written {
                    bytes.push((addr, memory.read_vec(addr, len)?));
                }
                let place = best.map_or(Addr(begin.rip), |(_, at)| at);
                return Ok(Pass::Same {
                    stopped,
                    written: bytes,
                    place,
                });
            }
        }
        Ok(Pass::Different(stopped))
    }

    /// Steps a spinning task to a place in its loop.
    fn step_to(&mut self, tid: Tid, stopped: Stopped, place: Addr) -> Result<Doing> {
        let (memory, space) = (Memory::of(tid), self.task(tid)?.space);
        let mut stopped = stopped;
        for _ in 0..PASS_MAX {
            let regs = stopped.regs()?;
            if regs.rip == place.0 {
                let mut words = Words::new();
                words::add_stack(&mut words, &memory, &self.spaces[&space].model, Addr(regs.rsp));
                return Ok(Doing::Spins(stopped, words));
            }
            let (_, instruction) = instruction_at(&memory, Addr(regs.rip))?;
            match self.step(tid, stopped, instruction.as_ref())? {
                Moment::Here(now) => stopped = now,
                Moment::Over => return Ok(Doing::Over),
            }
        }
        Ok(Doing::Else(stopped))
    }
}
