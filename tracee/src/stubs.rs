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
//! next:  at the next multiple of 16
//! ```

use std::mem::offset_of;

use rr_preload::layout::{self, Control};

use crate::ids::{Addr, AddrRange};
use crate::site::Instruction;

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
    /// The replaced instruction.
    pub instruction: Instruction,
}

/// `mov dword [at], …`: the instruction without its constant.
fn store_to(field: usize) -> [u8; 7] {
    let [a, b, c, d] = ((layout::CONTROL as usize + field) as u32).to_le_bytes();
    [0xc7, 0x04, 0x25, a, b, c, d]
}

/// `jmp [entry]`
fn jump_to_entry() -> [u8; 7] {
    let [a, b, c, d] = ((layout::CONTROL as usize + offset_of!(Control, entry)) as u32).to_le_bytes();
    [0xff, 0x24, 0x25, a, b, c, d]
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
            let call = u64::from(word(n + 7)?) | u64::from(word(n + 18)?) << 32;
            let instruction = Instruction::of_kind(of_kind.into())?;
            Some((code.len() - last.len(), Addr(call), instruction))
        };
        let Some((end, call, instruction)) = tail() else {
            n += 1;
            continue;
        };
        let range = AddrRange::new(at + begin as u64, at + end as u64);
        stubs.push(Stub {
            range,
            call,
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
    use crate::site::Site;

    #[test]
    fn stubs_are_found_by_their_ends() {
        let at = Addr(0x5000_0000);
        let mut page = Vec::new();
        let mut expected = Vec::new();
        for (call, instruction) in [
            (Addr(0x5010_0000), Instruction::Call),
            (Addr(0x5020_0030), Instruction::Counter),
            (Addr(0x5030_0011), Instruction::CounterAndProcessor),
        ] {
            let site = Site::known(&[0xb8, 39, 0, 0, 0], call, instruction).unwrap();
            let place = at + page.len() as u64;
            let (code, _) = site.stub(place).unwrap();
            let range = AddrRange::sized(place, code.len() as u64);
            expected.push(Stub {
                range,
                call,
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
