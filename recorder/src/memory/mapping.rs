//! Calls that the table alone cannot describe: those that shape address spaces, and those that rr
//! answers. (Calls that shape tasks are in `tasks.rs` and `exec.rs`.)

use std::collections::HashSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rr_trace::event::EventKind;
use rr_tracee::ids::PAGE;
use rr_tracee::memory::ReadMemory;
use rr_tracee::remote::Remote;
use rr_tracee::syscalls::{Blocking, Special};
use rr_tracee::{
    Addr, AddrRange, Backing, ForkPolicy, Mapping, ObjectId, Prot, Registers, SpaceOp, Stopped, Tid,
    TraceeFd, procfs, rr_area,
};

use crate::call::syscall::returned;
use crate::error::Result;
use crate::memory::advice::pages;
use crate::session::RecordSession;
use crate::task::exec::stack_limit;
use crate::world::task::{Call, State};

/// Returns whether this `mmap` asks for shared anonymous memory (`/dev/zero` is another name of it).
fn is_shared_anonymous(entry: &Registers) -> bool {
    let flags = entry.r10 as i32;
    flags & libc::MAP_ANONYMOUS != 0 && flags & libc::MAP_TYPE != libc::MAP_PRIVATE && entry.rsi != 0
}

/// Returns whether this `mmap` asks for shared memory of `/dev/zero` that it may write.
fn is_shared_zero(tid: Tid, entry: &Registers) -> bool {
    /// Major and minor number of `/dev/zero`.
    const ZERO: (u32, u32) = (1, 5);
    let fd = TraceeFd(entry.r8 as i32);
    let is_zero = |meta: std::fs::Metadata| {
        let device = meta.rdev();
        meta.file_type().is_char_device() && (libc::major(device), libc::minor(device)) == ZERO
    };
    let flags = entry.r10 as i32;
    flags & libc::MAP_ANONYMOUS == 0
        && flags & libc::MAP_TYPE == libc::MAP_SHARED
        && entry.rsi != 0
        && procfs::fd_flags(tid, fd) as i32 & libc::O_ACCMODE == libc::O_RDWR
        && std::fs::metadata(procfs::fd_path(tid, fd)).is_ok_and(is_zero)
}

/// Returns whether the library could have made the call: one that shapes memory without a file.
fn is_for_the_library(special: Special, entry: &Registers) -> bool {
    match special {
        Special::Mmap => {
            let flags = entry.r10 as i32;
            flags & libc::MAP_ANONYMOUS != 0 && flags & libc::MAP_TYPE == libc::MAP_PRIVATE
        }
        Special::Mprotect | Special::Munmap | Special::Brk | Special::Madvise => true,
        _ => false,
    }
}

/// `PROT_GROWSDOWN` and `PROT_GROWSUP` (mprotect(2)).
const PROT_GROWS: u64 = (libc::PROT_GROWSDOWN | libc::PROT_GROWSUP) as u32 as u64;

/// Bytes that the kernel keeps between a mapping that grows and the next one below (`stack_guard_gap`).
const GUARD_GAP: u64 = 256 * PAGE;

fn is_error(result: i64) -> bool {
    (-4095..0).contains(&result)
}

/// Returns whether the processor has protection keys, and the kernel uses them (`OSPKE`).
fn has_keys() -> bool {
    const OSPKE: u32 = 1 << 4;
    std::arch::x86_64::__cpuid(0).eax >= 7 && std::arch::x86_64::__cpuid_count(7, 0).ecx & OSPKE != 0
}

impl RecordSession {
    /// Handles the entry of a special call.
    pub(crate) fn begin_special(
        &mut self,
        tid: Tid,
        mut stopped: Stopped,
        mut call: Call,
        special: Special,
    ) -> Result<()> {
        let entry = call.entry;
        let touches_rr = |start: u64, len: u64| {
            AddrRange::sized(Addr(start), len)
                .to_pages()
                .intersect(rr_area::area())
                .is_some()
        };
        self.note_unfinished(tid, special, &entry)?;
        match special {
            Special::Ptrace => self.begin_ptrace(tid, stopped, entry),
            Special::Clone => self.begin_clone(tid, stopped, call),
            Special::Exec => self.begin_exec(tid, stopped, call),
            Special::Exit => {
                // Others may see the effects of its last interval, so that interval ends with an event.
                if !self.task(tid)?.entered {
                    self.emit(tid, EventKind::SyscallEnter { entry }, vec![], vec![])?;
                }
                let running = stopped.resume(rr_tracee::task::Resume::Cont, None)?;
                self.await_stop(tid, running)
            }
            // The program may not change rr's own pages.
            Special::Munmap | Special::Mprotect | Special::Madvise | Special::Mseal
                if touches_rr(entry.rdi, entry.rsi) =>
            {
                self.refuse(tid, stopped, &entry, libc::EINVAL, true)
            }
            // Not all of our area is mapped, so the kernel could map memory there.
            Special::Mmap
                if entry.r10 & libc::MAP_FIXED_NOREPLACE as u64 != 0 && touches_rr(entry.rdi, entry.rsi) =>
            {
                self.refuse(tid, stopped, &entry, libc::EEXIST, true)
            }
            Special::Mmap
                if entry.r10 & libc::MAP_FIXED as u64 == 0
                    && entry.rdi != 0
                    && !is_shared_anonymous(&entry)
                    && touches_rr(entry.rdi, entry.rsi) =>
            {
                stopped.set_regs(&Registers { rdi: 0, ..entry })?;
                self.perform(tid, stopped, call)
            }
            Special::Mmap if entry.r10 & libc::MAP_FIXED as u64 != 0 && touches_rr(entry.rdi, entry.rsi) => {
                tracing::warn!(
                    "the program wants to map memory at {:#x}, where rr has its own",
                    entry.rdi
                );
                self.refuse(tid, stopped, &entry, libc::ENOMEM, true)
            }
            Special::Mmap if is_shared_anonymous(&entry) || is_shared_zero(tid, &entry) => {
                self.map_shared_anonymous(tid, stopped, &entry)
            }
            Special::Pkey if has_keys() => {
                const RIGHTS: u64 = 3;
                let is_valid = entry.rdi == 0 && entry.rsi & !RIGHTS == 0;
                let errno = match entry.syscall() {
                    libc::SYS_pkey_alloc if is_valid => libc::ENOSPC,
                    _ => libc::EINVAL,
                };
                self.refuse(tid, stopped, &entry, errno, true)
            }
            Special::ProcessMadvise => self.begin_process_madvise(tid, stopped, call),
            Special::MemfdSecret => self.begin_secret(tid, stopped, call),
            Special::Shmat if entry.rsi != 0 && touches_rr(entry.rsi, 1) => {
                self.refuse(tid, stopped, &entry, libc::EINVAL, true)
            }
            Special::Madvise => self.begin_madvise(tid, stopped, call),
            Special::Mprotect if entry.rdx & PROT_GROWS != 0 => {
                if let Some(made) = self.stack_protection(tid, &entry)? {
                    stopped.set_regs(&made)?;
                }
                self.perform(tid, stopped, call)
            }
            Special::SchedSetaffinity => {
                let errno = self.set_affinity(tid, &entry)?;
                self.answer(tid, stopped, &entry, -i64::from(errno), vec![])
            }
            Special::Prctl => self.begin_prctl(tid, stopped, call),
            Special::Rseq => self.begin_rseq(tid, stopped, &entry),
            Special::Seccomp => self.begin_seccomp(tid, stopped, call),
            Special::Mremap
                if touches_rr(entry.rdi, entry.rsi)
                    || (entry.r10 & libc::MREMAP_FIXED as u64 != 0 && touches_rr(entry.r8, entry.rdx)) =>
            {
                self.refuse(tid, stopped, &entry, libc::EINVAL, true)
            }
            _ => {
                call.described_by = entry;
                self.perform(tid, stopped, call)
            }
        }
    }

    /// Lets the kernel make a special call.
    pub(crate) fn perform(&mut self, tid: Tid, stopped: Stopped, mut call: Call) -> Result<()> {
        if let Some(spec) = call.spec {
            call.parts = spec.parts(&call.entry, &self.task(tid)?.memory)?;
            debug_assert!(spec.blocking == Blocking::Never || spec.blocking == Blocking::Maybe);
        }
        self.enter(tid, stopped, call, false)
    }

    /// Handles the exit of a special call.
    pub(crate) fn finish_special(
        &mut self,
        tid: Tid,
        mut stopped: Stopped,
        call: Call,
        special: Special,
        mut raw: Registers,
    ) -> Result<()> {
        let (entry, result) = (call.entry, raw.result());
        // Restores argument registers that had other values during the call.
        if special == Special::Mmap && raw.rdi != entry.rdi {
            // The address hint was not passed on. Restore it.
            raw.rdi = entry.rdi;
            stopped.set_regs(&raw)?;
        }
        if special == Special::ProcessMadvise && raw.r10 != entry.r10 {
            // The same.
            raw.r10 = entry.r10;
            stopped.set_regs(&raw)?;
        }
        if special == Special::Madvise && raw.rdx != entry.rdx {
            // The call was made with another advice. Restore the program's.
            raw.rdx = entry.rdx;
            stopped.set_regs(&raw)?;
        }
        let mut made = entry;
        if special == Special::Mprotect {
            made = Registers {
                rdi: raw.rdi,
                rsi: raw.rsi,
                rdx: raw.rdx,
                ..entry
            };
            if made != entry {
                (raw.rdi, raw.rsi, raw.rdx) = (entry.rdi, entry.rsi, entry.rdx);
                stopped.set_regs(&raw)?;
            }
        }
        // Calls with effects of their own.
        match special {
            Special::Clone => return self.finish_clone(tid, stopped, call, raw),
            Special::Exec => return self.finish_exec(tid, stopped, call, raw),
            Special::RtSigreturn => {
                self.task_mut(tid)?.blocked = None;
                let after = raw.outside_call();
                let xstate = Some(stopped.xstate()?);
                self.record_call(tid, &entry, after, xstate, None, vec![], vec![], None)?;
                self.task_mut(tid)?.state = State::Ready(stopped);
                return Ok(());
            }
            Special::MemfdSecret => {
                (raw.rdi, raw.rsi) = (entry.rdi, entry.rsi);
                stopped.set_regs(&Registers {
                    orig_rax: entry.orig_rax,
                    ..raw
                })?;
            }
            Special::SetTidAddress => self.task_mut(tid)?.clear_child_tid = Addr(entry.rdi),
            Special::Prctl => self.finish_prctl(tid, &call, result)?,
            _ => {}
        }
        // Collects the effects of the call.
        let mut writes = self.gather(tid, &call, result)?;
        if special == Special::SchedGetaffinity && result > 0 {
            let (told, write) = self.affinity_answer(tid, &entry, result)?;
            raw.rax = told as u64;
            stopped.set_regs(&raw)?;
            writes = write.into_iter().collect();
        }
        let mut ops = self.space_ops(tid, special, &made, result)?;
        if special == Special::Mmap && !is_error(result) && entry.r10 & libc::MAP_GROWSDOWN as u64 != 0 {
            stopped = self.map_room_below(tid, stopped, &mut ops)?;
        }
        if special == Special::Madvise {
            let (changed, shown) = self.advice_taken(tid, pages(&entry), entry.rdx as i32, result)?;
            ops.extend(changed);
            writes.extend(shown);
        }
        if special == Special::ProcessMadvise {
            let (changed, shown) = self.advices_taken(tid, &entry, result)?;
            ops.extend(changed);
            writes.extend(shown);
        }
        self.finished(tid)?;
        let id = self.task(tid)?.space;
        let (more, shown) = self.refresh_objects(id, &ops)?;
        ops.extend(more);
        writes.extend(shown);
        self.apply_ops(tid, id, &ops, &mut writes)?;
        // Rewrites the call's site, or those of a library that was loaded.
        if is_for_the_library(special, &entry) {
            stopped = self.consider_site(tid, stopped, &entry, &mut ops, &mut writes)?;
        }
        if special == Special::Mmap && self.is_loader(tid, &entry)? {
            stopped = self.rewrite_known(tid, stopped, &mut ops, &mut writes)?;
        }
        let after = raw.outside_call();
        self.record_call(tid, &entry, after, None, None, ops, writes, None)?;
        self.task_mut(tid)?.state = State::Ready(stopped);
        Ok(())
    }

    /// A mapping was made that grows downwards when the program touches what lies below (`MAP_GROWSDOWN`, mmap(2)). Nobody tells
    /// the recorder when the kernel lets a mapping grow. So the mapping gets all its room at once, and the kernel has no more to
    /// give: down to the limit of stacks, or to the gap that the kernel keeps above the next mapping.
    fn map_room_below(&mut self, tid: Tid, stopped: Stopped, ops: &mut Vec<SpaceOp>) -> Result<Stopped> {
        let Some(SpaceOp::Map(grows)) = ops.last().cloned() else {
            return Ok(stopped);
        };
        let (tgid, id) = (self.task(tid)?.tgid, self.task(tid)?.space);
        let model = &self.space_mut(id).model;
        let below = model.iter().rfind(|m| m.range.end <= grows.range.start);
        let gap = below.map_or(Addr(0), |m| match m.prot == Prot::NONE {
            true => m.range.end,
            false => m.range.end + GUARD_GAP,
        });
        let lowest = Addr(grows.range.end.0.saturating_sub(stack_limit(tid))).page_ceil();
        let room = AddrRange::new(lowest.max(gap), grows.range.start);
        if room.start >= room.end || room.intersect(rr_area::area()).is_some() {
            return Ok(stopped);
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
        let prot = u64::from(grows.prot.0);
        let args = [room.start.0, room.len(), prot, flags as u64, u64::MAX, 0];
        let (remote, at) = Remote::new(stopped, tgid)?.call(libc::SYS_mmap, args)?;
        if at == room.start.0 as i64 {
            ops.push(SpaceOp::Map(Mapping { range: room, ..grows }));
        }
        Ok(remote.finish()?)
    }

    /// For a call of `mprotect` down to the beginning of the main stack: the call without that flag.
    /// The kernel's stack ends where the stack's reserved room begins in a recording. Without rr there
    /// is no such end.
    fn stack_protection(&self, tid: Tid, entry: &Registers) -> Result<Option<Registers>> {
        let space = self.spaces.get(&self.task(tid)?.space);
        let Some((space, stack)) = space.and_then(|s| Some((s, s.stack?))) else {
            return Ok(None);
        };
        let down =
            entry.rdx & libc::PROT_GROWSDOWN as u64 != 0 && entry.rdx & libc::PROT_GROWSUP as u32 as u64 == 0;
        let start = Addr(entry.rdi);
        let whole = AddrRange::new(stack.start, start.max(stack.start));
        if !down || !stack.contains(start) || !space.model.grants(whole, Prot::NONE) {
            return Ok(None);
        }
        Ok(Some(Registers {
            rdi: stack.start.0,
            rsi: entry.rsi.saturating_add(start - stack.start),
            rdx: entry.rdx & !PROT_GROWS,
            ..*entry
        }))
    }

    /// The changes of the address space by a call.
    fn space_ops(
        &mut self,
        tid: Tid,
        special: Special,
        entry: &Registers,
        result: i64,
    ) -> Result<Vec<SpaceOp>> {
        let range = AddrRange::sized(Addr(entry.rdi), entry.rsi).to_pages();
        let failed = is_error(result);
        Ok(match special {
            Special::Mmap if !failed => self.mapped_ops(tid, entry, Addr(result as u64))?,
            Special::Munmap if !failed => vec![SpaceOp::Unmap(range)],
            // Only the kernel knows how far down that reaches.
            Special::Mprotect if !failed && entry.rdx & PROT_GROWS != 0 => self.half_done(tid)?,
            Special::Mprotect if !failed => vec![SpaceOp::Protect(range, Prot::from_bits(entry.rdx))],
            // The kernel unmaps what is in the way, or changes what comes before a hole, before it
            // finds that it cannot continue.
            Special::Munmap | Special::Mprotect => self.half_done(tid)?,
            Special::Mmap if entry.r10 & libc::MAP_FIXED as u64 != 0 => self.half_done(tid)?,
            Special::Mremap
                if failed && (entry.r10 & libc::MREMAP_FIXED as u64 != 0 || entry.rdx < entry.rsi) =>
            {
                self.half_done(tid)?
            }
            Special::Shmat if failed && entry.rdx & libc::SHM_REMAP as u64 != 0 => self.half_done(tid)?,
            Special::Mremap if !failed => self.moved_ops(tid, entry, Addr(result as u64))?,
            Special::Shmat if !failed => self.attached_ops(tid, entry, Addr(result as u64))?,
            Special::Shmdt if !failed => {
                let space = self.task(tid)?.space;
                let attached = self.space_mut(space).model.at(Addr(entry.rdi)).map(|m| m.range);
                attached.map(SpaceOp::Unmap).into_iter().collect()
            }
            Special::Brk => self.break_ops(tid, result as u64)?,
            _ => vec![],
        })
    }

    /// Shared anonymous memory becomes a memfd that rr holds, too. So rr can find and read its pages,
    /// whichever process has touched them.
    fn map_shared_anonymous(&mut self, tid: Tid, mut stopped: Stopped, entry: &Registers) -> Result<()> {
        self.forget_unmapped_objects();
        let mut after = returned(entry, -i64::from(libc::ENOMEM));
        stopped.set_regs(&after)?;
        let (tgid, id) = (self.task(tid)?.tgid, self.task(tid)?.space);
        // Makes the memfd in the task, and opens it here.
        let remote = Remote::new(stopped, tgid)?;
        let name = remote.param(b"rr-shared\0")?;
        let (mut remote, fd) = remote.call(
            libc::SYS_memfd_create,
            [name.0, libc::MFD_CLOEXEC.into(), 0, 0, 0, 0],
        )?;
        let size = AddrRange::sized(Addr(0), entry.rsi).to_pages().len();
        let mut ops = Vec::new();
        if fd < 0 {
            after.rax = fd as u64;
        } else {
            let file = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(procfs::fd_path(tid, TraceeFd(fd as i32)));
            let file = self.mapped.opened(file)?;
            if let Some(file) = &file {
                self.note_unfinished_file(tid, file)?;
            }
            // Maps the memfd, which the task then closes.
            let flags = entry.r10 & !(libc::MAP_ANONYMOUS as u64);
            remote = remote.call(libc::SYS_ftruncate, [fd as u64, size, 0, 0, 0, 0])?.0;
            let fixed = entry.r10 & libc::MAP_FIXED as u64 != 0;
            let ours = AddrRange::sized(Addr(entry.rdi), entry.rsi).intersect(rr_area::area());
            let hint = if fixed || ours.is_none() { entry.rdi } else { 0 };
            let args = [hint, entry.rsi, entry.rdx, flags, fd as u64, 0];
            let result;
            (remote, result) = remote.call(libc::SYS_mmap, args)?;
            remote = remote.call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0])?.0;
            after.rax = result as u64;
            if let (Some(file), false) = (file, is_error(result)) {
                let (object, op) = self.mapped.create(file, size, None);
                let range = AddrRange::sized(Addr(result as u64), size);
                let backing = Backing::Shared { object, offset: 0 };
                let prot = Prot::from_bits(entry.rdx);
                let mapping = Mapping {
                    range,
                    prot,
                    backing,
                    fork: ForkPolicy::Copy,
                    name: "".into(),
                };
                ops = vec![op, SpaceOp::Map(mapping)];
            }
        }
        remote.set_saved(after);
        let stopped = remote.finish()?;
        // Records the call.
        if is_error(after.result()) && entry.r10 & libc::MAP_FIXED as u64 != 0 {
            ops = self.half_done(tid)?;
        }
        self.finished(tid)?;
        let mut writes = Vec::new();
        self.apply_ops(tid, id, &ops, &mut writes)?;
        self.record_call(tid, entry, after, None, None, ops, writes, None)?;
        self.task_mut(tid)?.state = State::Ready(stopped);
        Ok(())
    }

    fn mapped_ops(&mut self, tid: Tid, entry: &Registers, at: Addr) -> Result<Vec<SpaceOp>> {
        let range = AddrRange::sized(at, entry.rsi).to_pages();
        let flags = entry.r10 as i32;
        let shared = flags & libc::MAP_TYPE != libc::MAP_PRIVATE;
        let mut ops = Vec::new();
        let (backing, name) = if flags & libc::MAP_ANONYMOUS != 0 {
            (Backing::Anonymous, String::new())
        } else {
            let fd = TraceeFd(entry.r8 as i32);
            self.forget_unmapped_objects();
            match self
                .mapped
                .open((&self.files, &self.objects), (tid, fd), entry.r9, shared)?
            {
                Some(opened) => {
                    ops.extend(opened.before);
                    (opened.backing, opened.name)
                }
                None => {
                    // Memory of a device: store its current contents.
                    tracing::warn!("the program maps a device, whose memory rr cannot follow");
                    let mut bytes = vec![0; range.len() as usize];
                    self.task(tid)?.memory.read_some(at, &mut bytes)?;
                    (
                        Backing::File {
                            file: self.files.add_bytes(&bytes)?,
                            offset: 0,
                        },
                        String::new(),
                    )
                }
            }
        };
        let prot = Prot::from_bits(entry.rdx);
        ops.push(SpaceOp::Map(Mapping {
            range,
            prot,
            backing,
            fork: ForkPolicy::Copy,
            name: name.into(),
        }));
        Ok(ops)
    }

    /// The operations for a System V segment (shmat(2)): an object like any other, known by its id.
    pub(crate) fn attached_ops(&mut self, tid: Tid, entry: &Registers, at: Addr) -> Result<Vec<SpaceOp>> {
        let maps = procfs::maps(tid)?;
        let Some(line) = maps.iter().find(|l| l.range.start == at) else {
            return Ok(vec![]);
        };
        self.forget_unmapped_objects();
        let mut ops = Vec::new();
        let object = match self.mapped.segment(entry.rdi) {
            Some(object) => object,
            None => {
                let bytes = self.task(tid)?.memory.read_vec(at, line.range.len() as usize)?;
                let content = if bytes.iter().all(|b| *b == 0) {
                    None
                } else {
                    Some(self.files.add_bytes(&bytes)?)
                };
                let (object, op) = self.mapped.create_segment(entry.rdi, line.range.len(), content);
                ops.push(op);
                object
            }
        };
        let backing = Backing::Shared { object, offset: 0 };
        let name = line.path(tid).into();
        ops.push(SpaceOp::Map(Mapping {
            range: line.range,
            prot: line.prot,
            backing,
            fork: ForkPolicy::Copy,
            name,
        }));
        Ok(ops)
    }

    pub(crate) fn forget_unmapped_objects(&mut self) {
        let mapped: HashSet<ObjectId> = self
            .spaces
            .values()
            .flat_map(|s| s.model.objects())
            .map(|(object, ..)| object)
            .collect();
        self.mapped.retain(|object| mapped.contains(&object));
        self.objects.retain(|object| mapped.contains(&object));
    }

    fn moved_ops(&mut self, tid: Tid, entry: &Registers, to: Addr) -> Result<Vec<SpaceOp>> {
        let from = Addr(entry.rdi);
        let (old, new) = (
            AddrRange::sized(from, entry.rsi).to_pages(),
            AddrRange::sized(to, entry.rdx).to_pages(),
        );
        let keep = entry.r10 & libc::MREMAP_DONTUNMAP as u64 != 0;
        let id = self.task(tid)?.space;
        let space = self.space_mut(id);
        let mut ops = Vec::new();
        let Some(source) = space.model.at(from).cloned() else {
            return Ok(ops);
        };
        if old.is_empty() {
            // A second view of shared memory.
            let backing = source.backing.advanced(from - source.range.start);

            ops.push(SpaceOp::Map(Mapping {
                range: new,
                backing,
                ..source
            }));
            return Ok(ops);
        }
        let common = AddrRange::sized(from, old.len().min(new.len()));
        if to != from {
            ops.push(SpaceOp::Move {
                from: common,
                to,
                keep,
            });
        }
        if new.len() > old.len() {
            // The mapping continues behind its old end.
            let backing = source.backing.advanced(old.end - source.range.start);
            let range = AddrRange::new(to + old.len(), new.end);
            ops.push(SpaceOp::Map(Mapping {
                range,
                backing,
                ..source
            }));
        } else if new.len() < old.len() {
            ops.push(SpaceOp::Unmap(AddrRange::new(from + new.len(), old.end)));
        }
        Ok(ops)
    }

    fn break_ops(&mut self, tid: Tid, now: u64) -> Result<Vec<SpaceOp>> {
        let id = self.task(tid)?.space;
        let space = self.space_mut(id);
        let (before, after) = (Addr(space.brk).page_ceil(), Addr(now).page_ceil());
        space.brk = now;
        Ok(match before.cmp(&after) {
            std::cmp::Ordering::Less => vec![SpaceOp::Map(Mapping {
                range: AddrRange::new(before, after),
                prot: Prot::RW,
                backing: Backing::Anonymous,
                fork: ForkPolicy::Copy,
                name: "[heap]".into(),
            })],
            std::cmp::Ordering::Greater => vec![SpaceOp::Unmap(AddrRange::new(after, before))],
            std::cmp::Ordering::Equal => vec![],
        })
    }
}
