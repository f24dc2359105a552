//! The kernel's interface: requests, modes, features and messages (`<linux/userfaultfd.h>`, ioctl_userfaultfd(2)).

use rr_tracee::ids::PAGE;
use rr_tracee::{Addr, AddrRange, USER_END};

use nix::errno::Errno;

/// The version of the interface (`UFFD_API`).
pub(crate) const API: u64 = 0xaa;

/// `UFFD_USER_MODE_ONLY`: a flag of userfaultfd(2).
pub(crate) const USER_MODE_ONLY: u64 = 1;

/// `USERFAULTFD_IOC_NEW`: the request of `/dev/userfaultfd`.
pub(crate) const NEW: u32 = 0xaa00;

/// The requests that are carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    Api,
    Register,
    Unregister,
    Wake,
    Copy,
    ZeroPage,
    WriteProtect,
}

impl Request {
    /// The request of this number, if it is carried out.
    pub fn of(number: u32) -> Option<Request> {
        Some(match number {
            0xc018_aa3f => Request::Api,
            0xc020_aa00 => Request::Register,
            0x8010_aa01 => Request::Unregister,
            0x8010_aa02 => Request::Wake,
            0xc028_aa03 => Request::Copy,
            0xc020_aa04 => Request::ZeroPage,
            0xc018_aa06 => Request::WriteProtect,
            _ => return None,
        })
    }

    /// The bit of the request in the kernel's answers.
    pub const fn bit(self) -> u64 {
        1 << match self {
            Request::Register => 0,
            Request::Unregister => 1,
            Request::Wake => 2,
            Request::Copy => 3,
            Request::ZeroPage => 4,
            Request::WriteProtect => 6,
            Request::Api => 0x3f,
        }
    }

    /// Number of bytes of its structure that the kernel reads.
    pub fn read(self) -> usize {
        match self {
            Request::Api | Request::WriteProtect | Request::Register | Request::ZeroPage => 24,
            Request::Unregister | Request::Wake => 16,
            Request::Copy => 32,
        }
    }
}

/// The requests that an object answers (`UFFD_API_IOCTLS`).
pub(crate) const REQUESTS: u64 = Request::Api.bit() | Request::Register.bit() | Request::Unregister.bit();

/// Features that a program has asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Features(u64);

impl Features {
    const PAGEFAULT_FLAG_WP: u64 = 1 << 0;
    const SIGBUS: u64 = 1 << 7;
    const THREAD_ID: u64 = 1 << 8;
    const EXACT_ADDRESS: u64 = 1 << 11;
    const WP_UNPOPULATED: u64 = 1 << 13;

    /// The features that there are.
    pub const OFFERED: Features = Features(
        Features::PAGEFAULT_FLAG_WP
            | Features::SIGBUS
            | Features::THREAD_ID
            | Features::EXACT_ADDRESS
            | Features::WP_UNPOPULATED,
    );

    /// The features of these bits, if all are offered.
    pub fn of(bits: u64) -> Option<Features> {
        (bits & !Features::OFFERED.0 == 0).then_some(Features(bits))
    }

    /// Their bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// A fault is a `SIGBUS` of the task, not a message.
    pub fn are_faults_signals(self) -> bool {
        self.0 & Features::SIGBUS != 0
    }

    /// Messages name the thread.
    pub fn name_threads(self) -> bool {
        self.0 & Features::THREAD_ID != 0
    }

    /// Pages that do not exist can be protected from writing, too.
    pub fn protect_absent(self) -> bool {
        self.0 & Features::WP_UNPOPULATED != 0
    }

    /// Messages give the address and not its page.
    pub fn give_addresses(self) -> bool {
        self.0 & Features::EXACT_ADDRESS != 0
    }
}

/// The faults that a range is registered for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Missing,
    WriteProtect,
    Both,
}

impl Mode {
    /// The mode of these bits (`UFFDIO_REGISTER_MODE_*`). `None` if it is empty or not known.
    pub fn of(bits: u64) -> Option<Mode> {
        match bits {
            1 => Some(Mode::Missing),
            2 => Some(Mode::WriteProtect),
            3 => Some(Mode::Both),
            _ => None,
        }
    }

    /// Missing pages fault.
    pub fn has_missing(self) -> bool {
        matches!(self, Mode::Missing | Mode::Both)
    }

    /// Pages can be protected from writing.
    pub fn has_protected(self) -> bool {
        matches!(self, Mode::WriteProtect | Mode::Both)
    }

    /// The requests that can be made for such a range.
    pub fn requests(self) -> u64 {
        let basic = Request::Wake.bit() | Request::Copy.bit() | Request::ZeroPage.bit();
        match self.has_protected() {
            true => basic | Request::WriteProtect.bit(),
            false => basic,
        }
    }
}

/// The reason of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    Missing,
    WriteProtected,
}

/// Size of `struct uffd_msg`.
pub(crate) const MESSAGE: usize = 32;

/// The message of a page fault (`struct uffd_msg`).
pub(crate) fn message(cause: Cause, is_write: bool, address: Addr, thread: u32) -> [u8; MESSAGE] {
    const PAGEFAULT: u8 = 0x12;
    let flags = u64::from(is_write) | if cause == Cause::WriteProtected { 2 } else { 0 };
    let mut bytes = [0; MESSAGE];
    bytes[0] = PAGEFAULT;
    bytes[8..16].copy_from_slice(&flags.to_le_bytes());
    bytes[16..24].copy_from_slice(&address.0.to_le_bytes());
    bytes[24..28].copy_from_slice(&thread.to_le_bytes());
    bytes
}

/// The range of a request, if it is one of whole pages that a program can have.
pub(crate) fn pages_of(start: u64, len: u64) -> Result<AddrRange, Errno> {
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    bytes_of(start, len)
}

/// Same as [`pages_of`], for a range that may begin within a page.
pub(crate) fn bytes_of(start: u64, len: u64) -> Result<AddrRange, Errno> {
    /// The lowest address that a program can map (`vm.mmap_min_addr`, as all distributions have it).
    const LOWEST: u64 = 0x10000;
    let is_valid = len.is_multiple_of(PAGE)
        && len != 0
        && (LOWEST..USER_END).contains(&start)
        && len <= USER_END - start;
    is_valid
        .then(|| AddrRange::sized(Addr(start), len))
        .ok_or(Errno::EINVAL)
}
