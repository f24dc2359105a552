//! Calls by which a program confines itself: seccomp(2), and prctl(2) with `PR_SET_SECCOMP`,
//! `PR_GET_SECCOMP`, `PR_SET_NO_NEW_PRIVS` and `PR_GET_NO_NEW_PRIVS`.
//!
//! The recorder refuses all that the kernel would refuse, with the same error and in the same order of
//! checks (`do_seccomp` in kernel/seccomp.c). It also refuses filters whose calls another process
//! decides (`SECCOMP_FILTER_FLAG_NEW_LISTENER`), as a kernel does that is older than this flag.

use std::sync::Arc;

use nix::errno::Errno;
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, Stopped, Tid, procfs};

use crate::call::answer::answer_with;
use crate::call::enter::perform_call;
use crate::call::parameters::{Answered, read_parameter};
use crate::error::Result;
use crate::seccomp::confined::Mode;
use crate::seccomp::filter::Filter;
use crate::seccomp::program::{MOST, Program, Raw};
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::model::World;
use crate::world::next::Next;
use crate::world::task::Task;

/// Modes of `PR_SET_SECCOMP`.
const MODE_STRICT: u64 = 1;
const MODE_FILTER: u64 = 2;
/// Maximum number of instructions of all filters of a task (`MAX_INSNS_PER_PATH`), and the number that
/// each earlier filter adds to its own.
const MOST_TOGETHER: usize = (1 << 18) / Raw::BYTES;
const PENALTY: usize = 4;

/// Operations of seccomp(2).
mod operation {
    pub const SET_MODE_STRICT: u32 = 0;
    pub const SET_MODE_FILTER: u32 = 1;
    pub const GET_ACTION_AVAIL: u32 = 2;
}

/// `SECCOMP_FILTER_FLAG_*`. (The table of calls refuses a listener, and `WAIT_KILLABLE_RECV` has no
/// meaning without one.)
mod flag {
    pub const TSYNC: u32 = 1;
    pub const LOG: u32 = 2;
    pub const TSYNC_ESRCH: u32 = 16;
    /// All accepted flags: also `SPEC_ALLOW`, which has no effect here. `LOG` only shows to a tracer.
    pub const ALL: u32 = TSYNC | LOG | 4 | TSYNC_ESRCH;
}

/// True if a thread can be given a new filter that follows `newest`: its own filters must be `newest`
/// or older ones of the same chain.
fn can_follow(thread: &Task, newest: Option<&Arc<Filter>>) -> bool {
    match (&thread.settings.confined.mode, newest) {
        (Mode::Free, _) => true,
        (Mode::Filtered(own), Some(newest)) => own.is_ancestor_of(newest),
        (Mode::Filtered(_) | Mode::Strict, _) => false,
    }
}

/// Handles the entry of seccomp(2).
pub(crate) fn begin_seccomp(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    call: Call,
) -> Result<Next> {
    let entry = call.entry;
    let (flags, at) = (entry.rsi as u32, entry.rdx);
    let answered = match entry.rdi as u32 {
        operation::SET_MODE_STRICT if flags != 0 || at != 0 => Err(Errno::EINVAL.into()),
        operation::SET_MODE_STRICT => set_strict(&mut session.world, tid),
        operation::SET_MODE_FILTER => set_filter(&mut session.world, tid, flags, at),
        operation::GET_ACTION_AVAIL if flags == 0 && asks_for_listener(&session.world, tid, at)? => {
            Err(Errno::EOPNOTSUPP.into())
        }
        _ => return perform_call(&mut session.world, tid, stopped, call),
    };
    answer_with(session, tid, stopped, &entry, answered, vec![])
}

/// Handles the entry of prctl(2) with one of the four options.
pub(crate) fn begin_confinement(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    call: Call,
) -> Result<Next> {
    let entry = call.entry;
    let rest = [entry.rsi, entry.rdx, entry.r10, entry.r8];
    let confined = &mut session.world.task_mut(tid)?.settings.confined;
    let answered = match entry.rdi as i32 {
        libc::PR_GET_SECCOMP => Ok(confined.mode_number().into()),
        libc::PR_SET_SECCOMP => match entry.rsi {
            MODE_STRICT => set_strict(&mut session.world, tid),
            MODE_FILTER => set_filter(&mut session.world, tid, 0, entry.rdx),
            _ => Err(Errno::EINVAL.into()),
        },
        libc::PR_GET_NO_NEW_PRIVS if rest == [0; 4] => Ok(confined.no_new_privs.into()),
        libc::PR_SET_NO_NEW_PRIVS if rest == [1, 0, 0, 0] => {
            confined.no_new_privs = true;
            return perform_call(&mut session.world, tid, stopped, call);
        }
        _ => Err(Errno::EINVAL.into()),
    };
    answer_with(session, tid, stopped, &entry, answered, vec![])
}

/// True if the program asks if the kernel knows `SECCOMP_RET_USER_NOTIF`.
fn asks_for_listener(world: &World, tid: Tid, at: u64) -> Result<bool> {
    let action = world.task(tid)?.memory.read_u32(Addr(at));
    Ok(action.is_ok_and(|action| action == libc::SECCOMP_RET_USER_NOTIF))
}

fn set_strict(world: &mut World, tid: Tid) -> Answered {
    let confined = &mut world.task_mut(tid)?.settings.confined;
    match confined.mode_number() {
        0 | 1 => confined.mode = Mode::Strict,
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

fn set_filter(world: &mut World, tid: Tid, flags: u32, at: u64) -> Answered {
    let has = |flag: u32| flags & flag != 0;
    if has(!flag::ALL) {
        return Err(Errno::EINVAL.into());
    }
    let (program, source) = filter_at(world, tid, at)?;
    let task = world.task(tid)?;
    let before = match &task.settings.confined.mode {
        Mode::Free => None,
        Mode::Filtered(filter) => Some(Arc::clone(filter)),
        Mode::Strict => return Err(Errno::EINVAL.into()),
    };
    let all = before.iter().flat_map(|filter| filter.all());
    let others: usize = all.map(|filter| filter.program.kernel_len() + PENALTY).sum();
    if program.kernel_len() + others > MOST_TOGETHER {
        return Err(Errno::ENOMEM.into());
    }
    let (tgid, no_new_privs) = (task.tgid, task.settings.confined.no_new_privs);
    let siblings = |t: &Task| t.tgid == tgid && t.tid != tid && !t.life.exited;
    if has(flag::TSYNC) {
        let mut others = world.tasks.values().filter(|t| siblings(t));
        if let Some(thread) = others.find(|t| !can_follow(t, before.as_ref())) {
            if has(flag::TSYNC_ESRCH) {
                return Err(Errno::ESRCH.into());
            }
            return Ok(i64::from(
                procfs::numbers(thread.tid)
                    .last()
                    .copied()
                    .unwrap_or(-libc::ESRCH),
            ));
        }
    }
    let filter = Filter::new(program, source, before).with_log(has(flag::LOG));
    let mode = Mode::Filtered(Arc::new(filter));
    if has(flag::TSYNC) {
        for thread in world.tasks.matching_mut(siblings) {
            thread.settings.confined.mode = mode.clone();
            thread.settings.confined.no_new_privs |= no_new_privs;
        }
    }
    world.task_mut(tid)?.settings.confined.mode = mode;
    Ok(0)
}

/// Reads the filter's program that a `struct sock_fprog` points to. Returns it decoded and as it is.
fn filter_at(world: &World, tid: Tid, at: u64) -> Answered<(Program, Vec<u8>)> {
    // The layout: length (2 bytes), a gap, and the address of the instructions.
    let header = read_parameter(world, tid, at, 16)?;
    let word = |at: usize| header.get(at..).and_then(<[u8]>::first_chunk).copied();
    let len = usize::from(u16::from_le_bytes([header[0], header[1]]));
    let start = u64::from_le_bytes(word(8).unwrap_or_default());
    if len == 0 || len > MOST {
        return Err(Errno::EINVAL.into());
    }
    if !world.task(tid)?.settings.confined.no_new_privs && !procfs::is_administrator(tid) {
        return Err(Errno::EACCES.into());
    }
    if start == 0 {
        return Err(Errno::EINVAL.into());
    }
    let bytes = read_parameter(world, tid, start, len * Raw::BYTES)?;
    let chunks = bytes.chunks_exact(Raw::BYTES);
    let raw: Vec<Raw> = chunks
        .filter_map(|chunk| chunk.first_chunk())
        .map(|b| Raw::from_bytes(*b))
        .collect();
    let program = Program::new(&raw).map_err(|_| Errno::EINVAL)?;
    Ok((program, bytes))
}
