//! The sources from which the writer reads an address space.
//!
//! Recorder and writer share a [`SharedSource`] per address space of a capture. It begins as
//!
//! * *frozen*: a forked copy that never runs. It belongs to the source, which kills it as soon as its pages
//!   are read or nobody wants them any more (the recorder reaps it), or
//! * *in place*: the live process itself, all of whose tasks are blocked in the kernel, so that its memory
//!   does not change (I3). Before the recorder lets one of them go on it calls
//!   [`SharedSource::replace_with`]: if the pages are not all read yet, a fork made in that moment takes the
//!   place of the live process. Its contents are the same, so what was read before stays valid.
//!
//! The writer reads in small pieces under a lock, and lets the recorder pass between two of them; so the
//! recorder never waits longer than one piece takes (well under a millisecond).
//!
//! A frozen process may be *kept* when it is read: as long as it lives, the program shares with it what it has not written to
//! since, and the next checkpoint need not read that ([`rr_tracee::pagemap::shared`]).
//!
//! A frozen process is held by a pidfd (pidfd_open(2)): killing it can never hit another process that got
//! its number, and at the end of the reading it is known that the number meant this process all the time.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};

use rr_tracee::ids::PAGE;
use rr_tracee::memory::ReadMemory;
use rr_tracee::pagemap::{Pagemap, check_alive};
use rr_tracee::{Addr, Memory, Tid};

/// The pages of an address space, read by the writer and owned by nobody else; clones are the same source.
#[derive(Clone, Debug)]
pub struct SharedSource(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Recorder threads that want the lock; the writer lets them pass.
    waiting: AtomicU32,
    passed: Condvar,
    /// The state is `Kept`, `Done` or `Lost`.
    over: AtomicBool,
    /// A frozen process is not killed when it is read.
    keep: AtomicBool,
}

#[derive(Debug)]
enum State {
    InPlace(Process),
    Frozen(Frozen),
    /// Everything was read, from a process that lives on.
    Kept(#[expect(dead_code, reason = "it is killed when it is dropped")] Frozen),
    /// Everything was read.
    Done,
    /// It cannot be read to the end.
    Lost(String),
}

/// The effect of a [`SharedSource::replace_with`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replaced {
    /// Nothing was to be done: all pages were read, or the checkpoint is given up, or the source was a
    /// frozen one already. No fork was made.
    NotNeeded,
    /// The source is a frozen fork now.
    Forked,
    /// The fork failed: the checkpoint will be dropped.
    Lost,
}

impl SharedSource {
    /// A forked copy that never runs. From now on it will be killed; whoever traces it reaps it.
    pub fn frozen(pid: Tid) -> SharedSource {
        Self::new(State::Frozen(Frozen::new(pid)))
    }

    /// A live process, named by any live task of it, whose memory does not change until
    /// [`SharedSource::replace_with`] is called. A task that dies also "goes on": the kernel writes to the
    /// memory of a dying task after its `PTRACE_EVENT_EXIT` stop, so `replace_with` (with `|| None` if it cannot
    /// be forked) must be called there, at the latest before the task is reaped.
    pub fn in_place(task: Tid) -> SharedSource {
        Self::new(State::InPlace(Process::new(task, false)))
    }

    fn new(state: State) -> SharedSource {
        let (waiting, over) = (AtomicU32::new(0), AtomicBool::new(false));
        SharedSource(Arc::new(Inner {
            state: Mutex::new(state),
            waiting,
            passed: Condvar::new(),
            over,
            keep: AtomicBool::new(false),
        }))
    }

    /// Says if nothing will be read from it any more; then there is no need to call `replace_with`.
    pub fn is_finished(&self) -> bool {
        self.0.over.load(Ordering::Acquire)
    }

    /// Called before a task of a process that is read in place goes on: unless all is read, `fork` makes a
    /// frozen copy of the process and says its pid, or nothing if that failed. `fork` runs with the source
    /// locked: it must not use the source.
    pub fn replace_with(&self, fork: impl FnOnce() -> Option<Tid>) -> Replaced {
        if self.is_finished() {
            return Replaced::NotNeeded;
        }
        self.0.waiting.fetch_add(1, Ordering::AcqRel);
        let mut state = self.lock();
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        let replaced = match *state {
            State::InPlace(_) => match fork() {
                Some(pid) => {
                    let frozen = Frozen::new(pid);
                    if self.0.keep.load(Ordering::Acquire) {
                        frozen.offer();
                    }
                    *state = State::Frozen(frozen);
                    Replaced::Forked
                }
                None => {
                    self.close(
                        &mut state,
                        State::Lost("a blocked process could not be forked in time".into()),
                    );
                    Replaced::Lost
                }
            },
            _ => Replaced::NotNeeded,
        };
        drop(state);
        self.0.passed.notify_all();
        replaced
    }

    /// Lets a frozen process live on when it is read, until [`SharedSource::release`].
    pub fn keep(&self) {
        let state = self.lock();
        self.0.keep.store(true, Ordering::Release);
        if let State::Frozen(frozen) = &*state {
            frozen.offer();
        }
    }

    /// Says if it keeps a frozen process, or will keep one when that is read.
    pub fn is_kept(&self) -> bool {
        match *self.lock() {
            State::Kept(_) => true,
            State::InPlace(_) | State::Frozen(_) => self.0.keep.load(Ordering::Acquire),
            State::Done | State::Lost(_) => false,
        }
    }

    /// A frozen process need not live any longer than it takes to read it.
    pub fn release(&self) {
        let mut state = self.lock();
        self.0.keep.store(false, Ordering::Release);
        if matches!(*state, State::Kept(_)) {
            *state = State::Done;
        }
    }

    /// Gives up what has not been read: a frozen process is killed, the checkpoint (if it still needs this
    /// source) dropped.
    pub fn abandon(&self, why: &str) {
        let mut state = self.lock();
        if matches!(*state, State::InPlace(_) | State::Frozen(_)) {
            self.close(&mut state, State::Lost(why.to_owned()));
        }
    }

    /// Lets the writer read a piece. The error is the reason why the source is lost, which it then is for
    /// good.
    pub(crate) fn read<T>(&self, piece: impl FnOnce(&Process) -> rr_tracee::Result<T>) -> Result<T, String> {
        let mut state = self.lock();
        while self.0.waiting.load(Ordering::Acquire) > 0 {
            state = self
                .0
                .passed
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let result = match &*state {
            State::InPlace(process) => piece(process),
            State::Frozen(frozen) => piece(&frozen.process),
            State::Kept(_) | State::Done => return Err("read after its end".into()),
            State::Lost(why) => return Err(why.clone()),
        };
        result.map_err(|e| {
            let why = e.to_string();
            self.close(&mut state, State::Lost(why.clone()));
            why
        })
    }

    /// Everything was read; a frozen process is killed unless it is to be kept. Says whether the process was read in place to the
    /// end, or why what was read cannot be trusted.
    pub(crate) fn finish(&self) -> Result<bool, String> {
        let mut state = self.lock();
        let (in_place, alive) = match &*state {
            State::InPlace(process) => (true, process.check_alive()),
            State::Frozen(frozen) if frozen.has_exited() => {
                (false, Err(rr_tracee::Error::Died(frozen.process.tid)))
            }
            State::Frozen(frozen) => (false, frozen.process.check_alive()),
            State::Kept(_) | State::Done => return Err("read after its end".into()),
            State::Lost(why) => return Err(why.clone()),
        };
        if let Err(e) = alive {
            let why = format!("{e} while it was read");
            self.close(&mut state, State::Lost(why.clone()));
            return Err(why);
        }
        let last = match std::mem::replace(&mut *state, State::Done) {
            State::Frozen(frozen) if self.0.keep.load(Ordering::Acquire) => State::Kept(frozen),
            _ => State::Done,
        };
        self.close(&mut state, last);
        Ok(in_place)
    }

    /// Says if it is read in place at this moment.
    pub(crate) fn is_in_place(&self) -> bool {
        matches!(*self.lock(), State::InPlace(_))
    }

    /// The anonymous memory of the process, in bytes (proc(5), `statm`); 0 if the process is gone.
    pub fn anonymous_bytes(&self) -> u64 {
        let tid = match &*self.lock() {
            State::InPlace(process) => process.tid,
            State::Frozen(frozen) => frozen.process.tid,
            State::Kept(_) | State::Done | State::Lost(_) => return 0,
        };
        let statm = std::fs::read_to_string(format!("/proc/{tid}/statm")).unwrap_or_default();
        let mut pages = statm.split(' ').skip(1).map_while(|n| n.parse::<u64>().ok());
        let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
        resident.saturating_sub(shared) * PAGE
    }

    fn close(&self, state: &mut State, last: State) {
        *state = last; // drops, and so kills, a frozen process
        self.0.over.store(true, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of a reader leaves the state as it was: still the truth.
        self.0
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A process to read from.
#[derive(Debug)]
pub(crate) struct Process {
    tid: Tid,
    memory: Memory,
    /// It is a fork, and shares most of its pages with the program.
    is_fork: bool,
    pagemap: OnceLock<Pagemap>,
}

impl Process {
    fn new(tid: Tid, is_fork: bool) -> Process {
        Process {
            tid,
            memory: Memory::of(tid),
            is_fork,
            pagemap: OnceLock::new(),
        }
    }

    /// Reads memory, the way that is faster for most of its pages. (512 MiB through the file: 0.23 s, shared or not; with
    /// `process_vm_readv`: 0.12 s if they are not, 0.44 s if they are.) A fork's pages must stay shared, if it is kept.
    pub fn read(&self, addr: Addr, buf: &mut [u8]) -> rr_tracee::Result<()> {
        match self.is_fork {
            true => self.memory.read_shared(addr, buf),
            false => self.memory.read(addr, buf),
        }
    }

    /// A process that dies writes to its memory (`clear_child_tid`, robust futexes: set_tid_address(2)) and
    /// then loses it; as long as it has it, nothing was written.
    fn check_alive(&self) -> rr_tracee::Result<()> {
        check_alive(self.tid)
    }

    pub fn pagemap(&self) -> rr_tracee::Result<&Pagemap> {
        if let Some(pagemap) = self.pagemap.get() {
            return Ok(pagemap);
        }
        let opened = Pagemap::open(self.tid)?;
        Ok(self.pagemap.get_or_init(|| opened))
    }
}

/// A process that never runs, killed when dropped.
#[derive(Debug)]
struct Frozen {
    process: Process,
    /// Nothing where the kernel has no pidfds (before Linux 5.3, some sandboxes) or is out of descriptors.
    pidfd: Option<OwnedFd>,
}

impl Frozen {
    fn new(pid: Tid) -> Frozen {
        // SAFETY: plain numbers; the result is a new descriptor or −1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.0, 0) };
        // SAFETY: a descriptor that nobody else knows.
        let pidfd = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as i32) });
        Frozen {
            process: Process::new(pid, true),
            pidfd,
        }
    }

    /// Lets the kernel take it first when memory runs short (proc(5)): nobody needs it any more once it is read.
    fn offer(&self) {
        // If that is not allowed, the kernel chooses by size.
        let _ = std::fs::write(format!("/proc/{}/oom_score_adj", self.process.tid), "1000");
    }

    /// Says if the process has died; `false` if that cannot be known.
    fn has_exited(&self) -> bool {
        let Some(fd) = &self.pidfd else { return false };
        let mut poll = libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd, alive during the call.
        unsafe { libc::poll(&raw mut poll, 1, 0) != 0 }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // If the process is gone already, this fails, which is no error.
        match &self.pidfd {
            // SAFETY: plain numbers and a null siginfo_t (pidfd_send_signal(2)).
            Some(fd) => unsafe {
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    fd.as_raw_fd(),
                    libc::SIGKILL,
                    std::ptr::null::<libc::siginfo_t>(),
                    0,
                );
            },
            // SAFETY: plain numbers.
            None => unsafe {
                libc::kill(self.process.tid.0, libc::SIGKILL);
            },
        }
    }
}
