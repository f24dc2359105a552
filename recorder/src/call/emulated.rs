//! Calls that the table alone cannot describe (`Class::Emulated`): which code handles their entry and their exit.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rr_trace::event::EventKind;
use rr_tracee::syscalls::Emulated;
use rr_tracee::{Addr, AddrRange, Registers, Stopped, Tid, TraceeFd, procfs, rr_area};

use crate::buffer::restore::apply_ops;
use crate::buffer::rewrite::{consider_site, is_loader, rewrite_known};
use crate::call::affinity::{affinity_answer, set_affinity};
use crate::call::aio::setup::{begin_destroy, finish_destroy, finish_setup};
use crate::call::aio::submit::{begin_submit, finish_submit};
use crate::call::answer::{answer_call, refuse_call};
use crate::call::arch_prctl::begin_arch_prctl;
use crate::call::enter::perform_call;
use crate::call::prctl::{begin_prctl, finish_prctl};
use crate::call::record::gather_writes;
use crate::call::rseq::begin_rseq;
use crate::error::Result;
use crate::log::events::emit;
use crate::memory::advice::{advice_taken, begin_madvise, pages};
use crate::memory::implied_rights::{add_implied_rights, note_personality};
use crate::memory::mapping::{
    PROT_GROWS, is_error, map_room_below, map_shared_anonymous, space_ops, stack_protection,
};
use crate::memory::objects::refresh_objects;
use crate::memory::populated::copies_made;
use crate::memory::process_advice::{advices_taken, begin_process_madvise};
use crate::memory::secret::begin_secret;
use crate::memory::unfinished::{end_unfinished, note_unfinished};
use crate::ptrace::request::begin_ptrace;
use crate::seccomp::install::begin_seccomp;
use crate::session::RecordSession;
use crate::task::clone::{begin_clone, finish_clone};
use crate::task::exec::{begin_exec, finish_exec};
use crate::userfault::create::begin_userfaultfd;
use crate::userfault::ioctl::begin_ioctl;
use crate::userfault::rights::follow_ops;
use crate::world::call::Call;
use crate::world::next::{Next, Record, Until};

/// Returns whether this `mmap` asks for shared anonymous memory (`/dev/zero` is another name of it).
fn is_shared_anonymous(entry: &Registers) -> bool {
    let flags = entry.r10 as i32;
    flags & libc::MAP_ANONYMOUS != 0 && flags & libc::MAP_TYPE != libc::MAP_PRIVATE && entry.rsi != 0
}

/// Returns whether this `mmap` asks for shared memory of `/dev/zero` that it may write.
fn is_shared_zero(tid: Tid, entry: &Registers) -> bool {
    /// Major and minor number of `/dev/zero`.
    const ZERO: (u32, u32) = (1, 5);
    let fd = TraceeFd(entry.r8 as i32);
    let is_zero = |meta: std::fs::Metadata| {
        let device = meta.rdev();
        meta.file_type().is_char_device() && (libc::major(device), libc::minor(device)) == ZERO
    };
    let flags = entry.r10 as i32;
    flags & libc::MAP_ANONYMOUS == 0
        && flags & libc::MAP_TYPE == libc::MAP_SHARED
        && entry.rsi != 0
        && procfs::fd_flags(tid, fd) as i32 & libc::O_ACCMODE == libc::O_RDWR
        && std::fs::metadata(procfs::fd_path(tid, fd)).is_ok_and(is_zero)
}

/// Returns whether the library could have made the call: one that shapes memory without a file.
fn is_for_the_library(emulated: Emulated, entry: &Registers) -> bool {
    match emulated {
        Emulated::Mmap => {
            let flags = entry.r10 as i32;
            flags & libc::MAP_ANONYMOUS != 0 && flags & libc::MAP_TYPE == libc::MAP_PRIVATE
        }
        Emulated::Mprotect | Emulated::Munmap | Emulated::Brk | Emulated::Madvise => true,
        _ => false,
    }
}

/// Returns whether the processor has protection keys, and the kernel uses them (`OSPKE`).
fn has_keys() -> bool {
    const OSPKE: u32 = 1 << 4;
    std::arch::x86_64::__cpuid(0).eax >= 7 && std::arch::x86_64::__cpuid_count(7, 0).ecx & OSPKE != 0
}

/// Handles the entry of an emulated call.
pub(crate) fn begin_emulated(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    mut call: Call,
    emulated: Emulated,
) -> Result<Next> {
    let entry = call.entry;
    let touches_rr = |start: u64, len: u64| {
        AddrRange::sized(Addr(start), len)
            .to_pages()
            .intersect(rr_area::area())
            .is_some()
    };
    note_unfinished(&mut session.world, tid, emulated, &entry)?;
    match emulated {
        Emulated::Ptrace => begin_ptrace(session, tid, stopped, entry),
        Emulated::Clone => begin_clone(session, tid, stopped, call),
        Emulated::Exec => begin_exec(session, tid, stopped, call),
        Emulated::Exit => {
            // Others may see the effects of its last interval, so that interval ends with an event.
            if !session.world.task(tid)?.at_call.entered {
                emit(session, tid, EventKind::SyscallEnter { entry }, vec![], vec![])?;
            }
            let running = stopped.resume(rr_tracee::task::Resume::Cont, None)?;
            Ok(Next::Wait(running, Until::Stop))
        }
        // The program may not change rr's own pages.
        Emulated::Munmap | Emulated::Mprotect | Emulated::Mseal if touches_rr(entry.rdi, entry.rsi) => {
            refuse_call(session, tid, stopped, &entry, libc::EINVAL, true)
        }
        // Not all of our area is mapped, so the kernel could map memory there.
        Emulated::Mmap
            if entry.r10 & libc::MAP_FIXED_NOREPLACE as u64 != 0 && touches_rr(entry.rdi, entry.rsi) =>
        {
            refuse_call(session, tid, stopped, &entry, libc::EEXIST, true)
        }
        Emulated::Mmap
            if entry.r10 & libc::MAP_FIXED as u64 == 0
                && entry.rdi != 0
                && !is_shared_anonymous(&entry)
                && touches_rr(entry.rdi, entry.rsi) =>
        {
            stopped.set_regs(&Registers { rdi: 0, ..entry })?;
            perform_call(&mut session.world, tid, stopped, call)
        }
        Emulated::Mmap if entry.r10 & libc::MAP_FIXED as u64 != 0 && touches_rr(entry.rdi, entry.rsi) => {
            tracing::warn!(
                "the program wants to map memory at {:#x}, where rr has its own",
                entry.rdi
            );
            refuse_call(session, tid, stopped, &entry, libc::ENOMEM, true)
        }
        Emulated::Mmap if is_shared_anonymous(&entry) || is_shared_zero(tid, &entry) => {
            map_shared_anonymous(session, tid, stopped, &entry)
        }
        Emulated::Pkey if has_keys() => {
            const RIGHTS: u64 = 3;
            let is_valid = entry.rdi == 0 && entry.rsi & !RIGHTS == 0;
            let errno = match entry.syscall() {
                libc::SYS_pkey_alloc if is_valid => libc::ENOSPC,
                _ => libc::EINVAL,
            };
            refuse_call(session, tid, stopped, &entry, errno, true)
        }
        Emulated::ProcessMadvise => begin_process_madvise(session, tid, stopped, call),
        Emulated::MemfdSecret => begin_secret(session, tid, stopped, call),
        Emulated::Shmat if entry.rsi != 0 && touches_rr(entry.rsi, 1) => {
            refuse_call(session, tid, stopped, &entry, libc::EINVAL, true)
        }
        Emulated::Madvise => begin_madvise(session, tid, stopped, call),
        Emulated::Mprotect if entry.rdx & PROT_GROWS != 0 => {
            if let Some(made) = stack_protection(&session.world, tid, &entry)? {
                stopped.set_regs(&made)?;
            }
            perform_call(&mut session.world, tid, stopped, call)
        }
        Emulated::SchedSetaffinity => match set_affinity(session, tid, &entry)? {
            Some(errno) => answer_call(session, tid, stopped, &entry, -i64::from(errno), vec![]),
            None => perform_call(&mut session.world, tid, stopped, call),
        },
        Emulated::Prctl => begin_prctl(session, tid, stopped, call),
        Emulated::ArchPrctl => begin_arch_prctl(session, tid, stopped, call),
        Emulated::IoSubmit => begin_submit(session, tid, stopped, call),
        Emulated::IoDestroy => begin_destroy(session, tid, stopped, call),
        Emulated::Rseq => begin_rseq(session, tid, stopped, &entry),
        Emulated::Userfaultfd => begin_userfaultfd(session, tid, stopped, &entry),
        Emulated::UserfaultIoctl => begin_ioctl(session, tid, stopped, &entry),
        Emulated::Seccomp => begin_seccomp(session, tid, stopped, call),
        Emulated::Mremap
            if touches_rr(entry.rdi, entry.rsi)
                || (entry.r10 & libc::MREMAP_FIXED as u64 != 0 && touches_rr(entry.r8, entry.rdx)) =>
        {
            refuse_call(session, tid, stopped, &entry, libc::EINVAL, true)
        }
        _ => {
            call.described_by = entry;
            perform_call(&mut session.world, tid, stopped, call)
        }
    }
}

/// Handles the exit of an emulated call.
pub(crate) fn finish_emulated(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    call: Call,
    emulated: Emulated,
    mut raw: Registers,
) -> Result<Next> {
    let (entry, result) = (call.entry, raw.result());
    // Restores argument registers that had other values during the call.
    if emulated == Emulated::Mmap && raw.rdi != entry.rdi {
        // The address hint was not passed on. Restore it.
        raw.rdi = entry.rdi;
        stopped.set_regs(&raw)?;
    }
    if emulated == Emulated::ProcessMadvise && raw.r10 != entry.r10 {
        // The same.
        raw.r10 = entry.r10;
        stopped.set_regs(&raw)?;
    }
    if emulated == Emulated::Madvise && raw.rdx != entry.rdx {
        // The call was made with another advice. Restore the program's.
        raw.rdx = entry.rdx;
        stopped.set_regs(&raw)?;
    }
    let mut made = entry;
    if emulated == Emulated::Mprotect {
        made = Registers {
            rdi: raw.rdi,
            rsi: raw.rsi,
            rdx: raw.rdx,
            ..entry
        };
        if made != entry {
            (raw.rdi, raw.rsi, raw.rdx) = (entry.rdi, entry.rsi, entry.rdx);
            stopped.set_regs(&raw)?;
        }
    }
    // Calls with effects of their own.
    match emulated {
        Emulated::Clone => return finish_clone(session, tid, stopped, call, raw),
        Emulated::Exec => return finish_exec(session, tid, stopped, call, raw),
        Emulated::IoSetup => return finish_setup(session, tid, stopped, &call, raw),
        Emulated::IoDestroy => return finish_destroy(session, tid, stopped, &call, raw),
        Emulated::IoSubmit => return finish_submit(session, tid, stopped, &call, raw),
        Emulated::RtSigreturn => {
            session.world.task_mut(tid)?.signals.blocked = None;
            let after = raw.outside_call();
            let record = Record {
                xstate: Some(stopped.xstate()?),
                ..Record::of(&entry, after)
            };
            return Ok(record.then_ready(stopped));
        }
        Emulated::MemfdSecret => {
            (raw.rdi, raw.rsi) = (entry.rdi, entry.rsi);
            stopped.set_regs(&Registers {
                orig_rax: entry.orig_rax,
                ..raw
            })?;
        }
        Emulated::SetTidAddress => session.world.task_mut(tid)?.settings.clear_child_tid = Addr(entry.rdi),
        Emulated::Prctl => finish_prctl(session, tid, &call, result)?,
        Emulated::Personality => note_personality(&mut session.world, tid, &entry, result)?,
        _ => {}
    }
    // Collects the effects of the call.
    let mut writes = gather_writes(&session.world, tid, &call, result)?;
    if emulated == Emulated::SchedGetaffinity
        && result > 0
        && let Some((told, write)) = affinity_answer(session, tid, &entry, result)?
    {
        raw.rax = told as u64;
        stopped.set_regs(&raw)?;
        writes = write.into_iter().collect();
    }
    let mut ops = space_ops(&mut session.world, tid, emulated, &made, result)?;
    if emulated == Emulated::Mmap && !is_error(result) && entry.r10 & libc::MAP_GROWSDOWN as u64 != 0 {
        stopped = map_room_below(&mut session.world, tid, stopped, &mut ops)?;
    }
    if emulated == Emulated::Madvise {
        let (changed, shown) =
            advice_taken(&mut session.world, tid, pages(&entry), entry.rdx as i32, result)?;
        ops.extend(changed);
        writes.extend(shown);
    }
    if emulated == Emulated::ProcessMadvise {
        let (changed, shown) = advices_taken(&mut session.world, tid, &entry, result)?;
        ops.extend(changed);
        writes.extend(shown);
    }
    end_unfinished(&mut session.world, tid)?;
    let id = session.world.task(tid)?.space;
    let (more, shown) = refresh_objects(&mut session.world, id, &ops)?;
    ops.extend(more);
    writes.extend(shown);
    let is_loader = emulated == Emulated::Mmap && is_loader(&session.world, tid, &entry)?;
    apply_ops(&mut session.world, tid, id, &ops, is_loader, &mut writes)?;
    add_implied_rights(&mut session.world, tid, id, &mut ops, &mut writes)?;
    writes.extend(copies_made(&mut session.world, tid, emulated, &entry, result)?);
    let follows = follow_ops(&mut session.world, tid, &ops)?;
    ops.extend(follows);
    // Rewrites the call's site, or those of a library that was loaded.
    if is_for_the_library(emulated, &entry) {
        stopped = consider_site(session, tid, stopped, &entry, &mut ops, &mut writes)?;
    }
    if is_loader {
        stopped = rewrite_known(session, tid, stopped, &mut ops, &mut writes)?;
    }
    let after = raw.outside_call();
    let record = Record {
        ops,
        writes,
        ..Record::of(&entry, after)
    };
    Ok(record.then_ready(stopped))
}
