//! Restartable sequences (`rseq`, Documentation/userspace-api/rseq.rst), which rr carries out.
//!
//! A registered task has a structure that the kernel writes whenever the task has been preempted, and
//! that says which sequence of instructions must then begin anew. Both depend on everything that
//! runs on the machine. So the kernel never learns of the structure, and the recorder does the kernel's
//! part where the program can tell the difference: other *recorded* tasks have run, or a signal's
//! handler is called.
//!
//! * *The number of the CPU* changes only with the mask of CPUs that the task is given, because all tasks are bound to one. So the
//!   structure is written when it is registered, and after sched_setaffinity(2). As on a machine with one CPU, the concurrency id
//!   is 0.
//! * *A sequence is aborted* where other tasks have run since the task's last event, before it goes on
//!   ([`EventKind::SetRegisters`]), and before the frame of a handler is made. The registers and the
//!   cleared pointer are part of an event, so replay knows nothing of sequences.
//! * The pointer to a sequence that the task has left already is not cleared: the kernel does so at an
//!   arbitrary time or never.
//!
//! The kernel kills a program whose structures are invalid (`SIGSEGV`); rr does not look that closely, and
//! aborts nothing.
//!
//! ```text
//! rseq       0 cpu_id_start   4 cpu_id   8 rseq_cs (pointer)  16 flags  20 node_id  24 mm_cid
//! rseq_cs    0 version   4 flags   8 start_ip  16 post_commit_offset  24 abort_ip
//! ```

use nix::errno::Errno;
use registration::{Kernel, NO_CPU, Rseq};
use rr_trace::event::{EventKind, MemWrite, SignalPlace};
use rr_tracee::memory::ReadMemory;
use rr_tracee::task::{SigInfo, signo};
use rr_tracee::{Addr, Registers, Stopped, Tid, USER_END};

use crate::call::answer::answer_with;
use crate::call::cores::{CPU, shown_processor};
use crate::call::parameters::{Answered, give_answer, read_parameter};
use crate::error::Result;
use crate::log::events::emit;
use crate::ptrace::memory::finish_reading;
use crate::session::RecordSession;
use crate::world::model::World;
use crate::world::next::Next;

pub(crate) mod registration;

/// `RSEQ_FLAG_UNREGISTER`.
const UNREGISTER: u64 = 1;

/// Offset of the pointer to a sequence.
const SEQUENCE: u64 = 8;

/// Size of `struct rseq_cs`.
const SEQUENCE_BYTES: usize = 32;

/// Size of the signature in front of the abort handler.
const SIGNATURE_BYTES: u64 = 4;

/// Size of `struct ptrace_rseq_configuration`.
const CONFIGURATION_BYTES: u64 = 24;

/// Carries out rseq(2).
pub(crate) fn begin_rseq(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: &Registers,
) -> Result<Next> {
    let mut writes = Vec::new();
    let answered = carry_out_rseq(session, tid, entry, &mut writes);
    answer_with(session, tid, stopped, entry, answered, writes)
}

fn carry_out_rseq(
    session: &mut RecordSession,
    tid: Tid,
    entry: &Registers,
    writes: &mut Vec<MemWrite>,
) -> Answered {
    let kernel = Kernel::ask();
    if !kernel.exists {
        return Err(Errno::ENOSYS.into());
    }
    let (addr, len, flags) = (entry.rdi, entry.rsi & 0xffff_ffff, entry.rdx & 0xffff_ffff);
    let asked = Rseq {
        addr,
        len: len as u32,
        signature: entry.r10 as u32,
    };
    let known = session.world.task(tid)?.settings.rseq;
    let is_same = known.map(|known| (known.addr, known.len) == (asked.addr, asked.len));
    let is_signed = known.is_some_and(|known| known.signature == asked.signature);
    match (flags, is_same) {
        (UNREGISTER, Some(true)) if is_signed => {
            for (at, bytes) in asked.shows(kernel, [0, NO_CPU, 0, 0]) {
                give_answer(&session.world, tid, at, &bytes, writes)?;
            }
            session.world.task_mut(tid)?.settings.rseq = None;
        }
        (0 | UNREGISTER, Some(true)) if !is_signed => return Err(Errno::EPERM.into()),
        (0, Some(true)) => return Err(Errno::EBUSY.into()),
        (0, None) if kernel.takes(addr, len) => {
            if addr.checked_add(len).is_none_or(|end| end > USER_END) {
                return Err(Errno::EFAULT.into());
            }
            let sequence = read_parameter(&session.world, tid, addr + SEQUENCE, 8)?;
            if sequence.iter().any(|byte| *byte != 0) {
                give_answer(&session.world, tid, addr + SEQUENCE, &[0; 8], writes)?;
            }
            for (at, bytes) in asked.shows(kernel, place(shown_processor(session, tid)?)) {
                give_answer(&session.world, tid, at, &bytes, writes)?;
            }
            session.world.task_mut(tid)?.settings.rseq = Some(asked);
        }
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// The fields of a structure that show this processor.
fn place(shown: u32) -> [u32; 4] {
    let (cpu, node) = (shown & CPU, shown >> 12);
    [cpu, cpu, node, 0]
}

/// Shows a task in its structure where it is, after the mask of its CPUs has changed. The event that is in the making gets the
/// writes. If the structure is gone, nothing happens here, as elsewhere.
pub(crate) fn show_processor(session: &mut RecordSession, tid: Tid) -> Result<()> {
    let task = session.world.task(tid)?;
    let (space, Some(rseq)) = (task.space, task.settings.rseq) else {
        return Ok(());
    };
    for (at, data) in rseq.shows(Kernel::ask(), place(shown_processor(session, tid)?)) {
        let addr = Addr(at);
        let shown = session.world.task(tid)?.memory.read_vec(addr, data.len());
        if shown.is_ok_and(|shown| shown != data) {
            finish_reading(session, space);
            session.world.task(tid)?.memory.write(addr, &data)?;
            session.world.besides.writes.push(MemWrite { space, addr, data });
        }
    }
    Ok(())
}

/// `PTRACE_GET_RSEQ_CONFIGURATION`: the structure that a tracee has registered. The tracer gets at most
/// `size` bytes.
pub(crate) fn give_rseq(
    world: &World,
    (by, of): (Tid, Tid),
    size: u64,
    at: u64,
    writes: &mut Vec<MemWrite>,
) -> Answered {
    let known = world.task(of)?.settings.rseq;
    let words = known.map_or([0; 3], |rseq| {
        [
            rseq.addr,
            u64::from(rseq.len) | u64::from(rseq.signature) << 32,
            0,
        ]
    });
    let bytes = words.map(u64::to_le_bytes);
    let shown = size.min(CONFIGURATION_BYTES) as usize;
    give_answer(world, by, at, &bytes.as_flattened()[..shown], writes)?;
    Ok(CONFIGURATION_BYTES as i64)
}

/// If the task is in a sequence: the registers with which it goes on after the sequence was aborted, and
/// the write that ends the sequence. Most tasks name none, so the registers are read last.
fn aborted_sequence(world: &World, tid: Tid, stopped: &Stopped) -> Result<Option<(Registers, MemWrite)>> {
    let task = world.task(tid)?;
    let Some(rseq) = task.settings.rseq else {
        return Ok(None);
    };
    let pointer = Addr(rseq.addr) + SEQUENCE;
    let mut sequence = [0; SEQUENCE_BYTES];
    let mut signature = [0; SIGNATURE_BYTES as usize];
    // The program may have unmapped any of this.
    let Ok(at @ 1..) = task.memory.read_u64(pointer) else {
        return Ok(None);
    };
    if task.memory.read(Addr(at), &mut sequence).is_err() {
        return Ok(None);
    }
    let words: Vec<u64> = sequence
        .as_chunks()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .collect();
    let [0, start, len, abort] = words[..] else {
        return Ok(None);
    };
    let regs = stopped.regs()?;
    let is_inside = |rip: u64| rip.wrapping_sub(start) < len;
    let signed = Addr(abort.wrapping_sub(SIGNATURE_BYTES));
    if !is_inside(regs.rip)
        || is_inside(abort)
        || abort >= USER_END
        || task.memory.read(signed, &mut signature).is_err()
        || u32::from_le_bytes(signature) != rseq.signature
    {
        return Ok(None);
    }
    let after = Registers { rip: abort, ..regs }.outside_call();
    let (space, addr, data) = (task.space, pointer, vec![0; 8]);
    task.memory.write(addr, &data)?;
    Ok(Some((after, MemWrite { space, addr, data })))
}

/// A task is about to go on after an event, and others have run since: aborts its sequence.
pub(crate) fn abort_if_preempted(session: &mut RecordSession, tid: Tid, stopped: &mut Stopped) -> Result<()> {
    if session.drive.last_run == Some(tid)
        || session.world.task(tid)?.settings.rseq.is_none()
        || session.world.task(tid)?.is_mid_interval()
    {
        return Ok(());
    }
    let Some((after, write)) = aborted_sequence(&session.world, tid, stopped)? else {
        return Ok(());
    };
    stopped.set_regs(&after)?;
    session.world.task_mut(tid)?.interval.boundary = after;
    emit(
        session,
        tid,
        EventKind::SetRegisters { after, xstate: None },
        vec![],
        vec![write],
    )
}

/// A handler is about to be called for a signal that came at `place`: aborts the task's sequence.
/// Returns the new place of the signal.
pub(crate) fn abort_for_signal(
    session: &mut RecordSession,
    tid: Tid,
    stopped: &mut Stopped,
    info: &SigInfo,
    place: SignalPlace,
) -> Result<SignalPlace> {
    // A system call is no part of a sequence.
    if matches!(place, SignalPlace::Entry(_)) || session.world.task(tid)?.settings.rseq.is_none() {
        return Ok(place);
    }
    let Some((after, write)) = aborted_sequence(&session.world, tid, stopped)? else {
        return Ok(place);
    };
    stopped.set_regs(&after)?;
    let kind = match place {
        // The fault ends the interval.
        SignalPlace::Fault(_) => EventKind::Signal {
            signo: signo(info),
            info: info.to_vec(),
            place,
            disposition: rr_trace::event::Disposition::Ignored,
            after,
            xstate: None,
        },
        _ => EventKind::SetRegisters { after, xstate: None },
    };
    emit(session, tid, kind, vec![], vec![write])?;
    session.world.task_mut(tid)?.interval.boundary = after;
    Ok(SignalPlace::Here)
}
