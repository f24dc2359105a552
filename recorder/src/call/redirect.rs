//! The outputs of a call that may block, in scratch memory instead of the program's (I3).
//!
//! Invariant: a pointer that is not moved stays as the program gave it. So the kernel finds its errors.

use rr_tracee::memory::ReadMemory;
use rr_tracee::remote::Remote;
use rr_tracee::syscalls::{Holder, Part};
use rr_tracee::{Addr, AddrRange, AddressSpace, Memory, Prot, Registers, SpaceId, Stopped, Tid, rr_area};

use crate::call::record::make_again;
use crate::call::registers::{before_call, returned};
use crate::call::scratch::STEP;
use crate::error::Result;
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::model::World;
use crate::world::next::Next;

/// Amount of scratch memory that a call needs.
pub(crate) fn room_for(parts: &[Part]) -> u64 {
    parts
        .iter()
        .fold(0u64, |sum, part| {
            sum.saturating_add(part.len.saturating_add(15) & !15)
        })
        .max(1)
}

/// Moves the parts of a call into scratch memory: copies the bytes that the kernel reads, and changes
/// the arguments and the pointers in earlier parts. `None` if the call refers to no memory.
///
/// A buffer that does not fit is shortened, if an argument or iovec holds its size: for calls that
/// block, fewer bytes are a valid answer. A part that cannot be shortened stays in place, and so does
/// one that the program may not access: the kernel must find that error.
pub(crate) fn redirect(
    call: &mut Call,
    space: &AddressSpace,
    memory: &Memory,
    scratch: AddrRange,
    stopped: &mut Stopped,
) -> Result<Option<Vec<Addr>>> {
    if call.parts.is_empty() {
        return Ok(None);
    }
    let number = call.entry.syscall();
    let mut at = scratch.start;
    let mut regs = call.entry;
    let mut redirected: Vec<Addr> = Vec::with_capacity(call.parts.len());
    let mut pointers = Vec::new();
    // A part whose holder stays in place cannot be moved, because the pointer is in the program's own
    // memory.
    let parts_addr: Vec<Addr> = call.parts.iter().map(|p| p.addr).collect();
    let holders: Vec<usize> = call
        .parts
        .iter()
        .filter_map(|p| {
            if let Holder::Within { part, .. } = p.holder {
                Some(part)
            } else {
                None
            }
        })
        .collect();
    for (n, part) in call.parts.iter_mut().enumerate() {
        let left = scratch.end - at;
        let clipped = part.len > left;
        let rights = if holders.contains(&n) {
            Prot::READ
        } else {
            Prot::WRITE
        };
        let movable = match part.holder {
            Holder::Arg(_) => !clipped || length_argument(number).is_some(),
            Holder::Within { part: outer, .. } => {
                redirected[outer] != parts_addr[outer] && (!clipped || is_iovec(number, outer)) && left > 0
            }
        };
        // Only the shortened part of the buffer must exist: some programs pass the maximum as size.
        let len = part.len.min(left);
        if !movable || !space.grants(AddrRange::sized(part.addr, len), rights) {
            redirected.push(part.addr);
            continue;
        }
        part.len = len;
        match part.holder {
            Holder::Arg(n) => {
                regs.set_arg(n.into(), at.0);
                if let Some(arg) = length_argument(number).filter(|_| clipped) {
                    regs.set_arg(arg, part.len);
                }
            }
            Holder::Within { part: outer, offset } => {
                let holder = redirected[outer] + offset;
                pointers.push((holder, at.0));
                if clipped {
                    pointers.push((holder + 8, part.len));
                }
            }
        }
        if part.copy_in && part.len > 0 {
            memory.write(at, &memory.read_vec(part.addr, part.len as usize)?)?;
        }
        redirected.push(at);
        at = Addr((at.0 + part.len + 15) & !15).min(scratch.end);
    }
    for (holder, value) in pointers {
        memory.write(holder, &value.to_le_bytes())?;
    }
    stopped.set_regs(&regs)?;
    Ok(Some(redirected))
}

/// Returns whether pointers within this part of a call are those of an iovec, each followed by its
/// length as a 64-bit word.
fn is_iovec(number: i64, holder: usize) -> bool {
    match number {
        libc::SYS_readv | libc::SYS_preadv | libc::SYS_preadv2 => true,
        // Part 0 is the msghdr itself.
        libc::SYS_recvmsg => holder != 0,
        _ => false,
    }
}

/// The argument with the size in bytes of the buffer of a call that may block. A smaller size is a
/// valid request.
fn length_argument(number: i64) -> Option<usize> {
    match number {
        libc::SYS_read | libc::SYS_pread64 | libc::SYS_recvfrom => Some(2),
        libc::SYS_getrandom => Some(1),
        _ => None,
    }
}

/// Releases the task's scratch memory.
pub(crate) fn release_scratch(world: &mut World, tid: Tid) {
    let Some(task) = world.tasks.get_mut(&tid) else {
        return;
    };
    let (id, range) = (task.space, task.at_call.scratch.take());
    if let (Some(range), Some(space)) = (range, world.spaces.get_mut(&id)) {
        space.scratch.release(range);
    }
}

/// Maps scratch memory at least up to `end`. The task, which stands at the entry of a call, comes
/// there again.
pub(crate) fn grow_scratch(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    entry: &Registers,
    id: SpaceId,
    end: Addr,
) -> Result<Next> {
    // The call is not made now (as in `answer`).
    stopped.set_regs(&returned(entry, 0))?;
    let from = session.world.space_mut(id).scratch.end;
    let to = Addr(end.0.next_multiple_of(STEP)).min(rr_area::SCRATCH_END);
    let mut remote = Remote::new(stopped, session.world.task(tid)?.tgid)?;
    remote.set_saved(before_call(entry));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    let args = [
        from.0,
        to.0 - from.0,
        u64::from(Prot::RW.0),
        flags as u64,
        u64::MAX,
        0,
    ];
    let (remote, result) = remote.call(libc::SYS_mmap, args)?;
    let stopped = remote.finish()?;
    let scratch = &mut session.world.space_mut(id).scratch;
    if result == from.0 as i64 {
        scratch.end = to;
    } else {
        scratch.exhausted = true;
    }
    make_again(session, tid, stopped, entry)
}
