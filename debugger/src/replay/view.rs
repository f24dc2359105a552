//! The debugged process beside registers and memory: its auxiliary vector, mappings and files.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use rr_trace::Member;
use rr_trace::event::EventNumber;
use rr_trace::processes::{Executed, Process};
use rr_tracee::{Addr, Backing, Prot, Tid};

use super::ReplayTarget;

/// The most arguments and environment variables that are passed over in search of the auxiliary vector.
const STRINGS_MOST: usize = 1 << 20;
/// The most entries of an auxiliary vector.
const AUXV_MOST: usize = 64;

impl ReplayTarget {
    /// The last program that the process, or the one that it was forked from, has executed.
    fn executed(&self) -> Option<&Executed> {
        let timeline = self.timeline.borrow();
        let (pid, at) = (timeline.process(), timeline.position().last);
        self.process_at(pid, at)?.program_at(at)
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
                    Backing::File { offset, .. } | Backing::CopyOnWrite { offset, .. } => ('p', offset),
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

    /// A file that the process has mapped, out of the trace. Programs and the loader know files by other names than the
    /// kernel: through links, which may not be there any more.
    pub(super) fn recorded_file(&self, path: &str) -> Option<Member> {
        let debug_files = self.timeline.borrow().reader().debug_files();
        if let Some(file) = debug_files.ok().and_then(|files| files.at(path)) {
            return self.timeline.borrow().reader().open_file(file).ok();
        }
        let tid = self.a_thread()?;
        let here = std::fs::canonicalize(path).ok();
        let file = self.with_session(|session| {
            let mut mapped = BTreeMap::new();
            for mapping in session.space_of(tid)?.iter() {
                if let Backing::File { file, .. } = mapping.backing {
                    mapped.insert(mapping.name.to_string(), file);
                }
            }
            let only = |is_it: &dyn Fn(&str) -> bool| {
                let mut found = mapped
                    .iter()
                    .filter(|(name, _)| is_it(name))
                    .map(|(_, file)| *file);
                found.next().filter(|_| found.next().is_none())
            };
            let named = mapped.get(path).copied();
            named
                .or_else(|| only(&|name| here.as_deref() == Some(Path::new(name))))
                .or_else(|| only(&|name| base(name) == base(path)))
                .or_else(|| only(&|name| is_link_to(base(path), base(name))))
        })?;
        self.timeline.borrow().reader().open_file(file).ok()
    }
}

/// The last part of a path.
fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Says if a name is the usual one of a link to a library (`libx.so.1` for `libx.so.1.2`) or to the loader.
fn is_link_to(link: &str, name: &str) -> bool {
    let version = name.strip_prefix(link).is_some_and(|rest| rest.starts_with('.'));
    let is_loader = link.starts_with("ld-linux") && name.starts_with("ld-");
    link.contains(".so") && (version || is_loader && name.contains(".so"))
}

#[cfg(test)]
mod tests {
    use super::is_link_to;

    #[test]
    fn links_to_libraries() {
        assert!(is_link_to("libstdc++.so.6", "libstdc++.so.6.0.30"));
        assert!(is_link_to("ld-linux-x86-64.so.2", "ld-2.31.so"));
        assert!(!is_link_to("libm.so.6", "libm.so.60"));
        assert!(!is_link_to("program", "program.old"));
    }
}
