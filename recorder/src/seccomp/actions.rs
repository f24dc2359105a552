//! Handles calls that a program's filters, or strict mode, do not allow.
//!
//! The kernel ends the task wherever it can: if a filter kills a task, the recorder installs a real
//! filter that kills and lets the task make the call again. So the end is the kernel's own, with its
//! status and its core dump, whatever the program does with signals.
//!
//! | verdict | events |
//! |---|---|
//! | an error | the call, with that result |
//! | `SIGSYS` | the call, which changes nothing, and the signal |
//! | the tracer decides | the entry of the call; then the outcome of the tracer's decision |
//! | the thread dies | the entry of the call, and the end |
//! | the process dies | the call, which changes nothing; the signal; the end |

use std::ops::ControlFlow;

use rr_trace::event::{Disposition, EventKind, SignalPlace};
use rr_tracee::regs::NOT_IN_SYSCALL;
use rr_tracee::remote::Remote;
use rr_tracee::task::{Resume, SigInfo, siginfo};
use rr_tracee::{Registers, Running, Stopped, Tid, procfs, rr_area};

use crate::call::answer::answer_call;
use crate::call::record::record_call;
use crate::call::registers::before_call;
use crate::checkpoint::before_end::checkpoint_before_end;
use crate::error::Result;
use crate::log::events::emit;
use crate::ptrace::calls::{decides_on_calls, stop_at_filter};
use crate::ptrace::resume::pass_signal;
use crate::seccomp::confined::Mode;
use crate::seccomp::ours;
use crate::seccomp::vdso::is_for_want_of_vdso;
use crate::seccomp::verdict::{Arch, Asked, Verdict};
use crate::session::RecordSession;
use crate::signal::forced::force_default;
use crate::signal::numbers::{SYS_SECCOMP, bit};
use crate::task::exit::end_process;
use crate::world::call::Call;
use crate::world::model::World;
use crate::world::next::{Next, Record, Until};

/// The largest error number (`MAX_ERRNO`).
const MAX_ERRNO: u16 = 4095;

/// True if strict mode allows the call: read, write, exit, and the return from a signal handler.
fn is_strictly_allowed(number: i32, arch: Arch) -> bool {
    match arch {
        Arch::X86_64 => matches!(
            i64::from(number),
            libc::SYS_read | libc::SYS_write | libc::SYS_exit | libc::SYS_rt_sigreturn
        ),
        // The same calls, and the older sigreturn.
        Arch::I386 => matches!(number, 3 | 4 | 1 | 119),
    }
}

/// Returns the siginfo of a `SIGSYS` instead of a call (sigaction(2)). Its `si_errno` is the number that
/// a filter gave.
pub(crate) fn sigsys(code: i32, asked: &Asked, data: u16) -> SigInfo {
    let mut info = siginfo(libc::SIGSYS, code);
    let mut put = |at: usize, bytes: &[u8]| info[at..at + bytes.len()].copy_from_slice(bytes);
    put(4, &i32::from(data).to_ne_bytes());
    put(16, &asked.instruction_pointer.to_ne_bytes());
    put(24, &asked.number.to_ne_bytes());
    put(28, &(asked.arch as u32).to_ne_bytes());
    info
}

/// A task whose filters allow its call, with the call that this one restarts.
pub(crate) type Passed = ControlFlow<Next, (Stopped, Option<Box<Call>>)>;

/// Asks the filters at the entry of a call (`restarted` is the call that this one restarts). Gives
/// the task back if the filters allow the call.
pub(crate) fn pass_filters(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: &Registers,
    arch: Arch,
    restarted: Option<Box<Call>>,
) -> Result<Passed> {
    let task = session.world.task(tid)?;
    let asked = Asked::at(entry, arch);
    let verdict = match &task.settings.confined.mode {
        Mode::Free => Verdict::Allow,
        _ if task.tracee.as_ref().is_some_and(|t| t.has_no_filters()) => Verdict::Allow,
        // Without rr there is no such call.
        _ if restarted
            .as_ref()
            .is_some_and(|call| call.is_restarted_for_us(entry)) =>
        {
            Verdict::Allow
        }
        Mode::Strict if is_strictly_allowed(asked.number, arch) => Verdict::Allow,
        Mode::Strict => Verdict::Strict,
        Mode::Filtered(filter) => match filter.verdict(&asked) {
            Verdict::Allow => Verdict::Allow,
            _ if arch == Arch::X86_64 && is_for_want_of_vdso(&session.world, tid, entry) => Verdict::Allow,
            verdict => verdict,
        },
    };
    let error = |errno: u16| -i64::from(errno.min(MAX_ERRNO));
    let next = match verdict {
        Verdict::Allow => return Ok(ControlFlow::Continue((stopped, restarted))),
        // The program's tracer has seen the call, and allows it.
        Verdict::Trace(_) if task.at_call.is_filter_passed => {
            return Ok(ControlFlow::Continue((stopped, restarted)));
        }
        Verdict::Trace(data) if decides_on_calls(&session.world, tid)? => {
            stop_at_filter(session, tid, stopped, *entry, restarted, data)?
        }
        Verdict::Trace(_) | Verdict::Notify => {
            answer_call(session, tid, stopped, entry, -i64::from(libc::ENOSYS), vec![])?
        }
        Verdict::Errno(errno) => answer_call(session, tid, stopped, entry, error(errno), vec![])?,
        Verdict::Trap(data) => trap_call(session, tid, stopped, entry, &sigsys(SYS_SECCOMP, &asked, data))?,
        Verdict::Strict => end_strictly(session, tid, stopped, entry)?,
        Verdict::KillThread if !is_last_thread(&session.world, tid)? => {
            end_thread(session, tid, stopped, entry)?
        }
        Verdict::KillThread | Verdict::KillProcess => {
            end_by_filter(session, tid, stopped, entry, &sigsys(SYS_SECCOMP, &asked, 0))?
        }
    };
    Ok(ControlFlow::Break(next))
}

/// True if all other threads of the task's process have ended.
fn is_last_thread(world: &World, tid: Tid) -> Result<bool> {
    let tgid = world.task(tid)?.tgid;
    Ok(!world
        .tasks
        .values()
        .any(|t| t.tgid == tgid && t.tid != tid && !t.life.exited))
}

/// Records a call that is not made. Returns the registers behind it: `rax` holds the call's number, not
/// a result.
fn roll_back(
    session: &mut RecordSession,
    tid: Tid,
    stopped: &mut Stopped,
    entry: &Registers,
) -> Result<Registers> {
    let after = Registers {
        rax: entry.orig_rax,
        orig_rax: NOT_IN_SYSCALL,
        ..*entry
    };
    stopped.set_regs(&after)?;
    record_call(session, tid, Record::of(entry, after))?;
    Ok(after)
}

/// Turns the call into a `SIGSYS`.
pub(crate) fn trap_call(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    entry: &Registers,
    info: &SigInfo,
) -> Result<Next> {
    let table = procfs::signal_dispositions(tid)?;
    let is_handled = table.caught & !table.blocked & bit(libc::SIGSYS) != 0;
    if !is_handled && session.world.task(tid)?.tracee.is_none() {
        return end_by_filter(session, tid, stopped, entry, info);
    }
    roll_back(session, tid, &mut stopped, entry)?;
    if !is_handled {
        // The program's own tracer may still suppress the signal.
        stopped = force_default(&mut session.world, tid, stopped, libc::SIGSYS)?;
    }
    let mask = stopped.sigmask()?;
    pass_signal(&mut session.world, tid, mask, *info)?;
    Ok(Next::Ready(stopped))
}

/// Ends the process with `SIGSYS`.
pub(crate) fn end_by_filter(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    entry: &Registers,
    info: &SigInfo,
) -> Result<Next> {
    let after = roll_back(session, tid, &mut stopped, entry)?;
    let signal = EventKind::Signal {
        signo: libc::SIGSYS,
        info: info.to_vec(),
        place: SignalPlace::Here,
        disposition: Disposition::Fatal,
        after,
        xstate: None,
    };
    emit(session, tid, signal, vec![], vec![])?;
    match checkpoint_before_end(session, tid, stopped, after)? {
        ControlFlow::Continue((stopped, _)) => die_by_filter(
            &session.world,
            tid,
            stopped,
            before_call(entry),
            libc::SECCOMP_RET_KILL_PROCESS,
        ),
        ControlFlow::Break(next) => Ok(next),
    }
}

/// Ends this thread alone.
fn end_thread(session: &mut RecordSession, tid: Tid, stopped: Stopped, entry: &Registers) -> Result<Next> {
    note_entry(session, tid, entry)?;
    // The trace must show that the thread group lives on, so the call that ends the thread is an
    // exit.
    let rax = libc::SYS_exit as u64;
    let exit = Registers {
        rax,
        ..before_call(entry)
    };
    die_by_filter(&session.world, tid, stopped, exit, libc::SECCOMP_RET_KILL_THREAD)
}

/// Ends the thread as strict mode does. (If this is the first of several threads, the exit status
/// of the process will later be that of `SIGSYS` instead of `SIGKILL`.)
fn end_strictly(session: &mut RecordSession, tid: Tid, stopped: Stopped, entry: &Registers) -> Result<Next> {
    if !is_last_thread(&session.world, tid)? {
        return end_thread(session, tid, stopped, entry);
    }
    note_entry(session, tid, entry)?;
    let tgid = session.world.task(tid)?.tgid;
    rr_tracee::task::kill(tgid);
    Ok(Next::InKernel(Running::newborn(tid)))
}

/// Ends the interval at the entry of a call that does not return, unless the entry is recorded
/// already.
fn note_entry(session: &mut RecordSession, tid: Tid, entry: &Registers) -> Result<()> {
    if session.world.task(tid)?.at_call.entered {
        return Ok(());
    }
    let entry = *entry;
    emit(session, tid, EventKind::SyscallEnter { entry }, vec![], vec![])
}

/// Makes a call that the task does not survive. `call` holds the registers before the call.
fn die_by_filter(world: &World, tid: Tid, stopped: Stopped, call: Registers, action: u32) -> Result<Next> {
    let tgid = world.task(tid)?.tgid;
    let bytes = ours::deadly(action, rr_area::PARAM.0);
    let remote = Remote::new(stopped, tgid)?;
    let at = remote.param(&bytes)?.0;
    let (remote, _) = remote.call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0, 0])?;
    let filter = u64::from(libc::SECCOMP_SET_MODE_FILTER);
    let (remote, result) = remote.call(libc::SYS_seccomp, [filter, 0, at, 0, 0, 0])?;
    let mut stopped = remote.finish()?;
    if result < 0 {
        let errno = nix::errno::Errno::from_raw(-result as i32);
        let why = format!("its own filter kills it, and seccomp says {errno}");
        return Ok(end_process(tid, &why));
    }
    stopped.set_regs(&call)?;
    // No signal handler may run before the call.
    stopped.set_sigmask(!0)?;
    let running = stopped.resume(Resume::Cont, None)?;
    Ok(Next::Wait(running, Until::Stop))
}
