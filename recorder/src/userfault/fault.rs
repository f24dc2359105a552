//! Page faults of the program that userfaultfd(2) is to handle.
//!
//! A missing page has no access rights, so an access to it stops the task with a `SIGSEGV`, at the very instruction, and so it
//! does in replay. The event is a [`Trap`] that leaves the registers as they are: replay makes nothing of it but the end of an interval.
//!
//! [`Trap`]: rr_trace::event::EventKind::Trap

use rr_trace::event::EventKind;
use rr_tracee::code::{self, INSTRUCTION_MOST};
use rr_tracee::task::{Resume, SigInfo, si_addr, si_code, siginfo_at};
use rr_tracee::{Addr, AddrRange, Registers, Stopped, Tid, procfs};

use super::api::message;
use super::key::ObjectKey;
use super::regions::{Access, Fault};
use super::rights::make_due;
use super::state::{PageWait, Phase};
use super::wait::begin_wait;
use crate::buffer::control::take_records;
use crate::error::Result;
use crate::log::events::emit;
use crate::session::RecordSession;
use crate::signal::forced::{force_default, undo_force};
use crate::signal::numbers::bit;
use crate::world::next::{Next, Until};

/// `SEGV_ACCERR`: the page is mapped, and its rights do not allow the access.
const SEGV_ACCERR: i32 = 2;

/// `BUS_ADRERR`.
const BUS_ADRERR: i32 = 2;

/// The way in which a `SIGSEGV` is handled.
pub(crate) enum Handled {
    /// It is an ordinary fault.
    No(Stopped),
    /// The task goes on like this.
    Yes(Next),
    /// The task gets this signal at the same place.
    BySignal(Stopped, SigInfo),
}

/// A task has stopped with a `SIGSEGV`. Handles that if userfaultfd(2) is to handle the fault.
pub(crate) fn on_page_fault(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    info: &SigInfo,
    regs: &Registers,
) -> Result<Handled> {
    let id = session.world.task(tid)?.space;
    let Some(space) = session.world.spaces.get(&id) else {
        return Ok(Handled::No(stopped));
    };
    if si_code(info) != SEGV_ACCERR || (space.userfaults.due.is_empty() && !space.userfaults.has_regions()) {
        return Ok(Handled::No(stopped));
    }
    if !space.userfaults.due.is_empty() {
        // The task went on with the rights of before, because it could make no calls then.
        let stopped = undo_force(&mut session.world, tid, stopped, info)?;
        let stopped = make_due(&mut session.world, tid, stopped)?;
        let running = stopped.resume(Resume::Cont, None)?;
        return Ok(Handled::Yes(Next::Wait(running, Until::Stop)));
    }
    let addr = si_addr(info);
    let access = access(session, tid, regs, addr)?;
    let regions = &session.world.spaces[&id].userfaults.regions;
    let Some(fault) = regions.fault(addr, access) else {
        return Ok(Handled::No(stopped));
    };
    let mut stopped = undo_force(&mut session.world, tid, stopped, info)?;
    take_records(session, tid)?;
    let at = regs.outside_call();
    emit(session, tid, EventKind::Trap { at, after: at }, vec![], vec![])?;
    session.world.task_mut(tid)?.interval.boundary = at;
    let objects = &session.world.spaces[&id].userfaults.objects;
    let features = objects.get(&fault.owner).and_then(|object| object.features);
    let features = features.unwrap_or_default();
    if features.are_faults_signals() {
        let table = procfs::signal_dispositions(tid)?;
        if (table.blocked | table.ignored) & bit(libc::SIGBUS) != 0 {
            stopped = force_default(&mut session.world, tid, stopped, libc::SIGBUS)?;
        }
        let info = siginfo_at(libc::SIGBUS, BUS_ADRERR, addr);
        stopped.set_siginfo(&info)?;
        return Ok(Handled::BySignal(stopped, info));
    }
    let shown = match features.give_addresses() {
        true => addr,
        false => addr.page_floor(),
    };
    let thread = match features.name_threads() {
        true => procfs::numbers(tid).last().map_or(0, |number| *number as u32),
        false => 0,
    };
    let Fault {
        owner,
        cause,
        is_write,
    } = fault;
    send(session, tid, owner, message(cause, is_write, shown, thread));
    let wait = PageWait {
        owner,
        page: addr.page_floor(),
        phase: Phase::Standing,
        regs: at,
        xstate: None,
    };
    begin_wait(session, tid, &stopped, wait)?;
    Ok(Handled::Yes(Next::Ready(stopped)))
}

fn send(session: &mut RecordSession, tid: Tid, owner: ObjectKey, bytes: [u8; super::api::MESSAGE]) {
    let space = session.world.tasks.get(&tid).map(|t| t.space);
    let space = space.and_then(|id| session.world.spaces.get_mut(&id));
    if let Some(object) = space.and_then(|s| s.userfaults.objects.get_mut(&owner)) {
        object.send(tid, bytes);
    }
}

/// The access of the task's instruction that has failed at `addr`.
fn access(session: &RecordSession, tid: Tid, regs: &Registers, addr: Addr) -> Result<Access> {
    // The processor fetches the instruction before it executes it.
    let fetched = AddrRange::sized(Addr(regs.rip), INSTRUCTION_MOST as u64);
    let task = session.world.task(tid)?;
    let sites = &session.world.spaces[&task.space].library.sites;
    let bytes = sites.read_code(&task.memory, Addr(regs.rip), INSTRUCTION_MOST)?;
    let Some(instruction) = code::decode(&bytes, Addr(regs.rip)) else {
        return Ok(match fetched.contains(addr) {
            true => Access::Execute,
            false => Access::Read,
        });
    };
    let is_write = match code::written(&instruction, regs) {
        Some(written) => written
            .iter()
            .any(|(at, len)| AddrRange::sized(*at, *len as u64).contains(addr)),
        // Instructions that store a state of unknown size, or to many places.
        None => true,
    };
    Ok(match is_write {
        true => Access::Write,
        false if AddrRange::sized(Addr(regs.rip), instruction.len() as u64).contains(addr) => Access::Execute,
        false => Access::Read,
    })
}
