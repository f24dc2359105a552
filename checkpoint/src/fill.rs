//! Pages out of a checkpoint, by several threads.
//!
//! A thread takes a block, decompresses it into a buffer of its own, and hands all its pages to the caller at once, who writes
//! or compares them. There are as many threads as there are CPUs for them ([`Checkpoint::set_cpus`]), and the calling thread
//! is one of them: on a machine with one CPU nothing is started.
//!
//! Two thirds of the processor time of a restore are the kernel's for making small pages one by one. Filling alone, measured for
//! 1 GB: 0.37 to 0.42 s as it is done here; 0.50 s with `MADV_POPULATE_WRITE` before; 0.12 to 0.17 s with `MADV_COLLAPSE` before (no mark
//! on the mapping, unlike `MADV_HUGEPAGE`), but 1 to 2.3 s, and on one CPU only, in a VM whose host takes free huge pages back: not
//! worth it; 0.20 to 0.23 s with `UFFDIO_COPY`, where a process may use that. If transparent huge pages are on for all
//! memory, the writes here get them.
//!
//! A debugger restores several sessions at the same time, one on each CPU. They help each other no more than the machine has
//! room for: a helper is started only as long as fewer threads of this process restore pages than the caller may use CPUs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rr_tracee::Addr;
use rr_tracee::cpus::{bind_thread, numbers};

use crate::block::PAGE_BYTES;
use crate::error::{BoxedError, Error, Result};
use crate::index::{PageTarget, Run, ZERO_BLOCK};
use crate::restore::{Checkpoint, Room};

/// Pages of a block: where runs of them belong, and what they hold.
pub type Parts<'a> = [(Addr, &'a [u8])];

/// More threads than this get into each other's way in the kernel: all fill the same address space.
const MOST_THREADS: usize = 8;

/// Zero pages that are handed out at once.
static ZEROS: [u8; 16 * PAGE_BYTES] = [0; 16 * PAGE_BYTES];

impl Checkpoint {
    /// Calls `write` with all pages of a target's snapshot: address (for an object: offset) and bytes of runs
    /// of pages, each once, in no particular order, from several threads at once. The first error ends it.
    pub fn restore_pages<E: Into<BoxedError>>(
        &self,
        target: PageTarget,
        write: impl Fn(Addr, &[u8]) -> std::result::Result<(), E> + Sync,
    ) -> Result<()> {
        self.restore_parts(target, |parts| {
            parts.iter().try_for_each(|(addr, bytes)| write(*addr, bytes))
        })
    }

    /// The same, for those who can write several runs of pages at once.
    pub fn restore_parts<E: Into<BoxedError>>(
        &self,
        target: PageTarget,
        write: impl Fn(&Parts<'_>) -> std::result::Result<(), E> + Sync,
    ) -> Result<()> {
        let write = |parts: &Parts<'_>| {
            write(parts).map_err(|e| Error::Store {
                addr: parts.first().map_or(Addr::NULL, |(addr, _)| *addr),
                len: parts.iter().map(|(_, bytes)| bytes.len()).sum(),
                source: e.into(),
            })
        };
        let mut runs: Vec<Run> = self.runs(target)?.to_vec();
        runs.sort_by_key(|r| (r.block, r.page));
        let blocks: Vec<&[Run]> = runs.chunk_by(|a, b| a.block == b.block).collect();
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let work = || {
            let mut room = Room::default();
            while let Some(runs) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(e) = self.restore_block(runs, &mut room, &write) {
                    next.store(blocks.len(), Ordering::Relaxed);
                    failure
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .get_or_insert(e);
                }
            }
        };
        let cpus = self.threads();
        let _caller = AtWork::caller();
        std::thread::scope(|scope| {
            for i in 1..cpus.min(blocks.len()) {
                let Some(helper) = AtWork::helper(cpus) else { break };
                let thread = std::thread::Builder::new().name(format!("rr-restore-{i}"));
                let work = &work;
                // A thread less is only slower.
                let _ = thread.spawn_scoped(scope, move || {
                    let _helper = helper;
                    if let Some(cpus) = &self.cpus {
                        bind_thread(cpus);
                    }
                    work();
                });
            }
            work();
        });
        failure
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .map_or(Ok(()), Err)
    }

    /// The threads that there are CPUs for.
    fn threads(&self) -> usize {
        let cpus = match &self.cpus {
            Some(set) => numbers(set).len(),
            None => std::thread::available_parallelism().map_or(1, |n| n.get()),
        };
        cpus.min(MOST_THREADS)
    }

    /// Restores runs of one block.
    fn restore_block(
        &self,
        runs: &[Run],
        room: &mut Room,
        write: &dyn Fn(&Parts<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(first) = runs.first() else { return Ok(()) };
        if first.block == ZERO_BLOCK {
            for range in runs.iter().map(Run::range) {
                let mut at = range.start;
                while at < range.end {
                    let len = ((range.end - at) as usize).min(ZEROS.len());
                    write(&[(at, &ZEROS[..len])])?;
                    at = at + len as u64;
                }
            }
            return Ok(());
        }
        self.with_block(first.block, room, |pages| {
            let part = |run: &Run| {
                let start = usize::from(run.slot) * PAGE_BYTES;
                let len = run.count as usize * PAGE_BYTES;
                (run.range().start, &pages[start..start + len])
            };
            write(&runs.iter().map(part).collect::<Vec<_>>())
        })
    }
}

/// A thread of this process that restores pages, as long as this lives.
struct AtWork;

/// The number of these threads.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

impl AtWork {
    /// The thread that wants the pages. It works whatever other threads do.
    fn caller() -> AtWork {
        AT_WORK.fetch_add(1, Ordering::Relaxed);
        AtWork
    }

    /// A thread that helps it; `None` if a thread for each CPU is at work already.
    fn helper(cpus: usize) -> Option<AtWork> {
        let one_more = |n: usize| (n < cpus).then(|| n + 1);
        let taken = AT_WORK.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        // Only a thread that was counted may be dropped: the drop counts down.
        taken.is_ok().then(|| AtWork)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_helps_if_there_is_no_cpu_for_it() {
        let caller = AtWork::caller();
        assert!(AtWork::helper(1).is_none());
        let helper = AtWork::helper(usize::MAX);
        assert!(helper.is_some() && AtWork::helper(2).is_none());
        drop((caller, helper));
    }
}
