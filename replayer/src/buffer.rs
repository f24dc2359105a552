//! The library in replayed tasks: it returns the recorded results of the buffered calls of an interval.
//!
//! Invariant I7: the library compares number and registers of every buffered call, and all records of
//! an interval must be used up at its end.

use std::mem::offset_of;

use rr_preload::layout::{self, Control, Frame, mode};
use rr_preload::records::{self, Record};
use rr_trace::Bytes;
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, Memory, SpaceOp, cpuid, rr_area, shaping, syscalls};

use crate::failure::Failure;

/// The address of a field of the control page.
macro_rules! field {
    ($name:ident) => {
        Addr(layout::CONTROL + offset_of!(Control, $name) as u64)
    };
}
pub(crate) use field;

/// Puts the library into the zygote of all replayed processes.
pub(crate) fn install(memory: &Memory, answers: &cpuid::Table) -> rr_tracee::Result<()> {
    memory.write(rr_area::CODE, rr_preload::IMAGE)?;
    let words = answers.words();
    let words = words.iter().flat_map(|entry| {
        let [a, b, c, d] = entry.answer;
        [entry.leaf, entry.sub, a, b, c, d]
    });
    let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    memory.write(field!(cpuid), &bytes)?;
    memory.write(field!(entry), &layout::ENTRY.to_le_bytes())?;
    memory.write(field!(mode), &mode::REPLAY.to_le_bytes())
}

/// A buffered call that changes the address space: its number, and the change to make when the task
/// reaches the call.
pub(crate) type Change = (i64, Option<SpaceOp>);

/// Gives a task the records of its next interval. Returns the changes of its address space in these
/// records, in order.
pub(crate) fn load(memory: &Memory, given: &Bytes) -> Result<Vec<Change>, Failure> {
    let mut changes = Vec::new();
    let mut possible = true;
    let whole = given.each_record(|record| {
        if shaping::is_shaping(record) {
            match shaping::change(record) {
                Ok(op) => changes.push((record.number, op)),
                Err(shaping::Impossible) => possible = false,
            }
        }
    });
    if given.len() as u64 > layout::RECORDS_BYTES || !whole || !possible {
        return Err(Failure::Bad(
            "the results of its buffered calls are damaged".into(),
        ));
    }
    let (used, end) = (0u64, given.len() as u64);
    debug_assert_eq!(field!(end), field!(used) + 8);
    let words: Vec<u8> = [used, end].into_iter().flat_map(u64::to_le_bytes).collect();
    memory.write(field!(used), &words)?;
    let parts: Vec<&[u8]> = given.parts().collect();
    memory.write_parts(Addr(layout::RECORDS), &parts)?;
    Ok(changes)
}

/// Number of bytes of records that a task has used.
pub(crate) fn used(memory: &Memory) -> rr_tracee::Result<u64> {
    memory.read_u64(field!(used))
}

/// A description of the error if a task has arrived without using up its records.
pub(crate) fn left_over(memory: &Memory, given: &Bytes) -> rr_tracee::Result<Option<String>> {
    let used = used(memory)?;
    Ok((used != given.len() as u64).then(|| {
        let next = given.record_at(used as usize);
        let next = name_of(next.as_ref().map(|r| r.record()));
        format!(
            "{used} of {} bytes of buffered results used; the next is of {next}",
            given.len()
        )
    }))
}

/// The reason why the library stopped, if a task stands in it: the current call, and the recorded one.
pub(crate) fn mismatch(memory: &Memory, rip: u64) -> Option<(String, String)> {
    /// The number of the call.
    const FRAME_RAX: u64 = layout::FRAME + offset_of!(Frame, rax) as u64;
    if !rr_area::code().contains(Addr(rip)) {
        return None;
    }
    let number = memory.read_u64(Addr(FRAME_RAX)).ok()?;
    let at = memory.read_u64(field!(mismatch)).ok()?;
    let mut given = vec![0; layout::RECORDS_BYTES as usize];
    memory.read(Addr(layout::RECORDS), &mut given).ok()?;
    let place = memory.read_u64(field!(go_on)).ok()?;
    Some((
        format!("the buffered call {}", name_of(records::at(&given, at as usize))),
        format!(
            "{} at {place:#x}, or other arguments",
            syscalls::name(number as i64)
        ),
    ))
}

fn name_of(record: Option<Record<'_>>) -> String {
    match record {
        Some(record) => syscalls::buffered_name(record.number).into_owned(),
        None => "none".into(),
    }
}
