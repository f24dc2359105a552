//! Waits for locks, and wakes, as the scheduler sees them ([`Contention`]).

use rr_tracee::Tid;
use rr_tracee::regs::Registers;

use crate::drive::contention::{Futex, Wake};
use crate::drive::state::Drive;
use crate::error::Result;
use crate::session::RecordSession;

/// Handles the entry of a call.
pub(crate) fn note_wait_for_lock(session: &mut RecordSession, tid: Tid, entry: &Registers) -> Result<()> {
    match Futex::of(entry) {
        // In chaos mode only the seed decides, not the time.
        Some(Futex::Wait(at)) if !session.drive.scheduler.is_chaotic() => {
            let idle = (session.world.task(tid)?.interval.calls == 0).then(|| session.log.since_last_event());
            session.drive.contention.note_wait(tid, at, idle);
        }
        _ => session.drive.contention.forget(tid),
    }
    Ok(())
}

/// Handles a call that has woken tasks: gives the next turn to a task that starves at the word.
pub(crate) fn note_wake(drive: &mut Drive, entry: &Registers, woken: usize) {
    if let Some(Futex::Wake(at)) = Futex::of(entry) {
        let starving = drive.contention.starving_at(at).next();
        drive.handed_over = starving.map(|_| Wake { at, woken });
    }
}
