//! Finds the pages of a process that hold data of its own.
//!
//! A checkpoint stores only pages that a mapping's backing cannot give back. The kernel tells for every
//! page of another process if it exists, and if it still belongs to the page cache. So a mapping of a
//! terabyte with ten touched pages costs ten pages, and an untouched library costs nothing.
//!
//! There are two methods. The better one is chosen once per rr process ([`method`]) and named in the
//! statistics:
//!
//! * [`Method::Scan`]: the `PAGEMAP_SCAN` ioctl (Linux 6.7,
//!   Documentation/admin-guide/mm/pagemap.rst). It skips what has no page
//!   tables, and tells the shared zero page from pages with data.
//! * [`Method::Table`]: reading `/proc/PID/pagemap` (proc_pid_pagemap(5)), eight
//!   bytes for every page of the range whether it is there or not.
//!
//! Neither needs more privileges than the right to trace the process (page frame numbers would, and are
//! not used). Neither uses the soft-dirty bits.
//!
//! A list is complete only if the process was alive at the end. A process that died has no pages, so
//! every call ends with a test for that.
//!
//! [`shared`] finds the pages that are unchanged since a fork.

pub mod shared;

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::ids::{Addr, AddrRange, PAGE, Tid, USER_END};
use crate::memory::Memory;

/// Kind of data in an existing page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageKind {
    /// Memory of the process itself (anonymous, copied on write, or either of these in swap): its contents
    /// must be read.
    Private,
    /// The page cache's page of a file or of shared memory: the process has not written to it privately.
    File,
}

/// Method of asking the kernel about pages.
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
const TASK_SIZES: [u64; 2] = [0x00ff_ffff_ffff_f000, USER_END];

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
/// A guard page (`MADV_GUARD_INSTALL`): it has no memory, and an access faults. Since Linux 6.15.
const PAGE_IS_GUARD: u64 = 1 << 8;

/// Maximum number of regions that one ioctl returns.
const REGIONS: usize = 512;

/// Bits of an entry of `/proc/PID/pagemap`.
const TABLE_PRESENT: u64 = 1 << 63;
const TABLE_SWAPPED: u64 = 1 << 62;
const TABLE_FILE: u64 = 1 << 61;
const TABLE_GUARD: u64 = 1 << 58;

/// Number of entries that are read at once (512 KiB, 256 MiB of address space).
const ENTRIES: usize = 65536;

/// Abilities of the running kernel.
#[derive(Clone, Copy)]
struct Ability {
    method: Method,
    /// The categories that `PAGEMAP_SCAN` may be asked to return.
    return_mask: u64,
}

/// The method that works on this kernel. It is determined once.
pub fn method() -> Method {
    ability().method
}

fn ability() -> Ability {
    static ABILITY: OnceLock<Ability> = OnceLock::new();
    *ABILITY.get_or_init(|| {
        // Tests on a page of our own that certainly holds data, because a sandbox may accept an ioctl
        // without carrying it out.
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

/// The existing pages in `range` of the process that `tid` belongs to, in order. Neighbours of the same
/// kind form one run. Missing pages, guard pages and (where the kernel tells) the shared zero page are
/// not listed.
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

    /// Same as [`Pagemap::open`] with a given method (for measuring and tests).
    pub fn open_with(tid: Tid, method: Method) -> Result<Pagemap> {
        let file = match File::open(format!("/proc/{tid}/pagemap")) {
            Ok(file) => file,
            Err(e) => {
                // A dead process that is not reaped yet has files that belong to root: "permission
                // denied".
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

    /// Does one bounded piece of work: appends runs from the beginning of `range` to `runs` and returns
    /// the address up to which they are complete. A caller that holds a lock can release it between two
    /// steps.
    pub fn step(&self, range: AddrRange, runs: &mut Vec<Run>) -> Result<Addr> {
        self.step_with(range, ability().return_mask, runs)
    }

    /// Same as [`Pagemap::step`] for a range in which all pages are [`PageKind::Private`], or are to be
    /// treated as such. Four times as fast where the kernel need not look at the pages themselves (11
    /// ns instead of 43 for each).
    pub fn step_anonymous(&self, range: AddrRange, runs: &mut Vec<Run>) -> Result<Addr> {
        self.step_with(range, ability().return_mask & !PAGE_IS_FILE, runs)
    }

    /// The parts of `range` in which a page is missing or is the shared zero page. Needs
    /// [`Method::Scan`]. Costs 2 ns for each page that exists.
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
            // The range is beyond the end of what a process can map, or the process is gone (the caller
            // tests that).
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

/// Fails with [`Error::Died`] if the process of `tid` has no memory any more. Both methods show such a
/// process as one without pages, so their answer counts only if the process still has its memory
/// afterwards.
pub fn check_alive(tid: Tid) -> Result<()> {
    // Nothing can be mapped at address 0, so this reads nothing. But the kernel checks for `ESRCH`
    // first.
    Memory::of(tid).read_some(Addr::NULL, &mut [0]).map(|_| ())
}

/// Kind of pages that a `PAGEMAP_SCAN` finds.
#[derive(Clone, Copy)]
enum Asked {
    /// Existing pages. The mask selects the categories to report.
    Populated(u64),
    /// Places where a page is missing or is the shared zero page.
    Hollow,
}

/// Appends the runs that one `PAGEMAP_SCAN` finds. Returns the address up to which it came.
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

/// Makes one `PAGEMAP_SCAN` and passes its regions to `found`. Returns the address up to which it came.
fn scan(
    file: &File,
    tid: Tid,
    range: AddrRange,
    asked: Asked,
    found: &mut dyn FnMut(&Region),
) -> Result<Addr> {
    // The second case inverts "present".
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
                // The range reaches beyond the end of what a process can map. Nothing can be found
                // there.
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
        // No progress and no error: a signal interrupted the walk before its first page. Try again.
    }
}

/// Appends a run, or extends the last one if the run continues it.
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
