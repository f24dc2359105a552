//! Choice of the CPU that replayed tasks run on, and binding of threads to CPUs.
//!
//! While a task is restored nothing of the program runs, so the CPU then matters only for speed: the
//! task is restored on the CPU of the thread that restores it, because a wake-up across CPUs costs many
//! times as much as one on the same CPU. The caller chooses the CPU that the task runs on later
//! ([`cpu_for_replay`]).

use nix::sched::{CpuSet, sched_getaffinity};
use rr_trace::TraceReader;
use rr_tracee::Tid;
use rr_tracee::cpus::{self, Claim, Cpus};

/// Returns whether a replay may run on another CPU than the recording: no instruction tells the program where it runs, or each
/// that does is intercepted.
pub fn runs_anywhere(reader: &TraceReader) -> bool {
    reader.header().cpuid_faulting || reader.hides_cpu()
}

/// Chooses the CPU for a replay: the CPU of the recording if we may use it. `cpuid` tells a program on
/// which CPU it runs, and where that is not intercepted, the answer must be the same as in the
/// recording.
pub fn cpu_for_replay(cpus: &Cpus, reader: &TraceReader) -> usize {
    let recorded = reader.header().bound_cpu.map(|cpu| cpu as usize);
    let (cpu, is_recorded) = cpus.for_replay(recorded);
    if let Some(recorded) = recorded
        && !is_recorded
        && !runs_anywhere(reader)
    {
        tracing::warn!(
            "this was recorded on CPU {recorded}, which rr may not use here: if the program looks at its CPU's number, \
             the replay will diverge"
        );
    }
    cpu
}

/// Claims the CPU for a replay: the CPU with the fewest claims if the replay may use it ([`runs_anywhere`]), else that of
/// the recording ([`cpu_for_replay`]).
pub fn claim_for_replay(cpus: &Cpus, reader: &TraceReader) -> Claim {
    match runs_anywhere(reader) {
        true => Claim::least(cpus),
        false => Claim::of(cpu_for_replay(cpus, reader)),
    }
}

/// Binds the calling thread to a CPU until this guard is dropped.
#[derive(Debug)]
pub(crate) struct Beside(Option<CpuSet>);

impl Beside {
    pub fn cpu(cpu: Option<usize>) -> Beside {
        let before = sched_getaffinity(Tid(0).pid()).ok();
        // The thread is bound to this CPU already: there is nothing to do, and nothing to undo.
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
            // The thread was allowed these CPUs before, so this can fail only if the allowed set has
            // changed since.
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
