//! The requests of an `io_submit` (`struct iocb`, linux/aio_abi.h).
//!
//! ```text
//! 0 data    8 key   12 flags of preadv2   16 opcode   20 descriptor   24 buffer or vectors   32 its length or their number
//! 40 offset in the file   48 reserved   56 flags   60 eventfd
//! ```

use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, AddrRange, Memory, Registers, TraceeFd};

use crate::error::Result;

/// Offset of the word that the kernel sets to 0 in each request that it takes.
pub(super) const KEY: u64 = 8;

/// Size of `struct iocb`.
const BYTES: usize = 64;

/// Maximum number of requests of one call that the recorder looks at: more than a context can have by default (`fs.aio-max-nr`).
const MOST: i64 = 1 << 17;

/// Maximum number of vectors of a request (`UIO_MAXIOV`).
const VECTORS_MOST: u64 = 1024;

/// Size of `struct iovec`.
const VECTOR: u64 = 16;

/// Operations (`IOCB_CMD_*`).
mod op {
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const POLL: u16 = 5;
    pub const READ_VECTORS: u16 = 7;
    pub const WRITE_VECTORS: u16 = 8;
}

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its address: its name in completions.
    pub at: Addr,
    /// The descriptor that the request is about.
    pub fd: TraceeFd,
    pub purpose: Purpose,
}

/// The purpose of a request, as far as it matters for its effects.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// Fills these buffers.
    Read(Vec<AddrRange>),
    /// Does what this call does (of the family of write(2)).
    Write(Registers),
    /// Waits until a descriptor is ready, however long that takes.
    Poll,
    /// Writes nothing that the program can see: a sync, or an operation that the kernel does not know.
    Other,
}

/// State of a task's `io_submit`.
#[derive(Debug)]
pub(crate) enum Submission {
    /// The call is not made yet: the task waits until it can read from a descriptor.
    Waits,
    /// The kernel gets these requests.
    Made {
        /// The completion ring of the context.
        ring: Addr,
        /// The place in the ring of the first completion that belongs to the call.
        from: u32,
        requests: Vec<Request>,
    },
}

/// The requests of a call, up to the first that cannot be read.
pub(super) fn requests(memory: &Memory, entry: &Registers) -> Result<Vec<Request>> {
    let count = (entry.rsi as i64).clamp(0, MOST) as u64;
    let mut requests = Vec::new();
    for n in 0..count {
        let Ok(at) = memory.read_u64(Addr(entry.rdx) + 8 * n) else {
            break;
        };
        let Some(request) = read_request(memory, Addr(at)) else {
            break;
        };
        requests.push(request);
    }
    Ok(requests)
}

/// The request at this address, if it can be read.
fn read_request(memory: &Memory, at: Addr) -> Option<Request> {
    let mut bytes = [0; BYTES];
    memory.read(at, &mut bytes).ok()?;
    let word = |offset: usize| {
        let word = bytes[offset..].first_chunk();
        word.map_or(0, |word| u64::from_le_bytes(*word))
    };
    let (buffer, len, offset) = (Addr(word(24)), word(32), word(40));
    let fd = TraceeFd(word(20) as u32 as i32);
    let call = |number: i64| Registers {
        orig_rax: number as u64,
        rdi: fd.0 as u64,
        rsi: buffer.0,
        rdx: len,
        r10: offset,
        ..Registers::default()
    };
    let purpose = match word(16) as u16 {
        op::READ => Purpose::Read(vec![AddrRange::sized(buffer, len)]),
        op::READ_VECTORS => Purpose::Read(vectors(memory, buffer, len)),
        op::WRITE => Purpose::Write(call(libc::SYS_pwrite64)),
        op::WRITE_VECTORS => Purpose::Write(call(libc::SYS_pwritev)),
        op::POLL => Purpose::Poll,
        _ => Purpose::Other,
    };
    Some(Request { at, fd, purpose })
}

/// The buffers that an array of vectors names. None if the kernel cannot read the array.
fn vectors(memory: &Memory, at: Addr, count: u64) -> Vec<AddrRange> {
    if count > VECTORS_MOST {
        return Vec::new();
    }
    let bytes = memory.read_vec(at, (count * VECTOR) as usize).unwrap_or_default();
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    bytes
        .chunks_exact(VECTOR as usize)
        .map(|vector| AddrRange::sized(Addr(word(vector)), word(&vector[8..])))
        .collect()
}
