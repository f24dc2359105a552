//! wait4(2) and waitid(2) of tracers.
//!
//! The kernel knows only one tracer, the recorder. So the recorder looks at each call that waits: if
//! there is a stop (or an end) of a tracee to report, the recorder answers the call. Otherwise the
//! kernel makes the call, which may report a child. When a tracee stops, the recorder interrupts a
//! waiting call (`PTRACE_INTERRUPT`), and answers the call at its exit. If the caller has no child that
//! the kernel knows, the kernel's answer would be `ECHILD`, although there are tracees; then the task
//! makes pause(2) instead, which waits for signals as wait4(2) does.
//!
//! ```text
//! entry ──► a stop to report? ──yes──► answered
//!             │ no
//!             ▼
//!           wait4 in the kernel ──► a child: as recorded
//!             │         │
//!             │         └──► ECHILD, but there are tracees ──► the call once more, as pause
//!             ▼
//!           woken, or a signal ──► a stop to report? ──yes──► answered
//!                                    │ no
//!                                    └──► a signal: interrupted.  woken in vain: the call once more
//! ```

use std::ops::ControlFlow;

use rr_trace::event::MemWrite;
use rr_tracee::pid_namespace::Vpid;
use rr_tracee::task::SigInfo;
use rr_tracee::usage::Usage;
use rr_tracee::{Registers, Stopped, Tid};

use crate::call::answer::answer_call;
use crate::call::enter::enter_blocking_call;
use crate::call::parameters::{Failure, give_answer};
use crate::call::record::make_again;
use crate::call::registers::{before_call, returned};
use crate::checkpoint::snapshots::fork_snapshots;
use crate::error::Result;
use crate::ptrace::info;
use crate::ptrace::tracee::Phase;
use crate::ptrace::waiting::{Asked, ending, waits_for};
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::model::World;
use crate::world::next::{Next, Record};
use crate::world::task::Task;
use crate::world::wait::Wait;
use rr_tracee::regs::is_restart;

/// Size of the part of `siginfo_t` that waitid(2) writes.
const SIGCHLD_INFO: usize = 28;

/// `ERESTARTSYS`: the kernel's result for an interrupted wait4(2).
const ERESTARTSYS: i64 = 512;

/// A tracee's news.
#[derive(Clone, Copy, Debug)]
struct News {
    tid: Tid,
    /// The tracee's number for its tracer.
    number: Vpid,
    /// Status in the form of wait4(2).
    status: i32,
    /// Code in the form of waitid(2), and then its value.
    code: i32,
    value: i32,
}

/// At the entry of a call: answers it if it waits and a tracee has news. Otherwise returns the
/// task, so that the kernel makes the call.
pub(crate) fn begin_wait(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    mut call: Call,
) -> Result<ControlFlow<Next, (Stopped, Call)>> {
    let entry = call.entry;
    let Some(asked) = Asked::of(&entry, session.world.task(tid)?.tgid) else {
        return Ok(ControlFlow::Continue((stopped, call)));
    };
    let is_paused = session.world.tracers.paused.remove(&tid);
    if let Some(news) = news_for(&session.world, tid, &asked)? {
        let (result, writes) = take_report(&mut session.world, tid, &asked, news)?;
        return answer_call(session, tid, stopped, &entry, result, writes).map(ControlFlow::Break);
    }
    call.wait = Some(Wait {
        is_paused,
        is_woken: false,
    });
    if !is_paused {
        return Ok(ControlFlow::Continue((stopped, call)));
    }
    let orig_rax = libc::SYS_pause as u64;
    stopped.set_regs(&Registers { orig_rax, ..entry })?;
    enter_blocking_call(session, tid, stopped, call).map(ControlFlow::Break)
}

/// At the exit of a call that waited: returns it to be recorded as any other, unless it was
/// answered or is made again.
pub(crate) fn finish_wait(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    call: Call,
    raw: Registers,
) -> Result<ControlFlow<Next, (Stopped, Call, Registers)>> {
    let Some((wait, asked)) = call
        .wait
        .zip(Asked::of(&call.entry, session.world.task(tid)?.tgid))
    else {
        return Ok(ControlFlow::Continue((stopped, call, raw)));
    };
    let entry = call.entry;
    let is_interrupted = is_restart(raw.result());
    let is_childless = raw.result() == -i64::from(libc::ECHILD) && has_tracees(&session.world, tid, &asked)?;
    if !is_interrupted && !is_childless {
        let stopped = fork_snapshots(session, tid, stopped)?;
        // If the task has made remote calls, it stands at the entry of another call. Its old call
        // number must not be set there.
        let raw = stopped.regs()?;
        return Ok(ControlFlow::Continue((stopped, call, raw)));
    }
    if let Some(news) = news_for(&session.world, tid, &asked)? {
        let (result, writes) = take_report(&mut session.world, tid, &asked, news)?;
        let after = returned(&entry, result);
        // With this result the task may make remote calls, which it may not while its call is
        // interrupted.
        stopped.set_regs(&after)?;
        let stopped = fork_snapshots(session, tid, stopped)?;
        for write in &writes {
            session.world.task(tid)?.memory.write(write.addr, &write.data)?;
        }
        let record = Record {
            writes,
            ..Record::of(&entry, after)
        };
        return Ok(ControlFlow::Break(record.then_ready(stopped)));
    }
    stopped = fork_snapshots(session, tid, stopped)?;
    let mut after = stopped.regs()?;
    if is_childless && asked.is_nohang() {
        after.rax = 0;
        stopped.set_regs(&after)?;
        return Ok(ControlFlow::Continue((stopped, call, after)));
    }
    let in_vain = is_interrupted && wait.is_woken && !stopped.signal_due()?;
    if is_childless || in_vain {
        if is_childless || (wait.is_paused && has_tracees(&session.world, tid, &asked)?) {
            session.world.tracers.paused.insert(tid);
        }
        stopped.set_regs(&before_call(&entry))?;
        return make_again(session, tid, stopped, &entry).map(ControlFlow::Break);
    }
    if wait.is_paused {
        // The kernel's result of pause differs from that of wait4.
        after = Registers {
            rax: -ERESTARTSYS as u64,
            orig_rax: entry.orig_rax,
            ..entry
        };
        stopped.set_regs(&after)?;
    }
    Ok(ControlFlow::Continue((stopped, call, after)))
}

/// Returns whether there is any tracee that the call waits for.
fn has_tracees(world: &World, tid: Tid, asked: &Asked) -> Result<bool> {
    let dead = world.tracers.dead.iter();
    let mut dead =
        dead.filter(|d| waits_for(world, tid, d.tracer, asked) && asked.is_for(tid, d.number, d.tgid));
    Ok(dead.next().is_some() || tracees_of(world, tid, asked).next().is_some())
}

fn tracees_of<'a>(world: &'a World, tid: Tid, asked: &Asked) -> impl Iterator<Item = &'a Task> {
    world.tasks.values().filter(move |t| {
        t.tracee.as_ref().is_some_and(|tracee| {
            waits_for(world, tid, tracee.tracer, asked) && asked.is_for(tid, tracee.to_tracer.number, t.tgid)
        })
    })
}

/// News that the call waits for.
fn news_for(world: &World, tid: Tid, asked: &Asked) -> Result<Option<News>> {
    let dead = world.tracers.dead.iter();
    let mut dead = dead.filter(|d| {
        asked.ends && waits_for(world, tid, d.tracer, asked) && asked.is_for(tid, d.number, d.tgid)
    });
    if let Some(dead) = dead.next() {
        let (code, value) = ending(dead.status);
        return Ok(Some(News {
            tid: dead.tid,
            number: dead.number,
            status: dead.status,
            code,
            value,
        }));
    }
    let mut stops = tracees_of(world, tid, asked).filter_map(|t| {
        let tracee = t.tracee.as_ref()?;
        let stop = tracee.stop()?;
        (!stop.is_reported).then_some((t.tid, tracee.to_tracer.number, stop.code))
    });
    Ok(stops.next().map(|(tid, number, stop)| News {
        tid,
        number,
        status: stop << 8 | 0x7f,
        code: libc::CLD_TRAPPED,
        value: stop,
    }))
}

/// Takes the news. Returns the call's result, and its writes.
fn take_report(world: &mut World, tid: Tid, asked: &Asked, news: News) -> Result<(i64, Vec<MemWrite>)> {
    if asked.options & libc::WNOWAIT == 0 {
        take_news(world, news.tid);
    }
    let answer: Vec<u8> = if asked.is_waitid {
        let info: SigInfo = info::child((news.tid, news.number), news.code, news.value);
        info[..SIGCHLD_INFO].to_vec()
    } else {
        news.status.to_le_bytes().to_vec()
    };
    let usage = match world.tasks.get(&news.tid) {
        Some(task) if asked.usage != 0 => Usage::of(task.tgid)?,
        // Nobody asks, or the tracee has ended, and nothing is known of it any more.
        _ => Usage::default(),
    };
    let mut writes = Vec::new();
    for (at, data) in [(asked.answer, answer), (asked.usage, usage.to_bytes())] {
        if at == 0 {
            continue;
        }
        match give_answer(world, tid, at, &data, &mut writes) {
            Ok(_) => {}
            Err(Failure::Refused(errno)) => return Ok((-i64::from(errno as i32), vec![])),
            Err(Failure::Error(error)) => return Err(error),
        }
    }
    let result = if asked.is_waitid {
        0
    } else {
        i64::from(news.number.0)
    };
    Ok((result, writes))
}

fn take_news(world: &mut World, tid: Tid) {
    let dead = world.tracers.dead.iter().position(|d| d.tid == tid);
    if let Some(n) = dead {
        world.tracers.dead.remove(n);
    } else if let Some(tracee) = world.tasks.get_mut(&tid).and_then(|t| t.tracee.as_mut())
        && let Phase::Stopped(stop) = &mut tracee.phase
    {
        stop.is_reported = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ptrace::tracee::{StopKind, Tracee, TracerStop};
    use crate::world::children::{Children, range_of};
    use rr_tracee::AddrRange;
    use rr_tracee::task::siginfo;

    /// A tracer and its tracee, which is stopped for it.
    fn tracer_and_tracee() -> (Children, Tid, Tid) {
        let mut children = Children::new();
        let (tracer, tracee) = (children.add(), children.add());
        let mut state = Tracee::new(tracee, tracer, true, false, 0);
        let info = siginfo(libc::SIGTRAP, libc::SI_USER);
        state.phase = Phase::Stopped(TracerStop::new(StopKind::Signal, libc::SIGTRAP, info));
        children.world.task_mut(tracee).unwrap().tracee = Some(Box::new(state));
        (children, tracer, tracee)
    }

    /// wait4(2) for `whom`, which stores the status there.
    fn wait4(whom: i32, status: AddrRange) -> Registers {
        Registers {
            orig_rax: libc::SYS_wait4 as u64,
            rdi: whom as u64,
            rsi: status.start.0,
            ..Registers::default()
        }
    }

    #[test]
    fn a_stop_is_reported_once() {
        let status = vec![0u32; 1];
        let (mut children, tracer, tracee) = tracer_and_tracee();
        children.map(range_of(&status));
        let world = &mut children.world;
        let asked = Asked::of(&wait4(-1, range_of(&status)), tracer).unwrap();
        let news = news_for(world, tracer, &asked).unwrap().unwrap();
        let (result, writes) = take_report(world, tracer, &asked, news).unwrap();
        assert_eq!(result, i64::from(tracee.0));
        let stopped = libc::SIGTRAP << 8 | 0x7f;
        assert_eq!(
            (writes.len(), &writes[0].data[..]),
            (1, &stopped.to_le_bytes()[..])
        );
        assert_eq!(writes[0].addr, range_of(&status).start);
        assert!(news_for(world, tracer, &asked).unwrap().is_none());
        assert!(has_tracees(world, tracer, &asked).unwrap());
    }

    #[test]
    fn a_tracer_that_gives_no_memory_gets_an_error() {
        let (mut children, tracer, _) = tracer_and_tracee();
        let status = vec![0u32; 1];
        let asked = Asked::of(&wait4(-1, range_of(&status)), tracer).unwrap();
        let news = news_for(&children.world, tracer, &asked).unwrap().unwrap();
        let (result, writes) = take_report(&mut children.world, tracer, &asked, news).unwrap();
        assert_eq!((result, writes.len()), (-i64::from(libc::EFAULT), 0));
    }

    #[test]
    fn nobody_else_hears_of_the_stop() {
        let (mut children, tracer, tracee) = tracer_and_tracee();
        let stranger = children.add();
        let nowhere = range_of::<u32>(&[]);
        let of = |tid: Tid, whom: Tid| {
            let asked = Asked::of(&wait4(whom.0, nowhere), tid).unwrap();
            news_for(&children.world, tid, &asked).unwrap().is_some()
        };
        assert!(of(tracer, tracee));
        assert!(!of(tracer, stranger) && !of(stranger, tracee) && !of(tracee, tracee));
    }
}
