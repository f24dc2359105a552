//! `execve`: a new program in a new address space.
//!
//! At the exit stop of a successful `execve` the recorder takes the new address space over:
//!
//! 1. With a `syscall` instruction of the vDSO it maps rr's area, then unmaps the vDSO and hides it
//!    from the program (`AT_SYSINFO_EHDR` becomes `AT_IGNORE`), so that libraries ask for the time by
//!    system calls (I2).
//! 2. It maps the whole room of the stack at once. Then the stack never grows by itself, and its extent
//!    is the same in replay.
//! 3. It takes the mappings into the model and their files into the trace. The event gets the data that
//!    the kernel has put into private pages (arguments, environment, auxiliary vector, zeroed ends of
//!    data segments).

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

use rr_trace::event::{EventKind, ExecInfo, MemWrite, TaskOp};
use rr_tracee::memory::ReadMemory;
use rr_tracee::pagemap::{PageKind, Pagemap};
use rr_tracee::procfs::MapsLine;
use rr_tracee::remote::{self, Remote, RemoteCall};
use rr_tracee::task::{Resume, Stop, Waited};
use rr_tracee::{
    Addr, AddrRange, AddressSpace, Backing, FileId, ForkPolicy, Mapping, Memory, Registers, Running, SpaceId,
    SpaceOp, Stopped, Tid, limits, procfs, rr_area,
};

use crate::call::syscall::is_restart;
use crate::call::unsupported_abi::is_32_bit;
use crate::error::{Error, Result};
use crate::seccomp::Confined;
use crate::session::{RecordSession, Space};
use crate::signal::forced::Actions;
use crate::world::task::{Call, State, Task};

/// Maximum size mapped for a stack at once. Stacks without limit get this size.
const STACK_MOST: u64 = 256 << 20;
const AT_NULL: u64 = 0;
const AT_IGNORE: u64 = 1;
const AT_SYSINFO_EHDR: u64 = 33;

/// A new address space, taken over.
struct Taken {
    stopped: Stopped,
    after: Registers,
    memory: Memory,
    space: Space,
    ops: Vec<SpaceOp>,
    writes: Vec<MemWrite>,
    info: ExecInfo,
}

impl RecordSession {
    /// Runs the launched child to the first event.
    pub(crate) fn first_exec(&mut self, task: Running) -> Result<()> {
        let tid = task.tid();
        match self.try_first_exec(task) {
            Err(Error::Tracee(rr_tracee::Error::Died(_))) => {
                rr_tracee::task::kill(tid);
                Err(Error::Start {
                    program: self.program().to_owned(),
                    why: "it was killed, and ended before it began".into(),
                })
            }
            other => other,
        }
    }

    fn try_first_exec(&mut self, task: Running) -> Result<()> {
        let tid = task.tid();
        let died = |s: &Self, why: String| Error::Start {
            program: s.program().to_owned(),
            why,
        };
        let mut running = task;
        let mut executed = false;
        loop {
            let (stopped, stop) = match running.wait()? {
                Waited::Stopped(stopped, stop) => (stopped, stop),
                Waited::Gone(status) => {
                    return Err(died(
                        self,
                        format!("it ended before it began (wait status {status:#x})"),
                    ));
                }
            };
            match stop {
                Stop::Exec { .. } => executed = true,
                Stop::Syscall if executed => {
                    let taken = self.take_over(tid, tid, stopped).map_err(|e| match e {
                        Error::Unsupported { what, .. } => died(self, what.into()),
                        other => other,
                    })?;
                    return self.first_event(tid, taken);
                }
                Stop::Syscall => {
                    let result = stopped.regs()?.result();
                    rr_tracee::task::kill(tid);
                    // Killed children report their end, which tells nothing more.
                    let _ = stopped.resume(Resume::Cont, None)?.wait();
                    let errno = nix::errno::Errno::from_raw(-result as i32);
                    let hint = if errno == nix::errno::Errno::ENOEXEC {
                        " (a script needs a first line such as #!/bin/sh)"
                    } else {
                        ""
                    };
                    return Err(died(self, format!("{errno}{hint}")));
                }
                _ => {}
            }
            running = stopped.resume(Resume::Syscall, None)?;
        }
    }

    fn first_event(&mut self, tid: Tid, taken: Taken) -> Result<()> {
        let Taken {
            stopped,
            after,
            memory,
            space,
            ops,
            mut writes,
            info,
        } = taken;
        let xstate = stopped.xstate()?;
        let mut task = Task::new(stopped, tid, info.space, after);
        task.memory = memory;
        task.exe = info.path.clone();
        task.confined = Confined::inherited();
        task.actions = Actions::inherited(procfs::signal_dispositions(tid)?.ignored);
        self.spaces.insert(info.space, space);
        self.add_task(task);
        self.trap_random_at_start(tid, &ops, &mut writes)?;
        self.emit(
            tid,
            EventKind::Start {
                exec: info,
                after,
                xstate,
            },
            ops,
            writes,
        )
    }

    pub(crate) fn begin_exec(&mut self, tid: Tid, stopped: Stopped, call: Call) -> Result<()> {
        let Some(stopped) = self.refuse_32_bit(tid, stopped, &call.entry)? else {
            return Ok(());
        };
        let leaving = self.leaving(tid)?;
        self.task_mut(tid)?.leaving = Some(Box::new(leaving));
        let tgid = self.task(tid)?.tgid;
        let alone = !self.tasks.values().any(|t| t.tgid == tgid && t.tid != tid);
        self.task_mut(tid)?.call = Some(call);
        let running = stopped.resume(Resume::Syscall, None)?;
        if alone {
            return self.await_stop(tid, running);
        }
        // Its sibling threads must die first, and their ends must be handled. It may come back with the
        // leader's tid.
        self.enter_kernel(tid, running)
    }

    /// Handles the stop inside a successful `execve`.
    pub(crate) fn on_exec(&mut self, tid: Tid, stopped: Stopped, former: Tid) -> Result<()> {
        if former != tid {
            // A thread other than the leader takes over the leader's tid. The leader is gone.
            let (Some(thread), Some(leader)) = (self.tasks.remove(&former), self.tasks.get(&tid)) else {
                return Err(Error::Unexpected {
                    tid,
                    what: format!("exec by the unknown thread {former}"),
                });
            };
            if !leader.exited {
                self.record_exit(tid, 0, vec![], vec![])?;
            }
            self.rename_task(tid, former, thread);
        }
        let running = stopped.resume(Resume::Syscall, None)?;
        self.await_stop(tid, running)
    }

    pub(crate) fn finish_exec(
        &mut self,
        tid: Tid,
        stopped: Stopped,
        call: Call,
        raw: Registers,
    ) -> Result<()> {
        let entry = call.entry;
        let leaving = self.task_mut(tid)?.leaving.take();
        // The call failed.
        if raw.result() < 0 {
            let after = raw.outside_call();
            self.record_call(tid, &entry, after, None, None, vec![], vec![], None)?;
            let task = self.task_mut(tid)?;
            task.restarting = is_restart(raw.result()).then(|| Box::new(call));
            task.state = State::Ready(stopped);
            return Ok(());
        }
        let tgid = self.task(tid)?.tgid;
        let taken = match self.take_over(tid, tgid, stopped) {
            // Its old memory is gone, so the task cannot go back.
            Err(
                e @ (Error::Tracee(rr_tracee::Error::Kernel { .. } | rr_tracee::Error::UnexpectedStop { .. })
                | Error::Unsupported { .. }
                | Error::Unexpected { .. }),
            ) => return self.end_process(tid, &e),
            other => other?,
        };
        let Taken {
            stopped,
            after,
            memory,
            space,
            mut ops,
            mut writes,
            info,
        } = taken;
        // Replaces the task's old address space by the new one.
        let xstate = Some(stopped.xstate()?);
        self.release_scratch(tid);
        let task = self.task_mut(tid)?;
        let old_space = task.space;
        task.space = info.space;
        task.memory = memory;
        task.exe = info.path.clone();
        task.actions = task.actions.after_exec();
        task.clear_child_tid = Addr::NULL;
        task.rseq = None;
        task.dispatch = None;
        self.leave_space(old_space);
        self.release_vfork(tid)?;
        self.spaces.insert(info.space, space);
        if let Some(leaving) = leaving {
            writes.extend(self.left_behind(tid, &leaving)?);
        }
        if self.task(tid)?.tracee.is_some() || self.task(tid)?.is_counter_denied {
            let id = self.task(tid)?.space;
            self.space_mut(id).library.sites.stepped = true;
        }
        // Rewrites the known sites, and records the call.
        let stopped = self.rewrite_known(tid, stopped, &mut ops, &mut writes)?;
        let former = self.task(tid)?.recorded_as.unwrap_or(tid);
        self.tracee_executes(tid, former)?;
        self.record_call(
            tid,
            &entry,
            after,
            xstate,
            Some(TaskOp::Exec(info)),
            ops,
            writes,
            None,
        )?;
        let task = self.task_mut(tid)?;
        task.recorded_as = None;
        task.state = State::Ready(stopped);
        self.tracee_has_executed(tid)
    }

    /// Does steps 1 to 3 of the module's description.
    fn take_over(&mut self, tid: Tid, tgid: Tid, stopped: Stopped) -> Result<Taken> {
        let after = stopped.regs()?.outside_call();
        if is_32_bit(&after) {
            let what = "it executes a 32-bit program, which rr cannot record";
            return Err(Error::Unsupported { tid, what });
        }
        // Prepares the new address space.
        let memory = Memory::of(tid);
        hide_vdso(&memory, Addr(after.rsp))?;
        let (stopped, lines) = prepare(tid, tgid, stopped, &memory)?;
        self.last_space += 1;
        let id = SpaceId(self.last_space);
        let mut space = Space {
            brk: procfs::start_brk(tid)?,
            ..Space::default()
        };
        if let Some(at) = lines.iter().position(|l| l.name == "[stack]") {
            let room = lines[..at]
                .last()
                .filter(|l| l.range.end == lines[at].range.start);
            let start = room.map_or(lines[at].range.start, |room| room.range.start);
            space.stack = Some(AddrRange::new(start, lines[at].range.end));
        }
        // Describes its mappings, and stores their files.
        let mut ops: Vec<SpaceOp> = rr_area::mappings().into_iter().map(SpaceOp::Map).collect();
        let mut writes = Vec::new();
        let pagemap = Pagemap::open(tid)?;
        let mut stored = HashMap::new();
        for line in &lines {
            let backing = if line.inode == 0 {
                Backing::Anonymous
            } else {
                Backing::File {
                    file: self.mapped_file(tid, line, &memory, &mut stored)?,
                    offset: line.offset,
                }
            };
            ops.push(SpaceOp::Map(Mapping {
                range: line.range,
                prot: line.prot,
                backing,
                fork: ForkPolicy::Copy,
                name: line.path(tid).into(),
            }));
        }
        // Records the pages that have been written already.
        for range in neighbours(&lines) {
            for (range, kind) in pagemap.populated(range)? {
                if kind == PageKind::Private {
                    writes.push(MemWrite {
                        space: id,
                        addr: range.start,
                        data: memory.read_vec(range.start, range.len() as usize)?,
                    });
                }
            }
        }
        let mut model = AddressSpace::new();
        ops.iter().for_each(|op| model.apply(op));
        space.model = model;
        let path = procfs::exe(tid)?;
        self.warn_of_lost_privileges(tid, &path);
        space.loader = space.model.at(Addr(after.rip)).and_then(|m| match m.backing {
            Backing::File { file, .. } if *m.name != *path => Some(file),
            _ => None,
        });
        let info = ExecInfo {
            path,
            args: procfs::cmdline(tid)?,
            space: id,
            tid,
        };
        Ok(Taken {
            stopped,
            after,
            memory,
            space,
            ops,
            writes,
            info,
        })
    }

    /// The stored file of a mapping. Files that are already `stored`, by device and inode, are not
    /// opened again.
    fn mapped_file(
        &mut self,
        tid: Tid,
        line: &MapsLine,
        memory: &Memory,
        stored: &mut HashMap<((u32, u32), u64), FileId>,
    ) -> Result<FileId> {
        let key = (line.dev, line.inode);
        if let Some(file) = stored.get(&key) {
            return Ok(*file);
        }
        let Some(file) = open_mapped(tid, line) else {
            // The file cannot be reached. The mapping's bytes are its contents.
            let mut bytes = vec![0; (line.offset + line.range.len()) as usize];
            memory.read_some(line.range.start, &mut bytes[line.offset as usize..])?;
            return Ok(self.files.add_bytes(&bytes)?);
        };
        let id = self.files.add(&file)?;
        self.mapped.searched.search(id, &file);
        stored.insert(key, id);
        Ok(id)
    }
}

fn is_vdso(line: &MapsLine) -> bool {
    line.name == "[vdso]" || line.name.starts_with("[vvar")
}

/// The ranges of these mappings, with adjacent ones joined.
fn neighbours<'a>(maps: impl IntoIterator<Item = &'a MapsLine>) -> Vec<AddrRange> {
    let mut ranges: Vec<AddrRange> = Vec::new();
    for line in maps {
        match ranges.last_mut() {
            Some(last) if last.end == line.range.start => last.end = line.range.end,
            _ => ranges.push(line.range),
        }
    }
    ranges
}

/// Maps rr's area, unmaps the vDSO, and maps the room of the stack. Returns the program's mappings
/// afterwards, in order: nobody else has changed them.
fn prepare(tid: Tid, tgid: Tid, stopped: Stopped, memory: &Memory) -> Result<(Stopped, Vec<MapsLine>)> {
    let mut maps = procfs::maps(tid)?;
    maps.retain(|l| l.name != "[vsyscall]");
    let insn = match maps.iter().find(|l| l.name == "[vdso]") {
        Some(vdso) => {
            let code = memory.read_vec(vdso.range.start, vdso.range.len() as usize)?;
            code.windows(2)
                .position(|w| w == [0x0f, 0x05])
                .map(|n| vdso.range.start + n as u64)
        }
        None => None,
    };
    let insn = insn.ok_or_else(|| Error::Unexpected {
        tid,
        what: "its vDSO holds no syscall instruction".into(),
    })?;
    if let Some(taken) = maps.iter().find(|l| l.range.intersect(rr_area::area()).is_some()) {
        let what = format!(
            "the program occupies {}, where rr needs memory of its own",
            taken.range
        );
        return Err(Error::Unexpected { tid, what });
    }
    let [(code, rx), (rest, rw)] = rr_area::initial();
    let mut calls = vec![RemoteCall::map_anonymous(rest, rw, libc::MAP_NORESERVE)];
    // The vDSO and its data are usually adjacent.
    let hidden = neighbours(maps.iter().filter(|l| is_vdso(l)));
    calls.extend(hidden.into_iter().map(RemoteCall::unmap));
    maps.retain(|l| !is_vdso(l));
    if let Some(at) = maps.iter().position(|l| l.name == "[stack]") {
        let stack = &maps[at];
        let limit = stack_limit(tid);
        // The kernel counts the limit from the stack's top.
        let bottom = Addr(stack.range.end.0 - limit).page_ceil();
        if bottom < stack.range.start
            && !maps
                .iter()
                .any(|l| l.range.end > bottom && l.range.end < stack.range.end)
        {
            let room = AddrRange::new(bottom, stack.range.start);
            // The mapping reaches the stack's limit, so it need not grow. Under a limit of data it has
            // to be a stack for the kernel, because other mappings count as data. (It then grows by the
            // gap that the kernel keeps below.)
            let data = limits::soft(tid, libc::RLIMIT_DATA).unwrap_or(libc::RLIM_INFINITY);
            let kind = match data == libc::RLIM_INFINITY {
                true => 0,
                false => libc::MAP_GROWSDOWN,
            };
            calls.push(RemoteCall::map_anonymous(room, stack.prot, kind));
            let range = room;
            let name = String::new();
            let line = MapsLine {
                range,
                name,
                ..*stack
            };
            maps.insert(at, line);
        }
    }
    let mut remote = Remote::filtered_at(stopped, tgid, insn)?;
    remote = remote.map_anonymous(code, rx, libc::MAP_NORESERVE)?;
    // The rest costs one stop and one write: there is room for the list behind the code.
    let listed = rr_area::CODE + rr_preload::IMAGE.len() as u64;
    memory.write_protected(
        rr_area::CODE,
        &[rr_preload::IMAGE, &remote::list(&calls)].concat(),
    )?;
    remote.use_code();
    remote = remote.run(listed, &calls)?;
    Ok((remote.finish()?, maps))
}

/// Maximum size of the stack: its limit, but not so much that the stack uses up a limited address space
/// (`ulimit -v`).
pub(crate) fn stack_limit(tid: Tid) -> u64 {
    let stack = limits::soft(tid, libc::RLIMIT_STACK).map_or(8 << 20, |limit| limit.min(STACK_MOST));
    let all = limits::soft(tid, libc::RLIMIT_AS).unwrap_or(libc::RLIM_INFINITY);
    stack.min((all / 8).max(128 << 10))
}

/// Hides the vDSO: turns `AT_SYSINFO_EHDR` of the auxiliary vector into `AT_IGNORE`. The stack of a new
/// program (psABI x86-64, 3.4.1) holds: argc, argv…, 0, envp…, 0, auxv pairs.
fn hide_vdso(memory: &Memory, stack: Addr) -> Result<()> {
    let mut words = Words {
        memory,
        at: stack,
        page: Vec::new(),
    };
    let argc = words.next()?;
    words.at = stack + 8 * (argc + 2);
    words.page.clear();
    while words.next()? != 0 {}
    loop {
        let at = words.at;
        match words.next()? {
            AT_NULL => return Ok(()),
            AT_SYSINFO_EHDR => memory.write(at, &AT_IGNORE.to_le_bytes())?,
            _ => {}
        }
        words.next()?;
    }
}

/// Reads consecutive words, one page at a time.
struct Words<'a> {
    memory: &'a Memory,
    at: Addr,
    /// The words from `at` to the end of its page, in reverse order.
    page: Vec<u64>,
}

impl Words<'_> {
    fn next(&mut self) -> Result<u64> {
        if self.page.is_empty() {
            let end = self.at.page_floor() + rr_tracee::ids::PAGE;
            let bytes = self.memory.read_vec(self.at, (end - self.at) as usize)?;
            let word = |chunk: &[u8]| {
                chunk
                    .iter()
                    .rev()
                    .fold(0, |word, byte| word << 8 | u64::from(*byte))
            };
            self.page = bytes.chunks_exact(8).map(word).rev().collect();
        }
        self.at = self.at + 8;
        Ok(self.page.pop().unwrap_or_default())
    }
}

/// Opens the file of a mapping, and checks its inode number.
fn open_mapped(tid: Tid, line: &MapsLine) -> Option<File> {
    let range = format!("{:x}-{:x}", line.range.start.0, line.range.end.0);
    let candidates = [
        format!("/proc/{tid}/map_files/{range}"),
        format!("/proc/{tid}/root{}", line.name),
        format!("/proc/{tid}/exe"),
    ];
    candidates
        .iter()
        .filter_map(|path| File::open(path).ok())
        .find(|file| {
            file.metadata()
                .is_ok_and(|m| m.ino() == line.inode && m.is_file())
        })
}
