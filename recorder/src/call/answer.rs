//! Calls that are not made: the program gets an answer of ours.

use rr_trace::event::MemWrite;
use rr_tracee::syscalls::{self};
use rr_tracee::{Registers, Stopped, Tid};

use crate::buffer::rewrite::consider_site;
use crate::call::parameters::{Answered, Failure};
use crate::call::registers::returned;
use crate::error::Result;
use crate::policy::warnings::Warning;
use crate::session::RecordSession;
use crate::world::next::{Next, Record};

/// Does not make the call. The program gets this answer and, unless it is an error, these `writes`.
pub(crate) fn answer_with(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: &Registers,
    answered: Answered,
    writes: Vec<MemWrite>,
) -> Result<Next> {
    match answered {
        Ok(result) => answer_call(session, tid, stopped, entry, result, writes),
        Err(Failure::Refused(errno)) => {
            answer_call(session, tid, stopped, entry, -i64::from(errno as i32), vec![])
        }
        Err(Failure::Error(error)) => Err(error),
    }
}

/// Does not make the call; the program gets `errno`.
pub(crate) fn refuse_call(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: &Registers,
    errno: i32,
    quiet: bool,
) -> Result<Next> {
    let number = entry.syscall();
    if !quiet && session.policy.warnings.is_new(Warning::Call(number)) {
        let mut name = syscalls::name(number).into_owned();
        // Only this form of the call is refused.
        let form = syscalls::lookup(number).and_then(|spec| spec.refused_if);
        if let Some(form) = form.filter(|f| (f.form)(entry)) {
            name = format!("{name} ({})", form.what);
        }
        let answer = nix::errno::Errno::from_raw(errno);
        tracing::warn!("the program uses {name}, which rr cannot record; it is told {answer}");
    }
    answer_call(session, tid, stopped, entry, -i64::from(errno), vec![])
}

/// Does not make the call; the program gets our `result` and `writes`.
pub(crate) fn answer_call(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    entry: &Registers,
    result: i64,
    mut writes: Vec<MemWrite>,
) -> Result<Next> {
    let after = returned(entry, result);
    for write in &writes {
        session.world.task(tid)?.memory.write(write.addr, &write.data)?;
    }
    // With orig_rax −1 the kernel skips the call at a seccomp stop (seccomp(2), SECCOMP_RET_TRACE).
    stopped.set_regs(&after)?;
    let mut ops = vec![];
    // The library knows some of these answers, too.
    let stopped = consider_site(session, tid, stopped, entry, &mut ops, &mut writes)?;
    let record = Record {
        ops,
        writes,
        ..Record::of(entry, after)
    };
    Ok(record.then_ready(stopped))
}

/// Returns whether this kernel may know a call that is not in the table.
pub(crate) fn exists(number: i64) -> bool {
    /// `getpid` of the x32 interface.
    const GETPID: i64 = 0x4000_0000 + libc::SYS_getpid;
    let release = nix::sys::utsname::uname().ok();
    let mut numbers = release
        .as_ref()
        .and_then(|name| name.release().to_str())
        .into_iter()
        .flat_map(|release| release.split('.'))
        .map(|part| part.parse().unwrap_or(u32::MAX));
    let linux = (
        numbers.next().unwrap_or(u32::MAX),
        numbers.next().unwrap_or(u32::MAX),
    );
    // SAFETY: the call has no arguments and no effect.
    let has_x32 = || unsafe { libc::syscall(GETPID) } != -1;
    syscalls::may_exist(number, linux, has_x32())
}
