//! sched_setaffinity(2) and sched_getaffinity(2) of recorded tasks.
//!
//! All tasks stay bound to one CPU; the masks are only remembered and told ([`crate::call::cores`]).

use rr_trace::event::MemWrite;
use rr_tracee::pid_namespace::Vpid;
use rr_tracee::{Addr, Registers, Tid};

use crate::call::cores::affinity_of;
use crate::call::rseq::show_processor;
use crate::error::Result;
use crate::session::RecordSession;
use crate::world::numbers::named_task;

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
    show_processor(session, meant)?;
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
    let mut data = affinity_of(session, meant)?.to_vec();
    data.resize(told as usize, 0);
    let (addr, task) = (Addr(entry.rdx), session.world.task(tid)?);
    task.memory.write(addr, &data)?;
    let space = task.space;
    Ok(Some((told, Some(MemWrite { space, addr, data }))))
}
