//! The program's output in a replay: all of it or that of one process, here or in a file, with marks or without.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use rr_replayer::{ReplaySession, Replayed};
use rr_trace::TraceReader;
use rr_trace::event::{EventKind, EventNumber, Stdio};
use rr_tracee::Tid;

/// A process, and the event from which on it counts (its number may have been another's before).
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    /// The process.
    pub pid: Tid,
    /// From here on…
    pub from: EventNumber,
    /// …to here.
    pub to: EventNumber,
}

/// Shows output.
#[derive(Debug, Default)]
pub struct Echo {
    file: Option<File>,
    only: Option<Chosen>,
    marks: bool,
    /// Calls that were entered before others ran: a mark bears the number of the entry.
    entered: HashMap<Tid, EventNumber>,
}

impl Echo {
    /// Everything on our own standard output and error.
    pub fn new() -> Echo {
        Echo::default()
    }

    /// Everything into this file (perhaps a terminal).
    pub fn into_file(mut self, path: &Path) -> Result<Echo> {
        let mut options = File::options();
        let file = options.append(true).create(true).open(path);
        self.file = Some(file.with_context(|| format!("cannot write to {}", path.display()))?);
        Ok(self)
    }

    /// Only what this process wrote.
    pub fn only(mut self, process: Option<Chosen>) -> Echo {
        self.only = process;
        self
    }

    /// With `[rr PID EVENT]` before each write, as while recording.
    pub fn with_marks(mut self, marks: bool) -> Echo {
        self.marks = marks;
        self
    }

    /// Shows what the program wrote at an event that has just been replayed.
    pub fn show(&mut self, session: &ReplaySession, replayed: Replayed, reader: &TraceReader) -> Result<()> {
        let event = &replayed.event;
        if self.marks && matches!(event.kind, EventKind::SyscallEnter { .. }) {
            self.entered.insert(event.tid, event.number);
        }
        let Some((stream, bytes)) = replayed.output else {
            return Ok(());
        };
        let process = session.process_of(event.tid).unwrap_or(event.tid);
        let counts = |only: &Chosen| only.pid == process && (only.from..=only.to).contains(&event.number);
        if !self.only.as_ref().is_none_or(counts) {
            return Ok(());
        }
        if self.marks {
            let number = match &event.kind {
                EventKind::Syscall { entry: Some(_), .. } => event.number,
                _ => match self.entered.get(&event.tid) {
                    Some(number) => *number,
                    None => entry_of(reader, event.tid, event.number)?,
                },
            };
            self.write(stream, format!("[rr {process} {number}]").as_bytes())?;
        }
        self.write(stream, &bytes)
    }

    fn write(&mut self, stream: Stdio, bytes: &[u8]) -> Result<()> {
        if let Some(file) = &mut self.file {
            return file.write_all(bytes).context("writing the program's output");
        }
        match stream {
            Stdio::Out => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes)
                    .and_then(|()| out.flush())
                    .context("writing the program's output")
            }
            Stdio::Err => std::io::stderr()
                .write_all(bytes)
                .context("writing the program's error output"),
        }
    }
}

/// The registers with which a task entered the call that returns at `event`. (The replay started between the two.)
fn entry_of(reader: &TraceReader, tid: Tid, event: EventNumber) -> Result<EventNumber> {
    let mut found = event;
    for earlier in reader.events_from(reader.first_event().max(EventNumber(1)))? {
        let earlier = earlier?;
        if earlier.number >= event {
            break;
        }
        if earlier.tid == tid && matches!(earlier.kind, EventKind::SyscallEnter { .. }) {
            found = earlier.number;
        }
    }
    Ok(found)
}
