//! Tests that the image agrees with layout.rs, and that the library keeps the promises of the entry.

#![allow(clippy::unwrap_used)]

use iced_x86::{Decoder, DecoderOptions, EncodingKind, Instruction, InstructionInfoFactory, Register};

use crate::IMAGE;
use crate::layout::*;

/// The code: all bytes before the mark.
fn code() -> &'static [u8] {
    let end = IMAGE.windows(24).position(|w| w == [0xcc; 24]).unwrap();
    &IMAGE[..end]
}

fn instructions(from: u64) -> impl Iterator<Item = Instruction> {
    let code = &code()[(from - CODE) as usize..];
    Decoder::with_ip(64, code, from, DecoderOptions::NONE).into_iter()
}

fn text(instruction: Instruction) -> String {
    format!("{:?} {:#x}", instruction.code(), instruction.ip())
}

#[test]
fn it_fits() {
    assert!(IMAGE.len() as u64 <= CODE_BYTES);
    assert!(size_of::<Control>() as u64 <= STACK - CONTROL);
    assert_eq!(RECORDS % 4096, 0);
}

#[test]
fn it_begins_as_drawn() {
    use iced_x86::Code;
    assert_eq!(&IMAGE[..3], [0x0f, 0x05, 0xc3]);
    let first = |at| instructions(at).next().unwrap();
    assert_eq!(first(BAIL).code(), Code::Mov_r32_imm32);
    let entry = first(ENTRY);
    assert_eq!(
        (entry.code(), entry.op1_register()),
        (Code::Mov_rm64_r64, Register::RSP)
    );
    assert_eq!(
        entry.memory_displacement64(),
        CONTROL + std::mem::offset_of!(Control, rsp) as u64
    );
}

/// The recorder relies on this in the part that makes its calls (`tracee/src/remote.rs`).
#[test]
fn remote_calls_are_made_and_then_one_that_stops() {
    use iced_x86::Code;
    let all: Vec<Instruction> = instructions(REMOTE)
        .take_while(|i| i.ip() < REMOTE_STOP)
        .collect();
    let popped: Vec<Register> = all
        .iter()
        .filter(|i| i.code() == Code::Pop_r64)
        .map(|i| i.op0_register())
        .collect();
    use Register::*;
    assert_eq!(popped, [RAX, RDI, RSI, RDX, R10, R8, R9]);
    let leave = all.iter().find(|i| i.is_jmp_near()).unwrap();
    assert_eq!(leave.near_branch_target(), SYSCALL);
    let word = &IMAGE[(REMOTE_RETURN - CODE) as usize..][..8];
    assert_eq!(
        (word, leave.next_ip()),
        (&REMOTE_NEXT.to_le_bytes()[..], REMOTE_NEXT)
    );
    let [.., last, call] = &all[..] else { panic!() };
    assert_eq!(
        (last.immediate32(), call.code()),
        (REMOTE_LAST as u32, Code::Syscall)
    );
    assert_eq!(call.next_ip(), REMOTE_STOP);
    assert_eq!(IMAGE[(REMOTE_STOP - CODE) as usize], 0xcc);
}

/// The entry saves general registers and xmm0 to xmm15, and nothing else.
#[test]
fn it_uses_only_what_the_entry_saves() {
    let mut factory = InstructionInfoFactory::new();
    let mut seen = 0;
    for instruction in instructions(ENTRY).filter(|i| i.code() != iced_x86::Code::Int3) {
        seen += 1;
        assert!(!instruction.is_invalid(), "{}", text(instruction));
        assert_eq!(
            instruction.encoding(),
            EncodingKind::Legacy,
            "{}",
            text(instruction)
        );
        for used in factory.info(&instruction).used_registers() {
            let register = used.register();
            let saved = register.is_gpr() || register.is_xmm() || register.is_segment_register();
            assert!(saved, "{} uses {register:?}", text(instruction));
        }
    }
    assert!(seen > 500);
}

#[test]
fn only_one_instruction_enters_the_kernel() {
    let calls = instructions(ENTRY).filter(|i| i.code() == iced_x86::Code::Syscall);
    assert_eq!(calls.count(), 0);
}

#[test]
fn the_filter_has_what_was_put_in() {
    let mut filter = [0u64; FILTER_WORDS];
    let files = (0..200u64).map(|n| (0xfd01, 1000 + 3 * n));
    for (device, inode) in files.clone() {
        filter_bits(device, inode)
            .iter()
            .for_each(|(word, bit)| filter[*word] |= bit);
    }
    let has = |(device, inode)| {
        filter_bits(device, inode)
            .iter()
            .all(|(word, bit)| filter[*word] & bit != 0)
    };
    assert!(files.clone().all(has));
    let false_alarms = (0..10_000u64)
        .map(|n| (0xfd01, 100_000 + n))
        .filter(|f| has(*f))
        .count();
    assert!(false_alarms < 500, "{false_alarms} of 10000");
}
