//! The CPUs that this process may use, and the one that a recorder or a replay shares with its tracees.
//!
//! A tracee runs on one CPU at a time (I1), and its tracer on the same CPU: waking a task on another
//! CPU costs many times more. The other CPUs are left to threads that compress, read ahead or restore.

mod claim;

pub use claim::Claim;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Tid;

/// The CPUs that this process may use, and the one to bind it to.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    allowed: CpuSet,
    /// The CPU for tracer and tracees.
    pub bound: usize,
}

impl Cpus {
    /// Asks which CPUs the calling thread may use, and chooses the current one.
    pub fn survey() -> Cpus {
        let allowed = allowed();
        let all = numbers(&allowed);
        let current = nix::sched::sched_getcpu().ok();
        let bound = current.filter(|cpu| all.contains(cpu));
        Cpus {
            allowed,
            bound: bound.or(all.first().copied()).unwrap_or(0),
        }
    }

    /// All CPUs that may be used.
    pub fn set(&self) -> CpuSet {
        self.allowed
    }

    /// All CPUs that may be used, ascending.
    pub fn all(&self) -> Vec<usize> {
        numbers(&self.allowed)
    }

    /// The CPUs left to other threads, ascending.
    pub fn others(&self) -> Vec<usize> {
        let mut others = self.all();
        others.retain(|cpu| *cpu != self.bound);
        others
    }

    /// All CPUs that may be used, as the kernel's bit mask.
    pub fn mask(&self) -> Vec<u8> {
        let mut mask = vec![0; size_of::<libc::cpu_set_t>()];
        for cpu in self.all() {
            mask[cpu / 8] |= 1 << (cpu % 8);
        }
        mask
    }

    /// The CPU for a replay of a recording made on CPU `recorded` ([`None`]: not known), and whether
    /// they are the same. `cpuid` tells a program the CPU that it runs on. Where `cpuid` cannot be
    /// intercepted, its answer must be the same.
    pub fn for_replay(&self, recorded: Option<usize>) -> (usize, bool) {
        match recorded.filter(|cpu| self.allowed.is_set(*cpu).unwrap_or(false)) {
            Some(cpu) => (cpu, true),
            None => (self.bound, recorded.is_none()),
        }
    }
}

/// The CPUs that the calling thread may use.
pub fn allowed() -> CpuSet {
    sched_getaffinity(Tid(0).pid()).unwrap_or_default()
}

/// The CPUs of a set, ascending.
pub fn numbers(set: &CpuSet) -> Vec<usize> {
    let all = 0..CpuSet::count();
    all.filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect()
}

/// The set of these CPUs. Numbers that no set can hold are left out.
pub fn set_of(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for cpu in cpus {
        let _ = set.set(*cpu);
    }
    set
}

/// Binds a thread (0: the calling one), and all threads that it creates from now on, to these CPUs.
pub fn bind(thread: Tid, cpus: &CpuSet) -> nix::Result<()> {
    sched_setaffinity(thread.pid(), cpus)
}

/// Binds the calling thread, and all threads that it creates from now on, to these CPUs. If that fails,
/// the thread stays on its CPUs, because only speed depends on it.
pub fn bind_thread(cpus: &CpuSet) {
    if let Err(errno) = bind(Tid(0), cpus) {
        tracing::debug!("a thread stays on its CPUs: sched_setaffinity: {errno}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(all: &[usize], bound: usize) -> Cpus {
        Cpus {
            allowed: set_of(all),
            bound,
        }
    }

    #[test]
    fn a_replay_runs_where_was_recorded_if_it_may() {
        let some = cpus(&[0, 3, 9], 3);
        assert_eq!(some.for_replay(Some(9)), (9, true));
        assert_eq!(some.for_replay(Some(1)), (3, false));
        assert_eq!(some.for_replay(None), (3, true));
        assert_eq!(some.others(), [0, 9]);
        assert_eq!(some.mask()[..3], [0b1001, 0b10, 0]);
    }

    #[test]
    fn what_is_here_can_be_used() {
        let here = Cpus::survey();
        assert!(here.all().contains(&here.bound), "{here:?}");
    }
}
