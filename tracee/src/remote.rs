//! Remote system calls: performed by a stopped task on our behalf.
//!
//! The task is made to execute a `syscall` instruction with registers of our
//! choice and is then put back as it was. All its signals are blocked meanwhile
//! (`PTRACE_SETSIGMASK`), so that none can be delivered in the middle; `SIGSTOP`, which cannot be blocked, is
//! sent again afterwards, and a group stop (job control) goes on after them. The calls made this way never wait.
//!
//! A call of rr's own `syscall` instruction is not traced. Behind it stands, in rr's code page, a second one that is, and
//! whose call is never made: so a call costs the one stop there, and several in a list together cost no more:
//!
//! ```text
//!   REMOTE       pop rax … r9       ◄─┐    the list, on the stack: number, arguments, address of `next`
//!                jmp ──► syscall; ret  │
//!   next         rbx −= 1; more, and no error? ─┘
//!                rbp = rax
//!                syscall            ──► the filter stops the task: REMOTE_STOP
//! ```
//!
//! | `End` | where | stops |
//! |---|---|---|
//! | `Stop` | as drawn | one |
//! | `Exit` | a task that has no rr page yet, or that is to restart a call when it goes on (then its registers must not be changed at the entry of another) | two |
//! | `Trap` | a task of ours alone, as replay has them: `syscall; int3`; after a list, the trap behind the call that ends it (and is made, without a filter). A program could see that trap: it may have its own mind about `SIGTRAP`, which the kernel forces on it | one |

use std::ffi::CStr;
use std::fs::File;

use rr_preload::layout;

use crate::error::{Error, Result};
use crate::ids::{Addr, AddrRange, Tid, TraceeFd};
use crate::memory::Memory;
use crate::procfs;
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

/// How calls end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// With the stop at the exit. Is there one for the filter at the entry, too?
    Exit { filtered: bool },
    /// With the trap after it.
    Trap,
    /// With the stop at the entry of the call after it, which the filter does not let pass.
    Stop,
}

/// The length of `syscall` and `int3`.
const CALL_AND_TRAP: u64 = 3;
/// Where a task stands that was not stopped at [`layout::REMOTE_STOP`].
const REMOTE_TRAPPED: u64 = layout::REMOTE_STOP + 1;

/// Flags of the program's that have no place in a call of ours (Intel SDM vol. 1, 3.4.3): it may be stepping itself (TF, RF), copying
/// downwards (DF) or checking alignment (AC).
const PROGRAMS_FLAGS: u64 = 1 << 8 | 1 << 10 | 1 << 16 | 1 << 18;

/// A call of a list.
#[derive(Clone, Copy, Debug)]
pub struct RemoteCall {
    /// What it is for, if it fails.
    pub what: &'static str,
    /// Its number.
    pub number: i64,
    /// Its arguments.
    pub args: [u64; 6],
}

impl RemoteCall {
    /// Maps anonymous private memory at a fixed place, in place of whatever is there.
    pub fn map_anonymous(range: AddrRange, prot: Prot, extra_flags: i32) -> RemoteCall {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | extra_flags;
        let prot = u64::from(prot.0);
        RemoteCall {
            what: "remote mmap",
            number: libc::SYS_mmap,
            args: [range.start.0, range.len(), prot, flags as u64, u64::MAX, 0],
        }
    }

    /// Unmaps a range.
    pub fn unmap(range: AddrRange) -> RemoteCall {
        RemoteCall {
            what: "remote munmap",
            number: libc::SYS_munmap,
            args: [range.start.0, range.len(), 0, 0, 0, 0],
        }
    }

    /// As it stands in a list: what [`layout::REMOTE`] takes from the stack.
    fn listed(&self) -> [u64; 8] {
        let [a, b, c, d, e, f] = self.args;
        [self.number as u64, a, b, c, d, e, f, layout::REMOTE_NEXT]
    }
}

/// A list of calls, for [`Remote::run`].
pub fn list(calls: &[RemoteCall]) -> Vec<u8> {
    calls
        .iter()
        .flat_map(RemoteCall::listed)
        .flat_map(u64::to_le_bytes)
        .collect()
}

/// Whether the kernel is going to make a call of the task again when it goes on (`ERESTART*`, include/linux/errno.h).
fn restarts(regs: &Registers) -> bool {
    regs.orig_rax != NOT_IN_SYSCALL && matches!(regs.result(), -512 | -513 | -514 | -516)
}

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
        let mut remote = Remote::at(task, tgid, rr_area::SYSCALL_INSN)?;
        if !restarts(&remote.saved) {
            remote.end = End::Stop;
        }
        Ok(remote)
    }

    /// As [`Remote::new`], with the `syscall` instruction at `insn`, for tasks that have no rr page yet and no filter.
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
            end: End::Exit { filtered: false },
        })
    }

    /// The same, for tasks whose filter stops them at that instruction.
    pub fn filtered_at(task: Stopped, tgid: Tid, insn: Addr) -> Result<Remote> {
        let mut remote = Remote::at(task, tgid, insn)?;
        remote.end = End::Exit { filtered: true };
        Ok(remote)
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

    /// Uses rr's code page from now on, in a task that has a filter.
    pub fn use_code(&mut self) {
        self.insn = rr_area::SYSCALL_INSN;
        self.end = End::Stop;
    }

    /// Performs one call; the result is as the kernel gave it (negative: −errno).
    pub fn call(self, number: i64, args: [u64; 6]) -> Result<(Remote, i64)> {
        let mut regs = self.saved;
        regs.rip = self.insn.0;
        regs.rax = number as u64;
        for (n, arg) in args.into_iter().enumerate() {
            regs.set_arg(n, arg);
        }
        if self.end == End::Stop {
            regs.rbx = 1;
            regs.rsp = layout::REMOTE_RETURN;
        }
        let (remote, result, _) = self.execute(regs)?;
        Ok((remote, result))
    }

    /// Performs these calls, one after the other; an error at the first that the kernel refuses.
    pub fn all(mut self, calls: &[RemoteCall]) -> Result<Remote> {
        let few = calls.len() < 2 && self.end == End::Trap;
        if !few && !matches!(self.end, End::Exit { .. }) {
            for calls in calls.chunks(rr_area::CALLS_MOST) {
                Memory::of(self.task.tid()).write(rr_area::CALLS, &list(calls))?;
                self = self.run(rr_area::CALLS, calls)?;
            }
        } else {
            for call in calls {
                self = self.must(call.what, call.number, call.args)?.0;
            }
        }
        Ok(self)
    }

    /// The same, for calls that have been put at `at` as a [`list`]: for a task with rr's code page, and either a filter or none but ours.
    pub fn run(self, at: Addr, calls: &[RemoteCall]) -> Result<Remote> {
        if calls.is_empty() {
            return Ok(self);
        }
        let mut regs = self.saved;
        regs.rip = layout::REMOTE;
        regs.rsp = at.0;
        regs.rbx = calls.len() as u64;
        let (remote, result, left) = self.execute(regs)?;
        // The last that was made, and all before it were well.
        let last = calls
            .len()
            .checked_sub(1 + left as usize)
            .and_then(|n| calls.get(n));
        match last {
            Some(call) => Ok(remote.checked(call.what, result)?.0),
            None => Err(Error::UnexpectedStop {
                tid: remote.task.tid(),
                doing: "a list of remote system calls",
                stop: format!("{left} calls left of {}", calls.len()),
            }),
        }
    }

    /// Lets the task execute with these registers to the end of its call, or calls: the result of the last, and how many were not
    /// made.
    fn execute(self, mut regs: Registers) -> Result<(Remote, i64, u32)> {
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
        regs.orig_rax = NOT_IN_SYSCALL;
        regs.eflags &= !PROGRAMS_FLAGS;
        task.set_regs(&regs)?;
        let mut entered = false;
        let (result, left) = loop {
            let how = match end {
                End::Exit { filtered } if entered || !filtered => Resume::Syscall,
                _ => Resume::Cont,
            };
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
                    SyscallPhase::Exit if entered => break (task.regs()?.result(), 0),
                    _ => {}
                },
                // A filter that rr itself runs under may refuse even `getpid` (with an error, and before ours is asked): then there is
                // the trap behind it.
                Stop::Seccomp | Stop::Signal(libc::SIGTRAP)
                    if end == End::Stop && {
                        regs = task.regs()?;
                        matches!(regs.rip, layout::REMOTE_STOP | REMOTE_TRAPPED)
                    } =>
                {
                    break (regs.rbp as i64, regs.rbx as u32);
                }
                Stop::Seccomp => entered = true,
                Stop::NewTask { child: new } => child = Some(new),
                Stop::Signal(libc::SIGTRAP)
                    if end == End::Trap && {
                        regs = task.regs()?;
                        regs.rip == insn.0 + CALL_AND_TRAP || regs.rip == REMOTE_TRAPPED
                    } =>
                {
                    if regs.rip == REMOTE_TRAPPED {
                        break (regs.rbp as i64, regs.rbx as u32);
                    }
                    break (regs.result(), 0);
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
        let remote = Remote {
            task,
            tgid,
            saved,
            mask,
            insn,
            held,
            group_stop,
            child,
            end,
        };
        Ok((remote, result, left))
    }

    /// As [`Remote::call`], an error if the kernel refuses.
    pub fn must(self, what: &'static str, number: i64, args: [u64; 6]) -> Result<(Remote, u64)> {
        let (remote, result) = self.call(number, args)?;
        remote.checked(what, result)
    }

    fn checked(self, what: &'static str, result: i64) -> Result<(Remote, u64)> {
        let tid = self.task.tid();
        if (-4095..0).contains(&result) {
            // The task is put back first: the caller may go on with it.
            self.finish()?;
            return Err(Error::Kernel {
                tid,
                what,
                errno: nix::errno::Errno::from_raw(-result as i32),
            });
        }
        Ok((self, result as u64))
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
        let call = RemoteCall::map_anonymous(range, prot, extra_flags);
        Ok(self.must(call.what, call.number, call.args)?.0)
    }

    /// Unmaps a range.
    pub fn unmap(self, range: AddrRange) -> Result<Remote> {
        let call = RemoteCall::unmap(range);
        Ok(self.must(call.what, call.number, call.args)?.0)
    }

    /// Lets the task make an empty file in memory (memfd_create(2)), closed by exec, and opens it for us, too. None, if the
    /// kernel refuses one or the other; its descriptor is the task's to be closed.
    pub fn memfd(self, label: &CStr) -> Result<(Remote, Option<(TraceeFd, File)>)> {
        let label = self.param(label.to_bytes_with_nul())?;
        let flags = u64::from(libc::MFD_CLOEXEC);
        let (remote, fd) = self.call(libc::SYS_memfd_create, [label.0, flags, 0, 0, 0, 0])?;
        if fd < 0 {
            return Ok((remote, None));
        }
        let fd = TraceeFd(fd as i32);
        let path = procfs::fd_path(remote.task.tid(), fd);
        match File::options().read(true).write(true).open(path) {
            Ok(file) => Ok((remote, Some((fd, file)))),
            Err(_) => Ok((remote.close(fd)?, None)),
        }
    }

    /// Closes a descriptor of the task's.
    pub fn close(self, fd: TraceeFd) -> Result<Remote> {
        Ok(self.call(libc::SYS_close, [fd.0 as u64, 0, 0, 0, 0, 0])?.0)
    }

    /// Puts the task back as it was and returns it.
    pub fn finish(mut self) -> Result<Stopped> {
        if self.end == End::Stop {
            // It stands at the entry of a call that nobody wants. (None is to be restarted: that is all that this word is good for.)
            self.saved.orig_rax = NOT_IN_SYSCALL;
        }
        self.task.set_regs(&self.saved)?;
        if let Some(mask) = self.mask {
            self.task.set_sigmask(mask)?;
        }
        for signal in self.held {
            // Natively, a continue that has come since removes the stop.
            if signal == libc::SIGSTOP && procfs::is_continued(self.task.tid())? {
                continue;
            }
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
