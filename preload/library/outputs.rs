//! Says where a call has written its outputs: the same answer while recording and in replay. The answer
//! depends only on the call's arguments, its result, memory that the call only reads, and lengths that
//! the call has written.

use core::mem::offset_of;

use crate::call::Call;
use crate::layout::{CONTROL, Control};
use crate::message;
use crate::numbers::*;
use crate::{kernel, polling};

/// Maximum size of the outputs of calls that [`crate::calls::perform`] makes without checking the room.
pub const OUTPUT_SMALL: u64 = 512;

/// `struct stat`.
pub const STAT_BYTES: u64 = 144;

/// Sizes of the program's buffers, in bytes, for calls that overwrite the size with the number of bytes
/// used. They must be read before the call is made.
pub fn asked(call: &Call) -> [u64; 2] {
    let a = &call.args;
    // SAFETY: [`crate::probe`] has checked that this memory can be read.
    unsafe {
        match call.number {
            RECVFROM if a[4] != 0 => [int(a[5]), 0],
            ACCEPT | ACCEPT4 | GETSOCKNAME | GETPEERNAME if a[1] != 0 => [int(a[2]), 0],
            GETSOCKOPT => [int(a[4]), 0],
            RECVMSG => {
                let room = |pointer, len: u64| if kernel::word(a[1] + pointer) == 0 { 0 } else { len };
                [
                    room(message::NAME, int(a[1] + message::NAME_LEN)),
                    room(message::CONTROL, kernel::word(a[1] + message::CONTROL_LEN)),
                ]
            }
            _ => [0; 2],
        }
    }
}

/// Reads an `int` that the kernel takes as a length.
///
/// # Safety
///
/// As for [`kernel::copy`].
pub unsafe fn int(at: u64) -> u64 {
    // SAFETY: the caller answers for the address.
    unsafe { (at as *const u32).read_unaligned().into() }
}

/// Calls `each` with address and length of every output of a call that returned `result`. `asked` is
/// the value of [`asked`] from before the call. In replay `each` stores the output at once, so each
/// length comes before the bytes that it measures.
pub fn outputs(call: &Call, result: i64, asked: [u64; 2], each: &mut impl FnMut(u64, u64)) {
    let a = &call.args;
    // An output of fixed size: written if the call succeeds and the pointer is not null.
    let mut fixed = |arg: usize, len: u64| {
        if result >= 0 && a[arg] != 0 {
            each(a[arg], len);
        }
    };
    match call.number {
        // Outputs of fixed size.
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
        COUNTER_AND_PROCESSOR => each(CONTROL + offset_of!(Control, processor) as u64, 8),
        GETCPU => {
            fixed(0, 4);
            fixed(1, 4);
        }
        GETRLIMIT => fixed(1, 16),
        PRLIMIT64 => fixed(3, 16),
        PIPE | PIPE2 => fixed(0, 8),
        // The kernel writes the descriptors before it makes the sockets, and that can still fail.
        SOCKETPAIR => each(a[3], 8),
        RT_SIGPROCMASK => fixed(2, 8),
        FCNTL if matches!(a[1], F_GETLK | F_OFD_GETLK) => fixed(2, 32),
        IOCTL if a[1] == FIONREAD => fixed(2, 4),
        COPY_FILE_RANGE => {
            fixed(1, 8);
            fixed(3, 8);
        }
        POLL | PPOLL => fixed(0, a[1] * 8),
        SELECT | PSELECT6 => {
            let len = polling::set_bytes(call);
            fixed(1, len);
            fixed(2, len);
            fixed(3, len);
        }
        RT_SIGACTION => fixed(2, 32),
        GETITIMER | TIMERFD_GETTIME => fixed(1, 32),
        SETITIMER => fixed(2, 32),
        TIMERFD_SETTIME => fixed(3, 32),
        GETRESUID | GETRESGID => {
            fixed(0, 4);
            fixed(1, 4);
            fixed(2, 4);
        }
        // Outputs whose length depends on the result.
        ACCEPT | ACCEPT4 | GETSOCKNAME | GETPEERNAME if result >= 0 && a[1] != 0 => {
            counted(a[1], a[2], asked[0], each);
        }
        GETSOCKOPT if result >= 0 => counted(a[3], a[4], asked[0], each),
        RECVFROM => {
            if result >= 0 && a[4] != 0 {
                counted(a[4], a[5], asked[0], each);
            }
            up_to(a[1], result, a[2], each);
        }
        RECVMSG if result >= 0 => {
            let at = a[1];
            each(at + message::CONTROL_LEN, 8);
            each(at + message::FLAGS, 4);
            // SAFETY: the kernel has read the message, so it can be read.
            unsafe {
                counted(
                    kernel::word(at + message::NAME),
                    at + message::NAME_LEN,
                    asked[0],
                    each,
                );
                let control = kernel::word(at + message::CONTROL);
                each(control, kernel::word(at + message::CONTROL_LEN).min(asked[1]));
                vector(
                    kernel::word(at + message::VECTOR),
                    kernel::word(at + message::COUNT),
                    result,
                    each,
                );
            }
        }
        EPOLL_WAIT | EPOLL_PWAIT => {
            if result > 0 {
                each(a[1], result as u64 * 12);
            }
        }
        READ | PREAD64 | READLINK | GETDENTS | GETDENTS64 => up_to(a[1], result, a[2], each),
        READLINKAT => up_to(a[2], result, a[3], each),
        GETCWD | GETRANDOM => up_to(a[0], result, a[1], each),
        GETXATTR | LGETXATTR | FGETXATTR => up_to(a[2], result, a[3], each),
        LISTXATTR | LLISTXATTR | FLISTXATTR => up_to(a[1], result, a[2], each),
        READV => vector(a[1], a[2], result, each),
        _ => {}
    }
}

/// The first `result` bytes of a vector of buffers.
fn vector(at: u64, count: u64, result: i64, each: &mut impl FnMut(u64, u64)) {
    let mut left = result.max(0) as u64;
    for n in 0..count {
        if left == 0 {
            break;
        }
        // SAFETY: the kernel has read the vector, so it can be read. (The library does not handle
        // buffers that overlap it.)
        let (base, len) = unsafe { (kernel::word(at + n * 16), kernel::word(at + n * 16 + 8)) };
        let len = len.min(left);
        each(base, len);
        left -= len;
    }
}

/// An `int` at `count`, and the number of bytes that it says at `at`, at most `room`.
fn counted(at: u64, count: u64, room: u64, each: &mut impl FnMut(u64, u64)) {
    each(count, 4);
    // SAFETY: the kernel has written the `int`, so it can be read.
    let len = unsafe { int(count) }.min(room);
    if len > 0 {
        each(at, len);
    }
}

/// The number of bytes that the result says, at most the `size` of the buffer.
fn up_to(at: u64, result: i64, size: u64, each: &mut impl FnMut(u64, u64)) {
    if result > 0 {
        let len = (result as u64).min(size);
        if len > 0 {
            each(at, len);
        }
    }
}
