//! Which CPU the recorder and its tracees share, and which are left for the writers.

use std::mem::size_of;

use nix::sched::CpuSet;

/// The CPUs that this process may use, and the one that it is bound to.
#[derive(Clone, Debug)]
pub struct Cpus {
    /// All that it could use at first, as the kernel's bit mask.
    pub mask: Vec<u8>,
    /// The one for recorder and tracees.
    pub bound: usize,
    /// The others.
    pub others: Vec<usize>,
}

/// Looks which CPUs there are, and chooses the one we are on.
pub fn survey() -> Cpus {
    // SAFETY: an all-zero cpu_set_t is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` has the size given; the others are plain numbers.
    let (got, current) = unsafe {
        (
            libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set),
            libc::sched_getcpu(),
        )
    };
    let mut mask = vec![0u8; size_of::<libc::cpu_set_t>()];
    let mut all = Vec::new();
    if got == 0 {
        for cpu in 0..8 * size_of::<libc::cpu_set_t>() {
            // SAFETY: `cpu` is below the number of bits of the set.
            if unsafe { libc::CPU_ISSET(cpu, &set) } {
                mask[cpu / 8] |= 1 << (cpu % 8);
                all.push(cpu);
            }
        }
    }
    let current = current.max(0) as usize;
    let bound = if all.contains(&current) {
        current
    } else {
        all.first().copied().unwrap_or(0)
    };
    let others: Vec<usize> = all.into_iter().filter(|&cpu| cpu != bound).collect();
    Cpus { mask, bound, others }
}

/// Binds the calling thread (and all that it creates from now on) to these CPUs.
pub fn bind(cpus: &[usize]) {
    // SAFETY: an all-zero cpu_set_t is an empty set, and the CPU numbers come from one.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cpus.iter().for_each(|&cpu| libc::CPU_SET(cpu, &mut set));
        // Only speed depends on it.
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// The CPU for a replay: that of the recording if we may use it, because `cpuid` tells a program on which CPU it
/// runs, and where it cannot be intercepted the answer must be the same.
pub fn for_replay(cpus: &Cpus, header: &rr_trace::Header) -> usize {
    let Some(recorded) = header.bound_cpu.map(|cpu| cpu as usize) else {
        return cpus.bound;
    };
    if recorded == cpus.bound || cpus.others.contains(&recorded) {
        return recorded;
    }
    if !header.cpuid_faulting {
        tracing::warn!(
            "this was recorded on CPU {recorded}, which rr may not use here: if the program looks at its CPU's number, \
             the replay will diverge"
        );
    }
    cpus.bound
}

impl Cpus {
    /// Binds recorder and tracees to this one, which is among them.
    pub fn choose(&mut self, cpu: usize) {
        self.others = self.all();
        self.others.retain(|other| *other != cpu);
        self.bound = cpu;
    }

    /// All CPUs, as a set.
    pub fn set(&self) -> CpuSet {
        let mut set = CpuSet::new();
        for cpu in self.all() {
            // Its numbers come from such a set.
            let _ = set.set(cpu);
        }
        set
    }

    /// All CPUs.
    pub fn all(&self) -> Vec<usize> {
        [&[self.bound][..], &self.others].concat()
    }
}
