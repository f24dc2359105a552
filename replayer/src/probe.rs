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

use std::sync::Arc;

use rr_tracee::code::{ABSOLUTE_JUMP_LEN, JUMP_LEN, Moved, Window};
use rr_tracee::ids::PAGE;
use rr_tracee::{Addr, AddrRange, AddressSpace, Registers};

use crate::condition::{self, Exits, Program};
use crate::key::{Key, Place, numbered};
use crate::words::{GOALS, IS_TRUE, LAST, LEFT, SAVED_FLAGS, SAVED_RAX, SAVED_RCX, count_word};

/// `int3`.
pub(crate) const INT3: u8 = 0xcc;
/// No instructions in 64-bit mode, whatever follows (Intel SDM vol. 2, appendix A.3).
const INVALID: [u8; 6] = [0x06, 0x0e, 0x16, 0x1e, 0x27, 0x37];
/// Most words that a stub compares; the replayer looks at all.
const WORDS_MAX: usize = 160;
/// Most bytes of code for the conditions of a breakpoint.
const CONDITIONS_MOST: usize = 5000;
/// Bytes of address space for one stub: the largest (35 bytes a word, and its conditions) takes three pages, and may
/// begin anywhere in one.
const ROOM: u64 = 4 * PAGE;
/// Where the kernel lets nobody map any more (x86-64 with four levels of page tables).
const TOP: Addr = Addr(0x7fff_ffff_f000);
/// What a stub counts.
#[derive(Clone, Debug)]
pub(crate) struct Counting<'a> {
    /// The number of its counter.
    pub counter: usize,
    /// Whether it notes that it was passed last.
    pub is_noted: bool,
    /// Whether it is at the goal.
    pub is_goal: bool,
    /// When it traps, before it counts.
    pub end: End<'a>,
    /// Where one of these cannot be told, it traps, too, before it counts.
    pub conditions: &'a [Arc<Program>],
    /// What it does where one is true.
    pub where_true: WhereTrue,
}

/// What a task does at a breakpoint with a condition that is true.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum WhereTrue {
    /// It stops.
    #[default]
    Stops,
    /// It notes that it was there last. Where no condition is true it notes nothing.
    Notes,
}

impl Counting<'_> {
    /// Whether it notes the last pass, or the last one where a condition is true.
    fn notes(&self) -> bool {
        match self.conditions {
            [] => self.is_noted,
            _ => self.where_true == WhereTrue::Notes,
        }
    }
}

/// When a counting stub traps.
#[derive(Clone, Debug)]
pub(crate) enum End<'a> {
    /// Never.
    Never,
    /// When the goal has been met as often as it is to be met.
    Enough,
    /// When the registers and words are these.
    State(&'a Registers, &'a [(Addr, u64)]),
}

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

/// Restores and traps (`int3`) unless `check` jumps to behind that; returns where the `int3` is.
fn trap_on_match(code: &mut Vec<u8>, check: impl FnOnce(&mut Vec<u8>, &mut Vec<usize>)) -> usize {
    let mut misses = Vec::new();
    check(code, &mut misses);
    restore(code);
    let hit = code.len();
    code.push(INT3);
    let miss = code.len();
    for at in misses {
        condition::set_target(code, at, miss);
    }
    hit
}

/// Evaluates the conditions of the breakpoint at `at`. Where one cannot be told, the code restores and traps: the result says where
/// that begins, and where the `int3` is. Where one is true, it does the same, or keeps that in [`IS_TRUE`]. `None` if the code would be
/// too long.
fn evaluate(
    code: &mut Vec<u8>,
    conditions: &[Arc<Program>],
    at: Addr,
    where_true: WhereTrue,
) -> Option<(usize, usize)> {
    let begin = code.len();
    let mut exits = Exits::default();
    condition::save_scratch(code);
    for program in conditions {
        condition::compile(program, at, code, &mut exits);
    }
    let mut ends = Vec::new();
    match where_true {
        WhereTrue::Stops => exits.asks.append(&mut exits.trues),
        WhereTrue::Notes => {
            set_word(code, IS_TRUE, 0);
            condition::restore_scratch(code);
            ends.push(jump(code));
            let is_true = code.len();
            for jump in exits.trues {
                condition::set_target(code, jump, is_true);
            }
            set_word(code, IS_TRUE, 1);
        }
    }
    condition::restore_scratch(code);
    ends.push(jump(code));
    let start = code.len();
    for jump in exits.asks {
        condition::set_target(code, jump, start);
    }
    condition::restore_scratch(code);
    restore(code);
    let int3 = code.len();
    code.push(INT3);
    let end = code.len();
    for jump in ends {
        condition::set_target(code, jump, end);
    }
    (end - begin <= CONDITIONS_MOST).then_some((start, int3))
}

/// `jmp`; returns where its displacement is.
fn jump(code: &mut Vec<u8>) -> usize {
    code.push(0xe9);
    let place = code.len();
    code.extend([0; 4]);
    place
}

/// `mov qword [addr], value`, which leaves the flags alone.
fn set_word(code: &mut Vec<u8>, addr: u32, value: u32) {
    code.extend([0x48, 0xc7, 0x04, 0x25]);
    code.extend(addr.to_le_bytes());
    code.extend(value.to_le_bytes());
}

/// Compares the key: falls through, with all registers as they were, if it is equal. Returns the jump that is taken if not.
/// It leaves the flags alone, so they need not be saved.
fn compare_key(code: &mut Vec<u8>, key: &Key) -> usize {
    /// The bytes of the restoring, and of the jump that follows it.
    const RESTORE_AND_JUMP: u8 = 8 + 5;
    let restore = |code: &mut Vec<u8>| {
        // mov rcx, [SAVED_RCX]
        code.extend([0x48, 0x8b, 0x0c, 0x25]);
        code.extend(SAVED_RCX.to_le_bytes());
    };
    // mov [SAVED_RCX], rcx
    code.extend([0x48, 0x89, 0x0c, 0x25]);
    code.extend(SAVED_RCX.to_le_bytes());
    let number = match key.place {
        Place::Register(number) => number,
        Place::Word(addr) => {
            // mov rcx, addr; mov ecx, [rcx]
            code.extend([0x48, 0xb9]);
            code.extend(addr.0.to_le_bytes());
            code.extend([0x8b, 0x09]);
            1
        }
    };
    // lea ecx, [register − value]
    if number >= 8 {
        code.push(0x41);
    }
    code.extend([0x8d, 0x88 | number & 7]);
    if number & 7 == 4 {
        code.push(0x24);
    }
    code.extend(key.value.wrapping_neg().to_le_bytes());
    // jrcxz to behind the jump
    code.extend([0xe3, RESTORE_AND_JUMP]);
    restore(code);
    let elsewhere = jump(code);
    restore(code);
    elsewhere
}

/// Compares registers and words.
fn compare(code: &mut Vec<u8>, misses: &mut Vec<usize>, regs: &Registers, words: &[(Addr, u64)]) {
    for (number, value) in numbered(regs) {
        compare_register(code, misses, number, value);
    }
    compare_saved(code, misses, regs);
    // With equal registers, the words of a frame can be read if they could when this was recorded.
    for (addr, value) in words.iter().take(WORDS_MAX) {
        compare_word(code, misses, *addr, *value);
    }
}

/// Counts. The counter goes before the note: whoever stops between them finds the note later, with the right count.
fn count(code: &mut Vec<u8>, what: &Counting<'_>) {
    // add qword [counter], 1
    code.extend([0x48, 0x83, 0x04, 0x25]);
    code.extend(count_word(what.counter).to_le_bytes());
    code.push(1);
    if what.is_goal {
        // add qword [GOALS], 256
        code.extend([0x48, 0x81, 0x04, 0x25]);
        code.extend(count_word(GOALS).to_le_bytes());
        code.extend(256u32.to_le_bytes());
    }
    if what.notes() {
        let mut over = Vec::new();
        if !what.conditions.is_empty() {
            // cmp qword [IS_TRUE], 1; jne
            code.extend([0x48, 0x83, 0x3c, 0x25]);
            code.extend(IS_TRUE.to_le_bytes());
            code.push(1);
            jump_if_different(code, &mut over);
        }
        // mov rax, [GOALS]; lea rax, [rax + counter + 1]; mov [LAST], rax
        code.extend([0x48, 0x8b, 0x04, 0x25]);
        code.extend(count_word(GOALS).to_le_bytes());
        code.extend([0x48, 0x8d, 0x40, what.counter as u8 + 1]);
        code.extend([0x48, 0x89, 0x04, 0x25]);
        code.extend(count_word(LAST).to_le_bytes());
        let end = code.len();
        for jump in over {
            condition::set_target(code, jump, end);
        }
    }
}

/// `mov [SAVED_RAX], rax; lahf; seto al; mov [SAVED_FLAGS], ax`
fn save(code: &mut Vec<u8>) {
    code.extend([0x48, 0x89, 0x04, 0x25]);
    code.extend(SAVED_RAX.to_le_bytes());
    code.extend([0x9f, 0x0f, 0x90, 0xc0]);
    code.extend([0x66, 0x89, 0x04, 0x25]);
    code.extend(SAVED_FLAGS.to_le_bytes());
}

/// `mov ax, [SAVED_FLAGS]; add al, 0x7f; sahf; mov rax, [SAVED_RAX]`: the addition overflows exactly if `al` is 1.
fn restore(code: &mut Vec<u8>) {
    code.extend([0x66, 0x8b, 0x04, 0x25]);
    code.extend(SAVED_FLAGS.to_le_bytes());
    code.extend([0x04, 0x7f, 0x9e]);
    code.extend([0x48, 0x8b, 0x04, 0x25]);
    code.extend(SAVED_RAX.to_le_bytes());
}

/// `jne miss`, with the place of its displacement noted.
fn jump_if_different(code: &mut Vec<u8>, misses: &mut Vec<usize>) {
    code.extend([0x0f, 0x85]);
    misses.push(code.len());
    code.extend([0; 4]);
}

/// `mov rax, value`
fn load(code: &mut Vec<u8>, value: u64) {
    code.extend([0x48, 0xb8]);
    code.extend(value.to_le_bytes());
}

/// `mov rax, value; cmp register, rax; jne miss`
fn compare_register(code: &mut Vec<u8>, misses: &mut Vec<usize>, number: u8, value: u64) {
    load(code, value);
    code.extend([0x48 | number >> 3, 0x39, 0xc0 | number & 7]);
    jump_if_different(code, misses);
}

/// `mov rax, addr; cmp dword [rax], low; jne miss; cmp dword [rax + 4], high; jne miss`
fn compare_word(code: &mut Vec<u8>, misses: &mut Vec<usize>, addr: Addr, value: u64) {
    load(code, addr.0);
    let bytes = value.to_le_bytes();
    code.extend([0x81, 0x38]);
    code.extend(&bytes[..4]);
    jump_if_different(code, misses);
    code.extend([0x81, 0x78, 0x04]);
    code.extend(&bytes[4..]);
    jump_if_different(code, misses);
}

/// Compares the saved `rax` and flags.
fn compare_saved(code: &mut Vec<u8>, misses: &mut Vec<usize>, regs: &Registers) {
    // cmp [SAVED_RAX], rax
    load(code, regs.rax);
    code.extend([0x48, 0x39, 0x04, 0x25]);
    code.extend(SAVED_RAX.to_le_bytes());
    jump_if_different(code, misses);
    // ah as `lahf` has it: sign, zero, adjust, parity, carry, and bit 1, which is always set; al: overflow.
    const OVERFLOW: u64 = 1 << 11;
    let ah = (regs.eflags as u8 & 0xd5) | 2;
    let al = u8::from(regs.eflags & OVERFLOW != 0);
    // cmp word [SAVED_FLAGS], ax
    code.extend([0x66, 0x81, 0x3c, 0x25]);
    code.extend(SAVED_FLAGS.to_le_bytes());
    code.extend([al, ah]);
    jump_if_different(code, misses);
}

/// Code that evaluates a condition and traps in either case, for tests: what a stub does, but for the program's
/// instructions.
#[doc(hidden)]
#[derive(Debug)]
pub struct Trial {
    /// The code.
    pub code: Vec<u8>,
    /// The `int3` where the condition is true.
    pub yes: usize,
    /// Where a task goes on that could not read something.
    pub after_fault: usize,
    /// The `int3` where it is false.
    pub no: usize,
}

impl Trial {
    /// The code for a breakpoint at `at`.
    pub fn of(program: &Arc<Program>, at: Addr) -> Option<Trial> {
        let mut code = Vec::new();
        save(&mut code);
        let (after_fault, yes) = evaluate(&mut code, std::slice::from_ref(program), at, WhereTrue::Stops)?;
        restore(&mut code);
        let no = code.len();
        code.push(INT3);
        Some(Trial {
            code,
            yes,
            after_fault,
            no,
        })
    }
}
