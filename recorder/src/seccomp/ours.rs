//! The seccomp-bpf filter that turns every system call of a tracee into a ptrace stop, except calls
//! made by the one system call instruction of rr's own code page. Calls of another architecture (`int
//! 0x80`), whose numbers have other meanings, become a `SIGSYS`, and so do calls of the vsyscall page.
//!
//! ```text
//!   A = architecture
//!   A != x86-64                 ─► TRAP
//!   A = high half of the instruction pointer (which is past the 2-byte syscall instruction)
//!   A == that of the vsyscall page ─► TRAP
//!   A != 0                      ─► TRACE
//!   A = low half
//!   A != low(SYSCALL_INSN + 2)  ─► TRACE
//!                                  ALLOW
//! ```
//!
//! Source: seccomp(2), `struct seccomp_data`.

use nix::errno::Errno;
use rr_preload::layout;
use rr_tracee::{rr_area, vsyscall};

/// `offsetof(struct seccomp_data, arch)`.
const ARCH_OFFSET: u32 = 4;
/// `AUDIT_ARCH_X86_64` (`<linux/audit.h>`).
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// `offsetof(struct seccomp_data, instruction_pointer)`.
const IP_OFFSET: u32 = 8;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn op(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Address after the instruction whose calls are not traced.
const PASS: u64 = rr_area::SYSCALL_INSN.0 + 2;

static PROGRAM: [libc::sock_filter; 10] = [
    op(LOAD, ARCH_OFFSET, 0, 0),
    op(JUMP_EQUAL, AUDIT_ARCH_X86_64, 0, 7),
    op(LOAD, IP_OFFSET + 4, 0, 0),
    op(JUMP_EQUAL, vsyscall::HIGH, 5, 0),
    op(JUMP_EQUAL, (PASS >> 32) as u32, 0, 3),
    op(LOAD, IP_OFFSET, 0, 0),
    op(JUMP_EQUAL, PASS as u32, 0, 1),
    op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    op(RETURN, libc::SECCOMP_RET_TRACE, 0, 0),
    op(RETURN, libc::SECCOMP_RET_TRAP, 0, 0),
];

/// Returns the bytes of a `struct sock_fprog` and its instructions, to be placed at the address `at`.
/// The filter does `action` at each call except the call that ends remote calls.
pub(super) fn deadly(action: u32, at: u64) -> Vec<u8> {
    const HEADER: u64 = 16;
    let program = [
        op(LOAD, IP_OFFSET, 0, 0),
        op(JUMP_EQUAL, layout::REMOTE_STOP as u32, 0, 3),
        op(LOAD, IP_OFFSET + 4, 0, 0),
        op(JUMP_EQUAL, (layout::REMOTE_STOP >> 32) as u32, 0, 1),
        op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
        op(RETURN, action, 0, 0),
    ];
    let mut bytes = (program.len() as u64).to_le_bytes().to_vec();
    bytes.extend((at + HEADER).to_le_bytes());
    for op in program {
        bytes.extend(op.code.to_le_bytes());
        bytes.extend([op.jt, op.jf]);
        bytes.extend(op.k.to_le_bytes());
    }
    bytes
}

/// Installs the filter in the calling thread. Without `CAP_SYS_ADMIN` this needs, and sets, `no_new_privs`.
/// Async-signal-safe: called between fork and exec.
pub fn install() -> Result<(), Errno> {
    let program = libc::sock_fprog {
        len: PROGRAM.len() as u16,
        filter: PROGRAM.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points to a filter of `len` instructions, which the kernel copies.
    let set = || unsafe {
        Errno::result(libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        ))
    };
    match set() {
        Err(Errno::EACCES) => {
            // SAFETY: prctl with plain numbers.
            Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
            set().map(drop)
        }
        other => other.map(drop),
    }
}
