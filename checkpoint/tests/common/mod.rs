//! Real processes to take checkpoints of: regions of this process, and forks of it that never run.
#![allow(dead_code)] // every test file uses its own part
#![allow(clippy::unwrap_used)] // in functions of tests, too

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rr_checkpoint::{
    CaptureRequest, Changes, Checkpoint, CheckpointStats, CheckpointWriter, ObjectSource, Options,
    PageTarget, SessionImage, SharedSource, SpaceImage, SpaceSource, Unchanged,
};
use rr_trace::event::EventNumber;
use rr_tracee::ids::PAGE;
use rr_tracee::pagemap::Pagemap;
use rr_tracee::{Addr, AddrRange, AddressSpace, Backing, ForkPolicy, Mapping, Prot, SpaceId, Tid};

pub const UUID: [u8; 16] = *b"the test's trace";
pub const SPACE: SpaceId = SpaceId(1);
pub const TARGET: PageTarget = PageTarget::Space(SPACE);

/// A private mapping of this process, unmapped at the end.
pub struct Region(pub AddrRange);

impl Region {
    pub fn new(pages: u64, fd: i32) -> Region {
        let anonymous = if fd < 0 { libc::MAP_ANONYMOUS } else { 0 };
        let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE | anonymous;
        let len = (pages * PAGE) as usize;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let p = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                fd,
                0,
            )
        };
        assert_ne!(p, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        // SAFETY: a mapping of our own.
        unsafe { libc::madvise(p, len, libc::MADV_NOHUGEPAGE) };
        Region(AddrRange::sized(Addr(p as u64), pages * PAGE))
    }

    pub fn anonymous(pages: u64) -> Region {
        Self::new(pages, -1)
    }

    /// Maps other memory in its place.
    pub fn renew(&mut self) {
        let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let (len, prot) = (self.0.len() as usize, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: in the place of our own mapping, to which there are no references.
        let p = unsafe { libc::mmap(self.0.start.0 as *mut _, len, prot, flags, -1, 0) };
        assert_eq!(p as u64, self.0.start.0, "{}", std::io::Error::last_os_error());
        self.advise(0, self.0.len() / PAGE, libc::MADV_NOHUGEPAGE);
    }

    pub fn page(&self, n: u64) -> Addr {
        self.0.start + n * PAGE
    }

    /// Writes a whole page.
    pub fn write(&mut self, page: u64, bytes: &[u8]) {
        assert_eq!(bytes.len(), PAGE as usize);
        // SAFETY: inside the mapping, which is writable and used by this test only.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.page(page).0 as *mut u8, bytes.len()) };
    }

    pub fn touch(&self, page: u64) -> u8 {
        // SAFETY: inside the mapping, which is readable.
        unsafe { std::ptr::read_volatile(self.page(page).0 as *const u8) }
    }

    pub fn protect(&self, page: u64, pages: u64, prot: i32) {
        // SAFETY: pages of our own mapping.
        let r = unsafe { libc::mprotect(self.page(page).0 as *mut _, (pages * PAGE) as usize, prot) };
        assert_eq!(r, 0);
    }

    pub fn advise(&self, page: u64, pages: u64, advice: i32) {
        // SAFETY: pages of our own mapping, used by this test only.
        let r = unsafe { libc::madvise(self.page(page).0 as *mut _, (pages * PAGE) as usize, advice) };
        assert_eq!(r, 0, "{}", std::io::Error::last_os_error());
    }

    pub fn mapping(&self, backing: Backing) -> Mapping {
        Mapping {
            range: self.0,
            prot: Prot::RW,
            backing,
            fork: ForkPolicy::Copy,
            name: "region".into(),
        }
    }

    pub fn space(&self) -> AddressSpace {
        AddressSpace::from_mappings([self.mapping(Backing::Anonymous)])
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: our own mapping, used by nobody else.
        unsafe { libc::munmap(self.0.start.0 as *mut _, self.0.len() as usize) };
    }
}

/// A fork of this process that does nothing, for two minutes at most. Killed and reaped at the end.
pub struct Child(pub Tid);

impl Child {
    pub fn fork() -> Child {
        // SAFETY: the child calls async-signal-safe functions only.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            // SAFETY: as above; never returns.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::alarm(120);
                loop {
                    libc::pause();
                }
            }
        }
        Child(Tid(pid))
    }

    pub fn kill(&self) {
        // SAFETY: our own child, not reaped before `self` is dropped.
        unsafe { libc::kill(self.0.0, libc::SIGKILL) };
    }

    /// Waits until it is dead; whether it died within five seconds.
    pub fn is_killed(&self) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            // SAFETY: our own child; the kernel fills in `info`, which was zeroed.
            let pid = unsafe {
                assert_eq!(
                    libc::waitid(libc::P_PID, self.0.0 as u32, info.as_mut_ptr(), flags),
                    0
                );
                info.assume_init().si_pid()
            };
            if pid != 0 {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        // SAFETY: our own child.
        unsafe { libc::waitpid(self.0.0, std::ptr::null_mut(), 0) };
    }
}

pub fn image(event: u64, space: AddressSpace) -> SessionImage {
    let spaces = vec![SpaceImage { id: SPACE, space }];
    SessionImage {
        event: EventNumber(event),
        time_ns: event * 1000,
        spaces,
        tasks: vec![],
        objects: vec![],
    }
}

pub fn request(event: u64, space: AddressSpace, source: SharedSource) -> CaptureRequest {
    request_with(event, space, source, vec![])
}

pub fn request_with(
    event: u64,
    space: AddressSpace,
    source: SharedSource,
    objects: Vec<ObjectSource>,
) -> CaptureRequest {
    let spaces = vec![SpaceSource {
        space: SPACE,
        source,
        extra: vec![],
        changes: Changes::Unknown,
    }];
    CaptureRequest {
        image: image(event, space),
        spaces,
        objects,
        pause_us: 77,
    }
}

pub fn writer(dir: &Path) -> CheckpointWriter {
    CheckpointWriter::start(dir.to_path_buf(), UUID, Options::default()).unwrap()
}

/// Outcomes one by one.
#[derive(Default)]
pub struct Outcomes(std::collections::VecDeque<rr_checkpoint::Outcome>);

impl Outcomes {
    /// Waits for the next one.
    pub fn next(&mut self, writer: &mut CheckpointWriter) -> rr_checkpoint::Outcome {
        let start = Instant::now();
        loop {
            self.0.extend(writer.poll_done());
            if let Some(outcome) = self.0.pop_front() {
                return outcome;
            }
            let waited = start.elapsed();
            assert!(waited < Duration::from_secs(60), "the writer does not answer");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Waits for the outcome of one capture.
pub fn wait(writer: &mut CheckpointWriter) -> rr_checkpoint::Outcome {
    let start = Instant::now();
    loop {
        if let Some(outcome) = writer.poll_done().pop() {
            return outcome;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "the writer does not answer"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Takes a checkpoint of a fork of this process and waits for it.
pub fn take(writer: &mut CheckpointWriter, event: u64, space: AddressSpace) -> CheckpointStats {
    let child = Child::fork();
    assert!(writer.submit(request(event, space, SharedSource::frozen(child.0))));
    let outcome = wait(writer);
    assert_eq!(outcome.event, EventNumber(event));
    assert!(child.is_killed());
    outcome.result.unwrap()
}

/// A region of which what has changed since the last checkpoint is found out by its kept fork. Only its own forks have it, or
/// such of other tests that are made in the same moment.
pub struct Kept {
    pub region: Region,
    last: Option<(u64, SharedSource, Child)>,
}

impl Kept {
    pub fn new(region: Region) -> Kept {
        region.advise(0, region.0.len() / PAGE, libc::MADV_DONTFORK);
        Kept { region, last: None }
    }

    /// The knowledge of pages that are unchanged since the last checkpoint.
    pub fn changes(&self) -> Changes {
        match &self.last {
            Some((event, source, _)) if source.is_kept() => Changes::Since {
                event: EventNumber(*event),
                unchanged: Unchanged::Pages(
                    Pagemap::open(Tid(std::process::id() as i32))
                        .unwrap()
                        .shared(self.region.0)
                        .unwrap(),
                ),
            },
            _ => Changes::Unknown,
        }
    }

    /// Submits a checkpoint.
    pub fn submit(&mut self, writer: &mut CheckpointWriter, event: u64) {
        let changes = self.changes();
        let pages = self.region.0.len() / PAGE;
        self.region.advise(0, pages, libc::MADV_DOFORK);
        let child = Child::fork();
        self.region.advise(0, pages, libc::MADV_DONTFORK);
        let source = SharedSource::frozen(child.0);
        source.keep();
        let mut request = request(event, self.region.space(), source.clone());
        request.spaces[0].changes = changes;
        assert!(writer.submit(request));
        if let Some((_, before, child)) = self.last.replace((event, source, child)) {
            before.release();
            assert!(!before.is_kept());
            drop(child);
        }
    }

    /// Takes a checkpoint and waits for it.
    pub fn take(&mut self, writer: &mut CheckpointWriter, event: u64) -> CheckpointStats {
        self.submit(writer, event);
        let outcome = wait(writer);
        assert_eq!(outcome.event, EventNumber(event));
        outcome.result.unwrap()
    }
}

pub fn open(dir: &Path, event: u64) -> Checkpoint {
    Checkpoint::open_at(dir, EventNumber(event), &UUID).unwrap()
}

/// All pages that a checkpoint gives back, by address.
pub fn pages(checkpoint: &Checkpoint, target: PageTarget) -> rr_checkpoint::Result<BTreeMap<u64, Vec<u8>>> {
    let pages = Mutex::new(BTreeMap::new());
    checkpoint.restore_pages(target, |addr, bytes| {
        for (i, page) in bytes.chunks(PAGE as usize).enumerate() {
            let before = pages
                .lock()
                .unwrap()
                .insert(addr.0 + i as u64 * PAGE, page.to_vec());
            assert_eq!(before, None, "page given twice");
        }
        Ok::<(), std::io::Error>(())
    })?;
    Ok(pages.into_inner().unwrap())
}

/// A page of bytes, different for every `seed`: text-like for even ones, noise for odd ones.
pub fn content(seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut page: Vec<u8> = (0..PAGE as usize)
        .map(|i| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            if seed % 2 == 1 {
                x as u8
            } else {
                b'a' + ((i as u64 / 97 + seed) % 23) as u8
            }
        })
        .collect();
    page[100..108].copy_from_slice(&seed.to_le_bytes());
    page
}
