//! Calls that natively are none: those of the vDSO, which rr hides (vdso(7)).
//!
//! A C library asks the vDSO for the time, and no filter hears of that. Without a vDSO it makes a system call, which the program's
//! filters may not foresee. So filters are not asked about such a call. A library makes it at a place of its own, with the number in the
//! instruction before; where the program makes the call itself, by syscall(2), the number comes from elsewhere.
//!
//! In strict mode the vDSO does not help natively either: it reads the time-stamp counter, which is forbidden there.

use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, Registers, Tid};

use crate::session::RecordSession;

/// `CLOCK_REALTIME` to `CLOCK_TAI`: those that the vDSO reads without a call.
const CLOCKS: [u64; 7] = [0, 1, 4, 5, 6, 7, 11];

/// Whether the vDSO answers a call with these arguments.
fn is_answered_there(entry: &Registers) -> bool {
    match entry.syscall() {
        libc::SYS_gettimeofday | libc::SYS_time | libc::SYS_getcpu => true,
        libc::SYS_clock_gettime | libc::SYS_clock_getres => CLOCKS.contains(&entry.rdi),
        _ => false,
    }
}

impl RecordSession {
    /// Whether a library makes the call at this entry because it has no vDSO.
    pub(super) fn is_for_want_of_vdso(&self, tid: Tid, entry: &Registers) -> bool {
        if !is_answered_there(entry) {
            return false;
        }
        // mov eax, NUMBER; syscall
        let mut made = [0xb8, 0, 0, 0, 0, 0x0f, 0x05];
        made[1..5].copy_from_slice(&(entry.orig_rax as u32).to_le_bytes());
        let Ok(task) = self.task(tid) else { return false };
        let at = Addr(entry.rip.wrapping_sub(made.len() as u64));
        let mut code = [0; 7];
        if task.memory.read(at, &mut code).is_err() {
            return false;
        }
        if let Some(space) = self.spaces.get(&task.space) {
            space.library.sites.show_original(at, &mut code);
        }
        code == made
    }
}
