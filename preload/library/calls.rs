//! Decides which calls the library makes, and makes them without ever waiting for another task.
//!
//! If the kind of file decides, the library asks for it first. Regular files, directories and a few
//! devices never wait for a task. Pipes and sockets are read and written only as far as that is
//! possible at once. If a call turns out to be impossible without waiting, it has had no effect yet,
//! and is left to be traced.

use crate::call::Call;
use crate::file::{File, S_IFCHR, S_IFIFO, S_IFREG, S_IFSOCK, is_nonblocking, is_writable, major, plain};
use crate::kernel::{self, call as sys};
use crate::layout::{ACTIONS_KNOWN, CONTROL, Control, FORCED, traced};
use crate::numbers::*;
use crate::{numbers, polling, probe, sockets};

/// Maximum number of bytes written to a pipe. The kernel writes this many as a whole or not at all
/// (pipe(7), `PIPE_BUF`).
const PIPE_MOST: u64 = 4096;

const RWF_NOWAIT: u64 = 8;
const LOCK_NB: u64 = 4;
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// Says if the kernel has read the payload of a call that was made ([`crate::payload`]), so that the
/// library can read it, too.
#[derive(Clone, Copy)]
pub enum Reading {
    /// The kernel has read the payload.
    Done,
    /// Not certain: some files of virtual file systems report more bytes as taken than they have read.
    Perhaps,
    /// A device that is memory (`/dev/null`) mostly does not read the payload.
    None,
}

/// Makes the call and returns its result. `None` means that the call had no effect and has to be
/// traced. The call's outputs are at most `room` bytes.
pub fn perform(call: &Call, traced: u32, room: u64, reading: &mut Reading) -> Option<i64> {
    let result = attempt(call, traced, room, reading)?;
    if result == EFAULT && matches!(call.number, READ | RECVFROM) {
        // The received bytes may be gone, so the call cannot be made again. `read` and
        // `sockets::receive` have checked the buffer before they took any.
        return Some(result);
    }
    if result == EINTR && call.number == CLOSE {
        // The descriptor is closed (close(2)). Another file may have its number by now.
        return Some(result);
    }
    // The recorder handles these errors. `EFAULT`: an output may be half written. `EINTR`: a signal has
    // to come first. `ETXTBSY`: the frozen fork of a checkpoint keeps the program file busy.
    (!matches!(result, EFAULT | EINTR | ETXTBSY)).then_some(result)
}

fn attempt(call: &Call, now: u32, room: u64, reading: &mut Reading) -> Option<i64> {
    let a = &call.args;
    match call.number {
        // The library's own calls, and calls that only ask for values.
        COUNTER => Some(counter()),
        COUNTER_AND_PROCESSOR if now & traced::GETCPU == 0 => {
            read_processor();
            Some(counter())
        }
        // The answer is a constant of the trace.
        CPUID => cpuid(a[0], a[1]).map(|_| 0),
        GETPID | GETTID | GETUID | GETGID | GETEUID | GETEGID | GETPPID | GETPGRP | GETPGID | GETSID => {
            plain(call)
        }
        CLOCK_GETTIME | CLOCK_GETRES | GETTIMEOFDAY | TIME | GETRUSAGE | TIMES | SYSINFO | UNAME
        | GETRLIMIT => plain(call),
        GETCPU if now & traced::GETCPU == 0 => plain(call),
        // The call only reads a limit.
        PRLIMIT64 if a[0] == 0 && a[2] == 0 => plain(call),
        GETRANDOM if a[1] <= room.min(256) => plain(call),

        // Files by name, descriptors, and new sockets.
        STAT | FSTAT | LSTAT | NEWFSTATAT | STATX | ACCESS | FACCESSAT | FACCESSAT2 | STATFS | FSTATFS => {
            plain(call)
        }
        READLINK | GETDENTS | GETDENTS64 | LISTXATTR | LLISTXATTR | FLISTXATTR if a[2] <= room => plain(call),
        READLINKAT | GETXATTR | LGETXATTR | FGETXATTR if a[3] <= room => plain(call),
        GETCWD if a[1] <= room => plain(call),
        UNLINK | UNLINKAT | MKDIR | MKDIRAT | RMDIR | RENAME | RENAMEAT | RENAMEAT2 | LINK | LINKAT
        | SYMLINK | SYMLINKAT | CHMOD | FCHMOD | FCHMODAT | CHOWN | FCHOWN | LCHOWN | FCHOWNAT | UTIME
        | UTIMES | FUTIMESAT | UTIMENSAT | UMASK | CHDIR | FCHDIR => plain(call),
        OPEN => open(call, now, u64::from_ne_bytes((-100i64).to_ne_bytes()), a[0], a[1]),
        OPENAT => open(call, now, a[0], a[1], a[2]),
        CLOSE | DUP2 | DUP3 if now & traced::CLOSES != 0 => None,
        CLOSE | DUP | DUP2 | DUP3 | LSEEK | FADVISE64 | READAHEAD | FSYNC | FDATASYNC | SYNC_FILE_RANGE => {
            plain(call)
        }
        FLOCK if a[1] & LOCK_NB != 0 || a[1] == 8 => plain(call),
        FCNTL => fcntl(call),
        IOCTL => ioctl(call, now),
        PIPE | PIPE2 | EVENTFD | EVENTFD2 | TIMERFD_CREATE | TIMERFD_SETTIME | TIMERFD_GETTIME => plain(call),
        EPOLL_CREATE | EPOLL_CREATE1 | SOCKET | BIND | LISTEN | SHUTDOWN => plain(call),
        SOCKETPAIR if probe::writable(a[3], 8) => plain(call),
        SETSOCKOPT => sockets::set_option(call),

        // Reading and writing files.
        READ | PREAD64 | READV if now & traced::PROC_READS != 0 && may_be_of_proc(a[0]) => None,
        READ if a[2] <= room => read(call, u64::MAX),
        PREAD64 if a[2] <= room && a[3] as i64 >= 0 => read(call, a[3]),
        READV if a[2] <= 16 => readv(call, room),
        WRITE | PWRITE64 => write(call, now, a[2], reading),
        WRITEV if a[2] <= 64 => write(call, now, sockets::vector_len(a[1], a[2]), reading),
        FTRUNCATE | FALLOCATE => change(call, now, a[0]),
        COPY_FILE_RANGE => change(call, now, a[2]),

        // Sockets, and waiting for descriptors.
        RECVFROM => sockets::receive(call, room),
        RECVMSG => sockets::receive_message(call, room),
        SENDTO => sockets::send(call),
        SENDMSG => sockets::send_message(call),
        ACCEPT | ACCEPT4 | CONNECT => sockets::join(call),
        GETSOCKNAME | GETPEERNAME => sockets::name(call, room),
        GETSOCKOPT => sockets::option(call, room),
        POLL | PPOLL => polling::poll(call, room),
        SELECT | PSELECT6 => polling::select(call),
        EPOLL_CTL => plain(call),
        EPOLL_WAIT => polling::epoll_wait(call, room),
        EPOLL_PWAIT if a[4] == 0 => polling::epoll_wait(call, room),

        // Locks, signals, timers, memory.
        FUTEX => futex(call, now),
        RT_SIGPROCMASK if a[3] == 8 => sigprocmask(call),
        RT_SIGACTION if a[3] == 8 && (a[1] == 0 || !has_known_action(a[0] as u32)) => plain(call),
        GETITIMER | SETITIMER | ALARM => plain(call),
        GETRESUID | GETRESGID | SET_ROBUST_LIST => plain(call),
        // This advice does not change what memory holds.
        MADVISE if matches!(a[2], 0..=3 | 14..=17 | 20) => plain(call),
        _ => None,
    }
}

/// Returns what `rdtsc` gives: the clock in ticks.
fn counter() -> i64 {
    const CLOCK_MONOTONIC_RAW: u64 = 4;
    let mut time = [0u64; 2];
    let at = time.as_mut_ptr() as u64;
    // SAFETY: the kernel fills `time`. The control page is there wherever this code is.
    unsafe {
        sys(CLOCK_GETTIME, [CLOCK_MONOTONIC_RAW, at, 0, 0, 0, 0]);
        let time = (at as *const [u64; 2]).read_volatile();
        (*(CONTROL as *const Control))
            .counter
            .at(time[0] * 1_000_000_000 + time[1]) as i64
    }
}

/// Stores the processor's number as `rdtscp` gives it in the control page.
fn read_processor() {
    let mut cpu_and_node = [0u32; 2];
    let at = cpu_and_node.as_mut_ptr() as u64;
    // SAFETY: the kernel fills both words. The control page is there wherever this code is.
    unsafe {
        sys(GETCPU, [at, at + 4, 0, 0, 0, 0]);
        let [cpu, node] = (at as *const [u32; 2]).read_volatile();
        (*(CONTROL as *mut Control)).processor = u64::from(node << 12 | cpu);
    }
}

/// Returns the answer of `cpuid` (`eax`, `ebx`, `ecx`, `edx`) for a leaf and a subleaf in the lower halves of these words, if it is
/// known.
pub fn cpuid(leaf: u64, sub: u64) -> Option<[u32; 4]> {
    let control = CONTROL as *const Control;
    // SAFETY: the page is there wherever this code is, and nobody changes these words while the task runs.
    let entries = unsafe { &(*control).cpuid };
    let entry = entries.iter().find(|entry| entry.is_for(leaf as u32, sub as u32))?;
    Some(entry.answer)
}

/// Opens a file unless it is a FIFO, a terminal or a file of `/proc`.
fn open(call: &Call, now: u32, dir: u64, path: u64, flags: u64) -> Option<i64> {
    if flags & O_PATH != 0 {
        return plain(call);
    }
    if flags & O_TRUNC != 0 && now & traced::TRUNCATION != 0 {
        return None;
    }
    let follow = if flags & O_NOFOLLOW != 0 {
        AT_SYMLINK_NOFOLLOW
    } else {
        0
    };
    let virtual_device = match File::of(NEWFSTATAT, [dir, path, follow]) {
        Ok(file) if !file.is_plain() => return None,
        Ok(file) if flags & O_TRUNC != 0 && file.is_watched() => return None,
        Ok(file) => major(file.device) == 0,
        // The call will fail or create the file.
        Err(_) => false,
    };
    let result = plain(call)?;
    if result >= 0 && virtual_device {
        let mut statfs = [0u64; 15];
        // SAFETY: the kernel fills `statfs`, which is as large as it thinks.
        unsafe { sys(FSTATFS, [result as u64, statfs.as_mut_ptr() as u64, 0, 0, 0, 0]) };
        let special =
            statfs[0] == PROC_SUPER_MAGIC || statfs[0] == SYSFS_MAGIC && now & traced::CPU_LISTS != 0;
        if special {
            // SAFETY: concerns no memory. The recorder opens it again.
            unsafe { sys(CLOSE, [result as u64, 0, 0, 0, 0, 0]) };
            return None;
        }
    }
    Some(result)
}

fn fcntl(call: &Call) -> Option<i64> {
    // F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_OFD_GETLK, F_OFD_SETLK, F_DUPFD_CLOEXEC, F_GETPIPE_SZ
    matches!(call.args[1], 0..=6 | 36 | 37 | 1030 | 1032).then(|| plain(call))?
}

fn ioctl(call: &Call, now: u32) -> Option<i64> {
    match call.args[1] {
        FIONBIO | FIONCLEX | FIOCLEX => plain(call),
        FICLONE => change(call, now, call.args[0]),
        // These requests are for terminals. Other files refuse them at once.
        TCGETS | TIOCGWINSZ | TIOCGPGRP => match File::of_fd(call.args[0]) {
            Ok(file) if file.kind == S_IFCHR && file.major != 1 => None,
            _ => plain(call),
        },
        FIONREAD => match File::of_fd(call.args[0]) {
            Ok(file) if matches!(file.kind, S_IFREG | S_IFIFO | S_IFSOCK) => plain(call),
            _ => None,
        },
        _ => None,
    }
}

/// Returns whether the descriptor refers to a file without a size on a virtual file system, as the
/// files of `/proc` are.
fn may_be_of_proc(fd: u64) -> bool {
    let is_one = |file: File| file.kind == S_IFREG && file.size == 0 && major(file.device) == 0;
    File::of_fd(fd).is_ok_and(is_one)
}

/// Reads into one buffer: at `offset`, or at the file position if `offset` is all ones.
fn read(call: &Call, offset: u64) -> Option<i64> {
    let [fd, buffer, len, ..] = call.args;
    let part = [buffer, len];
    // Some files lose the bytes that they could not deliver, so the buffer is checked first. To check a
    // large buffer costs more than to ask how much of it the file can fill.
    const LARGE: u64 = 16 << 10;
    let file = (len > LARGE).then(|| File::of_fd(fd));
    let most = match &file {
        Some(Ok(file)) if file.kind == S_IFREG && file.size > 0 => len.min(file.size),
        _ => len,
    };
    if !probe::writable(buffer, most) {
        return None;
    }
    // SAFETY: reads into the program's buffer; the vector is on our stack.
    let got = unsafe { sys(PREADV2, [fd, part.as_ptr() as u64, 1, offset, 0, RWF_NOWAIT]) };
    if got as u64 == len || got == 0 {
        return Some(got);
    }
    let file = match file.unwrap_or_else(|| File::of_fd(fd)) {
        Ok(file) => file,
        Err(_) => return plain(call).filter(|result| *result != EFAULT),
    };
    match got {
        // A pipe or socket had fewer bytes. A file may have the rest on its disk.
        1.. if file.kind != S_IFREG => Some(got),
        1.. => {
            let at = if offset == u64::MAX {
                0
            } else {
                offset.wrapping_add(got as u64)
            };
            let rest = [fd, buffer + got as u64, len - got as u64, at, 0, 0];
            // SAFETY: reads into the rest of the program's buffer.
            let more = unsafe { sys(call.number, rest) };
            Some(got + more.max(0))
        }
        _ if file.is_plain() => plain(call).filter(|result| *result != EFAULT),
        EAGAIN if is_nonblocking(fd) => Some(EAGAIN),
        _ if is_final(got) => Some(got),
        _ if matches!(file.kind, S_IFIFO | S_IFSOCK) => leave(),
        _ => None,
    }
}

/// Returns whether the result of an attempt with `RWF_NOWAIT` is the result of the call. An error that waits at a socket, or at
/// a timer (`ECANCELED`), is reported once only: a second attempt would find none. The other errors only say that the attempt was
/// not possible.
fn is_final(result: i64) -> bool {
    !matches!(result, EAGAIN | EOPNOTSUPP | EINVAL | EFAULT | EINTR)
}

/// Leaves the call to the recorder and counts it: the call may have to wait for the other end of a pipe
/// or socket.
fn leave() -> Option<i64> {
    let control = CONTROL as *mut Control;
    // SAFETY: the page is there wherever this code is.
    unsafe { (*control).left += 1 };
    None
}

fn readv(call: &Call, room: u64) -> Option<i64> {
    let [fd, vector, count, ..] = call.args;
    let mut len = 0u64;
    for n in 0..count {
        // SAFETY: the library has checked that the vector can be read.
        let (base, part) = unsafe { (kernel::word(vector + n * 16), kernel::word(vector + n * 16 + 8)) };
        len = len.saturating_add(part);
        let is_apart = base >= vector + count * 16 || vector >= base.saturating_add(part);
        // A message that cannot be stored would be lost.
        if len > room || !is_apart || !probe::writable(base, part) {
            return None;
        }
    }
    match File::of_fd(fd) {
        Ok(file) if !file.is_plain() => {
            // SAFETY: reads into the program's buffers.
            let got = unsafe { sys(PREADV2, [fd, vector, count, u64::MAX, 0, RWF_NOWAIT]) };
            is_final(got).then_some(got)
        }
        _ => plain(call),
    }
}

/// Writing `len` bytes.
fn write(call: &Call, now: u32, len: u64, reading: &mut Reading) -> Option<i64> {
    if now & traced::WRITES != 0 {
        return None;
    }
    let fd = call.args[0];
    let Ok(file) = File::of_fd(fd) else {
        return plain(call);
    };
    if file.is_watched() {
        return None;
    }
    *reading = match file.kind {
        S_IFCHR => Reading::None,
        S_IFREG if file.blocks == 0 => Reading::Perhaps,
        _ => Reading::Done,
    };
    match file.kind {
        _ if file.is_plain() => plain(call),
        S_IFIFO if len <= PIPE_MOST && is_writable(fd) => plain(call),
        // An event counter (eventfd(2)) or a similar file.
        0 if len == 8 && is_writable(fd) => plain(call),
        S_IFIFO => leave(),
        S_IFSOCK => sockets::write(call, len).or_else(leave),
        _ => None,
    }
}

/// Makes a call that changes the contents of the file `fd`.
fn change(call: &Call, now: u32, fd: u64) -> Option<i64> {
    if now & traced::WRITES != 0 {
        return None;
    }
    match File::of_fd(fd) {
        Ok(file) if file.kind == S_IFREG && !file.is_watched() => plain(call),
        _ => None,
    }
}

/// Wakes tasks, or waits for something that has happened already.
fn futex(call: &Call, now: u32) -> Option<i64> {
    let [at, operation, expected, _, _, bits] = call.args;
    match operation as u32 & 0x7f {
        1 | 10 if now & traced::WAKES != 0 => None,
        // FUTEX_WAKE, FUTEX_WAKE_BITSET, FUTEX_REQUEUE, FUTEX_CMP_REQUEUE
        1 | 10 | 3 | 4 => plain(call),
        // FUTEX_WAIT, FUTEX_WAIT_BITSET
        wait @ (0 | 9) if at & 3 == 0 && (wait == 0 || bits as u32 != 0) => {
            if !probe::readable(at, 4) {
                return None;
            }
            // SAFETY: the memory has just been checked.
            let value = unsafe { (at as *const u32).read_volatile() };
            (value != expected as u32).then_some(numbers::EAGAIN)
        }
        _ => None,
    }
}

/// Returns whether the recorder has to know what the program does with this signal.
fn has_known_action(signal: u32) -> bool {
    matches!(signal, 1..=64) && ACTIONS_KNOWN >> (signal - 1) & 1 != 0
}

/// Changes the signal mask. Not handled if a signal is pending that the new mask may let in: that
/// signal has to come first.
fn sigprocmask(call: &Call) -> Option<i64> {
    let [how, set, before, ..] = call.args;
    if set != 0 && how != 0 {
        let mut pending = [0u64; 1];
        let at = pending.as_mut_ptr() as u64;
        // SAFETY: the kernel fills eight bytes of ours.
        let result = unsafe { sys(RT_SIGPENDING, [at, 8, 0, 0, 0, 0]) };
        // SAFETY: as above; the kernel has written it.
        if result != 0 || unsafe { (at as *const u64).read_volatile() } != 0 {
            return None;
        }
    }
    if set == 0 {
        return plain(call);
    }
    let mut own = [0u64; 1];
    let at = match before {
        0 => own.as_mut_ptr() as u64,
        // `before` overlaps `set`: the kernel would overwrite the new mask, which is read again below.
        _ if before.abs_diff(set) < 8 => return None,
        _ => before,
    };
    // SAFETY: the program asked for this call. If it does not ask for the old mask, the kernel writes
    // that to our stack.
    let result = unsafe { sys(RT_SIGPROCMASK, [how, set, at, 8, 0, 0]) };
    if result == 0 {
        // SAFETY: the kernel has just read the one and written the other.
        let (set, before) = unsafe { (kernel::word(set), kernel::word(at)) };
        let now = match how as u32 {
            0 => before | set,
            1 => before & !set,
            _ => set,
        };
        tell_blocked(before, now);
    }
    Some(result)
}

/// Tells the recorder about a change of the signal mask.
fn tell_blocked(before: u64, now: u64) {
    if (before ^ now) & FORCED != 0 {
        let control = CONTROL as *mut Control;
        // SAFETY: the page is there wherever this code is.
        unsafe {
            let changes = (*control).blocked >> 32;
            (*control).blocked = changes.wrapping_add(1) << 32 | now & FORCED;
        }
    }
}
