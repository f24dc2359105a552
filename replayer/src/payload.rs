//! The payload that a replayed call hands to the outside world, compared with the recorded one (I7).
//!
//! The trace has a digest of the payload ([`rr_preload::payload`] defines it). For a traced call it is
//! computed here. For a buffered one the library in the task computes it, and stops at a difference.
//! Then it is computed here once more, because the library sees the debugger's bytes in code that is
//! written out.

use std::mem::offset_of;

use rr_preload::layout::{self, Control, Frame};
use rr_preload::payload::Digest;
use rr_preload::records;
use rr_trace::event::Event;
use rr_tracee::memory::ReadMemory;
use rr_tracee::payload::Sent;
use rr_tracee::{Addr, Memory, Registers, rr_area, syscalls};

use crate::buffer::field;
use crate::error::{Divergence, Error, Result, failed};
use crate::overlay::CodeOverlay;
use crate::session::ReplaySession;

/// The program's memory without the bytes that the replayer has written over it.
struct Own<'a> {
    memory: Memory,
    overlay: Option<&'a CodeOverlay>,
    exits: Option<&'a (Addr, Vec<u8>)>,
}

impl ReadMemory for Own<'_> {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> rr_tracee::Result<()> {
        self.memory.read(addr, buf)?;
        if let Some(overlay) = self.overlay {
            overlay.mask(addr, buf);
        }
        for (n, byte) in self
            .exits
            .iter()
            .flat_map(|(at, own)| own.iter().enumerate().map(move |(n, b)| (*at + n as u64, b)))
        {
            let place = n.0.checked_sub(addr.0).and_then(|n| buf.get_mut(n as usize));
            if let Some(place) = place {
                *place = *byte;
            }
        }
        Ok(())
    }
}

/// The call of the program that the library in a task is handling.
fn call_in_library(memory: &Memory, result: i64) -> rr_tracee::Result<Sent> {
    /// Offsets of a call's arguments, in order.
    const ARGS: [usize; 6] = [
        offset_of!(Frame, rdi),
        offset_of!(Frame, rsi),
        offset_of!(Frame, rdx),
        offset_of!(Frame, r10),
        offset_of!(Frame, r8),
        offset_of!(Frame, r9),
    ];
    let register = |offset: usize| memory.read_u64(Addr(layout::FRAME + offset as u64));
    let mut args = [0; 6];
    for (arg, offset) in args.iter_mut().zip(ARGS) {
        *arg = register(offset)?;
    }
    Ok(Sent {
        number: register(offset_of!(Frame, rax))? as i64,
        args,
        result,
    })
}

fn divergence(event: &Event, sent: &Sent, recorded: Digest, seen: Option<Digest>, own: &Own<'_>) -> Error {
    let name = syscalls::name(sent.number);
    let call = format!("{name}({}, ...) = {}", sent.args[0] as i32, sent.result);
    let other = match (seen, sent.first_line(own)) {
        (Some(seen), Some(line)) => {
            format!("other bytes, with digest {seen}; their first line is \"{line}\"")
        }
        _ => "bytes that cannot be read".into(),
    };
    Error::Divergence(Box::new(Divergence {
        event: event.number,
        tid: event.tid,
        expected: format!("{call}, of bytes with digest {recorded} (only the digest is in the trace)"),
        seen: format!("{call}, of {other}"),
        registers: vec![],
    }))
}

fn own_memory<'s>(session: &'s mut ReplaySession, event: &Event) -> Result<Own<'s>> {
    let task = session.world.task(event)?;
    let (memory, space) = (task.memory(), task.space);
    Ok(Own {
        memory,
        overlay: session.code.overlays.get(&space),
        exits: session.code.exits.as_ref(),
    })
}

/// Compares the payload of the event's call, which has been carried out.
pub(crate) fn check_payload(
    session: &mut ReplaySession,
    event: &Event,
    sent: &Sent,
    recorded: Digest,
) -> Result<()> {
    let own = own_memory(session, event)?;
    let seen = sent.digest(&own);
    if seen == Some(recorded) {
        return Ok(());
    }
    Err(divergence(event, sent, recorded, seen, &own))
}

/// The task has stopped with `SIGILL`. If the library stopped at a differing payload of a call:
/// returns an error if the payload does differ, and otherwise the address where the task continues.
pub(crate) fn recheck_payload(
    session: &mut ReplaySession,
    event: &Event,
    regs: &Registers,
) -> Result<Option<Addr>> {
    /// Length of `ud2`.
    const UD2: u64 = 2;
    if !rr_area::code().contains(Addr(regs.rip)) {
        return Ok(None);
    }
    let own = own_memory(session, event)?;
    let found = (|| {
        let memory = &own.memory;
        if memory.read_u64(field!(other_payload))? == 0 {
            return Ok(None);
        }
        let at = memory.read_u64(field!(mismatch))?;
        let mut given = vec![0; layout::RECORDS_BYTES as usize];
        memory.read(Addr(layout::RECORDS), &mut given)?;
        let record = usize::try_from(at).ok().and_then(|at| records::at(&given, at));
        let Some((result, recorded)) = record.and_then(|r| Some((r.result, r.payload()?))) else {
            return Ok(None);
        };
        Ok(Some((call_in_library(memory, result)?, recorded)))
    })();
    let Some((sent, recorded)) = found.map_err(|source| failed(event, source))? else {
        return Ok(None);
    };
    match sent.digest(&own) {
        Some(seen) if seen == recorded => Ok(Some(Addr(regs.rip + UD2))),
        seen => Err(divergence(event, &sent, recorded, seen, &own)),
    }
}
