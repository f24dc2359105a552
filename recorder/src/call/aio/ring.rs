//! The completion ring of a context (`struct aio_ring`, fs/aio.c), which only the kernel writes.
//!
//! ```text
//! 0 id   4 size in events   8 head   12 tail   16 magic   20 compat   24 incompat   28 size of the header
//! 32 …   events: 0 data   8 address of the request   16 result   24 second result
//! ```

use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, Memory};

use crate::error::Result;

const HEADER: u64 = 32;
const EVENT: u64 = 32;

/// The end of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Completion {
    /// Address of the request.
    pub request: Addr,
    pub result: i64,
}

/// The place where the next completion will be.
pub(crate) fn tail(memory: &Memory, ring: Addr) -> Result<u32> {
    Ok(memory.read_u32(ring + 12)?)
}

/// The completions from this place on.
pub(crate) fn completions(memory: &Memory, ring: Addr, from: u32) -> Result<Vec<Completion>> {
    let (size, tail) = (memory.read_u32(ring + 4)?, tail(memory, ring)?);
    let mut found = Vec::new();
    let mut at = from;
    while at != tail && at < size {
        let event = ring + HEADER + u64::from(at) * EVENT;
        found.push(Completion {
            request: Addr(memory.read_u64(event + 8)?),
            result: memory.read_u64(event + 16)? as i64,
        });
        at = (at + 1) % size;
    }
    Ok(found)
}
