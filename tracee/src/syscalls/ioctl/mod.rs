//! ioctl requests.
//!
//! The number of a newer request says whether the kernel writes to the argument and how much
//! (`<asm-generic/ioctl.h>`). Such requests need no entry:
//!
//! ```text
//! bits 31-30 direction (1: the kernel reads, 2: it writes)   29-16 size   15-8 type   7-0 number
//! ```
//!
//! Older requests say nothing, and the numbers of some newer ones are wrong. Both are in the tables:
//! one file for each kind of device, one line for each request. A request that is in no table and has
//! no direction has an unknown effect. That is harmless if it fails (`ENOTTY`, `EINVAL`), and the
//! recorder reports it if it succeeds. All outputs are [`perhaps`]: drivers differ in how much they
//! write, and when.

mod console;
mod request;
mod sockets;
mod storage;
mod terminal;

use super::forms::perhaps;
use super::spec::MemorySpec;
use crate::regs::Registers;
use request::{POINTER, Request};

static TABLES: [&[Request]; 4] = [
    terminal::REQUESTS,
    sockets::REQUESTS,
    storage::REQUESTS,
    console::REQUESTS,
];

/// Types whose requests share memory with the kernel or the device, which cannot be recorded. rr
/// answers as a device that does not know them.
const REFUSED_TYPES: [u32; 3] = [
    b'd' as u32, // DRM: graphics
    0xae,        // KVM
    0xaf,        // vhost
];

/// The type of the requests of userfaultfd(2).
const USERFAULT_TYPE: u32 = 0xaa;

/// Types whose requests contain pointers to further memory, so that the kernel may write more than
/// their size.
const NESTED_TYPES: [u32; 10] = [
    b'A' as u32, // ALSA
    b'M' as u32, // flash memory (MTD)
    b'N' as u32, // NVMe
    b'U' as u32, // USB devices, ALSA mixers
    b'V' as u32, // video
    b'b' as u32, // binder
    b'i' as u32, // IPMI
    b'k' as u32, // SPI
    b'|' as u32, // media controllers
    0xfd,        // device mapper
];

fn request(r: &Registers) -> u32 {
    r.arg(1) as u32
}

fn kind(request: u32) -> u32 {
    (request >> 8) & 0xff
}

fn find(number: u32) -> Option<&'static Request> {
    TABLES.iter().flat_map(|t| t.iter()).find(|r| r.number == number)
}

/// The memory that a request writes. `None` if it is unknown.
pub(super) fn memory(r: &Registers) -> Option<MemorySpec> {
    const READ: u32 = 2;
    let request = request(r);
    if let Some(known) = find(request) {
        return Some(known.memory);
    }
    let direction = request >> 30;
    let size = u64::from((request >> 16) & 0x3fff);
    if direction == 0 || NESTED_TYPES.contains(&kind(request)) {
        return None;
    }
    Some(if direction & READ != 0 {
        MemorySpec::One(perhaps(POINTER, size))
    } else {
        MemorySpec::None
    })
}

/// Returns whether a request can wait. Requests without a table entry are assumed to wait.
pub(super) fn waits(r: &Registers) -> bool {
    find(request(r)).is_none_or(|known| known.waits)
}

/// Returns whether a request is one of userfaultfd(2).
pub(super) fn is_of_userfault(r: &Registers) -> bool {
    kind(request(r)) == USERFAULT_TYPE
}

/// Returns whether a request must not be performed.
pub(super) fn is_refused(r: &Registers) -> bool {
    REFUSED_TYPES.contains(&kind(request(r))) && find(request(r)).is_none()
}

#[cfg(test)]
mod tests {
    use super::super::spec::Len;
    use super::*;

    #[test]
    fn no_request_is_given_twice() {
        let mut numbers: Vec<u32> = TABLES.iter().flat_map(|t| t.iter()).map(|r| r.number).collect();
        numbers.sort_unstable();
        let duplicate = numbers.windows(2).find(|w| w[0] == w[1]);
        assert_eq!(duplicate, None);
    }

    #[test]
    fn newer_requests_describe_themselves() {
        let of = |number: u64| {
            memory(&Registers {
                rsi: number,
                ..Registers::default()
            })
        };
        // RTC_RD_TIME = _IOR('p', 9, struct rtc_time), 36 bytes.
        assert!(matches!(of(0x8024_7009), Some(MemorySpec::One(out)) if matches!(out.len, Len::Bytes(36))));
        // FICLONE = _IOW(0x94, 9, int).
        assert!(matches!(of(0x4004_9409), Some(MemorySpec::None)));
        assert!(of(0x0000_7777).is_none());
    }

    #[test]
    fn what_lies_about_itself_is_in_a_table() {
        let len = |number: u64| match memory(&Registers {
            rsi: number,
            ..Registers::default()
        }) {
            Some(MemorySpec::One(out)) => match out.len {
                Len::Bytes(n) => n,
                _ => panic!("not of a fixed length"),
            },
            other => panic!("{other:?}"),
        };
        assert_eq!(len(0x8008_6601), 4); // FS_IOC_GETFLAGS: "long", but an int
        assert_eq!(len(0x4004_54ca), 40); // TUNSETIFF: "write", but writes the name back
    }
}
