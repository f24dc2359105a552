//! Calls that map, unmap, protect and move memory.

use rr_tracee::ids::PAGE;
use rr_tracee::remote::Remote;
use rr_tracee::syscalls::Emulated;
use rr_tracee::{
    Addr, AddrRange, Backing, ForkPolicy, Mapping, Prot, Registers, SpaceOp, Stopped, Tid, TraceeFd, procfs,
    rr_area,
};

use crate::buffer::restore::apply_ops;
use crate::call::registers::returned;
use crate::error::Result;
use crate::memory::implied_rights::add_implied_rights;
use crate::memory::shm::attached_ops;
use crate::memory::unfinished::{carried_out, end_unfinished, note_unfinished_file};
use crate::session::RecordSession;
use crate::task::exec::stack_limit;
use crate::userfault::rights::follow_ops;
use crate::world::model::World;
use crate::world::next::{Next, Record};

/// `PROT_GROWSDOWN` and `PROT_GROWSUP` (mprotect(2)).
pub(crate) const PROT_GROWS: u64 = (libc::PROT_GROWSDOWN | libc::PROT_GROWSUP) as u32 as u64;

/// Bytes that the kernel keeps between a mapping that grows and the next one below (`stack_guard_gap`).
const GUARD_GAP: u64 = 256 * PAGE;

pub(crate) fn is_error(result: i64) -> bool {
    (-4095..0).contains(&result)
}

/// A mapping was made that grows downwards when the program touches what lies below (`MAP_GROWSDOWN`, mmap(2)). Nobody tells
/// the recorder when the kernel lets a mapping grow. So the mapping gets all its room at once, and the kernel has no more to
/// give: down to the limit of stacks, or to the gap that the kernel keeps above the next mapping.
pub(crate) fn map_room_below(
    world: &mut World,
    tid: Tid,
    stopped: Stopped,
    ops: &mut Vec<SpaceOp>,
) -> Result<Stopped> {
    let Some(SpaceOp::Map(grows)) = ops.last().cloned() else {
        return Ok(stopped);
    };
    let (tgid, id) = (world.task(tid)?.tgid, world.task(tid)?.space);
    let model = &world.space_mut(id).model;
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
pub(crate) fn stack_protection(world: &World, tid: Tid, entry: &Registers) -> Result<Option<Registers>> {
    let space = world.spaces.get(&world.task(tid)?.space);
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
pub(crate) fn space_ops(
    world: &mut World,
    tid: Tid,
    emulated: Emulated,
    entry: &Registers,
    result: i64,
) -> Result<Vec<SpaceOp>> {
    let range = AddrRange::sized(Addr(entry.rdi), entry.rsi).to_pages();
    let failed = is_error(result);
    Ok(match emulated {
        Emulated::Mmap if !failed => mapped_ops(world, tid, entry, Addr(result as u64))?,
        Emulated::Munmap if !failed => vec![SpaceOp::Unmap(range)],
        // Only the kernel knows how far down that reaches.
        Emulated::Mprotect if !failed && entry.rdx & PROT_GROWS != 0 => half_done(world, tid)?,
        Emulated::Mprotect if !failed => vec![SpaceOp::Protect(range, Prot::from_bits(entry.rdx))],
        // The kernel unmaps what is in the way, or changes what comes before a hole, before it
        // finds that it cannot continue.
        Emulated::Munmap | Emulated::Mprotect => half_done(world, tid)?,
        Emulated::Mmap if entry.r10 & libc::MAP_FIXED as u64 != 0 => half_done(world, tid)?,
        Emulated::Mremap
            if failed && (entry.r10 & libc::MREMAP_FIXED as u64 != 0 || entry.rdx < entry.rsi) =>
        {
            half_done(world, tid)?
        }
        Emulated::Shmat if failed && entry.rdx & libc::SHM_REMAP as u64 != 0 => half_done(world, tid)?,
        Emulated::Mremap if !failed => moved_ops(world, tid, entry, Addr(result as u64))?,
        Emulated::Shmat if !failed => attached_ops(world, tid, entry, Addr(result as u64))?,
        Emulated::Shmdt if !failed => {
            let space = world.task(tid)?.space;
            let attached = world.space_mut(space).model.at(Addr(entry.rdi)).map(|m| m.range);
            attached.map(SpaceOp::Unmap).into_iter().collect()
        }
        Emulated::Brk => break_ops(world, tid, result as u64)?,
        _ => vec![],
    })
}

/// Shared anonymous memory becomes a memfd that rr holds, too. So rr can find and read its pages,
/// whichever process has touched them.
pub(crate) fn map_shared_anonymous(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    entry: &Registers,
) -> Result<Next> {
    session.world.forget_unmapped_objects();
    let mut after = returned(entry, -i64::from(libc::ENOMEM));
    stopped.set_regs(&after)?;
    let (tgid, id) = (session.world.task(tid)?.tgid, session.world.task(tid)?.space);
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
        let file = session.world.mapped.opened(file)?;
        if let Some(file) = &file {
            note_unfinished_file(&mut session.world, tid, file)?;
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
            let (object, op) = session.world.mapped.create(file, size, None);
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
        ops = half_done(&mut session.world, tid)?;
    }
    end_unfinished(&mut session.world, tid)?;
    let mut writes = Vec::new();
    apply_ops(&mut session.world, tid, id, &ops, false, &mut writes)?;
    add_implied_rights(&mut session.world, tid, id, &mut ops, &mut writes)?;
    let follows = follow_ops(&mut session.world, tid, &ops)?;
    ops.extend(follows);
    let record = Record {
        ops,
        writes,
        ..Record::of(entry, after)
    };
    Ok(record.then_ready(stopped))
}

fn mapped_ops(world: &mut World, tid: Tid, entry: &Registers, at: Addr) -> Result<Vec<SpaceOp>> {
    let range = AddrRange::sized(at, entry.rsi).to_pages();
    let flags = entry.r10 as i32;
    let shared = flags & libc::MAP_TYPE != libc::MAP_PRIVATE;
    let mut ops = Vec::new();
    let (backing, name) = if flags & libc::MAP_ANONYMOUS != 0 {
        (Backing::Anonymous, String::new())
    } else {
        let fd = TraceeFd(entry.r8 as i32);
        world.forget_unmapped_objects();
        match world
            .mapped
            .open((&world.files, &world.objects), (tid, fd), entry.r9, shared)?
        {
            Some(opened) => {
                ops.extend(opened.before);
                (opened.backing, opened.name)
            }
            None => {
                // Memory of a device: store its current contents.
                tracing::warn!("the program maps a device, whose memory rr cannot follow");
                let mut bytes = vec![0; range.len() as usize];
                world.task(tid)?.memory.read_some(at, &mut bytes)?;
                (
                    Backing::File {
                        file: world.files.add_bytes(&bytes)?,
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

fn moved_ops(world: &mut World, tid: Tid, entry: &Registers, to: Addr) -> Result<Vec<SpaceOp>> {
    let from = Addr(entry.rdi);
    let (old, new) = (
        AddrRange::sized(from, entry.rsi).to_pages(),
        AddrRange::sized(to, entry.rdx).to_pages(),
    );
    let keep = entry.r10 & libc::MREMAP_DONTUNMAP as u64 != 0;
    let id = world.task(tid)?.space;
    let space = world.space_mut(id);
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

fn break_ops(world: &mut World, tid: Tid, now: u64) -> Result<Vec<SpaceOp>> {
    let id = world.task(tid)?.space;
    let space = world.space_mut(id);
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

/// The changes made by a call that failed: the differences between the kernel and the model.
pub(crate) fn half_done(world: &mut World, tid: Tid) -> Result<Vec<SpaceOp>> {
    Ok(carried_out(world, tid, tid)?.0)
}
