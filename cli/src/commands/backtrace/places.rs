//! The places in a recording that a backtrace is wanted of, and what is said about them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::Result;
use rr_trace::TraceReader;
use rr_trace::event::{Disposition, EventKind, EventNumber, TaskOp};
use rr_trace::processes::{self, Process};
use rr_tracee::Tid;

use crate::signals;

/// The reason for a place.
#[derive(Debug)]
pub enum Cause {
    /// A signal killed the process.
    Signal {
        /// Its number.
        signo: i32,
        /// `siginfo_t`.
        info: Vec<u8>,
    },
    /// The process exits with this status, which is not 0.
    Status(i32),
    /// The recording ends, and the process has not.
    End,
}

/// The places that are wanted, besides those where a signal kills.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Those where a process exits with a status other than 0.
    pub exit_statuses: bool,
    /// The last event of the recording, for each process that is left there.
    pub end: bool,
}

/// A place just before an event, or just after the last one ([`Cause::End`]).
#[derive(Debug)]
pub struct Place {
    /// The event.
    pub event: EventNumber,
    /// Its thread.
    pub tid: Tid,
    /// The thread's process.
    pub process: Tid,
    /// The event that the process began with.
    pub began: EventNumber,
    /// Its arguments, or those of the process that it was forked from.
    pub args: Vec<String>,
    /// True if it executed a program itself: `rr replay -p` finds only such processes.
    pub executed: bool,
    /// The reason.
    pub cause: Cause,
}

/// All places, in the order of their events.
pub fn all(reader: &TraceReader, wanted: Wanted) -> Result<Vec<Place>> {
    let processes = processes::all(reader)?;
    let mut found = Vec::new();
    let mut owners: BTreeMap<Tid, Tid> = BTreeMap::new();
    let mut last = None;
    for event in reader.events_from(reader.first_event().max(EventNumber(1)))? {
        let event = event?;
        last = Some((event.number, event.tid));
        let owner = *owners.entry(event.tid).or_insert(event.tid);
        let cause = match &event.kind {
            EventKind::Signal {
                signo,
                info,
                disposition: Disposition::Fatal,
                ..
            } => Some(Cause::Signal {
                signo: *signo,
                info: info.clone(),
            }),
            EventKind::SyscallEnter { entry }
            | EventKind::Syscall {
                entry: Some(entry), ..
            } if wanted.exit_statuses && entry.syscall() == libc::SYS_exit_group => {
                Some(entry.rdi as i32 & 0xff)
                    .filter(|status| *status != 0)
                    .map(Cause::Status)
            }
            EventKind::Syscall {
                task: Some(TaskOp::Clone(info)),
                ..
            } => {
                owners.insert(info.child, info.tgid);
                None
            }
            EventKind::Exit { .. } => {
                owners.remove(&event.tid);
                None
            }
            _ => None,
        };
        if let Some(cause) = cause {
            found.push(place(&processes, event.number, event.tid, owner, cause));
        }
    }
    if let Some((last, tid)) = last.filter(|_| wanted.end) {
        let left: BTreeSet<Tid> = owners.values().copied().collect();
        for process in left {
            // The thread that did something last, if it is one of these.
            let thread = if owners.get(&tid) == Some(&process) {
                tid
            } else {
                process
            };
            found.push(place(&processes, last, thread, process, Cause::End));
        }
    }
    Ok(found)
}

fn place(processes: &[Process], event: EventNumber, tid: Tid, pid: Tid, cause: Cause) -> Place {
    let at = |pid: Tid, event: EventNumber| processes.iter().rfind(|p| p.pid == pid && p.began <= event);
    let process = at(pid, event);
    let ran = |process: &Process, until: EventNumber| {
        let last = process.executed.iter().rfind(|e| e.at <= until);
        last.map(|e| match e.args.is_empty() {
            true => vec![e.path.clone()],
            false => e.args.clone(),
        })
    };
    let mut args = process.and_then(|p| ran(p, event));
    let executed = args.is_some();
    let mut child = process;
    while args.is_none()
        && let Some((parent, until)) = child.and_then(|c| Some((c.parent?, c.began)))
    {
        child = at(parent, until).filter(|p| p.began < until);
        args = child.and_then(|p| ran(p, until));
    }
    Place {
        event,
        tid,
        process: pid,
        began: process.map_or(event, |p| p.began),
        args: args.unwrap_or_default(),
        executed,
        cause,
    }
}

impl Cause {
    /// Says in a few words what happened.
    pub fn describe(&self) -> String {
        match self {
            Cause::Status(status) => format!("exit with status {status}"),
            Cause::End => "the end of the recording".into(),
            Cause::Signal { signo, info } => {
                let mut text = signals::name(*signo);
                let code = word(info, 8);
                // Writing to a string does not fail.
                let _ = write!(text, " ({})", code_name(*signo, code));
                let faults = [
                    libc::SIGSEGV,
                    libc::SIGBUS,
                    libc::SIGFPE,
                    libc::SIGILL,
                    libc::SIGTRAP,
                ];
                if faults.contains(signo) && code > 0 && code != libc::SI_KERNEL {
                    let addr = info
                        .get(16..24)
                        .and_then(|b| b.try_into().ok())
                        .map_or(0, u64::from_le_bytes);
                    let what = match *signo {
                        libc::SIGSEGV | libc::SIGBUS => "accessing",
                        _ => "at",
                    };
                    let _ = write!(text, " {what} {addr:#x}");
                } else if code <= 0 {
                    let _ = write!(text, ", sent by process {}", word(info, 16));
                }
                text
            }
        }
    }
}

/// 32 bits of a `siginfo_t`.
fn word(info: &[u8], at: usize) -> i32 {
    let bytes = info.get(at..at + 4).and_then(|b| b.try_into().ok());
    bytes.map_or(0, i32::from_le_bytes)
}

/// The name of an `si_code` in sigaction(2).
fn code_name(signo: i32, code: i32) -> String {
    let names: &[&str] = match signo {
        libc::SIGSEGV => &["SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR"],
        libc::SIGBUS => &[
            "BUS_ADRALN",
            "BUS_ADRERR",
            "BUS_OBJERR",
            "BUS_MCEERR_AR",
            "BUS_MCEERR_AO",
        ],
        libc::SIGFPE => &[
            "FPE_INTDIV",
            "FPE_INTOVF",
            "FPE_FLTDIV",
            "FPE_FLTOVF",
            "FPE_FLTUND",
            "FPE_FLTRES",
            "FPE_FLTINV",
            "FPE_FLTSUB",
        ],
        libc::SIGILL => &[
            "ILL_ILLOPC",
            "ILL_ILLOPN",
            "ILL_ILLADR",
            "ILL_ILLTRP",
            "ILL_PRVOPC",
            "ILL_PRVREG",
            "ILL_COPROC",
            "ILL_BADSTK",
        ],
        libc::SIGTRAP => &["TRAP_BRKPT", "TRAP_TRACE"],
        libc::SIGSYS => &["SYS_SECCOMP"],
        _ => &[],
    };
    let special = match code {
        libc::SI_USER => Some("SI_USER"),
        libc::SI_KERNEL => Some("SI_KERNEL"),
        libc::SI_QUEUE => Some("SI_QUEUE"),
        libc::SI_TIMER => Some("SI_TIMER"),
        libc::SI_TKILL => Some("SI_TKILL"),
        _ => None,
    };
    let of_signal = || {
        let n = usize::try_from(code).ok()?.checked_sub(1)?;
        names.get(n).copied()
    };
    match special.or_else(of_signal) {
        Some(name) => name.to_owned(),
        None => format!("si_code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(signo: i32, code: i32, word: u64) -> String {
        let mut info = vec![0; 128];
        info[8..12].copy_from_slice(&code.to_le_bytes());
        info[16..24].copy_from_slice(&word.to_le_bytes());
        Cause::Signal { signo, info }.describe()
    }

    #[test]
    fn signals_are_described() {
        assert_eq!(
            signal(libc::SIGSEGV, 1, 0x10),
            "SIGSEGV (SEGV_MAPERR) accessing 0x10"
        );
        assert_eq!(signal(libc::SIGSEGV, libc::SI_KERNEL, 0), "SIGSEGV (SI_KERNEL)");
        assert_eq!(
            signal(libc::SIGABRT, libc::SI_TKILL, 77),
            "SIGABRT (SI_TKILL), sent by process 77"
        );
        assert_eq!(signal(libc::SIGFPE, 1, 0x400), "SIGFPE (FPE_INTDIV) at 0x400");
        assert_eq!(signal(40, 99, 0), "signal 40 (si_code 99)");
        assert_eq!(Cause::Status(3).describe(), "exit with status 3");
    }

    #[test]
    fn a_short_siginfo_is_no_harm() {
        let cause = Cause::Signal {
            signo: libc::SIGSEGV,
            info: vec![1, 2],
        };
        assert!(cause.describe().starts_with("SIGSEGV"));
    }
}
