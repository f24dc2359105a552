//! The processes of a recording, from its events: for `rr ps`, for debuggers, and to find the one that the user means.

use std::collections::BTreeMap;

use rr_tracee::{Addr, Tid};

use crate::error::Result;
use crate::event::{EventKind, EventNumber, ExecInfo, TaskOp};
use crate::reader::TraceReader;

/// A program that a process executed.
#[derive(Debug)]
pub struct Executed {
    /// The event of the `execve`.
    pub at: EventNumber,
    /// The program's file.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The stack pointer at its entry: there are the arguments, the environment and the auxiliary vector (psABI, 3.4.1).
    pub stack: Addr,
}

impl Executed {
    fn new(at: EventNumber, exec: &ExecInfo, kind: &EventKind) -> Executed {
        Executed {
            at,
            path: exec.path.clone(),
            args: exec.args.clone(),
            stack: Addr(kind.after().map_or(0, |regs| regs.rsp)),
        }
    }

    /// Says if people would call the program by this name.
    fn is_called(&self, name: &str) -> bool {
        let base = |path: &str| path.rsplit('/').next() == Some(name);
        base(&self.path) || self.args.first().is_some_and(|arg| base(arg))
    }
}

/// One process.
#[derive(Debug)]
pub struct Process {
    /// Its number; others may have had it before, or after it.
    pub pid: Tid,
    /// The process that created it; `None` for the first.
    pub parent: Option<Tid>,
    /// Its status, as wait(2) says; `None` if the recording ended before it.
    pub status: Option<i32>,
    /// The programs that it executed, in order.
    pub executed: Vec<Executed>,
    /// The event that created it.
    pub began: EventNumber,
    /// The first of the events in which its last tasks exit: it does nothing any more.
    pub ended: Option<EventNumber>,
}

impl Process {
    fn new(pid: Tid, parent: Option<Tid>, began: EventNumber) -> Process {
        Process {
            pid,
            parent,
            status: None,
            executed: Vec::new(),
            began,
            ended: None,
        }
    }
}

/// All processes, in the order in which they came into being.
///
/// ```no_run
/// let reader = rr_trace::TraceReader::open("trace".as_ref())?;
/// for process in rr_trace::processes::all(&reader)? {
///     let programs: Vec<&str> = process.executed.iter().map(|e| &*e.path).collect();
///     println!("{}: from event {}: {programs:?}", process.pid, process.began);
/// }
/// # Ok::<(), rr_trace::Error>(())
/// ```
pub fn all(reader: &TraceReader) -> Result<Vec<Process>> {
    let mut all: Vec<Process> = Vec::new();
    // The process of each task: numbers are reused.
    let mut live: BTreeMap<Tid, usize> = BTreeMap::new();
    for event in reader.events_from(EventNumber(1))? {
        let event = event?;
        let owner = live.get(&event.tid).copied();
        if let (Some(n), false) = (owner, matches!(event.kind, EventKind::Exit { .. })) {
            all[n].ended = None;
        }
        match &event.kind {
            EventKind::Start { exec, .. } => {
                live.insert(event.tid, all.len());
                let mut first = Process::new(event.tid, None, event.number);
                first
                    .executed
                    .push(Executed::new(event.number, exec, &event.kind));
                all.push(first);
            }
            EventKind::Syscall {
                task: Some(TaskOp::Clone(info)),
                ..
            } => {
                if info.tgid == info.child {
                    live.insert(info.child, all.len());
                    all.push(Process::new(info.child, owner.map(|n| all[n].pid), event.number));
                } else if let Some(n) = owner {
                    live.insert(info.child, n);
                }
            }
            EventKind::Syscall {
                task: Some(TaskOp::Exec(info)),
                ..
            } => {
                // A thread that executes a program takes over the tid of its process.
                if let Some(n) = live.remove(&event.tid) {
                    all[n]
                        .executed
                        .push(Executed::new(event.number, info, &event.kind));
                    live.insert(info.tid, n);
                }
            }
            // The process ends with its last task.
            EventKind::Exit { status } => {
                if let Some(n) = live.remove(&event.tid) {
                    all[n].ended.get_or_insert(event.number);
                    all[n].status = (!live.values().any(|&m| m == n)).then_some(*status);
                }
            }
            _ => {}
        }
    }
    Ok(all)
}

/// The first process that executed a program and has this number or, if `name` is none, the first that executed
/// a program of that name; and the event of that.
pub fn that_executed<'a>(all: &'a [Process], name: &str) -> Option<(&'a Process, EventNumber)> {
    let number = name.parse().ok().map(Tid);
    all.iter().find_map(|process| {
        let fits = |executed: &&Executed| match number {
            Some(pid) => process.pid == pid,
            None => executed.is_called(name),
        };
        process.executed.iter().find(fits).map(|e| (process, e.at))
    })
}
