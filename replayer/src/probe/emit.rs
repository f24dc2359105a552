//! The machine code of stubs, part by part.
//!
//! Invariant: the code of a stub restores whatever it has saved before it traps or continues.

use std::sync::Arc;

#[cfg(doc)]
use rr_tracee::code::Window;
use rr_tracee::{Addr, Registers};

use super::counting::{Counting, WhereTrue};
use crate::condition::{self, Exits, Program};
use crate::key::{Key, Place, numbered};
use crate::words::{GOALS, IS_TRUE, LAST, SAVED_FLAGS, SAVED_RAX, SAVED_RCX, count_word};

/// `int3`.
pub(crate) const INT3: u8 = 0xcc;
/// Maximum number of words that a stub compares; the replayer compares all of them.
const WORDS_MAX: usize = 160;
/// Maximum number of bytes of code for the conditions of a breakpoint.
const CONDITIONS_MOST: usize = 5000;

/// Emits code that restores and traps (`int3`), unless the code of `check` jumps past that. Returns the
/// offset of the `int3`.
pub(super) fn trap_on_match(code: &mut Vec<u8>, check: impl FnOnce(&mut Vec<u8>, &mut Vec<usize>)) -> usize {
    let mut misses = Vec::new();
    check(code, &mut misses);
    restore(code);
    let hit = code.len();
    code.push(INT3);
    land(code, misses);
    hit
}

/// Makes jumps, given by the offsets of their displacements, lead to what is emitted next.
pub(super) fn land(code: &mut [u8], jumps: impl IntoIterator<Item = usize>) {
    let here = code.len();
    for jump in jumps {
        condition::set_target(code, jump, here);
    }
}

/// Emits code that evaluates the conditions of the breakpoint at `at`. If a condition cannot be
/// evaluated, the code restores and traps: the result is the offset of that part, and of its `int3`. If
/// a condition is true, the code does the same, or stores 1 in [`IS_TRUE`]. Returns `None` if the code
/// would be too long.
pub(super) fn evaluate(
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
            land(code, exits.trues);
            set_word(code, IS_TRUE, 1);
        }
    }
    condition::restore_scratch(code);
    ends.push(jump(code));
    let start = code.len();
    land(code, exits.asks);
    condition::restore_scratch(code);
    restore(code);
    let int3 = code.len();
    code.push(INT3);
    let end = code.len();
    land(code, ends);
    (end - begin <= CONDITIONS_MOST).then_some((start, int3))
}

/// Emits `jmp`. Returns the offset of its displacement.
pub(super) fn jump(code: &mut Vec<u8>) -> usize {
    code.push(0xe9);
    let place = code.len();
    code.extend([0; 4]);
    place
}

/// Emits `mov qword [addr], value`, which leaves the flags alone.
pub(super) fn set_word(code: &mut Vec<u8>, addr: u32, value: u32) {
    code.extend([0x48, 0xc7, 0x04, 0x25]);
    code.extend(addr.to_le_bytes());
    code.extend(value.to_le_bytes());
}

/// Emits code that compares the key: if the key is equal, execution falls through with all registers as
/// they were. Returns the jump that is taken otherwise. The code leaves the flags alone, so they need
/// not be saved.
pub(super) fn compare_key(code: &mut Vec<u8>, key: &Key) -> usize {
    /// Number of bytes of the code that restores `rcx`, and of the jump that follows.
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

/// Emits code that compares the key, and changes the flags. Returns the jump that is taken if the key is
/// equal. Both ways, all other registers are as they were.
///
/// A loop of two instructions runs as fast with this in it as without it. With [`compare_key`] it takes
/// five times as long, because `rcx` is stored and loaded in each turn.
pub(super) fn compare_key_with_flags(code: &mut Vec<u8>, key: &Key) -> usize {
    match key.place {
        Place::Register(number) => {
            // cmp register, value
            if number >= 8 {
                code.push(0x41);
            }
            code.extend([0x81, 0xf8 | number & 7]);
            code.extend(key.value.to_le_bytes());
        }
        Place::Word(addr) => {
            // mov [SAVED_RCX], rcx; mov rcx, addr; cmp dword [rcx], value; mov rcx, [SAVED_RCX]
            code.extend([0x48, 0x89, 0x0c, 0x25]);
            code.extend(SAVED_RCX.to_le_bytes());
            code.extend([0x48, 0xb9]);
            code.extend(addr.0.to_le_bytes());
            code.extend([0x81, 0x39]);
            code.extend(key.value.to_le_bytes());
            code.extend([0x48, 0x8b, 0x0c, 0x25]);
            code.extend(SAVED_RCX.to_le_bytes());
        }
    }
    // je
    code.extend([0x0f, 0x84]);
    let place = code.len();
    code.extend([0; 4]);
    place
}

/// Emits code that compares registers and words, and the flags unless they are dead.
pub(super) fn compare(
    code: &mut Vec<u8>,
    misses: &mut Vec<usize>,
    regs: &Registers,
    words: &[(Addr, u64)],
    flags: Flags,
) {
    for (number, value) in numbered(regs) {
        compare_register(code, misses, number, value);
    }
    compare_saved(code, misses, regs, flags);
    // With equal registers, the words of a frame are readable if they were readable in the recording.
    for (addr, value) in words.iter().take(WORDS_MAX) {
        compare_word(code, misses, *addr, *value);
    }
}

/// Emits code that counts. The counter is increased before the note is made: if the task stops between
/// the two, the note is made later, with the right count.
pub(super) fn count(code: &mut Vec<u8>, what: &Counting<'_>) {
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

/// Emits `mov [SAVED_RAX], rax; lahf; seto al; mov [SAVED_FLAGS], ax`.
pub(super) fn save(code: &mut Vec<u8>) {
    code.extend([0x48, 0x89, 0x04, 0x25]);
    code.extend(SAVED_RAX.to_le_bytes());
    code.extend([0x9f, 0x0f, 0x90, 0xc0]);
    code.extend([0x66, 0x89, 0x04, 0x25]);
    code.extend(SAVED_FLAGS.to_le_bytes());
}

/// Emits `mov ax, [SAVED_FLAGS]; add al, 0x7f; sahf; mov rax, [SAVED_RAX]`: the addition overflows
/// exactly if `al` is 1.
pub(super) fn restore(code: &mut Vec<u8>) {
    code.extend([0x66, 0x8b, 0x04, 0x25]);
    code.extend(SAVED_FLAGS.to_le_bytes());
    code.extend([0x04, 0x7f, 0x9e]);
    code.extend([0x48, 0x8b, 0x04, 0x25]);
    code.extend(SAVED_RAX.to_le_bytes());
}

/// Emits `jne miss`, and notes the offset of its displacement in `misses`.
pub(super) fn jump_if_different(code: &mut Vec<u8>, misses: &mut Vec<usize>) {
    code.extend([0x0f, 0x85]);
    misses.push(code.len());
    code.extend([0; 4]);
}

/// Emits `mov rax, value`.
pub(super) fn load(code: &mut Vec<u8>, value: u64) {
    code.extend([0x48, 0xb8]);
    code.extend(value.to_le_bytes());
}

/// Emits `mov rax, value; cmp register, rax; jne miss`.
pub(super) fn compare_register(code: &mut Vec<u8>, misses: &mut Vec<usize>, number: u8, value: u64) {
    load(code, value);
    code.extend([0x48 | number >> 3, 0x39, 0xc0 | number & 7]);
    jump_if_different(code, misses);
}

/// Emits `mov rax, addr; cmp dword [rax], low; jne miss; cmp dword [rax + 4], high; jne miss`.
pub(super) fn compare_word(code: &mut Vec<u8>, misses: &mut Vec<usize>, addr: Addr, value: u64) {
    load(code, addr.0);
    let bytes = value.to_le_bytes();
    code.extend([0x81, 0x38]);
    code.extend(&bytes[..4]);
    jump_if_different(code, misses);
    code.extend([0x81, 0x78, 0x04]);
    code.extend(&bytes[4..]);
    jump_if_different(code, misses);
}

/// State of the status flags when a stub compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flags {
    /// They are the program's.
    Kept,
    /// The stub has changed them, because the program overwrites them next ([`Window::dead_flags`]).
    Dead,
}

/// Emits code that compares the saved `rax`, and the saved flags unless they are dead.
fn compare_saved(code: &mut Vec<u8>, misses: &mut Vec<usize>, regs: &Registers, flags: Flags) {
    // cmp [SAVED_RAX], rax
    load(code, regs.rax);
    code.extend([0x48, 0x39, 0x04, 0x25]);
    code.extend(SAVED_RAX.to_le_bytes());
    jump_if_different(code, misses);
    if flags == Flags::Dead {
        return;
    }
    // `ah` as `lahf` sets it: sign, zero, adjust, parity, carry, and bit 1, which is always set. `al`:
    // overflow.
    const OVERFLOW: u64 = 1 << 11;
    let ah = (regs.eflags as u8 & 0xd5) | 2;
    let al = u8::from(regs.eflags & OVERFLOW != 0);
    // cmp word [SAVED_FLAGS], ax
    code.extend([0x66, 0x81, 0x3c, 0x25]);
    code.extend(SAVED_FLAGS.to_le_bytes());
    code.extend([al, ah]);
    jump_if_different(code, misses);
}
