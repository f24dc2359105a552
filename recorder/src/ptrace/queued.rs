//! `PTRACE_PEEKSIGINFO`: the signals that are queued for a tracee, without taking them from the queue.
//!
//! The program's pending signals are in two places: the kernel's queues, and among the signals that the
//! recorder has deferred. The kernel's queues also hold the recorder's wakeup signals, which are left
//! out ([`crate::signal::wakeup_signal`]).

use nix::errno::Errno;
use rr_trace::event::MemWrite;
use rr_tracee::Tid;
use rr_tracee::task::{SigInfo, si_code};

use crate::call::parameters::{Answered, give_answer, read_parameter};
use crate::ptrace::access::{Request, with_stopped};
use crate::signal::wakeup_signal::is_ours;
use crate::world::model::World;

/// Size of `struct ptrace_peeksiginfo_args` (ptrace(2)).
const ARGS_LEN: usize = 16;

/// The only flag: the signals of the process, not those of the thread.
const SHARED: u32 = 1;

/// Gives the tracer at most as many signals as it asks for. The answer is their number.
pub(crate) fn give_queued(world: &mut World, request: Request, writes: &mut Vec<MemWrite>) -> Answered {
    let args = read_parameter(world, request.by, request.addr, ARGS_LEN)?;
    let word = |at: usize| args[at..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
    let offset = args.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    let (flags, most) = (word(8), word(12) as i32);
    if flags & !SHARED != 0 || most < 0 {
        return Err(Errno::EINVAL.into());
    }
    let queued = queued(world, request.of, flags & SHARED != 0)?;
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let chosen: Vec<&SigInfo> = queued.iter().skip(offset).take(most as usize).collect();
    for (n, info) in chosen.iter().enumerate() {
        let at = request.data.wrapping_add((n * size_of::<SigInfo>()) as u64);
        match give_answer(world, request.by, at, *info, writes) {
            // The signals before this one count.
            Err(_) if n > 0 => return Ok(n as i64),
            given => given?,
        };
    }
    Ok(chosen.len() as i64)
}

/// The program's signals in the queue of the process (`shared`) or of the thread. Deferred signals have
/// been taken from the kernel's queues, so they are older.
fn queued(world: &mut World, tid: Tid, shared: bool) -> Answered<Vec<SigInfo>> {
    let signals = &world.task(tid)?.signals;
    let (deferred, wakeups) = (signals.deferred.clone(), signals.wakeups);
    let pending = with_stopped(world, tid, |stopped| stopped.queued_signals(shared))??;
    let is_programs = |info: &SigInfo| !is_ours(info, wakeups != 0);
    let of_queue = deferred.into_iter().filter(|info| is_shared(info) == shared);
    Ok(of_queue.chain(pending.into_iter().filter(is_programs)).collect())
}

/// Returns whether a signal was sent to the process and not to one thread: by other means than tgkill(2),
/// and not as a fault.
fn is_shared(info: &SigInfo) -> bool {
    si_code(info) <= 0 && si_code(info) != libc::SI_TKILL
}
