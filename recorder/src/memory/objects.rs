//! Writes by the kernel into shared memory objects that do not use a mapping: `write` and similar
//! calls, `ftruncate`, `fallocate` on a file that is mapped shared. Replay has no such file, only the
//! mapped memory. So these become writes to the addresses where the file is mapped.
//!
//! In private mappings, the kernel shows the change in pages that the process has not written to
//! ([`crate::memory::private_files`]). Bytes that are not mapped shared anywhere are written into the object
//! itself.
//!
//! Changes of bytes that are not mapped at all are not followed: they become part of the event that
//! maps them ([`RecordSession::refresh_objects`]). That event need not read a clean object
//! ([`rr_tracee::objects`]). So every such change marks the object as not clean.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use rr_trace::event::{MemWrite, ObjectWrite};
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, AddrRange, Backing, ObjectId, Registers, SpaceId, SpaceOp, Tid, TraceeFd, procfs};

use crate::checkpoint::snapshots::lose_snapshots;
use crate::error::{Error, Result};
use crate::memory::private_files::{
    changed_privately, is_mapped_privately, map_object_privately, shows_privately,
};
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::model::World;
use crate::world::paths::seen_by;

const O_TRUNC: u64 = libc::O_TRUNC as u64;
/// `fallocate` modes that change all bytes behind the range.
const MOVES_THE_REST: u64 = (libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE) as u64;
const O_APPEND: u64 = libc::O_APPEND as u64;
/// `ioctl` requests that copy another file's contents (ioctl_ficlone(2)).
const FICLONE: u64 = 0x4004_9409;
const FICLONERANGE: u64 = 0x4020_940d;
/// Maximum number of bytes of one write in an event. Longer writes are split.
const PIECE: u64 = 1 << 20;
/// Minimum length of a hole that is not written as zeros.
const LONG_HOLE: u64 = 16 << 20;

/// The bytes of a file that a call has written.
#[derive(Clone, Copy)]
enum Place {
    /// These bytes: start and length.
    Range(u64, u64),
    /// The result's number of bytes, before the descriptor's current position.
    Position,
    /// The result's number of bytes, from this offset on.
    Written(u64),
    /// The result's number of bytes, before the offset that is now at this address.
    Pointer(u64),
}

/// A change of objects: operations, and then writes.
type Change = (Vec<SpaceOp>, Vec<MemWrite>);

/// Bytes of an object, and the address to write them to.
#[derive(Clone, Copy)]
struct View {
    bytes: AddrRange,
    /// The address of a shared mapping of the bytes. If `None`, they are written into the object
    /// itself.
    at: Option<(SpaceId, Addr)>,
}

impl View {
    /// The part of this view that shows some of these bytes.
    fn part(&self, bytes: AddrRange) -> Option<View> {
        let bytes = self.bytes.intersect(bytes)?;
        let distance = bytes.start - self.bytes.start;
        let at = self.at.map(|(space, addr)| (space, addr + distance));
        Some(View { bytes, at })
    }
}

/// The parts of this range of a file that are not holes (lseek(2)).
fn data_in(file: &File, range: AddrRange) -> Vec<AddrRange> {
    let seek = |at: u64, whence| lseek(file, i64::try_from(at).unwrap_or(i64::MAX), whence);
    let mut data = Vec::new();
    let mut at = range.start.0;
    while at < range.end.0 {
        let start = match seek(at, Whence::SeekData) {
            Ok(start) => start as u64,
            Err(Errno::ENXIO) => break,
            // The file system does not know holes.
            Err(_) => at,
        };
        let end = seek(start, Whence::SeekHole).map_or(range.end.0, |end| end as u64);
        let end = end.max(start + 1);
        data.extend(AddrRange::new(Addr(start), Addr(end)).intersect(range));
        at = end;
    }
    data
}

/// The effect of a call that returned `result` on mappings of a file.
pub(crate) fn object_effect(
    session: &mut RecordSession,
    tid: Tid,
    call: &Call,
    result: i64,
) -> Result<(Vec<SpaceOp>, Vec<MemWrite>)> {
    let none = (Vec::new(), Vec::new());
    let entry = &call.entry;
    if result < 0 || call.of_stream {
        return Ok(none);
    }
    let opened = Some(procfs::fd_path(tid, TraceeFd(result as i32)));
    // The descriptor of the changed file, and the changed bytes.
    let (fd, place) = match entry.syscall() {
        libc::SYS_write | libc::SYS_writev | libc::SYS_sendfile => (0, Place::Position),
        libc::SYS_pwrite64 | libc::SYS_pwritev | libc::SYS_pwritev2 if entry.arg(3) as i64 == -1 => {
            (0, Place::Position)
        }
        libc::SYS_pwrite64 | libc::SYS_pwritev | libc::SYS_pwritev2 => (0, Place::Written(entry.arg(3))),
        libc::SYS_ftruncate => (0, Place::Range(0, 0)),
        libc::SYS_fallocate if entry.arg(1) & MOVES_THE_REST != 0 => {
            (0, Place::Range(entry.arg(2), u64::MAX))
        }
        libc::SYS_fallocate => (0, Place::Range(entry.arg(2), entry.arg(3))),
        libc::SYS_ioctl if [FICLONE, FICLONERANGE].contains(&entry.arg(1)) => (0, Place::Range(0, u64::MAX)),
        libc::SYS_truncate => {
            let path = named_by(&session.world, tid, libc::AT_FDCWD, entry.arg(0));
            return objects_cut(session, path);
        }
        libc::SYS_creat | libc::SYS_openat2 => return objects_cut(session, opened),
        libc::SYS_open if entry.arg(1) & O_TRUNC != 0 => return objects_cut(session, opened),
        libc::SYS_openat if entry.arg(2) & O_TRUNC != 0 => return objects_cut(session, opened),
        libc::SYS_copy_file_range | libc::SYS_splice if entry.arg(3) == 0 => (2, Place::Position),
        libc::SYS_copy_file_range | libc::SYS_splice => (2, Place::Pointer(entry.arg(3))),
        _ => return Ok(none),
    };
    let fd = TraceeFd(entry.arg(fd) as i32);
    let path = procfs::fd_path(tid, fd);
    let Some(mapped) = session.world.mapped.mapped_at(&path) else {
        return Ok(none);
    };
    let range = range_of(&session.world, tid, fd, place, result as u64, mapped.size);
    file_changed(session, &path, range)
}

/// A file was perhaps truncated: the one at this path of ours.
fn objects_cut(session: &mut RecordSession, path: Option<PathBuf>) -> Result<Change> {
    let mut ops = resize_ops(&session.world);
    let mut writes = Vec::new();
    if let Some(path) = path {
        let (more, shown) = file_changed(session, &path, (0, 0))?;
        ops.extend(more);
        writes.extend(shown);
    }
    Ok((ops, writes))
}

/// These bytes of the file at a path of ours have changed, as start and length, and perhaps its
/// size.
fn file_changed(session: &mut RecordSession, path: &Path, (start, len): (u64, u64)) -> Result<Change> {
    let Some(mapped) = session.world.mapped.mapped_at(path) else {
        return Ok(Change::default());
    };
    let (inode, sizes) = (mapped.inode, (mapped.former_size, mapped.size));
    let mut ops = Vec::new();
    let object = match mapped.object {
        Some(object) => {
            ops.extend(size_op(&session.world, object, true));
            object
        }
        None => {
            let made = changed_privately(&mut session.world, path, (start, len), sizes)?;
            session.world.mapped.note_size(inode, sizes.1);
            let Some((object, create)) = made else {
                return Ok(Change::default());
            };
            let size = sizes.1;
            ops.extend([create, SpaceOp::ResizeObject { object, size }]);
            object
        }
    };
    session.world.mapped.note_size(inode, sizes.1);
    if !ops.is_empty() {
        map_object_privately(session, object)?;
    }
    let (more, shown) = object_change(&mut session.world, object, start, len)?;
    ops.extend(more);
    Ok((ops, shown))
}

/// Before a call that may truncate a privately mapped file: waits until frozen forks have been
/// read, because the file's pages disappear from them as they do from the program.
pub(crate) fn before_cut(session: &mut RecordSession, tid: Tid, entry: &Registers) {
    let path = match entry.syscall() {
        libc::SYS_ftruncate => Some(procfs::fd_path(tid, TraceeFd(entry.rdi as i32))),
        libc::SYS_fallocate if entry.rsi & MOVES_THE_REST != 0 => {
            Some(procfs::fd_path(tid, TraceeFd(entry.rdi as i32)))
        }
        libc::SYS_truncate | libc::SYS_creat => named_by(&session.world, tid, libc::AT_FDCWD, entry.rdi),
        libc::SYS_open if entry.rsi & O_TRUNC != 0 => {
            named_by(&session.world, tid, libc::AT_FDCWD, entry.rdi)
        }
        libc::SYS_openat if entry.rdx & O_TRUNC != 0 => {
            named_by(&session.world, tid, entry.rdi as i32, entry.rsi)
        }
        libc::SYS_openat2 => named_by(&session.world, tid, entry.rdi as i32, entry.rsi),
        _ => None,
    };
    let mapped = path.and_then(|path| {
        let mapped = session.world.mapped.mapped_at(path)?;
        Some((mapped.private.to_vec(), mapped.object))
    });
    let Some((contents, object)) =
        mapped.filter(|(c, object)| is_mapped_privately(&session.world, c, *object))
    else {
        return;
    };
    session
        .checkpoints
        .release_forks("the program may cut short a file that its frozen processes have mapped");
    let spaces: Vec<SpaceId> = session.world.spaces.keys().copied().collect();
    for id in spaces {
        if shows_privately(&session.world, id, &contents, object) {
            lose_snapshots(session, id);
        }
    }
}

/// The path by which rr can reach `path`, a string in a task's memory.
fn named_by(world: &World, tid: Tid, dir: i32, path: u64) -> Option<PathBuf> {
    let memory = &world.task(tid).ok()?.memory;
    let path = memory.read_cstring(Addr(path), libc::PATH_MAX as usize).ok()?;
    let dir = match dir {
        libc::AT_FDCWD => format!("/proc/{tid}/cwd").into(),
        fd => procfs::fd_path(tid, TraceeFd(fd)),
    };
    Some(seen_by(tid, dir, &path))
}

/// The bytes of a file, as start and length, that a call has written.
fn range_of(world: &World, tid: Tid, fd: TraceeFd, place: Place, written: u64, size: u64) -> (u64, u64) {
    let upto = |end: u64| (end.saturating_sub(written), written);
    match place {
        Place::Range(start, len) => (start, len),
        Place::Position => upto(procfs::fd_position(tid, fd).unwrap_or(0)),
        // Linux then appends, whatever the offset is (pwrite(2), "Bugs").
        Place::Written(_) if procfs::fd_flags(tid, fd) & O_APPEND != 0 => upto(size),
        Place::Written(start) => (start, written),
        Place::Pointer(at) => {
            let end = world.task(tid).and_then(|t| Ok(t.memory.read_u64(Addr(at))?));
            upto(end.unwrap_or(0))
        }
    }
}

/// The operations for all objects whose size has changed.
fn resize_ops(world: &World) -> Vec<SpaceOp> {
    world
        .mapped
        .all()
        .filter_map(|object| size_op(world, object, false))
        .collect()
}

/// The operation that sets the size of an object, if the size has changed. With `changed`, also if
/// the object still counts as a file of the trace.
fn size_op(world: &World, object: ObjectId, changed: bool) -> Option<SpaceOp> {
    let (known, size) = (world.objects.get(object)?, world.mapped.size(object)?);
    let news = known.size != size || changed && known.content.is_some();
    news.then_some(SpaceOp::ResizeObject { object, size })
}

/// A hole was perhaps made in an object.
pub(crate) fn hole_in_object(world: &mut World, object: ObjectId, start: u64, len: u64) -> Result<Change> {
    let (mut ops, writes) = object_change(world, object, start, len)?;
    ops.splice(0..0, size_op(world, object, true));
    Ok((ops, writes))
}

/// These bytes of an object, as writes to an address where they are mapped. (Bytes that are mapped
/// only privately become a write of the next event to the object itself.)
pub(crate) fn object_change(world: &mut World, object: ObjectId, start: u64, len: u64) -> Result<Change> {
    let size = world.mapped.size(object).unwrap_or(0);
    let wanted = AddrRange::sized(Addr(start), len.min(size.saturating_sub(start)));
    shown_in(world, object, views_of(world, object, wanted, &[]))
}

/// The mappings of these bytes of an object, each byte once: `new` mappings come first, and shared
/// ones before others.
fn views_of(world: &World, object: ObjectId, wanted: AddrRange, new: &[View]) -> Vec<View> {
    let shared = world.spaces.iter().flat_map(|(id, space)| {
        let of_it = space.model.shared().filter(|(o, ..)| *o == object);
        of_it.map(|(_, bytes, mapping)| View {
            bytes,
            at: Some((*id, mapping.range.start)),
        })
    });
    let all = world.spaces.values().flat_map(|space| space.model.objects());
    let all = all.filter(|(o, ..)| *o == object);
    let known = shared.chain(all.map(|(_, bytes, _)| View { bytes, at: None }));
    let mut views = Vec::new();
    let mut missing = vec![wanted];
    for view in new.iter().copied().chain(known) {
        let mut rest = Vec::new();
        for range in std::mem::take(&mut missing) {
            let Some(hit) = view.part(range) else {
                rest.push(range);
                continue;
            };
            let left = [
                AddrRange::new(range.start, hit.bytes.start),
                AddrRange::new(hit.bytes.end, range.end),
            ];
            rest.extend(left.into_iter().filter(|r| !r.is_empty()));
            views.push(hit);
        }
        missing = rest;
    }
    views
}

/// The object's bytes in these views. Long holes are not written out. Instead, the whole object
/// becomes zero, and then gets its bytes wherever it is mapped.
///
/// A file that becomes empty removes pages that processes have copied from it, so this is not done
/// with private mappings.
fn shown_in(world: &mut World, object: ObjectId, views: Vec<View>) -> Result<Change> {
    let Some(file) = world.mapped.file(object) else {
        return Ok(Change::default());
    };
    let file = file.try_clone();
    let Some(file) = world.mapped.opened(file)? else {
        return Ok(Change::default());
    };
    let mut writes = Vec::new();
    let holes: u64 = views
        .iter()
        .map(|view| {
            let data: u64 = data_in(&file, view.bytes).iter().map(|d| d.len()).sum();
            view.bytes.len() - data
        })
        .sum();
    if holes < LONG_HOLE || is_mapped_privately(world, &[], Some(object)) {
        for view in &views {
            push_writes(world, &mut writes, (object, &file), *view)?;
        }
        return Ok((Vec::new(), writes));
    }
    let size = world.mapped.size(object).unwrap_or(0);
    let ops = [0, size].map(|size| SpaceOp::ResizeObject { object, size });
    for view in views_of(world, object, AddrRange::sized(Addr(0), size), &views) {
        for part in data_in(&file, view.bytes)
            .into_iter()
            .filter_map(|data| view.part(data))
        {
            push_writes(world, &mut writes, (object, &file), part)?;
        }
    }
    Ok((ops.to_vec(), writes))
}

fn push_writes(
    world: &mut World,
    writes: &mut Vec<MemWrite>,
    (object, file): (ObjectId, &File),
    view: View,
) -> Result<()> {
    let bytes = view.bytes;
    let mut offset = bytes.start;
    while offset < bytes.end {
        let mut data = vec![0; (bytes.end - offset).min(PIECE) as usize];
        file.read_exact_at(&mut data, offset.0).map_err(|e| {
            let path = format!("shared memory object {}", object.0);
            Error::Tracee(rr_tracee::Error::Proc {
                path,
                why: e.to_string(),
            })
        })?;
        let len = data.len() as u64;
        match view.at {
            Some((space, addr)) => writes.push(MemWrite {
                space,
                addr: addr + (offset - bytes.start),
                data,
            }),
            None => world.besides.object_writes.push(ObjectWrite {
                object,
                offset: offset.0,
                data,
            }),
        }
        offset = offset + len;
    }
    Ok(())
}

/// The current contents of an existing object that is no longer a file of the trace and is mapped
/// anew. The contents were not followed while they were not mapped.
pub(crate) fn refresh_objects(world: &mut World, space: SpaceId, ops: &[SpaceOp]) -> Result<Change> {
    let mut change = Change::default();
    let created = |object| {
        ops.iter()
            .any(|op| matches!(op, SpaceOp::CreateObject { object: o, .. } if *o == object))
    };
    for op in ops {
        let SpaceOp::Map(mapping) = op else { continue };
        let (object, offset, shared) = match mapping.backing {
            Backing::Shared { object, offset } => (object, offset, true),
            Backing::CopyOnWrite { object, offset } => (object, offset, false),
            Backing::Anonymous | Backing::File { .. } | Backing::Rr => continue,
        };
        let view = AddrRange::sized(Addr(offset), mapping.range.len());
        let clean = world.objects.get(object).is_some_and(|o| o.content.is_some());
        if created(object) || clean || is_mapped(world, object, view) {
            continue;
        }
        let size = world.mapped.size(object).unwrap_or(0);
        if let Some(bytes) = view.intersect(AddrRange::sized(Addr(0), size)) {
            let at = shared.then_some((space, mapping.range.start));
            let (ops, writes) = shown_in(world, object, vec![View { bytes, at }])?;
            change.0.extend(ops);
            change.1.extend(writes);
        }
    }
    Ok(change)
}

/// Returns whether one mapping shows all of `view`.
fn is_mapped(world: &World, object: ObjectId, view: AddrRange) -> bool {
    world
        .spaces
        .values()
        .flat_map(|s| s.model.objects())
        .any(|(o, shown, _)| o == object && shown.start <= view.start && view.end <= shown.end)
}
