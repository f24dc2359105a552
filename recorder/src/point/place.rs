//! The place for an execution point: near the place of the interrupt, and quick to find again.
//!
//! The recorder steps the task for a while, to see the memory that it touches. Then it lets the task
//! run for some moments, to see the pages and the words that change ([`crate::point::changed_pages`],
//! [`crate::point::discriminators`]). Then it steps the task to an instruction where the jump to a probe
//! fits.

use std::ops::ControlFlow;
use std::time::Duration;

use iced_x86::Instruction;
use rr_tracee::code::{self, JUMP_LEN, WINDOW_MAX, Window};
use rr_tracee::site::branches_to;
use rr_tracee::task::{Resume, Waited, is_fault, processor_time, si_code};
use rr_tracee::{Addr, Backing, Mapping, Memory, Prot, SpaceId, Stop, Stopped, Tid, procfs};

use crate::buffer::library::is_inside;
use crate::error::Result;
use crate::point::changed_pages::PageDigests;
use crate::point::discriminators::{Discriminators, Pages, add_stack};
use crate::session::RecordSession;
use crate::signal::deliver::defer_signal;
use crate::signal::forced::{is_forced, undo_force};
use crate::task::exit::task_is_gone;
use crate::world::model::World;
use crate::world::next::Next;

/// Maximum number of steps to see the memory that the task touches: a turn of a small interpreter's
/// loop.
const STEPS: usize = 256;

/// After a short interval fewer steps are made, because there is little to search: one for this many
/// microseconds (a step takes 25 to 50).
const STEP_US: usize = 100;

/// Minimum number of steps.
const STEPS_LEAST: usize = 16;

/// Number of times that the watched pages are read again after a short interval, and time that the task
/// runs in between.
const SAMPLES_LEAST: u32 = 4;

const MOMENT: Duration = Duration::from_micros(100);

/// After a longer interval there are further samples, one for each of these microseconds. A further sample
/// takes twice the time of the one before, because a longer interval may have words that change more rarely.
const SAMPLE_US: u32 = 20_000;

/// Maximum number of samples.
const SAMPLES_MOST: u32 = 9;

/// Minimum processor time of the task in between. If others want the processor, too, the task could be
/// stopped again without having run, and no change would be seen.
const RUN_TIME: Duration = Duration::from_micros(50);

/// Maximum time until this is checked again.
const LONG_MOMENT: Duration = Duration::from_millis(5);

/// Maximum number of steps to find a place. The best is an instruction as long as a jump. After some
/// steps, a window suffices that nothing near seems to jump into (each such jump stops the task in
/// replay). At last, any place suffices.
const STEPS_MAX: usize = 400;

const GOOD_STEPS: usize = STEPS_MAX / 3;

const ANY_STEPS: usize = STEPS_MAX / 2;

/// The best place is one where the probe may change the status flags: there it costs nearly nothing. It
/// is worth one step for this much processor time of the interval, up to a maximum number.
const FLAGS_STEP_US: usize = 1000;
const FLAGS_STEPS_MAX: usize = 64;
/// Number of bytes before and behind a window that are searched for such jumps.
const NEAR: u64 = 4096;

/// Result of letting a task run for a moment.
pub(crate) enum Moment {
    /// The task stands in the middle of its interval.
    Here(Stopped),
    /// The task's interval has ended, or the task cannot be stepped here.
    Over(Next),
}

/// A task at a good place for a point.
pub(crate) struct Placed {
    pub stopped: Stopped,
    pub discriminators: Discriminators,
    /// Processor time of the interval in microseconds, up to here.
    pub ran_us: u32,
}

/// Finds words that change, and steps the task to a good place for a point. The interval has taken
/// `ran_us` microseconds of processor time. `touched` are the addresses that its loop touches, if
/// known.
pub(crate) fn step_to_place(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    ran_us: u32,
    touched: Option<&[Addr]>,
) -> Result<ControlFlow<Next, Placed>> {
    let (memory, space) = (Memory::of(tid), session.world.task(tid)?.space);
    let mut pages = Pages::default();
    let mut stopped = stopped;
    match touched {
        Some(touched) => touched.iter().for_each(|addr| pages.add(&memory, *addr)),
        None => {
            let steps = (ran_us as usize / STEP_US).clamp(STEPS_LEAST, STEPS);
            stopped = match watch_pages(session, tid, stopped, steps, &mut pages)? {
                Moment::Here(now) => now,
                Moment::Over(next) => return Ok(ControlFlow::Break(next)),
            };
        }
    }
    pages.add_stack(
        &memory,
        &session.world.spaces[&space].model,
        Addr(stopped.regs()?.rsp),
    );
    let tgid = session.world.task(tid)?.tgid;
    let before = processor_time(tgid)?;
    let all = PageDigests::read(Memory::of(tid), &session.world.spaces[&space].model, ran_us)?;
    stopped = match run_a_moment(session, tid, stopped, MOMENT, RUN_TIME)? {
        Moment::Here(now) => now,
        Moment::Over(next) => return Ok(ControlFlow::Break(next)),
    };
    all.changed()?
        .iter()
        .for_each(|addr| pages.add_changed(&memory, *addr));
    let samples = (SAMPLES_LEAST + ran_us / SAMPLE_US).min(SAMPLES_MOST);
    for sample in 0..samples {
        let moment = MOMENT * (1 << sample.saturating_sub(SAMPLES_LEAST - 1));
        stopped = match run_a_moment(session, tid, stopped, moment, RUN_TIME)? {
            Moment::Here(now) => now,
            Moment::Over(next) => return Ok(ControlFlow::Break(next)),
        };
        pages.sample(&memory);
    }
    let moments = processor_time(tgid)?.saturating_sub(before);
    let flags_steps = (ran_us as usize / FLAGS_STEP_US).min(FLAGS_STEPS_MAX);
    let stopped = match step_to_window(session, tid, stopped, flags_steps)? {
        ControlFlow::Continue(stopped) => stopped,
        ControlFlow::Break(next) => return Ok(ControlFlow::Break(next)),
    };
    let mut discriminators = pages.best(&memory);
    add_stack(
        &mut discriminators,
        &memory,
        &session.world.spaces[&space].model,
        Addr(stopped.regs()?.rsp),
    );
    Ok(ControlFlow::Continue(Placed {
        stopped,
        discriminators,
        ran_us: ran_us.saturating_add(moments.as_micros().try_into().unwrap_or(u32::MAX)),
    }))
}

/// Steps the task to an instruction where the jump to a probe fits. It is worth `flags_steps` steps that the probe may change the status
/// flags there.
pub(crate) fn step_to_window(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    flags_steps: usize,
) -> Result<ControlFlow<Next, Stopped>> {
    let (memory, space) = (Memory::of(tid), session.world.task(tid)?.space);
    for step in 0..STEPS_MAX {
        let at = Addr(stopped.regs()?.rip);
        if session.world.spaces[&space].library.sites.is_on_the_way(at) {
            // On the way to the library, which others would enter meanwhile.
            return leave_unnamed(&mut session.world, tid, stopped).map(ControlFlow::Break);
        }
        let (bytes, instruction) = instruction_at(&memory, at)?;
        let window = Window::new(&bytes, at);
        let fits = match &window {
            Some(window) if window.first_len() >= JUMP_LEN && step >= flags_steps => true,
            _ if step >= ANY_STEPS => true,
            Some(window) if step >= GOOD_STEPS || window.dead_flags().is_some() => {
                !is_jumped_into(&session.world, space, &memory, window, at)?
            }
            _ => false,
        };
        if fits && instruction.as_ref().is_some_and(|i| !code::repeats(i)) {
            return Ok(ControlFlow::Continue(stopped));
        }
        match step_once(session, tid, stopped, instruction.as_ref())? {
            Moment::Here(now) => stopped = now,
            Moment::Over(next) => return Ok(ControlFlow::Break(next)),
        }
    }
    // In the middle of a long string instruction.
    leave_unnamed(&mut session.world, tid, stopped).map(ControlFlow::Break)
}

/// Returns whether code near the window, which is at `at`, may jump to one of its instructions
/// except the first.
fn is_jumped_into(world: &World, space: SpaceId, memory: &Memory, window: &Window, at: Addr) -> Result<bool> {
    let inner: Vec<Addr> = window
        .inner_boundaries(JUMP_LEN)
        .iter()
        .map(|n| at + *n as u64)
        .collect();
    let mapping = world.spaces[&space].model.at(at);
    let first = mapping.map_or(at, |m| m.range.start);
    let start = Addr(at.0.saturating_sub(NEAR)).max(first);
    let code = memory.read_up_to(start, (at - start + NEAR) as usize)?;
    Ok(branches_to(&code, start, &inner))
}

/// Steps the task for a while and notes the pages that it touches, until a pass of its loop touches
/// no new ones. (A step costs more than anything else here.)
fn watch_pages(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    steps: usize,
    pages: &mut Pages,
) -> Result<Moment> {
    let (memory, space) = (Memory::of(tid), session.world.task(tid)?.space);
    let begin = stopped.regs()?.rip;
    let mut known = None;
    for step in 0..steps {
        let regs = stopped.regs()?;
        if step > 0 && regs.rip == begin && known.replace(pages.count()) == Some(pages.count()) {
            break;
        }
        let (_, instruction) = instruction_at(&memory, Addr(regs.rip))?;
        for addr in instruction.iter().flat_map(|i| code::touched(i, &regs)) {
            let writable = |m: &Mapping| m.prot.has(Prot::WRITE) && m.backing != Backing::Rr;
            if session.world.spaces[&space].model.at(addr).is_some_and(writable) {
                pages.add(&memory, addr);
            }
        }
        match step_once(session, tid, stopped, instruction.as_ref())? {
            Moment::Here(now) => stopped = now,
            Moment::Over(next) => return Ok(Moment::Over(next)),
        }
    }
    Ok(Moment::Here(stopped))
}

/// Steps the task over one instruction.
pub(crate) fn step_once(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    instruction: Option<&Instruction>,
) -> Result<Moment> {
    if !instruction.is_some_and(code::can_be_stepped) {
        // An event of the task is near, or a place where stepping would be visible.
        return leave_unnamed(&mut session.world, tid, stopped).map(Moment::Over);
    }
    let mut stopped = stopped;
    loop {
        match stopped.resume(Resume::Step, None)?.wait()? {
            Waited::Stopped(now, Stop::Signal(libc::SIGTRAP))
                if si_code(&now.siginfo()?) > 0 || is_forced(&mut session.world, tid, libc::SIGTRAP)? =>
            {
                let info = now.siginfo()?;
                return Ok(Moment::Here(undo_force(&mut session.world, tid, now, &info)?));
            }
            Waited::Stopped(now, Stop::Signal(_)) if has_deferred(session, tid, &now)? => stopped = now,
            // A SIGCONT stops every thread at any time (ptrace(2), PTRACE_EVENT_STOP): before the
            // instruction, or behind it with the trap still to come. When resumed, the task makes
            // one step in all.
            Waited::Stopped(now, Stop::Event) => stopped = now,
            other => {
                // No stop is still to come.
                session.world.task_mut(tid)?.interval.ticks.interrupt = None;
                return moment_over(session, tid, other);
            }
        }
    }
}

/// Defers a signal that can wait: signals may come faster than a place is found, and must not end
/// the search.
fn has_deferred(session: &mut RecordSession, tid: Tid, stopped: &Stopped) -> Result<bool> {
    let info = stopped.siginfo()?;
    Ok(!is_fault(&info) && defer_signal(session, tid, info)?)
}

/// Lets the task run freely for a moment, and until it has had the minimum processor time.
pub(crate) fn run_a_moment(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    mut moment: Duration,
    least: Duration,
) -> Result<Moment> {
    let tgid = session.world.task(tid)?.tgid;
    let begin = processor_time(tgid)?;
    let mut running = stopped.resume(Resume::Cont, None)?;
    loop {
        std::thread::sleep(moment);
        let has_run = processor_time(tgid)?.saturating_sub(begin) >= least;
        if has_run || procfs::state(tid)? != 'R' {
            break;
        }
        moment = (2 * moment).min(LONG_MOMENT);
    }
    running.interrupt()?;
    loop {
        match running.wait()? {
            Waited::Stopped(now, Stop::Event) => return Ok(Moment::Here(now)),
            Waited::Stopped(now, Stop::Signal(_)) if has_deferred(session, tid, &now)? => {
                running = now.resume(Resume::Cont, None)?;
            }
            // The requested stop is still to come: `interrupted` says so.
            other => return moment_over(session, tid, other),
        }
    }
}

fn moment_over(session: &mut RecordSession, tid: Tid, waited: Waited) -> Result<Moment> {
    match waited {
        Waited::Stopped(now, stop) => Ok(Moment::Over(Next::Stop(now, stop))),
        Waited::Gone(status) => {
            task_is_gone(session, tid, status)?;
            Ok(Moment::Over(Next::Reported))
        }
    }
}

/// The task continues from here, and will be interrupted again.
pub(crate) fn leave_unnamed(world: &mut World, tid: Tid, stopped: Stopped) -> Result<Next> {
    world.task_mut(tid)?.interval.ticks.interrupt = None;
    Ok(Next::Ready(stopped))
}

/// The code at `at`, and its first instruction if there is one.
pub(crate) fn instruction_at(memory: &Memory, at: Addr) -> Result<(Vec<u8>, Option<Instruction>)> {
    if is_inside(at.0) {
        // Replay does something else in the library.
        return Ok((Vec::new(), None));
    }
    let bytes = memory.read_up_to(at, WINDOW_MAX)?;
    let instruction = code::decode(&bytes, at);
    Ok((bytes, instruction))
}
