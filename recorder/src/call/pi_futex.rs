//! Futexes with priority inheritance (`FUTEX_LOCK_PI` and its like, futex(2)).
//!
//! The kernel itself writes the word of such a lock, and other tasks see that before the call returns.
//! Each write belongs to an event (I2, I3):
//!
//! * A call that locks writes the caller's tid, or a bit that says that somebody waits. It does so before
//!   any other task runs. If the call then waits, a [`SetRegisters`] without a change follows its entry,
//!   with the word.
//! * A call that unlocks writes the tid of the next owner, for which it locks. The next owner does not write
//!   when it comes out of the kernel.
//! * When an owner dies, the waiter that gets the lock writes the word. That is part of the owner's end.
//!
//! [`SetRegisters`]: rr_trace::event::EventKind::SetRegisters

use rr_trace::event::MemWrite;
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, Registers, SpaceId, Tid};

use crate::world::model::World;
use crate::world::task::{State, Task};

/// Operations of futex(2).
mod op {
    pub const LOCK_PI: i32 = 6;
    pub const UNLOCK_PI: i32 = 7;
    pub const TRYLOCK_PI: i32 = 8;
    pub const WAIT_REQUEUE_PI: i32 = 11;
    pub const CMP_REQUEUE_PI: i32 = 12;
    pub const LOCK_PI2: i32 = 13;
}

/// The word of the lock that a call is about, and whether the call may wait for the lock.
fn lock_of(entry: &Registers) -> Option<(Addr, bool)> {
    if entry.syscall() != libc::SYS_futex {
        return None;
    }
    match entry.rsi as i32 & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) {
        op::LOCK_PI | op::LOCK_PI2 => Some((Addr(entry.rdi), true)),
        op::UNLOCK_PI | op::TRYLOCK_PI => Some((Addr(entry.rdi), false)),
        op::WAIT_REQUEUE_PI => Some((Addr(entry.r8), true)),
        op::CMP_REQUEUE_PI => Some((Addr(entry.r8), false)),
        _ => None,
    }
}

/// The word of the lock that a task waits for.
fn awaited(task: &Task) -> Option<Addr> {
    let call = task
        .call
        .as_ref()
        .filter(|_| matches!(task.state, State::InKernel(_)))?;
    lock_of(&call.entry)
        .filter(|(_, waits)| *waits)
        .map(|(word, _)| word)
}

/// The lock of a call of `tid`, as it is now.
pub(crate) fn lock_word(world: &World, tid: Tid, entry: &Registers) -> Option<MemWrite> {
    let (addr, _) = lock_of(entry)?;
    let task = world.tasks.get(&tid)?;
    let space = task.space;
    // If the word is not there, the kernel has not written it.
    let data = task.memory.read_vec(addr, 4).ok()?;
    Some(MemWrite { space, addr, data })
}

/// The words of the locks that tasks wait for, with their address spaces.
pub(crate) fn awaited_locks(world: &World) -> impl Iterator<Item = (SpaceId, Addr)> {
    world
        .tasks
        .values()
        .filter_map(|t| awaited(t).map(|word| (t.space, word)))
}

/// After the end of an owner: lets the tasks that get its locks write their words.
pub(crate) fn let_owners_in(world: &mut World) {
    let waiting: Vec<Tid> = world
        .tasks
        .values()
        .filter(|t| awaited(t).is_some())
        .map(|t| t.tid)
        .collect();
    for tid in waiting {
        while matches!(world.states.of(tid), Ok('R')) {
            // SAFETY: sched_yield has no arguments.
            unsafe { libc::sched_yield() };
        }
    }
}
