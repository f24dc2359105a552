//! The system call buffer, seen from outside: puts the library into an address space, tells it which
//! calls must be traced, and takes its records out.
//!
//! Records belong to the interval in which they were written. They are taken out at the stop that ends
//! the interval, before another task of the address space runs, and become part of that event. So the
//! library holds nothing when other tasks run, at a checkpoint, or when a process forks.

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use rr_preload::layout::{self, Control, mode, traced};
use rr_preload::records;
use rr_tracee::memory::ReadMemory;
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::task::Resume;
use rr_tracee::{Addr, Memory, Registers, SpaceId, Stopped, Tid, rr_area, shaping, syscalls};

use crate::buffer::ring::{LARGE, Place};
use crate::buffer::sites::Sites;
use crate::error::{Error, Result};
use crate::seccomp::Allowed;
use crate::session::RecordSession;

/// State of the library in one address space.
#[derive(Debug, Default)]
pub(crate) struct Library {
    /// True if the library is mapped.
    pub installed: bool,
    /// The calls that must be traced, as its control page says, and the version of its filter of files.
    told: (u32, u64),
    /// The calls that the library may make.
    allowed: Allowed,
    /// Number of bytes of records that have been taken out. The library writes behind them until it is
    /// told to begin anew.
    pub taken: u64,
    /// Place where the library writes records.
    pub place: Place,
    /// Number of calls that the library has left to us because they may have to wait
    /// ([`Control::left`]).
    left: u64,
    /// Number of calls until the library leaves one to us because a checkpoint is due
    /// ([`Control::due`]).
    due: u64,
    /// The last change of a signal mask that the recorder knows ([`Control::blocked`]).
    blocked: u64,
    /// Number of bytes of records from large intervals, while the library has no ring.
    pub large: u64,
    /// The call sites.
    pub sites: Sites,
}

impl Library {
    /// The library of a fork with this memory. A fork has no ring.
    pub fn forked(&self, memory: &Memory) -> Library {
        let mut taken = self.taken;
        if let Place::Ring(_) = self.place {
            // This fails only if the fork is dead. Then nobody will ask.
            let _ = tell_place(memory, Place::Own.address());
            taken = 0;
        }
        Library {
            installed: self.installed,
            told: self.told,
            allowed: self.allowed,
            taken,
            place: Place::Own,
            left: self.left,
            due: self.due,
            blocked: self.blocked,
            large: 0,
            sites: self.sites.clone(),
        }
    }
}

/// Offset at which the library begins anew, so that there is room for large records.
pub(crate) const BEGIN_ANEW: u64 = 8 << 10;

/// Number of bytes of records that are read together with their length: more than most intervals have.
const AT_ONCE: usize = 1 << 10;

/// The address of a field of the control page.
macro_rules! field {
    ($name:ident) => {
        Addr(layout::CONTROL + offset_of!(Control, $name) as u64)
    };
}

/// Size of the words that are read at the end of an interval: `due`, `left`, `blocked`, `records`,
/// `used`.
const HEAD: usize = offset_of!(Control, used) + 8 - offset_of!(Control, due);

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

/// Tells a library the address for its next records.
fn tell_place(memory: &Memory, place: Addr) -> Result<()> {
    const {
        assert!(offset_of!(Control, used) == offset_of!(Control, records) + 8);
    }
    let words = [place.0.to_le_bytes(), [0; 8]];
    Ok(memory.write(field!(records), words.as_flattened())?)
}

/// Returns whether a task with this instruction pointer is in the library.
pub(crate) fn is_inside(rip: u64) -> bool {
    rr_area::code().contains(Addr(rip))
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

impl RecordSession {
    /// The calls that the library has to leave to us, and the version of the filter of mapped files.
    fn policy(&self) -> (u32, u64) {
        let mut bits = 0;
        if self.memory_files || self.file_sizes_limited {
            bits |= traced::WRITES;
        }
        if self.status_files {
            bits |= traced::PROC_READS;
        }
        if self.mapped.all().next().is_some() {
            bits |= traced::TRUNCATION;
        }
        if self.options.cores.is_some() {
            bits |= traced::CPU_LISTS | traced::GETCPU;
        }
        (bits, self.mapped.filter().version)
    }

    /// Starts the library in an address space. Its code is already mapped (see [`crate::task::exec`]).
    pub(crate) fn install_library(&mut self, tid: Tid, id: SpaceId) -> Result<()> {
        let told = self.policy();
        let due = self.capture.calls_left(self.last_event()).unwrap_or(u64::MAX);
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
            traced: told.0,
            mismatch: 0,
            other_payload: 0,
            site: layout::site::CALL,
            counter: self.counter(),
            stdio: stdio(),
            guarded: Default::default(),
            filter: self.mapped.filter().words,
            busy: 0,
            allowed: Allowed::ALL.words(),
            processor: 0,
        };
        let memory = &self.task(tid)?.memory;
        memory.write(Addr(layout::CONTROL), bytes(&control))?;
        let library = &mut self.space_mut(id).library;
        library.installed = true;
        library.told = told;
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
    pub(crate) fn tell_due(&mut self, tid: Tid) -> Result<()> {
        let Some(due) = self.capture.calls_left(self.last_event()) else {
            return Ok(());
        };
        let task = self.task(tid)?;
        let slack = self.capture.slack();
        let told = self.spaces.get(&task.space).map(|space| &space.library);
        if told.is_some_and(|library| library.installed && library.due.abs_diff(due) > slack) {
            task.memory.write(field!(due), &due.to_le_bytes())?;
            let id = task.space;
            self.space_mut(id).library.due = due;
        }
        Ok(())
    }

    /// Before a task executes user code: tells its library what has changed.
    pub(crate) fn tell_library(&mut self, tid: Tid) -> Result<()> {
        let task = self.task(tid)?;
        let Some(space) = self.spaces.get(&task.space).filter(|s| s.library.installed) else {
            return Ok(());
        };
        let allowed = task.confined.allowed();
        if space.library.allowed != allowed {
            let words = allowed.words().map(u64::to_le_bytes);
            task.memory.write(field!(allowed), words.as_flattened())?;
        }
        let mut now = self.policy();
        let shows_calls = task.tracee.as_ref().is_some_and(|t| t.shows_calls());
        if shows_calls
            || task.confined.is_strict()
            || task.dispatch.is_some()
            || task.is_counter_denied
            || !task.stash.is_empty()
            || self.scheduler.counts_events()
        {
            now.0 |= traced::ALL;
        }
        // A process that shares its parent's memory (vfork) can be killed alone. Then its last interval
        // is not replayed.
        if self.survivor(tid).is_some() {
            now.0 |= traced::SHAPING;
        }
        if self.contention.is_any_starving() {
            now.0 |= traced::WAKES;
        }
        if (space.library.told, space.library.allowed) == (now, allowed) {
            return Ok(());
        }
        if space.library.told.0 != now.0 {
            task.memory.write(field!(traced), &now.0.to_le_bytes())?;
        }
        if space.library.told.1 != now.1 {
            let words = self.mapped.filter().words;
            let words: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            task.memory.write(field!(filter), &words)?;
        }
        let id = task.space;
        let library = &mut self.space_mut(id).library;
        library.allowed = allowed;
        library.told = now;
        Ok(())
    }

    /// Tells the library that sites were rewritten: it must leave to us calls that change the address
    /// space near them.
    pub(crate) fn tell_guarded(&self, tid: Tid, id: SpaceId) -> Result<()> {
        let ranges = self.spaces.get(&id).map(|s| s.library.sites.guarded());
        let words: Vec<u8> = ranges
            .into_iter()
            .flatten()
            .flat_map(|r| [r.start.0, r.end.0])
            .flat_map(u64::to_le_bytes)
            .collect();
        Ok(self.task(tid)?.memory.write(field!(guarded), &words)?)
    }

    /// Something waits for the task's next event: makes its next call a traced one. Returns whether it
    /// would not have been.
    pub(crate) fn hurry(&mut self, tid: Tid) -> Result<bool> {
        let id = self.task(tid)?.space;
        let library = &mut self.space_mut(id).library;
        let is_new = library.installed && library.told.0 & traced::ALL == 0;
        if is_new {
            library.told.0 |= traced::ALL;
            let bits = library.told.0.to_le_bytes();
            self.task(tid)?.memory.write(field!(traced), &bits)?;
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
    /// continues from its next stop ([`RecordSession::tell_library`]), which is the interrupt's stop or
    /// an earlier one.
    pub(crate) fn keep_from_calls(&mut self, tid: Tid) -> Result<bool> {
        let id = self.task(tid)?.space;
        if !self.spaces.get(&id).is_some_and(|s| s.library.installed) {
            return Ok(true);
        }
        let is_told = self.hurry(tid)?;
        fence(Ordering::SeqCst);
        let memory = Memory::of(tid);
        let is_idle = memory.read_u64(field!(busy))? == 0;
        if !is_idle && is_told {
            let told = &mut self.space_mut(id).library.told.0;
            *told &= !traced::ALL;
            memory.write(field!(traced), &told.to_le_bytes())?;
        }
        Ok(is_idle)
    }

    /// At the end of an interval: takes the records of buffered calls out. The library is told again
    /// which calls must be traced before a task executes user code.
    pub(crate) fn take_records(&mut self, tid: Tid) -> Result<()> {
        let task = self.task_mut(tid)?;
        task.left = false;
        let id = task.space;
        let Some(library) = self.spaces.get(&id).map(|s| &s.library).filter(|l| l.installed) else {
            return Ok(());
        };
        let start = library.taken;
        let Place::Ring(slot) = &library.place else {
            return self.read_records(tid, id, start);
        };
        let slot = Arc::clone(slot);
        let mut words = [0; HEAD];
        self.task(tid)?.memory.read(field!(due), &mut words)?;
        let used = self.note_head(tid, id, &words)?;
        self.take_from_ring(tid, id, &slot, start..used)
    }

    /// Reads the counters of the control page at the end of an interval. Returns the number of bytes of
    /// records.
    fn note_head(&mut self, tid: Tid, id: SpaceId, words: &[u8; HEAD]) -> Result<u64> {
        let Head {
            due,
            left,
            blocked,
            used,
        } = Head::of(words);
        self.note_blocked(tid, id, blocked)?;
        let library = &mut self.space_mut(id).library;
        let before = std::mem::replace(&mut library.left, left);
        // If the program has overwritten the word, no calls are counted.
        let calls = std::mem::replace(&mut library.due, due).saturating_sub(due);
        self.capture.count_calls(calls);
        // After leaving a call, the library continues at the call's entry, where the task stops. So the
        // left call is the one that the task now enters. A task that left a call but is stopped before
        // its entry does not count.
        let task = self.task_mut(tid)?;
        task.left = left != before;
        task.calls = calls;
        Ok(used)
    }

    /// Notes a change of the signal mask, from the control page, for the task that ran last.
    fn note_blocked(&mut self, tid: Tid, id: SpaceId, blocked: u64) -> Result<()> {
        let before = std::mem::replace(&mut self.space_mut(id).library.blocked, blocked);
        if blocked != before {
            self.task_mut(tid)?.blocked = Some(blocked & layout::FORCED);
        }
        Ok(())
    }

    /// Same as [`RecordSession::note_blocked`], in the middle of an interval.
    pub(crate) fn ask_blocked(&mut self, tid: Tid) -> Result<()> {
        let task = self.task(tid)?;
        let id = task.space;
        if self.spaces.get(&id).is_some_and(|s| s.library.installed) {
            let blocked = task.memory.read_u64(field!(blocked))?;
            self.note_blocked(tid, id, blocked)?;
        }
        Ok(())
    }

    /// Takes records out of the tracee's own memory, from `start` on.
    fn read_records(&mut self, tid: Tid, id: SpaceId, start: u64) -> Result<()> {
        let (mut words, mut first) = ([0; HEAD], [0; AT_ONCE]);
        let begin = Addr(layout::RECORDS + start);
        let memory = &self.task(tid)?.memory;
        let read = memory.read_both(field!(due), &mut words, begin, &mut first)?;
        let used = self.note_head(tid, id, &words)?;
        let memory = &self.task(tid)?.memory;
        // The program may have overwritten the word.
        let len = used.min(layout::RECORDS_BYTES).saturating_sub(start) as usize;
        if len == 0 {
            return Ok(());
        }
        let records = match first[..read].get(..len) {
            Some(all) => all.to_vec(),
            None => memory.read_vec(begin, len)?,
        };
        let library = &mut self.space_mut(id).library;
        library.taken = used;
        if len >= LARGE {
            library.large += len as u64;
        }
        if used >= BEGIN_ANEW {
            self.begin_anew(tid, id)?;
        }
        self.follow_changes(tid, id, &records)?;
        self.task_mut(tid)?.buffered.push(records);
        Ok(())
    }

    /// Makes the library of an address space write its next records to the beginning of its place.
    pub(crate) fn begin_anew(&mut self, tid: Tid, id: SpaceId) -> Result<()> {
        let library = &mut self.space_mut(id).library;
        library.taken = 0;
        let place = library.place.address();
        tell_place(&self.task(tid)?.memory, place)
    }

    /// Discards the library's records of a task that was killed in the middle of an interval.
    /// `survivor` has the same memory.
    pub(crate) fn forget_records(&mut self, survivor: Tid) -> Result<()> {
        let task = self.task(survivor)?;
        let id = task.space;
        if self.spaces.get(&id).is_some_and(|s| s.library.installed) {
            task.memory
                .write(field!(site), &layout::site::CALL.to_le_bytes())?;
            // The mask belonged to the dead task.
            let blocked = task.memory.read_u64(field!(blocked))?;
            self.space_mut(id).library.blocked = blocked;
            self.begin_anew(survivor, id)?;
        }
        Ok(())
    }

    /// Applies the changes that buffered calls have made to an address space.
    pub(crate) fn follow_changes(&mut self, tid: Tid, id: SpaceId, taken: &[u8]) -> Result<()> {
        let Some(space) = self.spaces.get_mut(&id) else {
            return Ok(());
        };
        for record in records::iter(taken).filter(shaping::is_shaping) {
            let Ok(change) = shaping::change(&record) else {
                let what = format!("its record of {} is impossible", syscalls::name(record.number));
                return Err(Error::Unexpected { tid, what });
            };
            if record.number == libc::SYS_brk {
                space.brk = record.result as u64;
            }
            if let Some(op) = change {
                // The library leaves calls near rewritten code to us (`Control::guarded`).
                if !space.apply(&op).is_empty() {
                    let what = format!("its {} has changed rewritten code", syscalls::name(record.number));
                    return Err(Error::Unexpected { tid, what });
                }
                self.objects.follow(&[op], &space.model);
            }
        }
        Ok(())
    }

    /// A task is stuck in the library: by a fault there, or by a call that waits. Lets it out: the call
    /// becomes a traced one.
    pub(crate) fn bail_out(&mut self, tid: Tid, mut stopped: Stopped) -> Result<()> {
        let regs = Registers {
            rip: layout::BAIL,
            orig_rax: NOT_IN_SYSCALL,
            ..stopped.regs()?
        };
        stopped.set_regs(&regs)?;
        let running = stopped.resume(Resume::Cont, None)?;
        self.await_stop(tid, running)
    }
}
