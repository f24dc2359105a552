//! Memory as the program could read it.

use nix::errno::Errno;
use rr_tracee::{Addr, AddrRange, Prot, Tid};

use crate::call::parameters::{Answered, read_parameter};
use crate::world::model::World;

/// Reads a parameter from a task's memory. Fails with `EFAULT` where the program has no right to read, as the kernel does. (The
/// recorder could read more.)
pub(crate) fn read_as_program(world: &World, by: Tid, at: u64, len: usize) -> Answered<Vec<u8>> {
    let space = world.spaces.get(&world.task(by)?.space);
    let range = AddrRange::sized(Addr(at), len as u64);
    if !space.is_some_and(|space| space.model.grants(range, Prot::READ)) {
        return Err(Errno::EFAULT.into());
    }
    read_parameter(world, by, at, len)
}
