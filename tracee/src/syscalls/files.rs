//! Descriptors and the calls that read and write through them: open, read, write, copy, lock, sync,
//! fcntl.

use super::spec::{Emulated, Len, MemorySpec, Spec};
use libc::{EINVAL, ENOSYS, ENOTTY};

use super::forms::*;
use super::{ioctl, vectors};
use crate::regs::Registers;

/// `struct flock`.
const FLOCK: u64 = 32;
/// `loff_t`: an offset that the kernel reads and advances.
const OFFSET: u64 = 8;

#[rustfmt::skip] // one call, one line
pub(super) static CALLS: &[Spec] = &[
    // Opening a FIFO waits for the other end.
    call(2, "open").blocks_if(|r| open_waits(r.arg(1))),
    call(85, "creat").blocks(),
    call(257, "openat").blocks_if(|r| open_waits(r.arg(2))),
    call(437, "openat2").blocks(),
    call(304, "open_by_handle_at").blocks_if(|r| open_waits(r.arg(2))),
    call(303, "name_to_handle_at").outs(&[
        // struct file_handle { handle_bytes, handle_type, f_handle[] }: EOVERFLOW writes handle_bytes.
        perhaps_len(2, Len::At { arg: 2, offset: 0, unit: 1, plus: 8 }).at_most(8 + 128),
        perhaps_len(3, Len::Of(mount_id_len)),
    ]),
    call(3, "close"),
    call(436, "close_range"),
    call(32, "dup"),
    call(33, "dup2"),
    call(292, "dup3"),
    call(22, "pipe").outs(&[fixed(0, 8)]),
    call(293, "pipe2").outs(&[fixed(0, 8)]),
    call(319, "memfd_create"),
    call(447, "memfd_secret").emulated(Emulated::MemfdSecret),
    call(284, "eventfd"),
    call(290, "eventfd2"),

    call(0, "read").blocks_on(0).outs(&[buffer(1, 2)]),
    call(17, "pread64").blocks_on(0).outs(&[buffer(1, 2)]),
    call(19, "readv").blocks_on(0).computed(vectors::readv_parts, vectors::readv_written),
    call(295, "preadv").blocks_on(0).computed(vectors::readv_parts, vectors::readv_written),
    call(327, "preadv2").blocks_on(0).only_if(|r| r.arg(5) & RWF_NOWAIT == 0).computed(vectors::readv_parts, vectors::readv_written),
    call(1, "write").blocks_on(0),
    call(18, "pwrite64").blocks_on(0),
    call(20, "writev").blocks_on(0),
    call(296, "pwritev").blocks_on(0),
    call(328, "pwritev2").blocks_on(0).only_if(|r| r.arg(5) & RWF_NOWAIT == 0),
    call(8, "lseek"),
    call(187, "readahead"),
    call(221, "fadvise64"),
    call(285, "fallocate"),
    call(76, "truncate"),
    call(77, "ftruncate"),

    call(40, "sendfile").blocks().outs(&[perhaps(2, OFFSET)]),
    call(275, "splice").blocks().outs(&[perhaps(1, OFFSET), perhaps(3, OFFSET)]),
    call(276, "tee").blocks(),
    call(326, "copy_file_range").blocks().outs(&[perhaps(1, OFFSET), perhaps(3, OFFSET)]),
    // vmsplice gives pages of the program to the kernel, or pages of the kernel to the program,
    // depending on the kind of descriptor.
    call(278, "vmsplice").refused(ENOSYS),

    call(74, "fsync"),
    call(75, "fdatasync"),
    call(162, "sync"),
    call(306, "syncfs"),
    call(277, "sync_file_range"),
    call(451, "cachestat").outs(&[fixed(2, 40)]),

    call(73, "flock").blocks_if(|r| r.arg(1) & libc::LOCK_NB as u64 == 0),
    call(72, "fcntl").blocks_if(fcntl_waits).commands(1, FCNTL_SILENT, FCNTL_OUTS),
    call(16, "ioctl").blocks_if(ioctl::waits).memory(MemorySpec::Choice(ioctl::memory)).refused_if(ENOTTY, "graphics, tracing, virtual machines", ioctl::is_refused).emulated_if(Emulated::UserfaultIoctl, ioctl::is_of_userfault),

    call(253, "inotify_init"),
    call(294, "inotify_init1"),
    call(254, "inotify_add_watch"),
    call(255, "inotify_rm_watch"),
    call(300, "fanotify_init").refused_if(EINVAL, "events that ask for permission", asks_permission),
    call(301, "fanotify_mark"),
];

/// With such a group, whoever opens a file waits for the program's answer. That would be the recorder, too.
fn asks_permission(r: &Registers) -> bool {
    const CLASS: u64 = (libc::FAN_CLASS_CONTENT | libc::FAN_CLASS_PRE_CONTENT) as u64;
    r.arg(0) & CLASS != 0
}

/// The call fails instead of waiting (preadv2(2)).
const RWF_NOWAIT: u64 = 8;

/// Commands that write no structure of the caller.
const FCNTL_SILENT: &[i32] = &[
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
    libc::F_SETOWN,
    libc::F_GETOWN,
    10, // F_SETSIG
    11, // F_GETSIG
    15, // F_SETOWN_EX
    libc::F_SETLEASE,
    libc::F_GETLEASE,
    libc::F_NOTIFY,
    libc::F_SETPIPE_SZ,
    libc::F_GETPIPE_SZ,
    libc::F_ADD_SEALS,
    libc::F_GET_SEALS,
    1027, // F_DUPFD_QUERY
    1028, // F_CREATED_QUERY
    1029, // F_CANCELLK
    1036, // F_SET_RW_HINT
    1038, // F_SET_FILE_RW_HINT
];

const FCNTL_OUTS: &[(i32, MemorySpec)] = &[
    (libc::F_GETLK, MemorySpec::One(perhaps(2, FLOCK))),
    (libc::F_OFD_GETLK, MemorySpec::One(perhaps(2, FLOCK))),
    (16, MemorySpec::One(fixed(2, 8))),   // F_GETOWN_EX: struct f_owner_ex
    (17, MemorySpec::One(fixed(2, 8))),   // F_GETOWNER_UIDS: uid_t[2]
    (1035, MemorySpec::One(fixed(2, 8))), // F_GET_RW_HINT
    (1037, MemorySpec::One(fixed(2, 8))), // F_GET_FILE_RW_HINT
];

/// Returns whether the command waits: only the locking commands with a W do.
fn fcntl_waits(r: &Registers) -> bool {
    matches!(r.arg(1) as i32, libc::F_SETLKW | libc::F_OFD_SETLKW)
}

/// Returns whether opening may wait: not if the file cannot be a FIFO, or the open does not wait for
/// the other end.
fn open_waits(flags: u64) -> bool {
    flags & (libc::O_NONBLOCK | libc::O_PATH | libc::O_DIRECTORY) as u64 == 0
}

/// `int`, or 64 bits with `AT_HANDLE_MNT_ID_UNIQUE`.
fn mount_id_len(r: &Registers) -> u64 {
    if r.arg(4) & 1 != 0 { 8 } else { 4 }
}
