//! System calls that a program makes only because rr hides the vDSO (vdso(7)).
//!
//! A C library asks the vDSO for the time, and no filter sees that. Without a vDSO the library makes a
//! system call, which the program's filters may not foresee. So filters are not asked about such a
//! call. The two kinds of calls are told apart by the code: a library loads the number in the
//! instruction just before the system call, but syscall(2), by which a program makes the call itself,
//! gets the number from elsewhere.
//!
//! In strict mode the vDSO does not help without rr either: it reads the time-stamp counter, and strict
//! mode forbids that.

use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, Registers, Tid};

use crate::world::model::World;

/// The clocks from `CLOCK_REALTIME` to `CLOCK_TAI` that the vDSO reads without a system call.
const CLOCKS: [u64; 7] = [0, 1, 4, 5, 6, 7, 11];

/// True if the vDSO would answer a call with these arguments.
fn is_answered_there(entry: &Registers) -> bool {
    match entry.syscall() {
        libc::SYS_gettimeofday | libc::SYS_time | libc::SYS_getcpu => true,
        libc::SYS_clock_gettime | libc::SYS_clock_getres => CLOCKS.contains(&entry.rdi),
        _ => false,
    }
}

/// True if a library makes the call at this entry only because it has no vDSO.
pub(crate) fn is_for_want_of_vdso(world: &World, tid: Tid, entry: &Registers) -> bool {
    if !is_answered_there(entry) {
        return false;
    }
    // The code of a library: `mov eax, NUMBER; syscall`.
    let mut made = [0xb8, 0, 0, 0, 0, 0x0f, 0x05];
    made[1..5].copy_from_slice(&(entry.orig_rax as u32).to_le_bytes());
    let Ok(task) = world.task(tid) else { return false };
    let at = Addr(entry.rip.wrapping_sub(made.len() as u64));
    let mut code = [0; 7];
    if task.memory.read(at, &mut code).is_err() {
        return false;
    }
    if let Some(space) = world.spaces.get(&task.space) {
        space.library.sites.show_original(at, &mut code);
    }
    code == made
}
