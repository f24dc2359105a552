//! Running through the library: a buffered call is one instruction of the program.
//!
//! The task enters the library as if from a rewritten site's stub, and runs on to where the program
//! continues: at the instruction itself, if the library has left it to the kernel, or behind it. There
//! an `int3` ends the run.

use std::mem::offset_of;

use rr_preload::layout::{self, Control};
use rr_trace::event::Event;
use rr_tracee::memory::ReadMemory;
use rr_tracee::site::Instruction;
use rr_tracee::task::Resume;
use rr_tracee::{Addr, AddrRange};

use super::resume::{Seen, resume_to, written};
use crate::error::Result;
use crate::interrupt::Never;
use crate::session::ReplaySession;
use crate::sites::Site;

/// Number of bytes that contain both exits of the library: the longest instruction, and the first byte
/// behind it.
const EXIT_BYTES: usize = Instruction::LONGEST + 1;

/// Lets the library handle the instruction of a site, where the task stands, as if it had come
/// through the stub. The task then stands there (the library has left it alone) or behind it.
/// Returns the watched places that were accessed.
pub(crate) fn call_library(session: &mut ReplaySession, event: &Event, site: &Site) -> Result<u8> {
    let memory = session.world.task(event)?.memory();
    let control = |field: usize| Addr(layout::CONTROL + field as u64);
    let go_on = control(offset_of!(Control, go_on));
    written(event, memory.write(go_on, &site.go_on().0.to_le_bytes()))?;
    if site.instruction != Instruction::Call {
        let kind = site.instruction.site_kind().to_le_bytes();
        written(event, memory.write(control(offset_of!(Control, site)), &kind))?;
    }
    session.world.move_to(event, Addr(layout::ENTRY))?;
    let hits = finish_library(session, event)?;
    let rip = Addr(session.world.regs_of(event)?.rip);
    if let Some(copy) = site
        .copy
        .filter(|copy| *copy <= rip && rip - *copy <= site.instruction.len())
    {
        session.world.move_to(event, site.call + (rip - copy))?;
    }
    Ok(hits)
}

/// Runs the task out of the library.
pub(crate) fn finish_library(session: &mut ReplaySession, event: &Event) -> Result<u8> {
    let memory = session.world.task(event)?.memory();
    let space = session.world.task(event)?.space;
    let at = Addr(layout::CONTROL + offset_of!(Control, go_on) as u64);
    let go_on = Addr(written(event, memory.read_u64(at))?);
    // The program's own bytes there, without patches, and a trap at each exit.
    let range = AddrRange::sized(go_on, EXIT_BYTES as u64);
    if let Some(overlay) = session.code.overlays.get(&space) {
        written(event, overlay.lift(&memory, range))?;
    }
    let own = written(event, memory.read_up_to(go_on, EXIT_BYTES))?;
    let len = Instruction::of(&own).map_or(Instruction::Call.len(), Instruction::len);
    let exits = [go_on, go_on + len];
    session.code.exits = Some((go_on, own.clone()));
    for exit in exits {
        written(event, memory.write_protected(exit, &[crate::probe::INT3]))?;
    }
    let mut hits = 0;
    let ended = loop {
        match resume_to(session, event, Resume::Sysemu, &mut Never, &exits) {
            Ok(Seen::Watch(more)) => hits |= more,
            Ok(Seen::AtPatch) => break Ok(()),
            Ok(Seen::Nothing) => {}
            Ok(_) => {
                let what = "it arrives at its event inside a buffered call";
                break Err(crate::error::bad(event, what));
            }
            Err(e) => break Err(e),
        }
    };
    session.code.exits = None;
    written(event, memory.write_protected(go_on, &own))?;
    if let Some(overlay) = session.code.overlays.get(&space) {
        written(event, overlay.put_back(&memory, range))?;
    }
    ended.map(|()| hits)
}
