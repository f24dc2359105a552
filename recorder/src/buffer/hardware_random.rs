//! `RDRAND` and `RDSEED` are made to trap ([`rr_tracee::hardware_random`]), and their results are part
//! of the trap's event.
//!
//! This happens when a program is executed, and when its own loader maps code, in the same event:
//! before the code can run. A file is searched once in a recording. Keeps I2 with these limits: code
//! that cannot be proven, that a program generates or maps without the loader keeps its instructions,
//! and only what it writes is compared (`rr_preload::payload`).

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;

use rr_trace::event::MemWrite;
use rr_tracee::hardware_random::{self, Access, LENGTH_MOST, OPCODE, TRAP, find};
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, FileId, Registers, SpaceId, SpaceOp, Stopped, Tid};

use crate::buffer::edits::Edits;
use crate::buffer::sites::code_mapped;
use crate::error::Result;
use crate::session::RecordSession;

/// The places of such instructions in files.
#[derive(Debug, Default)]
pub(crate) struct Searched {
    places: HashMap<FileId, Vec<u64>>,
}

impl Searched {
    /// Searches the file with this content, which was mapped.
    pub fn search(&mut self, id: FileId, file: &File) {
        let is_there = std::is_x86_feature_detected!("rdrand") || std::is_x86_feature_detected!("rdseed");
        if is_there {
            // A file that cannot be read cannot be executed.
            let search = || find(file).unwrap_or_default();
            self.places.entry(id).or_insert_with(search);
        }
    }

    fn part(&self, id: FileId, part: Range<u64>) -> &[u64] {
        let all = self.places.get(&id).map_or(&[][..], Vec::as_slice);
        let from = all.partition_point(|place| *place < part.start);
        let to = all.partition_point(|place| *place < part.end);
        &all[from..to.max(from)]
    }
}

impl RecordSession {
    /// Makes these instructions trap in code that `ops` have mapped. The model has been changed
    /// already.
    pub(crate) fn trap_random(
        &mut self,
        tid: Tid,
        id: SpaceId,
        ops: &[SpaceOp],
        edits: &mut Edits,
    ) -> Result<()> {
        let mut traps = Vec::new();
        for (range, file, offset) in code_mapped(ops) {
            for place in self.mapped.searched.part(file, offset..offset + range.len()) {
                let at = range.start + (place - offset);
                let mut now = [0];
                let read = self.task(tid)?.memory.read(at, &mut now);
                if read.is_ok() && now == [OPCODE] {
                    traps.push(at);
                }
            }
        }
        for at in traps {
            edits.push(at, vec![TRAP]);
            self.space_mut(id).library.sites.add_trap(at);
        }
        Ok(())
    }

    /// Same as [`RecordSession::trap_random`], for the first program, before its first event.
    pub(crate) fn trap_random_at_start(
        &mut self,
        tid: Tid,
        ops: &[SpaceOp],
        writes: &mut Vec<MemWrite>,
    ) -> Result<()> {
        let id = self.task(tid)?.space;
        let mut edits = Edits::default();
        self.trap_random(tid, id, ops, &mut edits)?;
        self.make(tid, id, edits, writes)
    }

    /// Returns the access that the task's instruction makes, if it is one that was made to trap and has
    /// trapped.
    pub(crate) fn random_at(&self, tid: Tid, regs: &Registers) -> Result<Option<Access>> {
        let mut code = [0u8; LENGTH_MOST];
        let task = self.task(tid)?;
        let got = task.memory.read_some(Addr(regs.rip), &mut code)?;
        let access = Access::of(&code[..got]);
        let sites = self.spaces.get(&task.space).map(|s| &s.library.sites);
        // The program may have such a trapping instruction of its own.
        let is_ours = |access: &Access| {
            let at = Addr(regs.rip) + access.opcode();
            sites.is_some_and(|sites| sites.rewritten.iter().any(|s| s.start == at && s.stub.is_none()))
        };
        Ok(access.filter(is_ours))
    }

    /// Carries the instruction out.
    pub(crate) fn after_random(
        &mut self,
        tid: Tid,
        mut stopped: Stopped,
        regs: &Registers,
        access: Access,
    ) -> Result<()> {
        let at = regs.outside_call();
        let after = access.carried_out(&at, hardware_random::value());
        stopped.set_regs(&after)?;
        self.take_records(tid)?;
        self.after_trap(tid, stopped, (at, after), vec![], vec![])
    }
}
