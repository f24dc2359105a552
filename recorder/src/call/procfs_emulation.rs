//! The program's access to memory through `/proc`. It must not see our pages in `/proc/PID/maps` and
//! `smaps`. Its writes through `/proc/PID/mem`, or by `process_vm_writev`, are changes of memory like
//! any other (I2).
//!
//! A descriptor for `maps` or `smaps` of a recorded process is replaced by one for a memfd, with the
//! contents of the file when it was opened, as the program must see them ([`maps_text`]). (`status` is handled differently:
//! [`crate::seccomp`].)

use std::io::Write;
use std::ops::ControlFlow;

use rr_trace::event::MemWrite;
use rr_tracee::memory::ReadMemory;
use rr_tracee::pid_namespace::Vpid;
use rr_tracee::remote::Remote;
use rr_tracee::{Addr, AddrRange, Registers, Stopped, Tid, TraceeFd, procfs, rr_area};

use crate::call::answer::answer_call;
use crate::call::maps_text;
use crate::checkpoint::snapshots::lose_snapshots;
use crate::error::Result;
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::model::World;
use crate::world::next::Next;
use crate::world::numbers::{named_task, process_in_proc};

/// The process and the file's name, for `/proc/PID/NAME` and `/proc/PID/task/TID/NAME` as the program names them.
fn parse(link: &str) -> Option<(i32, &str)> {
    let mut parts = link.strip_prefix("/proc/")?.split('/');
    let number = parts.next()?.parse().ok()?;
    let name = link.rsplit('/').next()?;
    Some((number, name))
}

/// The process whose memory a descriptor gives access to (`/proc/PID/mem`).
fn memory_owner(world: &World, tid: Tid, fd: TraceeFd) -> Option<Tid> {
    let link = std::fs::read_link(procfs::fd_path(tid, fd)).ok()?;
    match link.to_str().and_then(parse)? {
        (number, "mem") => process_in_proc(world, tid, number),
        _ => None,
    }
}

/// The program's contents of a file that would show our pages.
fn own_text(world: &mut World, reader: Tid, link: &str) -> Option<String> {
    let (number, name) = parse(link)?;
    world.must_trace.status_files |= name == "status";
    if !matches!(name, "mem" | "maps" | "smaps") {
        return None;
    }
    let pid = process_in_proc(world, reader, number).filter(|pid| world.tasks.contains_key(pid))?;
    match name {
        "mem" => world.must_trace.memory_files = true,
        "maps" | "smaps" => {
            let stubs = world.stubs_of(pid);
            let is_ours = |range: AddrRange| {
                range.intersect(rr_area::area()).is_some()
                    || stubs.iter().any(|s| s.intersect(range).is_some())
            };
            let text = std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
            return text.map(|text| maps_text::as_seen_by_program(&text, is_ours));
        }
        _ => {}
    }
    None
}

/// After a call that returned a descriptor: replaces it if the program must see other contents.
pub(crate) fn substitute_file(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    call: &Call,
    result: i64,
) -> Result<Stopped> {
    if result < 0
        || !matches!(
            call.entry.syscall(),
            libc::SYS_open | libc::SYS_openat | libc::SYS_openat2
        )
    {
        return Ok(stopped);
    }
    let fd = TraceeFd(result as i32);
    let link = std::fs::read_link(procfs::fd_path(tid, fd)).unwrap_or_default();
    let Some(link) = link.to_str() else {
        return Ok(stopped);
    };
    let Some(text) = session
        .policy
        .list_of_cpus(link)
        .or_else(|| own_text(&mut session.world, tid, link))
    else {
        return Ok(stopped);
    };
    let tgid = session.world.task(tid)?.tgid;
    let (mut remote, file) = Remote::new(stopped, tgid)?.memfd(c"maps")?;
    if let Some((memfd, mut file)) = file {
        if file.write_all(text.as_bytes()).is_ok() {
            let flags = call.entry.arg(if call.entry.syscall() == libc::SYS_open {
                1
            } else {
                2
            });
            let cloexec = flags & libc::O_CLOEXEC as u64;
            let args = [memfd.0 as u64, result as u64, cloexec, 0, 0, 0];
            remote = remote.call(libc::SYS_dup3, args)?.0;
        }
        remote = remote.close(memfd)?;
    }
    Ok(remote.finish()?)
}

/// After a write to `/proc/PID/mem` of a recorded process: the memory that changed.
pub(crate) fn memory_file_effect(world: &World, tid: Tid, call: &Call, result: i64) -> Result<Vec<MemWrite>> {
    if !world.must_trace.memory_files || result <= 0 {
        return Ok(vec![]);
    }
    let entry = &call.entry;
    let fd = TraceeFd(entry.rdi as i32);
    let start = match entry.syscall() {
        libc::SYS_pwrite64 | libc::SYS_pwritev | libc::SYS_pwritev2 => entry.r10,
        libc::SYS_write | libc::SYS_writev => procfs::fd_position(tid, fd)
            .unwrap_or(0)
            .wrapping_sub(result as u64),
        _ => return Ok(vec![]),
    };
    let owner = memory_owner(world, tid, fd).and_then(|pid| world.tasks.get(&pid));
    let Some(owner) = owner else {
        return Ok(vec![]);
    };
    let data = owner.memory.read_vec(Addr(start), result as usize)?;
    Ok(vec![MemWrite {
        space: owner.space,
        addr: Addr(start),
        data,
    }])
}

/// The task whose memory a call may write into, if the call names it by its process.
fn written_process(world: &World, tid: Tid, entry: &Registers) -> Option<Tid> {
    match entry.syscall() {
        libc::SYS_process_vm_writev => named_task(world, tid, Vpid(entry.rdi as i32)),
        libc::SYS_write | libc::SYS_writev | libc::SYS_pwrite64 | libc::SYS_pwritev | libc::SYS_pwritev2
            if world.must_trace.memory_files =>
        {
            memory_owner(world, tid, TraceeFd(entry.rdi as i32))
        }
        _ => None,
    }
}

/// Before a call that may write into the memory of another process, which may be blocked: lets the
/// checkpoint writer finish reading that memory in place. Returns the task, unless the call is
/// answered: at our pages the call ends as if no memory were there.
pub(crate) fn before_write_to_process(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    entry: &Registers,
) -> Result<ControlFlow<Next, Stopped>> {
    let target = written_process(&session.world, tid, entry);
    let Some((pid, space)) = target.and_then(|pid| Some((pid, session.world.tasks.get(&pid)?.space))) else {
        return Ok(ControlFlow::Continue(stopped));
    };
    lose_snapshots(session, space);
    let number = entry.syscall();
    let in_file = number != libc::SYS_process_vm_writev;
    let mut ours = session.world.stubs_of(pid);
    ours.push(rr_area::area());
    let ranges = ranges_to_write(&session.world, tid, entry);
    let hit = |range: &AddrRange| {
        ours.iter()
            .filter_map(|o| o.intersect(*range))
            .map(|r| r.start)
            .min()
    };
    let Some((first, at)) = ranges.iter().find_map(|range| Some((range.start, hit(range)?))) else {
        return Ok(ControlFlow::Continue(stopped));
    };
    if matches!(number, libc::SYS_write | libc::SYS_pwrite64) && at > first {
        let rdx = at - first;
        stopped.set_regs(&Registers { rdx, ..*entry })?;
        return Ok(ControlFlow::Continue(stopped));
    }
    let errno = if in_file { libc::EIO } else { libc::EFAULT };
    answer_call(session, tid, stopped, entry, -i64::from(errno), vec![]).map(ControlFlow::Break)
}

/// The ranges that such a call wants to write.
fn ranges_to_write(world: &World, tid: Tid, entry: &Registers) -> Vec<AddrRange> {
    let fd = TraceeFd(entry.rdi as i32);
    let position = || procfs::fd_position(tid, fd).unwrap_or(0);
    let vector = |at: u64, count: u64| iovec_ranges(world, tid, Addr(at), count);
    let (start, len) = match entry.syscall() {
        libc::SYS_process_vm_writev => return vector(entry.r10, entry.r8),
        libc::SYS_write => (position(), entry.rdx),
        libc::SYS_pwrite64 => (entry.r10, entry.rdx),
        number => {
            let len = vector(entry.rsi, entry.rdx).iter().map(|r| r.len()).sum();
            (
                if number == libc::SYS_writev {
                    position()
                } else {
                    entry.r10
                },
                len,
            )
        }
    };
    vec![AddrRange::sized(Addr(start), len)]
}

/// The ranges of a vector (`struct iovec`), as far as it can be read.
fn iovec_ranges(world: &World, tid: Tid, at: Addr, count: u64) -> Vec<AddrRange> {
    const MOST_PARTS: u64 = 1024;
    let word = |at: Addr| world.task(tid).ok()?.memory.read_u64(at).ok();
    let part = |n: u64| Some(AddrRange::sized(Addr(word(at + n * 16)?), word(at + n * 16 + 8)?));
    (0..count.min(MOST_PARTS)).map_while(part).collect()
}

/// After a `process_vm_writev` to a recorded process: the memory that changed. The result is exact
/// even if the kernel reached a bad page (process_vm_readv(2)).
pub(crate) fn other_memory_effect(
    world: &World,
    tid: Tid,
    call: &Call,
    result: i64,
) -> Result<Vec<MemWrite>> {
    const MOST_PARTS: u64 = 1024;
    let entry = &call.entry;
    if entry.syscall() != libc::SYS_process_vm_writev || result <= 0 {
        return Ok(vec![]);
    }
    let owner = named_task(world, tid, Vpid(entry.rdi as i32)).and_then(|owner| world.tasks.get(&owner));
    let Some(owner) = owner else {
        return Ok(vec![]);
    };
    let caller = &world.task(tid)?.memory;
    let mut left = result as u64;
    let mut writes = Vec::new();
    for n in 0..entry.r8.min(MOST_PARTS) {
        // struct iovec { base, len }
        let part = Addr(entry.r10 + n * 16);
        let (addr, len) = (Addr(caller.read_u64(part)?), caller.read_u64(part + 8)?.min(left));
        if len > 0 {
            let data = owner.memory.read_vec(addr, len as usize)?;
            let space = owner.space;
            writes.push(MemWrite { space, addr, data });
        }
        left -= len;
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_parsed() {
        assert_eq!(parse("/proc/12/maps"), Some((12, "maps")));
        assert_eq!(parse("/proc/12/task/13/mem"), Some((12, "mem")));
        assert_eq!(parse("/proc/meminfo"), None);
        assert_eq!(parse("/tmp/proc/12/maps"), None);
    }
}
