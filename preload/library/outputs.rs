//! Where a call has written what: the same answer while recording and in replay. It rests on the call's arguments, its
//! result, and memory that the call only reads.

use crate::numbers::*;
use crate::{Call, kernel};

/// No call that [`crate::calls::perform`] makes without looking at the room writes more than this.
pub const OUTPUT_SMALL: u64 = 512;

/// `struct stat`.
pub const STAT_BYTES: u64 = 144;

/// Calls `each` with address and length of every output of a call that returned `result`.
pub fn outputs(call: &Call, result: i64, each: &mut dyn FnMut(u64, u64)) {
    let a = &call.args;
    // What is written when the call succeeds, and where a pointer is given.
    let mut fixed = |arg: usize, len: u64| {
        if result >= 0 && a[arg] != 0 {
            each(a[arg], len);
        }
    };
    match call.number {
        STAT | LSTAT | FSTAT => fixed(1, STAT_BYTES),
        NEWFSTATAT => fixed(2, STAT_BYTES),
        STATX => fixed(4, 256),
        STATFS | FSTATFS => fixed(1, 120),
        CLOCK_GETTIME | CLOCK_GETRES => fixed(1, 16),
        GETTIMEOFDAY => {
            fixed(0, 16);
            fixed(1, 8);
        }
        TIME => fixed(0, 8),
        GETRUSAGE => fixed(1, 144),
        TIMES => fixed(0, 32),
        SYSINFO => fixed(0, 112),
        UNAME => fixed(0, 390),
        GETCPU => {
            fixed(0, 4);
            fixed(1, 4);
        }
        GETRLIMIT => fixed(1, 16),
        PRLIMIT64 => fixed(3, 16),
        PIPE | PIPE2 => fixed(0, 8),
        SOCKETPAIR => fixed(3, 8),
        RT_SIGPROCMASK => fixed(2, 8),
        FCNTL if matches!(a[1], F_GETLK | F_OFD_GETLK) => fixed(2, 32),
        IOCTL if a[1] == FIONREAD => fixed(2, 4),
        COPY_FILE_RANGE => {
            fixed(1, 8);
            fixed(3, 8);
        }
        POLL => fixed(0, a[1] * 8),
        EPOLL_WAIT | EPOLL_PWAIT => {
            if result > 0 {
                each(a[1], result as u64 * 12);
            }
        }
        READ | PREAD64 | RECVFROM | READLINK | GETDENTS | GETDENTS64 => up_to(a[1], result, a[2], each),
        READLINKAT => up_to(a[2], result, a[3], each),
        GETCWD | GETRANDOM => up_to(a[0], result, a[1], each),
        GETXATTR | LGETXATTR | FGETXATTR => up_to(a[2], result, a[3], each),
        LISTXATTR | LLISTXATTR | FLISTXATTR => up_to(a[1], result, a[2], each),
        READV => {
            let mut left = result.max(0) as u64;
            for n in 0..a[2] {
                if left == 0 {
                    break;
                }
                // SAFETY: the kernel has read the vector, so it can be read. (What overlaps it is not for the library.)
                let (base, len) = unsafe { (kernel::word(a[1] + n * 16), kernel::word(a[1] + n * 16 + 8)) };
                let len = len.min(left);
                each(base, len);
                left -= len;
            }
        }
        _ => {}
    }
}

/// As many bytes as the result says, at most the `size` of the buffer.
fn up_to(at: u64, result: i64, size: u64, each: &mut dyn FnMut(u64, u64)) {
    if result > 0 {
        let len = (result as u64).min(size);
        if len > 0 {
            each(at, len);
        }
    }
}
