//! Calls that create a task: `clone`, `clone3`, `fork`, `vfork`.
//!
//! [`Creation`] is one description of all of them, so that nobody else needs to know which call it was.
//! The arguments of `clone3` are a structure in memory (clone(2)):
//!
//! ```text
//! clone_args    0 flags        8 pidfd (pointer)   16 child_tid (pointer)   24 parent_tid (pointer)
//!              32 exit_signal 40 stack             48 stack_size            56 tls
//!              64 set_tid     72 set_tid_size      80 cgroup                88 bytes
//! ```

use libc::{E2BIG, EFAULT, EINVAL};

use super::forms::{fixed, push, push_whole, unless_died};
use super::spec::{Holder, MemorySpec, Part, ReadPart, Written};
use crate::error::Result;
use crate::ids::{Addr, PAGE};
use crate::memory::ReadMemory;
use crate::regs::Registers;

/// Size of the first `struct clone_args`: no shorter one is valid.
const FIRST_BYTES: u64 = 64;
/// Size of the `struct clone_args` that we know.
const KNOWN_BYTES: u64 = 88;
const PIDFD: u64 = 8;
const CHILD_TID: u64 = 16;
const PARENT_TID: u64 = 24;
const EXIT_SIGNAL: u64 = 32;

/// The lowest byte of the flags of `clone`: the exit signal.
const EXIT_SIGNAL_MASK: u64 = 0xff;
const CLONE_PIDFD: u64 = libc::CLONE_PIDFD as u64;
const CLONE_PARENT_SETTID: u64 = libc::CLONE_PARENT_SETTID as u64;

/// The task that a call asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Creation {
    /// `CLONE_*` flags. The lowest byte is the exit signal, as in the flags of `clone`.
    pub flags: u64,
    /// Address of the word that gets the new tid in the parent (`CLONE_PARENT_SETTID`).
    pub parent_tid: Addr,
    /// Address of the word that gets the new tid in the child (`CLONE_CHILD_SETTID`), and is cleared at
    /// its end (`CLONE_CHILD_CLEARTID`).
    pub child_tid: Addr,
    /// Address of the word that gets the descriptor of the new process (`CLONE_PIDFD`).
    pub pidfd: Addr,
    /// The structure of `clone3`, as far as we know it.
    args: Option<Vec<u8>>,
}

impl Creation {
    /// Returns what a call asks for, or the errno of a `clone3` whose structure is of no use.
    ///
    /// Fails only if the task died.
    pub fn of(entry: &Registers, mem: &dyn ReadMemory) -> Result<std::result::Result<Creation, i32>> {
        let plain = |flags| Creation {
            flags,
            parent_tid: Addr(entry.rdx),
            child_tid: Addr(entry.r10),
            pidfd: Addr(entry.rdx),
            args: None,
        };
        Ok(Ok(match entry.syscall() {
            libc::SYS_fork => plain(libc::SIGCHLD as u64),
            libc::SYS_vfork => plain((libc::SIGCHLD | libc::CLONE_VM | libc::CLONE_VFORK) as u64),
            libc::SYS_clone3 => match read_args(entry, mem)? {
                Ok(args) => Creation::by(args),
                Err(errno) => return Ok(Err(errno)),
            },
            // The kernel ignores the upper half.
            _ => plain(entry.rdi & 0xffff_ffff),
        }))
    }

    fn by(args: Vec<u8>) -> Creation {
        let word = |at: u64| {
            let bytes = args.get(at as usize..).and_then(<[u8]>::first_chunk);
            u64::from_le_bytes(*bytes.unwrap_or(&[0; 8]))
        };
        // The only flag of `clone3` in that byte is CLONE_NEWTIME, which changes nothing for rr.
        let flags = word(0) & !EXIT_SIGNAL_MASK | word(EXIT_SIGNAL) & EXIT_SIGNAL_MASK;
        Creation {
            flags,
            parent_tid: Addr(word(PARENT_TID)),
            child_tid: Addr(word(CHILD_TID)),
            pidfd: Addr(word(PIDFD)),
            args: Some(args),
        }
    }

    /// The structure of a `clone3` with the same arguments, but without these flags. `None` for other
    /// calls.
    pub fn args_without(&self, flags: u64) -> Option<Vec<u8>> {
        let mut args = self.args.clone()?;
        let word = args.first_chunk_mut()?;
        *word = (u64::from_le_bytes(*word) & !flags).to_le_bytes();
        Some(args)
    }
}

/// Reads the structure of a `clone3`, and refuses what a kernel refuses that knows no more fields than we
/// do (`copy_clone_args_from_user` in kernel/fork.c).
fn read_args(entry: &Registers, mem: &dyn ReadMemory) -> Result<std::result::Result<Vec<u8>, i32>> {
    let (addr, size) = (Addr(entry.rdi), entry.rsi);
    if size > PAGE {
        return Ok(Err(E2BIG));
    }
    if size < FIRST_BYTES {
        return Ok(Err(EINVAL));
    }
    let mut args = vec![0; size as usize];
    if unless_died(mem.read(addr, &mut args))?.is_none() {
        return Ok(Err(EFAULT));
    }
    let unknown = args.split_off(args.len().min(KNOWN_BYTES as usize));
    if unknown.iter().any(|byte| *byte != 0) {
        return Ok(Err(E2BIG));
    }
    Ok(Ok(args))
}

/// The memory of `clone`: the tid in the parent and the pidfd use the same argument.
pub(super) fn clone_memory(r: &Registers) -> Option<MemorySpec> {
    Some(if r.arg(0) & (CLONE_PARENT_SETTID | CLONE_PIDFD) != 0 {
        MemorySpec::One(fixed(2, 4))
    } else {
        MemorySpec::None
    })
}

/// The parts of `clone3`: its structure, and the words that the kernel writes in the parent.
pub(super) fn clone3_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let Ok(creation) = read_args(r, mem)?.map(Creation::by) else {
        return Ok(parts);
    };
    let args = Part {
        holder: Holder::Arg(0),
        addr: Addr(r.rdi),
        len: r.rsi.min(KNOWN_BYTES),
        copy_in: true,
    };
    if push_whole(&mut parts, args, mem)?.is_none() {
        return Ok(parts);
    }
    let words = [
        (CLONE_PIDFD, PIDFD, creation.pidfd),
        (CLONE_PARENT_SETTID, PARENT_TID, creation.parent_tid),
    ];
    for (_, offset, addr) in words.into_iter().filter(|(flag, ..)| creation.flags & flag != 0) {
        let holder = Holder::Within { part: 0, offset };
        let word = Part {
            holder,
            addr,
            len: 4,
            copy_in: false,
        };
        push(&mut parts, word, mem)?;
    }
    Ok(parts)
}

/// All words, if the call succeeds.
pub(super) fn clone3_written(
    _: &Registers,
    parts: &[Part],
    result: i64,
    _: &ReadPart<'_>,
) -> Result<Vec<Written>> {
    let words = if result > 0 { 1..parts.len() } else { 0..0 };
    let whole = |part: usize| Written {
        part,
        offset: 0,
        len: parts[part].len,
    };
    Ok(words.map(whole).collect())
}
