//! Numbers of the x86-64 system calls that the library knows (syscall(2), `asm/unistd_64.h`), and
//! constants of their arguments.

#![allow(missing_docs, dead_code)]

macro_rules! numbers {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(pub const $name: u64 = $number;)*
        /// All of them.
        pub const BUFFERED: &[u64] = &[$($number),*];
    };
}

numbers! {
    MMAP = 9, MPROTECT = 10, MUNMAP = 11, BRK = 12, RT_SIGACTION = 13, SELECT = 23, GETITIMER = 36, ALARM = 37, SETITIMER = 38, CONNECT = 42, ACCEPT = 43, SENDMSG = 46,
    RECVMSG = 47, BIND = 49, LISTEN = 50, GETSOCKNAME = 51, GETPEERNAME = 52, GETSOCKOPT = 55, GETRESUID = 118,
    GETRESGID = 120, EPOLL_CREATE = 213, SET_ROBUST_LIST = 273, PSELECT6 = 270, PPOLL = 271, TIMERFD_CREATE = 283, SYNC_FILE_RANGE = 277, EVENTFD = 284,
    TIMERFD_SETTIME = 286, TIMERFD_GETTIME = 287, ACCEPT4 = 288,
    READ = 0, WRITE = 1, OPEN = 2, CLOSE = 3, STAT = 4, FSTAT = 5, LSTAT = 6, POLL = 7, LSEEK = 8,
    RT_SIGPROCMASK = 14, IOCTL = 16, PREAD64 = 17, PWRITE64 = 18, READV = 19, WRITEV = 20, ACCESS = 21, PIPE = 22,
    MADVISE = 28, DUP = 32, DUP2 = 33, GETPID = 39, SOCKET = 41, SENDTO = 44, RECVFROM = 45, SHUTDOWN = 48,
    SOCKETPAIR = 53, SETSOCKOPT = 54, UNAME = 63, FCNTL = 72, FLOCK = 73, FSYNC = 74, FDATASYNC = 75, FTRUNCATE = 77,
    GETDENTS = 78, GETCWD = 79, CHDIR = 80, FCHDIR = 81, RENAME = 82, MKDIR = 83, RMDIR = 84, LINK = 86, UNLINK = 87,
    SYMLINK = 88, READLINK = 89, CHMOD = 90, FCHMOD = 91, CHOWN = 92, FCHOWN = 93, LCHOWN = 94, UMASK = 95,
    GETTIMEOFDAY = 96, GETRLIMIT = 97, GETRUSAGE = 98, SYSINFO = 99, TIMES = 100, GETUID = 102, GETGID = 104,
    GETEUID = 107, GETEGID = 108, GETPPID = 110, GETPGRP = 111, GETPGID = 121, GETSID = 124,
    UTIME = 132, STATFS = 137, FSTATFS = 138, GETTID = 186, READAHEAD = 187, GETXATTR = 191, LGETXATTR = 192,
    FGETXATTR = 193, LISTXATTR = 194, LLISTXATTR = 195, FLISTXATTR = 196, TIME = 201, FUTEX = 202, GETDENTS64 = 217,
    FADVISE64 = 221, CLOCK_GETTIME = 228, CLOCK_GETRES = 229, EPOLL_WAIT = 232, EPOLL_CTL = 233, UTIMES = 235,
    OPENAT = 257, MKDIRAT = 258, FCHOWNAT = 260, FUTIMESAT = 261, NEWFSTATAT = 262, UNLINKAT = 263, RENAMEAT = 264,
    LINKAT = 265, SYMLINKAT = 266, READLINKAT = 267, FCHMODAT = 268, FACCESSAT = 269, UTIMENSAT = 280,
    EPOLL_PWAIT = 281, FALLOCATE = 285, EVENTFD2 = 290, EPOLL_CREATE1 = 291, DUP3 = 292, PIPE2 = 293,
    PRLIMIT64 = 302, GETCPU = 309, RENAMEAT2 = 316, GETRANDOM = 318, COPY_FILE_RANGE = 326, STATX = 332,
    FACCESSAT2 = 439,
}

/// Pseudo call: reads the time-stamp counter.
pub const COUNTER: u64 = crate::layout::COUNTER_NUMBER;
/// Pseudo call: reads the time-stamp counter and the processor's number.
pub const COUNTER_AND_PROCESSOR: u64 = crate::layout::COUNTER_AND_PROCESSOR_NUMBER;
/// Pseudo call: asks for the processor's features. Its arguments are leaf and subleaf.
pub const CPUID: u64 = crate::layout::CPUID_NUMBER;

// These calls are never buffered, but have a payload (`../src/payload.rs`).
pub const MSGSND: u64 = 69;
pub const SETXATTR: u64 = 188;
pub const LSETXATTR: u64 = 189;
pub const FSETXATTR: u64 = 190;
pub const MQ_TIMEDSEND: u64 = 242;
pub const PWRITEV: u64 = 296;
pub const SENDMMSG: u64 = 307;
pub const PROCESS_VM_WRITEV: u64 = 311;
pub const PWRITEV2: u64 = 328;

// The library makes these calls only for its own needs.
pub const RT_SIGPENDING: u64 = 127;
pub const PREADV2: u64 = 327;

// Error numbers (errno(3)), as the kernel returns them.
pub const EINTR: i64 = -4;
pub const EAGAIN: i64 = -11;
pub const EFAULT: i64 = -14;
pub const EINVAL: i64 = -22;
pub const ETXTBSY: i64 = -26;
pub const EPIPE: i64 = -32;
pub const EOPNOTSUPP: i64 = -95;

// fcntl(2).
pub const F_GETFL: u64 = 3;
pub const F_GETLK: u64 = 5;
pub const F_OFD_GETLK: u64 = 36;
pub const O_NONBLOCK: u64 = 0o4000;
pub const O_TRUNC: u64 = 0o1000;
pub const O_NOFOLLOW: u64 = 0o400000;
pub const O_PATH: u64 = 0o10000000;
pub const AT_SYMLINK_NOFOLLOW: u64 = 0x100;

// ioctl(2).
pub const TCGETS: u64 = 0x5401;
pub const TIOCGPGRP: u64 = 0x540f;
pub const TIOCGWINSZ: u64 = 0x5413;
pub const FIONREAD: u64 = 0x541b;
pub const FIONBIO: u64 = 0x5421;
pub const FIONCLEX: u64 = 0x5450;
pub const FIOCLEX: u64 = 0x5451;
pub const FICLONE: u64 = 0x4004_9409;
