//! Parameters and answers of calls that rr carries out instead of the kernel.
//!
//! Invariant: where the kernel would find no memory, the program gets `EFAULT`, and nothing is written.

use nix::errno::Errno;
use rr_trace::event::MemWrite;
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, AddrRange, Prot, Tid};

use crate::error::Error;
use crate::world::model::World;

/// The reason why a call has no answer.
pub(crate) enum Failure {
    /// The program gets this error.
    Refused(Errno),
    /// The recording cannot continue, or the task is dead.
    Error(Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Refused(errno)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

/// The result of a call.
pub(crate) type Answered<T = i64> = std::result::Result<T, Failure>;

impl From<rr_tracee::Error> for Failure {
    fn from(error: rr_tracee::Error) -> Failure {
        Failure::Error(error.into())
    }
}

/// Writes an answer to a task's memory.
pub(crate) fn give_answer(
    world: &World,
    by: Tid,
    at: u64,
    bytes: &[u8],
    writes: &mut Vec<MemWrite>,
) -> Answered {
    let space = world.task(by)?.space;
    let addr = Addr(at);
    let range = AddrRange::sized(addr, bytes.len() as u64);
    let space_there = world.spaces.get(&space);
    if !space_there.is_some_and(|s| s.model.grants(range, Prot::WRITE)) {
        return Err(Errno::EFAULT.into());
    }
    let data = bytes.to_vec();
    writes.push(MemWrite { space, addr, data });
    Ok(0)
}

/// Reads a parameter from a task's memory.
pub(crate) fn read_parameter(world: &World, by: Tid, at: u64, len: usize) -> Answered<Vec<u8>> {
    let bytes = world.task(by)?.memory.read_vec(Addr(at), len);
    bytes.map_err(|_| Errno::EFAULT.into())
}
