use super::*;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::time::{Duration, Instant};

/// A mapping of this process that is unmapped when dropped.
struct Map(AddrRange);

impl Map {
    fn new(len: u64, prot: i32, flags: i32, fd: i32) -> Map {
        // SAFETY: a new mapping at a place that the kernel chooses.
        let p = unsafe { libc::mmap(std::ptr::null_mut(), len as usize, prot, flags, fd, 0) };
        assert_ne!(p, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        // SAFETY: a mapping of our own.
        unsafe { libc::madvise(p, len as usize, libc::MADV_NOHUGEPAGE) };
        Map(AddrRange::sized(Addr(p as u64), len))
    }

    fn anonymous(len: u64) -> Map {
        Map::new(
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
        )
    }

    fn page(&self, n: u64) -> AddrRange {
        AddrRange::sized(self.0.start + n * PAGE, PAGE)
    }

    fn write(&self, page: u64, value: u8) {
        // SAFETY: inside the mapping, which is writable.
        unsafe { std::ptr::write_volatile((self.0.start + page * PAGE).0 as *mut u8, value) }
    }

    fn read(&self, page: u64) -> u8 {
        // SAFETY: inside the mapping, which is readable.
        unsafe { std::ptr::read_volatile((self.0.start + page * PAGE).0 as *const u8) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: our own mapping, used by nobody else.
        unsafe { libc::munmap(self.0.start.0 as *mut _, self.0.len() as usize) };
    }
}

fn methods() -> Vec<Method> {
    if method() == Method::Scan {
        vec![Method::Scan, Method::Table]
    } else {
        vec![Method::Table]
    }
}

fn own() -> Tid {
    Tid(std::process::id() as i32)
}

#[test]
fn anonymous_pages_are_listed_when_written() {
    let map = Map::anonymous(16 * PAGE);
    map.write(1, 7);
    map.write(2, 7);
    map.write(9, 0); // a page of its own, though it holds zeros
    map.read(12); // the shared zero page
    for m in methods() {
        let runs = Pagemap::open_with(own(), m).unwrap().populated(map.0).unwrap();
        let two = AddrRange::new(map.page(1).start, map.page(2).end);
        let mut expected = vec![(two, PageKind::Private), (map.page(9), PageKind::Private)];
        if m == Method::Table {
            expected.push((map.page(12), PageKind::Private));
        }
        assert_eq!(runs, expected, "{m}");
    }
}

#[test]
fn hollow_places_are_found_everywhere() {
    if method() != Method::Scan {
        return;
    }
    // More separate regions than one call returns.
    let pages = 5 * REGIONS as u64;
    let map = Map::anonymous(pages * PAGE);
    // SAFETY: the mapping that was just made.
    unsafe {
        libc::madvise(
            map.0.start.0 as *mut _,
            map.0.len() as usize,
            libc::MADV_NOHUGEPAGE,
        )
    };
    for page in 0..pages {
        match page % 5 {
            0 => drop(map.read(page)), // the zero page
            1 | 3 => map.write(page, 0),
            2 => {}
            _ => drop(map.read(page)),
        }
    }
    // 4 and 0 are neighbours.
    let expected: Vec<AddrRange> = (0..pages)
        .filter(|page| matches!(page % 5, 2 | 4) || *page == 0)
        .map(|page| match (page % 5, page + 1 < pages) {
            (4, true) => AddrRange::new(map.page(page).start, map.page(page + 1).end),
            _ => map.page(page),
        })
        .collect();
    let pagemap = Pagemap::open(own()).unwrap();
    assert_eq!(pagemap.hollow(map.0).unwrap(), expected);
    let all_there = AddrRange::sized(map.page(1).start, PAGE);
    assert_eq!(pagemap.hollow(all_there).unwrap(), []);
}

#[test]
fn file_pages_are_told_from_copied_ones() {
    // SAFETY: a new file descriptor that `file` owns.
    let mut file = unsafe { File::from_raw_fd(libc::memfd_create(c"pagemap test".as_ptr(), 0)) };
    file.write_all(&[3; 4 * PAGE as usize]).unwrap();
    let map = Map::new(
        4 * PAGE,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE,
        file.as_raw_fd(),
    );
    map.write(1, 9);
    assert_eq!(map.read(3), 3);
    for m in methods() {
        let runs = Pagemap::open_with(own(), m).unwrap().populated(map.0).unwrap();
        let private: Vec<_> = runs.iter().filter(|r| r.1 == PageKind::Private).collect();
        assert_eq!(private, [&(map.page(1), PageKind::Private)], "{m}");
        assert!(
            runs.iter()
                .any(|(r, k)| *k == PageKind::File && r.contains(map.page(3).start)),
            "{m}: {runs:?}"
        );
    }
}

#[test]
fn more_regions_than_one_call_returns() {
    let map = Map::anonymous(4000 * PAGE);
    (0..4000).step_by(2).for_each(|p| map.write(p, 1));
    for m in methods() {
        let runs = Pagemap::open_with(own(), m).unwrap().populated(map.0).unwrap();
        assert_eq!(runs.len(), 2000, "{m}");
        assert!(
            runs.iter()
                .enumerate()
                .all(|(i, (r, _))| *r == map.page(2 * i as u64))
        );
    }
}

#[test]
fn guard_pages_hold_nothing() {
    const MADV_GUARD_INSTALL: i32 = 102;
    let map = Map::anonymous(4 * PAGE);
    map.write(0, 1);
    // SAFETY: a page of our own mapping that nobody touches afterwards.
    let r = unsafe { libc::madvise(map.page(1).start.0 as *mut _, PAGE as usize, MADV_GUARD_INSTALL) };
    if r != 0 {
        return; // before Linux 6.13 there are none
    }
    for m in methods() {
        let runs = Pagemap::open_with(own(), m).unwrap().populated(map.0).unwrap();
        assert_eq!(runs, [(map.page(0), PageKind::Private)], "{m}");
    }
}

#[test]
fn a_sparse_terabyte_costs_nothing() {
    if method() != Method::Scan {
        return;
    }
    let map = Map::anonymous(1 << 40);
    map.write(3, 1);
    map.write((1 << 28) - 1, 1);
    let start = Instant::now();
    let runs = populated(own(), map.0).unwrap();
    assert_eq!(runs.len(), 2);
    assert!(
        start.elapsed() < Duration::from_millis(100),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_range_beyond_user_space_is_empty_there() {
    let map = Map::anonymous(PAGE);
    map.write(0, 1);
    for m in methods().into_iter().filter(|m| *m == Method::Scan) {
        let pagemap = Pagemap::open_with(own(), m).unwrap();
        let runs = pagemap
            .populated(AddrRange::new(map.0.start, Addr(!(PAGE - 1))))
            .unwrap();
        assert_eq!(runs.first().map(|r| r.0.start), Some(map.0.start));
        assert_eq!(
            pagemap
                .populated(AddrRange::new(
                    Addr(0xffff_ffff_ff60_0000),
                    Addr(0xffff_ffff_ff60_1000)
                ))
                .unwrap(),
            []
        );
    }
}

#[test]
fn a_dead_process_is_an_error_and_not_an_empty_one() {
    let map = Map::anonymous(PAGE);
    map.write(0, 1);
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let tid = Tid(child.id() as i32);
    let maps: Vec<_> = methods()
        .into_iter()
        .map(|m| Pagemap::open_with(tid, m).unwrap())
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    for pagemap in maps {
        let result = pagemap.populated(AddrRange::sized(Addr(0x5000_0000_0000), 1 << 30));
        assert!(matches!(result, Err(Error::Died(t)) if t == tid), "{result:?}");
    }
    assert!(matches!(Pagemap::open(tid), Err(Error::Died(_))));
}

#[test]
fn a_dead_process_is_told_before_it_is_reaped() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let tid = Tid(child.id() as i32);
    let pagemap = Pagemap::open(tid).unwrap();
    child.kill().unwrap();
    let start = Instant::now();
    while Pagemap::open(tid).is_ok() && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let range = AddrRange::sized(Addr(0x5000_0000_0000), 1 << 30);
    assert!(matches!(pagemap.populated(range), Err(Error::Died(_))));
    assert!(
        matches!(populated(tid, range), Err(Error::Died(_))),
        "{:?}",
        populated(tid, range)
    );
    child.wait().unwrap();
}

/// A fork of this process that does nothing.
struct Fork(i32);

impl Fork {
    fn new() -> Fork {
        // SAFETY: the child calls async-signal-safe functions only.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            // SAFETY: as above; never returns.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::alarm(60);
                loop {
                    libc::pause();
                }
            }
        }
        Fork(pid)
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        // SAFETY: our own child.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// The numbers of the pages of a mapping of this process that are shared.
fn shared(map: &Map) -> Vec<u64> {
    let runs = Pagemap::open(own()).unwrap().shared(map.0).unwrap();
    let numbers = runs
        .iter()
        .flat_map(|r| (r.start - map.0.start) / PAGE..(r.end - map.0.start) / PAGE);
    numbers.collect()
}

/// Excludes the mapping from the forks of this process's other tests.
fn alone(map: &Map, advice: i32) {
    // SAFETY: our own mapping.
    let r = unsafe { libc::madvise(map.0.start.0 as *mut _, map.0.len() as usize, advice) };
    assert_eq!(r, 0);
}

/// Lets one test at a time fork.
static FORKS: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn fork_with(map: &Map) -> Fork {
    alone(map, libc::MADV_DOFORK);
    let fork = Fork::new();
    alone(map, libc::MADV_DONTFORK);
    fork
}

#[test]
fn what_is_shared_is_unchanged_since_the_fork() {
    if !shared::is_known() {
        return;
    }
    let _one = FORKS.lock().unwrap();
    let map = Map::anonymous(16 * PAGE);
    alone(&map, libc::MADV_DONTFORK);
    (0..12).for_each(|p| map.write(p, 1));
    assert_eq!(shared(&map), [0u64; 0]);
    let first = fork_with(&map);
    assert_eq!(shared(&map), Vec::from_iter(0..12));
    map.write(3, 1); // the same value: not known to be the same
    map.write(13, 1);
    let discard = |page: u64| {
        // SAFETY: a page of our own mapping.
        unsafe {
            libc::madvise(
                map.page(page).start.0 as *mut _,
                PAGE as usize,
                libc::MADV_DONTNEED,
            )
        };
    };
    discard(5);
    discard(6);
    map.write(6, 2);
    assert_eq!(map.read(7), 1);
    let unchanged = [0, 1, 2, 4, 7, 8, 9, 10, 11];
    assert_eq!(shared(&map), unchanged);
    // The second fork makes pages look shared, too. Nothing is known of pages 3, 6 and 13, which are
    // shared only since then.
    let second = fork_with(&map);
    assert_eq!(shared(&map), [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 13]);
    drop(first);
    map.write(8, 3);
    assert_eq!(shared(&map), [0, 1, 2, 3, 4, 6, 7, 9, 10, 11, 13]);
    drop(second);
    assert_eq!(shared(&map), [0u64; 0]);
}

/// A write to one page of a huge one leaves the others known.
#[test]
fn huge_pages_are_no_exception() {
    const HUGE: u64 = 2 << 20;
    if !shared::is_known() {
        return;
    }
    let _one = FORKS.lock().unwrap();
    let map = Map::anonymous(3 * HUGE);
    alone(&map, libc::MADV_HUGEPAGE);
    alone(&map, libc::MADV_DONTFORK);
    let pages = 3 * HUGE / PAGE;
    (0..pages).for_each(|p| map.write(p, 1));
    let _fork = fork_with(&map);
    assert_eq!(shared(&map), Vec::from_iter(0..pages));
    let written = [0, 5, 511, 512, 700, pages - 1];
    written.iter().for_each(|&p| map.write(p, 2));
    let unchanged: Vec<u64> = (0..pages).filter(|p| !written.contains(p)).collect();
    assert_eq!(shared(&map), unchanged);
}

#[test]
fn a_reserved_terabyte_is_not_read_entry_by_entry() {
    if !shared::is_known() {
        return;
    }
    let _one = FORKS.lock().unwrap();
    let map = Map::anonymous(1 << 40);
    alone(&map, libc::MADV_DONTFORK);
    let far = (1 << 28) - 3;
    [7, 1 << 20, far].iter().for_each(|&p| map.write(p, 1));
    let _fork = fork_with(&map);
    let begin = Instant::now();
    assert_eq!(shared(&map), [7, 1 << 20, far]);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}
