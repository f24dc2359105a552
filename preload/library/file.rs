//! Whether a call on a descriptor can wait: the kind of file, its flags and its state decide.

use crate::call::Call;
use crate::kernel::call as sys;
use crate::layout::{CONTROL, Control, filter_bits};
use crate::numbers::*;

const POLLOUT: u16 = 4;

pub const S_IFMT: u32 = 0o170_000;
pub const S_IFIFO: u32 = 0o010_000;
pub const S_IFCHR: u32 = 0o020_000;
pub const S_IFDIR: u32 = 0o040_000;
pub const S_IFBLK: u32 = 0o060_000;
pub const S_IFREG: u32 = 0o100_000;
pub const S_IFSOCK: u32 = 0o140_000;

/// Makes the call unchanged.
pub fn plain(call: &Call) -> Option<i64> {
    // SAFETY: it is what the program asked for.
    Some(unsafe { sys(call.number, call.args) })
}

/// The fields of `struct stat` that matter here.
pub struct File {
    pub device: u64,
    pub inode: u64,
    pub kind: u32,
    /// Device number, if the file is a device.
    pub major: u64,
    pub minor: u64,
    pub size: u64,
    /// Blocks used on disk: 0 if the file is on no disk.
    pub blocks: u64,
}

impl File {
    pub fn of(number: u64, args: [u64; 3]) -> Result<File, i64> {
        let mut stat = [0u64; 18];
        let at = stat.as_mut_ptr() as u64;
        let args = match number {
            FSTAT => [args[0], at, 0, 0, 0, 0],
            _ => [args[0], args[1], at, args[2], 0, 0],
        };
        // SAFETY: the kernel fills `stat`, which is as large as it thinks.
        let result = unsafe { sys(number, args) };
        if result < 0 {
            return Err(result);
        }
        Ok(File {
            device: stat[0],
            inode: stat[1],
            kind: stat[3] as u32 & S_IFMT,
            major: major(stat[5]),
            minor: minor(stat[5]),
            size: stat[6],
            blocks: stat[8],
        })
    }

    pub fn of_fd(fd: u64) -> Result<File, i64> {
        File::of(FSTAT, [fd, 0, 0])
    }

    /// True if reading the file waits only for a disk. (Of character devices these are the memory
    /// devices, mem(4), except the kernel's log, which can wait.)
    pub fn is_plain(&self) -> bool {
        const KMSG: u64 = 11;
        matches!(self.kind, S_IFREG | S_IFDIR | S_IFBLK)
            || self.kind == S_IFCHR && self.major == 1 && self.minor != KMSG
    }

    /// True if the file is rr's own standard output or error, or is mapped somewhere. The recorder must
    /// see writes to it.
    pub fn is_watched(&self) -> bool {
        let control = CONTROL as *const Control;
        // SAFETY: the page is there wherever this code is.
        let (stdio, filter) = unsafe { (&(*control).stdio, &(*control).filter) };
        let mapped = filter_bits(self.device, self.inode)
            .iter()
            .all(|(word, bit)| filter[*word] & bit != 0);
        mapped || stdio.iter().any(|s| s[0] == self.device && s[1] == self.inode)
    }
}

/// The upper part of a device number (`<sys/sysmacros.h>`).
pub fn major(device: u64) -> u64 {
    device >> 8 & 0xfff | device >> 32 & !0xfff
}

/// The lower part of a device number.
fn minor(device: u64) -> u64 {
    device & 0xff | device >> 12 & 0xff_ff00
}

pub fn is_nonblocking(fd: u64) -> bool {
    // SAFETY: concerns no memory.
    let flags = unsafe { sys(FCNTL, [fd, F_GETFL, 0, 0, 0, 0]) };
    flags > 0 && flags as u64 & O_NONBLOCK != 0
}

/// Returns whether a descriptor is ready for writing and reports no other condition.
pub fn is_writable(fd: u64) -> bool {
    // struct pollfd: descriptor, events, revents.
    let mut asked = [fd & 0xffff_ffff | u64::from(POLLOUT) << 32];
    let at = asked.as_mut_ptr() as u64;
    // SAFETY: one structure, on our stack.
    let ready = unsafe { sys(POLL, [at, 1, 0, 0, 0, 0]) };
    // SAFETY: as above; the kernel has written it.
    let asked = unsafe { (at as *const u64).read_volatile() };
    ready == 1 && (asked >> 48) as u16 == POLLOUT
}
