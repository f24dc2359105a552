//! What the debugged process looks like beside registers and memory: its auxiliary vector, mappings and files.

use std::fmt::Write;
use std::fs::File;

use rr_trace::event::EventNumber;
use rr_trace::processes::{Executed, Process};
use rr_tracee::{Addr, Backing, Prot, Tid};

use super::ReplayTarget;

/// The most arguments and environment variables that are passed over in search of the auxiliary vector.
const STRINGS_MOST: usize = 1 << 20;
/// The most entries of an auxiliary vector.
const AUXV_MOST: usize = 64;

impl ReplayTarget {
    /// What the process, or the one that it was forked from, executed last.
    fn executed(&self) -> Option<&Executed> {
        let timeline = self.timeline.borrow();
        let (mut pid, mut at) = (timeline.process(), timeline.position().last);
        loop {
            let process = self.process_at(pid, at)?;
            if let Some(executed) = process.executed.iter().rfind(|e| e.at <= at) {
                return Some(executed);
            }
            (pid, at) = (process.parent?, EventNumber(process.began.0.checked_sub(1)?));
        }
    }

    /// The process that has this number at an event.
    fn process_at(&self, pid: Tid, at: EventNumber) -> Option<&Process> {
        self.processes.iter().rfind(|p| p.pid == pid && p.began <= at)
    }

    /// The auxiliary vector on the stack of the process (psABI, 3.4.1): argc, argv, envp, then pairs of words.
    pub(super) fn auxiliary_vector(&self) -> Option<Vec<u8>> {
        let stack = self.executed()?.stack;
        let tid = self.a_thread()?;
        let word = |at: Addr| {
            let mut bytes = [0; 8];
            let got = self.with_session(|session| session.read_memory(tid, at, &mut bytes));
            (got == 8).then(|| u64::from_le_bytes(bytes))
        };
        let mut at = stack + 8 * (word(stack)?.min(STRINGS_MOST as u64) + 2);
        for _ in 0..STRINGS_MOST {
            let variable = word(at)?;
            at = at + 8;
            if variable == 0 {
                break;
            }
        }
        let mut vector = Vec::new();
        for n in 0..AUXV_MOST as u64 {
            let (key, value) = (word(at + 16 * n)?, word(at + 16 * n + 8)?);
            vector.extend(key.to_le_bytes());
            vector.extend(value.to_le_bytes());
            if key == libc::AT_NULL {
                break;
            }
        }
        Some(vector)
    }

    /// The mappings of the process, as in /proc/PID/maps (proc(5)).
    pub(super) fn mappings(&self) -> String {
        let Some(tid) = self.a_thread() else {
            return String::new();
        };
        self.with_session(|session| {
            let mut text = String::new();
            let Some(space) = session.space_of(tid) else {
                return text;
            };
            for mapping in space.iter().filter(|m| m.backing != Backing::Rr) {
                let bit = |prot: Prot, letter| if mapping.prot.has(prot) { letter } else { '-' };
                let (sharing, offset) = match mapping.backing {
                    Backing::Shared { offset, .. } => ('s', offset),
                    Backing::File { offset, .. } => ('p', offset),
                    Backing::Anonymous | Backing::Rr => ('p', 0),
                };
                // Writing to a string does not fail.
                let _ = writeln!(
                    text,
                    "{:08x}-{:08x} {}{}{}{sharing} {offset:08x} 00:00 0 {}",
                    mapping.range.start.0,
                    mapping.range.end.0,
                    bit(Prot::READ, 'r'),
                    bit(Prot::WRITE, 'w'),
                    bit(Prot::EXEC, 'x'),
                    mapping.name,
                );
            }
            text
        })
    }

    /// A file that the process has mapped, out of the trace. Programs name libraries by other paths than the kernel (`/lib`
    /// is a link to `/usr/lib`): where no mapping has the path, one whose last component is the same has the file.
    pub(super) fn recorded_file(&self, path: &str) -> Option<File> {
        let tid = self.a_thread()?;
        let name = |path: &str| path.rsplit('/').next().map(str::to_owned);
        let resolved = std::fs::canonicalize(path).ok();
        let file = self.with_session(|session| {
            let files = || {
                let mappings = session.space_of(tid).into_iter().flat_map(|space| space.iter());
                mappings.filter_map(|m| match m.backing {
                    Backing::File { file, .. } => Some((&*m.name, file)),
                    _ => None,
                })
            };
            let found = files()
                .find(|(mapped, _)| *mapped == path)
                .or_else(|| files().find(|(mapped, _)| resolved.as_deref() == Some(std::path::Path::new(mapped))))
                .or_else(|| files().find(|(mapped, _)| name(mapped) == name(path)));
            found.map(|(_, file)| file)
        })?;
        self.timeline.borrow().reader().open_file(file).ok()
    }
}
