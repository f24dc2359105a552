//! The table of processes in the End frame of a recording: what reading all of its events would tell about them
//! ([`crate::processes`]).
//!
//! Keeps: a table says what the events say from the trace's beginning on. So a table that was made for another beginning, as
//! a deletion after the end of the recording would leave it, does not count; nor is there one where it would be large.

use std::collections::HashMap;
use std::sync::Arc;

use rr_schema::rr_capnp as wire;
use rr_tracee::{Addr, SpaceId, Tid};

use crate::error::Malformed;
use crate::event::{EventNumber, ExecInfo};
use crate::lineage::{Executed, Process};
use crate::message;

/// Most bytes of a table, about. Beyond that, reading the events costs little more than reading the table.
pub(crate) const TABLE_MAX: usize = 2 << 20;

/// The processes of the whole trace.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// The event of the checkpoint at which the trace begins, if its first events were deleted.
    pub(crate) begins_at: Option<EventNumber>,
    pub(crate) processes: Vec<Process>,
}

/// Puts the processes into a message.
pub(crate) fn write(mut out: wire::process_table::Builder<'_>, recorded: &Recorded) {
    let processes = &recorded.processes;
    out.set_begins_at(recorded.begins_at.map_or(0, |event| event.0));
    let mut numbers = HashMap::new();
    let mut programs = Vec::new();
    for process in processes {
        for program in process.inherited.iter().chain(&process.executed) {
            numbers.entry(Arc::as_ptr(program)).or_insert_with(|| {
                programs.push(program);
                programs.len() as u32 - 1
            });
        }
    }
    let number = |program: &Arc<Executed>| numbers.get(&Arc::as_ptr(program)).copied().unwrap_or(u32::MAX);
    let mut table = out.reborrow().init_programs(programs.len() as u32);
    for (n, program) in programs.into_iter().enumerate() {
        let mut out = table.reborrow().get(n as u32);
        out.set_at(program.at.0);
        out.set_stack(program.stack.0);
        let exec = ExecInfo {
            path: program.path.clone(),
            args: program.args.clone(),
            space: SpaceId(0),
            tid: Tid(0),
        };
        message::write_exec(out.init_program(), &exec);
    }
    let mut table = out.init_processes(processes.len() as u32);
    for (n, process) in processes.iter().enumerate() {
        let mut out = table.reborrow().get(n as u32);
        out.set_pid(process.pid.0);
        out.set_parent(process.parent.map_or(0, |parent| parent.0));
        out.set_began(process.began.0);
        out.set_ended(process.ended.map_or(0, |event| event.0));
        out.set_exited(process.status.is_some());
        out.set_status(process.status.unwrap_or(0));
        out.set_inherited(
            process
                .inherited
                .as_ref()
                .map_or(0, |program| number(program) + 1),
        );
        let mut executed = out.init_executed(process.executed.len() as u32);
        for (n, program) in process.executed.iter().enumerate() {
            executed.set(n as u32, number(program));
        }
    }
}

/// The processes of a table. `None`: it was made for another beginning than `begins_at`. No event may be after `last`.
pub(crate) fn read(
    from: wire::process_table::Reader<'_>,
    begins_at: Option<EventNumber>,
    last: EventNumber,
) -> Result<Option<Vec<Process>>, Malformed> {
    if from.get_begins_at() != begins_at.map_or(0, |event| event.0) {
        return Ok(None);
    }
    let event = |number: u64| match number {
        1.. if number <= last.0 => Ok(EventNumber(number)),
        _ => Err(Malformed::new(format!(
            "a process has to do with event {number} of {last}"
        ))),
    };
    let mut programs = Vec::new();
    for one in from.get_programs()? {
        let exec = message::read_exec(one.get_program()?)?;
        programs.push(Arc::new(Executed {
            at: event(one.get_at())?,
            path: exec.path,
            args: exec.args,
            stack: Addr(one.get_stack()),
        }));
    }
    let program = |number: u32| {
        let found: Option<&Arc<Executed>> = programs.get(number as usize);
        found.cloned().ok_or_else(|| {
            Malformed::new(format!(
                "a process executed program {number} of {}",
                programs.len()
            ))
        })
    };
    let mut processes = Vec::new();
    for one in from.get_processes()? {
        let mut process = Process::new(
            Tid(one.get_pid()),
            (one.get_parent() != 0).then(|| Tid(one.get_parent())),
            event(one.get_began())?,
        );
        process.status = one.get_exited().then(|| one.get_status());
        process.ended = (one.get_ended() != 0)
            .then(|| event(one.get_ended()))
            .transpose()?;
        process.inherited = match one.get_inherited() {
            0 => None,
            number => Some(program(number - 1)?),
        };
        process.executed = one
            .get_executed()?
            .iter()
            .map(program)
            .collect::<Result<_, _>>()?;
        processes.push(process);
    }
    Ok(Some(processes))
}
