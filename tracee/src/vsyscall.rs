//! Calls of the vsyscall page (`time`, `gettimeofday`, `getcpu` of old programs), which the kernel emulates
//! without a system call stop: a seccomp filter turns them into a `SIGSYS`, while recording and in replay.
//!
//! Source: Documentation/userspace-api/seccomp_filter.rst, "Caveats".

use crate::task::SigInfo;

/// The upper half of the addresses of the page. No other code is there.
pub const HIGH: u32 = 0xffff_ffff;
/// The page.
const PAGE: std::ops::Range<u64> = 0xffff_ffff_ff60_0000..0xffff_ffff_ff60_1000;
/// `SYS_SECCOMP` (sigaction(2)).
const SYS_SECCOMP: i32 = 1;
/// `offsetof(struct seccomp_data, instruction_pointer)`, of its upper half.
const IP_HIGH: u32 = 12;

/// The number of the system call that does the same, if a filter has turned a call of the page into this
/// signal.
pub fn number(info: &SigInfo) -> Option<i64> {
    // struct { si_signo, si_errno, si_code, pad, si_call_addr (8 bytes), si_syscall, si_arch }
    let word = |at: usize| i32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
    let address = u64::from(word(16) as u32) | u64::from(word(20) as u32) << 32;
    let is_trapped = word(0) == libc::SIGSYS && word(8) == SYS_SECCOMP && PAGE.contains(&address);
    is_trapped.then(|| i64::from(word(24)))
}

/// Installs a filter in the calling thread, for these calls alone. If that fails, the kernel emulates them.
/// Async-signal-safe.
pub fn trap() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let op = |code, k, jf| libc::sock_filter { code, jt: 0, jf, k };
    let mut program = [
        op(LOAD, IP_HIGH, 0),
        op(JUMP_EQUAL, HIGH, 1),
        op(RETURN, libc::SECCOMP_RET_TRAP, 0),
        op(RETURN, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: plain numbers, and a filter of `len` instructions, which the kernel copies.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const filter,
        );
    }
}
