//! System calls: from the entry stop to the event.
//!
//! Keeps I2: everything that the kernel writes for a call is part of its event, and a call that is not
//! in the table is not made. Keeps I3: the outputs of a call that may block go to the task's scratch
//! memory, and are copied to their place when the event is recorded.

use rr_trace::event::{EventKind, MemWrite, TaskOp};
use rr_tracee::memory::ReadMemory;
use rr_tracee::payload::Sent;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::syscalls::{self, Blocking, Class, Spec, Written};
use rr_tracee::task::{Resume, Stop};
use rr_tracee::{Registers, Stopped, Tid, TraceeFd, procfs};

use crate::call::redirect::{place, room_for};
use crate::error::{Error, Result};
use crate::seccomp::Arch;
use crate::session::{RecordSession, limits_file_sizes};
use crate::signal::deliver::{Turned, before_call};
use crate::signal::forced;
use crate::world::task::{Call, State};

/// Returns whether the result is `ERESTARTSYS`, `ERESTARTNOINTR`, `ERESTARTNOHAND` or
/// `ERESTART_RESTARTBLOCK` (include/linux/errno.h). The kernel uses these internally when a signal
/// interrupts a call. Programs never see them.
pub(crate) fn is_restart(result: i64) -> bool {
    matches!(result, -512 | -513 | -514 | -516)
}

/// Registers after a call that returned `result` without any other effect.
pub(crate) fn returned(entry: &Registers, result: i64) -> Registers {
    Registers {
        rax: result as u64,
        orig_rax: NOT_IN_SYSCALL,
        ..*entry
    }
}

impl RecordSession {
    /// Handles a stop of `tid`.
    pub(crate) fn handle(&mut self, tid: Tid, stopped: Stopped, stop: Stop) -> Result<()> {
        // In a group stop the task executes nothing, and must not leave the stop for us. A task woken
        // from a wait is answered first.
        let waits = |call: &Call| stop == Stop::Syscall && call.wait.is_some();
        let leaves = matches!(stop, Stop::Exiting | Stop::Exec { .. } | Stop::GroupStop(_))
            || self.task(tid)?.call.as_ref().is_some_and(waits);
        let stopped = if leaves {
            stopped
        } else {
            self.settle_snapshots(tid, stopped)?
        };
        self.task_mut(tid)?.group_stop = None;
        self.stats.stop(stop);
        match stop {
            Stop::Seccomp => self.on_entry(tid, stopped),
            Stop::Syscall => self.on_exit(tid, stopped),
            Stop::NewTask { child } => self.on_new_task(tid, stopped, child),
            Stop::Exec { former } => self.on_exec(tid, stopped, former),
            Stop::Exiting => self.on_exiting(tid, stopped),
            Stop::Signal(signal) => self.on_signal(tid, stopped, signal),
            Stop::GroupStop(signal) if self.tells_of_group(tid)? => {
                self.stop_with_group(tid, stopped, signal)
            }
            Stop::GroupStop(_) => {
                let xstate = self.capture.is_on().then(|| stopped.xstate()).transpose()?;
                self.task_mut(tid)?.group_stop = xstate;
                let running = stopped.resume(Resume::Listen, None)?;
                self.task_mut(tid)?.state = State::InKernel(running);
                Ok(())
            }
            Stop::Event if self.task(tid)?.interrupted => self.on_interrupted(tid, stopped),
            Stop::Event => {
                self.task_mut(tid)?.state = State::Ready(stopped);
                self.end_listening(tid)
            }
        }
    }

    fn on_entry(&mut self, tid: Tid, mut stopped: Stopped) -> Result<()> {
        let entry = stopped.regs()?;
        if entry.syscall() != libc::SYS_restart_syscall {
            self.release_scratch(tid);
        }
        if self.is_entry_seen(tid)? {
            return self.after_entry_stop(tid, stopped);
        }
        let task = self.task_mut(tid)?;
        if std::mem::take(&mut task.interrupted) {
            // The requested stop may still be to come. It must not interrupt the call.
            stopped.set_regs(&before_call(&entry))?;
            task.between = true;
            task.state = State::Ready(stopped);
            return Ok(());
        }
        task.between = false;
        self.take_records(tid)?;
        let task = self.task_mut(tid)?;
        let restarted = task.restarting.take();
        task.turned_back = None;
        task.retrying = false;
        if restarted.is_some() {
            let after = before_call(&entry);
            self.emit(tid, EventKind::Restart { after }, vec![], vec![])?;
            self.task_mut(tid)?.boundary = after;
        }
        match self.turn_back_for_signal(tid, stopped, &entry)? {
            Turned::Back => Ok(()),
            Turned::No(stopped) => {
                let is_restarted = restarted.is_some() && entry.syscall() == libc::SYS_restart_syscall;
                let Some(stopped) = self.dispatch(tid, stopped, &entry, is_restarted)? else {
                    return Ok(());
                };
                match self.stops_at_entry(tid)? {
                    true => self.stop_at_entry(tid, stopped, entry, restarted),
                    false => self.begin_call(tid, stopped, entry, restarted),
                }
            }
        }
    }

    pub(crate) fn begin_call(
        &mut self,
        tid: Tid,
        stopped: Stopped,
        entry: Registers,
        restarted: Option<Box<Call>>,
    ) -> Result<()> {
        let passed = self.pass_filters(tid, stopped, &entry, Arch::X86_64, restarted)?;
        let Some((stopped, restarted)) = passed else {
            return Ok(());
        };
        let number = entry.syscall();
        self.count_call(tid, &entry);
        self.note_wait_for_lock(tid, &entry)?;
        let mut call = Call {
            of_stream: self.task(tid)?.left,
            ..Call::new(entry)
        };
        if let (libc::SYS_restart_syscall, Some(old)) = (number, restarted) {
            // The kernel continues the interrupted call with its own copy of the arguments, including
            // scratch addresses.
            call = Call { entry, ..*old };
            return self.enter(tid, stopped, call, true);
        }
        let Some(spec) = call.spec else {
            return self.refuse(tid, stopped, &entry, libc::ENOSYS, !exists(number));
        };
        match spec.class_of(&entry) {
            Class::Refused { errno, quiet } => self.refuse(tid, stopped, &entry, errno, quiet),
            Class::Special(special) => self.begin_special(tid, stopped, call, special),
            Class::Recorded => {
                let Some(stopped) = self.signal_members(tid, stopped, &entry)? else {
                    return Ok(());
                };
                let Some((stopped, call)) = self.begin_wait(tid, stopped, call)? else {
                    return Ok(());
                };
                self.begin_recorded(tid, stopped, call, spec)
            }
        }
    }

    /// Makes a call that is only recorded.
    pub(crate) fn begin_recorded(
        &mut self,
        tid: Tid,
        stopped: Stopped,
        mut call: Call,
        spec: &Spec,
    ) -> Result<()> {
        let may_block = match spec.blocking_of(&call.entry) {
            Blocking::Never => false,
            Blocking::Maybe => true,
            Blocking::Fd(arg) => {
                let fd = TraceeFd(call.entry.arg(arg.into()) as i32);
                call.of_stream || !is_plain_file(tid, fd)
            }
        };
        let Some(stopped) = self.read_status(tid, stopped, &call.entry)? else {
            return Ok(());
        };
        let Some(mut stopped) = self.before_foreign_write(tid, stopped, &call.entry)? else {
            return Ok(());
        };
        self.before_cut(tid, &call.entry);
        let task = self.task(tid)?;
        let space = task.space;
        call.parts = spec.parts(&call.entry, &task.memory)?;
        call.action = forced::action_of(&call.entry, &task.memory);
        if may_block && !call.parts.is_empty() {
            match self.space_mut(space).scratch.take(room_for(&call.parts)) {
                Ok(Some(scratch)) => {
                    self.task_mut(tid)?.scratch = Some(scratch);
                    call.placed = place(
                        &mut call,
                        &self.spaces[&space].model,
                        &self.task(tid)?.memory,
                        scratch,
                        &mut stopped,
                    )?;
                }
                Ok(None) if self.warned.insert(SCRATCH_IS_FULL) => {
                    tracing::warn!("too many calls block at the same time: replay may diverge");
                }
                Ok(None) => {}
                Err(end) => return self.grow_scratch(tid, stopped, &call.entry, space, end),
            }
        }
        if self.options.mark_stdio {
            self.mark_output(tid, &call)?;
        }
        if may_block && self.capture.is_on() {
            call.xstate = Some(stopped.xstate()?);
        }
        self.enter(tid, stopped, call, may_block)
    }

    /// Lets the call run in the kernel.
    pub(crate) fn enter(&mut self, tid: Tid, stopped: Stopped, call: Call, may_block: bool) -> Result<()> {
        self.task_mut(tid)?.call = Some(call);
        let running = stopped.resume(Resume::Syscall, None)?;
        if may_block && self.task(tid)?.tracee.as_ref().is_some_and(|t| !t.due.is_empty()) {
            // Its tracer wants it to stop, so the call must not wait.
            running.interrupt()?;
        }
        if may_block {
            self.await_call(tid, running)
        } else {
            self.await_stop(tid, running)
        }
    }

    /// Handles that a task has been sent back to before its call, which it makes again.
    pub(crate) fn is_sent_back(&mut self, tid: Tid, entry: &Registers) -> Result<()> {
        if self.settle_entry(tid)? {
            // No other task has seen that the call was made: the task is still in its interval.
            self.task_mut(tid)?.retrying = true;
            return Ok(());
        }
        let after = before_call(entry);
        self.emit(tid, EventKind::Restart { after }, vec![], vec![])?;
        self.task_mut(tid)?.boundary = after;
        Ok(())
    }

    /// Does not make the call; the program gets `errno`.
    pub(crate) fn refuse(
        &mut self,
        tid: Tid,
        stopped: Stopped,
        entry: &Registers,
        errno: i32,
        quiet: bool,
    ) -> Result<()> {
        let number = entry.syscall();
        if !quiet && self.warned.insert(number) {
            let mut name = syscalls::name(number).into_owned();
            // Only this form of the call is refused.
            let form = syscalls::lookup(number).and_then(|spec| spec.refused_if);
            if let Some(form) = form.filter(|f| (f.form)(entry)) {
                name = format!("{name} ({})", form.what);
            }
            let answer = nix::errno::Errno::from_raw(errno);
            tracing::warn!("the program uses {name}, which rr cannot record; it is told {answer}");
        }
        self.answer(tid, stopped, entry, -i64::from(errno), vec![])
    }

    /// Does not make the call; the program gets our `result` and `writes`.
    pub(crate) fn answer(
        &mut self,
        tid: Tid,
        mut stopped: Stopped,
        entry: &Registers,
        result: i64,
        mut writes: Vec<MemWrite>,
    ) -> Result<()> {
        let after = returned(entry, result);
        for write in &writes {
            self.task(tid)?.memory.write(write.addr, &write.data)?;
        }
        // With orig_rax −1 the kernel skips the call at a seccomp stop (seccomp(2), SECCOMP_RET_TRACE).
        stopped.set_regs(&after)?;
        let mut ops = vec![];
        // The library knows some of these answers, too.
        let stopped = self.consider_site(tid, stopped, entry, &mut ops, &mut writes)?;
        self.record_call(tid, entry, after, None, None, ops, writes, None)?;
        self.task_mut(tid)?.state = State::Ready(stopped);
        Ok(())
    }

    fn on_exit(&mut self, tid: Tid, mut stopped: Stopped) -> Result<()> {
        let raw = stopped.regs()?;
        let Some(call) = self.task_mut(tid)?.call.take() else {
            return Err(Error::Unexpected {
                tid,
                what: format!("left a system call that it did not enter ({raw:x?})"),
            });
        };
        let Some((finished, mut call, raw)) = self.finish_wait(tid, stopped, call, raw)? else {
            return Ok(());
        };
        stopped = finished;
        let result = raw.result();
        // A file cannot be written while it is executed, and cannot be sealed while it is mapped for
        // writing.
        let busy = result == -i64::from(libc::ETXTBSY)
            || (result == -i64::from(libc::EBUSY)
                && call.entry.syscall() == libc::SYS_fcntl
                && call.entry.rsi as i32 == libc::F_ADD_SEALS);
        let why = "the program wants to write to an executable that its frozen processes kept busy";
        if busy && self.capture.release_forks(why) {
            // A frozen fork may have caused the error: the program makes the call again, and does not
            // notice.
            stopped.set_regs(&before_call(&call.entry))?;
            self.is_sent_back(tid, &call.entry)?;
            self.task_mut(tid)?.state = State::Ready(stopped);
            return Ok(());
        }
        if let Some(Class::Special(special)) = call.spec.map(|s| s.class) {
            return self.finish_special(tid, stopped, call, special, raw);
        }
        self.pretend_cpu(tid, &call, result)?;
        // Collects the call's writes, and copies those to scratch memory into the program's buffers.
        let mut writes = self.gather(tid, &call, result)?;
        let mut after = raw;
        for n in 0..6 {
            after.set_arg(n, call.entry.arg(n));
        }
        if call.placed.is_some() {
            stopped.set_regs(&after)?;
            for write in &writes {
                self.task(tid)?.memory.write(write.addr, &write.data)?;
            }
        }
        after.orig_rax = NOT_IN_SYSCALL;
        if let Some(spec) = call.spec
            && spec.unknown_effect(&call.described_by, result)
            && self
                .warned
                .insert(spec.number << 32 | (call.entry.rsi as i64 & 0xffff_ffff))
        {
            let (name, request) = (spec.name, call.entry.rsi);
            tracing::warn!(
                "{name} with request {request:#x} is not in the table: if it writes memory, replay will diverge"
            );
        }
        // Notes changes to state that the recorder keeps.
        match call.entry.syscall() {
            libc::SYS_sched_yield => self.yields = true,
            libc::SYS_futex if result > 0 => self.note_wake(&call.entry),
            libc::SYS_rt_sigprocmask => self.task_mut(tid)?.blocked = None,
            libc::SYS_rt_sigaction => self.note_action(tid, &mut call, result)?,
            libc::SYS_setrlimit | libc::SYS_prlimit64 => self.note_limit(tid, &call.entry),
            libc::SYS_setpriority | libc::SYS_sched_setattr => self.refresh_priorities(),
            _ => {}
        }
        writes.extend(self.lock_word(tid, &call.entry));
        // Collects the effects on objects and on the memory of other tasks, and records the call.
        let output = self.output_of(tid, &call, result)?;
        let (mut ops, more) = self.object_effect(tid, &call, result)?;
        writes.extend(more);
        let mut foreign = self.memory_file_effect(tid, &call, result)?;
        foreign.extend(self.other_memory_effect(tid, &call, result)?);
        self.undo_overwritten(tid, &mut foreign)?;
        writes.extend(foreign);
        let mut stopped = self.substitute_file(tid, stopped, &call, result)?;
        if !is_restart(result) {
            stopped = self.consider_site(tid, stopped, &call.entry, &mut ops, &mut writes)?;
        }
        self.record_call(tid, &call.entry, after, None, None, ops, writes, output)?;
        let task = self.task_mut(tid)?;
        task.restarting = is_restart(result).then(|| Box::new(call));
        task.state = State::Ready(stopped);
        Ok(())
    }

    /// Handles a call that may have limited the size of files, of this process or another's.
    fn note_limit(&mut self, tid: Tid, entry: &Registers) {
        let (resource, whose) = match entry.syscall() {
            libc::SYS_setrlimit => (entry.rdi, tid),
            _ if entry.rdi as i32 == 0 => (entry.rsi, tid),
            _ => (entry.rsi, Tid(entry.rdi as i32)),
        };
        self.file_sizes_limited |= resource as u32 == libc::RLIMIT_FSIZE && limits_file_sizes(whose.0);
    }

    /// Records a system call's event, whole or as the second half, and the resulting state.
    #[allow(clippy::too_many_arguments)] // the parts of an event
    pub(crate) fn record_call(
        &mut self,
        tid: Tid,
        entry: &Registers,
        after: Registers,
        xstate: Option<rr_tracee::ExtendedState>,
        task_op: Option<TaskOp>,
        ops: Vec<rr_tracee::SpaceOp>,
        writes: Vec<MemWrite>,
        output: Option<rr_trace::event::Output>,
    ) -> Result<()> {
        let whole = self.settle_entry(tid)?;
        // Memory now is as the event leaves it.
        let payload = Sent::by(entry, after.result()).digest(&self.task(tid)?.memory);
        let kind = EventKind::Syscall {
            entry: whole.then_some(*entry),
            after,
            xstate,
            task: task_op,
            output,
            payload,
        };
        self.emit(tid, kind, ops, writes)?;
        self.task_mut(tid)?.boundary = after;
        self.call_is_recorded(tid, entry)
    }

    /// The kernel's writes for a call.
    pub(crate) fn gather(&self, tid: Tid, call: &Call, result: i64) -> Result<Vec<MemWrite>> {
        let Some(spec) = call.spec else { return Ok(vec![]) };
        let task = self.task(tid)?;
        let effective = |part: usize| {
            call.placed
                .as_ref()
                .map_or(call.parts[part].addr, |placed| placed[part])
        };
        let read = |part: usize, offset: u64, buf: &mut [u8]| task.memory.read(effective(part) + offset, buf);
        let mut written = spec.written(&call.described_by, &call.parts, result, &read)?;
        if result == -i64::from(libc::EFAULT) {
            // The bytes written before the kernel reached the bad page are unknown.
            let in_place = |w: &Written| effective(w.part) == call.parts[w.part].addr;
            written.extend(Spec::touchable(&call.parts, &read)?.into_iter().filter(in_place));
        }
        written
            .into_iter()
            .filter(|w| w.len > 0)
            .map(|w| {
                let data = task
                    .memory
                    .read_vec(effective(w.part) + w.offset, w.len as usize)?;
                Ok(MemWrite {
                    space: task.space,
                    addr: call.parts[w.part].addr + w.offset,
                    data,
                })
            })
            .collect()
    }
}

/// Returns whether this kernel may know a call that is not in the table.
fn exists(number: i64) -> bool {
    /// `getpid` of the x32 interface.
    const GETPID: i64 = 0x4000_0000 + libc::SYS_getpid;
    let release = nix::sys::utsname::uname().ok();
    let mut numbers = release
        .as_ref()
        .and_then(|name| name.release().to_str())
        .into_iter()
        .flat_map(|release| release.split('.'))
        .map(|part| part.parse().unwrap_or(u32::MAX));
    let linux = (
        numbers.next().unwrap_or(u32::MAX),
        numbers.next().unwrap_or(u32::MAX),
    );
    // SAFETY: the call has no arguments and no effect.
    let has_x32 = || unsafe { libc::syscall(GETPID) } != -1;
    syscalls::may_exist(number, linux, has_x32())
}

/// A key of warnings, beside the system call numbers.
const SCRATCH_IS_FULL: i64 = -3;

/// Returns whether a descriptor is a regular file, a directory or a block device: reading it never
/// waits for a tracee.
pub(crate) fn is_plain_file(tid: Tid, fd: TraceeFd) -> bool {
    use std::os::unix::fs::FileTypeExt;
    // A descriptor that is not open gives an error at once.
    std::fs::metadata(procfs::fd_path(tid, fd)).map_or(true, |m| {
        m.is_file() || m.is_dir() || m.file_type().is_block_device()
    })
}
