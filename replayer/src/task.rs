//! One replayed task.

use std::cell::Cell;

use nix::errno::Errno;
use rr_tracee::memory::ReadMemory;
use rr_tracee::regs::STATUS_FLAGS;
use rr_tracee::task::{Resume, Waited, wait_for_tick};
use rr_tracee::{Addr, Error as TraceeError, ExtendedState, Memory, Registers, SpaceId, Stop, Stopped, Tid};

use crate::interrupt::Interrupt;

/// A replayed task.
#[derive(Debug)]
pub(crate) struct Task {
    /// The recorded tid.
    pub tid: Tid,
    /// The recorded thread group.
    pub tgid: Tid,
    /// Its address space.
    pub space: SpaceId,
    /// The program that it executes.
    pub exe: String,
    /// The name that it has given itself (prctl(2), `PR_SET_NAME`).
    pub name: Option<String>,
    /// True if the task is in a system call whose return is a later event.
    pub in_syscall: bool,
    /// The real task. `None` only while other code holds it.
    stopped: Option<Stopped>,
    /// The task's registers, if known. (Asking the kernel repeatedly is what makes a stop expensive.)
    regs: Cell<Option<Registers>>,
    /// Its real tid.
    pub real: Tid,
    /// Generation of watches in the debug registers.
    pub watches: u64,
}

/// Result of a run of a task.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ran {
    /// The task has stopped. `asked` says that it was asked to.
    Stopped { stop: Stop, asked: bool },
    /// The task is gone. The status is as in wait(2).
    Gone(i32),
}

impl Task {
    pub fn new(tid: Tid, tgid: Tid, space: SpaceId, exe: String, stopped: Stopped) -> Task {
        Task {
            tid,
            tgid,
            space,
            exe,
            name: None,
            in_syscall: false,
            real: stopped.tid(),
            stopped: Some(stopped),
            regs: Cell::new(None),
            watches: 0,
        }
    }

    /// Takes the real task, which must be given back. (A task that a failed operation has lost is
    /// recovered here.)
    pub fn take(&mut self) -> rr_tracee::Result<Stopped> {
        self.regs.set(None);
        let stopped = self.stopped.take().or_else(|| Stopped::reclaim(self.real));
        stopped.ok_or(TraceeError::Died(self.real))
    }

    /// Gives the real task back, or another one instead.
    pub fn give(&mut self, stopped: Stopped) {
        self.real = stopped.tid();
        self.regs.set(None);
        self.stopped = Some(stopped);
    }

    /// Runs the task until it stops. If the user requests it, the task is asked to stop
    /// (`PTRACE_INTERRUPT`).
    pub fn run(&mut self, how: Resume, interrupt: &mut dyn Interrupt) -> rr_tracee::Result<Ran> {
        let real = self.real;
        let mut running = Some(self.take()?.resume(how, None)?);
        let mut asked = false;
        loop {
            if let Some(report) = wait_for_tick(Some(real), false)
                && let Some(running) = running.take()
            {
                return Ok(match running.waited(report)? {
                    Waited::Stopped(stopped, stop) => {
                        self.give(stopped);
                        Ran::Stopped { stop, asked }
                    }
                    Waited::Gone(status) => Ran::Gone(status),
                });
            }
            if Errno::last() != Errno::EINTR {
                return Err(TraceeError::Died(real));
            }
            if !asked
                && interrupt.is_requested()
                && let Some(running) = &running
            {
                running.interrupt()?;
                asked = true;
            }
        }
    }

    /// The real task, for changes.
    pub fn stopped(&mut self) -> rr_tracee::Result<&mut Stopped> {
        self.regs.set(None);
        if self.stopped.is_none() {
            self.stopped = Stopped::reclaim(self.real);
        }
        self.stopped.as_mut().ok_or(TraceeError::Died(self.real))
    }

    /// The real task, for reading.
    pub fn seen(&self) -> rr_tracee::Result<&Stopped> {
        self.stopped.as_ref().ok_or(TraceeError::Died(self.real))
    }

    /// All of its general registers.
    pub fn all_regs(&self) -> rr_tracee::Result<Registers> {
        if let Some(regs) = self.regs.get() {
            return Ok(regs);
        }
        let regs = self.seen()?.regs()?;
        self.regs.set(Some(regs));
        Ok(regs)
    }

    /// Moves the task to another address.
    pub fn move_to(&mut self, to: rr_tracee::Addr) -> rr_tracee::Result<()> {
        self.change_regs(|regs| regs.rip = to.0)
    }

    /// Sets the status flags to those of `eflags`.
    pub fn set_status_flags(&mut self, eflags: u64) -> rr_tracee::Result<()> {
        self.change_regs(|regs| regs.eflags = regs.eflags & !STATUS_FLAGS | eflags & STATUS_FLAGS)
    }

    fn change_regs(&mut self, change: impl FnOnce(&mut Registers)) -> rr_tracee::Result<()> {
        let mut regs = self.all_regs()?;
        change(&mut regs);
        self.stopped()?.set_regs(&regs)?;
        self.regs.set(Some(regs));
        Ok(())
    }

    pub fn memory(&self) -> Memory {
        Memory::of(self.real)
    }

    /// Remembers the name that a system call gives the task.
    pub fn note_name(&mut self, entry: Option<&Registers>) {
        /// `TASK_COMM_LEN` without the end of the string.
        const NAME_MOST: usize = 15;
        let Some(entry) = entry.filter(|e| e.syscall() == libc::SYS_prctl) else {
            return;
        };
        if entry.arg(0) as i32 == libc::PR_SET_NAME {
            let name = self.memory().read_cstring(Addr(entry.arg(1)), NAME_MOST);
            self.name = name.ok().map(|name| String::from_utf8_lossy(&name).into_owned());
        }
    }

    /// The task's general registers in the form of an image.
    pub fn regs(&self) -> rr_tracee::Result<Registers> {
        let regs = self.all_regs()?;
        Ok(if self.in_syscall {
            regs
        } else {
            regs.outside_call()
        })
    }

    /// Its extended state.
    pub fn xstate(&self) -> rr_tracee::Result<ExtendedState> {
        self.seen()?.xstate()
    }
}
