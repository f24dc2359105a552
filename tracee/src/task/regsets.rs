//! The registers of a stopped task as `ptrace(2)` gives them to any tracer: register sets, and the
//! words of `struct user`.
//!
//! A recorder uses them to carry out the requests of another tracer and passes the kernel's own answers
//! on. So errors are plain errnos.

use std::mem::offset_of;

use nix::errno::Errno;

use super::{Stopped, ptrace};

/// Maximum size of a register set (extended state is 11 KiB with AMX).
pub const REGSET_MOST: usize = 64 * 1024;

impl Stopped {
    /// The first bytes of a register set (`NT_*` of `<elf.h>`), at most `len` of them.
    pub fn regset(&self, kind: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; len.min(REGSET_MOST)];
        let mut iov = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        let at = &raw mut iov as usize;
        // SAFETY: `iov` describes `bytes`, which outlives the call.
        unsafe { ptrace(libc::PTRACE_GETREGSET, self.tid, kind as usize, at) }?;
        bytes.truncate(iov.iov_len);
        Ok(bytes)
    }

    /// Sets the first bytes of a register set. Returns the number of bytes that the kernel took.
    pub fn set_regset(&mut self, kind: u64, bytes: &[u8]) -> Result<usize, Errno> {
        let mut iov = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let at = &raw mut iov as usize;
        // SAFETY: `iov` describes `bytes`, which the kernel only reads and which outlives the call.
        unsafe { ptrace(libc::PTRACE_SETREGSET, self.tid, kind as usize, at) }?;
        Ok(iov.iov_len)
    }

    /// A word of `struct user` (`PTRACE_PEEKUSER`).
    pub fn user_word(&self, offset: u64) -> Result<u64, Errno> {
        // SAFETY: PTRACE_PEEKUSER takes an offset, which the kernel checks.
        unsafe { ptrace(libc::PTRACE_PEEKUSER, self.tid, offset as usize, 0) }.map(|word| word as u64)
    }

    /// Sets a word of `struct user` (`PTRACE_POKEUSER`).
    pub fn set_user_word(&mut self, offset: u64, value: u64) -> Result<(), Errno> {
        // SAFETY: PTRACE_POKEUSER takes an offset, which the kernel checks, and a word.
        unsafe { ptrace(libc::PTRACE_POKEUSER, self.tid, offset as usize, value as usize) }.map(drop)
    }
}

/// Returns whether a word of `struct user` is one of the debug registers.
pub fn is_debug_register(offset: u64) -> bool {
    const FIRST: u64 = offset_of!(libc::user, u_debugreg) as u64;
    (FIRST..FIRST + 64).contains(&offset)
}
