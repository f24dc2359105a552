//! Remote system calls: a stopped task performs them for rr.
//!
//! The task executes a `syscall` instruction with registers of our choice and then gets its own state
//! back. All its signals are blocked meanwhile (`PTRACE_SETSIGMASK`), so that none can be delivered in
//! the middle. `SIGSTOP` cannot be blocked: it is sent again afterwards. A group stop (job control)
//! continues after the calls. Remote calls never wait.
//!
//! A call by rr's own `syscall` instruction is not traced. Behind it, rr's code page has a second
//! `syscall`, which is traced and whose call is never made. So a call costs only the stop there, and a
//! list of several calls costs no more:
//!
//! ```text
//!   REMOTE       pop rax … r9       ◄─┐    the list, on the stack: number, arguments, address of `next`
//!                jmp ──► syscall; ret  │
//!   next         rbx −= 1; more, and no error? ─┘
//!                rbp = rax
//!                syscall            ──► the filter stops the task: REMOTE_STOP
//! ```
//!
//! | `End` | used | stops |
//! |---|---|---|
//! | `Stop` | as drawn | one |
//! | `Exit` | a task without an rr page, or one that will restart a call when it continues (then its registers must not be changed at the entry of another call) | two |
//! | `Trap` | only for tasks that no program owns, as in replay: `syscall; int3`; after a list, the trap behind the call that ends the list (and is made, as there is no filter). A program could notice that trap: it may handle `SIGTRAP` itself, which the kernel forces on it | one |

use std::ffi::CStr;
use std::fs::File;

use rr_preload::layout;

use crate::error::{Error, Result};
use crate::ids::{Addr, AddrRange, Tid, TraceeFd};
use crate::memory::Memory;
use crate::procfs;
use crate::regs::{NOT_IN_SYSCALL, Registers, is_restart};
use crate::rr_area;
use crate::space::Prot;
use crate::task::{Resume, Running, Stop, Stopped, SyscallPhase, Waited, is_fault, send_signal};

/// A stopped task, borrowed for a series of remote system calls. [`Remote::finish`] returns it
/// unchanged.
#[derive(Debug)]
pub struct Remote {
    task: Stopped,
    tgid: Tid,
    saved: Registers,
    /// The mask that the task gets back. `None` if the mask was not changed.
    mask: Option<u64>,
    insn: Addr,
    held: Vec<i32>,
    group_stop: bool,
    child: Option<Tid>,
    end: End,
}

/// The stop that ends a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The stop at the exit. `filtered`: the filter also stops the task at the entry.
    Exit { filtered: bool },
    /// The trap behind the call.
    Trap,
    /// The stop at the entry of the next call, which the filter does not let pass.
    Stop,
}

/// The length of `syscall` and `int3`.
const CALL_AND_TRAP: u64 = 3;
/// Address of a task that was not stopped at [`layout::REMOTE_STOP`].
const REMOTE_TRAPPED: u64 = layout::REMOTE_STOP + 1;

/// Flags of the program that must not be set in a remote call (Intel SDM vol. 1, 3.4.3): the program
/// may be stepping itself (TF, RF), copying downwards (DF) or checking alignment (AC).
const PROGRAMS_FLAGS: u64 = 1 << 8 | 1 << 10 | 1 << 16 | 1 << 18;

/// One call of a list.
#[derive(Clone, Copy, Debug)]
pub struct RemoteCall {
    /// Purpose of the call, for the error.
    pub what: &'static str,
    /// Its number.
    pub number: i64,
    /// Its arguments.
    pub args: [u64; 6],
}

impl RemoteCall {
    /// Maps anonymous private memory at a fixed place, replacing whatever is mapped there.
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

    /// The words of the call in a list, as [`layout::REMOTE`] pops them from the stack.
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

/// Returns whether the kernel will make the task's call again when the task continues (`ERESTART*`,
/// include/linux/errno.h).
fn restarts(regs: &Registers) -> bool {
    regs.orig_rax != NOT_IN_SYSCALL && is_restart(regs.result())
}

impl Remote {
    /// Borrows a task that runs no program: it has no signal handlers and no filter, and nobody waits
    /// for its signals. It must have rr's code, with [`rr_area::TRAPPING_CALL`].
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

    /// Borrows `task` of thread group `tgid`, which must not be at the *entry* of a system call that is
    /// still wanted. The calls use the `syscall` instruction of rr's own code page.
    pub fn new(task: Stopped, tgid: Tid) -> Result<Remote> {
        let mut remote = Remote::at(task, tgid, rr_area::SYSCALL_INSN)?;
        if !restarts(&remote.saved) {
            remote.end = End::Stop;
        }
        Ok(remote)
    }

    /// Same as [`Remote::new`], with the `syscall` instruction at `insn`, for tasks that have no rr
    /// page yet and no filter.
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

    /// Same as [`Remote::at`], for tasks whose filter stops them at that instruction.
    pub fn filtered_at(task: Stopped, tgid: Tid, insn: Addr) -> Result<Remote> {
        let mut remote = Remote::at(task, tgid, insn)?;
        remote.end = End::Exit { filtered: true };
        Ok(remote)
    }

    /// The registers that the task gets back.
    pub fn saved(&self) -> &Registers {
        &self.saved
    }

    /// Changes the registers that the task gets back.
    pub fn set_saved(&mut self, regs: Registers) {
        self.saved = regs;
    }

    /// Uses the `syscall` instruction at `insn` from now on.
    pub fn use_insn(&mut self, insn: Addr) {
        self.insn = insn;
    }

    /// From now on uses rr's code page, in a task that has a filter.
    pub fn use_code(&mut self) {
        self.insn = rr_area::SYSCALL_INSN;
        self.end = End::Stop;
    }

    /// Performs one call. The result is the kernel's (negative: −errno).
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

    /// Performs these calls in order. Fails at the first that the kernel refuses.
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

    /// Same as [`Remote::all`], for calls that have been put at `at` as a [`list`]. The task needs rr's
    /// code page, and either rr's filter or none but ours.
    pub fn run(self, at: Addr, calls: &[RemoteCall]) -> Result<Remote> {
        if calls.is_empty() {
            return Ok(self);
        }
        let mut regs = self.saved;
        regs.rip = layout::REMOTE;
        regs.rsp = at.0;
        regs.rbx = calls.len() as u64;
        let (remote, result, left) = self.execute(regs)?;
        // The last call that was made. All calls before it succeeded.
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

    /// Lets the task execute its call, or list, with these registers. Returns the result of the last
    /// call, and the number of calls that were not made.
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
        // Resumes the task until the call, or the list, has ended.
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
                // The task was killed. Nobody else lets it leave this stop.
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
                // A filter that rr itself runs under may refuse even `getpid` (with an error, and
                // before our filter is asked). Then the trap behind the call stops the task.
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

    /// Same as [`Remote::call`], but fails if the kernel refuses.
    pub fn must(self, what: &'static str, number: i64, args: [u64; 6]) -> Result<(Remote, u64)> {
        let (remote, result) = self.call(number, args)?;
        remote.checked(what, result)
    }

    fn checked(self, what: &'static str, result: i64) -> Result<(Remote, u64)> {
        let tid = self.task.tid();
        if (-4095..0).contains(&result) {
            // Restore the task first: the caller may continue with it.
            self.finish()?;
            return Err(Error::Kernel {
                tid,
                what,
                errno: nix::errno::Errno::from_raw(-result as i32),
            });
        }
        Ok((self, result as u64))
    }

    /// The task that a `clone` among the calls created. Returns it once.
    pub fn take_child(&mut self) -> Option<Tid> {
        self.child.take()
    }

    /// Puts `bytes` (at most a page) into the parameter page and returns their address.
    pub fn param(&self, bytes: &[u8]) -> Result<Addr> {
        Memory::of(self.task.tid()).write(rr_area::PARAM, bytes)?;
        Ok(rr_area::PARAM)
    }

    /// Maps anonymous private memory at a fixed place, replacing whatever is mapped there.
    pub fn map_anonymous(self, range: AddrRange, prot: Prot, extra_flags: i32) -> Result<Remote> {
        let call = RemoteCall::map_anonymous(range, prot, extra_flags);
        Ok(self.must(call.what, call.number, call.args)?.0)
    }

    /// Unmaps a range.
    pub fn unmap(self, range: AddrRange) -> Result<Remote> {
        let call = RemoteCall::unmap(range);
        Ok(self.must(call.what, call.number, call.args)?.0)
    }

    /// Lets the task make an empty file in memory (memfd_create(2)), which closes on exec, and opens it
    /// in rr, too. `None` if the kernel refuses either. The caller must close the task's descriptor.
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

    /// Closes a descriptor of the task.
    pub fn close(self, fd: TraceeFd) -> Result<Remote> {
        Ok(self.call(libc::SYS_close, [fd.0 as u64, 0, 0, 0, 0, 0])?.0)
    }

    /// Restores the task's state and returns it.
    pub fn finish(mut self) -> Result<Stopped> {
        if self.end == End::Stop {
            // The task stands at the entry of a call that nobody wants. (No call is to be restarted,
            // which is the only use of this word.)
            self.saved.orig_rax = NOT_IN_SYSCALL;
        }
        self.task.set_regs(&self.saved)?;
        if let Some(mask) = self.mask {
            self.task.set_sigmask(mask)?;
        }
        for signal in self.held {
            // Without rr, a SIGCONT that has arrived since would remove the stop.
            if signal == libc::SIGSTOP && procfs::is_continued(self.task.tid())? {
                continue;
            }
            send_signal(self.tgid, self.task.tid(), signal)?;
        }
        if self.group_stop {
            // The task left the group stop to make our calls. This makes it stop again before it
            // executes anything, if its group is still stopped then.
            Running::newborn(self.task.tid()).interrupt()?;
        }
        Ok(self.task)
    }
}
