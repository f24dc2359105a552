//! An event as `rr dump` shows it.

use rr_trace::TraceReader;
use rr_trace::event::{Event, EventKind, ExecInfo, TaskOp};
use rr_tracee::{Registers, syscalls};

/// An event, and what is to be known of events before it.
pub struct Line<'a> {
    pub event: &'a Event,
    /// Registers at the entry of the system call that the event belongs to.
    pub call: Option<Registers>,
    pub reader: &'a TraceReader,
}

impl Line<'_> {
    /// The kind of event, and for system calls which.
    pub fn name(&self) -> String {
        match &self.event.kind {
            EventKind::Start { .. } => "START".into(),
            EventKind::SyscallEnter { .. } | EventKind::Syscall { .. } => match &self.call {
                Some(entry) => format!("SYSCALL: {}", syscalls::name(entry.syscall())),
                None => "SYSCALL".into(),
            },
            EventKind::Restart { .. } => "SYSCALL_RESTART".into(),
            EventKind::SetRegisters { .. } => "SET_REGISTERS".into(),
            kind if kind.is_page_fault() => "PAGE_FAULT".into(),
            EventKind::Trap { .. } => "INSTRUCTION_TRAP".into(),
            EventKind::Point { .. } => "SCHED".into(),
            EventKind::Signal { signo, .. } => format!("SIGNAL: {}", signal(*signo)),
            EventKind::Exit { .. } => "EXIT".into(),
        }
    }

    /// The part of a system call that the event is.
    pub fn state(&self) -> &'static str {
        match &self.event.kind {
            EventKind::SyscallEnter { .. } => "ENTERING_SYSCALL",
            EventKind::Syscall { .. } => "EXITING_SYSCALL",
            _ => "NONE",
        }
    }

    /// The program that the event executed.
    pub fn exec(&self) -> Option<&ExecInfo> {
        match &self.event.kind {
            EventKind::Start { exec, .. }
            | EventKind::Syscall {
                task: Some(TaskOp::Exec(exec)),
                ..
            } => Some(exec),
            _ => None,
        }
    }
}

/// A signal's name, or its number.
fn signal(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number).map_or_else(|_| number.to_string(), |s| s.to_string())
}
