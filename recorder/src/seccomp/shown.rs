//! What a program reads in `/proc/PID/status` of what confines it, and of who traces it: as if there were no rr.
//!
//! Such a file is often kept open and read again and again, by other processes too. So the descriptor is the kernel's, and it is at each
//! read that the recorder answers in the kernel's place.

use std::fmt::Write as _;

use rr_tracee::remote::Remote;
use rr_tracee::{Registers, Stopped, Tid, TraceeFd, procfs};

use super::confined::Mode;
use crate::error::Result;
use crate::session::RecordSession;

/// The value of a line of `status`.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key))
}

impl RecordSession {
    /// At the entry of a call: if it reads a `status` of a recorded task it is answered. Gives the task back if not.
    pub(crate) fn read_status(
        &mut self,
        tid: Tid,
        mut stopped: Stopped,
        entry: &Registers,
    ) -> Result<Option<Stopped>> {
        let number = entry.syscall();
        if !self.status_files || !matches!(number, libc::SYS_read | libc::SYS_pread64) {
            return Ok(Some(stopped));
        }
        let fd = TraceeFd(entry.rdi as i32);
        let Some(text) = self.status_at(tid, fd)? else {
            return Ok(Some(stopped));
        };
        let position = match number {
            libc::SYS_read => procfs::fd_position(tid, fd).unwrap_or(0),
            _ => entry.r10,
        };
        let rest = usize::try_from(position)
            .ok()
            .and_then(|at| text.as_bytes().get(at..));
        let rest = rest.unwrap_or_default();
        let bytes = &rest[..rest.len().min(entry.rdx.try_into().unwrap_or(usize::MAX))];
        let mut writes = Vec::new();
        let given = match bytes {
            [] => Ok(0),
            bytes => self.give(tid, entry.rsi, bytes, &mut writes),
        };
        if number == libc::SYS_read && given.is_ok() {
            let (tgid, next) = (self.task(tid)?.tgid, position + bytes.len() as u64);
            let args = [entry.rdi, next, libc::SEEK_SET as u64, 0, 0, 0];
            stopped = Remote::new(stopped, tgid)?
                .call(libc::SYS_lseek, args)?
                .0
                .finish()?;
        }
        let answered = given.map(|_| bytes.len() as i64);
        self.answer_with(tid, stopped, entry, answered, writes)?;
        Ok(None)
    }

    /// What the program is to see in a file, if that is the `status` of a recorded task.
    fn status_at(&self, tid: Tid, fd: TraceeFd) -> Result<Option<String>> {
        let path = procfs::fd_path(tid, fd);
        let is_status = std::fs::read_link(&path).is_ok_and(|link| link.ends_with("status"));
        if !is_status || procfs::fd_flags(tid, fd) & libc::O_PATH as u64 != 0 {
            return Ok(None);
        }
        // As the program's own `/proc` says, which may be that of another pid namespace.
        let Ok(text) = std::fs::read_to_string(&path) else {
            return Ok(None);
        };
        match self.owner_of(tid, &text) {
            Some(owner) => self.status_shown(owner, &text).map(Some),
            None => Ok(None),
        }
    }

    /// The recorded task that a `status` read by `reader` is about: it has these numbers. (Of tasks with the same numbers in different
    /// namespaces, the reader means one of its own.)
    fn owner_of(&self, reader: Tid, text: &str) -> Option<Tid> {
        let shown = procfs::numbers_in(value_of(text, "NSpid:")?);
        let first = Tid(*shown.first()?);
        if self.tasks.contains_key(&first) && procfs::numbers(first) == shown {
            return Some(first);
        }
        let is_meant = |tid: &Tid| procfs::numbers(*tid).ends_with(&shown);
        let meant: Vec<Tid> = self.tasks.keys().copied().filter(is_meant).collect();
        let namespace = procfs::pid_namespace(reader);
        let own = meant.iter().find(|tid| procfs::pid_namespace(**tid) == namespace);
        own.or(meant.first()).copied()
    }

    /// The text of a task's `status`, as the program is to see it.
    fn status_shown(&self, tid: Tid, text: &str) -> Result<String> {
        let task = self.task(tid)?;
        let confined = &task.confined;
        let own = match &confined.mode {
            Mode::Filtered(filter) => filter.all().count(),
            Mode::Free | Mode::Strict => 0,
        };
        // In the numbers of the same namespace as all others of the file.
        let shown_numbers = procfs::numbers_in(value_of(text, "NSpid:").unwrap_or_default()).len();
        let depth = procfs::numbers(tid).len().saturating_sub(shown_numbers);
        let tracer = task.tracee.as_ref().map(|tracee| procfs::numbers(tracee.tracer));
        let tracer = tracer
            .and_then(|numbers| numbers.get(depth).copied())
            .unwrap_or(0);
        let mut shown = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let (key, value) = line.split_once(':').unwrap_or_default();
            let value: i64 = match key {
                "NoNewPrivs" => confined.no_new_privs.into(),
                "Seccomp" => confined.mode_number().into(),
                // Those around rr are the program's, too, and one is rr's.
                "Seccomp_filters" => value.trim().parse().map_or(0, |all: i64| all - 1) + own as i64,
                "TracerPid" => tracer.into(),
                _ => {
                    shown.push_str(line);
                    continue;
                }
            };
            // Writing to a string cannot fail.
            let _ = writeln!(shown, "{key}:\t{value}");
        }
        Ok(shown)
    }
}
