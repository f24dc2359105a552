//! The event of a system call: the kernel's writes, and the resulting state.

use rr_trace::event::{EventKind, MemWrite};
use rr_tracee::memory::ReadMemory;
use rr_tracee::payload::Sent;
use rr_tracee::syscalls::{Spec, Written};
use rr_tracee::{Registers, Stopped, Tid};

use crate::call::registers::before_call;
use crate::error::Result;
use crate::log::events::{close_entry, emit};
use crate::ptrace::calls::call_is_recorded;
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::model::World;
use crate::world::next::{Next, Record};

/// A task stands before its call again, and makes the call again.
pub(crate) fn make_again(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: &Registers,
) -> Result<Next> {
    if close_entry(session, tid)? {
        // No other task has seen that the call was made: the task is still in its interval.
        session.world.task_mut(tid)?.at_call.retrying = true;
        return Ok(Next::Ready(stopped));
    }
    let after = before_call(entry);
    emit(session, tid, EventKind::Restart { after }, vec![], vec![])?;
    session.world.task_mut(tid)?.interval.boundary = after;
    Ok(Next::Ready(stopped))
}

/// Records a system call's event, whole or as the second half, and the resulting state.
pub(crate) fn record_call(session: &mut RecordSession, tid: Tid, record: Record) -> Result<()> {
    let (entry, after) = (record.entry, record.after);
    let whole = close_entry(session, tid)?;
    // Memory now is as the event leaves it.
    let payload = Sent::by(&entry, after.result()).digest(&session.world.task(tid)?.memory);
    let kind = EventKind::Syscall {
        entry: whole.then_some(entry),
        after,
        xstate: record.xstate,
        task: record.task,
        output: record.output,
        payload,
    };
    emit(session, tid, kind, record.ops, record.writes)?;
    session.world.task_mut(tid)?.interval.boundary = after;
    call_is_recorded(&mut session.world, tid, &entry)
}

/// The kernel's writes for a call.
pub(crate) fn gather_writes(world: &World, tid: Tid, call: &Call, result: i64) -> Result<Vec<MemWrite>> {
    let Some(spec) = call.spec else { return Ok(vec![]) };
    let task = world.task(tid)?;
    let effective = |part: usize| {
        call.redirected
            .as_ref()
            .map_or(call.parts[part].addr, |redirected| redirected[part])
    };
    let read = |part: usize, offset: u64, buf: &mut [u8]| task.memory.read(effective(part) + offset, buf);
    let mut written = spec.written(&call.described_by, &call.parts, result, &read)?;
    if result == -i64::from(libc::EFAULT) {
        // The bytes written before the kernel reached the bad page are unknown.
        let in_place = |w: &Written| effective(w.part) == call.parts[w.part].addr;
        written.extend(Spec::touchable(&call.parts, &read)?.into_iter().filter(in_place));
    }
    written
        .into_iter()
        .filter(|w| w.len > 0)
        .map(|w| {
            let data = task
                .memory
                .read_vec(effective(w.part) + w.offset, w.len as usize)?;
            Ok(MemWrite {
                space: task.space,
                addr: call.parts[w.part].addr + w.offset,
                data,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::children::{Children, SPACE, range_of};
    use rr_tracee::Addr;

    /// A call of read(2) with this buffer.
    fn read(buffer: Addr, len: u64) -> Registers {
        Registers {
            orig_rax: libc::SYS_read as u64,
            rsi: buffer.0,
            rdx: len,
            ..Registers::default()
        }
    }

    /// A buffer of the program, and scratch memory in which the kernel has left other bytes.
    fn gathered(result: i64, is_redirected: bool) -> Vec<(u64, Vec<u8>)> {
        let (program, scratch) = (vec![1u8; 16], vec![2u8; 16]);
        let (buffer, elsewhere) = (range_of(&program).start, range_of(&scratch).start);
        let mut children = Children::new();
        let tid = children.add();
        let mut call = Call::new(read(buffer, 16));
        let memory = &children.world.task(tid).unwrap().memory;
        call.parts = call.spec.unwrap().parts(&call.entry, memory).unwrap();
        call.redirected = is_redirected.then(|| vec![elsewhere]);
        let writes = gather_writes(&children.world, tid, &call, result).unwrap();
        assert!(writes.iter().all(|write| write.space == SPACE));
        writes
            .into_iter()
            .map(|write| (write.addr - buffer, write.data))
            .collect()
    }

    #[test]
    fn what_the_kernel_has_written_is_recorded_at_the_address_of_the_program() {
        assert_eq!(gathered(5, false), [(0, vec![1; 5])]);
        assert_eq!(gathered(5, true), [(0, vec![2; 5])]);
    }

    #[test]
    fn a_call_that_writes_nothing_records_nothing() {
        assert_eq!(gathered(0, true), []);
        assert_eq!(gathered(-i64::from(libc::EINTR), true), []);
    }

    #[test]
    fn after_a_bad_page_the_whole_buffer_is_recorded_unless_it_was_redirected() {
        let fault = -i64::from(libc::EFAULT);
        assert_eq!(gathered(fault, false), [(0, vec![1; 16])]);
        assert_eq!(gathered(fault, true), []);
    }
}
