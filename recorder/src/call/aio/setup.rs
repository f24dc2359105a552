//! `io_setup` and `io_destroy`, and the kernel's name of a context in the calls between.

use rr_tracee::remote::{Remote, RemoteCall};
use rr_tracee::{
    Addr, AddrRange, Backing, ForkPolicy, Mapping, Prot, Registers, SpaceOp, Stopped, Tid, procfs,
};

use crate::buffer::restore::apply_ops;
use crate::call::enter::enter_blocking_call;
use crate::call::record::gather_writes;
use crate::error::Result;
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::model::World;
use crate::world::next::{Next, Record};

/// Number of io_pgetevents(2).
const IO_PGETEVENTS: i64 = 333;

/// The ring of the context that a call names in its first argument.
pub(crate) fn ring_of(world: &World, tid: Tid, entry: &Registers) -> Option<AddrRange> {
    let space = world.spaces.get(&world.tasks.get(&tid)?.space)?;
    space.aio.ring(Addr(entry.rdi))
}

/// At the entry of a call that is only recorded: gives the kernel its own name of the context.
pub(crate) fn name_ring(world: &World, tid: Tid, entry: &Registers, stopped: &mut Stopped) -> Result<()> {
    let names_context = matches!(
        entry.syscall(),
        libc::SYS_io_getevents | IO_PGETEVENTS | libc::SYS_io_cancel
    );
    // Most calls name no context: nothing is looked up for them.
    if names_context && let Some(ring) = ring_of(world, tid, entry) {
        let regs = stopped.regs()?;
        stopped.set_regs(&Registers {
            rdi: ring.start.0,
            ..regs
        })?;
    }
    Ok(())
}

/// Handles the exit of `io_setup`: moves the ring away, and maps empty memory in its place.
pub(crate) fn finish_setup(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    call: &Call,
    raw: Registers,
) -> Result<Next> {
    let mut after = raw.outside_call();
    let mut writes = gather_writes(&session.world, tid, call, raw.result())?;
    let mut ops = Vec::new();
    let name = writes.first().filter(|_| raw.result() == 0);
    let name = name.and_then(|write| write.data.first_chunk());
    let name = name.map(|bytes| Addr(u64::from_le_bytes(*bytes)));
    let lines = procfs::maps(tid)?;
    let ring = name.and_then(|name| lines.iter().find(|line| line.range.start == name));
    let (tgid, id) = (session.world.task(tid)?.tgid, session.world.task(tid)?.space);
    let mut remote = Remote::new(stopped, tgid)?;
    if let Some(range) = ring.map(|line| line.range) {
        match session.world.space_mut(id).aio.place(range.len()) {
            Some(place) => {
                remote = remote.all(&hide(range, place))?;
                session.world.space_mut(id).aio.add(range.start, place);
                ops.push(SpaceOp::Map(Mapping {
                    range,
                    prot: Prot::RW,
                    backing: Backing::Anonymous,
                    fork: ForkPolicy::Copy,
                    name: "".into(),
                }));
            }
            None => {
                // As if the system had no room for so many requests.
                let args = [range.start.0, 0, 0, 0, 0, 0];
                (remote, _) = remote.call(libc::SYS_io_destroy, args)?;
                writes.clear();
                session
                    .world
                    .task(tid)?
                    .memory
                    .write(Addr(call.entry.rsi), &[0; 8])?;
                after.rax = -i64::from(libc::EAGAIN) as u64;
            }
        }
    }
    remote.set_saved(after);
    let stopped = remote.finish()?;
    apply_ops(&mut session.world, tid, id, &ops, false, &mut writes)?;
    let record = Record {
        ops,
        writes,
        ..Record::of(&call.entry, after)
    };
    Ok(record.then_ready(stopped))
}

/// Moves a ring to `place`, out of the sight of forks, which would share it.
fn hide(ring: AddrRange, place: AddrRange) -> [RemoteCall; 3] {
    let moves = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let call = |what, number, args| RemoteCall { what, number, args };
    [
        call(
            "moving a ring of io_setup",
            libc::SYS_mremap,
            [
                ring.start.0,
                ring.len(),
                ring.len(),
                moves as u64,
                place.start.0,
                0,
            ],
        ),
        call(
            "keeping a ring of io_setup from forks",
            libc::SYS_madvise,
            [place.start.0, place.len(), libc::MADV_DONTFORK as u64, 0, 0, 0],
        ),
        RemoteCall::map_anonymous(ring, Prot::RW, 0),
    ]
}

/// Handles the entry of `io_destroy`. It waits for calls of other tasks that use the context.
pub(crate) fn begin_destroy(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    call: Call,
) -> Result<Next> {
    if let Some(ring) = ring_of(&session.world, tid, &call.entry) {
        stopped.set_regs(&Registers {
            rdi: ring.start.0,
            ..call.entry
        })?;
    }
    enter_blocking_call(session, tid, stopped, call)
}

/// Handles the exit of `io_destroy`: the kernel has unmapped the ring, and what stands in its place goes, too.
pub(crate) fn finish_destroy(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    call: &Call,
    raw: Registers,
) -> Result<Next> {
    let after = raw.with_arguments_of(&call.entry).outside_call();
    stopped.set_regs(&after)?;
    let (tgid, id) = (session.world.task(tid)?.tgid, session.world.task(tid)?.space);
    let (mut ops, mut writes) = (Vec::new(), Vec::new());
    let name = Addr(call.entry.rdi);
    // If the call failed, another one is destroying the context, or there is none.
    let contexts = &mut session.world.space_mut(id).aio;
    let destroyed = (after.result() == 0).then(|| contexts.remove(name)).flatten();
    if let Some(ring) = destroyed {
        let range = AddrRange::sized(name, ring.len());
        stopped = Remote::new(stopped, tgid)?
            .all(&[RemoteCall::unmap(range)])?
            .finish()?;
        ops.push(SpaceOp::Unmap(range));
    }
    apply_ops(&mut session.world, tid, id, &ops, false, &mut writes)?;
    let record = Record {
        ops,
        writes,
        ..Record::of(&call.entry, after)
    };
    Ok(record.then_ready(stopped))
}
