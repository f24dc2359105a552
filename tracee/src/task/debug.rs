//! The debug registers of a stopped task (Intel SDM vol. 3B, 18.2; ptrace(2), `PTRACE_PEEKUSER` and `PTRACE_POKEUSER`).
//!
//! A task has four debug registers for addresses. They are its own: a new thread or process starts
//! without any.

use std::mem::offset_of;

use super::{Stopped, ptrace};
use crate::error::{Error, Result};
use crate::ids::{Addr, Tid};

/// Maximum number of watched addresses.
pub const WATCHES: usize = 4;

/// `si_code` of a trap after a single step (`TRAP_TRACE`, sigaction(2)).
pub const TRAP_TRACE: i32 = 2;
/// `si_code` of the trap of an `int3` (`SI_KERNEL`).
pub const TRAP_INT3: i32 = 0x80;

/// The accesses that a debug register traps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum WatchKind {
    /// Writes.
    Write,
    /// Reads and writes.
    Access,
}

/// One debug register: accesses to the place trap, after the instruction that makes them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Watch {
    /// Address of the place, a multiple of the length.
    pub addr: Addr,
    /// Length: 1, 2, 4 or 8 bytes.
    pub len: u8,
    /// The accesses that trap.
    pub kind: WatchKind,
}

impl Watch {
    /// The register's four bits in DR7: condition and length.
    fn control(self) -> u64 {
        let condition = match self.kind {
            WatchKind::Write => 0b01,
            WatchKind::Access => 0b11,
        };
        let len = match self.len {
            1 => 0b00,
            2 => 0b01,
            8 => 0b10,
            _ => 0b11,
        };
        condition | len << 2
    }
}

impl Stopped {
    fn debug_register(&self, n: usize) -> Result<u64> {
        // SAFETY: PTRACE_PEEKUSER takes an offset into `struct user`.
        let value = unsafe { ptrace(libc::PTRACE_PEEKUSER, self.tid, offset(n), 0) };
        let value = value.map_err(|e| Error::kernel(self.tid, "reading a debug register", e))?;
        Ok(value as u64)
    }

    fn set_debug_register(&mut self, n: usize, value: u64) -> Result<()> {
        // SAFETY: PTRACE_POKEUSER takes an offset into `struct user` and a word.
        unsafe { ptrace(libc::PTRACE_POKEUSER, self.tid, offset(n), value as usize) }
            .map_err(|e| Error::kernel(self.tid, "setting a debug register", e))?;
        Ok(())
    }

    /// Watches these places (at most [`WATCHES`]), and no others. A register that they leave free stops the task before the
    /// instruction at `stop`.
    pub fn set_watches(&mut self, watches: &[Watch], stop: Option<Addr>) -> Result<()> {
        /// Condition and length of a register for an instruction.
        const EXECUTION: u64 = 0;
        self.set_debug_register(7, 0)?;
        let mut control = 0;
        let watches = watches.iter().map(|watch| (watch.addr, watch.control()));
        let all = watches.chain(stop.map(|stop| (stop, EXECUTION)));
        for (n, (addr, condition)) in all.take(WATCHES).enumerate() {
            self.set_debug_register(n, addr.0)?;
            control |= 1 << (2 * n) | condition << (16 + 4 * n);
        }
        if control != 0 {
            self.set_debug_register(7, control)?;
        }
        Ok(())
    }

    /// The watched places that the task has accessed since the last call (bit n for place n).
    pub fn take_watch_hits(&mut self) -> Result<u8> {
        let status = self.debug_register(6)?;
        let hits = (status & 0xf) as u8;
        if hits != 0 {
            self.set_debug_register(6, 0)?;
        }
        Ok(hits)
    }

    /// Recovers the [`Stopped`] of task `tid` after a failed operation has lost it. `None` if the task
    /// is in no ptrace stop.
    pub fn reclaim(tid: Tid) -> Option<Stopped> {
        let stopped = Stopped { tid };
        stopped.regs().is_ok().then_some(stopped)
    }
}

fn offset(n: usize) -> usize {
    offset_of!(libc::user, u_debugreg) + n * size_of::<u64>()
}
