//! A diversion: a copy of a session in which a task leaves the recording. It is thrown away afterwards.
//!
//! The debugger calls functions of the program in it, and changes its memory and registers. Keeps I8:
//! nothing that happens here affects the replay, or anything outside of rr except the program's output.
//! Only the chosen task runs. Its system calls are not made: memory calls are carried out on the copy,
//! a few are answered from the recording, writes to standard output and error are passed on, and all
//! others fail with `ENOSYS`.

use std::collections::BTreeSet;

use rr_preload::layout::{self, Control};
use rr_tracee::code::decode;
use rr_tracee::components;
use rr_tracee::cpuid::{self, Level};
use rr_tracee::memory::ReadMemory;
use rr_tracee::register_read;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::remote::Remote;
use rr_tracee::task::{Resume, TRAP_INT3, si_code};
use rr_tracee::ticker::take_tick;
use rr_tracee::trapping::Trapping;
use rr_tracee::{Addr, AddrRange, ExtendedState, Memory, Registers, Stop, Tid, rr_area};

use crate::breakpoints::Halting;
use crate::drive::set_stops;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::overlay::CodeOverlay;
use crate::point::remove_probe;
use crate::probe::INT3;
use crate::session::ReplaySession;
use crate::task::Ran;

/// The reason why a diverted task has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Diverted {
    /// The task is about to execute an instruction with a breakpoint.
    Breakpoint(Addr),
    /// The task has executed one instruction.
    Stepped,
    /// A signal is about to be delivered.
    Signal(i32),
    /// The user has interrupted the task.
    Interrupted,
    /// The task is about to exit, or is gone.
    Exited(i32),
}

/// A session that has left the recording.
#[derive(Debug)]
pub struct Diversion {
    session: ReplaySession,
    breakpoints: BTreeSet<Addr>,
    /// Output of the program to standard output and error.
    output: Vec<u8>,
}

impl Diversion {
    /// Diverts a session.
    pub fn new(mut session: ReplaySession, tid: Tid) -> Result<Diversion> {
        if let Some(pending) = &session.interval.pending {
            let event = std::sync::Arc::clone(&pending.event);
            remove_probe(&mut session, &event)?;
        }
        let process = session.process_of(tid).unwrap_or(tid);
        set_stops(&mut session, process, Halting::new(), Vec::new())?;
        let task = session.world.tasks.get(&tid).ok_or(Error::Os {
            what: format!("there is no thread {tid}"),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let (memory, space) = (task.memory(), task.space);
        // The library has no records, so all calls come to us.
        let end = Addr(layout::CONTROL + std::mem::offset_of!(Control, used) as u64);
        let failed = |source| Error::Tracee {
            event: session.events.last,
            source,
        };
        memory.write(end, &[0; 16]).map_err(failed)?;
        if let Some(overlay) = session.code.overlays.get_mut(&space) {
            overlay
                .clear(&memory, rr_tracee::digest::ALL)
                .map_err(|source| Error::Tracee {
                    event: session.events.last,
                    source,
                })?;
        }
        Ok(Diversion {
            session,
            breakpoints: BTreeSet::new(),
            output: Vec::new(),
        })
    }

    /// The diverted session, for reading.
    pub fn session(&mut self) -> &mut ReplaySession {
        &mut self.session
    }

    /// The program's output since the last call.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    fn failed(&self, source: rr_tracee::Error) -> Error {
        Error::Tracee {
            event: self.session.events.last,
            source,
        }
    }

    /// Changes the registers of a task.
    pub fn set_registers(&mut self, tid: Tid, regs: &Registers, xstate: &ExtendedState) -> Result<()> {
        let Some(task) = self.session.world.tasks.get_mut(&tid) else {
            return Ok(());
        };
        // A task that was in a call has left it: it continues where it is told to.
        task.in_syscall = false;
        let set = task.stopped().and_then(|s| {
            s.set_regs(&regs.outside_call())?;
            s.set_xstate(xstate)
        });
        set.map_err(|source| self.failed(source))
    }

    /// Changes memory.
    pub fn write_memory(&mut self, tid: Tid, addr: Addr, bytes: &[u8]) -> Result<()> {
        let Some(memory) = self.session.world.tasks.get(&tid).map(|t| t.memory()) else {
            return Ok(());
        };
        memory.write(addr, bytes).map_err(|source| self.failed(source))
    }

    /// Sets the places where the task stops.
    pub fn set_breakpoints(&mut self, breakpoints: BTreeSet<Addr>) {
        self.breakpoints = breakpoints;
    }

    /// Runs one task.
    pub fn run(&mut self, tid: Tid, step: bool, interrupt: &mut dyn Interrupt) -> Result<Diverted> {
        let Some(task) = self.session.world.tasks.get(&tid) else {
            return Ok(Diverted::Exited(0));
        };
        let memory = task.memory();
        let mut overlay = CodeOverlay::default();
        let run = self.run_task(tid, step, &memory, &mut overlay, interrupt);
        let cleared = overlay.clear(&memory, rr_tracee::digest::ALL);
        run.and_then(|run| cleared.map(|()| run))
            .or_else(|source| match source {
                rr_tracee::Error::Died(_) => Ok(Diverted::Exited(libc::SIGKILL)),
                source => Err(self.failed(source)),
            })
    }

    fn run_task(
        &mut self,
        tid: Tid,
        step: bool,
        memory: &Memory,
        overlay: &mut CodeOverlay,
        interrupt: &mut dyn Interrupt,
    ) -> rr_tracee::Result<Diverted> {
        // Step over a breakpoint at the current place.
        let rip = self.regs(tid)?.rip;
        let over = self.breakpoints.contains(&Addr(rip));
        let mut how = if step || over {
            Resume::SysemuStep
        } else {
            Resume::Sysemu
        };
        // Runs the task from stop to stop.
        loop {
            if how == Resume::Sysemu {
                for addr in &self.breakpoints {
                    overlay.put(memory, *addr, &[INT3])?;
                }
            }
            let Some(task) = self.session.world.tasks.get_mut(&tid) else {
                return Err(rr_tracee::Error::Died(tid));
            };
            let (stop, asked) = match task.run(how, interrupt)? {
                Ran::Stopped { stop, asked } => (stop, asked),
                Ran::Gone(status) => return Ok(Diverted::Exited(status)),
            };
            let mut regs = self.regs(tid)?;
            match stop {
                Stop::Syscall => {
                    if let Some(ended) = self.system_call(tid, memory, regs)? {
                        return Ok(ended);
                    }
                    if step {
                        return Ok(Diverted::Stepped);
                    }
                }
                Stop::Event if asked => return Ok(Diverted::Interrupted),
                Stop::Signal(signal) => {
                    let info = self.stopped(tid)?.siginfo();
                    let code = info.map_or(0, |info| si_code(&info));
                    if code <= 0 {
                        continue;
                    }
                    if signal == libc::SIGTRAP && code != TRAP_INT3 {
                        // The task must not stop inside the library.
                        let inside = rr_area::code().contains(Addr(regs.rip));
                        if step && !inside {
                            return Ok(Diverted::Stepped);
                        }
                        how = if step { Resume::SysemuStep } else { Resume::Sysemu };
                        continue;
                    }
                    let at = Addr(regs.rip.wrapping_sub(1));
                    if signal == libc::SIGTRAP && overlay.has(at) {
                        regs.rip = at.0;
                        self.stopped(tid)?.set_regs(&regs)?;
                        return Ok(Diverted::Breakpoint(at));
                    }
                    if signal == libc::SIGSEGV && self.read_counter(tid, memory, regs)? {
                        if step {
                            return Ok(Diverted::Stepped);
                        }
                    } else {
                        return Ok(Diverted::Signal(signal));
                    }
                }
                _ => {}
            }
            if take_tick() && interrupt.is_requested() {
                return Ok(Diverted::Interrupted);
            }
            how = if step { Resume::SysemuStep } else { Resume::Sysemu };
        }
    }

    fn stopped(&mut self, tid: Tid) -> rr_tracee::Result<&mut rr_tracee::Stopped> {
        match self.session.world.tasks.get_mut(&tid) {
            Some(task) => task.stopped(),
            None => Err(rr_tracee::Error::Died(tid)),
        }
    }

    fn regs(&mut self, tid: Tid) -> rr_tracee::Result<Registers> {
        self.stopped(tid)?.regs()
    }

    /// `rdtsc`, `rdrand`, `rdseed` and `cpuid` trap in replayed tasks. The counter is the time of the last
    /// event.
    fn read_counter(&mut self, tid: Tid, memory: &Memory, mut regs: Registers) -> rr_tracee::Result<bool> {
        let mut code = [0; 15];
        let got = memory.read_some(Addr(regs.rip), &mut code)?;
        let trapping = match code.starts_with(&cpuid::BYTES) {
            true => Some(Trapping::Cpuid),
            false => Trapping::of(&code[..got]),
        };
        if let Some(trapping) = trapping {
            let after = match trapping {
                // Any value is right, because a diversion is thrown away.
                Trapping::RegisterRead(access) => access.carried_out(&regs, register_read::random()),
                Trapping::Cpuid => {
                    let table = &self.session.events.reader.header().cpuid;
                    cpuid::carried_out(&regs, table.answer(regs.rax as u32, regs.rcx as u32))
                }
                Trapping::Components => {
                    let level = self.session.events.reader.header().portable;
                    components::carried_out(&regs, level.map_or(0, Level::components))
                }
            };
            self.stopped(tid)?.set_regs(&after)?;
            return Ok(true);
        }
        let Some(instruction) = decode(&code[..got], Addr(regs.rip)) else {
            return Ok(false);
        };
        let counter = match instruction.mnemonic() {
            iced_x86::Mnemonic::Rdtsc => self.session.events.time_ns,
            iced_x86::Mnemonic::Rdtscp => {
                regs.rcx = 0;
                self.session.events.time_ns
            }
            _ => return Ok(false),
        };
        (regs.rax, regs.rdx) = (counter & 0xffff_ffff, counter >> 32);
        regs.rip = instruction.next_ip();
        self.stopped(tid)?.set_regs(&regs)?;
        Ok(true)
    }

    /// Answers the system call at whose entry the task stands.
    fn system_call(
        &mut self,
        tid: Tid,
        memory: &Memory,
        regs: Registers,
    ) -> rr_tracee::Result<Option<Diverted>> {
        const EFAULT: i64 = -(libc::EFAULT as i64);
        let process = self.session.process_of(tid).unwrap_or(tid);
        let [a, b, c] = [regs.arg(0), regs.arg(1), regs.arg(2)];
        let answer = |written: rr_tracee::Result<()>| written.map_or(EFAULT, |()| 0);
        let result = match regs.syscall() {
            libc::SYS_exit | libc::SYS_exit_group => {
                return Ok(Some(Diverted::Exited((a as i32 & 0xff) << 8)));
            }
            libc::SYS_getpid => process.0.into(),
            libc::SYS_gettid => tid.0.into(),
            libc::SYS_write if matches!(a, 1 | 2) => self.print(memory, Addr(b), c),
            libc::SYS_writev if matches!(a, 1 | 2) => self.print_vector(memory, Addr(b), c),
            libc::SYS_clock_gettime => {
                let nanoseconds = match a as i32 {
                    libc::CLOCK_REALTIME => {
                        self.session.events.reader.header().started_ns + self.session.events.time_ns as i64
                    }
                    _ => self.session.events.time_ns as i64,
                };
                let time = [nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000];
                answer(memory.write(Addr(b), &time.map(i64::to_le_bytes).concat()))
            }
            libc::SYS_rt_sigprocmask => match c {
                0 => 0,
                old => answer(memory.write(Addr(old), &[0; 8])),
            },
            libc::SYS_sched_yield | libc::SYS_set_robust_list | libc::SYS_madvise => 0,
            // A waiter would wait for ever.
            libc::SYS_futex if a != 0 && matches!(b & 0x7f, 0 | 9) => -i64::from(libc::EAGAIN),
            libc::SYS_futex => 0,
            // The program's break is an ordinary mapping here and cannot be moved. malloc(3) then maps
            // memory instead.
            libc::SYS_brk => {
                let heap = self.session.space_of(tid).and_then(|space| {
                    let heaps = space.iter().filter(|m| &*m.name == "[heap]");
                    heaps.map(|m| m.range.end).max()
                });
                heap.map_or(0, |end| end.0 as i64)
            }
            libc::SYS_mmap if regs.arg(3) & libc::MAP_ANONYMOUS as u64 != 0 => {
                return self.for_real(tid, regs);
            }
            libc::SYS_munmap | libc::SYS_mprotect | libc::SYS_mremap => return self.for_real(tid, regs),
            libc::SYS_ioctl => -i64::from(libc::ENOTTY),
            number => {
                tracing::info!(
                    "a called function makes the system call {}: refused",
                    rr_tracee::syscalls::name(number)
                );
                -i64::from(libc::ENOSYS)
            }
        };
        self.finish(tid, regs, result)
    }

    fn finish(&mut self, tid: Tid, regs: Registers, result: i64) -> rr_tracee::Result<Option<Diverted>> {
        self.stopped(tid)?.set_regs(&Registers {
            rax: result as u64,
            orig_rax: NOT_IN_SYSCALL,
            ..regs
        })?;
        Ok(None)
    }

    /// Makes a call that affects only the copy's memory.
    fn for_real(&mut self, tid: Tid, regs: Registers) -> rr_tracee::Result<Option<Diverted>> {
        let args = std::array::from_fn(|n| regs.arg(n));
        let own = AddrRange::sized(Addr(args[0]), args[1]).intersect(rr_area::area());
        if own.is_some() && args[0] != 0 {
            return self.finish(tid, regs, -i64::from(libc::EINVAL));
        }
        let Some(task) = self.session.world.tasks.get_mut(&tid) else {
            return Err(rr_tracee::Error::Died(tid));
        };
        let (remote, result) = Remote::ours(task.take()?)?.call(regs.syscall(), args)?;
        task.give(remote.finish()?);
        self.finish(tid, regs, result)
    }

    fn print(&mut self, memory: &Memory, addr: Addr, len: u64) -> i64 {
        const MOST: u64 = 1 << 20;
        let len = len.min(MOST);
        match memory.read_vec(addr, len as usize) {
            Ok(bytes) => {
                self.output.extend(bytes);
                len as i64
            }
            Err(_) => -i64::from(libc::EFAULT),
        }
    }

    fn print_vector(&mut self, memory: &Memory, addr: Addr, count: u64) -> i64 {
        let mut sum = 0;
        for n in 0..count.min(1024) {
            let at = addr + 16 * n;
            let (Ok(base), Ok(len)) = (memory.read_u64(at), memory.read_u64(at + 8)) else {
                return -i64::from(libc::EFAULT);
            };
            match self.print(memory, Addr(base), len) {
                printed if printed < 0 => return printed,
                printed => sum += printed,
            }
        }
        sum
    }
}
