//! On which CPU replayed tasks run, and who restores them.
//!
//! Only speed depends on where a task is restored (nothing of the program runs): beside the thread that restores it, because
//! a wake-up across CPUs costs many times one on the same CPU. Where it then runs is the caller's choice
//! ([`cpu_for_replay`]).

use nix::sched::{CpuSet, sched_getaffinity};
use rr_trace::Header;
use rr_tracee::Tid;
use rr_tracee::cpus::{self, Claim, Cpus};

/// The CPU for a replay: that of the recording if we may use it, because `cpuid` tells a program on which CPU it
/// runs, and where it cannot be intercepted the answer must be the same.
pub fn cpu_for_replay(cpus: &Cpus, header: &Header) -> usize {
    let recorded = header.bound_cpu.map(|cpu| cpu as usize);
    let (cpu, is_recorded) = cpus.for_replay(recorded);
    if let Some(recorded) = recorded
        && !is_recorded
        && !header.cpuid_faulting
    {
        tracing::warn!(
            "this was recorded on CPU {recorded}, which rr may not use here: if the program looks at its CPU's number, \
             the replay will diverge"
        );
    }
    cpu
}

/// Claims the CPU for a replay ([`cpu_for_replay`]): where `cpuid` can be intercepted, the one with the fewest claims.
pub fn claim_for_replay(cpus: &Cpus, header: &Header) -> Claim {
    match header.cpuid_faulting {
        true => Claim::least(cpus),
        false => Claim::of(cpu_for_replay(cpus, header)),
    }
}

/// Binds the calling thread to a CPU until it is dropped.
#[derive(Debug)]
pub(crate) struct Beside(Option<CpuSet>);

impl Beside {
    pub fn cpu(cpu: Option<usize>) -> Beside {
        let before = sched_getaffinity(Tid(0).pid()).ok();
        // Nothing to do, and to be undone.
        if before.is_some() && before == cpu.and_then(|cpu| only(cpu).ok()) {
            return Beside(None);
        }
        let is_bound = cpu.is_some_and(|cpu| bind(Tid(0), cpu).is_ok());
        Beside(before.filter(|_| is_bound))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // It was so before.
            let _ = cpus::bind(Tid(0), before);
        }
    }
}

/// Binds a task (0: the calling thread) to a CPU.
pub(crate) fn bind(task: Tid, cpu: usize) -> nix::Result<()> {
    cpus::bind(task, &only(cpu)?)
}

fn only(cpu: usize) -> nix::Result<CpuSet> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(set)
}
