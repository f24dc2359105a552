//! Execution points: ending an interval where no event comes.
//!
//! A task that executes user code for long, without a system call, is interrupted when something waits for the end of
//! its interval: a signal that it has a handler for, or another task that could run (it may be spinning until that one
//! does something). Where it then stands has no name but its state: registers, and a digest of what it could have
//! written ([`rr_trace::event::Point`]). Replay searches for that state, and two things make the search quick:
//!
//! * the task is watched for a moment, and the words that it changes meanwhile become part of the name: cheap to
//!   compare, and likely to differ at every pass of the loop;
//! * it is stepped on to a place where the five bytes of a jump fit (see [`rr_tracee::code`]).
//!
//! An interrupt can race with an event of the task's own. Then that event counts, and the stop that is still to
//! come is taken where nothing has been executed after it: at a system call entry the task is turned back once.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use iced_x86::Instruction;
use rr_trace::event::{EventKind, Point};
use rr_tracee::code::{self, JUMP_LEN, WINDOW_MAX, Window};
use rr_tracee::digest;
use rr_tracee::ids::PAGE;
use rr_tracee::memory::ReadMemory;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::task::{Resume, Waited, is_fault, send_signal, si_code, signo, wait};
use rr_tracee::{Addr, Backing, Mapping, Memory, Prot, SpaceId, Stop, Stopped, Tid, procfs};

use crate::buffer::is_inside;
use crate::error::Result;
use crate::session::RecordSession;
use crate::syscall::is_restart;
use crate::task::State;

/// Ticks without an event after which a signal is not kept waiting any longer.
const SIGNAL_PATIENCE: u32 = 3;
/// Ticks without an event after which another task is not kept waiting any longer: a task that has been interrupted
/// for that has less credit the next time, and earns it back by its events.
pub(crate) const TURN_PATIENCE: u32 = 40;
/// The least credit.
const TURN_PATIENCE_MIN: u32 = 5;
/// Instructions that the task is stepped over to see which memory it touches: a turn of a small interpreter's loop.
const STEPS: usize = 256;
/// Pages that are watched.
const PAGES: usize = 64;
/// How often the watched pages are looked at again, and how long the task runs in between.
const SAMPLES: usize = 4;
const MOMENT: Duration = Duration::from_micros(100);
/// Instructions that are stepped over at most to find a good place.
const STEPS_MAX: usize = 400;
/// Words in the name of a point that were seen to change.
const WORDS: usize = 32;
/// Words in it from the top of the stack: in a recursion, what tells one pass from the other is in the frames.
const STACK_WORDS: usize = 128;

/// Pages of the stack that are watched whether they are touched or not: where all else repeats, the counter of the turns may
/// stand in a frame far up.
const STACK_PAGES: u64 = 8;

/// Words of memory with what they hold.
type Words = Vec<(Addr, u64)>;

/// What was seen of a word that changed.
#[derive(Debug)]
struct Change {
    /// In how many samples it had changed.
    times: u32,
    /// The direction of all its changes, if there is one.
    direction: Option<Ordering>,
}

impl Change {
    /// Whether it seems to count turns: up or down, and not just once or twice.
    fn counts(&self) -> bool {
        self.direction.is_some() && self.times > 2
    }
}

/// Memory that is looked at while the task goes on, to find words that change.
#[derive(Debug, Default)]
struct Pages {
    contents: BTreeMap<Addr, Vec<u8>>,
    changes: HashMap<Addr, Change>,
}

impl Pages {
    fn add(&mut self, memory: &Memory, addr: Addr) {
        let page = addr.page_floor();
        if self.contents.len() < PAGES
            && !self.contents.contains_key(&page)
            && let Ok(bytes) = memory.read_vec(page, PAGE as usize)
        {
            self.contents.insert(page, bytes);
        }
    }

    /// Looks again.
    fn sample(&mut self, memory: &Memory) {
        for (page, old) in &mut self.contents {
            let Ok(new) = memory.read_vec(*page, PAGE as usize) else {
                continue;
            };
            let words = old.chunks_exact(8).zip(new.chunks_exact(8)).enumerate();
            for (n, (old, new)) in words.filter(|(_, (old, new))| old != new) {
                let direction = Some(number(new).cmp(&number(old)));
                let change = self.changes.entry(*page + 8 * n as u64);
                let change = change.or_insert(Change { times: 0, direction });
                change.times += 1;
                change.direction = change.direction.filter(|_| change.direction == direction);
            }
            *old = new;
        }
    }

    /// The words that changed most often; first those that count, because others may have the same value in every turn of
    /// a loop when it comes by the point.
    fn best(self, memory: &Memory) -> Vec<(Addr, u64)> {
        let mut words: Vec<_> = self.changes.into_iter().collect();
        words.sort_by_key(|(addr, change)| (!change.counts(), Reverse(change.times), *addr));
        let best = words.into_iter().take(WORDS);
        best.filter_map(|(addr, _)| Some((addr, memory.read_u64(addr).ok()?)))
            .collect()
    }
}

/// What became of a task that was let go on for a moment.
enum Moment {
    /// It stands in the middle of its interval.
    Here(Stopped),
    /// Its interval ended meanwhile, or it cannot be stepped here.
    Over,
}

impl RecordSession {
    /// A tick while `tid` executes user code: interrupts it if something has waited long enough.
    pub(crate) fn on_tick(&mut self, tid: Tid) -> Result<()> {
        let task = self.task_mut(tid)?;
        task.ticks += 1;
        let ticks = task.ticks;
        if task.call.is_some() || task.interrupted || !matches!(task.state, State::InKernel(_)) {
            return Ok(());
        }
        let (patience, space) = (task.patience, task.space);
        // It was thought that it would not wait there. (Alone it may: nobody else could run meanwhile.)
        let asleep = self.tasks.len() > 1
            && self.spaces[&space].library.installed
            && procfs::state(tid).is_ok_and(|s| s == 'S');
        let for_signal = ticks >= SIGNAL_PATIENCE && self.has_deliverable(tid)?;
        let others = !asleep && !for_signal && self.others_can_run(tid)?;
        if others {
            self.hurry(tid)?;
        }
        let for_others = others && ticks >= patience;
        if !asleep && !for_signal && !for_others {
            return Ok(());
        }
        let task = self.task_mut(tid)?;
        if for_others {
            task.patience = (patience / 2).max(TURN_PATIENCE_MIN);
        }
        if let State::InKernel(running) = &task.state {
            running.interrupt()?;
            task.interrupted = true;
        }
        Ok(())
    }

    /// Whether a stashed signal would be delivered now.
    fn has_deliverable(&self, tid: Tid) -> Result<bool> {
        let stash = &self.task(tid)?.stash;
        if stash.is_empty() {
            return Ok(false);
        }
        let blocked = procfs::signal_dispositions(tid)?.blocked;
        Ok(stash.iter().any(|info| blocked & 1 << (signo(info) - 1) == 0))
    }

    fn others_can_run(&mut self, tid: Tid) -> Result<bool> {
        while self.tasks.len() > 1
            && let Some(report) = wait(None, true)
        {
            self.note(report)?;
        }
        Ok(self.tasks.values().any(|t| t.tid != tid && t.is_runnable()))
    }

    /// The stop that an interrupt has brought about.
    pub(crate) fn on_interrupted(&mut self, tid: Tid, stopped: Stopped) -> Result<()> {
        let regs = stopped.regs()?;
        if is_inside(regs.rip) && is_restart(regs.result()) && regs.orig_rax != NOT_IN_SYSCALL {
            // It waited there, for something that others may have to do first.
            self.task_mut(tid)?.interrupted = false;
            return self.bail_out(tid, stopped);
        }
        self.task_mut(tid)?.between = true;
        let Some((stopped, words)) = self.step_to_place(tid, stopped)? else {
            return Ok(());
        };
        self.take_records(tid)?;
        let at = stopped.regs()?.outside_call();
        let space = &self.spaces[&self.task(tid)?.space];
        let point = Point {
            xstate: stopped.xstate()?,
            words,
            sums: digest::sums(tid, &space.model, digest::ALL, |id| self.mapped.file(id))?,
        };
        let point = Box::new(point);
        self.emit(tid, EventKind::Point { at, point }, vec![], vec![])?;
        // What is stashed can come now: by a carrier, as at a system call.
        let mask = stopped.sigmask()?;
        let task = self.task_mut(tid)?;
        task.boundary = at;
        task.state = State::Ready(stopped);
        match task.stash.iter().map(signo).find(|s| mask & 1 << (s - 1) == 0) {
            Some(signal) => send_signal(task.tgid, tid, signal)?,
            // Then it is others that wait.
            None => self.yields = true,
        }
        Ok(())
    }

    fn add_stack(&self, words: &mut Vec<(Addr, u64)>, memory: &Memory, space: SpaceId, rsp: Addr) {
        let Some(stack) = self.spaces[&space].model.at(rsp).filter(|m| m.prot.has(Prot::RW)) else {
            return;
        };
        let bottom = rsp.0.next_multiple_of(8);
        let len = (STACK_WORDS as u64 * 8).min(stack.range.end.0.saturating_sub(bottom));
        let bytes = memory.read_up_to(Addr(bottom), len as usize).unwrap_or_default();
        for (n, word) in bytes.chunks_exact(8).enumerate() {
            let addr = Addr(bottom + 8 * n as u64);
            if let (Ok(word), false) = (word.try_into(), words.iter().any(|(known, _)| *known == addr)) {
                words.push((addr, u64::from_le_bytes(word)));
            }
        }
    }

    /// Finds words that change, and steps the task on to a good place for a point.
    fn step_to_place(&mut self, tid: Tid, stopped: Stopped) -> Result<Option<(Stopped, Words)>> {
        let (memory, space) = (Memory::of(tid), self.task(tid)?.space);
        let mut pages = Pages::default();
        let Some(mut stopped) = self.watch(tid, stopped, &mut pages)? else {
            return Ok(None);
        };
        let rsp = Addr(stopped.regs()?.rsp);
        let stack = self.spaces[&space].model.at(rsp);
        for n in 0..stack.map_or(0, |_| STACK_PAGES) {
            let page = rsp.page_floor() + n * PAGE;
            if stack.is_some_and(|m| m.prot.has(Prot::RW) && page < m.range.end) {
                pages.add(&memory, page);
            }
        }
        for _ in 0..SAMPLES {
            let Moment::Here(now) = self.run_a_moment(tid, stopped)? else {
                return Ok(None);
            };
            stopped = now;
            pages.sample(&memory);
        }
        for step in 0..STEPS_MAX {
            let regs = stopped.regs()?;
            if self.spaces[&space].library.sites.is_in_stub(Addr(regs.rip)) {
                // On the way to the library, which others would enter meanwhile.
                self.leave(tid, stopped)?;
                return Ok(None);
            }
            let (bytes, instruction) = instruction_at(&memory, Addr(regs.rip))?;
            let window = Window::new(&bytes, Addr(regs.rip));
            let roomy = window.as_ref().is_some_and(|w| w.first_len() >= JUMP_LEN);
            let fits = roomy || step >= STEPS_MAX / 3 && window.is_some() || step >= STEPS_MAX / 2;
            if fits && instruction.as_ref().is_some_and(|i| !code::repeats(i)) {
                let mut words = pages.best(&memory);
                self.add_stack(&mut words, &memory, space, Addr(regs.rsp));
                return Ok(Some((stopped, words)));
            }
            match self.step(tid, stopped, instruction.as_ref())? {
                Moment::Here(now) => stopped = now,
                Moment::Over => return Ok(None),
            }
        }
        // In the middle of a long string instruction.
        self.leave(tid, stopped)?;
        Ok(None)
    }

    /// Steps the task for a while and notes the pages that it touches.
    fn watch(&mut self, tid: Tid, mut stopped: Stopped, pages: &mut Pages) -> Result<Option<Stopped>> {
        let (memory, space) = (Memory::of(tid), self.task(tid)?.space);
        for _ in 0..STEPS {
            let regs = stopped.regs()?;
            let (_, instruction) = instruction_at(&memory, Addr(regs.rip))?;
            for addr in instruction.iter().flat_map(|i| code::touched(i, &regs)) {
                let writable = |m: &Mapping| m.prot.has(Prot::WRITE) && m.backing != Backing::Rr;
                if self.spaces[&space].model.at(addr).is_some_and(writable) {
                    pages.add(&memory, addr);
                }
            }
            match self.step(tid, stopped, instruction.as_ref())? {
                Moment::Here(now) => stopped = now,
                Moment::Over => return Ok(None),
            }
        }
        Ok(Some(stopped))
    }

    /// Steps the task over one instruction.
    fn step(&mut self, tid: Tid, stopped: Stopped, instruction: Option<&Instruction>) -> Result<Moment> {
        if !instruction.is_some_and(code::can_be_stepped) {
            // An event of its own is near, or a place where stepping would show.
            self.leave(tid, stopped)?;
            return Ok(Moment::Over);
        }
        let mut stopped = stopped;
        loop {
            match stopped.resume(Resume::Step, None)?.wait()? {
                Waited::Stopped(now, Stop::Signal(libc::SIGTRAP)) if si_code(&now.siginfo()?) > 0 => {
                    return Ok(Moment::Here(now));
                }
                Waited::Stopped(now, Stop::Signal(_)) if self.has_put_off(tid, &now)? => stopped = now,
                other => {
                    // No stop is still to come.
                    self.task_mut(tid)?.interrupted = false;
                    return self.moment_over(tid, other);
                }
            }
        }
    }

    /// Signals may come faster than a place is found: those that can wait do not end the search.
    fn has_put_off(&mut self, tid: Tid, stopped: &Stopped) -> Result<bool> {
        let info = stopped.siginfo()?;
        Ok(!is_fault(&info) && self.put_off(tid, info)?)
    }

    /// Lets the task run freely for a moment.
    fn run_a_moment(&mut self, tid: Tid, stopped: Stopped) -> Result<Moment> {
        let mut running = stopped.resume(Resume::Cont, None)?;
        std::thread::sleep(MOMENT);
        running.interrupt()?;
        loop {
            match running.wait()? {
                Waited::Stopped(now, Stop::Event) => return Ok(Moment::Here(now)),
                Waited::Stopped(now, Stop::Signal(_)) if self.has_put_off(tid, &now)? => {
                    running = now.resume(Resume::Cont, None)?;
                }
                // The stop that it was asked for is still to come: `interrupted` says so.
                other => return self.moment_over(tid, other),
            }
        }
    }

    fn moment_over(&mut self, tid: Tid, waited: Waited) -> Result<Moment> {
        match waited {
            Waited::Stopped(now, stop) => self.task_mut(tid)?.state = State::Reported(now, stop),
            Waited::Gone(status) => self.gone(tid, status)?,
        }
        Ok(Moment::Over)
    }

    /// The task goes on from here, and will be interrupted again.
    fn leave(&mut self, tid: Tid, stopped: Stopped) -> Result<()> {
        let task = self.task_mut(tid)?;
        task.interrupted = false;
        task.state = State::Ready(stopped);
        Ok(())
    }
}

/// A word's bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// The code at `at`, and its first instruction if there is one.
fn instruction_at(memory: &Memory, at: Addr) -> Result<(Vec<u8>, Option<Instruction>)> {
    if is_inside(at.0) {
        // What the library does is done otherwise in replay.
        return Ok((Vec::new(), None));
    }
    let bytes = memory.read_up_to(at, WINDOW_MAX)?;
    let instruction = code::decode(&bytes, at);
    Ok((bytes, instruction))
}
