//! A probe: stops a replayed task where its registers, and some words of its memory, are those of an execution point.
//!
//! The instructions at the point are replaced by a jump to a stub that compares in the task itself, a few
//! nanoseconds per pass, and traps only when all is equal:
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
//! Nearly all passes end at the key ([`crate::key`]), which costs a nanosecond or two.
//!
//! A stub of the same make counts: how often the instructions are executed, and when that has been often enough
//! ([`Stub::counting`]), or where a condition is true ([`crate::condition`]); one that neither compares nor counts is a copy of instructions whose own place is patched
//! ([`Stub::copy`]). Keeps I8: registers and flags are the program's wherever its instructions are executed, and every
//! place in the moved instructions stands for one in the program ([`Stub::program_place`]).
//!
//! Should the program jump between the replaced instructions, it must not execute half a jump: the stub is placed so
//! that the jump's bytes there are `int3` (or, if that is out of reach, no instruction at all), and the replayer sends the
//! task on to the moved instruction.

mod counting;
mod emit;
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

/// No instructions in 64-bit mode, whatever follows (Intel SDM vol. 2, appendix A.3).
const INVALID: [u8; 6] = [0x06, 0x0e, 0x16, 0x1e, 0x27, 0x37];
/// Bytes of address space for one stub: the largest (35 bytes a word, and its conditions) takes three pages, and may
/// begin anywhere in one.
const ROOM: u64 = 4 * PAGE;
/// Where the kernel lets nobody map any more (x86-64 with four levels of page tables).
const TOP: Addr = Addr(0x7fff_ffff_f000);
/// The part of a stub that stops the task so that the condition is asked on our side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    /// Where it begins: here a task goes on that could not read what a condition reads.
    pub start: Addr,
    /// Its `int3`.
    pub int3: Addr,
}

/// Where a stub traps, in its code.
struct Traps {
    hit: usize,
    /// Where the asking begins, and its `int3`.
    asking: Option<(usize, usize)>,
}

impl Traps {
    const fn at(hit: usize) -> Traps {
        Traps { hit, asking: None }
    }
}

/// A stub, ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct Stub {
    /// The place of the window.
    pub at: Addr,
    /// What must be mapped for it.
    pub room: AddrRange,
    /// Where its code begins.
    pub place: Addr,
    /// The code.
    pub code: Vec<u8>,
    /// What is written over the instructions at the point.
    pub patch: [u8; JUMP_LEN],
    /// The `int3` of a match.
    pub hit: Addr,
    /// If it has conditions, what ends it where one is true.
    pub asking: Option<Asking>,
    /// Where the task goes on after a match that was none.
    pub moved: Addr,
    /// Where instructions begin that the jump overwrites, and where they are now.
    inner: Vec<(Addr, Addr)>,
    /// Where each instruction, and what follows the last, is now, and where in the program.
    places: Vec<(Addr, Addr)>,
}

impl Stub {
    /// A stub for the window at `regs.rip`, in a place that is not in `taken` either. `None` if there is no room for it
    /// in reach.
    pub fn new(
        window: &Window,
        regs: &Registers,
        words: &[(Addr, u64)],
        key: Option<&Key>,
        space: &AddressSpace,
        taken: &[AddrRange],
    ) -> Option<Stub> {
        let make = |code: &mut Vec<u8>| {
            let elsewhere = key.map(|key| compare_key(code, key));
            save(code);
            let hit = trap_on_match(code, |code, misses| compare(code, misses, regs, words));
            restore(code);
            if let Some(jump) = elsewhere {
                let moved = code.len();
                condition::set_target(code, jump, moved);
            }
            Some(Traps::at(hit))
        };
        Stub::build(window, Addr(regs.rip), space, taken, make)
    }

    /// One that counts how often the window at `at` is passed.
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
                End::State(regs, words) => {
                    trap_on_match(code, |code, misses| compare(code, misses, regs, words))
                }
            };
            count(code, what);
            restore(code);
            Some(Traps { hit, asking })
        };
        Stub::build(window, at, space, taken, make)
    }

    /// Whether there can be a stub for the window at `at`.
    pub fn fits(window: &Window, at: Addr, space: &AddressSpace) -> bool {
        let place = find_place(at, &window.inner_boundaries(), space, &[]);
        place.is_some_and(|place| window.moved(place).is_some())
    }

    /// A copy of the window at `at`: nothing leads to it.
    pub fn copy(window: &Window, at: Addr, space: &AddressSpace, taken: &[AddrRange]) -> Option<Stub> {
        Stub::build(window, at, space, taken, |_| Some(Traps::at(usize::MAX)))
    }

    /// One with code before the moved window; `make` says where in it it traps, or that it would be too long.
    fn build(
        window: &Window,
        at: Addr,
        space: &AddressSpace,
        taken: &[AddrRange],
        make: impl FnOnce(&mut Vec<u8>) -> Option<Traps>,
    ) -> Option<Stub> {
        let boundaries = window.inner_boundaries();
        let place = find_place(at, &boundaries, space, taken)?;
        let mut code = Vec::new();
        let Traps { hit, asking } = make(&mut code)?;
        let hit = place.0.wrapping_add(hit as u64);
        let asking = asking.map(|(start, int3)| Asking {
            start: place + start as u64,
            int3: place + int3 as u64,
        });
        let moved = place + code.len() as u64;
        let Moved { code: tail, starts } = window.moved(moved)?;
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
            inner,
            places,
        })
    }

    /// Whether the task traps so that the replayer looks at it: the `int3` there.
    pub fn traps_at(&self, int3: Addr) -> bool {
        int3 == self.hit || self.asking.is_some_and(|asking| asking.int3 == int3)
    }

    /// Where a task goes on that has met a fault at `rip`, if it was a condition that could not read something.
    pub fn after_fault(&self, rip: Addr) -> Option<Addr> {
        let asking = self.asking?;
        (self.place <= rip && rip < asking.start).then_some(asking.start)
    }

    /// How many bytes of the program's code it stands for.
    pub fn window_len(&self) -> u64 {
        self.places
            .last()
            .map_or(JUMP_LEN as u64, |(_, end)| *end - self.at)
    }

    /// Where a task goes on that has come to an instruction that the jump overwrites.
    pub fn moved_from(&self, at: Addr) -> Option<Addr> {
        let found = self.inner.iter().find(|(old, _)| *old == at);
        found.map(|(_, new)| *new)
    }

    /// Where in the program a task is that stands at this place of the moved instructions; `None` if it is on its way to
    /// the first of them, or within one.
    pub fn program_place(&self, rip: Addr) -> Option<Addr> {
        let found = self.places.iter().find(|(new, _)| *new == rip);
        found.map(|(_, old)| *old)
    }
}

/// A free place in reach of a jump at `at` whose displacement is `int3` at these bytes of the jump.
fn find_place(at: Addr, boundaries: &[usize], space: &AddressSpace, ours: &[AddrRange]) -> Option<Addr> {
    let taken: Vec<AddrRange> = space.iter().map(|m| m.range).collect();
    let is_free = |room: AddrRange| {
        let next = taken.partition_point(|t| t.end <= room.start);
        let is_clear = |t: &AddrRange| t.start >= room.end || t.end <= room.start;
        taken.get(next).is_none_or(is_clear) && ours.iter().all(is_clear)
    };
    // Choices for byte `n` of the displacement; the highest first near, then ever farther.
    let choices = |n: usize, free: Vec<u8>| {
        if boundaries.contains(&(n + 1)) {
            // An `int3` there leads 800 MiB down, which is below a program that is linked to a low place.
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
