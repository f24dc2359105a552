//! The CPUs that a program sees: never the one that all its tasks are bound to, but the CPUs that rr
//! found, or as many as the user said (`--num-cores`, chaos mode), numbered from 0.

use rr_trace::event::MemWrite;
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, Registers, Tid};

use crate::error::Result;
use crate::session::RecordSession;
use crate::world::task::Call;

/// Files in which the kernel lists the CPUs.
const LISTS: [&str; 3] = [
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible",
    "/sys/devices/system/cpu/present",
];

/// The mask of CPUs 0 to `cores` − 1.
pub fn mask(cores: usize) -> Vec<u8> {
    let mut mask = vec![0; cores.div_ceil(64) * 8];
    (0..cores).for_each(|cpu| mask[cpu / 8] |= 1 << (cpu % 8));
    mask
}

impl RecordSession {
    /// The task that an affinity call is about.
    fn named(&self, tid: Tid, entry: &Registers) -> Tid {
        if entry.rdi as i32 == 0 {
            tid
        } else {
            Tid(entry.rdi as i32)
        }
    }

    /// `sched_setaffinity`: only remembered. Returns an errno, or 0.
    pub(crate) fn set_affinity(&mut self, tid: Tid, entry: &Registers) -> Result<i32> {
        let len = entry.rsi.min(1024) as usize;
        let mut mask = vec![0; len];
        if self.task(tid)?.memory.read_some(Addr(entry.rdx), &mut mask)? < len {
            return Ok(libc::EFAULT);
        }
        mask.iter_mut()
            .enumerate()
            .for_each(|(n, byte)| *byte &= self.options.affinity.get(n).unwrap_or(&0));
        if mask.iter().all(|byte| *byte == 0) {
            return Ok(libc::EINVAL);
        }
        let named = self.named(tid, entry);
        if let Some(task) = self.tasks.get_mut(&named) {
            task.affinity = Some(mask);
        }
        Ok(0)
    }

    /// The answer of `sched_getaffinity`, if the kernel's answer is `result`: the size of the mask and
    /// the mask, or an error.
    pub(crate) fn affinity_answer(
        &self,
        tid: Tid,
        entry: &Registers,
        result: i64,
    ) -> Result<(i64, Option<MemWrite>)> {
        let needed = self.options.cores.map_or(0, |cores| cores.div_ceil(64) * 8) as i64;
        if entry.rsi < needed as u64 {
            return Ok((-i64::from(libc::EINVAL), None));
        }
        let told = result.max(needed);
        let set = self
            .tasks
            .get(&self.named(tid, entry))
            .and_then(|t| t.affinity.as_ref());
        let mut data = set.unwrap_or(&self.options.affinity).clone();
        data.resize(told as usize, 0);
        let (addr, task) = (Addr(entry.rdx), self.task(tid)?);
        task.memory.write(addr, &data)?;
        let space = task.space;
        Ok((told, Some(MemWrite { space, addr, data })))
    }

    /// After `getcpu`: replaces the CPU by one that the program was shown.
    pub(crate) fn pretend_cpu(&self, tid: Tid, call: &Call, result: i64) -> Result<()> {
        if let (libc::SYS_getcpu, 0, Some(cores)) = (call.entry.syscall(), result, self.options.cores)
            && call.entry.rdi != 0
        {
            let (memory, addr) = (&self.task(tid)?.memory, Addr(call.entry.rdi));
            let cpu = memory.read_u32(addr)? % cores as u32;
            memory.write(addr, &cpu.to_le_bytes())?;
        }
        Ok(())
    }

    /// The CPU as `rdtscp` shows it to the program (its number in the low 12 bits, the node above; set
    /// by the kernel).
    pub(crate) fn pretended_aux(&self, aux: u32) -> u32 {
        match self.options.cores {
            Some(cores) => aux & !0xfff | ((aux & 0xfff) % cores as u32),
            None => aux,
        }
    }

    /// The program's contents of a file that lists CPUs.
    pub(crate) fn list_of_cpus(&self, path: &str) -> Option<String> {
        let cores = self.options.cores.filter(|_| LISTS.contains(&path))?;
        Some(if cores == 1 {
            "0\n".into()
        } else {
            format!("0-{}\n", cores - 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_as_long_as_the_kernel_makes_them() {
        assert_eq!(mask(1), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(mask(10), [255, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(mask(128), [255; 16]);
        assert_eq!(mask(65).len(), 16);
    }
}
