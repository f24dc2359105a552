//! The CPUs that a program sees: never the one that all its tasks are bound to, but the CPUs that rr
//! found, or as many as the user said (`--num-cores`, chaos mode), numbered from 0.
//!
//! A task that asks where it runs is told the CPU of the recording, or, if that one is not in the mask that the task was given
//! with sched_setaffinity(2), the first one of the mask. The node is always that of the recording's CPU.

use rr_tracee::{Addr, Tid, tsc};

use crate::error::Result;
use crate::session::RecordSession;
use crate::world::call::Call;

/// The bits of a CPU's number in what `RDTSCP` gives.
pub(crate) const CPU: u32 = 0xfff;

/// The mask of CPUs 0 to `cores` − 1.
pub fn mask(cores: usize) -> Vec<u8> {
    let mut mask = vec![0; cores.div_ceil(64) * 8];
    (0..cores).for_each(|cpu| mask[cpu / 8] |= 1 << (cpu % 8));
    mask
}

/// The mask of CPUs that a task sees.
pub(crate) fn affinity_of(session: &RecordSession, tid: Tid) -> Result<&[u8]> {
    let set = session.world.task(tid)?.settings.affinity.as_ref();
    Ok(set.unwrap_or(&session.policy.options.affinity))
}

/// The number of the CPU that a task sees itself on, and of its node, as `RDTSCP` gives them.
pub(crate) fn shown_processor(session: &RecordSession, tid: Tid) -> Result<u32> {
    let aux = session.policy.pretended_aux(tsc::processor());
    let set = session.world.task(tid)?.settings.affinity.as_ref();
    Ok(set.map_or(aux, |mask| within(mask, aux)))
}

/// Returns whether a task sees itself on another CPU than where it is.
pub(crate) fn is_shown_elsewhere(session: &RecordSession, tid: Tid) -> Result<bool> {
    let may_be = session.world.task(tid)?.settings.affinity.is_some();
    Ok(may_be && shown_processor(session, tid)? != tsc::processor())
}

/// A processor, with the first CPU of the mask if its own is not in there.
fn within(mask: &[u8], aux: u32) -> u32 {
    let is_set = |cpu: &u32| {
        let byte = mask.get((cpu / 8) as usize);
        byte.is_some_and(|byte| byte & (1 << (cpu % 8)) != 0)
    };
    let cpu = aux & CPU;
    let shown = std::iter::once(cpu).chain(0..=CPU).find(is_set);
    aux & !CPU | shown.unwrap_or(cpu)
}

/// A mask as `status` shows it: groups of 32 bits in hexadecimal, with at least as many digits as the kernel's own text.
pub(crate) fn hex_mask(mask: &[u8], kernels: &str) -> String {
    let mut digits = String::new();
    for (n, byte) in mask.iter().enumerate().rev() {
        digits += &format!("{byte:02x}");
        if n % 4 == 0 && n != 0 {
            digits.push(',');
        }
    }
    let needed = digits.trim_start_matches(['0', ',']).len().max(kernels.len());
    digits.split_off(digits.len() - needed.min(digits.len()))
}

/// A mask as a list: `0-3,8`.
pub(crate) fn list_of_cpus(mask: &[u8]) -> String {
    let is_set = |cpu: usize| mask.get(cpu / 8).is_some_and(|byte| byte & (1 << (cpu % 8)) != 0);
    let mut parts = Vec::new();
    let mut next = 0;
    while let Some(first) = (next..mask.len() * 8).find(|cpu| is_set(*cpu)) {
        let last = (first..).take_while(|cpu| is_set(*cpu)).last().unwrap_or(first);
        parts.push(match last {
            _ if last == first => first.to_string(),
            _ => format!("{first}-{last}"),
        });
        next = last + 1;
    }
    parts.join(",")
}

/// After `getcpu`: replaces the CPU by the one that the task is shown.
pub(crate) fn pretend_cpu(session: &RecordSession, tid: Tid, call: &Call, result: i64) -> Result<()> {
    if (call.entry.syscall(), result) == (libc::SYS_getcpu, 0) && call.entry.rdi != 0 {
        let cpu = shown_processor(session, tid)? & CPU;
        let memory = &session.world.task(tid)?.memory;
        memory.write(Addr(call.entry.rdi), &cpu.to_le_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_shown_that_the_mask_has() {
        let node = 3 << 12;
        assert_eq!(within(&[0b1010], node | 1), node | 1);
        assert_eq!(within(&[0b1010], node | 2), node | 1);
        assert_eq!(within(&[0, 0b100], node), node | 10);
        assert_eq!(within(&[0b1], node | 4000), node);
    }

    #[test]
    fn masks_are_shown_as_the_kernel_does() {
        assert_eq!(hex_mask(&mask(2), "2"), "3");
        assert_eq!(hex_mask(&mask(2), "00000000,00000002"), "00000000,00000003");
        assert_eq!(hex_mask(&mask(40), "f"), "ff,ffffffff");
        assert_eq!(hex_mask(&[0, 1, 0, 0, 0, 0, 0, 0], "00000001"), "00000100");
        assert_eq!(list_of_cpus(&mask(1)), "0");
        assert_eq!(list_of_cpus(&[0b1101_0111, 0b1]), "0-2,4,6-8");
        assert_eq!(list_of_cpus(&[0; 8]), "");
    }

    #[test]
    fn masks_are_as_long_as_the_kernel_makes_them() {
        assert_eq!(mask(1), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(mask(10), [255, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(mask(128), [255; 16]);
        assert_eq!(mask(65).len(), 16);
    }
}
