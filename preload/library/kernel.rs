//! Makes system calls, and copies memory.

use core::arch::{asm, global_asm};

unsafe extern "C" {
    fn kernel_call();
}

/// Makes a system call, with the one instruction that is not traced.
///
/// # Safety
///
/// The call must change only memory that the program passed to it, or memory of the library.
pub unsafe fn call(number: u64, args: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the kernel changes only rax, rcx and r11. The caller answers for memory.
    unsafe {
        asm!(
            "call {kernel_call}",
            kernel_call = sym kernel_call,
            inlateout("rax") number as i64 => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// Copies `len` bytes.
///
/// # Safety
///
/// A fault at either place is handled by the recorder: it ends the current call. `to` must be the
/// program's buffer or memory of the library.
pub unsafe fn copy(to: u64, from: u64, len: u64) {
    // SAFETY: the caller answers for the places.
    unsafe {
        match len {
            16 => *(to as *mut Two) = *(from as *const Two),
            _ => copy_any(to, from, len),
        }
    }
}

/// Does what [`copy`] does, for any length.
#[inline(never)]
unsafe fn copy_any(to: u64, from: u64, len: u64) {
    // SAFETY: the caller answers for the places; the direction flag is clear. `rep movsb` starts
    // slowly, so short lengths do not use it.
    unsafe {
        match len {
            0..16 => {
                for n in 0..len {
                    *((to + n) as *mut u8) = *((from + n) as *const u8);
                }
            }
            16..=256 => {
                let mut n = 0;
                while n < len {
                    // The last two words overlap.
                    n = n.min(len - 16);
                    *((to + n) as *mut Two) = *((from + n) as *const Two);
                    n += 16;
                }
            }
            _ => {
                asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _);
            }
        }
    }
}

/// Sixteen bytes anywhere.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Two(u64, u64);

/// Reads a word of the program.
///
/// # Safety
///
/// As for [`copy`].
pub unsafe fn word(at: u64) -> u64 {
    // SAFETY: the caller answers for it.
    unsafe { (at as *const u64).read_unaligned() }
}

// The compiler calls these functions to copy and clear structures.
global_asm!(
    ".global memcpy, memmove, memset, bcmp, memcmp",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    // Not used. A trap at run time is better than a linker error.
    "memmove:",
    "bcmp:",
    "memcmp:",
    "ud2",
);
