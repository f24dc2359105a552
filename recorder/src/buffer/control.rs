//! The system call buffer, seen from outside: puts the library into an address space, tells it which
//! calls must be traced, and takes its records out.
//!
//! Records belong to the interval in which they were written. They are taken out at the stop that ends
//! the interval, before another task of the address space runs, and become part of that event. So the
//! library holds nothing when other tasks run, at a checkpoint, or when a process forks.

use std::mem::offset_of;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use rr_preload::layout::{self, Control, mode, traced};
use rr_preload::records;
use rr_tracee::memory::ReadMemory;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::remote::Remote;
use rr_tracee::task::Resume;
use rr_tracee::{Addr, Memory, Prot, Registers, SpaceId, Stopped, Tid, limits, rr_area, shaping, syscalls};

use crate::buffer::library::{BEGIN_ANEW, tell_place};
use crate::buffer::native::note_native;
use crate::buffer::ring::{DeferredRecords, LARGE, Place, Ring, Slot};
use crate::call::cores::is_shown_elsewhere;
use crate::checkpoint::snapshots::may_call;
use crate::error::{Error, Result};
use crate::seccomp::Allowed;
use crate::session::RecordSession;
use crate::world::model::World;
use crate::world::next::{Next, Until};

/// Number of bytes of records that are read together with their length: more than most intervals have.
const AT_ONCE: usize = 1 << 10;
/// Size of the words that are read at the end of an interval: `due`, `left`, `blocked`, `records`,
/// `used`.
const HEAD: usize = offset_of!(Control, used) + 8 - offset_of!(Control, due);
/// Number of bytes of records in large intervals after which an address space gets a ring.
const MUCH: u64 = 1 << 20;

/// The values of these words.
struct Head {
    due: u64,
    left: u64,
    blocked: u64,
    used: u64,
}

impl Head {
    fn of(words: &[u8; HEAD]) -> Head {
        let word = |at| {
            let bytes = words
                .get(at - offset_of!(Control, due)..)
                .and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        Head {
            due: word(offset_of!(Control, due)),
            left: word(offset_of!(Control, left)),
            blocked: word(offset_of!(Control, blocked)),
            used: word(offset_of!(Control, used)),
        }
    }
}

/// Device and inode of our own standard output and error.
fn stdio() -> [[u64; 2]; 2] {
    [1, 2].map(|fd| {
        // SAFETY: all-zero is a valid stat; fstat fills it.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        match unsafe { libc::fstat(fd, &mut stat) } {
            0 => [stat.st_dev, stat.st_ino],
            _ => [u64::MAX; 2],
        }
    })
}

/// The words of a control page.
fn bytes(control: &Control) -> &[u8] {
    // SAFETY: `Control` is made of integers only, without gaps.
    unsafe { std::slice::from_raw_parts((&raw const *control).cast(), size_of::<Control>()) }
}

/// The calls that the library has to leave to us, and the version of the filter of mapped files.
fn calls_to_leave(session: &RecordSession) -> (u32, u64) {
    let mut bits = 0;
    if session.world.must_trace.memory_files || session.world.must_trace.file_sizes_limited {
        bits |= traced::WRITES;
    }
    if session.world.must_trace.status_files {
        bits |= traced::PROC_READS;
    }
    if session.world.mapped.all().next().is_some() {
        bits |= traced::TRUNCATION;
    }
    if session.policy.options.cores.is_some() {
        bits |= traced::CPU_LISTS | traced::GETCPU;
    }
    if session.world.must_trace.userfaults {
        bits |= traced::CLOSES;
    }
    (bits, session.world.mapped.filter().version)
}

/// Starts the library in an address space. Its code is already mapped (see [`crate::task::exec`]).
pub(crate) fn install_library(session: &mut RecordSession, tid: Tid, id: SpaceId) -> Result<()> {
    let published = calls_to_leave(session);
    let due = session
        .checkpoints
        .calls_left(session.log.last_event())
        .unwrap_or(u64::MAX);
    let control = Control {
        go_on: 0,
        rsp: 0,
        due,
        left: 0,
        blocked: 0,
        records: layout::RECORDS,
        used: 0,
        end: layout::RECORDS_BYTES,
        entry: layout::ENTRY,
        mode: mode::RECORD,
        traced: published.0,
        mismatch: 0,
        other_payload: 0,
        site: layout::site::CALL,
        counter: session.policy.counter(),
        stdio: stdio(),
        guarded: Default::default(),
        filter: session.world.mapped.filter().words,
        busy: 0,
        allowed: Allowed::ALL.words(),
        processor: 0,
        cpuid: session.policy.options.processor.answers.words(),
    };
    let memory = &session.world.task(tid)?.memory;
    memory.write(Addr(layout::CONTROL), bytes(&control))?;
    let library = &mut session.world.space_mut(id).library;
    library.installed = true;
    library.published = published;
    library.allowed = Allowed::ALL;
    library.taken = 0;
    library.left = 0;
    library.due = due;
    library.blocked = 0;
    library.place = Place::Own;
    Ok(())
}

/// Before a task executes user code: tells its library the number of calls until a checkpoint is
/// due.
pub(crate) fn tell_due(session: &mut RecordSession, tid: Tid) -> Result<()> {
    let Some(due) = session.checkpoints.calls_left(session.log.last_event()) else {
        return Ok(());
    };
    let task = session.world.task(tid)?;
    let slack = session.checkpoints.slack();
    let library = session.world.spaces.get(&task.space).map(|space| &space.library);
    if library.is_some_and(|library| library.installed && library.due.abs_diff(due) > slack) {
        task.memory.write(field!(due), &due.to_le_bytes())?;
        let id = task.space;
        session.world.space_mut(id).library.due = due;
    }
    Ok(())
}

/// Before a task executes user code: tells its library what has changed.
pub(crate) fn tell_library(session: &mut RecordSession, tid: Tid) -> Result<()> {
    let id = session.world.task(tid)?.space;
    tell_guarded(&mut session.world, tid, id)?;
    let task = session.world.task(tid)?;
    let Some(space) = session
        .world
        .spaces
        .get(&task.space)
        .filter(|s| s.library.installed)
    else {
        return Ok(());
    };
    let allowed = task.settings.confined.allowed();
    if space.library.allowed != allowed {
        let words = allowed.words().map(u64::to_le_bytes);
        task.memory.write(field!(allowed), words.as_flattened())?;
    }
    let mut now = calls_to_leave(session);
    let shows_calls = task.tracee.as_ref().is_some_and(|t| t.shows_calls());
    if shows_calls
        || task.settings.confined.is_strict()
        || task.settings.dispatch.is_some()
        || task.settings.is_counter_denied
        || !task.signals.deferred.is_empty()
        || session.drive.scheduler.counts_events()
    {
        now.0 |= traced::ALL;
    }
    // A process that shares its parent's memory (vfork) can be killed alone. Then its last interval
    // is not replayed. Where pages are registered with userfaultfd(2), their protection follows from each change.
    // The kernel alone knows the rights that a task with READ_IMPLIES_EXEC gets, and the pages that it populates because they
    // are locked.
    if session.world.survivor(tid).is_some()
        || space.userfaults.has_regions()
        || space.locks_memory
        || task.settings.read_implies_exec
    {
        now.0 |= traced::SHAPING;
    }
    if session.drive.contention.is_any_starving() {
        now.0 |= traced::WAKES;
    }
    if is_shown_elsewhere(session, tid)? {
        now.0 |= traced::GETCPU;
    }
    if (space.library.published, space.library.allowed) == (now, allowed) {
        return Ok(());
    }
    if space.library.published.0 != now.0 {
        task.memory.write(field!(traced), &now.0.to_le_bytes())?;
    }
    if space.library.published.1 != now.1 {
        let words = session.world.mapped.filter().words;
        let words: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        task.memory.write(field!(filter), &words)?;
    }
    let id = task.space;
    let library = &mut session.world.space_mut(id).library;
    library.allowed = allowed;
    library.published = now;
    Ok(())
}

/// Tells the library which ranges are guarded, if these have grown: it must leave to us calls that
/// change the address space there.
pub(crate) fn tell_guarded(world: &mut World, tid: Tid, id: SpaceId) -> Result<()> {
    let library = world.spaces.get_mut(&id).map(|space| &mut space.library);
    let library = library.filter(|library| library.installed);
    if !library.is_some_and(|library| std::mem::take(&mut library.sites.grown)) {
        return Ok(());
    }
    let ranges = world.spaces.get(&id).map(|s| s.library.sites.guarded());
    let words: Vec<u8> = ranges
        .into_iter()
        .flatten()
        .flat_map(|r| [r.start.0, r.end.0])
        .flat_map(u64::to_le_bytes)
        .collect();
    Ok(world.task(tid)?.memory.write(field!(guarded), &words)?)
}

/// Something waits for the task's next event: makes its next call a traced one. Returns whether it
/// would not have been.
pub(crate) fn force_traced(world: &mut World, tid: Tid) -> Result<bool> {
    let id = world.task(tid)?.space;
    let library = &mut world.space_mut(id).library;
    let is_new = library.installed && library.published.0 & traced::ALL == 0;
    if is_new {
        library.published.0 |= traced::ALL;
        let bits = library.published.0.to_le_bytes();
        world.task(tid)?.memory.write(field!(traced), &bits)?;
    }
    Ok(is_new)
}

/// Returns whether an interrupt of a running task cannot hit a call of its library, which the
/// interrupt might cut short (read(2) of a device).
///
/// The recorder first tells the library to leave its next call to us, and then looks if the library
/// is at work. Both sides write one word and then read the other's ([`Control::busy`]), with a full
/// barrier in between. Ours is the fence, which also orders the kernel's reads and writes for us on
/// this CPU (and a thread that changes the CPU passes a barrier, too). If the library looks idle,
/// it will read the word at its next call, and not make that call. This holds until the task
/// continues from its next stop ([`tell_library`]), which is the interrupt's stop or
/// an earlier one.
pub(crate) fn keep_from_calls(world: &mut World, tid: Tid) -> Result<bool> {
    let id = world.task(tid)?.space;
    if !world.spaces.get(&id).is_some_and(|s| s.library.installed) {
        return Ok(true);
    }
    let is_told = force_traced(world, tid)?;
    fence(Ordering::SeqCst);
    let memory = Memory::of(tid);
    let is_idle = memory.read_u64(field!(busy))? == 0;
    if !is_idle && is_told {
        let published = &mut world.space_mut(id).library.published.0;
        *published &= !traced::ALL;
        memory.write(field!(traced), &published.to_le_bytes())?;
    }
    Ok(is_idle)
}

/// At the end of an interval: takes the records of buffered calls out. The library is told again
/// which calls must be traced before a task executes user code.
pub(crate) fn take_records(session: &mut RecordSession, tid: Tid) -> Result<()> {
    let task = session.world.task_mut(tid)?;
    task.interval.left = false;
    let id = task.space;
    let Some(library) = session
        .world
        .spaces
        .get(&id)
        .map(|s| &s.library)
        .filter(|l| l.installed)
    else {
        return Ok(());
    };
    let start = library.taken;
    let Place::Ring(slot) = &library.place else {
        return read_records(session, tid, id, start);
    };
    let slot = Arc::clone(slot);
    let mut words = [0; HEAD];
    session.world.task(tid)?.memory.read(field!(due), &mut words)?;
    let used = note_head(session, tid, id, &words)?;
    take_from_ring(&mut session.world, tid, id, &slot, start..used)
}

/// Reads the counters of the control page at the end of an interval. Returns the number of bytes of
/// records.
fn note_head(session: &mut RecordSession, tid: Tid, id: SpaceId, words: &[u8; HEAD]) -> Result<u64> {
    let Head {
        due,
        left,
        blocked,
        used,
    } = Head::of(words);
    note_blocked(&mut session.world, tid, id, blocked)?;
    let library = &mut session.world.space_mut(id).library;
    let before = std::mem::replace(&mut library.left, left);
    // If the program has overwritten the word, no calls are counted.
    let calls = std::mem::replace(&mut library.due, due).saturating_sub(due);
    session.checkpoints.count_calls(calls);
    // After leaving a call, the library continues at the call's entry, where the task stops. So the
    // left call is the one that the task now enters. A task that left a call but is stopped before
    // its entry does not count.
    let task = session.world.task_mut(tid)?;
    task.interval.left = left != before;
    task.interval.calls = calls;
    Ok(used)
}

/// Notes a change of the signal mask, from the control page, for the task that ran last.
fn note_blocked(world: &mut World, tid: Tid, id: SpaceId, blocked: u64) -> Result<()> {
    let before = std::mem::replace(&mut world.space_mut(id).library.blocked, blocked);
    if blocked != before {
        world.task_mut(tid)?.signals.blocked = Some(blocked & layout::FORCED);
    }
    Ok(())
}

/// Same as [`note_blocked`], in the middle of an interval.
pub(crate) fn ask_blocked(world: &mut World, tid: Tid) -> Result<()> {
    let task = world.task(tid)?;
    let id = task.space;
    if world.spaces.get(&id).is_some_and(|s| s.library.installed) {
        let blocked = task.memory.read_u64(field!(blocked))?;
        note_blocked(world, tid, id, blocked)?;
    }
    Ok(())
}

/// Takes records out of the tracee's own memory, from `start` on.
fn read_records(session: &mut RecordSession, tid: Tid, id: SpaceId, start: u64) -> Result<()> {
    let (mut words, mut first) = ([0; HEAD], [0; AT_ONCE]);
    let begin = Addr(layout::RECORDS + start);
    let memory = &session.world.task(tid)?.memory;
    let read = memory.read_both(field!(due), &mut words, begin, &mut first)?;
    let used = note_head(session, tid, id, &words)?;
    let memory = &session.world.task(tid)?.memory;
    // The program may have overwritten the word.
    let len = used.min(layout::RECORDS_BYTES).saturating_sub(start) as usize;
    if len == 0 {
        return Ok(());
    }
    let records = match first[..read].get(..len) {
        Some(all) => all.to_vec(),
        None => memory.read_vec(begin, len)?,
    };
    let library = &mut session.world.space_mut(id).library;
    library.taken = used;
    if len >= LARGE {
        library.large += len as u64;
    }
    if used >= BEGIN_ANEW {
        begin_anew(&mut session.world, tid, id)?;
    }
    follow_changes(&mut session.world, tid, id, &records)?;
    session.world.task_mut(tid)?.interval.buffered.push(records);
    Ok(())
}

/// Makes the library of an address space write its next records to the beginning of its place.
pub(crate) fn begin_anew(world: &mut World, tid: Tid, id: SpaceId) -> Result<()> {
    let library = &mut world.space_mut(id).library;
    library.taken = 0;
    let place = library.place.address();
    tell_place(&world.task(tid)?.memory, place)
}

/// Discards the library's records of a task that was killed in the middle of an interval.
/// `survivor` has the same memory.
pub(crate) fn forget_records(world: &mut World, survivor: Tid) -> Result<()> {
    let task = world.task(survivor)?;
    let id = task.space;
    if world.spaces.get(&id).is_some_and(|s| s.library.installed) {
        task.memory
            .write(field!(site), &layout::site::CALL.to_le_bytes())?;
        // The mask belonged to the dead task.
        let blocked = task.memory.read_u64(field!(blocked))?;
        world.space_mut(id).library.blocked = blocked;
        begin_anew(world, survivor, id)?;
    }
    Ok(())
}

/// Applies the changes that buffered calls have made to an address space.
pub(crate) fn follow_changes(world: &mut World, tid: Tid, id: SpaceId, taken: &[u8]) -> Result<()> {
    let Some(space) = world.spaces.get_mut(&id) else {
        return Ok(());
    };
    for record in records::iter(taken).filter(shaping::is_shaping) {
        let Ok(change) = shaping::change(&record) else {
            let what = format!("its record of {} is impossible", syscalls::name(record.number));
            return Err(Error::Unexpected { tid, what });
        };
        let searched = &mut world.mapped.searched;
        note_native(&space.library.sites, searched, change.as_slice(), false);
        if record.number == libc::SYS_brk {
            space.brk = record.result as u64;
        }
        if let Some(op) = change {
            // The library leaves calls near rewritten code to us (`Control::guarded`).
            if !space.apply(&op).is_empty() {
                let what = format!("its {} has changed rewritten code", syscalls::name(record.number));
                return Err(Error::Unexpected { tid, what });
            }
            world.objects.follow(&[op], &space.model);
        }
    }
    Ok(())
}

/// A task is stuck in the library: by a fault there, or by a call that waits. Lets it out: the call
/// becomes a traced one.
pub(crate) fn abort_buffered_call(mut stopped: Stopped) -> Result<Next> {
    let regs = Registers {
        rip: layout::BAIL,
        orig_rax: NOT_IN_SYSCALL,
        ..stopped.regs()?
    };
    stopped.set_regs(&regs)?;
    let running = stopped.resume(Resume::Cont, None)?;
    Ok(Next::Wait(running, Until::Stop))
}

/// Before a task continues: gives its address space a ring if it has recorded much.
pub(crate) fn give_ring(world: &mut World, tid: Tid, stopped: Stopped) -> Result<Stopped> {
    let task = world.task(tid)?;
    let (id, tgid) = (task.space, task.tgid);
    let library = world.spaces.get(&id).map(|s| &s.library);
    let wanted = library.is_some_and(|l| l.large >= MUCH && matches!(l.place, Place::Own));
    if !wanted || task.is_mid_interval() || !may_call(&stopped)? {
        return Ok(stopped);
    }
    // The ring counts against limits, and the program must not notice that.
    let limited = world.must_trace.file_sizes_limited
        || limits::soft(tgid, libc::RLIMIT_AS) != Some(libc::RLIM_INFINITY);
    let (stopped, ring) = if limited {
        (stopped, None)
    } else {
        make(Remote::new(stopped, tgid)?)?
    };
    let slot = ring.and_then(|ring| Arc::new(ring).take());
    let library = &mut world.space_mut(id).library;
    let Some(slot) = slot else {
        library.place = Place::OwnForEver;
        return Ok(stopped);
    };
    library.place = Place::Ring(slot);
    begin_anew(world, tid, id)?;
    Ok(stopped)
}

/// At the end of an interval, in an address space with a ring: takes the records in this part of
/// its slot.
pub(crate) fn take_from_ring(
    world: &mut World,
    tid: Tid,
    id: SpaceId,
    slot: &Arc<Slot>,
    range: Range<u64>,
) -> Result<()> {
    // The program may have overwritten the length.
    let used = range.end.min(layout::RECORDS_BYTES);
    let range = range.start as usize..used as usize;
    if range.is_empty() {
        return Ok(());
    }
    slot.view(&range, |records| follow_changes(world, tid, id, records))?;
    let large = range.len() >= LARGE;
    let next = large.then(|| slot.ring.take()).flatten();
    let taken = &mut world.task_mut(tid)?.interval.buffered;
    match &next {
        Some(_) => taken.lend(DeferredRecords {
            slot: Arc::clone(slot),
            range,
        }),
        None => taken.push(slot.copy(&range)),
    }
    let library = &mut world.space_mut(id).library;
    library.taken = used;
    let moved = next.is_some();
    if let Some(next) = next {
        library.place = Place::Ring(next);
    }
    if moved || used >= BEGIN_ANEW {
        begin_anew(world, tid, id)?;
    }
    Ok(())
}

/// Makes a ring in the address space of a stopped task. `None` if the kernel refuses a step: then
/// nothing is left of the ring.
fn make(remote: Remote) -> Result<(Stopped, Option<Ring>)> {
    let (mut remote, file) = remote.memfd(c"rr records")?;
    let Some((fd, file)) = file else {
        return Ok((remote.finish()?, None));
    };
    let mut ring = Ring::map(&file).ok();
    if ring.is_some() {
        let (at, bytes) = (rr_area::RING.0, layout::RING_BYTES);
        let flags = (libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE) as u64;
        let args = [at, bytes, u64::from(Prot::RW.0), flags, fd.0 as u64, 0];
        let there;
        (remote, there) = remote.call(libc::SYS_mmap, args)?;
        let mut kept = -1;
        if there >= 0 {
            let args = [at, bytes, libc::MADV_DONTFORK as u64, 0, 0, 0];
            (remote, kept) = remote.call(libc::SYS_madvise, args)?;
        }
        if kept != 0 {
            ring = None;
            if there >= 0 {
                remote = remote.call(libc::SYS_munmap, [at, bytes, 0, 0, 0, 0])?.0;
            }
        }
    }
    Ok((remote.close(fd)?.finish()?, ring))
}
