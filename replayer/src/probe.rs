//! Probes: a probe stops a replayed task when its registers, and some words of its memory, are those of
//! an execution point.
//!
//! The instructions at the point are replaced by a jump to a stub. The stub compares in the task
//! itself, which costs a few nanoseconds per pass, and traps only if everything is equal:
//!
//! ```text
//! point:  jmp stub             stub:  compare the key; different ─► moved       (a register or word, without flags)
//!         …                           save rax and flags (rr's parameter page)
//!         ▲                           compare registers and words; different ─► miss
//!         │                           restore; int3                             the replayer looks at the rest
//!         │                    miss:  restore
//!         │                    moved: the instructions that the jump has replaced
//!         └────────────────────────── jmp back
//! ```
//!
//! Nearly all passes end at the key ([`crate::key`]), which costs a nanosecond or two. If the first
//! instructions of the window overwrite the status flags unread, the key is compared with a plain
//! `cmp`, and a window that branches back to its own beginning becomes a loop in the stub. That costs
//! nearly nothing:
//!
//! ```text
//! point:  jmp stub             stub:  cmp key; equal ─► check
//!         …                    moved: the instructions that the jump has replaced ─► stub, if they branch to the point
//!         ▲                           jmp back
//!         └───────────────────────────┘
//!                              check: save rax; compare registers and words; different ─► miss
//!                                     restore; int3                             the replayer looks at the rest
//!                              miss:  restore; jmp moved
//! ```
//!
//! At such a point the replayer sets the status flags to those that were recorded, instead of comparing
//! them. I7 holds: the continuation does not depend on flags that are overwritten unread. All other
//! state is compared.
//!
//! Stubs of the same form also count: how often the instructions are executed, and trap when that
//! number is reached ([`Stub::counting`]), or when a condition is true ([`crate::condition`]). A stub
//! that neither compares nor counts is a copy of instructions whose original place is patched
//! ([`Stub::copy`]). Invariant I8: registers and flags are the program's whenever its instructions are
//! executed, and every place in the moved instructions corresponds to a place in the program
//! ([`Stub::program_place`]).
//!
//! If the program jumps to one of the replaced instructions, it must not execute half of our jump. So
//! the stub is placed such that the bytes of our jump at these instructions are `int3` (or, if that is
//! out of reach, an invalid instruction), and the replayer sends the task on to the moved instruction.

mod counting;
mod emit;
mod room;
mod trial;

use rr_tracee::code::{ABSOLUTE_JUMP_LEN, JUMP_LEN, Moved, Window};
use rr_tracee::ids::PAGE;
use rr_tracee::{Addr, AddrRange, AddressSpace, Registers};

use crate::condition;
use crate::key::Key;
use crate::words::{LEFT, count_word};
use emit::*;

pub(crate) use counting::{Counting, End, WhereTrue};
pub(crate) use emit::INT3;
pub use trial::Trial;

/// Bytes that begin no valid instruction in 64-bit mode, whatever follows (Intel SDM vol. 2, appendix
/// A.3).
const INVALID: [u8; 6] = [0x06, 0x0e, 0x16, 0x1e, 0x27, 0x37];
/// Bytes of address space for one stub: the largest stub (35 bytes for each word, and its conditions)
/// takes three pages, and may begin anywhere in a page.
const ROOM: u64 = 4 * PAGE;
/// First address that the kernel does not let anybody map (x86-64 with four levels of page tables).
const TOP: Addr = Addr(0x7fff_ffff_f000);
/// The part of a stub that stops the task so that the replayer evaluates the condition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    /// Address of this part. A task continues here if a condition could not read its memory.
    pub start: Addr,
    /// Address of its `int3`.
    pub int3: Addr,
}

/// Offsets of the traps in the code of a stub.
struct Traps {
    hit: usize,
    /// Start of the asking part, and its `int3`.
    asking: Option<(usize, usize)>,
}

impl Traps {
    const fn at(hit: usize) -> Traps {
        Traps { hit, asking: None }
    }
}

/// A stub that is ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct Stub {
    /// Address of the window.
    pub at: Addr,
    /// Range that must be mapped for the stub.
    pub room: AddrRange,
    /// Address of the stub's code.
    pub place: Addr,
    /// The code.
    pub code: Vec<u8>,
    /// Bytes that replace the instructions at the point.
    pub patch: [u8; JUMP_LEN],
    /// Address of the `int3` of a match.
    pub hit: Addr,
    /// The asking part, if the stub has conditions.
    pub asking: Option<Asking>,
    /// Address where the task continues after a match that the replayer rejects.
    pub moved: Addr,
    /// True if the stub changes the status flags, which the program overwrites next.
    pub has_dead_flags: bool,
    /// Addresses of the instructions that the jump overwrites, and their new addresses.
    inner: Vec<(Addr, Addr)>,
    /// New address of each instruction before which the registers are the program's, and of the end of
    /// the last one, with the address in the program.
    places: Vec<(Addr, Addr)>,
}

impl Stub {
    /// Makes a stub for the window at `regs.rip`, outside of the space's mappings and of `taken`.
    /// Returns `None` if there is no room in reach of a jump.
    pub fn new(
        window: &Window,
        regs: &Registers,
        words: &[(Addr, u64)],
        key: Option<&Key>,
        space: &AddressSpace,
        taken: &[AddrRange],
    ) -> Option<Stub> {
        let at = Addr(regs.rip);
        if let (Some(key), Some(dead)) = (key, window.dead_flags()) {
            return Stub::quick(window, dead, at, key, space, taken, |code, misses| {
                compare(code, misses, regs, words, Flags::Dead);
            });
        }
        let make = |code: &mut Vec<u8>| {
            let elsewhere = key.map(|key| compare_key(code, key));
            save(code);
            let hit = trap_on_match(code, |code, misses| {
                compare(code, misses, regs, words, Flags::Kept)
            });
            restore(code);
            land(code, elsewhere);
            Some(Traps::at(hit))
        };
        Stub::build(window, at, space, taken, make)
    }

    /// Makes a stub that changes the status flags, because the first `dead` instructions of the window
    /// overwrite them unread. `check` emits the comparison of all but the key.
    fn quick(
        window: &Window,
        dead: usize,
        at: Addr,
        key: &Key,
        space: &AddressSpace,
        taken: &[AddrRange],
        check: impl FnOnce(&mut Vec<u8>, &mut Vec<usize>),
    ) -> Option<Stub> {
        let mut equal = 0;
        let make = |code: &mut Vec<u8>| {
            equal = compare_key_with_flags(code, key);
            Some(Traps::at(usize::MAX))
        };
        let place = find_place(at, &window.inner_boundaries(JUMP_LEN), space, taken)?;
        let mut stub = Stub::build_at(place, window, at, Some(place), make)?;
        let code = &mut stub.code;
        land(code, [equal]);
        save(code);
        let hit = trap_on_match(code, check);
        restore(code);
        let back = jump(code);
        condition::set_target(code, back, (stub.moved - stub.place) as usize);
        stub.hit = stub.place + hit as u64;
        // Before these places, the flags are not the program's.
        stub.places.drain(..dead);
        stub.has_dead_flags = true;
        Some(stub)
    }

    /// Makes a stub that counts the passes of the window at `at`.
    pub fn counting(
        window: &Window,
        at: Addr,
        what: &Counting<'_>,
        space: &AddressSpace,
        taken: &[AddrRange],
    ) -> Option<Stub> {
        let make = |code: &mut Vec<u8>| {
            save(code);
            let asking = match what.conditions {
                [] => None,
                conditions => Some(evaluate(code, conditions, at, what.where_true)?),
            };
            let hit = match &what.end {
                End::Never => code.len(),
                End::Enough => trap_on_match(code, |code, misses| {
                    // sub qword [LEFT], 1
                    code.extend([0x48, 0x83, 0x2c, 0x25]);
                    code.extend(count_word(LEFT).to_le_bytes());
                    code.push(1);
                    jump_if_different(code, misses);
                }),
                End::State(regs, words) => trap_on_match(code, |code, misses| {
                    compare(code, misses, regs, words, Flags::Kept)
                }),
            };
            count(code, what);
            restore(code);
            Some(Traps { hit, asking })
        };
        Stub::build(window, at, space, taken, make)
    }

    /// True if there is room for a stub for the window at `at`.
    pub fn fits(window: &Window, at: Addr, space: &AddressSpace) -> bool {
        let place = find_place(at, &window.inner_boundaries(JUMP_LEN), space, &[]);
        place.is_some_and(|place| window.moved(place).is_some())
    }

    /// Makes a copy of the window at `at`. Nothing jumps to the copy.
    pub fn copy(window: &Window, at: Addr, space: &AddressSpace, taken: &[AddrRange]) -> Option<Stub> {
        Stub::build(window, at, space, taken, |_| Some(Traps::at(usize::MAX)))
    }

    /// Makes a stub with code before the moved window. `make` returns the offsets of the traps in that
    /// code, or `None` if the code would be too long.
    fn build(
        window: &Window,
        at: Addr,
        space: &AddressSpace,
        taken: &[AddrRange],
        make: impl FnOnce(&mut Vec<u8>) -> Option<Traps>,
    ) -> Option<Stub> {
        let place = find_place(at, &window.inner_boundaries(JUMP_LEN), space, taken)?;
        Stub::build_at(place, window, at, None, make)
    }

    /// Same as [`Stub::build`], for a stub at `place`. Branches of the window to its own beginning go to
    /// `top` instead, if there is one.
    fn build_at(
        place: Addr,
        window: &Window,
        at: Addr,
        top: Option<Addr>,
        make: impl FnOnce(&mut Vec<u8>) -> Option<Traps>,
    ) -> Option<Stub> {
        let boundaries = window.inner_boundaries(JUMP_LEN);
        let mut code = Vec::new();
        let Traps { hit, asking } = make(&mut code)?;
        let hit = place.0.wrapping_add(hit as u64);
        let asking = asking.map(|(start, int3)| Asking {
            start: place + start as u64,
            int3: place + int3 as u64,
        });
        let moved = place + code.len() as u64;
        let Moved { code: tail, starts } = window.moved_below(moved, top)?;
        code.extend(tail);
        let end = place + (code.len() - ABSOLUTE_JUMP_LEN) as u64;
        let offsets = window.starts().into_iter().map(|offset| at + offset as u64);
        let mut places: Vec<(Addr, Addr)> = starts.iter().map(|n| moved + *n as u64).zip(offsets).collect();
        let inner = places
            .iter()
            .skip(1)
            .filter(|(_, old)| *old < at + JUMP_LEN as u64);
        let inner = inner.map(|(new, old)| (*old, *new)).collect();
        places.push((end, at + window.len() as u64));
        let mut patch = [0xe9; JUMP_LEN];
        let distance = place.0.wrapping_sub(at.0 + JUMP_LEN as u64) as u32;
        patch[1..].copy_from_slice(&distance.to_le_bytes());
        let room = AddrRange::sized(place.page_floor(), ROOM);
        debug_assert!(place + code.len() as u64 <= room.end);
        debug_assert!(
            boundaries
                .iter()
                .all(|b| patch[*b] == INT3 || INVALID.contains(&patch[*b]))
        );
        Some(Stub {
            at,
            room,
            place,
            code,
            patch,
            hit: Addr(hit),
            asking,
            moved,
            has_dead_flags: false,
            inner,
            places,
        })
    }

    /// True if the `int3` at this address traps so that the replayer checks the task.
    pub fn traps_at(&self, int3: Addr) -> bool {
        int3 == self.hit || self.asking.is_some_and(|asking| asking.int3 == int3)
    }

    /// Returns the address where a task continues after a fault at `rip`, if a condition caused the
    /// fault because it could not read memory.
    pub fn after_fault(&self, rip: Addr) -> Option<Addr> {
        let asking = self.asking?;
        (self.place <= rip && rip < asking.start).then_some(asking.start)
    }

    /// Number of bytes of the program's code that the stub replaces.
    pub fn window_len(&self) -> u64 {
        self.places
            .last()
            .map_or(JUMP_LEN as u64, |(_, end)| *end - self.at)
    }

    /// Returns the address where a task continues that has reached an instruction that the jump
    /// overwrites.
    pub fn moved_from(&self, at: Addr) -> Option<Addr> {
        let found = self.inner.iter().find(|(old, _)| *old == at);
        found.map(|(_, new)| *new)
    }

    /// Returns the program's address for a task that stands at this place of the moved instructions;
    /// `None` if the task has not reached the first of them yet, or is within one.
    pub fn program_place(&self, rip: Addr) -> Option<Addr> {
        let found = self.places.iter().find(|(new, _)| *new == rip);
        found.map(|(_, old)| *old)
    }
}

/// Finds a free place in reach of a jump at `at`. The displacement of the jump must be `int3` at the
/// bytes `boundaries` of the jump.
fn find_place(at: Addr, boundaries: &[usize], space: &AddressSpace, ours: &[AddrRange]) -> Option<Addr> {
    let taken: Vec<AddrRange> = space.iter().map(|m| m.range).collect();
    let is_free = |room: AddrRange| {
        let next = taken.partition_point(|t| t.end <= room.start);
        let is_clear = |t: &AddrRange| t.start >= room.end || t.end <= room.start;
        taken.get(next).is_none_or(is_clear) && ours.iter().all(is_clear)
    };
    // The choices for byte `n` of the displacement. Near places come first, then ever farther ones.
    let choices = |n: usize, free: Vec<u8>| {
        if boundaries.contains(&(n + 1)) {
            // An `int3` in the highest byte leads 800 MiB down, which is not possible for a program
            // linked to a low address.
            if n == 3 {
                [&[INT3], &INVALID[..]].concat()
            } else {
                vec![INT3]
            }
        } else {
            free
        }
    };
    let near: Vec<u8> = (0..128u8).flat_map(|d| [d, !d]).collect();
    for high in choices(3, near) {
        for third in choices(2, (0..=255).step_by(4).collect()) {
            for second in choices(1, vec![0, 0x40, 0x80, 0xc0]) {
                let low = choices(0, vec![0])[0];
                let distance = i32::from_le_bytes([low, second, third, high]);
                let place = Addr(
                    at.0.wrapping_add(JUMP_LEN as u64)
                        .wrapping_add(i64::from(distance) as u64),
                );
                let room = AddrRange::sized(place.page_floor(), ROOM);
                let sensible = place.0 > 0x10_0000 && room.end <= TOP;
                if sensible && is_free(room) {
                    return Some(place);
                }
            }
        }
    }
    None
}
