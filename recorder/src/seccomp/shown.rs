//! Lines of `/proc/PID/status` about a task's confinement, its tracer and its CPUs: a program reads there what it
//! would read without rr.
//!
//! Programs, and other processes too, often keep such a file open and read it again and again. So the
//! descriptor is a real one of the kernel, and the recorder answers each read in the kernel's place.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use nix::errno::Errno;
use rr_trace::event::MemWrite;
use rr_tracee::remote::Remote;
use rr_tracee::{Registers, Stopped, Tid, TraceeFd, procfs};

use crate::call::answer::answer_with;
use crate::call::cores::{affinity_of, hex_mask, list_of_cpus};
use crate::call::parameters::{Answered, give_answer, read_parameter};
use crate::error::Result;
use crate::seccomp::confined::Mode;
use crate::seccomp::filter::Filter;
use crate::seccomp::program::Raw;
use crate::session::RecordSession;
use crate::world::model::World;
use crate::world::next::Next;
use crate::world::numbers::task_of_status;

/// Returns the value of a line of `status`.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key))
}

/// Fails if a tracer may not see filters.
fn must_see_filters(world: &World, by: Tid) -> Answered<()> {
    match procfs::is_administrator(by) && !world.task(by)?.settings.confined.is_confined() {
        true => Ok(()),
        false => Err(Errno::EACCES.into()),
    }
}

/// One of a tracee's filters, counted from the oldest.
fn filter_of(world: &World, of: Tid, number: u64) -> Answered<&Filter> {
    let Mode::Filtered(newest) = &world.task(of)?.settings.confined.mode else {
        return Err(Errno::EINVAL.into());
    };
    let all: Vec<_> = newest.all().collect();
    let wanted = usize::try_from(number).ok();
    let filter = wanted.and_then(|number| all.iter().rev().nth(number).copied());
    filter.ok_or_else(|| Errno::ENOENT.into())
}

/// `PTRACE_SECCOMP_GET_FILTER`: one of a tracee's filters. Returns its number of instructions.
pub(crate) fn give_filter(
    world: &World,
    (by, of): (Tid, Tid),
    number: u64,
    at: u64,
    writes: &mut Vec<MemWrite>,
) -> Answered {
    must_see_filters(world, by)?;
    let filter = filter_of(world, of, number)?;
    if at != 0 {
        give_answer(world, by, at, &filter.source, writes)?;
    }
    Ok((filter.source.len() / Raw::BYTES) as i64)
}

/// `PTRACE_SECCOMP_GET_METADATA`: the flags of one of a tracee's filters, in a `struct seccomp_metadata` of `size` bytes that has its
/// number. Returns the size.
pub(crate) fn give_filter_metadata(
    world: &World,
    (by, of): (Tid, Tid),
    size: u64,
    at: u64,
    writes: &mut Vec<MemWrite>,
) -> Answered {
    /// `__u64 filter_off`, `__u64 flags`.
    const BYTES: usize = 16;
    const NUMBER: usize = 8;
    must_see_filters(world, by)?;
    let size = size.min(BYTES as u64) as usize;
    if size < NUMBER {
        return Err(Errno::EINVAL.into());
    }
    let number = read_parameter(world, by, at, NUMBER)?;
    let number = number.first_chunk().copied().map_or(0, u64::from_le_bytes);
    let flags = match filter_of(world, of, number)?.logs {
        true => libc::SECCOMP_FILTER_FLAG_LOG,
        false => 0,
    };
    let bytes = [number, flags].map(u64::to_le_bytes);
    give_answer(world, by, at, &bytes.as_flattened()[..size], writes)?;
    Ok(size as i64)
}

/// At the entry of a call: answers the call if it reads the `status` of a recorded task. Otherwise
/// gives the task back.
pub(crate) fn read_status(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    entry: &Registers,
) -> Result<ControlFlow<Next, Stopped>> {
    let number = entry.syscall();
    if !session.world.must_trace.status_files || !matches!(number, libc::SYS_read | libc::SYS_pread64) {
        return Ok(ControlFlow::Continue(stopped));
    }
    let fd = TraceeFd(entry.rdi as i32);
    let Some(text) = status_at(session, tid, fd)? else {
        return Ok(ControlFlow::Continue(stopped));
    };
    let position = match number {
        libc::SYS_read => procfs::fd_position(tid, fd).unwrap_or(0),
        _ => entry.r10,
    };
    let rest = usize::try_from(position)
        .ok()
        .and_then(|at| text.as_bytes().get(at..));
    let rest = rest.unwrap_or_default();
    let bytes = &rest[..rest.len().min(entry.rdx.try_into().unwrap_or(usize::MAX))];
    let mut writes = Vec::new();
    let given = match bytes {
        [] => Ok(0),
        bytes => give_answer(&session.world, tid, entry.rsi, bytes, &mut writes),
    };
    if number == libc::SYS_read && given.is_ok() {
        let (tgid, next) = (session.world.task(tid)?.tgid, position + bytes.len() as u64);
        let args = [entry.rdi, next, libc::SEEK_SET as u64, 0, 0, 0];
        stopped = Remote::new(stopped, tgid)?
            .call(libc::SYS_lseek, args)?
            .0
            .finish()?;
    }
    let answered = given.map(|_| bytes.len() as i64);
    answer_with(session, tid, stopped, entry, answered, writes).map(ControlFlow::Break)
}

/// Returns the text that the program must see in the file, if the file is the `status` of a
/// recorded task.
fn status_at(session: &RecordSession, tid: Tid, fd: TraceeFd) -> Result<Option<String>> {
    let path = procfs::fd_path(tid, fd);
    let is_status = std::fs::read_link(&path).is_ok_and(|link| link.ends_with("status"));
    if !is_status || procfs::fd_flags(tid, fd) & libc::O_PATH as u64 != 0 {
        return Ok(None);
    }
    // Reads the file through the program's descriptor: the program's `/proc` may belong to another
    // pid namespace.
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Ok(None);
    };
    match task_of_status(&session.world, tid, &text) {
        Some(owner) => status_shown(session, owner, &text).map(Some),
        None => Ok(None),
    }
}

/// Returns the text of a task's `status` as the program must see it.
fn status_shown(session: &RecordSession, tid: Tid, text: &str) -> Result<String> {
    let task = session.world.task(tid)?;
    let confined = &task.settings.confined;
    let own = match &confined.mode {
        Mode::Filtered(filter) => filter.all().count(),
        Mode::Free | Mode::Strict => 0,
    };
    // The tracer's number is given in the namespace of the other numbers in the file.
    let shown_numbers = procfs::numbers_in(value_of(text, "NSpid:").unwrap_or_default()).len();
    let depth = procfs::numbers(tid).len().saturating_sub(shown_numbers);
    let tracer = task.tracee.as_ref().map(|tracee| procfs::numbers(tracee.tracer));
    let tracer = tracer
        .and_then(|numbers| numbers.get(depth).copied())
        .unwrap_or(0);
    let mut shown = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (key, value) = line.split_once(':').unwrap_or_default();
        let value = match key {
            "NoNewPrivs" => i64::from(confined.no_new_privs).to_string(),
            "Seccomp" => confined.mode_number().to_string(),
            // The kernel counts filters that rr itself runs under, which the program inherits
            // natively too, and rr's own filter, which must not be counted.
            "Seccomp_filters" => {
                let others = value.trim().parse().map_or(0, |all: i64| all - 1);
                (others + own as i64).to_string()
            }
            "TracerPid" => tracer.to_string(),
            "Cpus_allowed" => hex_mask(affinity_of(session, tid)?, value.trim()),
            "Cpus_allowed_list" => list_of_cpus(affinity_of(session, tid)?),
            _ => {
                shown.push_str(line);
                continue;
            }
        };
        // Writing to a string cannot fail.
        let _ = writeln!(shown, "{key}:\t{value}");
    }
    Ok(shown)
}
