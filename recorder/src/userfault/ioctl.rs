//! The requests of userfaultfd(2) (ioctl_userfaultfd(2)), with the kernel's errors in the kernel's order.
//!
//! Invariant: the pages that a request fills or frees are in its event, as changes of access rights and as memory.

use nix::errno::Errno;
use rr_tracee::{AddrRange, Registers, SpaceId, Stopped, Tid, TraceeFd, procfs};

use super::api::{API, Features, Mode, NEW, REQUESTS, Request, bytes_of, pages_of};
use super::create::create_by_device;
use super::fill::{Effect, Filling, fill, protect, register, unregister};
use super::key::ObjectKey;
use super::rights::set_rights;
use super::wait::wake;
use crate::call::answer::refuse_call;
use crate::call::parameters::{Answered, Failure, give_answer};
use crate::call::registers::returned;
use crate::checkpoint::snapshots::lose_snapshots;
use crate::error::Result;
use crate::memory::readable::read_as_program;
use crate::session::RecordSession;
use crate::world::model::World;
use crate::world::next::{Next, Record};

/// Bits of the modes of requests.
mod mode {
    /// `UFFDIO_COPY_MODE_DONTWAKE`, `UFFDIO_ZEROPAGE_MODE_DONTWAKE`.
    pub const DONTWAKE: u64 = 1;
    /// `UFFDIO_COPY_MODE_WP`.
    pub const COPY_PROTECTED: u64 = 2;
    /// `UFFDIO_WRITEPROTECT_MODE_WP`.
    pub const PROTECT: u64 = 1;
    /// `UFFDIO_WRITEPROTECT_MODE_DONTWAKE`.
    pub const PROTECT_DONTWAKE: u64 = 2;
}

/// A request, and the object that it is for.
#[derive(Clone, Copy)]
struct Asking {
    tid: Tid,
    /// The address space whose faults the object handles.
    id: SpaceId,
    key: ObjectKey,
    request: Request,
    /// The address of the request's structure.
    at: u64,
}

/// Handles a request.
pub(crate) fn begin_ioctl(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    entry: &Registers,
) -> Result<Next> {
    let (fd, number) = (TraceeFd(entry.rdi as i32), entry.rsi as u32);
    let Some((id, key)) = object_at(&session.world, tid, fd) else {
        let path = std::fs::read_link(procfs::fd_path(tid, fd));
        return match path {
            Ok(path) if number == NEW && path.as_os_str() == "/dev/userfaultfd" => {
                create_by_device(session, tid, stopped, entry)
            }
            Ok(_) => refuse_call(session, tid, stopped, entry, libc::ENOTTY, true),
            Err(_) => refuse_call(session, tid, stopped, entry, libc::EBADF, true),
        };
    };
    let mut effect = Effect::default();
    let answered = match Request::of(number) {
        Some(request) => {
            let at = entry.rdx;
            let asking = Asking {
                tid,
                id,
                key,
                request,
                at,
            };
            answer(&mut session.world, asking, &mut effect)
        }
        None => Err(Errno::EINVAL.into()),
    };
    let result = match answered {
        Ok(result) => result,
        Err(Failure::Refused(errno)) => -i64::from(errno as i32),
        Err(Failure::Error(error)) => return Err(error),
    };
    let Effect {
        rights,
        writes,
        woken,
    } = effect;
    let mut ops = set_rights(&mut session.world, id, rights);
    let is_own = session.world.task(tid)?.space == id;
    if !is_own && !writes.is_empty() {
        // A checkpoint may still read this memory in place.
        lose_snapshots(session, id);
    }
    for write in &writes {
        if let Some(leader) = session.world.leader(write.space) {
            session
                .world
                .task(leader)?
                .memory
                .write(write.addr, &write.data)?;
        }
    }
    if let Some(range) = woken {
        wake(&mut session.world, id, key, range)?;
    }
    if !is_own {
        let others = ops.drain(..).map(|op| (id, op));
        session.world.besides.others.extend(others);
    }
    let after = returned(entry, result);
    stopped.set_regs(&after)?;
    let record = Record {
        ops,
        writes,
        ..Record::of(entry, after)
    };
    Ok(record.then_ready(stopped))
}

/// The object that a descriptor refers to, and its address space.
fn object_at(world: &World, tid: Tid, fd: TraceeFd) -> Option<(SpaceId, ObjectKey)> {
    if !world.must_trace.userfaults {
        return None;
    }
    let key = ObjectKey::of(tid, fd)?;
    let mut spaces = world.spaces.iter();
    let (id, _) = spaces.find(|(_, space)| space.userfaults.objects.contains_key(&key))?;
    Some((*id, key))
}

fn answer(world: &mut World, asking: Asking, effect: &mut Effect) -> Answered {
    let object = world
        .spaces
        .get(&asking.id)
        .and_then(|s| s.userfaults.objects.get(&asking.key));
    let is_ready = object.is_some_and(|object| object.features.is_some());
    if asking.request != Request::Api && !is_ready {
        return Err(Errno::EINVAL.into());
    }
    let bytes = read_as_program(world, asking.tid, asking.at, asking.request.read())?;
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    let [first, second, third, fourth] = words;
    match asking.request {
        Request::Api => answer_api(world, asking, (first, second), effect),
        Request::Register => {
            let mode = Mode::of(third).ok_or(Errno::EINVAL)?;
            register(
                world,
                asking.id,
                asking.key,
                pages_of(first, second)?,
                mode,
                effect,
            )?;
            give(world, asking, 24, mode.requests(), effect)
        }
        Request::Unregister => {
            let range = pages_of(first, second)?;
            unregister(world, asking.id, asking.key, range, effect)?;
            effect.woken = Some(range);
            Ok(0)
        }
        Request::Wake => {
            effect.woken = Some(pages_of(first, second)?);
            Ok(0)
        }
        Request::Copy => {
            bytes_of(second, third)?;
            let range = pages_of(first, third)?;
            check(fourth, mode::DONTWAKE | mode::COPY_PROTECTED)?;
            let is_protected = fourth & mode::COPY_PROTECTED != 0;
            let with = Filling::Copy {
                by: asking.tid,
                from: second,
                is_protected,
            };
            let filled = fill(world, asking.id, range, with, effect);
            answer_filled(world, asking, filled, (32, fourth), effect, range)
        }
        Request::ZeroPage => {
            let range = pages_of(first, second)?;
            check(third, mode::DONTWAKE)?;
            let filled = fill(world, asking.id, range, Filling::Zero, effect);
            answer_filled(world, asking, filled, (24, third), effect, range)
        }
        Request::WriteProtect => {
            let range = pages_of(first, second)?;
            check(third, mode::PROTECT | mode::PROTECT_DONTWAKE)?;
            let is_protected = third & mode::PROTECT != 0;
            if is_protected && third & mode::PROTECT_DONTWAKE != 0 {
                return Err(Errno::EINVAL.into());
            }
            protect(world, (asking.id, asking.key), range, is_protected, effect)?;
            if third == 0 {
                effect.woken = Some(range);
            }
            Ok(0)
        }
    }
}

/// Fails if a mode has other bits.
fn check(mode: u64, bits: u64) -> std::result::Result<(), Errno> {
    if mode & !bits == 0 {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// Writes a word into the structure of the request.
fn give(world: &World, asking: Asking, offset: u64, word: u64, effect: &mut Effect) -> Answered {
    let at = asking.at.wrapping_add(offset);
    give_answer(world, asking.tid, at, &word.to_le_bytes(), &mut effect.writes)
}

/// `UFFDIO_API`: the program and the object agree on the features, once.
fn answer_api(world: &mut World, asking: Asking, (api, bits): (u64, u64), effect: &mut Effect) -> Answered {
    let objects = &mut world.space_mut(asking.id).userfaults.objects;
    let Some(object) = objects.get_mut(&asking.key) else {
        return Err(Errno::EINVAL.into());
    };
    let features = Features::of(bits).filter(|_| api == API && object.features.is_none());
    if let Some(features) = features {
        object.features = Some(features);
    }
    let words = match features {
        Some(_) => [API, Features::OFFERED.bits(), REQUESTS],
        None => [0; 3],
    };
    let bytes = words.map(u64::to_le_bytes);
    give_answer(
        world,
        asking.tid,
        asking.at,
        bytes.as_flattened(),
        &mut effect.writes,
    )?;
    features.map(|_| 0).ok_or(Errno::EINVAL.into())
}

/// The answer of a request that has filled some pages, or none. The word at the offset tells how many bytes, or the error.
fn answer_filled(
    world: &World,
    asking: Asking,
    filled: Answered<u64>,
    (offset, mode): (u64, u64),
    effect: &mut Effect,
    range: AddrRange,
) -> Answered {
    let word = match &filled {
        Ok(bytes) => *bytes,
        Err(Failure::Refused(errno)) => -i64::from(*errno as i32) as u64,
        Err(Failure::Error(_)) => return filled.map(|_| 0),
    };
    give(world, asking, offset, word, effect)?;
    let bytes = filled?;
    if mode & mode::DONTWAKE == 0 {
        effect.woken = Some(AddrRange::sized(range.start, bytes));
    }
    if bytes < range.len() {
        return Err(Errno::EAGAIN.into());
    }
    Ok(0)
}
