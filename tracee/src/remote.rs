//! Remote system calls: performed by a stopped task on our behalf.
//!
//! The task is made to execute a `syscall` instruction with registers of our
//! choice and is then put back as it was. All its signals are blocked meanwhile
//! (`PTRACE_SETSIGMASK`), so that none can be delivered in the middle; `SIGSTOP`, which cannot be blocked, is
//! sent again afterwards, and a group stop (job control) goes on after them. The calls made this way never wait.
//!
//! A call costs two stops, at its entry and at its exit. In a task of ours alone, as replay has them, it costs one:
//! another `syscall` in rr's code page has an instruction behind it that traps. A program could see that trap: it may have its own mind about
//! `SIGTRAP`, which the kernel forces on it.

use crate::error::{Error, Result};
use crate::ids::{Addr, AddrRange, Tid};
use crate::memory::Memory;
use crate::regs::{NOT_IN_SYSCALL, Registers};
use crate::rr_area;
use crate::space::Prot;
use crate::task::{Resume, Running, Stop, Stopped, SyscallPhase, Waited, is_fault, send_signal};

/// A stopped task, lent for a series of remote system calls; [`Remote::finish`] gives it back unchanged.
#[derive(Debug)]
pub struct Remote {
    task: Stopped,
    tgid: Tid,
    saved: Registers,
    /// The mask that it will have again; `None` if it was left alone.
    mask: Option<u64>,
    insn: Addr,
    held: Vec<i32>,
    group_stop: bool,
    child: Option<Tid>,
    end: End,
}

/// How a call ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// With the stop at its exit.
    Exit,
    /// With the trap after it.
    Trap,
}

/// The length of `syscall` and `int3`.
const CALL_AND_TRAP: u64 = 3;

impl Remote {
    /// Borrows a task that no program but ours ever sees: it has no signal handlers, it is not filtered, and nobody waits for
    /// signals that it gets. It must have rr's code, with [`rr_area::TRAPPING_CALL`].
    pub fn ours(task: Stopped) -> Result<Remote> {
        Ok(Remote {
            saved: task.regs()?,
            tgid: task.tid(),
            task,
            mask: None,
            insn: rr_area::TRAPPING_CALL,
            held: Vec::new(),
            group_stop: false,
            child: None,
            end: End::Trap,
        })
    }

    /// Borrows `task` of thread group `tgid`, which must not be at the *entry* of a system call that is still
    /// wanted. The calls are made with the instruction of rr's own code page.
    pub fn new(task: Stopped, tgid: Tid) -> Result<Remote> {
        Remote::at(task, tgid, rr_area::SYSCALL_INSN)
    }

    /// As [`Remote::new`], with the `syscall` instruction at `insn`, for tasks that have no rr page yet.
    pub fn at(mut task: Stopped, tgid: Tid, insn: Addr) -> Result<Remote> {
        let saved = task.regs()?;
        let mask = task.sigmask()?;
        task.set_sigmask(!0)?;
        Ok(Remote {
            task,
            tgid,
            saved,
            mask: Some(mask),
            insn,
            held: Vec::new(),
            group_stop: false,
            child: None,
            end: End::Exit,
        })
    }

    /// The registers that the task will have again.
    pub fn saved(&self) -> &Registers {
        &self.saved
    }

    /// Changes the registers that the task will have afterwards.
    pub fn set_saved(&mut self, regs: Registers) {
        self.saved = regs;
    }

    /// Uses the `syscall` instruction at `insn` from now on.
    pub fn use_insn(&mut self, insn: Addr) {
        self.insn = insn;
    }

    /// Performs one call; the result is as the kernel gave it (negative: −errno).
    pub fn call(self, number: i64, args: [u64; 6]) -> Result<(Remote, i64)> {
        let Remote {
            mut task,
            tgid,
            saved,
            mask,
            insn,
            mut held,
            mut group_stop,
            mut child,
            end,
        } = self;
        let mut regs = saved;
        regs.rip = insn.0;
        regs.rax = number as u64;
        regs.orig_rax = NOT_IN_SYSCALL;
        for (n, arg) in args.into_iter().enumerate() {
            regs.set_arg(n, arg);
        }
        task.set_regs(&regs)?;
        let how = match end {
            End::Exit => Resume::Syscall,
            End::Trap => Resume::Cont,
        };
        let mut entered = false;
        let result = loop {
            let running = task.resume(how, None)?;
            let tid = running.tid();
            let stop;
            (task, stop) = match running.wait()? {
                // Killed: nobody else will let it leave this stop.
                Waited::Stopped(task, Stop::Exiting) => {
                    task.resume(Resume::Cont, None)?;
                    return Err(Error::Died(tid));
                }
                Waited::Gone(_) => return Err(Error::Died(tid)),
                Waited::Stopped(task, stop) => (task, stop),
            };
            match stop {
                Stop::Syscall => match task.syscall_phase()? {
                    SyscallPhase::Entry => entered = true,
                    SyscallPhase::Exit if entered => break task.regs()?.result(),
                    _ => {}
                },
                Stop::Seccomp => entered = true,
                Stop::NewTask { child: new } => child = Some(new),
                Stop::Signal(libc::SIGTRAP)
                    if end == End::Trap && {
                        regs = task.regs()?;
                        regs.rip == insn.0 + CALL_AND_TRAP
                    } =>
                {
                    break regs.result();
                }
                Stop::Signal(signal) if task.siginfo().is_ok_and(|info| is_fault(&info)) => {
                    let stop = format!("{} at {:#x}", signal, task.regs()?.rip);
                    return Err(Error::UnexpectedStop {
                        tid,
                        doing: "a remote system call",
                        stop,
                    });
                }
                Stop::Signal(signal) => held.push(signal),
                Stop::GroupStop(_) => group_stop = true,
                Stop::Event | Stop::Exec { .. } | Stop::Exiting => {}
            }
        };
        Ok((
            Remote {
                task,
                tgid,
                saved,
                mask,
                insn,
                held,
                group_stop,
                child,
                end,
            },
            result,
        ))
    }

    /// As [`Remote::call`], an error if the kernel refuses.
    pub fn must(self, what: &'static str, number: i64, args: [u64; 6]) -> Result<(Remote, u64)> {
        let tid = self.task.tid();
        let (remote, result) = self.call(number, args)?;
        if (-4095..0).contains(&result) {
            // The task is put back first: the caller may go on with it.
            remote.finish()?;
            return Err(Error::Kernel {
                tid,
                what,
                errno: nix::errno::Errno::from_raw(-result as i32),
            });
        }
        Ok((remote, result as u64))
    }

    /// The task that a `clone` among the calls created, once.
    pub fn take_child(&mut self) -> Option<Tid> {
        self.child.take()
    }

    /// Puts `bytes` (at most a page) into the parameter page and returns their address.
    pub fn param(&self, bytes: &[u8]) -> Result<Addr> {
        Memory::of(self.task.tid()).write(rr_area::PARAM, bytes)?;
        Ok(rr_area::PARAM)
    }

    /// Maps anonymous private memory at a fixed place, in place of whatever is there.
    pub fn map_anonymous(self, range: AddrRange, prot: Prot, extra_flags: i32) -> Result<Remote> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | extra_flags;
        let args = [
            range.start.0,
            range.len(),
            u64::from(prot.0),
            flags as u64,
            u64::MAX,
            0,
        ];
        Ok(self.must("remote mmap", libc::SYS_mmap, args)?.0)
    }

    /// Unmaps a range.
    pub fn unmap(self, range: AddrRange) -> Result<Remote> {
        Ok(self
            .must(
                "remote munmap",
                libc::SYS_munmap,
                [range.start.0, range.len(), 0, 0, 0, 0],
            )?
            .0)
    }

    /// Puts the task back as it was and returns it.
    pub fn finish(mut self) -> Result<Stopped> {
        self.task.set_regs(&self.saved)?;
        if let Some(mask) = self.mask {
            self.task.set_sigmask(mask)?;
        }
        for signal in self.held {
            send_signal(self.tgid, self.task.tid(), signal)?;
        }
        if self.group_stop {
            // It left the stop to make our calls. This lets it stop again, if its group is still stopped then,
            // before it executes anything.
            Running::newborn(self.task.tid()).interrupt()?;
        }
        Ok(self.task)
    }
}
