//! Tasks that spin: they wait in a loop, without a system call, for something that another task has to do.
//!
//! No other task executes user code meanwhile (I1), so the memory that such a loop reads does not
//! change. If after a pass the task is in exactly the same state (registers, extended state and
//! memory), it goes on like that for ever, until another task has its turn. Single steps prove that.
//! They are made only if two looks at the task a moment apart find it at one place with the same
//! registers, which is not so in a loop that computes.
//!
//! The state of a spinning task is the best name of an execution point, because the first pass of the
//! loop in replay has it. So the recorder need not search for words that change, and the interval ends
//! some hundred microseconds after the look.

use std::time::Duration;

use rr_tracee::code::{self, JUMP_LEN, Window};
use rr_tracee::memory::ReadMemory;
use rr_tracee::regs::Registers;
use rr_tracee::{Addr, Memory, Stopped, Tid};

use crate::error::Result;
use crate::point::discriminators::{Discriminators, add_stack};
use crate::point::place::{Moment, instruction_at, run_a_moment, step_once};
use crate::session::RecordSession;
use crate::world::next::Next;

/// Maximum number of looks to find a task twice at one place, and the time between two looks.
const LOOKS: usize = 5;
const MOMENT: Duration = Duration::from_micros(20);
/// Maximum number of instructions of a pass.
const PASS_MAX: usize = 48;
/// Maximum difference of a counter from one pass to the next.
const COUNT_MAX: u64 = 8;

/// Activity of a task that was interrupted.
pub(crate) enum Doing {
    /// The task spins, and stands at a place that can be named, with these words.
    Spins(Stopped, Discriminators),
    /// The task is in a loop that counts, in these words or in registers, and seems to do nothing else.
    Counts(Stopped, Vec<Addr>),
    /// Something else, as far as can be seen.
    Else(Stopped),
    /// The task's interval has ended, or the task cannot be stepped here.
    Over(Next),
}

/// Bytes that a pass of a loop has written, and their addresses.
type Written = Vec<(Addr, Vec<u8>)>;

/// Result of one pass of a loop.
enum Pass {
    /// The task is at the same instruction again.
    Around(Box<Around>),
    Different(Stopped),
    Over(Next),
}

/// A pass of a loop.
struct Around {
    stopped: Stopped,
    /// Registers after the pass.
    regs: Registers,
    written: Written,
    /// The instruction where a jump fits best.
    place: Addr,
}

/// Returns whether a pass has changed registers only as counters change. (Flags follow from them.)
fn counts(before: &Registers, after: &Registers) -> bool {
    let words = |regs: &Registers| Registers { eflags: 0, ..*regs }.words();
    let steps = |(a, b): (u64, u64)| (b.wrapping_sub(a) as i64).unsigned_abs();
    let all = words(before).into_iter().zip(words(after));
    before.rsp == after.rsp && all.map(steps).all(|step| step <= COUNT_MAX)
}

fn places(written: &Written) -> impl Iterator<Item = (Addr, usize)> {
    written.iter().map(|(addr, bytes)| (*addr, bytes.len()))
}

/// The registers without the effects of stepping.
fn plain(stopped: &Stopped) -> Result<Registers> {
    Ok(stopped.regs()?.outside_call().without_resume_flag())
}

/// Checks if an interrupted task spins.
pub(crate) fn look_for_spin(session: &mut RecordSession, tid: Tid, stopped: Stopped) -> Result<Doing> {
    let mut stopped = stopped;
    let mut seen: Vec<u64> = Vec::with_capacity(LOOKS);
    loop {
        let at = stopped.regs()?.rip;
        if seen.contains(&at) {
            return go_around(session, tid, stopped);
        }
        if seen.len() + 1 == LOOKS {
            return Ok(Doing::Else(stopped));
        }
        seen.push(at);
        match run_a_moment(session, tid, stopped, MOMENT, Duration::ZERO)? {
            Moment::Here(now) => stopped = now,
            Moment::Over(next) => return Ok(Doing::Over(next)),
        }
    }
}

/// Steps the task through its loop once. If the pass writes or counts, a second pass shows if it
/// only writes equal bytes, and only counts.
fn go_around(session: &mut RecordSession, tid: Tid, stopped: Stopped) -> Result<Doing> {
    let xstate = stopped.xstate()?.normalised();
    let begin = plain(&stopped)?;
    let first = match pass_once(session, tid, stopped)? {
        Pass::Around(first) => first,
        Pass::Different(stopped) => return Ok(Doing::Else(stopped)),
        Pass::Over(next) => return Ok(Doing::Over(next)),
    };
    if first.stopped.xstate()?.normalised() != xstate || !counts(&begin, &first.regs) {
        return Ok(Doing::Else(first.stopped));
    }
    if first.regs == begin && first.written.is_empty() {
        return step_to_loop_place(session, tid, first.stopped, first.place);
    }
    let second = match pass_once(session, tid, first.stopped)? {
        Pass::Around(second) => second,
        Pass::Different(stopped) => return Ok(Doing::Else(stopped)),
        Pass::Over(next) => return Ok(Doing::Over(next)),
    };
    if second.stopped.xstate()?.normalised() != xstate
        || !counts(&first.regs, &second.regs)
        || !places(&first.written).eq(places(&second.written))
    {
        return Ok(Doing::Else(second.stopped));
    }
    let is_same = begin == first.regs && first.regs == second.regs && first.written == second.written;
    if is_same {
        return step_to_loop_place(session, tid, second.stopped, second.place);
    }
    let counters = places(&second.written).map(|(addr, _)| addr).collect();
    Ok(Doing::Counts(second.stopped, counters))
}

/// Makes one pass of a loop, until the task is at the same instruction again.
fn pass_once(session: &mut RecordSession, tid: Tid, stopped: Stopped) -> Result<Pass> {
    let (memory, space) = (Memory::of(tid), session.world.task(tid)?.space);
    let begin = plain(&stopped)?;
    let (mut stopped, mut regs) = (stopped, begin);
    let mut places: Vec<Addr> = Vec::new();
    let mut written: Vec<(Addr, usize)> = Vec::new();
    // The best place where a jump fits, and whether it is a long instruction.
    let mut best: Option<(bool, Addr)> = None;
    for _ in 0..PASS_MAX {
        let at = Addr(regs.rip);
        if session.world.spaces[&space].library.sites.is_on_the_way(at) {
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
        match step_once(session, tid, stopped, Some(&instruction))? {
            Moment::Here(now) => stopped = now,
            Moment::Over(next) => return Ok(Pass::Over(next)),
        }
        regs = plain(&stopped)?;
        if regs.rip == begin.rip {
            written.sort_unstable();
            written.dedup();
            let mut bytes = Vec::new();
            for (addr, len) in written {
                bytes.push((addr, memory.read_vec(addr, len)?));
            }
            let place = best.map_or(Addr(begin.rip), |(_, at)| at);
            return Ok(Pass::Around(Box::new(Around {
                stopped,
                regs,
                written: bytes,
                place,
            })));
        }
    }
    Ok(Pass::Different(stopped))
}

/// Steps a spinning task to a place in its loop.
fn step_to_loop_place(session: &mut RecordSession, tid: Tid, stopped: Stopped, place: Addr) -> Result<Doing> {
    let (memory, space) = (Memory::of(tid), session.world.task(tid)?.space);
    let mut stopped = stopped;
    for _ in 0..PASS_MAX {
        let regs = stopped.regs()?;
        if regs.rip == place.0 {
            let mut discriminators = Discriminators::new();
            add_stack(
                &mut discriminators,
                &memory,
                &session.world.spaces[&space].model,
                Addr(regs.rsp),
            );
            return Ok(Doing::Spins(stopped, discriminators));
        }
        let (_, instruction) = instruction_at(&memory, Addr(regs.rip))?;
        match step_once(session, tid, stopped, instruction.as_ref())? {
            Moment::Here(now) => stopped = now,
            Moment::Over(next) => return Ok(Doing::Over(next)),
        }
    }
    Ok(Doing::Else(stopped))
}
