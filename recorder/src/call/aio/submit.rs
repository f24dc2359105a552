//! `io_submit`: its requests are done when its event is recorded.

use std::collections::HashMap;
use std::time::Duration;

use rr_trace::event::{MemWrite, Output, OutputSource};
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, AddrRange, Memory, Registers, SpaceId, SpaceOp, Stopped, Tid, TraceeFd, procfs};

use super::requests::{KEY, Purpose, Request, Submission, requests};
use super::ring::{completions, tail};
use super::setup::ring_of;
use crate::call::enter::{enter_blocking_call, enter_call};
use crate::call::output::output_of;
use crate::call::plain_file::is_plain_file;
use crate::call::record::make_again;
use crate::call::redirect::grow_scratch;
use crate::call::registers::before_call;
use crate::error::Result;
use crate::memory::objects::object_effect;
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::next::{Next, Record};

/// Size of `struct pollfd`.
const POLL_FD: u64 = 8;

/// Longest pause between two looks at a completion ring.
const PAUSE_MOST: Duration = Duration::from_millis(1);

/// Maximum number of bytes that one request transfers (`MAX_RW_COUNT`, read(2)).
const TRANSFER_MOST: u64 = 0x7fff_f000;

/// The requests that the kernel gets by this call.
enum Group {
    /// So many, of which none waits for another task.
    Files(usize),
    /// The first one alone, which may.
    Alone,
}

/// The first requests of a call that can be submitted together.
fn first_group(tid: Tid, requests: &[Request]) -> Group {
    let waits = |request: &Request| match request.purpose {
        Purpose::Poll | Purpose::Other => false,
        Purpose::Read(_) | Purpose::Write(_) => !is_plain_file(tid, request.fd),
    };
    match requests.iter().position(waits) {
        Some(0) => Group::Alone,
        Some(count) => Group::Files(count),
        None => Group::Files(requests.len()),
    }
}

/// Handles the entry of `io_submit`.
pub(crate) fn begin_submit(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    call: Call,
) -> Result<Next> {
    let entry = call.entry;
    let Some(ring) = ring_of(&session.world, tid, &entry) else {
        // The kernel's own error.
        return enter_call(&mut session.world, tid, stopped, call, false);
    };
    let task = session.world.task(tid)?;
    let mut requests = requests(&task.memory, &entry)?;
    let (count, may_wait) = match first_group(tid, &requests) {
        Group::Files(count) => (count, false),
        Group::Alone => (1, true),
    };
    let mut made = Registers {
        rdi: ring.start.0,
        ..entry
    };
    // Otherwise the kernel comes to the first request that cannot be read, and says so.
    if count < requests.len() {
        made.rsi = count as u64;
        requests.truncate(count);
    }
    let (mut submission, from) = (None, tail(&task.memory, ring.start)?);
    if let Some(Request {
        fd,
        purpose: Purpose::Read(_),
        ..
    }) = requests.first().filter(|_| may_wait)
        && !is_readable(task.tgid, *fd)
    {
        let id = task.space;
        match session.world.space_mut(id).scratch.take(POLL_FD) {
            Err(end) => return grow_scratch(session, tid, stopped, &entry, id, end),
            Ok(None) => {}
            Ok(Some(scratch)) => {
                let poll = u64::from(fd.0 as u32) | (libc::POLLIN as u64) << 32;
                let task = session.world.task_mut(tid)?;
                task.at_call.scratch = Some(scratch);
                task.memory.write(scratch.start, &poll.to_le_bytes())?;
                made = Registers {
                    orig_rax: libc::SYS_poll as u64,
                    rdi: scratch.start.0,
                    rsi: 1,
                    rdx: u64::MAX,
                    ..entry
                };
                submission = Some(Submission::Waits);
            }
        }
    }
    let ring = ring.start;
    let submission = submission.unwrap_or(Submission::Made { ring, from, requests });
    session.world.task_mut(tid)?.at_call.submission = Some(Box::new(submission));
    stopped.set_regs(&made)?;
    match may_wait {
        true => enter_blocking_call(session, tid, stopped, call),
        false => enter_call(&mut session.world, tid, stopped, call, false),
    }
}

/// Returns whether a request to read would not wait. (Also if nobody can tell.)
fn is_readable(tgid: Tid, fd: TraceeFd) -> bool {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    let descriptor = |fd: libc::c_long| {
        // SAFETY: the kernel has just made the descriptor for us.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as i32) })
    };
    // SAFETY: the call has no pointers.
    let process = descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, tgid.0, 0) });
    let Some(process) = process else { return true };
    // SAFETY: the same.
    let copy = descriptor(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd.0, 0) });
    let Some(copy) = copy else { return true };
    let mut poll = libc::pollfd {
        fd: copy.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: `poll` is one structure.
    unsafe { libc::poll(&mut poll, 1, 0) != 0 }
}

/// Handles the exit of `io_submit`.
pub(crate) fn finish_submit(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    call: &Call,
    raw: Registers,
) -> Result<Next> {
    let after = raw.with_arguments_of(&call.entry).outside_call();
    let submission = session.world.task_mut(tid)?.at_call.submission.take();
    let mut effects = Effects::default();
    match submission.as_deref() {
        Some(Submission::Waits) => {
            // The descriptor can be read, or a signal has come. The task makes the call again.
            stopped.set_regs(&before_call(&call.entry))?;
            return make_again(session, tid, stopped, &call.entry);
        }
        Some(Submission::Made { ring, from, requests }) => {
            let taken = usize::try_from(raw.result()).unwrap_or(0).min(requests.len());
            let task = session.world.task(tid)?;
            let results = wait_for_ends(&task.memory, (*ring, *from), &requests[..taken])?;
            // One more: the kernel may have found a mistake after it had set the key.
            effects
                .writes
                .extend(requests.iter().take(taken + 1).filter_map(|request| {
                    let data = task.memory.read_vec(request.at + KEY, 4).ok()?;
                    let (space, addr) = (task.space, request.at + KEY);
                    Some(MemWrite { space, addr, data })
                }));
            for (request, result) in requests.iter().zip(results) {
                if let Some(result) = result {
                    effects.add(session, tid, request, result)?;
                }
            }
        }
        None => {}
    }
    stopped.set_regs(&after)?;
    let Effects { ops, writes, output } = effects;
    let record = Record {
        ops,
        writes,
        output,
        ..Record::of(&call.entry, after)
    };
    Ok(record.then_ready(stopped))
}

/// Waits until these requests are done, apart from polls. Returns their results.
fn wait_for_ends(
    memory: &Memory,
    (ring, from): (Addr, u32),
    requests: &[Request],
) -> Result<Vec<Option<i64>>> {
    let mut pause = Duration::from_micros(10);
    let is_awaited = |request: &&Request| !matches!(request.purpose, Purpose::Poll);
    let awaited = requests.iter().filter(is_awaited).count();
    loop {
        // A program may submit a request several times.
        let mut ends: HashMap<Addr, Vec<i64>> = HashMap::new();
        for end in completions(memory, ring, from)? {
            ends.entry(end.request).or_default().push(end.result);
        }
        let mut result = |request: &Request| ends.get_mut(&request.at)?.pop();
        let awaited_result = |request| is_awaited(&request).then(|| result(request)).flatten();
        let results: Vec<Option<i64>> = requests.iter().map(awaited_result).collect();
        if results.iter().flatten().count() == awaited {
            return Ok(results);
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(PAUSE_MOST);
    }
}

/// The effects of requests.
#[derive(Default)]
struct Effects {
    ops: Vec<SpaceOp>,
    writes: Vec<MemWrite>,
    output: Option<Output>,
}

impl Effects {
    /// Adds the effect of a request that has ended with this result: on memory, on mappings of its file, and on our own output.
    fn add(&mut self, session: &mut RecordSession, tid: Tid, request: &Request, result: i64) -> Result<()> {
        match &request.purpose {
            Purpose::Read(buffers) => {
                let task = session.world.task(tid)?;
                let is_direct = procfs::fd_flags(tid, request.fd) & libc::O_DIRECT as u64 != 0;
                // Where the file ends, direct input may write beyond it. After an error, nothing says how much was written.
                let len = match u64::try_from(result) {
                    Ok(read) if !is_direct => read,
                    _ => u64::MAX,
                };
                self.writes
                    .extend(filled(&task.memory, task.space, buffers, len)?);
            }
            Purpose::Write(entry) if result > 0 => {
                let call = Call::new(*entry);
                let output = output_of(session, tid, &call, result)?;
                self.add_output(output);
                let (ops, shown) = object_effect(session, tid, &call, result)?;
                self.ops.extend(ops);
                self.writes.extend(shown);
            }
            Purpose::Write(_) | Purpose::Poll | Purpose::Other => {}
        }
        Ok(())
    }

    /// Adds output after that of earlier requests. (Our output and our error output are usually the same file, if both are files,
    /// and else the requests come one by one.)
    fn add_output(&mut self, output: Option<Output>) {
        match (&mut self.output, output) {
            (Some(all), Some(more)) => {
                if let (OutputSource::Memory(all), OutputSource::Memory(more)) =
                    (&mut all.source, more.source)
                {
                    all.extend(more);
                }
            }
            (all, more @ Some(_)) => *all = more,
            (_, None) => {}
        }
    }
}

/// The first `len` bytes of these buffers, or those of them that exist.
fn filled(memory: &Memory, space: SpaceId, buffers: &[AddrRange], len: u64) -> Result<Vec<MemWrite>> {
    let mut left = len;
    let mut writes = Vec::new();
    for buffer in buffers {
        let wanted = buffer.len().min(left);
        let data = memory.read_up_to(buffer.start, wanted.min(TRANSFER_MOST) as usize)?;
        left -= wanted;
        if !data.is_empty() {
            writes.push(MemWrite {
                space,
                addr: buffer.start,
                data,
            });
        }
    }
    Ok(writes)
}
