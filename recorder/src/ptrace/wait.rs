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

use rr_trace::event::MemWrite;
use rr_tracee::task::SigInfo;
use rr_tracee::{Registers, Stopped, Tid, procfs};

use crate::call::syscall::{is_restart, returned};
use crate::error::Result;
use crate::ptrace::request::Failure;
use crate::ptrace::{Phase, info};
use crate::session::RecordSession;
use crate::signal::deliver::before_call;
use crate::world::task::{Call, State, Task};

/// Sizes of `struct rusage`, and of the part of `siginfo_t` that waitid(2) writes.
const RUSAGE: usize = 144;
const SIGCHLD_INFO: usize = 28;
/// `ERESTARTSYS`: the kernel's result for an interrupted wait4(2).
const ERESTARTSYS: i64 = 512;

/// A current call of wait4(2) or waitid(2).
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// True if the kernel makes pause(2) instead.
    is_paused: bool,
    /// True if a tracee has news.
    is_woken: bool,
}

/// The tracees that a call waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whom {
    Anyone,
    One(Tid),
    Group(i32),
    /// No tracees (the call waits for a file descriptor).
    Nobody,
}

/// The parameters of a call that waits.
#[derive(Clone, Copy, Debug)]
struct Asked {
    whom: Whom,
    options: i32,
    /// True if the call waits for ends of tracees.
    ends: bool,
    is_waitid: bool,
    /// Address of the status or siginfo, and then of the rusage.
    answer: u64,
    usage: u64,
}

impl Asked {
    /// The parameters of the call at this entry, if it is one that waits.
    fn of(entry: &Registers, tgid: Tid) -> Option<Asked> {
        let group = |id: i32| match id {
            0 => Whom::Group(procfs::group(tgid).unwrap_or(0)),
            id => Whom::Group(id),
        };
        let id = entry.rdi as i32;
        match entry.syscall() {
            libc::SYS_wait4 => Some(Asked {
                whom: match id {
                    1.. => Whom::One(Tid(id)),
                    -1 => Whom::Anyone,
                    0 => group(0),
                    _ => group(id.wrapping_neg()),
                },
                options: entry.rdx as i32,
                ends: true,
                is_waitid: false,
                answer: entry.rsi,
                usage: entry.r10,
            }),
            libc::SYS_waitid => {
                let id = entry.rsi as i32;
                let options = entry.r10 as i32;
                Some(Asked {
                    whom: match entry.rdi as u32 {
                        libc::P_ALL => Whom::Anyone,
                        libc::P_PID => Whom::One(Tid(id)),
                        libc::P_PGID => group(id),
                        _ => Whom::Nobody,
                    },
                    options,
                    ends: options & libc::WEXITED != 0,
                    is_waitid: true,
                    answer: entry.rdx,
                    usage: entry.r8,
                })
            }
            _ => None,
        }
    }

    fn is_nohang(&self) -> bool {
        self.options & libc::WNOHANG != 0
    }

    fn is_for(&self, tid: Tid, tgid: Tid) -> bool {
        match self.whom {
            Whom::Anyone => true,
            Whom::One(one) => one == tid,
            Whom::Group(group) => procfs::group(tgid).is_ok_and(|of| of == group),
            Whom::Nobody => false,
        }
    }
}

/// A tracee's news.
#[derive(Clone, Copy, Debug)]
struct News {
    tid: Tid,
    /// Status in the form of wait4(2).
    status: i32,
    /// Code in the form of waitid(2), and then its value.
    code: i32,
    value: i32,
}

/// Code and value of an end in the form of waitid(2), from a wait status.
pub(super) fn ending(status: i32) -> (i32, i32) {
    if libc::WIFEXITED(status) {
        (libc::CLD_EXITED, libc::WEXITSTATUS(status))
    } else if libc::WCOREDUMP(status) {
        (libc::CLD_DUMPED, libc::WTERMSIG(status))
    } else {
        (libc::CLD_KILLED, libc::WTERMSIG(status))
    }
}

impl RecordSession {
    /// At the entry of a call: answers it if it waits and a tracee has news. Otherwise returns the
    /// task, so that the kernel makes the call.
    pub(crate) fn begin_wait(
        &mut self,
        tid: Tid,
        mut stopped: Stopped,
        mut call: Call,
    ) -> Result<Option<(Stopped, Call)>> {
        let entry = call.entry;
        let Some(asked) = Asked::of(&entry, self.task(tid)?.tgid) else {
            return Ok(Some((stopped, call)));
        };
        let is_paused = self.tracers.paused.remove(&tid);
        if let Some(news) = self.news_for(tid, &asked)? {
            let (result, writes) = self.report(tid, &asked, news)?;
            self.answer(tid, stopped, &entry, result, writes)?;
            return Ok(None);
        }
        call.wait = Some(Wait {
            is_paused,
            is_woken: false,
        });
        if !is_paused {
            return Ok(Some((stopped, call)));
        }
        let orig_rax = libc::SYS_pause as u64;
        stopped.set_regs(&Registers { orig_rax, ..entry })?;
        call.xstate = self.capture.is_on().then(|| stopped.xstate()).transpose()?;
        self.enter(tid, stopped, call, true).map(|()| None)
    }

    /// At the exit of a call that waited: returns it to be recorded as any other, unless it was
    /// answered or is made again.
    pub(crate) fn finish_wait(
        &mut self,
        tid: Tid,
        mut stopped: Stopped,
        call: Call,
        raw: Registers,
    ) -> Result<Option<(Stopped, Call, Registers)>> {
        let Some((wait, asked)) = call.wait.zip(Asked::of(&call.entry, self.task(tid)?.tgid)) else {
            return Ok(Some((stopped, call, raw)));
        };
        let entry = call.entry;
        let is_interrupted = is_restart(raw.result());
        let is_childless = raw.result() == -i64::from(libc::ECHILD) && self.has_tracees(tid, &asked)?;
        if !is_interrupted && !is_childless {
            let stopped = self.settle_snapshots(tid, stopped)?;
            // If the task has made remote calls, it stands at the entry of another call. Its old call
            // number must not be set there.
            let raw = stopped.regs()?;
            return Ok(Some((stopped, call, raw)));
        }
        if let Some(news) = self.news_for(tid, &asked)? {
            let (result, writes) = self.report(tid, &asked, news)?;
            let after = returned(&entry, result);
            // With this result the task may make remote calls, which it may not while its call is
            // interrupted.
            stopped.set_regs(&after)?;
            let stopped = self.settle_snapshots(tid, stopped)?;
            for write in &writes {
                self.task(tid)?.memory.write(write.addr, &write.data)?;
            }
            self.record_call(tid, &entry, after, None, None, vec![], writes, None)?;
            self.task_mut(tid)?.state = State::Ready(stopped);
            return Ok(None);
        }
        stopped = self.settle_snapshots(tid, stopped)?;
        let mut after = stopped.regs()?;
        if is_childless && asked.is_nohang() {
            after.rax = 0;
            stopped.set_regs(&after)?;
            return Ok(Some((stopped, call, after)));
        }
        let in_vain = is_interrupted && wait.is_woken && !stopped.signal_due()?;
        if is_childless || in_vain {
            if is_childless || (wait.is_paused && self.has_tracees(tid, &asked)?) {
                self.tracers.paused.insert(tid);
            }
            return self.repeat_call(tid, stopped, &entry).map(|()| None);
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
        Ok(Some((stopped, call, after)))
    }

    /// Sends the task back to its call, to make it again.
    fn repeat_call(&mut self, tid: Tid, mut stopped: Stopped, entry: &Registers) -> Result<()> {
        stopped.set_regs(&before_call(entry))?;
        self.is_sent_back(tid, entry)?;
        self.task_mut(tid)?.state = State::Ready(stopped);
        Ok(())
    }

    /// Returns whether a call of `tid` waits for tracees of `tracer`.
    fn waits_for(&self, tid: Tid, tracer: Tid, asked: &Asked) -> bool {
        if asked.options & libc::__WNOTHREAD != 0 {
            return tracer == tid;
        }
        let of = |tid: Tid| self.tasks.get(&tid).map(|t| t.tgid);
        of(tid).is_some() && of(tid) == of(tracer)
    }

    /// Returns whether there is any tracee that the call waits for.
    fn has_tracees(&self, tid: Tid, asked: &Asked) -> Result<bool> {
        let dead = self.tracers.dead.iter();
        let mut dead = dead.filter(|d| self.waits_for(tid, d.tracer, asked) && asked.is_for(d.tid, d.tgid));
        Ok(dead.next().is_some() || self.tracees_of(tid, asked).next().is_some())
    }

    fn tracees_of(&self, tid: Tid, asked: &Asked) -> impl Iterator<Item = &Task> {
        self.tasks.values().filter(move |t| {
            let tracer = t.tracee.as_ref().map(|tracee| tracee.tracer);
            tracer.is_some_and(|tracer| self.waits_for(tid, tracer, asked)) && asked.is_for(t.tid, t.tgid)
        })
    }

    /// News that the call waits for.
    fn news_for(&self, tid: Tid, asked: &Asked) -> Result<Option<News>> {
        let dead = self.tracers.dead.iter();
        let mut dead = dead
            .filter(|d| asked.ends && self.waits_for(tid, d.tracer, asked) && asked.is_for(d.tid, d.tgid));
        if let Some(dead) = dead.next() {
            let (code, value) = ending(dead.status);
            return Ok(Some(News {
                tid: dead.tid,
                status: dead.status,
                code,
                value,
            }));
        }
        let mut stops = self.tracees_of(tid, asked).filter_map(|t| {
            let stop = t.tracee.as_ref()?.stop()?;
            (!stop.is_reported).then_some((t.tid, stop.code))
        });
        Ok(stops.next().map(|(tid, stop)| News {
            tid,
            status: stop << 8 | 0x7f,
            code: libc::CLD_TRAPPED,
            value: stop,
        }))
    }

    /// Takes the news. Returns the call's result, and its writes.
    fn report(&mut self, tid: Tid, asked: &Asked, news: News) -> Result<(i64, Vec<MemWrite>)> {
        if asked.options & libc::WNOWAIT == 0 {
            self.take_news(news.tid);
        }
        let answer: Vec<u8> = if asked.is_waitid {
            let info: SigInfo = info::child(news.tid, news.code, news.value);
            info[..SIGCHLD_INFO].to_vec()
        } else {
            news.status.to_le_bytes().to_vec()
        };
        let mut writes = Vec::new();
        for (at, data) in [(asked.answer, answer), (asked.usage, vec![0; RUSAGE])] {
            if at == 0 {
                continue;
            }
            match self.give(tid, at, &data, &mut writes) {
                Ok(_) => {}
                Err(Failure::Refused(errno)) => return Ok((-i64::from(errno as i32), vec![])),
                Err(Failure::Error(error)) => return Err(error),
            }
        }
        let result = if asked.is_waitid { 0 } else { i64::from(news.tid.0) };
        Ok((result, writes))
    }

    fn take_news(&mut self, tid: Tid) {
        let dead = self.tracers.dead.iter().position(|d| d.tid == tid);
        if let Some(n) = dead {
            self.tracers.dead.remove(n);
        } else if let Some(tracee) = self.tasks.get_mut(&tid).and_then(|t| t.tracee.as_mut())
            && let Phase::Stopped(stop) = &mut tracee.phase
        {
            stop.is_reported = true;
        }
    }

    /// There is news of `tid`, a tracee of `tracer`: wakes the tasks that wait for it.
    pub(super) fn wake_waiting(&mut self, tracer: Tid, tid: Tid) -> Result<()> {
        let Some(tgid) = self.tasks.get(&tracer).map(|t| t.tgid) else {
            return Ok(());
        };
        let of = self.tasks.get(&tid).map_or(tid, |t| t.tgid);
        let waits = |t: &&Task| {
            let is_waiting = matches!(t.state, State::InKernel(_));
            let call = t.call.as_ref().filter(|_| is_waiting && t.tgid == tgid);
            let asked = call
                .filter(|call| call.wait.is_some_and(|wait| !wait.is_woken))
                .and_then(|call| Asked::of(&call.entry, tgid));
            asked.is_some_and(|asked| self.waits_for(t.tid, tracer, &asked) && asked.is_for(tid, of))
        };
        let Some(waiting) = self.tasks.values().find(waits).map(|t| t.tid) else {
            return Ok(());
        };
        let task = self.task_mut(waiting)?;
        if let Some(wait) = task.call.as_mut().and_then(|call| call.wait.as_mut()) {
            wait.is_woken = true;
        }
        if let State::InKernel(running) = &task.state {
            running.interrupt()?;
        }
        Ok(())
    }
}
