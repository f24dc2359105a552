//! Arrays of buffers (`struct iovec`) and messages (`struct msghdr`).
//!
//! ```text
//! iovec     0 base (pointer)   8 length                                        16 bytes
//! msghdr    0 name (pointer)   8 namelen (u32)   16 iov (pointer)   24 iovlen
//!          32 control (pointer)   40 controllen   48 flags (u32)                56 bytes
//! mmsghdr   0 msghdr          56 msg_len (u32)                                 64 bytes
//! ```
//!
//! The parts of a message are its name, its iovec array, the buffers of that array and its control
//! buffer. Each is held by a word in an earlier part. Of the headers themselves, a receive writes
//! namelen, controllen, flags and msg_len, never a pointer.

use super::forms::{MAX_RW, push, push_whole, read_u32, unless_died};
use super::spec::{Holder, Part, ReadPart, Written};
use crate::error::Result;
use crate::ids::Addr;
use crate::memory::ReadMemory;
use crate::regs::Registers;

/// `UIO_MAXIOV`: maximum for `readv` and `recvmmsg`.
pub(super) const MAX_VECTOR: u64 = 1024;
/// Size of `struct msghdr`.
pub(super) const MSGHDR: u64 = 56;
/// Size of `struct mmsghdr`.
pub(super) const MMSGHDR: u64 = 64;
/// Size of `struct iovec`.
const IOVEC: u64 = 16;
/// Size of `struct sockaddr_storage`, which no name exceeds.
const SOCKADDR: u64 = 128;

/// `readv` and similar calls: an iovec array of arg 2 elements at arg 1.
pub(super) fn readv_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    push_vector(&mut parts, Holder::Arg(1), Addr(r.arg(1)), r.arg(2), mem)?;
    Ok(parts)
}

/// The result is the number of bytes, spread over the buffers in order.
pub(super) fn readv_written(
    _: &Registers,
    parts: &[Part],
    result: i64,
    _: &ReadPart<'_>,
) -> Result<Vec<Written>> {
    let mut out = Vec::new();
    if let Ok(total) = u64::try_from(result) {
        spread(parts, 0, total, &mut out);
    }
    Ok(out)
}

/// `recvmsg`: a msghdr at arg 1.
pub(super) fn recvmsg_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let header = Part {
        holder: Holder::Arg(1),
        addr: Addr(r.arg(1)),
        len: MSGHDR,
        copy_in: true,
    };
    if push_whole(&mut parts, header, mem)?.is_some() {
        push_message(&mut parts, 0, mem)?;
    }
    Ok(parts)
}

/// The received bytes, and the words of the header that describe them.
pub(super) fn recvmsg_written(
    _: &Registers,
    parts: &[Part],
    result: i64,
    read: &ReadPart<'_>,
) -> Result<Vec<Written>> {
    let mut out = Vec::new();
    if let Ok(total) = u64::try_from(result) {
        message_written(parts, 0, total, read, &mut out)?;
    }
    Ok(out)
}

/// `recvmmsg`: arg 2 mmsghdrs at arg 1, a timeout at arg 4 that is counted down.
pub(super) fn recvmmsg_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let count = u64::from(r.arg(2) as u32).min(MAX_VECTOR);
    let headers = Part {
        holder: Holder::Arg(1),
        addr: Addr(r.arg(1)),
        len: count * MMSGHDR,
        copy_in: true,
    };
    if push(&mut parts, headers, mem)?.is_some() {
        for i in 0..parts[0].len / MMSGHDR {
            push_message(&mut parts, i * MMSGHDR, mem)?;
        }
    }
    let timeout = Part {
        holder: Holder::Arg(4),
        addr: Addr(r.arg(4)),
        len: 16,
        copy_in: true,
    };
    push(&mut parts, timeout, mem)?;
    Ok(parts)
}

/// The result is the number of messages; each header says how long its message is.
pub(super) fn recvmmsg_written(
    _: &Registers,
    parts: &[Part],
    result: i64,
    read: &ReadPart<'_>,
) -> Result<Vec<Written>> {
    let mut out = Vec::new();
    if let Some(part) = parts.iter().position(|p| p.holder == Holder::Arg(4)) {
        out.push(Written {
            part,
            offset: 0,
            len: parts[part].len,
        });
    }
    let Some(headers) = parts.first().filter(|p| p.holder == Holder::Arg(1)) else {
        return Ok(out);
    };
    for i in 0..u64::try_from(result).unwrap_or(0).min(headers.len / MMSGHDR) {
        let base = i * MMSGHDR;
        let total = read_u32(read, 0, base + MSGHDR)?.unwrap_or(0);
        message_written(parts, base, u64::from(total), read, &mut out)?;
        out.push(Written {
            part: 0,
            offset: base + MSGHDR,
            len: 4,
        });
    }
    Ok(out)
}

/// Adds an iovec array of `count` elements at `addr` and the buffers in it, limited as the kernel
/// limits them: `MAX_RW` bytes in all, and no buffers if there are too many or if one has a negative
/// length.
fn push_vector(
    parts: &mut Vec<Part>,
    holder: Holder,
    addr: Addr,
    count: u64,
    mem: &dyn ReadMemory,
) -> Result<()> {
    if count == 0 || count > MAX_VECTOR || addr.is_null() {
        return Ok(());
    }
    let mut array = vec![0; (count * IOVEC) as usize];
    if unless_died(mem.read(addr, &mut array))?.is_none() {
        return Ok(());
    }
    let (words, _) = array.as_chunks::<8>();
    let vectors = words
        .chunks_exact(2)
        .map(|w| (u64::from_le_bytes(w[0]), u64::from_le_bytes(w[1])));
    if vectors.clone().any(|(_, len)| i64::try_from(len).is_err()) {
        return Ok(());
    }
    let index = parts.len();
    parts.push(Part {
        holder,
        addr,
        len: count * IOVEC,
        copy_in: true,
    });
    let mut left = MAX_RW;
    for (i, (base, len)) in (0..).zip(vectors) {
        let len = len.min(left);
        left -= len;
        let holder = Holder::Within {
            part: index,
            offset: i * IOVEC,
        };
        push(
            parts,
            Part {
                holder,
                addr: Addr(base),
                len,
                copy_in: false,
            },
            mem,
        )?;
    }
    Ok(())
}

/// Declares `total` bytes as written, over the buffers of the iovec array `array` in order.
fn spread(parts: &[Part], array: usize, total: u64, out: &mut Vec<Written>) {
    let mut left = total;
    for (part, p) in parts.iter().enumerate() {
        if matches!(p.holder, Holder::Within { part, .. } if part == array) && left > 0 {
            let len = p.len.min(left);
            out.push(Written { part, offset: 0, len });
            left -= len;
        }
    }
}

/// Adds the memory that the msghdr at byte `base` of part 0 points to.
fn push_message(parts: &mut Vec<Part>, base: u64, mem: &dyn ReadMemory) -> Result<()> {
    let at = |offset| parts[0].addr + base + offset;
    let header = [at(0), at(8), at(16), at(24), at(32), at(40)];
    let mut words = [0; 6];
    for (word, addr) in words.iter_mut().zip(header) {
        let Some(value) = unless_died(mem.read_u64(addr))? else {
            return Ok(());
        };
        *word = value;
    }
    let [name, name_len, iov, iov_len, control, control_len] = words;
    // The length is an int. The kernel refuses negative ones.
    let name_len = u64::try_from(name_len as u32 as i32).unwrap_or(0).min(SOCKADDR);
    let held = |offset| Holder::Within {
        part: 0,
        offset: base + offset,
    };
    push(
        parts,
        Part {
            holder: held(0),
            addr: Addr(name),
            len: name_len,
            copy_in: false,
        },
        mem,
    )?;
    push_vector(parts, held(16), Addr(iov), iov_len, mem)?;
    // There is padding between control messages.
    let len = control_len.min(MAX_RW);
    push(
        parts,
        Part {
            holder: held(32),
            addr: Addr(control),
            len,
            copy_in: true,
        },
        mem,
    )?;
    Ok(())
}

/// Declares the bytes written by receiving `total` bytes into the msghdr at byte `base` of part 0.
fn message_written(
    parts: &[Part],
    base: u64,
    total: u64,
    read: &ReadPart<'_>,
    out: &mut Vec<Written>,
) -> Result<()> {
    if parts.is_empty() {
        return Ok(());
    }
    let held = |offset| {
        let holder = Holder::Within {
            part: 0,
            offset: base + offset,
        };
        parts.iter().position(|p| p.holder == holder)
    };
    // After the call the header holds the lengths of the name and the control messages.
    for (pointer, length) in [(0, 8), (32, 40)] {
        if let (Some(part), Some(n)) = (held(pointer), read_u32(read, 0, base + length)?)
            && n > 0
        {
            out.push(Written {
                part,
                offset: 0,
                len: parts[part].len.min(u64::from(n)),
            });
        }
    }
    if let Some(array) = held(16) {
        spread(parts, array, total, out);
    }
    out.push(Written {
        part: 0,
        offset: base + 8,
        len: 4,
    });
    out.push(Written {
        part: 0,
        offset: base + 40,
        len: 12,
    });
    Ok(())
}
