//! Which pages of a process hold data of its own.
//!
//! A checkpoint stores what a mapping's backing cannot give back. The kernel
//! says for every page of another process whether there is one at all, and
//! whether it is still the page cache's: so a mapping of a terabyte with ten
//! touched pages costs ten pages, and an untouched library costs nothing.
//!
//! Two ways lead there, the better one is chosen once per process of ours
//! ([`method`]) and named in the statistics:
//!
//! * [`Method::Scan`]: the `PAGEMAP_SCAN` ioctl (Linux 6.7,
//!   Documentation/admin-guide/mm/pagemap.rst). It skips what has no page
//!   tables, and tells the shared zero page from pages with data.
//! * [`Method::Table`]: reading `/proc/PID/pagemap` (proc_pid_pagemap(5)), eight
//!   bytes for every page of the range whether it is there or not.
//!
//! Neither needs privileges beyond the right to trace the process (the page
//! frame numbers, which do, are not used). Neither uses the soft-dirty bits.
//!
//! What is listed is complete when the process was alive at the end: a process
//! that died has no pages, so every call ends with a test for that.
//!
//! Which of the pages are as they were at a fork, [`shared`] tells.

pub mod shared;

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::ids::{Addr, AddrRange, PAGE, Tid};
use crate::memory::Memory;

/// What a page that is there holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageKind {
    /// Memory of the process itself (anonymous, copied on write, or either of these in swap): its content
    /// is known only from reading it.
    Private,
    /// The page cache's page of a file or of shared memory: the process has not written to it privately.
    File,
}

/// How the kernel is asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Method {
    /// The `PAGEMAP_SCAN` ioctl.
    Scan,
    /// Reading the table `/proc/PID/pagemap`.
    Table,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Scan => "pagemap_scan",
            Method::Table => "pagemap",
        })
    }
}

/// A run of pages of one kind.
pub type Run = (AddrRange, PageKind);

/// One past the last address that a process can map (x86-64 with four or five levels of page tables; the
/// kernel refuses ranges beyond its own limit, which is one of these).
const TASK_SIZES: [u64; 2] = [0x00ff_ffff_ffff_f000, 0x0000_7fff_ffff_f000];

/// `struct pm_scan_arg` (`<linux/fs.h>`).
#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` (`<linux/fs.h>`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;
/// A guard page (`MADV_GUARD_INSTALL`): no memory; an access faults. Known to Linux 6.15.
const PAGE_IS_GUARD: u64 = 1 << 8;

/// Regions that one ioctl can return.
const REGIONS: usize = 512;

/// Bits of an entry of `/proc/PID/pagemap`.
const TABLE_PRESENT: u64 = 1 << 63;
const TABLE_SWAPPED: u64 = 1 << 62;
const TABLE_FILE: u64 = 1 << 61;
const TABLE_GUARD: u64 = 1 << 58;

/// Entries that are read at once (512 KiB, 256 MiB of address space).
const ENTRIES: usize = 65536;

/// What the running kernel offers.
#[derive(Clone, Copy)]
struct Ability {
    method: Method,
    /// The categories that `PAGEMAP_SCAN` may be asked to return.
    return_mask: u64,
}

/// How this kernel is asked; found out once.
pub fn method() -> Method {
    ability().method
}

fn ability() -> Ability {
    static ABILITY: OnceLock<Ability> = OnceLock::new();
    *ABILITY.get_or_init(|| {
        // Tried out on a page of our own that certainly holds data, because a sandbox may accept an
        // ioctl that it does not carry out.
        let page = vec![1u8; 2 * PAGE as usize];
        let own = AddrRange::sized(Addr(page.as_ptr() as u64).page_ceil(), PAGE);
        let basic = PAGE_IS_FILE | PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO;
        let works = |return_mask: u64| {
            let tid = Tid(std::process::id() as i32);
            let mut runs = Vec::new();
            File::open("/proc/self/pagemap").is_ok_and(|file| {
                scan_populated(&file, tid, own, return_mask, &mut runs).is_ok()
                    && runs == [(own, PageKind::Private)]
            })
        };
        let found = [basic | PAGE_IS_GUARD, basic]
            .into_iter()
            .find(|&mask| works(mask));
        drop(page);
        match found {
            Some(return_mask) => Ability {
                method: Method::Scan,
                return_mask,
            },
            None => Ability {
                method: Method::Table,
                return_mask: 0,
            },
        }
    })
}

/// The pages of the process that `tid` belongs to which are there, in `range`: in order, neighbours of
/// the same kind in one run. Absent pages, guard pages and (where the kernel tells) pages that are the
/// shared zero page are not listed.
///
/// Fails with [`Error::Died`] if the process is gone.
pub fn populated(tid: Tid, range: AddrRange) -> Result<Vec<Run>> {
    Pagemap::open(tid)?.populated(range)
}

/// The page map of a process, opened once for many ranges.
#[derive(Debug)]
pub struct Pagemap {
    tid: Tid,
    file: File,
    method: Method,
}

impl Pagemap {
    /// The page map of the process that `tid` belongs to.
    pub fn open(tid: Tid) -> Result<Pagemap> {
        Self::open_with(tid, method())
    }

    /// The same with a given method (for measuring and tests).
    pub fn open_with(tid: Tid, method: Method) -> Result<Pagemap> {
        let file = match File::open(format!("/proc/{tid}/pagemap")) {
            Ok(file) => file,
            Err(e) => {
                // The file of a dead process that is not reaped yet belongs to root: "permission denied".
                check_alive(tid)?;
                return Err(Error::kernel(tid, "opening pagemap", errno(&e)));
            }
        };
        Ok(Pagemap { tid, file, method })
    }

    /// See [`populated`].
    pub fn populated(&self, range: AddrRange) -> Result<Vec<Run>> {
        let mut runs = Vec::new();
        let mut at = range.start;
        while at < range.end {
            at = self.step(AddrRange::new(at, range.end), &mut runs)?;
        }
        Ok(runs)
    }

    /// One bounded piece of work: appends runs from the beginning of `range` to `runs` and says up to
    /// which address they are complete. A caller that holds a lock can give it up between two steps.
    pub fn step(&self, range: AddrRange, runs: &mut Vec<Run>) -> Result<Addr> {
        self.step_with(range, ability().return_mask, runs)
    }

    /// The same for a range in which all pages are [`PageKind::Private`], or are to be taken for such. Four times as fast where
    /// the kernel need not look at the pages themselves (11 ns instead of 43 for each).
    pub fn step_anonymous(&self, range: AddrRange, runs: &mut Vec<Run>) -> Result<Addr> {
        self.step_with(range, ability().return_mask & !PAGE_IS_FILE, runs)
    }

    /// The parts of `range` in which a page is not there, or is the shared zero page. With [`Method::Scan`] only. Costs 2 ns for each page
    /// that is there.
    pub fn hollow(&self, range: AddrRange) -> Result<Vec<AddrRange>> {
        let range = range.to_pages();
        let mut hollow: Vec<AddrRange> = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let left = AddrRange::new(at, range.end);
            at = scan(&self.file, self.tid, left, Asked::Hollow, &mut |region| {
                let part = AddrRange::new(Addr(region.start), Addr(region.end));
                match hollow.last_mut() {
                    Some(last) if last.end == part.start => last.end = part.end,
                    _ => hollow.push(part),
                }
            })?;
        }
        check_alive(self.tid)?;
        Ok(hollow)
    }

    fn step_with(&self, range: AddrRange, return_mask: u64, runs: &mut Vec<Run>) -> Result<Addr> {
        let range = range.to_pages();
        if range.is_empty() {
            return Ok(range.end);
        }
        let done = match self.method {
            Method::Scan => scan_populated(&self.file, self.tid, range, return_mask, runs)?,
            Method::Table => self.table(range, runs)?,
        };
        check_alive(self.tid)?;
        Ok(done)
    }

    fn table(&self, range: AddrRange, runs: &mut Vec<Run>) -> Result<Addr> {
        let pages = (range.len() / PAGE).min(ENTRIES as u64) as usize;
        let mut bytes = vec![0u8; pages * 8];
        let offset = range.start.0 / PAGE * 8;
        let n = self
            .file
            .read_at(&mut bytes, offset)
            .map_err(|e| Error::kernel(self.tid, "reading pagemap", errno(&e)))?;
        if n < 8 {
            // Beyond the end of what a process can map, or no process any more (the caller tests that).
            return Ok(range.end);
        }
        for (i, entry) in bytes[..n].chunks_exact(8).enumerate() {
            let entry = u64::from_le_bytes([
                entry[0], entry[1], entry[2], entry[3], entry[4], entry[5], entry[6], entry[7],
            ]);
            if entry & (TABLE_PRESENT | TABLE_SWAPPED) == 0 || entry & TABLE_GUARD != 0 {
                continue;
            }
            let kind = if entry & TABLE_FILE != 0 {
                PageKind::File
            } else {
                PageKind::Private
            };
            append(runs, AddrRange::sized(range.start + i as u64 * PAGE, PAGE), kind);
        }
        Ok(range.start + (n / 8) as u64 * PAGE)
    }
}

/// Fails with [`Error::Died`] if the process of `tid` has no memory any more. Both methods show such a process
/// as one without pages, so what they answered counts only if it still has its memory afterwards.
pub fn check_alive(tid: Tid) -> Result<()> {
    // Nothing can be mapped at address 0, so this reads nothing; but ESRCH comes first.
    Memory::of(tid).read_some(Addr::NULL, &mut [0]).map(|_| ())
}

/// What a `PAGEMAP_SCAN` looks for.
#[derive(Clone, Copy)]
enum Asked {
    /// Pages that are there; these categories of them are told.
    Populated(u64),
    /// Places where no page is there, or the shared zero page.
    Hollow,
}

/// Appends the runs that one `PAGEMAP_SCAN` finds; returns the address up to which it came.
fn scan_populated(
    file: &File,
    tid: Tid,
    range: AddrRange,
    return_mask: u64,
    runs: &mut Vec<Run>,
) -> Result<Addr> {
    scan(file, tid, range, Asked::Populated(return_mask), &mut |region| {
        if region.categories & (PAGE_IS_PFNZERO | PAGE_IS_GUARD) != 0 {
            return;
        }
        let kind = if region.categories & PAGE_IS_FILE != 0 {
            PageKind::File
        } else {
            PageKind::Private
        };
        append(runs, AddrRange::new(Addr(region.start), Addr(region.end)), kind);
    })
}

/// One `PAGEMAP_SCAN`, whose regions are given to `found`; returns the address up to which it came.
fn scan(
    file: &File,
    tid: Tid,
    range: AddrRange,
    asked: Asked,
    found: &mut dyn FnMut(&Region),
) -> Result<Addr> {
    // "Present" is asked for the other way round in the second case.
    let (inverted, anyof, returned) = match asked {
        Asked::Populated(returned) => (0, PAGE_IS_PRESENT | PAGE_IS_SWAPPED, returned),
        Asked::Hollow => (
            PAGE_IS_PRESENT,
            PAGE_IS_PRESENT | PAGE_IS_PFNZERO,
            PAGE_IS_PFNZERO,
        ),
    };
    let mut regions = [Region::default(); REGIONS];
    let mut end = range.end.0;
    loop {
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            start: range.start.0,
            end,
            vec: regions.as_mut_ptr() as u64,
            vec_len: REGIONS as u64,
            category_inverted: inverted,
            category_anyof_mask: anyof,
            return_mask: returned,
            ..ScanArg::default()
        };
        // SAFETY: `arg` is a pm_scan_arg whose `vec` points to `vec_len` regions that live as long as the
        // call; the kernel writes to these and to `arg.walk_end` only.
        let n = unsafe { libc::ioctl(file.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        if n < 0 {
            match Errno::last() {
                Errno::EINTR => continue,
                // The range reaches beyond what a process can map, where there is nothing to be found.
                Errno::EFAULT | Errno::EINVAL
                    if let Some(limit) = TASK_SIZES.into_iter().find(|&l| l < end) =>
                {
                    if limit <= range.start.0 {
                        return Ok(range.end);
                    }
                    end = limit;
                    continue;
                }
                errno => return Err(Error::kernel(tid, "PAGEMAP_SCAN", errno)),
            }
        }
        regions.iter().take(n as usize).for_each(&mut *found);
        if arg.walk_end >= end {
            return Ok(range.end);
        }
        if arg.walk_end > range.start.0 {
            return Ok(Addr(arg.walk_end));
        }
        // No progress and no error: the walk was cut short before its first page (a signal). Again.
    }
}

/// Appends a run, as part of the last one if it continues that.
fn append(runs: &mut Vec<Run>, range: AddrRange, kind: PageKind) {
    if let Some((last, last_kind)) = runs.last_mut()
        && last.end == range.start
        && *last_kind == kind
    {
        last.end = range.end;
        return;
    }
    runs.push((range, kind));
}

fn errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests;
