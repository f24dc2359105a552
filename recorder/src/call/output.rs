//! The program's writes to the recording's own standard output and error: stored in the events, shown
//! by replay.
//!
//! A tracee's descriptor counts if it is the *same open file* as ours (kcmp(2)), however the tracee got
//! it.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::errno::Errno;
use rr_trace::event::{Output, OutputSource, Stdio};
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, Registers, Tid, TraceeFd, procfs};

use crate::error::Result;
use crate::session::RecordSession;
use crate::world::call::Call;

/// `KCMP_FILE` of `<linux/kcmp.h>`.
const KCMP_FILE: i32 = 0;

/// The stream of ours that a tracee's descriptor refers to.
fn stream(tid: Tid, fd: TraceeFd) -> Option<Stdio> {
    let me = std::process::id();
    let same = |own: i32| {
        // SAFETY: kcmp takes plain numbers.
        match unsafe { libc::syscall(libc::SYS_kcmp, me, tid.0, KCMP_FILE, own as u64, fd.0 as u64) } {
            0 => true,
            -1 if matches!(Errno::last(), Errno::EPERM | Errno::ENOSYS) => looks_the_same(tid, fd, own),
            _ => false,
        }
    };
    let (first, second) = if fd.0 == 2 {
        ((2, Stdio::Err), (1, Stdio::Out))
    } else {
        ((1, Stdio::Out), (2, Stdio::Err))
    };
    [first, second]
        .into_iter()
        .find(|(own, _)| same(*own))
        .map(|(_, stream)| stream)
}

/// Used where kcmp(2) is not allowed (containers without `CAP_SYS_PTRACE`): returns whether it is the
/// same file, opened in the same way, and at the same position.
fn looks_the_same(tid: Tid, fd: TraceeFd, own: i32) -> bool {
    const CLOSE_ON_EXEC: u64 = libc::O_CLOEXEC as u64;
    let (me, own) = (Tid(std::process::id() as i32), TraceeFd(own));
    let file = |tid, fd| {
        let meta = procfs::fd_path(tid, fd).metadata().ok()?;
        let flags = procfs::fd_flags(tid, fd) & !CLOSE_ON_EXEC;
        Some((meta.dev(), meta.ino(), flags, procfs::fd_position(tid, fd)))
    };
    file(tid, fd).is_some_and(|theirs| Some(theirs) == file(me, own))
}

/// The last `len` bytes that were read from a tracee's file before the descriptor's current position,
/// or before `position`.
fn copied(tid: Tid, fd: TraceeFd, position: Option<u64>, len: u64) -> Option<Vec<u8>> {
    let end = match position {
        Some(position) => position,
        None => procfs::fd_position(tid, fd)?,
    };
    let file = File::open(procfs::fd_path(tid, fd)).ok()?;
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, end.checked_sub(len)?).ok()?;
    Some(bytes)
}

/// The descriptor that a call writes to, if the call's output is stored.
fn target(entry: &Registers) -> Option<TraceeFd> {
    let arg = match entry.syscall() {
        libc::SYS_write | libc::SYS_pwrite64 => 0,
        libc::SYS_writev | libc::SYS_pwritev | libc::SYS_pwritev2 => 0,
        libc::SYS_sendfile => 0,
        libc::SYS_copy_file_range => 2,
        _ => return None,
    };
    Some(TraceeFd(entry.arg(arg) as i32))
}

/// Returns whether a call moves bytes to a stream of ours which nobody can read before (splice(2), tee(2)). Such a call is
/// answered as if the file could not be spliced: then programs read and write.
pub(crate) fn moves_unseen(tid: Tid, entry: &Registers) -> bool {
    let out = match entry.syscall() {
        libc::SYS_splice => 2,
        libc::SYS_tee => 1,
        _ => return false,
    };
    stream(tid, TraceeFd(entry.arg(out) as i32)).is_some()
}

/// Writes all of `bytes` to a stream of ours. Errors are ignored: the program's own write fails, too.
fn write_own(stream: Stdio, mut bytes: &[u8]) {
    let fd = match stream {
        Stdio::Out => 1,
        Stdio::Err => 2,
    };
    while !bytes.is_empty() {
        // SAFETY: writes from a valid slice to a descriptor of ours.
        let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match written {
            1.. => bytes = &bytes[written as usize..],
            _ if nix::errno::Errno::last() == nix::errno::Errno::EINTR => {}
            _ if nix::errno::Errno::last() == nix::errno::Errno::EAGAIN => {
                let mut ready = libc::pollfd {
                    fd,
                    events: libc::POLLOUT,
                    revents: 0,
                };
                // SAFETY: one valid pollfd.
                unsafe { libc::poll(&mut ready, 1, -1) };
            }
            _ => return,
        }
    }
}

/// At the entry of a call that may write to our standard output or error: writes a mark first, with
/// the number that the event of the call's entry will have.
pub(crate) fn mark_output(session: &RecordSession, tid: Tid, call: &Call) -> Result<()> {
    if let Some(stream) = target(&call.entry).and_then(|fd| stream(tid, fd)) {
        let (process, event) = (session.world.task(tid)?.tgid, session.log.next_entry());
        write_own(stream, format!("[rr {process} {event}]").as_bytes());
    }
    Ok(())
}

/// The bytes that a call with result `result` wrote to our standard output or error.
pub(crate) fn output_of(
    session: &RecordSession,
    tid: Tid,
    call: &Call,
    result: i64,
) -> Result<Option<Output>> {
    if call.of_stream {
        return Ok(None);
    }
    if result <= 0 {
        // The mark has been written already, so replay must show it, too.
        let marked = target(&call.entry).filter(|_| session.policy.options.mark_stdio);
        return Ok(marked.and_then(|fd| stream(tid, fd)).map(|stream| Output {
            stream,
            source: OutputSource::Memory(Vec::new()),
        }));
    }
    let (result, entry) = (result as u64, &call.entry);
    let fd = |n| TraceeFd(entry.arg(n) as i32);
    let memory = &session.world.task(tid)?.memory;
    let (out, source) = match entry.syscall() {
        libc::SYS_write | libc::SYS_pwrite64 => {
            (fd(0), Some(OutputSource::Memory(vec![(Addr(entry.rsi), result)])))
        }
        libc::SYS_writev | libc::SYS_pwritev | libc::SYS_pwritev2 if stream(tid, fd(0)).is_some() => {
            let mut ranges = Vec::new();
            let mut left = result;
            for n in 0..entry.rdx.min(1024) {
                let base = Addr(memory.read_u64(Addr(entry.rsi) + n * 16)?);
                let len = memory.read_u64(Addr(entry.rsi) + n * 16 + 8)?.min(left);
                if len > 0 {
                    ranges.push((base, len));
                }
                left -= len;
            }
            (fd(0), Some(OutputSource::Memory(ranges)))
        }
        libc::SYS_sendfile | libc::SYS_copy_file_range => {
            let (out, input, offset) = match entry.syscall() {
                libc::SYS_sendfile => (fd(0), fd(1), entry.rdx),
                _ => (fd(2), fd(0), entry.rsi),
            };
            if stream(tid, out).is_none() {
                return Ok(None);
            }
            let position = if offset == 0 {
                None
            } else {
                Some(memory.read_u64(Addr(offset))?)
            };
            (
                out,
                copied(tid, input, position, result).map(|b| OutputSource::Bytes(b.into())),
            )
        }
        _ => return Ok(None),
    };
    let Some(stream) = stream(tid, out) else {
        return Ok(None);
    };
    Ok(source.map(|source| Output { stream, source }))
}
