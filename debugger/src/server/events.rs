//! Stop replies: why the program stopped, as the client is told.

use std::fmt::Write;

use rr_tracee::Tid;

use super::{Answer, Server};
use crate::target::{PointKind, Stop};
use crate::{hex, registers, signals};

impl Stop {
    /// The thread that it is about; None if there is none any more.
    pub(crate) fn tid(&self) -> Option<Tid> {
        match self {
            Stop::Breakpoint { tid, .. }
            | Stop::Watchpoint { tid, .. }
            | Stop::Stepped { tid }
            | Stop::Signal { tid, .. }
            | Stop::Syscall { tid, .. }
            | Stop::Forked { tid, .. }
            | Stop::VforkDone { tid }
            | Stop::Executed { tid, .. }
            | Stop::Interrupted { tid }
            | Stop::Exiting { tid }
            | Stop::HistoryBegin { tid }
            | Stop::HistoryEnd { tid } => Some(*tid),
            Stop::Exited { .. } => None,
        }
    }

    /// gdb's number of the signal that the stop shows as.
    fn signal(&self) -> u8 {
        match self {
            Stop::Signal { signo, .. } => signals::to_gdb(*signo),
            Stop::Interrupted { .. } => signals::INTERRUPT,
            Stop::Exiting { .. } => signals::KILL,
            _ => signals::TRAP,
        }
    }
}

impl Server<'_> {
    /// The reply for a stop; from here on the thread of the stop is the one that packets are about.
    pub(crate) fn stopped(&mut self, stop: Stop) -> Answer {
        let answer = self.stop_reply(&stop);
        self.general = stop.tid();
        self.elsewhere = false;
        self.last_stop = Some(stop);
        answer
    }

    /// The reply for a stop that has happened.
    pub(crate) fn stop_reply(&mut self, stop: &Stop) -> Answer {
        let Some(tid) = stop.tid() else {
            let status = if let Stop::Exited { status } = stop {
                *status
            } else {
                0
            };
            return self.exit_reply(status);
        };
        let signal = stop.signal();
        let reason = self.reason(stop);
        self.stop_packet(signal, tid, &reason)
    }

    /// The reply for a program that stands somewhere else than the client thought: `Program stopped.`
    pub(crate) fn arrived_reply(&mut self) -> Answer {
        match self.current() {
            Some(tid) => {
                self.general = Some(tid);
                self.elsewhere = false;
                self.last_stop = Some(Stop::Stepped { tid });
                self.stop_packet(0, tid, "")
            }
            None => self.exit_reply(0),
        }
    }

    /// The process is gone; its status as wait(2) has it.
    pub(crate) fn exit_reply(&mut self, status: i32) -> Answer {
        self.alive = false;
        let mut text = if libc::WIFSIGNALED(status) {
            format!("X{:02x}", signals::to_gdb(libc::WTERMSIG(status)))
        } else {
            format!("W{:02x}", libc::WEXITSTATUS(status))
        };
        if self.features.multiprocess {
            // Writing to a String cannot fail, here and below.
            let _ = write!(text, ";process:{:x}", self.target.process().0);
        }
        Answer::text(text)
    }

    fn stop_packet(&mut self, signal: u8, tid: Tid, reason: &str) -> Answer {
        let mut text = format!("T{signal:02x}{reason}thread:{};", self.id(tid));
        let layout = self.layout();
        if let Ok(file) = self.target.registers(tid) {
            for number in [registers::RBP, registers::RSP, registers::RIP] {
                if let Some(bytes) = layout.registers().get(number).and_then(|r| r.read(&file)) {
                    let _ = write!(text, "{number:x}:{};", hex::encode(&bytes));
                }
            }
        }
        Answer::text(text)
    }

    /// The reason of a stop, as far as the client has asked to be told.
    fn reason(&self, stop: &Stop) -> String {
        let features = &self.features;
        match stop {
            Stop::Breakpoint { hardware: true, .. } if features.hwbreak => "hwbreak:;".into(),
            Stop::Breakpoint { hardware: false, .. } if features.swbreak => "swbreak:;".into(),
            Stop::Watchpoint { addr, kind, .. } => {
                let name = match kind {
                    PointKind::Read => "rwatch",
                    PointKind::Access => "awatch",
                    _ => "watch",
                };
                format!("{name}:{:x};", addr.0)
            }
            Stop::Syscall {
                number, entry: true, ..
            } => format!("syscall_entry:{number:x};"),
            Stop::Syscall {
                number, entry: false, ..
            } => format!("syscall_return:{number:x};"),
            Stop::Forked {
                child, vfork: true, ..
            } if features.vfork_events => self.child("vfork", *child),
            Stop::Forked {
                child, vfork: false, ..
            } if features.fork_events => self.child("fork", *child),
            Stop::VforkDone { .. } if features.vfork_events => "vforkdone:;".into(),
            Stop::Executed { path, .. } if features.exec_events => {
                format!("exec:{};", hex::encode(path.as_bytes()))
            }
            Stop::HistoryBegin { .. } => "replaylog:begin;".into(),
            Stop::HistoryEnd { .. } => "replaylog:end;".into(),
            _ => String::new(),
        }
    }

    fn child(&self, event: &str, child: Tid) -> String {
        if self.features.multiprocess {
            format!("{event}:p{0:x}.{0:x};", child.0)
        } else {
            format!("{event}:{:x};", child.0)
        }
    }
}
