//! The CPUs that a program sees: never the one that all its tasks are bound to, but the CPUs that rr
//! found, or as many as the user said (`--num-cores`, chaos mode), numbered from 0.

use rr_trace::event::MemWrite;
use rr_tracee::memory::ReadMemory;
use rr_tracee::pid_namespace::Vpid;
use rr_tracee::{Addr, Registers, Tid};

use crate::error::Result;
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::numbers::named_task;

/// The mask of CPUs 0 to `cores` − 1.
pub fn mask(cores: usize) -> Vec<u8> {
    let mut mask = vec![0; cores.div_ceil(64) * 8];
    (0..cores).for_each(|cpu| mask[cpu / 8] |= 1 << (cpu % 8));
    mask
}

/// The task that an affinity call of `tid` is about, if that task is recorded.
fn meant_task(session: &RecordSession, tid: Tid, entry: &Registers) -> Option<Tid> {
    let meant = match entry.rdi as i32 {
        0 => Some(tid),
        number => named_task(&session.world, tid, Vpid(number)),
    };
    meant.filter(|meant| session.world.tasks.contains_key(meant))
}

/// `sched_setaffinity` of a recorded task: only remembered. Returns an errno, or 0; `None` if the kernel must make the call,
/// because the task is not recorded, or not there.
pub(crate) fn set_affinity(session: &mut RecordSession, tid: Tid, entry: &Registers) -> Result<Option<i32>> {
    let is_alive = |meant: &Tid| session.world.task(*meant).is_ok_and(|t| !t.life.exited);
    let Some(meant) = meant_task(session, tid, entry).filter(is_alive) else {
        return Ok(None);
    };
    let len = entry.rsi.min(1024) as usize;
    let mut mask = vec![0; len];
    if session
        .world
        .task(tid)?
        .memory
        .read_some(Addr(entry.rdx), &mut mask)?
        < len
    {
        return Ok(Some(libc::EFAULT));
    }
    mask.iter_mut()
        .enumerate()
        .for_each(|(n, byte)| *byte &= session.policy.options.affinity.get(n).unwrap_or(&0));
    if mask.iter().all(|byte| *byte == 0) {
        return Ok(Some(libc::EINVAL));
    }
    session.world.task_mut(meant)?.settings.affinity = Some(mask);
    Ok(Some(0))
}

/// The answer of `sched_getaffinity`, if the kernel's answer is `result`: the size of the mask and
/// the mask, or an error. `None` if the kernel's answer is right, because the call is about a task that is not recorded.
pub(crate) fn affinity_answer(
    session: &RecordSession,
    tid: Tid,
    entry: &Registers,
    result: i64,
) -> Result<Option<(i64, Option<MemWrite>)>> {
    let Some(meant) = meant_task(session, tid, entry) else {
        return Ok(None);
    };
    let needed = session
        .policy
        .options
        .cores
        .map_or(0, |cores| cores.div_ceil(64) * 8) as i64;
    if entry.rsi < needed as u64 {
        return Ok(Some((-i64::from(libc::EINVAL), None)));
    }
    let told = result.max(needed);
    let set = session.world.task(meant)?.settings.affinity.as_ref();
    let mut data = set.unwrap_or(&session.policy.options.affinity).clone();
    data.resize(told as usize, 0);
    let (addr, task) = (Addr(entry.rdx), session.world.task(tid)?);
    task.memory.write(addr, &data)?;
    let space = task.space;
    Ok(Some((told, Some(MemWrite { space, addr, data }))))
}

/// After `getcpu`: replaces the CPU by one that the program was shown.
pub(crate) fn pretend_cpu(session: &RecordSession, tid: Tid, call: &Call, result: i64) -> Result<()> {
    if let (libc::SYS_getcpu, 0, Some(cores)) = (call.entry.syscall(), result, session.policy.options.cores)
        && call.entry.rdi != 0
    {
        let (memory, addr) = (&session.world.task(tid)?.memory, Addr(call.entry.rdi));
        let cpu = memory.read_u32(addr)? % cores as u32;
        memory.write(addr, &cpu.to_le_bytes())?;
    }
    Ok(())
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
