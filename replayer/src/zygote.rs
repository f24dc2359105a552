//! The zygote: a process that contains only rr's own pages. All replayed processes are clones of it.
//!
//! Every replayed task is a clone of the zygote or of another replayed task. The replayer is the parent
//! of all of them (`CLONE_PARENT`), so that it can reap them whichever task created them. All share one
//! descriptor table (`CLONE_FILES`), in which each file of the trace is opened once. They have no
//! signal handlers, and no kernel state of the recorded program.

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;
use rr_tracee::memory::ReadMemory;
use rr_tracee::remote::{Remote, RemoteCall};
use rr_tracee::site::syscall_in;
use rr_tracee::task::{Waited, kill, wait};
use rr_tracee::{Addr, AddrRange, Memory, Running, Stop, Stopped, Tid, cpuid, procfs, rr_area, vsyscall};

use crate::buffer;
use crate::error::{Error, Result};

/// ptrace options of replayed tasks: only the stops that replay needs.
const OPTIONS: i32 = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;

/// Flags of every clone. The new task is traced from the beginning (`CLONE_PTRACE`), without an extra
/// stop of its creator.
const CLONE_FLAGS: u64 =
    (libc::CLONE_PARENT | libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_PTRACE | libc::SIGCHLD) as u64;

const RSEQ_FLAG_UNREGISTER: u64 = 1;

fn os(what: &str) -> impl FnOnce(Errno) -> Error + '_ {
    move |errno| Error::Os {
        what: what.to_owned(),
        source: errno.into(),
    }
}

fn tracee(source: rr_tracee::Error) -> Error {
    Error::Tracee {
        event: Default::default(),
        source,
    }
}

/// Starts a zygote: a forked child of ours, emptied and bound to `cpu`. Its library gets these answers of `cpuid`.
pub(crate) fn start(cpu: Option<usize>, answers: &cpuid::Table) -> Result<Stopped> {
    // SAFETY: an all-zero cpu_set_t is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if let Some(cpu) = cpu.filter(|cpu| *cpu < 8 * size_of::<libc::cpu_set_t>()) {
        // SAFETY: `cpu` is below the number of bits of the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    let set = cpu.map(|_| set);
    let (ready_read, ready_write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(os("pipe"))?;
    let parent = nix::unistd::getpid();
    // SAFETY: the child calls only async-signal-safe functions.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(os("fork")(Errno::last())),
        0 => child(&ready_write, set.as_ref(), parent),
        pid => Tid(pid),
    };
    drop(ready_write);
    let mut byte = [0; 1];
    let ready = std::fs::File::from(ready_read).read_exact(&mut byte);
    let made = ready
        .map_err(|source| Error::Os {
            what: "starting a replayed process".into(),
            source,
        })
        .and_then(|()| empty(pid, answers).map_err(tracee));
    if made.is_err() {
        kill(pid);
        wait(Some(pid), false);
    }
    made
}

fn child(ready: &OwnedFd, cpus: Option<&libc::cpu_set_t>, parent: Pid) -> ! {
    // SAFETY: plain system calls on valid arguments, async-signal-safe.
    unsafe {
        // If we are killed before the child is traced with PTRACE_O_EXITKILL, only this signal ends it.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        if libc::getppid() != parent.as_raw() {
            libc::_exit(0);
        }
        // A session of its own detaches the child from the terminal: ^C is for rr, and not for the
        // replayed program.
        libc::setsid();
        if let Some(cpus) = cpus {
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), cpus);
        }
        libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_SIGSEGV, 0, 0, 0);
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
        vsyscall::trap();
        libc::write(ready.as_raw_fd(), b"r".as_ptr().cast(), 1);
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        loop {
            libc::pause();
        }
    }
}

/// Stops the child, gives it rr's pages, and unmaps everything else.
fn empty(pid: Tid, answers: &cpuid::Table) -> rr_tracee::Result<Stopped> {
    let running = Running::seize(pid)?;
    running.interrupt()?;
    let stopped = match running.wait()? {
        Waited::Stopped(stopped, Stop::Event) => stopped,
        Waited::Stopped(_, stop) => {
            return Err(rr_tracee::Error::UnexpectedStop {
                tid: pid,
                doing: "emptying",
                stop: format!("{stop:?}"),
            });
        }
        Waited::Gone(_) => return Err(rr_tracee::Error::Died(pid)),
    };
    stopped.set_options(OPTIONS)?;
    let rseq = stopped.rseq();
    let maps = procfs::maps(pid)?;
    let memory = Memory::of(pid);
    let vdso = maps
        .iter()
        .find(|l| l.name == "[vdso]")
        .map(|l| l.range)
        .unwrap_or(AddrRange::sized(Addr(0), 0));
    let code = memory.read_vec(vdso.start, vdso.len() as usize)?;
    let insn = syscall_in(&code).map(|n| vdso.start + n);
    let insn = insn.ok_or_else(|| rr_tracee::Error::Proc {
        path: format!("/proc/{pid}/maps"),
        why: "no syscall instruction in the vDSO".into(),
    })?;
    let mut remote = Remote::at(stopped, pid, insn)?;
    for (range, prot) in rr_area::initial() {
        remote = remote.map_anonymous(range, prot, libc::MAP_NORESERVE)?;
    }
    buffer::install(&memory, answers)?;
    memory.write(rr_area::TRAPPING_CALL, &rr_area::TRAPPING_BYTES)?;
    remote.use_insn(rr_area::SYSCALL_INSN);
    // The kernel may write into a registered rseq area at any time.
    if let Some((pointer, size, signature)) = rseq {
        let args = [pointer, size.into(), RSEQ_FLAG_UNREGISTER, signature.into(), 0, 0];
        remote = remote.must("rseq", libc::SYS_rseq, args)?.0;
    }
    // Unmaps everything below our pages, and everything above them. (The vsyscall page cannot be
    // unmapped, and is the same in every process.)
    let others = maps.iter().filter(|l| l.name != "[vsyscall]");
    let end = others.map(|l| l.range.end).max().unwrap_or(rr_area::area().end);
    let ranges = [(Addr::NULL, rr_area::CODE), (rr_area::area().end, end)];
    for (from, to) in ranges.into_iter().filter(|(from, to)| from < to) {
        remote = remote.unmap(AddrRange::new(from, to))?;
    }
    remote.finish()
}

/// Clones a stopped task; with `share`, into the same address space.
pub(crate) fn clone_of(from: Stopped, share: bool) -> rr_tracee::Result<(Stopped, Stopped)> {
    let (from, new) = try_clone(from, share)?;
    Ok((from, new?))
}

/// Clones a stopped task like [`clone_of`], and keeps the task even if the clone fails (for example,
/// because there are too many processes).
pub(crate) fn try_clone(
    from: Stopped,
    share: bool,
) -> rr_tracee::Result<(Stopped, rr_tracee::Result<Stopped>)> {
    let tid = from.tid();
    let flags = CLONE_FLAGS | if share { libc::CLONE_VM as u64 } else { 0 };
    let (remote, result) = Remote::ours(from)?.call(libc::SYS_clone, [flags, 0, 0, 0, 0, 0])?;
    let finished = remote.finish();
    if result <= 0 {
        let errno = Errno::from_raw(-result as i32);
        let what = "clone";
        return Ok((finished?, Err(rr_tracee::Error::Kernel { tid, what, errno })));
    }
    let child = Tid(result as i32);
    if finished.is_err() {
        end(child);
    }
    Ok((finished?, newborn(child)))
}

/// Waits for the first stop of a new task.
fn newborn(child: Tid) -> rr_tracee::Result<Stopped> {
    match Running::newborn(child).wait()? {
        Waited::Stopped(stopped, _) => Ok(stopped),
        Waited::Gone(_) => Err(rr_tracee::Error::Died(child)),
    }
}

/// Clones a stopped task `count` times into its own address space, without a stop of the task for each
/// clone.
pub(crate) fn clone_threads(from: Stopped, count: usize) -> rr_tracee::Result<(Stopped, Vec<Stopped>)> {
    /// Size of the tid that the kernel writes for each new task (`CLONE_PARENT_SETTID`).
    const TID_BYTES: u64 = size_of::<i32>() as u64;
    let flags = CLONE_FLAGS | (libc::CLONE_VM | libc::CLONE_PARENT_SETTID) as u64;
    let mut from = from;
    let mut threads = Vec::new();
    while threads.len() < count {
        let now = rr_area::CALLS_MOST.min(count - threads.len());
        let memory = Memory::of(from.tid());
        let call = |n| RemoteCall {
            what: "clone",
            number: libc::SYS_clone,
            args: [flags, 0, (rr_area::PARAM + n as u64 * TID_BYTES).0, 0, 0, 0],
        };
        let calls: Vec<RemoteCall> = (0..now).map(call).collect();
        let len = now * TID_BYTES as usize;
        memory.write(rr_area::PARAM, &vec![0; len])?;
        let made = Remote::ours(from)?.all(&calls).and_then(Remote::finish);
        let tids: Vec<Tid> = memory
            .read_vec(rr_area::PARAM, len)?
            .chunks_exact(TID_BYTES as usize)
            .map(|bytes| {
                Tid(bytes
                    .iter()
                    .rev()
                    .fold(0, |tid, byte| tid << 8 | i32::from(*byte)))
            })
            .filter(|tid| tid.0 > 0)
            .collect();
        let born: rr_tracee::Result<Vec<Stopped>> = tids.iter().map(|tid| newborn(*tid)).collect();
        match (made, born) {
            (Ok(stopped), Ok(born)) => {
                from = stopped;
                threads.extend(born);
            }
            (Err(error), _) | (_, Err(error)) => {
                let earlier = threads.iter().map(Stopped::tid);
                end_all(&tids.into_iter().chain(earlier).collect::<Vec<_>>());
                return Err(error);
            }
        }
    }
    Ok((from, threads))
}

/// Ends a replayed task and reaps it.
pub(crate) fn end(tid: Tid) {
    end_all(&[tid]);
}

/// Ends several replayed tasks at the same time, and reaps them.
pub(crate) fn end_all(tids: &[Tid]) {
    tids.iter().copied().for_each(kill);
    for tid in tids {
        while wait(Some(*tid), false).is_some_and(|report| !report.is_gone()) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rr_tracee::task::Resume;
    use rr_tracee::{Prot, Registers};

    const CODE: Addr = Addr(0x10_0000);

    fn run(stopped: Stopped, how: Resume) -> (Stopped, Stop) {
        match stopped.resume(how, None).unwrap().wait().unwrap() {
            Waited::Stopped(stopped, stop) => (stopped, stop),
            Waited::Gone(status) => panic!("gone: {status:#x}"),
        }
    }

    /// Returns a zygote and a clone of it that runs `syscall; nop; syscall; int3` and stands at the
    /// entry of the first call.
    fn at_an_entry() -> (Stopped, Stopped, Registers) {
        let zygote = start(None, &cpuid::Table::default()).unwrap();
        let (zygote, task) = clone_of(zygote, false).unwrap();
        let range = AddrRange::sized(CODE, 0x1000);
        let remote = Remote::ours(task).unwrap();
        let mut task = remote
            .map_anonymous(range, Prot(7), 0)
            .and_then(Remote::finish)
            .unwrap();
        let code = [0x0f, 0x05, 0x90, 0x0f, 0x05, 0xcc];
        Memory::of(task.tid()).write(CODE, &code).unwrap();
        let there = task.regs().unwrap();
        let regs = Registers {
            rip: CODE.0,
            // A call that would end the task if it were made.
            rax: libc::SYS_exit_group as u64,
            orig_rax: u64::MAX,
            eflags: 0x202,
            cs: there.cs,
            ss: there.ss,
            ..Registers::default()
        };
        task.set_regs(&regs).unwrap();
        let (task, stop) = run(task, Resume::Sysemu);
        assert_eq!(stop, Stop::Syscall);
        let entry = task.regs().unwrap();
        assert_eq!(entry.orig_rax, libc::SYS_exit_group as u64);
        assert_eq!(entry.rip, CODE.0 + 2);
        (zygote, task, entry)
    }

    /// A process that is killed cannot end its children itself.
    #[test]
    fn a_child_that_is_not_traced_yet_ends_with_its_parent() {
        let (ready_read, ready_write) = nix::unistd::pipe().unwrap();
        let (told_read, told_write) = nix::unistd::pipe().unwrap();
        // SAFETY: both children call only async-signal-safe functions.
        let parent = unsafe {
            match libc::fork() {
                0 => {
                    let own = Pid::from_raw(libc::getpid());
                    let pid = match libc::fork() {
                        0 => child(&ready_write, None, own),
                        pid => pid,
                    };
                    let mut byte = 0u8;
                    libc::read(ready_read.as_raw_fd(), (&raw mut byte).cast(), 1);
                    libc::write(told_write.as_raw_fd(), (&raw const pid).cast(), size_of_val(&pid));
                    libc::_exit(0)
                }
                parent => Pid::from_raw(parent),
            }
        };
        nix::sys::wait::waitpid(parent, None).unwrap();
        let mut pid = [0; size_of::<i32>()];
        std::fs::File::from(told_read).read_exact(&mut pid).unwrap();
        let path = format!("/proc/{}/stat", i32::from_ne_bytes(pid));
        let is_there = || std::fs::read_to_string(&path).is_ok_and(|stat| !stat.contains(") Z "));
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_there() {
            assert!(std::time::Instant::now() < end, "{path} is left behind");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    #[test]
    fn a_task_at_the_entry_of_a_call_goes_on_as_before_when_it_was_cloned() {
        // A task that is not cloned, for comparison.
        let (zygote_1, task, entry) = at_an_entry();
        let (mut task, stop) = run(task, Resume::SysemuStep);
        let stepped = (stop, task.regs().unwrap());
        (task, _) = run(task, Resume::Sysemu);
        let next = task.regs().unwrap();
        end_all(&[zygote_1.tid(), task.tid()]);

        let (zygote_2, task, again) = at_an_entry();
        assert_eq!(again, entry);
        let (task, frozen) = clone_of(task, false).unwrap();
        let (task, threads) = clone_threads(task, 20).unwrap();
        assert_eq!(task.regs().unwrap(), entry);
        assert_eq!(threads.len(), 20);
        let (frozen, mut thawed) = clone_of(frozen, false).unwrap();
        thawed.set_regs(&entry).unwrap();
        for task in [task, thawed] {
            assert_eq!(task.regs().unwrap(), entry);
            let tid = task.tid();
            let (task, stop) = run(task, Resume::SysemuStep);
            assert_eq!((stop, task.regs().unwrap()), stepped);
            let (task, stop) = run(task, Resume::Sysemu);
            assert_eq!(stop, Stop::Syscall);
            assert_eq!(task.regs().unwrap(), next);
            end(tid);
        }
        end_all(&[zygote_2.tid(), frozen.tid()]);
        end_all(&threads.iter().map(Stopped::tid).collect::<Vec<_>>());
    }
}
