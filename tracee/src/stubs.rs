//! Stubs: finds the rewritten sites of an address space by the code that they lead to.
//!
//! A trace does not list the rewritten sites ([`crate::site`]): they are memory that events wrote. A
//! reader that wants the program's own code finds them here. A stub ends with instructions that nothing
//! else contains:
//!
//! ```text
//! stub:  the moved window
//!        mov dword [go_on], call           (two halves)
//!        mov dword [go_on + 4], call >> 32
//!        mov dword [site], kind            only of a site that is no call
//!        jmp [entry]
//! copy:  rdtsc; jmp call+2                 only of a counter's site with a landing; go_on is copy then
//! next:  at the next multiple of 16
//! ```

use std::mem::offset_of;

use rr_preload::layout::{self, Control};

use crate::code::{ABSOLUTE_JUMP, ABSOLUTE_JUMP_LEN};
use crate::ids::{Addr, AddrRange};
use crate::site::{Instruction, jump_to_entry, store_to};

/// Name of the mappings that contain stubs.
pub const STUBS: &str = "[rr stubs]";

/// Stubs begin at multiples of this.
pub const STUB_ALIGN: u64 = 16;

/// A stub in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stub {
    /// Addresses of the stub's code.
    pub range: AddrRange,
    /// Address of the instruction that the stub replaces.
    pub call: Addr,
    /// Address of the stub's copy of the instruction, if it has one.
    pub copy: Option<Addr>,
    /// The replaced instruction.
    pub instruction: Instruction,
}

/// The copy of an instruction at the end of a stub, with the jump behind it.
struct Copy {
    instruction: Instruction,
    /// Address of the program's own instruction.
    call: Addr,
    len: usize,
}

/// The copy at the beginning of `code`.
fn copy_in(code: &[u8]) -> Option<Copy> {
    let instruction = Instruction::of(code).filter(|i| i.is_waited_on())?;
    let target = code
        .get(instruction.len() as usize..)?
        .strip_prefix(&ABSOLUTE_JUMP)?;
    let target = u64::from_le_bytes(*target.first_chunk()?);
    Some(Copy {
        instruction,
        call: Addr(target.checked_sub(instruction.len())?),
        len: instruction.len() as usize + ABSOLUTE_JUMP_LEN,
    })
}

/// Number of bytes that [`place_of_copy`] needs.
pub const COPY_MOST: usize = Instruction::LONGEST + ABSOLUTE_JUMP_LEN;

/// The address of the program's instruction whose copy in a stub `code` is. `None` if `code` is no such
/// copy.
pub fn place_of_copy(code: &[u8]) -> Option<Addr> {
    copy_in(code).map(|copy| copy.call)
}

/// All stubs in `code`, whose address is `at`.
pub fn find(code: &[u8], at: Addr) -> Vec<Stub> {
    let (low, high) = (
        store_to(offset_of!(Control, go_on)),
        store_to(offset_of!(Control, go_on) + 4),
    );
    let (kind, jump) = (store_to(offset_of!(Control, site)), jump_to_entry());
    let word = |n: usize| Some(u32::from_le_bytes(code.get(n..n + 4)?.try_into().ok()?));
    let mut stubs = Vec::new();
    let mut begin = 0;
    let mut n = 0;
    while n + low.len() < code.len() {
        let rest = &code[n..];
        let tail = || {
            let after_low = rest.strip_prefix(&low[..])?.get(4..)?;
            let after_high = after_low.strip_prefix(&high[..])?.get(4..)?;
            let (of_kind, after_kind) = match after_high.strip_prefix(&kind[..]) {
                Some(after) => after
                    .split_first_chunk()
                    .map(|(of_kind, rest)| (u32::from_le_bytes(*of_kind), rest))?,
                None => (layout::site::CALL as u32, after_high),
            };
            let last = after_kind.strip_prefix(&jump[..])?;
            let go_on = Addr(u64::from(word(n + 7)?) | u64::from(word(n + 18)?) << 32);
            let instruction = Instruction::of_kind(of_kind.into())?;
            let end = code.len() - last.len();
            let copy =
                copy_in(last).filter(|copy| go_on == at + end as u64 && copy.instruction == instruction);
            Some((end, go_on, instruction, copy))
        };
        let Some((mut end, go_on, instruction, copy)) = tail() else {
            n += 1;
            continue;
        };
        end += copy.as_ref().map_or(0, |copy| copy.len);
        stubs.push(Stub {
            range: AddrRange::new(at + begin as u64, at + end as u64),
            call: copy.as_ref().map_or(go_on, |copy| copy.call),
            copy: copy.map(|_| go_on),
            instruction,
        });
        n = end;
        begin = ((at + end as u64).0.next_multiple_of(STUB_ALIGN) - at.0) as usize;
    }
    stubs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::JUMP_LEN;
    use crate::site::{Site, SiteWindow};

    #[test]
    fn stubs_are_found_by_their_ends() {
        let at = Addr(0x5000_0000);
        let mut page = Vec::new();
        let mut expected = Vec::new();
        let short: &[u8] = &[0xb8, 39, 0, 0, 0];
        let long = short.repeat(2);
        for (call, instruction, window) in [
            (Addr(0x5010_0000), Instruction::Call, short),
            (Addr(0x5020_0030), Instruction::Counter, short),
            (Addr(0x5030_0011), Instruction::CounterAndProcessor, short),
            (Addr(0x5040_0010), Instruction::Counter, &long),
            (Addr(0x5050_0010), Instruction::CounterAndProcessor, &long),
            (Addr(0x5060_0010), Instruction::Call, &long),
        ] {
            let site = Site::known(SiteWindow::decode(window).unwrap(), call, instruction).unwrap();
            let place = at + page.len() as u64;
            let code = site.stub(place).unwrap().code;
            let range = AddrRange::sized(place, code.len() as u64);
            let has_copy = window.len() > JUMP_LEN && instruction != Instruction::Call;
            let copy = Addr(range.end.0 - instruction.len() - ABSOLUTE_JUMP_LEN as u64);
            if has_copy {
                let at = (copy - place) as usize;
                assert_eq!(place_of_copy(&code[at..]), Some(call));
            }
            expected.push(Stub {
                range,
                call,
                copy: has_copy.then_some(copy),
                instruction,
            });
            page.extend(code);
            page.resize(page.len().next_multiple_of(STUB_ALIGN as usize), 0);
        }
        page.resize(4096, 0);
        assert_eq!(find(&page, at), expected);
        assert_eq!(find(&[0; 100], at), []);
    }
}
