//! Changes of a program's code, combined: neighbours become one write, in the process and in the event.
//!
//! When a program is executed, a dozen sites are rewritten at once, in three or four groups that lie
//! close together. Every write to code goes through `/proc/PID/mem` (4 µs), and is made again in
//! replay.

use rr_trace::event::MemWrite;
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, AddrRange, SpaceId, Tid};

use crate::buffer::control::tell_guarded;
use crate::error::Result;
use crate::world::model::World;

/// Maximum number of bytes between changes that are written together.
const NEAR: u64 = 256;

/// Changes that are not made yet. They do not overlap.
#[derive(Debug, Default)]
pub(crate) struct Edits(Vec<(Addr, Vec<u8>)>);

fn range((addr, bytes): &(Addr, Vec<u8>)) -> AddrRange {
    AddrRange::sized(*addr, bytes.len() as u64)
}

impl Edits {
    /// Adds a change.
    pub fn push(&mut self, addr: Addr, bytes: Vec<u8>) {
        self.0.push((addr, bytes));
    }

    /// Returns whether something in this range will change.
    pub fn touch(&self, place: AddrRange) -> bool {
        self.0.iter().any(|edit| range(edit).intersect(place).is_some())
    }

    /// The writes to make, with the bytes between neighbours taken from `memory`.
    pub fn joined(mut self, memory: &impl ReadMemory) -> rr_tracee::Result<Vec<(Addr, Vec<u8>)>> {
        self.0.sort_by_key(|(addr, _)| *addr);
        let near = |one: &(Addr, Vec<u8>), next: &(Addr, Vec<u8>)| next.0.0 - range(one).end.0 <= NEAR;
        let groups = self.0.chunk_by(near);
        let joined = groups.map(|group| match group {
            // All of its bytes change.
            [only] => Ok(only.clone()),
            _ => join(group, memory),
        });
        joined.collect()
    }
}

/// Joins a group, which is sorted.
fn join(group: &[(Addr, Vec<u8>)], memory: &impl ReadMemory) -> rr_tracee::Result<(Addr, Vec<u8>)> {
    let start = group.first().map_or(Addr::NULL, |first| first.0);
    let end = group.last().map_or(start, |last| range(last).end);
    let mut bytes = memory.read_vec(start, (end - start) as usize)?;
    for (addr, edit) in group {
        let at = (*addr - start) as usize;
        bytes[at..at + edit.len()].copy_from_slice(edit);
    }
    Ok((start, bytes))
}

/// Makes the changes of an address space. They become part of the event.
pub(crate) fn carry_out_edits(
    world: &mut World,
    tid: Tid,
    id: SpaceId,
    edits: Edits,
    writes: &mut Vec<MemWrite>,
) -> Result<()> {
    tell_guarded(world, tid, id)?;
    let memory = &world.task(tid)?.memory;
    for (addr, data) in edits.joined(memory)? {
        memory.write_protected(addr, &data)?;
        let space = id;
        writes.push(MemWrite { space, addr, data });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory in which every byte is the lowest of its address.
    struct Ramp;

    impl ReadMemory for Ramp {
        fn read(&self, addr: Addr, buf: &mut [u8]) -> rr_tracee::Result<()> {
            buf.iter_mut()
                .zip(addr.0..)
                .for_each(|(byte, at)| *byte = at as u8);
            Ok(())
        }
    }

    fn edits(parts: &[(u64, &[u8])]) -> Edits {
        let mut edits = Edits::default();
        parts
            .iter()
            .for_each(|(at, bytes)| edits.push(Addr(*at), bytes.to_vec()));
        edits
    }

    #[test]
    fn neighbours_are_one_write_with_what_is_between_them() {
        let joined = edits(&[(0x108, &[1, 2]), (0x100, &[3, 4, 5]), (0x300, &[6])]).joined(&Ramp);
        let expected = [
            (Addr(0x100), vec![3, 4, 5, 3, 4, 5, 6, 7, 1, 2]),
            (Addr(0x300), vec![6]),
        ];
        assert_eq!(joined.ok(), Some(expected.to_vec()));
    }

    #[test]
    fn what_touches_is_joined_and_what_is_far_is_not() {
        let count = |parts: &[(u64, &[u8])]| edits(parts).joined(&Ramp).map_or(0, |all| all.len());
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[(8, &[1]), (9, &[2])]), 1);
        assert_eq!(count(&[(8, &[1]), (9 + NEAR, &[2])]), 1);
        assert_eq!(count(&[(8, &[1]), (10 + NEAR, &[2])]), 2);
    }

    #[test]
    fn a_place_that_will_change_is_known() {
        let edits = edits(&[(0x100, &[1, 2])]);
        let touched = |start, len| edits.touch(AddrRange::sized(Addr(start), len));
        assert!(touched(0x101, 5) && touched(0xff, 2) && !touched(0x102, 9) && !touched(0xf0, 16));
    }
}
