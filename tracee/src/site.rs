//! System call sites: how the library is called in place of a `syscall` instruction.
//!
//! The `syscall` instruction itself stays in place, for two reasons: a task may stand behind it in the
//! kernel, and it makes the calls that the library does not handle. A jump of five bytes overwrites the
//! instructions just before it:
//!
//! ```text
//!   start ─► instruction        ┐ the window: whole instructions, five bytes at least
//!            instruction        ┘
//!   call  ─► syscall              not touched
//! ```
//!
//! Instructions cannot be decoded backwards. But decoding that starts anywhere soon falls into step
//! with the true instructions. So if *every* way to decode that arrives at the call agrees, the result
//! is true.
//!
//! A function that is nothing but a call is often too short for the jump, and padding stands before it.
//! Then the window is in the padding, but callers come in behind that. A jump of two bytes sends them
//! back to its beginning:
//!
//! ```text
//!   start ─► nop (10 bytes)      jmp stub
//!   entry ─► xor eax, eax        jmp start
//!   call  ─► syscall             not touched
//! ```
//!
//! The stub executes the window in its new place and goes to the library (`preload/src/layout.rs` shows
//! the path).
//!
//! Loops that wait for the time-stamp counter branch straight to their `rdtsc`. So a counter's site is
//! rewritten, too, if the window has room for a second jump, the *landing*. A jump of two bytes sends
//! callers from the instruction to the landing, which leads into the stub behind the moved window. The
//! stub has a copy of the instruction, for when the library leaves it to the kernel:
//!
//! ```text
//!   start   ─► instructions      jmp stub              stub: the moved window
//!   landing ─►   (ten bytes)     jmp stub_go           go:   to the library
//!   call    ─► rdtsc             jmp landing           copy: rdtsc; jmp call+2
//! ```
//!
//! A `cpuid` is a site without a landing. The instruction in place is one that traps ([`crate::trapping`]), for the leaves that
//! the library does not know.
//!
//! The program never stands at the copy or at the landing. Recorder and replayer move a task that has
//! trapped at the copy to `call` ([`crate::stubs::place_of_copy`]), and give no point of execution a
//! name that is on the way to the library.

mod window;

use std::mem::offset_of;

use rr_preload::layout::{self, Control};

use crate::code::{JUMP_LEN, decode, jump};
use crate::cpuid;
use crate::ids::{Addr, AddrRange};

pub use window::{NotAWindow, SiteWindow, WINDOW_MOST};

/// Distance before the call at which decoding begins, and number of bytes within which it must have
/// fallen into step.
const RUN_UP: usize = 96;
const IN_STEP: usize = 48;
/// Length of `jmp rel8`.
pub const SHORT_LEN: usize = 2;
/// Maximum number of entries of a jump table.
const TABLE_MOST: usize = 4096;
/// Room for a stub: the moved window (conditional branches grow), and the jump to the library.
pub const STUB_MOST: usize = 160;

/// Length of `mov dword [at], constant`, for an absolute address of 32 bits.
const STORE_LEN: usize = 11;

/// Number of bytes of code that [`Site::candidates`] needs before the call.
pub const BEFORE: usize = RUN_UP;

/// An instruction that the library can stand in for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instruction {
    /// `syscall`
    Call,
    /// `rdtsc`
    Counter,
    /// `rdtscp`
    CounterAndProcessor,
    /// `cpuid`
    Cpuid,
}

/// Offset of the first bytes in `code` that are a `syscall` instruction.
pub fn syscall_in(code: &[u8]) -> Option<u64> {
    let bytes = Instruction::Call.bytes();
    let at = code.windows(bytes.len()).position(|window| window == bytes)?;
    Some(at as u64)
}

impl Instruction {
    /// All instructions.
    const ALL: [Instruction; 4] = [
        Instruction::Call,
        Instruction::Counter,
        Instruction::CounterAndProcessor,
        Instruction::Cpuid,
    ];
    /// Length of the longest instruction.
    pub const LONGEST: usize = 3;

    fn bytes(self) -> &'static [u8] {
        match self {
            Instruction::Call => &[0x0f, 0x05],
            Instruction::Counter => &[0x0f, 0x31],
            Instruction::CounterAndProcessor => &[0x0f, 0x01, 0xf9],
            Instruction::Cpuid => &cpuid::BYTES,
        }
    }

    /// The instruction that `code` begins with.
    pub fn of(code: &[u8]) -> Option<Instruction> {
        Self::ALL.into_iter().find(|i| code.starts_with(i.bytes()))
    }

    /// Length of the instruction in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no instruction is empty")]
    pub fn len(self) -> u64 {
        self.bytes().len() as u64
    }

    /// The library's kind of site for this instruction ([`layout::site`]).
    pub fn site_kind(self) -> u64 {
        match self {
            Instruction::Call => layout::site::CALL,
            Instruction::Counter => layout::site::COUNTER,
            Instruction::CounterAndProcessor => layout::site::COUNTER_AND_PROCESSOR,
            Instruction::Cpuid => layout::site::CPUID,
        }
    }

    /// Returns whether programs wait in loops for its value, and so branch straight to the instruction.
    pub(crate) fn is_waited_on(self) -> bool {
        matches!(self, Instruction::Counter | Instruction::CounterAndProcessor)
    }

    /// The instruction of a kind of site.
    pub fn of_kind(kind: u64) -> Option<Instruction> {
        Self::ALL.into_iter().find(|i| i.site_kind() == kind)
    }
}

/// A stub, and what leads to it.
#[derive(Clone, Debug)]
pub struct StubCode {
    /// The code of the stub.
    pub code: Vec<u8>,
    /// The jumps at the site: address and code of each, the jump at the site's beginning first.
    pub jumps: Vec<(Addr, Vec<u8>)>,
}

/// A call that can be given to the library.
#[derive(Clone, Debug)]
pub struct Site {
    instruction: Instruction,
    start: Addr,
    call: Addr,
    window: SiteWindow,
}

impl Site {
    /// The possible sites of the instruction at `call`, the best one first. `code` is the code before
    /// it: [`BEFORE`] bytes, or fewer if there are no more. There is none if no instructions there can
    /// be overwritten by a jump.
    pub fn candidates(code: &[u8], call: Addr, instruction: Instruction) -> Vec<Site> {
        let code_near = &code[code.len().saturating_sub(RUN_UP)..];
        let len = |n: usize| Some(decode(&code_near[n..], call)?.len());
        let lengths: Vec<Option<usize>> = (0..code_near.len()).map(len).collect();
        // For every place near the call: the number of ways to decode in which an instruction begins
        // there.
        let mut begins = [0u32; WINDOW_MOST + 1];
        let mut ways = 0;
        for from in 0..=lengths.len().saturating_sub(IN_STEP) {
            if let Some(starts) = steps_to_end(&lengths[from..]) {
                ways += 1;
                for distance in starts {
                    begins[distance] += 1;
                }
            }
        }
        let of_length = |distance: usize| {
            let start = code.len().checked_sub(distance)?;
            Site::known(SiteWindow::decode(&code[start..])?, call, instruction)
        };
        let fits = (JUMP_LEN..=WINDOW_MOST).filter(|d| ways > 0 && begins[*d] == ways);
        let all: Vec<Site> = fits.map_while(of_length).collect();
        // The shorter the window, the fewer instructions are moved. A branch may lead into a short
        // window with a landing, and behind the landing of a longer one.
        let (mut sites, mut plain): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|site| site.landing().is_some());
        plain.truncate(1);
        sites.append(&mut plain);
        sites
    }

    /// The site of the call at `call`, with a window that was found before.
    pub fn known(window: SiteWindow, call: Addr, instruction: Instruction) -> Option<Site> {
        let start = Addr(call.0.checked_sub(window.bytes().len() as u64)?);
        Some(Site {
            instruction,
            start,
            call,
            window,
        })
    }

    /// The window: the instructions before the call that the jump overwrites.
    pub fn window(&self) -> &SiteWindow {
        &self.window
    }

    /// Address of the jump.
    pub fn start(&self) -> Addr {
        self.start
    }

    /// The bytes that the jumps overwrite, and those between the jumps.
    pub fn original(&self) -> Vec<u8> {
        let window = self.window.bytes();
        if self.landing_offset().is_some() {
            return [window, &self.instruction.bytes()[..SHORT_LEN]].concat();
        }
        let end = self.entry().map_or(JUMP_LEN, |at| at + SHORT_LEN);
        window[..end].to_vec()
    }

    /// Offset in the window where callers may come in behind padding, if the padding alone has room for
    /// the jump.
    fn entry(&self) -> Option<usize> {
        let (padding, next) = self.window.padding()?;
        (padding >= JUMP_LEN && next >= SHORT_LEN).then_some(padding)
    }

    /// Offset in the window of the jump for callers that come in at the instruction itself.
    fn landing_offset(&self) -> Option<usize> {
        let has_room =
            self.window.bytes().len() >= 2 * JUMP_LEN && self.entry().is_none_or(|at| at >= 2 * JUMP_LEN);
        (self.instruction.is_waited_on() && has_room).then_some(JUMP_LEN)
    }

    /// Address of the jump for callers that come in at the instruction itself.
    pub fn landing(&self) -> Option<Addr> {
        self.landing_offset().map(|at| self.start + at as u64)
    }

    /// Addresses within the jumps where other instructions than the first begin. No branch may lead
    /// there.
    pub fn inner(&self) -> Vec<Addr> {
        let end = self.landing_offset().map_or(JUMP_LEN, |at| at + JUMP_LEN);
        let boundaries = self.window.inner_boundaries(end);
        boundaries.iter().map(|n| self.start + *n as u64).collect()
    }

    /// The code of a stub at `to`, and the jumps that lead to it. `None` if `to` is too far away.
    pub fn stub(&self, to: Addr) -> Option<StubCode> {
        let mut code = self.window.relocated(self.start, to)?;
        let go = code.len() as u64;
        let mut stores = vec![offset_of!(Control, go_on), offset_of!(Control, go_on) + 4];
        if self.instruction != Instruction::Call {
            stores.push(offset_of!(Control, site));
        }
        let place = match self.landing_offset() {
            // The copy stands behind all this.
            Some(_) => to + go + (stores.len() * STORE_LEN + jump_to_entry().len()) as u64,
            None => self.call,
        };
        let values = [place.0, place.0 >> 32, self.instruction.site_kind()];
        for (field, value) in stores.into_iter().zip(values) {
            code.extend(store_to(field));
            code.extend((value as u32).to_le_bytes());
        }
        code.extend(jump_to_entry());
        let mut jumps = vec![(self.start, jump_from(self.start, to)?.to_vec())];
        if let Some(at) = self.entry() {
            jumps.push((self.start + at as u64, self.short_jump(at as u64, 0)?.to_vec()));
        }
        if let Some(at) = self.landing_offset() {
            code.extend(self.instruction.bytes());
            jump(&mut code, self.call.0 + self.instruction.len());
            let landing = self.start + at as u64;
            jumps.push((landing, jump_from(landing, to + go)?.to_vec()));
            jumps.push((
                self.call,
                self.short_jump(self.window.bytes().len() as u64, at as u64)?
                    .to_vec(),
            ));
        }
        (code.len() <= STUB_MOST).then_some(StubCode { code, jumps })
    }

    /// A jump of two bytes, between two offsets in the window.
    fn short_jump(&self, from: u64, to: u64) -> Option<[u8; SHORT_LEN]> {
        let distance = to as i64 - (from as i64 + SHORT_LEN as i64);
        Some([0xeb, i8::try_from(distance).ok()? as u8])
    }
}

/// `mov dword [at], …` for a field of [`Control`]: the instruction without its constant.
pub(crate) fn store_to(field: usize) -> [u8; STORE_LEN - 4] {
    let [a, b, c, d] = ((layout::CONTROL as usize + field) as u32).to_le_bytes();
    [0xc7, 0x04, 0x25, a, b, c, d]
}

/// `jmp [entry]`
pub(crate) fn jump_to_entry() -> [u8; 7] {
    let [a, b, c, d] = ((layout::CONTROL as usize + offset_of!(Control, entry)) as u32).to_le_bytes();
    [0xff, 0x24, 0x25, a, b, c, d]
}

/// `jmp rel32` at `from`. `None` if `to` is too far away.
fn jump_from(from: Addr, to: Addr) -> Option<[u8; JUMP_LEN]> {
    let distance = (to.0 as i64).checked_sub((from.0 + JUMP_LEN as u64) as i64)?;
    let mut jump = [0xe9; JUMP_LEN];
    jump[1..].copy_from_slice(&i32::try_from(distance).ok()?.to_le_bytes());
    Some(jump)
}

/// Goes from instruction to instruction, given the length of the one that begins at each place. Returns
/// the distances of the last ones from the end. `None` if the steps miss the end.
fn steps_to_end(lengths: &[Option<usize>]) -> Option<Vec<usize>> {
    let mut starts = Vec::new();
    let mut n = 0;
    while n < lengths.len() {
        let distance = lengths.len() - n;
        if distance <= WINDOW_MOST {
            starts.push(distance);
        }
        n += lengths[n]?;
    }
    (n == lengths.len()).then_some(starts)
}

/// Returns whether a direct branch anywhere in `code`, which lies at `at`, may lead to one of these
/// places, or code may take their address. (Decodes at every byte, so it may return true without a
/// branch, but never misses one.)
pub fn branches_to(code: &[u8], at: Addr, places: &[Addr]) -> bool {
    let hit = |next: usize, displacement: i64| {
        let target = (at.0 + next as u64).wrapping_add_signed(displacement);
        places.iter().any(|p| p.0 == target)
    };
    let far = |n: usize| {
        let bytes = code.get(n..n + 4)?.try_into().ok()?;
        Some(hit(n + 4, i64::from(i32::from_le_bytes(bytes))))
    };
    let near = |n: usize| Some(hit(n + 1, i64::from(*code.get(n)? as i8)));
    code.iter().enumerate().any(|(n, byte)| {
        let found = match byte {
            // jcc, jmp, loop and similar
            0x70..=0x7f | 0xeb | 0xe0..=0xe3 => near(n + 1),
            // call, jmp
            0xe8 | 0xe9 => far(n + 1),
            // jcc
            0x0f if code.get(n + 1).is_some_and(|b| (0x80..=0x8f).contains(b)) => far(n + 2),
            // lea, relative to the instruction pointer
            0x8d if code.get(n + 1).is_some_and(|b| b & 0xc7 == 5) => far(n + 2),
            // mov of a constant
            0xb8..=0xbf | 0xc7 => constant(code, n + 1 + usize::from(*byte == 0xc7), places),
            _ => None,
        };
        found == Some(true)
    })
}

/// Returns whether the four bytes at `n` are one of these places.
fn constant(code: &[u8], n: usize, places: &[Addr]) -> Option<bool> {
    let bytes = code.get(n..n + 4)?.try_into().ok()?;
    let value = u64::from(u32::from_le_bytes(bytes));
    Some(places.iter().any(|p| p.0 == value))
}

/// Returns whether `data`, which lies at `at`, may hold one of these places of `text`: as an address,
/// or in a jump table of distances from its beginning (with at most `TABLE_MOST` entries). It may
/// return true without one.
pub fn tables_name(data: &[u8], at: Addr, text: AddrRange, places: &[Addr]) -> bool {
    let word = |n: usize| {
        data.get(n..n + 8)
            .and_then(|b| b.try_into().ok())
            .map(u64::from_le_bytes)
    };
    let half = |n: usize| {
        data.get(n..n + 4)
            .and_then(|b| b.try_into().ok())
            .map(i32::from_le_bytes)
    };
    let leads_to = |table: usize, n: usize| Some((at + table as u64).0.wrapping_add_signed(half(n)?.into()));
    let is_entry = |n: usize, place: Addr| {
        let distance = i64::from(half(n)?);
        let table = usize::try_from(
            place
                .0
                .wrapping_add_signed(distance.wrapping_neg())
                .wrapping_sub(at.0),
        )
        .ok()?;
        let possible = table <= n && table % 4 == 0 && n - table < TABLE_MOST * 4;
        // All entries before it must be valid, too.
        let entry = |n: usize| leads_to(table, n).is_some_and(|to| text.contains(Addr(to)));
        Some(possible && (table..n).step_by(4).all(entry))
    };
    (0..data.len()).step_by(4).any(|n| {
        let address = n % 8 == 0 && word(n).is_some_and(|w| places.iter().any(|p| p.0 == w));
        address || places.iter().any(|p| is_entry(n, *p) == Some(true))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Addr = Addr(0x7f00_0000_1000);

    fn before(distance: u64) -> Addr {
        Addr(CALL.0 - distance)
    }

    fn site(code: &[u8]) -> Option<Site> {
        // Usual code before a call: the end of a function, and padding.
        let mut all = vec![0x90; 60];
        all.extend([0x48, 0x83, 0xc4, 0x08, 0xc3]);
        all.extend([0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x0f, 0x1f, 0x40, 0]);
        all.extend(code);
        Site::candidates(&all, CALL, Instruction::Call).into_iter().next()
    }

    #[test]
    fn the_usual_wrapper() {
        // mov eax, 39
        let site = site(&[0xb8, 39, 0, 0, 0]).unwrap();
        assert_eq!((site.start(), site.inner()), (before(5), vec![]));
        let to = before(0x10_0000);
        let StubCode { code: stub, jumps } = site.stub(to).unwrap();
        assert_eq!(stub[..5], [0xb8, 39, 0, 0, 0]);
        assert_eq!(stub[5..12], [0xc7, 0x04, 0x25, 0x00, 0x10, 0x01, 0x70]);
        assert_eq!(stub[12..16], (CALL.0 as u32).to_le_bytes());
        assert_eq!(stub[23..27], ((CALL.0 >> 32) as u32).to_le_bytes());
        let [(at, jump)] = &jumps[..] else {
            panic!("{jumps:x?}")
        };
        assert_eq!((*at, jump[0]), (before(5), 0xe9));
        let distance = i32::from_le_bytes(jump[1..].try_into().unwrap());
        assert_eq!(CALL.0.wrapping_add_signed(distance.into()), to.0);
        assert!(site.stub(Addr(0x1000_0000)).is_none(), "too far");
    }

    #[test]
    fn short_instructions_are_taken_together() {
        // cmpb $0, x(%rip); je +19; xor eax, eax: only the first lies under the jump
        let code = [0x80, 0x3d, 0x51, 0x3f, 0x10, 0, 0, 0x74, 0x13, 0x31, 0xc0];
        let read = site(&code).unwrap();
        assert_eq!((read.start(), read.inner()), (before(11), vec![]));
        let stub = read.stub(CALL + 0x1000).unwrap();
        assert_eq!(stub.code[..2], [0x80, 0x3d]);
        // mov rsi, rcx; mov rdi, rbx
        let go = site(&[0x48, 0x89, 0xce, 0x48, 0x89, 0xdf]).unwrap();
        assert_eq!((go.start(), go.inner()), (before(6), vec![before(3)]));
    }

    #[test]
    fn behind_padding_callers_are_sent_back() {
        // cs nopw; xor eax, eax
        let padding = [0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];
        let code = [&padding[..], &[0x31, 0xc0]].concat();
        let read = site(&code).unwrap();
        assert_eq!((read.start(), read.inner()), (before(12), vec![]));
        assert_eq!(read.original(), code);
        let jumps = |site: &Site| site.stub(CALL + 0x1000).unwrap().jumps;
        assert_eq!(jumps(&read)[1..], [(before(2), vec![0xeb, 0xf4])]);
        // With one byte (push rax) there is no room for it.
        let push = site(&[&padding[..], &[0x50]].concat()).unwrap();
        assert_eq!((jumps(&push).len(), push.original()), (1, padding[..5].to_vec()));
        // Callers come in only at the beginning.
        let wrapper = site(&[0xb8, 39, 0, 0, 0]).unwrap();
        assert_eq!((jumps(&wrapper).len(), wrapper.original().len()), (1, 5));
    }

    #[test]
    fn what_is_ambiguous_or_cannot_be_moved_is_left_alone() {
        // ret just before: nothing leads on
        assert!(site(&[0xb8, 1, 0, 0, 0, 0xc3]).is_none());
        // another system call just before
        assert!(site(&[0x0f, 0x05, 0x89, 0xc7, 0x90]).is_none());
        // too little code before the call is known
        assert!(Site::candidates(&[0x89], CALL, Instruction::Call).is_empty());
    }

    /// `mov dword [rsp-0x48], 1`: its last five bytes look like `mov eax, 1`.
    #[test]
    fn the_end_of_an_instruction_is_not_taken_for_one() {
        let site = site(&[0xc7, 0x44, 0x24, 0xb8, 1, 0, 0, 0]).unwrap();
        assert_eq!(site.start(), before(8));
    }

    #[test]
    fn branches_are_found() {
        let places = [Addr(0x1010)];
        let code = |bytes: &[u8]| {
            let mut all = vec![0x90; 32];
            all[..bytes.len()].copy_from_slice(bytes);
            branches_to(&all, Addr(0x1000), &places)
        };
        assert!(code(&[0xeb, 0x0e]));
        assert!(code(&[0x74, 0x0e]));
        assert!(code(&[0xe9, 0x0b, 0, 0, 0]));
        assert!(code(&[0x0f, 0x84, 0x0a, 0, 0, 0]));
        assert!(!code(&[0xeb, 0x0d]));
        assert!(!code(&[0xe9, 0x0c, 0, 0, 0]));
        // lea rax, [rip + 9]; mov eax, 0x1010; mov rax, 0x1010
        assert!(code(&[0x48, 0x8d, 0x05, 0x09, 0, 0, 0]));
        assert!(code(&[0xb8, 0x10, 0x10, 0, 0]));
        assert!(code(&[0x48, 0xc7, 0xc0, 0x10, 0x10, 0, 0]));
        assert!(!code(&[0x48, 0x8d, 0x05, 0x0a, 0, 0, 0]));
    }

    #[test]
    fn tables_are_found() {
        let text = AddrRange::new(Addr(0x1000), Addr(0x2000));
        let at = Addr(0x3000);
        let named = |words: &[i32]| {
            let data: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            tables_name(&data, at, text, &[Addr(0x1010)])
        };
        assert!(named(&[1, 1, 0x1010, 0]), "an address");
        // A table at 0x3004 with 0x1500 and 0x1010.
        assert!(named(&[7, 0x1500 - 0x3004, 0x1010 - 0x3004]));
        assert!(!named(&[7, 0x1500 - 0x3004, 0x1011 - 0x3004]));
        assert!(!named(&[7, 0x2500 - 0x3004, 0x1010 - 0x3004]), "no table");
    }
    /// Their windows would overlap, and the recorder carries these instructions out in place.
    #[test]
    fn no_window_holds_an_instruction_that_is_an_event() {
        let find = |before: &[u8]| {
            let mut code = vec![0x90; 60];
            code.extend(before);
            Site::candidates(&code, CALL, Instruction::Counter)
                .into_iter()
                .next()
        };
        // mov ecx, 7; then rdtsc, rdtscp, cpuid, rdrand eax, rdseed rax, mov eax, dr6, wbinvd; then lfence
        let events: [&[u8]; 7] = [
            &[0x0f, 0x31],
            &[0x0f, 0x01, 0xf9],
            &[0x0f, 0xa2],
            &[0x0f, 0xc7, 0xf0],
            &[0x48, 0x0f, 0xc7, 0xf8],
            &[0x0f, 0x21, 0xf0],
            &[0x0f, 0x09],
        ];
        for event in events {
            let code = |after: &[u8]| [&[0xb9, 7, 0, 0, 0], event, after].concat();
            assert!(find(&code(&[])).is_none(), "{event:x?}");
            assert!(find(&code(&[0x0f, 0xae, 0xe8])).is_none(), "{event:x?}");
            assert!(find(&event.repeat(40)).is_none(), "{event:x?}");
            // lfence; lfence: there is room behind the event
            let site = find(&code(&[0x0f, 0xae, 0xe8, 0x0f, 0xae, 0xe8])).unwrap();
            assert_eq!(site.start(), before(6), "{event:x?}");
        }
    }

    #[test]
    fn a_counter_has_a_landing_if_there_is_room() {
        let find = |window: &[u8], instruction| {
            let mut code = vec![0x90; 60];
            code.extend([0xc3, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]);
            code.extend(window);
            Site::candidates(&code, CALL, instruction)
        };
        // mov ecx, 9; xor esi, esi; mov edi, 8
        let window = [0xb9, 9, 0, 0, 0, 0x31, 0xf6, 0xbf, 8, 0, 0, 0];
        for (instruction, bytes) in [
            (Instruction::Counter, &[0x0f, 0x31][..]),
            (Instruction::CounterAndProcessor, &[0x0f, 0x01, 0xf9]),
        ] {
            let sites = find(&window, instruction);
            let starts: Vec<Addr> = sites.iter().map(Site::start).collect();
            assert_eq!(
                starts,
                [before(12), before(22), before(5)],
                "the last one has no landing"
            );
            let site = &sites[0];
            assert_eq!(site.inner(), [before(7), before(5)]);
            assert_eq!(sites[1].inner(), [], "only the padding");
            assert_eq!(sites[2].inner(), [], "only the last instruction");
            assert_eq!(site.original(), [&window[..], &bytes[..2]].concat());
            let to = CALL + 0x1000;
            let StubCode { code, jumps } = site.stub(to).unwrap();
            let jump = |from: u64, to: u64| {
                [&[0xe9][..], &(to.wrapping_sub(from + 5) as u32).to_le_bytes()].concat()
            };
            let go = to.0 + 12;
            let expected = [
                (before(12), jump(before(12).0, to.0)),
                (before(7), jump(before(7).0, go)),
                // From the instruction to the landing: seven bytes back, and over the jump itself.
                (CALL, vec![0xeb, 0xf7]),
            ];
            assert_eq!(jumps, expected);
            // Behind the moved window the stub sends its copy of the instruction to the library.
            let copy = to.0 + 12 + 3 * 11 + 7;
            assert_eq!(code[19..23], (copy as u32).to_le_bytes());
            let at = (copy - to.0) as usize;
            assert_eq!(&code[at..at + bytes.len()], bytes);
            assert_eq!(
                code[at + bytes.len() + 6..],
                (CALL.0 + bytes.len() as u64).to_le_bytes()
            );
        }
        assert_eq!(find(&window, Instruction::Call).len(), 1, "calls stay in place");
    }
}
