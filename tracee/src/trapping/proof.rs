//! Proves that bytes in a function are an instruction.
//!
//! Code is followed from the function's beginning, through branches, as the processor would execute it. What is reached is
//! an instruction. A jump through a register or memory (a `switch`) leads to places that this does not reach. In a function
//! with such a jump, all bytes are decoded one after the other, too: if every one of them belongs to an instruction that a
//! program can execute, and the last ends with the function, there are no data in between.
//!
//! Keeps: data are never taken for an instruction, since they would be changed. Assembly code with a table between its
//! instructions is why decoding one after the other does not suffice.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};

/// A function's code.
pub(super) struct Function<'a> {
    /// Its address.
    pub start: u64,
    pub bytes: &'a [u8],
}

impl Function<'_> {
    /// The instruction that holds the byte at `place`, if it is proven.
    pub fn instruction_at(&self, place: u64) -> Option<Instruction> {
        let mut todo = vec![self.start];
        let mut seen = vec![false; self.bytes.len()];
        let mut has_computed_jump = false;
        while let Some(at) = todo.pop() {
            let Some(is_seen) = self.offset(at).and_then(|n| seen.get_mut(n)) else {
                continue;
            };
            if std::mem::replace(is_seen, true) {
                continue;
            }
            let instruction = self.decode(at)?;
            if (at..instruction.next_ip()).contains(&place) {
                return Some(instruction);
            }
            let flow = instruction.flow_control();
            has_computed_jump |= flow == FlowControl::IndirectBranch;
            if matches!(
                flow,
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
            ) {
                todo.push(instruction.near_branch_target());
            }
            let goes_on = !matches!(
                flow,
                FlowControl::UnconditionalBranch
                    | FlowControl::IndirectBranch
                    | FlowControl::Return
                    | FlowControl::Exception
            );
            if goes_on {
                todo.push(instruction.next_ip());
            }
        }
        if has_computed_jump {
            self.in_line(place)
        } else {
            None
        }
    }

    /// The instruction that holds the byte at `place`, if all bytes of the function are instructions when they are decoded one
    /// after the other. That is no proof: an end of the function at the end of an instruction can be chance.
    pub fn in_line(&self, place: u64) -> Option<Instruction> {
        let end = self.start + self.bytes.len() as u64;
        let (mut at, mut found) = (self.start, None);
        while at < end {
            let instruction = self.decode(at)?;
            at = instruction.next_ip();
            if (instruction.ip()..at).contains(&place) {
                found = Some(instruction);
            }
        }
        found.filter(|_| at == end)
    }

    /// The instruction at `at`, if a program can execute it.
    fn decode(&self, at: u64) -> Option<Instruction> {
        let code = self.bytes.get(self.offset(at)?..)?;
        let instruction = Decoder::with_ip(64, code, at, DecoderOptions::NONE).decode();
        (!instruction.is_invalid() && !instruction.is_privileged()).then_some(instruction)
    }

    fn offset(&self, at: u64) -> Option<usize> {
        let offset = usize::try_from(at.checked_sub(self.start)?).ok()?;
        (offset < self.bytes.len()).then_some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0x1000;
    /// `cpuid`
    const WANTED: [u8; 2] = [0x0f, 0xa2];

    /// Returns whether the last `cpuid` of this code is proven.
    fn is_proven(parts: &[&[u8]]) -> bool {
        let bytes = parts.concat();
        let place = bytes.windows(2).rposition(|pair| pair == WANTED).unwrap() as u64;
        let function = Function {
            start: START,
            bytes: &bytes,
        };
        let found = function.instruction_at(START + place + 1);
        found.is_some_and(|i| i.ip() == START + place && i.len() == WANTED.len())
    }

    const RET: &[u8] = &[0xc3];
    /// `jmp rax`
    const COMPUTED: &[u8] = &[0xff, 0xe0];

    #[test]
    fn what_is_executed_is_an_instruction() {
        assert!(is_proven(&[&WANTED, RET]));
        // jne over a ret; cpuid
        assert!(is_proven(&[&[0x75, 1], RET, &WANTED, RET]));
        // jmp over two bytes that are none; cpuid
        assert!(is_proven(&[&[0xeb, 2, 0x06, 0x07], &WANTED, RET]));
        // A branch back, into what stands before.
        assert!(is_proven(&[&[0xeb, 3], &WANTED, RET, &[0xeb, 0xfb]]));
    }

    #[test]
    fn data_are_none() {
        // Behind the end of the code.
        assert!(!is_proven(&[&[0x90], RET, &WANTED, &[0x90]]));
        // Inside another instruction: mov eax, 0x0000a20f
        assert!(!is_proven(&[&[0xb8], &WANTED, &[0, 0], RET]));
        // Behind a jump that leads out of the function.
        assert!(!is_proven(&[&[0xe9, 0, 1, 0, 0], &WANTED, RET]));
    }

    #[test]
    fn behind_a_computed_jump_every_byte_must_be_code() {
        assert!(is_proven(&[COMPUTED, &WANTED, RET]));
        // An invalid instruction, a privileged one, and half a one at the end.
        assert!(!is_proven(&[COMPUTED, &WANTED, RET, &[0x06]]));
        assert!(!is_proven(&[COMPUTED, &WANTED, RET, &[0xf4]]));
        assert!(!is_proven(&[COMPUTED, &WANTED, RET, &[0xb8, 1]]));
    }

    #[test]
    fn no_bytes_are_too_strange() {
        let mut bytes = vec![0u8; 64];
        let mut state = 1u64;
        for _ in 0..20_000 {
            for byte in &mut bytes {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                *byte = (state >> 56) as u8;
            }
            let function = Function {
                start: START,
                bytes: &bytes,
            };
            let _ = function.instruction_at(START + state % 80);
        }
    }
}
