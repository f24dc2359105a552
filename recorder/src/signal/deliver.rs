//! Signals: decides which signals become events, and where.
//!
//! * A signal caused by an instruction (a *fault*) happens at the same place in replay.
//! * A signal that is pending when a task is resumed after an event hits the task before its next
//!   instruction: the signal belongs to that place.
//! * Any other signal hits the task at a place that has no name in the trace. The recorder stashes the
//!   signal, and the task goes on to its next system call. There the recorder turns the task back from
//!   the entry, and sends the signal to the task again (a *carrier*, whose siginfo is replaced by the
//!   stashed one). If the task blocks the signal by then, the signal becomes pending in the kernel, as
//!   if it had arrived only now: so the call can see it. If the only effect of the signal is to kill,
//!   the recorder does not wait: the task dies where it is.
//!
//! The kernel makes the handlers' frames, and the recorder records them as memory.

use rr_preload::layout::{COUNTER_AND_PROCESSOR_NUMBER, COUNTER_NUMBER};
use rr_trace::event::{Disposition, EventKind, MemWrite, SignalPlace};
use rr_tracee::memory::ReadMemory;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::remote::Remote;
use rr_tracee::site::Instruction;
use rr_tracee::task::{Resume, SI_KERNEL, SigInfo, Stop, Waited, is_fault, si_code, signo};
use rr_tracee::{Addr, Memory, Registers, SpaceOp, Stopped, Tid, procfs, tsc, vsyscall};

use crate::buffer::control::is_inside;
use crate::call::unsupported_abi;
use crate::error::Result;
use crate::ptrace::TRAP_HWBKPT;
use crate::session::{Options, RecordSession};
use crate::signal::wakeup_signal::{Carried, FIRST_REAL_TIME, is_stop};
use crate::world::task::State;

/// Returns the bit of a signal in a mask.
pub(crate) fn bit(signal: i32) -> u64 {
    1 << ((signal - 1) & 63)
}

/// Returns the effect of `signal` in a process that neither catches nor ignores it (signal(7)).
fn default_action(signal: i32) -> Disposition {
    match signal {
        libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT => Disposition::Ignored,
        stop if is_stop(stop) => Disposition::Stopped,
        _ => Disposition::Fatal,
    }
}

fn disposition(tgid: Tid, tid: Tid, info: &SigInfo, options: &Options) -> Result<Disposition> {
    let signal = signo(info);
    // A fault cannot be ignored: the instruction would fault again and again.
    if options.ignored_signal == Some(signal) && !is_fault(info) {
        return Ok(Disposition::Ignored);
    }
    let table = procfs::signal_dispositions(tid)?;
    Ok(if table.caught & bit(signal) != 0 {
        Disposition::Handler
    } else if table.ignored & bit(signal) != 0 && !is_fault(info) {
        Disposition::Ignored
    } else {
        match default_action(signal) {
            // If the task were not traced, the kernel would not have reported the signal at all.
            Disposition::Fatal | Disposition::Stopped
                if !is_fault(info)
                    && !matches!(signal, libc::SIGKILL | libc::SIGSTOP)
                    && procfs::is_init(tgid) =>
            {
                Disposition::Ignored
            }
            Disposition::Fatal if options.survived_signal == Some(signal) => Disposition::Ignored,
            action => action,
        }
    })
}

/// Returns the registers before the system call instruction, given those at the entry.
pub(crate) fn before_call(entry: &Registers) -> Registers {
    Registers {
        rip: entry.rip - 2,
        rax: entry.orig_rax,
        orig_rax: NOT_IN_SYSCALL,
        ..*entry
    }
}

/// Reads the signal frame that the kernel has just pushed (x86-64 `struct rt_sigframe`): its address
/// and its bytes.
///
/// ```text
/// rsp ─► return address  8
///        ucontext        flags 8, link 8, stack 24, sigcontext { 23 words, fpstate pointer, … }, mask
///        siginfo         128
///        …
///        fpstate         XSAVE image; its size is the second word at offset 464 (sw_reserved)
/// ```
fn frame(memory: &Memory, rsp: Addr) -> Result<(Addr, Vec<u8>)> {
    const FPSTATE_POINTER: u64 = 8 + 8 + 8 + 24 + 23 * 8;
    const WITHOUT_FPSTATE: u64 = 8 + 304 + 128;
    const SW_RESERVED: u64 = 464;
    const MOST: u64 = 64 * 1024;
    let fpstate = Addr(memory.read_u64(rsp + FPSTATE_POINTER)?);
    let end = if fpstate.is_null() {
        rsp + WITHOUT_FPSTATE
    } else {
        fpstate + u64::from(memory.read_u32(fpstate + SW_RESERVED + 4)?).max(512)
    };
    let len = (end - rsp).min(MOST);
    Ok((rsp, memory.read_vec(rsp, len as usize)?))
}

impl RecordSession {
    /// At a system call entry: if a signal is stashed, turns the task back from the call, so that the
    /// task takes the signal or the signal becomes pending.
    pub(crate) fn turn_back_for_signal(
        &mut self,
        tid: Tid,
        mut stopped: Stopped,
        entry: &Registers,
    ) -> Result<Turned> {
        if self.task(tid)?.stash.is_empty() {
            return Ok(Turned::No(stopped));
        }
        let mask = stopped.sigmask()?;
        let task = self.task_mut(tid)?;
        let back = before_call(entry);
        stopped.set_regs(&back)?;
        let open = task.stash.iter().find(|info| mask & bit(signo(info)) == 0);
        let Some(signal) = open.map(signo) else {
            let stopped = self.make_pending(tid, stopped)?;
            let task = self.task_mut(tid)?;
            task.retrying = true;
            task.state = State::Ready(stopped);
            return Ok(Turned::Back);
        };
        task.turned_back = Some(*entry);
        task.boundary = back;
        task.state = State::Ready(stopped);
        self.send_carrier(tid, signal, mask)?;
        Ok(Turned::Back)
    }

    /// Gives the stashed signals back to the kernel, all of which the task must block: they become
    /// pending again with their original siginfo. The task itself queues them, because no other task
    /// may claim that the kernel or another process was the sender.
    ///
    /// A signal for the whole process stays one where that is possible, because another thread may be
    /// waiting for the signal.
    fn make_pending(&mut self, tid: Tid, stopped: Stopped) -> Result<Stopped> {
        let stash = std::mem::take(&mut self.task_mut(tid)?.stash);
        self.requeue(tid, stopped, stash)
    }

    /// Makes blocked signals pending again.
    pub(crate) fn requeue(&mut self, tid: Tid, stopped: Stopped, stash: Vec<SigInfo>) -> Result<Stopped> {
        let tgid = self.task(tid)?.tgid;
        // The task's ids may be different in its own pid namespace.
        let (remote, pid) = Remote::new(stopped, tgid)?.call(libc::SYS_getpid, [0; 6])?;
        let (mut remote, own) = remote.call(libc::SYS_gettid, [0; 6])?;
        for info in stash {
            let signal = signo(&info);
            if is_stop(signal) && self.is_continued(tgid) {
                continue;
            }
            let at = remote.param(&info)?.0;
            // For a thread other than the first, the kernel does not allow every code with
            // rt_sigqueueinfo.
            let mine = pid != own || matches!(si_code(&info), libc::SI_TKILL | libc::SI_TIMER);
            let (number, args) = if mine {
                (
                    libc::SYS_rt_tgsigqueueinfo,
                    [pid as u64, own as u64, signal as u64, at, 0, 0],
                )
            } else {
                (
                    libc::SYS_rt_sigqueueinfo,
                    [pid as u64, signal as u64, at, 0, 0, 0],
                )
            };
            let result;
            (remote, result) = remote.call(number, args)?;
            if result < 0 {
                tracing::warn!(
                    "signal {signal} of task {tid} is lost: the kernel does not queue it again ({result})"
                );
            }
        }
        Ok(remote.finish()?)
    }

    pub(crate) fn on_signal(&mut self, tid: Tid, mut stopped: Stopped, signal: i32) -> Result<()> {
        let mut info = stopped.siginfo()?;
        if signo(&info) != signal {
            // The task was killed since, and the siginfo belongs to the stop at its end.
            return Err(rr_tracee::Error::Died(tid).into());
        }
        let mut regs = stopped.regs()?;
        if signal == libc::SIGSEGV {
            let task = self.task(tid)?;
            let sites = &self.spaces[&task.space].library.sites;
            let at_program = sites.at_program(&task.memory, regs)?;
            if at_program != regs {
                stopped.set_regs(&at_program)?;
                regs = at_program;
            }
        }
        // Stops that are not signals of the program: single steps, rr's own code, `int 0x80`, and
        // trapped instructions.
        let stepped = signal == libc::SIGTRAP && si_code(&info) == libc::TRAP_TRACE;
        if stepped && let Some((rip, writes)) = self.step_without_sites(tid, Addr(regs.rip))? {
            return self.first_step(tid, stopped, info, (regs, rip), writes);
        }
        if is_fault(&info) && is_inside(regs.rip) {
            let stopped = self.undo_force(tid, stopped, &info)?;
            return self.bail_out(tid, stopped);
        }
        if let Some(entry) = unsupported_abi::int80(&info, &regs) {
            let stopped = self.undo_force(tid, stopped, &info)?;
            return self.refuse_int80(tid, stopped, &entry);
        }
        if let Some(number) = vsyscall::number(&info) {
            return self.carry_out_vsyscall(tid, stopped, &info, number);
        }
        if signal == libc::SIGSEGV
            && (si_code(&info) == SI_KERNEL || self.is_forced(tid, signal)?)
            && !self.task(tid)?.confined.is_strict()
            && !self.task(tid)?.is_counter_denied
            && let Some((number, after)) = self.carry_out_rdtsc(tid, &regs)?
        {
            let stopped = self.undo_force(tid, stopped, &info)?;
            return self.after_rdtsc(tid, stopped, number, (regs, after));
        }
        if signal == libc::SIGSEGV
            && (si_code(&info) == SI_KERNEL || self.is_forced(tid, signal)?)
            && let Some(access) = self.random_at(tid, &regs)?
        {
            let stopped = self.undo_force(tid, stopped, &info)?;
            return self.after_random(tid, stopped, &regs, access);
        }
        // A carrier gives way to the stashed signal.
        match self.carried(tid, &info)? {
            Carried::Nothing => {}
            Carried::Stashed(stashed) => {
                info = stashed;
                stopped.set_siginfo(&info)?;
            }
            Carried::TakenBack => {
                self.task_mut(tid)?.state = State::Ready(stopped);
                return Ok(());
            }
        }
        if signal == libc::SIGTRAP && si_code(&info) == TRAP_HWBKPT {
            self.at_watch_hit(tid, &stopped, &info)?;
            return self.deliver(tid, stopped, info, SignalPlace::Here);
        }
        // Decides at which place the signal happens.
        let task = self.task_mut(tid)?;
        let at_boundary = regs.rip == task.boundary.rip && regs.rsp == task.boundary.rsp;
        let place = if task.restarting.is_some() || (task.due && at_boundary) {
            task.turned_back.map_or(SignalPlace::Here, SignalPlace::Entry)
        } else if is_fault(&info) {
            self.take_records(tid)?;
            SignalPlace::Fault(regs.outside_call())
        } else {
            // A signal that kills needs no place.
            let passed_on = (!self.put_off(tid, info)?).then_some(signal);
            let running = stopped.resume(Resume::Cont, passed_on)?;
            return self.await_stop(tid, running);
        };
        self.cancel_opposite(tid, signo(&info))?;
        self.deliver(tid, stopped, info, place)
    }

    /// Records that the task has read the time-stamp counter, by the instruction with this number in
    /// records.
    fn after_rdtsc(
        &mut self,
        tid: Tid,
        mut stopped: Stopped,
        number: u64,
        (regs, after): (Registers, Registers),
    ) -> Result<()> {
        stopped.set_regs(&after)?;
        let at = regs.outside_call();
        self.take_records(tid)?;
        let (mut ops, mut writes) = (vec![], vec![]);
        self.count_traced(tid, number as i64, Addr(at.rip));
        stopped = self.consider_place(tid, stopped, Addr(at.rip), &mut ops, &mut writes)?;
        self.after_trap(tid, stopped, (at, after), ops, writes)
    }

    /// Records an instruction that trapped and that the recorder has carried out: `at` and `after` are
    /// the registers before and after the instruction.
    pub(crate) fn after_trap(
        &mut self,
        tid: Tid,
        stopped: Stopped,
        (at, after): (Registers, Registers),
        ops: Vec<SpaceOp>,
        writes: Vec<MemWrite>,
    ) -> Result<()> {
        self.emit(tid, EventKind::Trap { at, after }, ops, writes)?;
        let task = self.task_mut(tid)?;
        task.boundary = after;
        task.state = State::Ready(stopped);
        self.step_is_over(tid)
    }

    /// Handles the first trap of a program that single-steps itself. The program has no rewritten sites
    /// from here on, and goes on at `rip`. If `rip` differs from the current address, the program has
    /// not executed an instruction of its own yet, and will trap again.
    fn first_step(
        &mut self,
        tid: Tid,
        mut stopped: Stopped,
        info: SigInfo,
        (regs, rip): (Registers, Addr),
        writes: Vec<MemWrite>,
    ) -> Result<()> {
        self.take_records(tid)?;
        let at = regs.outside_call();
        let after = Registers { rip: rip.0, ..at };
        let trap = EventKind::Signal {
            signo: signo(&info),
            info: info.to_vec(),
            place: SignalPlace::Fault(at),
            disposition: Disposition::Ignored,
            after,
            xstate: None,
        };
        self.emit(tid, trap, vec![], writes)?;
        self.task_mut(tid)?.boundary = after;
        if rip.0 == regs.rip {
            return self.deliver(tid, stopped, info, SignalPlace::Here);
        }
        stopped.set_regs(&after)?;
        self.task_mut(tid)?.state = State::Ready(stopped);
        Ok(())
    }

    /// Handles an asynchronous signal in the middle of an interval: keeps the signal for the end of the
    /// interval, or drops it if it has no effect. Returns `false` if the signal kills.
    pub(crate) fn put_off(&mut self, tid: Tid, info: SigInfo) -> Result<bool> {
        let signal = signo(&info);
        self.cancel_opposite(tid, signal)?;
        let tgid = self.task(tid)?.tgid;
        let is_seen = self.is_seen_by_tracer(tid, &info)?;
        match disposition(tgid, tid, &info, &self.options)? {
            Disposition::Fatal if !is_seen => return Ok(false),
            Disposition::Ignored if !is_seen => {}
            _ => {
                let stash = &mut self.task_mut(tid)?.stash;
                // At most one ordinary signal of each number is pending at a time (signal(7)).
                if signal >= FIRST_REAL_TIME || !stash.iter().any(|i| signo(i) == signal) {
                    stash.push(info);
                }
                self.hurry(tid)?;
            }
        }
        Ok(true)
    }

    fn deliver(
        &mut self,
        tid: Tid,
        mut stopped: Stopped,
        info: SigInfo,
        mut place: SignalPlace,
    ) -> Result<()> {
        let signal = signo(&info);
        if self.stops_for(tid, signal)? {
            return self.stop_at_signal(tid, stopped, info, place);
        }
        let tgid = self.task(tid)?.tgid;
        let disposition = disposition(tgid, tid, &info, &self.options)?;
        if disposition == Disposition::Handler {
            place = self.abort_for_signal(tid, &mut stopped, &info, place)?;
        }
        let boundary = match &place {
            SignalPlace::Fault(regs) => *regs,
            _ => self.task(tid)?.boundary,
        };
        let event = |disposition, after, xstate| EventKind::Signal {
            signo: signal,
            info: info.to_vec(),
            place: place.clone(),
            disposition,
            after,
            xstate,
        };
        match disposition {
            Disposition::Ignored if is_fault(&info) => {
                // The fault stopped the task at a place where no other event is.
                self.emit(tid, event(disposition, boundary, None), vec![], vec![])?;
                let task = self.task_mut(tid)?;
                task.boundary = boundary;
                task.state = State::Ready(stopped);
                Ok(())
            }
            Disposition::Ignored => {
                // The signal has no effect, so it is no event. If it has turned the task back, that is
                // no event either.
                self.task_mut(tid)?.state = State::Ready(stopped);
                Ok(())
            }
            Disposition::Handler => {
                let waited = stopped.resume(Resume::Step, Some(signal))?.wait()?;
                let (stopped, stop) = match waited {
                    Waited::Stopped(stopped, stop) => (stopped, stop),
                    Waited::Gone(_) => return Err(rr_tracee::Error::Died(tid).into()),
                };
                if stop != Stop::Signal(libc::SIGTRAP) {
                    // The frame did not fit, and the kernel sends SIGSEGV instead. In replay, the first
                    // signal stops the task.
                    if matches!(place, SignalPlace::Fault(_)) {
                        self.emit(tid, event(Disposition::Ignored, boundary, None), vec![], vec![])?;
                        self.task_mut(tid)?.boundary = boundary;
                    }
                    let task = self.task_mut(tid)?;
                    task.due = true;
                    task.state = State::Reported(stopped, stop);
                    return Ok(());
                }
                let after = stopped.regs()?.outside_call();
                let xstate = Some(stopped.xstate()?);
                let task = self.task_mut(tid)?;
                let (addr, data) = frame(&task.memory, Addr(after.rsp))?;
                let writes = vec![MemWrite {
                    space: task.space,
                    addr,
                    data,
                }];
                task.restarting = None;
                task.turned_back = None;
                task.boundary = after;
                task.blocked = None;
                task.actions.delivered(signal);
                self.settle_entry(tid)?;
                self.emit(tid, event(disposition, after, xstate), vec![], writes)?;
                self.task_mut(tid)?.state = State::Ready(stopped);
                self.step_is_over(tid)
            }
            Disposition::Fatal | Disposition::Stopped => {
                self.settle_entry(tid)?;
                self.emit(tid, event(disposition, boundary, None), vec![], vec![])?;
                self.task_mut(tid)?.turned_back = None;
                if disposition == Disposition::Fatal && is_fault(&info) && procfs::is_init(tgid) {
                    return self.die_untraced(tid, stopped, signal);
                }
                let stopped = match disposition {
                    Disposition::Fatal => self.checkpoint_before_death(tid, stopped, &info, boundary)?,
                    _ => Some(stopped),
                };
                let Some(stopped) = stopped else { return Ok(()) };
                let running = stopped.resume(Resume::Cont, Some(signal))?;
                self.await_stop(tid, running)
            }
        }
    }

    /// If the task stands at an instruction that reads the time-stamp counter: returns the number of
    /// that instruction in records, and the registers after the instruction.
    fn carry_out_rdtsc(&self, tid: Tid, regs: &Registers) -> Result<Option<(u64, Registers)>> {
        let task = self.task(tid)?;
        let sites = &self.spaces[&task.space].library.sites;
        let code = sites.read_code(&task.memory, Addr(regs.rip), Instruction::LONGEST)?;
        let Some(instruction) = Instruction::of(&code) else {
            return Ok(None);
        };
        let number = match instruction {
            Instruction::Call => return Ok(None),
            Instruction::Counter => COUNTER_NUMBER,
            Instruction::CounterAndProcessor => COUNTER_AND_PROCESSOR_NUMBER,
        };
        let tsc = self.counter().at(tsc::raw_time());
        let mut after = Registers {
            rax: tsc & 0xffff_ffff,
            rdx: tsc >> 32,
            rip: regs.rip + instruction.len(),
            orig_rax: NOT_IN_SYSCALL,
            ..*regs
        };
        if instruction == Instruction::CounterAndProcessor {
            after.rcx = u64::from(self.pretended_aux(tsc::processor()));
        }
        Ok(Some((number, after)))
    }
}

/// Result of an attempt to turn a task back from a system call.
pub(crate) enum Turned {
    /// The task was not turned back: here it is.
    No(Stopped),
    /// The task was turned back: its next stop is a signal.
    Back,
}
