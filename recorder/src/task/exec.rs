//! `execve`: a new program in a new address space.
//!
//! At the exit stop of a successful `execve` the recorder takes the new address space over:
//!
//! 1. With a `syscall` instruction of the vDSO it maps rr's area, then unmaps the vDSO and hides it
//!    from the program (`AT_SYSINFO_EHDR` becomes `AT_IGNORE`), so that libraries ask for the time by
//!    system calls (I2).
//! 2. It maps the whole room of the stack at once. Then the stack never grows by itself, and its extent
//!    is the same in replay.
//!    `CPUID` traps from here on if it shall: exec has ended that.
//! 3. It takes the mappings into the model and their files into the trace. The event gets the data that
//!    the kernel has put into private pages (arguments, environment, auxiliary vector, zeroed ends of
//!    data segments).

use std::collections::HashMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;

use rr_trace::event::{ExecInfo, MemWrite, TaskOp};
use rr_tracee::cpuid::{self, ARCH_SET_CPUID};
use rr_tracee::memory::ReadMemory;
use rr_tracee::pagemap::{PageKind, Pagemap};
use rr_tracee::procfs::MapsLine;
use rr_tracee::remote::{self, Remote, RemoteCall};
use rr_tracee::site::syscall_in;
use rr_tracee::task::Resume;
use rr_tracee::{
    Addr, AddrRange, AddressSpace, Backing, FileId, ForkPolicy, Mapping, Memory, Registers, SpaceId, SpaceOp,
    Stopped, Tid, limits, procfs, rr_area,
};

use crate::buffer::rewrite::rewrite_known;
use crate::call::record::record_call;
use crate::call::redirect::release_scratch;
use crate::call::unsupported_abi::{is_32_bit, refuse_32_bit};
use crate::drive::members::tell_scheduler;
use crate::error::{Error, Result};
use crate::ptrace::family::{tracee_executes, tracee_has_executed};
use crate::ptrace::relation::rename_tracer;
use crate::session::RecordSession;
use crate::task::exit::{end_process, leave_space, record_exit, release_vfork};
use crate::task::leaving::{left_behind, words_of_leaving};
use crate::task::privileges::warn_of_lost_privileges;
use crate::world::call::Call;
use crate::world::model::World;
use crate::world::next::{Next, Record, Until};
use crate::world::space::Space;
use crate::world::task::Task;
use rr_tracee::regs::is_restart;

/// Maximum size mapped for a stack at once. Stacks without limit get this size.
const STACK_MOST: u64 = 256 << 20;
const AT_NULL: u64 = 0;
const AT_IGNORE: u64 = 1;
const AT_SYSINFO_EHDR: u64 = 33;
const AT_HWCAP2: u64 = 26;

/// A thread has taken over the tid of its group's leader (exec): `thread` was `former` and is now
/// `tid`. The events up to that of the exec still have the former tid.
pub(crate) fn rename_task(session: &mut RecordSession, tid: Tid, former: Tid, mut thread: Task) {
    thread.tid = tid;
    thread.memory = rr_tracee::Memory::of(tid);
    thread.life.recorded_as = Some(former);
    for pending in &mut session.log.entries {
        if pending.tid == former {
            pending.tid = tid;
        }
    }
    let is_ready = thread.is_runnable();
    session.world.tasks.insert(tid, thread);
    rename_tracer(&mut session.world, tid, former);
    // News of the leader must not count for the thread.
    tell_scheduler(session);
    session.drive.scheduler.rename(former, tid);
    session.drive.scheduler.set_ready(tid, is_ready);
}

/// A new address space, taken over.
pub(crate) struct NewSpace {
    pub(crate) stopped: Stopped,
    pub(crate) after: Registers,
    pub(crate) memory: Memory,
    pub(crate) space: Space,
    pub(crate) ops: Vec<SpaceOp>,
    pub(crate) writes: Vec<MemWrite>,
    pub(crate) info: ExecInfo,
}

pub(crate) fn begin_exec(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    call: Call,
) -> Result<Next> {
    let stopped = match refuse_32_bit(session, tid, stopped, &call.entry)? {
        ControlFlow::Continue(stopped) => stopped,
        ControlFlow::Break(next) => return Ok(next),
    };
    let leaving = words_of_leaving(&session.world, tid)?;
    session.world.task_mut(tid)?.at_call.leaving = Some(Box::new(leaving));
    let tgid = session.world.task(tid)?.tgid;
    let alone = !session
        .world
        .tasks
        .values()
        .any(|t| t.tgid == tgid && t.tid != tid);
    session.world.task_mut(tid)?.call = Some(call);
    let running = stopped.resume(Resume::Syscall, None)?;
    // Its sibling threads must die first, and their ends must be handled. It may come back with the
    // leader's tid.
    let until = if alone { Until::Stop } else { Until::OthersHaveRun };
    Ok(Next::Wait(running, until))
}

/// Handles the stop inside a successful `execve`.
pub(crate) fn on_exec(session: &mut RecordSession, tid: Tid, stopped: Stopped, former: Tid) -> Result<Next> {
    if former != tid {
        // A thread other than the leader takes over the leader's tid. The leader is gone.
        let (Some(thread), Some(leader)) =
            (session.world.tasks.remove(&former), session.world.tasks.get(&tid))
        else {
            return Err(Error::Unexpected {
                tid,
                what: format!("exec by the unknown thread {former}"),
            });
        };
        if !leader.life.exited {
            record_exit(session, tid, 0, vec![], vec![])?;
        }
        rename_task(session, tid, former, thread);
    }
    let running = stopped.resume(Resume::Syscall, None)?;
    Ok(Next::Wait(running, Until::Stop))
}

pub(crate) fn finish_exec(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    call: Call,
    raw: Registers,
) -> Result<Next> {
    let entry = call.entry;
    let leaving = session.world.task_mut(tid)?.at_call.leaving.take();
    // The call failed.
    if raw.result() < 0 {
        session.world.task_mut(tid)?.at_call.restarting = is_restart(raw.result()).then(|| Box::new(call));
        return Ok(Record::of(&entry, raw.outside_call()).then_ready(stopped));
    }
    let tgid = session.world.task(tid)?.tgid;
    let taken = match take_over(session, tid, tgid, stopped) {
        // Its old memory is gone, so the task cannot go back.
        Err(
            e @ (Error::Tracee(rr_tracee::Error::Kernel { .. } | rr_tracee::Error::UnexpectedStop { .. })
            | Error::Unsupported { .. }
            | Error::Unexpected { .. }),
        ) => return Ok(end_process(tid, &e)),
        other => other?,
    };
    let NewSpace {
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
    release_scratch(&mut session.world, tid);
    let task = session.world.task_mut(tid)?;
    let old_space = task.space;
    task.space = info.space;
    task.memory = memory;
    task.life.exe = info.path.clone();
    task.signals.actions = task.signals.actions.after_exec();
    task.settings.clear_child_tid = Addr::NULL;
    task.settings.rseq = None;
    task.settings.dispatch = None;
    task.settings.is_cpuid_denied = false;
    task.settings.read_implies_exec = false;
    leave_space(session, old_space);
    release_vfork(&mut session.world, tid)?;
    session.world.spaces.insert(info.space, space);
    if let Some(leaving) = leaving {
        writes.extend(left_behind(&mut session.world, tid, &leaving)?);
    }
    if session.world.task(tid)?.tracee.is_some() || session.world.task(tid)?.settings.is_counter_denied {
        let id = session.world.task(tid)?.space;
        session.world.space_mut(id).library.sites.stepped = true;
    }
    // Rewrites the known sites, and records the call.
    let stopped = rewrite_known(session, tid, stopped, &mut ops, &mut writes)?;
    let former = session.world.task(tid)?.life.recorded_as.unwrap_or(tid);
    tracee_executes(&mut session.world, tid, former)?;
    let record = Record {
        xstate,
        task: Some(TaskOp::Exec(info)),
        ops,
        writes,
        ..Record::of(&entry, after)
    };
    record_call(session, tid, record)?;
    session.world.task_mut(tid)?.life.recorded_as = None;
    tracee_has_executed(&mut session.world, tid)?;
    Ok(Next::Ready(stopped))
}

/// Does steps 1 to 3 of the module's description.
pub(crate) fn take_over(
    session: &mut RecordSession,
    tid: Tid,
    tgid: Tid,
    stopped: Stopped,
) -> Result<NewSpace> {
    let after = stopped.regs()?.outside_call();
    if is_32_bit(&after) {
        let what = "it executes a 32-bit program, which rr cannot record";
        return Err(Error::Unsupported { tid, what });
    }
    // Prepares the new address space.
    let memory = Memory::of(tid);
    change_auxv(
        &memory,
        Addr(after.rsp),
        session.policy.options.processor.portable.is_some(),
    )?;
    let (stopped, lines) = prepare(tid, tgid, stopped, &memory)?;
    session.world.last_space += 1;
    let id = SpaceId(session.world.last_space);
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
                file: mapped_file(&mut session.world, tid, line, &memory, &mut stored)?,
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
    warn_of_lost_privileges(session, tid, &path);
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
    Ok(NewSpace {
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
    world: &mut World,
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
        return Ok(world.files.add_bytes(&bytes)?);
    };
    let id = world.files.add(&file)?;
    world.mapped.searched.search(id, &file, &world.files);
    stored.insert(key, id);
    Ok(id)
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
            syscall_in(&code).map(|n| vdso.range.start + n)
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
    if cpuid::is_intercepted() {
        calls.push(RemoteCall {
            what: "remote arch_prctl",
            number: libc::SYS_arch_prctl,
            args: [ARCH_SET_CPUID as u64, 0, 0, 0, 0, 0],
        });
    }
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

/// Hides the vDSO: turns `AT_SYSINFO_EHDR` of the auxiliary vector into `AT_IGNORE`. So does a portable trace with
/// `AT_HWCAP2`, which names instructions that no level has (`<asm/hwcap2.h>`). The stack of a new
/// program (psABI x86-64, 3.4.1) holds: argc, argv…, 0, envp…, 0, auxv pairs.
fn change_auxv(memory: &Memory, stack: Addr, is_portable: bool) -> Result<()> {
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
            AT_HWCAP2 if is_portable => memory.write(at, &AT_IGNORE.to_le_bytes())?,
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
