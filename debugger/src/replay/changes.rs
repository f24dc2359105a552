//! The throw-away copy that the user's changes live in.
//!
//! gdb calls a function by writing registers and memory, letting the thread run to a breakpoint, and writing the
//! registers back. So the copy begins with the first write. It is what goes on as long as the registers are not those of
//! the replay; when the user goes on with registers as they were, they mean the replay, and the copy ends.

use std::collections::BTreeMap;

use rr_replayer::ReplaySession;
use rr_replayer::diversion::Diversion;
use rr_tracee::{Addr, Registers, Tid};

use super::failed::failed;
use crate::target::{RegisterFile, TargetError};

/// The copy.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) diversion: Diversion,
    /// The registers of the replay, of the threads whose registers were changed.
    original: BTreeMap<Tid, Registers>,
}

impl Changes {
    /// Makes a throw-away copy of a session, in which thread `tid` is to run.
    pub fn new(copy: ReplaySession, tid: Tid) -> Result<Changes, TargetError> {
        Ok(Changes {
            diversion: Diversion::new(copy, tid).map_err(failed)?,
            original: BTreeMap::new(),
        })
    }

    pub fn session(&mut self) -> &mut ReplaySession {
        self.diversion.session()
    }

    pub fn set_registers(&mut self, tid: Tid, registers: &RegisterFile) -> Result<(), TargetError> {
        let now = self.session().registers(tid).ok_or(TargetError::NoThread(tid))?;
        self.original.entry(tid).or_insert(now);
        self.diversion
            .set_registers(tid, &registers.general, &registers.extended)
            .map_err(failed)
    }

    pub fn write_memory(&mut self, tid: Tid, addr: Addr, bytes: &[u8]) -> Result<(), TargetError> {
        let written = self.diversion.write_memory(tid, addr, bytes);
        written.map_err(|_| TargetError::Refused(format!("no memory that can be written at {addr}")))
    }

    /// Says if all registers are as in the replay.
    pub fn is_as_replayed(&mut self) -> bool {
        let original: Vec<_> = self.original.iter().map(|(tid, regs)| (*tid, *regs)).collect();
        original.into_iter().all(|(tid, regs)| {
            let now = self.session().registers(tid);
            now.is_some_and(|now| now.outside_call() == regs.outside_call())
        })
    }
}
