//! Address spaces of a replay: the model, and the same operations on real memory.

use rr_trace::TraceReader;
use rr_tracee::memory::ReadMemory;
use rr_tracee::objects::exposed;
use rr_tracee::remote::{Remote, RemoteCall};
use rr_tracee::{
    Addr, AddrRange, AddressSpace, Backing, ForkPolicy, Mapping, Memory, SpaceOp, Stopped, madv, rr_area,
};

use crate::backings::Backings;
use crate::failure::Failure;

/// Closes descriptors of the replayed tasks' common table.
pub(crate) fn close(stopped: Stopped, fds: &[i32]) -> rr_tracee::Result<Stopped> {
    if fds.is_empty() {
        return Ok(stopped);
    }
    let mut remote = Remote::ours(stopped)?;
    for fd in fds {
        remote = remote
            .must("close", libc::SYS_close, [*fd as u64, 0, 0, 0, 0, 0])?
            .0;
    }
    remote.finish()
}

/// Carries out operations in the address space of a stopped task. Calls that must succeed are made
/// together, because each stop costs more than most of the calls.
pub(crate) fn perform(
    stopped: Stopped,
    ops: &[SpaceOp],
    backings: &mut Backings,
    reader: &TraceReader,
) -> Result<Stopped, Failure> {
    if ops.is_empty() {
        return Ok(stopped);
    }
    let real = stopped.tid();
    let mut remote = Remote::ours(stopped)?;
    let mut calls = Vec::new();
    for op in ops {
        check(op)?;
        match op {
            SpaceOp::Map(mapping) => {
                remote = map(remote, mapping, &mut calls, backings, reader)?;
                // A mapping of an image has its own policy.
                let advice = match mapping.fork {
                    ForkPolicy::Copy => continue,
                    ForkPolicy::Omit => madv::DONTFORK,
                    ForkPolicy::Wipe => madv::WIPEONFORK,
                };
                remote = remote.all(&std::mem::take(&mut calls))?;
                remote = advise(remote, mapping.range, advice)?;
            }
            SpaceOp::Unmap(range) => calls.push(RemoteCall::unmap(*range)),
            SpaceOp::Protect(range, prot) => calls.push(RemoteCall {
                what: "mprotect",
                number: libc::SYS_mprotect,
                args: [range.start.0, range.len(), u64::from(prot.0), 0, 0, 0],
            }),
            SpaceOp::Move { from, to, keep } => {
                let keep = if *keep { libc::MREMAP_DONTUNMAP } else { 0 };
                let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | keep) as u64;
                calls.push(RemoteCall {
                    what: "mremap",
                    number: libc::SYS_mremap,
                    args: [from.start.0, from.len(), from.len(), flags, to.0, 0],
                });
            }
            SpaceOp::Discard(range) => {
                remote = remote.all(&std::mem::take(&mut calls))?;
                remote = advise(remote, *range, madv::DONTNEED)?;
            }
            SpaceOp::SetFork(range, policy) => {
                remote = remote.all(&std::mem::take(&mut calls))?;
                let advice: &[i32] = match policy {
                    ForkPolicy::Omit => &[madv::DONTFORK],
                    ForkPolicy::Wipe => &[madv::WIPEONFORK],
                    ForkPolicy::Copy => &[madv::DOFORK, madv::KEEPONFORK],
                };
                for advice in advice {
                    remote = advise(remote, *range, *advice)?;
                }
            }
            SpaceOp::ResizeObject { object, size } => {
                remote = remote.all(&std::mem::take(&mut calls))?;
                backings.resize_object(*object, *size)?;
            }
            SpaceOp::CreateObject {
                object,
                size,
                content,
            } => {
                remote = remote.all(&std::mem::take(&mut calls))?;
                // Memory that the same event makes writable need not be the file first.
                let nowhere = AddressSpace::new();
                let may_change = ops.iter().any(|op| exposed(op, &nowhere).contains(object));
                let object = (*object, *size, *content);
                remote = backings.create_object(remote, real, reader, object, may_change)?;
            }
        }
    }
    Ok(remote.all(&calls)?.finish()?)
}

/// `madvise`. Ignores holes, as the recorded call did, and kinds of memory that the advice is not for.
fn advise(remote: Remote, range: AddrRange, advice: i32) -> Result<Remote, Failure> {
    let (remote, result) = remote.call(
        libc::SYS_madvise,
        [range.start.0, range.len(), advice as u64, 0, 0, 0],
    )?;
    let tolerable = [-i64::from(libc::ENOMEM), -i64::from(libc::EINVAL)];
    if result == 0 || tolerable.contains(&result) && advice != madv::DONTNEED || result == tolerable[0] {
        return Ok(remote);
    }
    let tid = remote.finish()?.tid();
    let errno = nix::errno::Errno::from_raw(-result as i32);
    Err(rr_tracee::Error::Kernel {
        tid,
        what: "madvise",
        errno,
    }
    .into())
}

/// Adds the calls that make a mapping.
fn map(
    remote: Remote,
    mapping: &Mapping,
    calls: &mut Vec<RemoteCall>,
    backings: &mut Backings,
    reader: &TraceReader,
) -> Result<Remote, Failure> {
    let range = mapping.range;
    // The part that the descriptor backs.
    let mut backed = range;
    // Finds the descriptor and the offset that back the mapping.
    let (mut remote, sharing, fd, offset) = match mapping.backing {
        // rr's own mappings exist already.
        Backing::Rr => return Ok(remote),
        Backing::Anonymous => (remote, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
        Backing::File { file, offset } => {
            let (remote, mapped) = backings.file(remote, reader, file)?;
            if let Some(end) = mapped.end {
                let there = end.saturating_sub(offset).min(range.len());
                backed = AddrRange::sized(range.start, there);
            }
            let offset = mapped.start.checked_add(offset);
            let offset =
                offset.ok_or_else(|| Failure::Bad("a mapping beyond the end of all files".into()))?;
            (remote, libc::MAP_PRIVATE, mapped.fd, offset)
        }
        Backing::Shared { object, offset } | Backing::CopyOnWrite { object, offset } => {
            let fd = backings.objects.get(&object).map(|o| o.fd).ok_or_else(|| {
                Failure::Bad(format!(
                    "it maps the shared memory object {}, which does not exist",
                    object.0
                ))
            })?;
            let sharing = match mapping.backing {
                Backing::Shared { .. } => libc::MAP_SHARED,
                _ => libc::MAP_PRIVATE,
            };
            (remote, sharing, fd, offset)
        }
    };
    // Maps the part that the descriptor backs, then the rest.
    let flags = sharing | libc::MAP_FIXED | libc::MAP_NORESERVE;
    let mut map_part = |part: AddrRange, fd: i32, offset| {
        let prot = u64::from(mapping.prot.0);
        calls.push(RemoteCall {
            what: "mmap",
            number: libc::SYS_mmap,
            args: [
                part.start.0,
                part.len(),
                prot,
                flags as u64,
                fd as i64 as u64,
                offset,
            ],
        });
    };
    if !backed.is_empty() {
        map_part(backed, fd, offset);
    }
    // Behind the end of a member of a pack there are other members.
    if backed.end < range.end {
        let empty;
        (remote, empty) = backings.empty(remote)?;
        map_part(AddrRange::new(backed.end, range.end), empty, 0);
    }
    Ok(remote)
}

/// The bytes at these places of a task's memory, one after the other. Lengths in a trace are not
/// trusted: the memory allocated is at most what can be read, and what one system call can write.
pub(crate) fn collect(memory: &Memory, ranges: &[(Addr, u64)]) -> Result<Vec<u8>, Failure> {
    /// `MAX_RW_COUNT` of the kernel (write(2)).
    const MOST: u64 = 0x7fff_f000;
    const PIECE: u64 = 1 << 20;
    let mut bytes = Vec::new();
    for (addr, len) in ranges {
        if bytes.len() as u64 + len.min(&MOST) > MOST || *len > MOST {
            return Err(Failure::Bad(
                "more output than one system call can write".to_owned(),
            ));
        }
        let mut done = 0;
        while done < *len {
            let now = PIECE.min(len - done);
            bytes.extend(memory.read_vec(*addr + done, now as usize)?);
            done += now;
        }
    }
    Ok(bytes)
}

/// A trace must not change rr's own pages, which contain the instruction for our system calls.
fn check(op: &SpaceOp) -> Result<(), Failure> {
    let own = |range: &AddrRange| range.to_pages().intersect(rr_area::area()).is_some();
    let allowed = match op {
        SpaceOp::Map(mapping) if mapping.backing == Backing::Rr => {
            rr_area::area().intersect(mapping.range) == Some(mapping.range)
        }
        SpaceOp::Map(Mapping { range, .. })
        | SpaceOp::Unmap(range)
        | SpaceOp::Protect(range, _)
        | SpaceOp::Discard(range)
        | SpaceOp::SetFork(range, _) => !own(range),
        SpaceOp::Move { from, to, .. } => !own(from) && !own(&AddrRange::sized(*to, from.len())),
        SpaceOp::CreateObject { .. } | SpaceOp::ResizeObject { .. } => true,
    };
    if allowed {
        Ok(())
    } else {
        Err(Failure::Bad(format!("a change of rr's own memory ({op:?})")))
    }
}

/// Returns whether a write would change the code of our system calls.
pub(crate) fn hits_our_code(addr: Addr, len: usize) -> bool {
    let code = rr_area::code();
    AddrRange::sized(addr, len as u64).intersect(code).is_some()
}
