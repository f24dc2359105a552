//! The processes of a recording, followed from event to event: while it is made, and when it is read.
//!
//! Keeps: a task that has not exited belongs to exactly one process.

use std::collections::BTreeMap;
use std::sync::Arc;

use rr_tracee::{Addr, Tid};

use crate::event::{CloneInfo, Event, EventKind, EventNumber, ExecInfo, TaskOp};

/// A program that a process executed.
#[derive(PartialEq, Eq, Debug)]
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
    pub(crate) fn new(at: EventNumber, exec: &ExecInfo, kind: &EventKind) -> Executed {
        Executed {
            at,
            path: exec.path.clone(),
            args: exec.args.clone(),
            stack: Addr(kind.after().map_or(0, |regs| regs.rsp)),
        }
    }

    /// The same, for a recording that begins after this event: nobody can go to where it was executed.
    pub(crate) fn moved_to(&self, at: EventNumber) -> Arc<Executed> {
        Arc::new(Executed {
            at,
            path: self.path.clone(),
            args: self.args.clone(),
            stack: self.stack,
        })
    }

    /// Bytes in a table of processes, about.
    fn table_bytes(&self) -> usize {
        let args = self.args.iter().map(|arg| arg.len() + 16).sum::<usize>();
        ENTRY_BYTES + self.path.len() + args
    }

    /// Says if people would call the program by this name.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        let base = |path: &str| path.rsplit('/').next() == Some(name);
        base(&self.path) || self.args.first().is_some_and(|arg| base(arg))
    }
}

/// One process.
#[derive(PartialEq, Eq, Debug)]
pub struct Process {
    /// Its number; others may have had it before, or after it.
    pub pid: Tid,
    /// The process that created it; `None` for the first.
    pub parent: Option<Tid>,
    /// Its status, as wait(2) says; `None` if the recording ended before it.
    pub status: Option<i32>,
    /// The programs that it executed, in order.
    pub executed: Vec<Arc<Executed>>,
    /// The program of the process that it was forked from.
    pub inherited: Option<Arc<Executed>>,
    /// The event that created it; of one that is older than the recording's beginning, the event of the checkpoint there.
    pub began: EventNumber,
    /// The first of the events in which its last tasks exit: it does nothing any more.
    pub ended: Option<EventNumber>,
}

impl Process {
    pub(crate) fn new(pid: Tid, parent: Option<Tid>, began: EventNumber) -> Process {
        Process {
            pid,
            parent,
            status: None,
            executed: Vec::new(),
            inherited: None,
            began,
            ended: None,
        }
    }

    /// The program that it executes in the end.
    pub(crate) fn program(&self) -> Option<&Arc<Executed>> {
        self.executed.last().or(self.inherited.as_ref())
    }

    /// The program that it executes at an event, itself or because it was forked so.
    pub fn program_at(&self, at: EventNumber) -> Option<&Executed> {
        let own = self.executed.iter().rfind(|executed| executed.at <= at);
        own.or(self.inherited.as_ref()).map(|program| &**program)
    }
}

/// Bytes of a process in a table, or of a program, beside names and arguments, about.
const ENTRY_BYTES: usize = 64;

/// The part of an event that changes the set of processes.
#[derive(Debug)]
pub(crate) struct Change {
    /// The event.
    pub(crate) at: EventNumber,
    tid: Tid,
    kind: ChangeKind,
}

#[derive(Debug)]
enum ChangeKind {
    Start(Arc<Executed>),
    Clone {
        child: Tid,
        tgid: Tid,
    },
    Exec {
        executed: Arc<Executed>,
        tid: Tid,
    },
    Exit(i32),
    /// A task of a process of which other tasks have exited has an event other than its exit.
    GoesOn,
}

impl Change {
    /// Bytes that it adds to a table of processes, about.
    pub(crate) fn table_bytes(&self) -> usize {
        match &self.kind {
            ChangeKind::Start(executed) => ENTRY_BYTES + executed.table_bytes(),
            ChangeKind::Exec { executed, .. } => executed.table_bytes(),
            ChangeKind::Clone { child, tgid } if child == tgid => ENTRY_BYTES,
            ChangeKind::Clone { .. } | ChangeKind::Exit(_) | ChangeKind::GoesOn => 0,
        }
    }

    /// The change that an event makes, if it makes one.
    fn of(event: &Event) -> Option<Change> {
        let executed = |exec: &ExecInfo| Arc::new(Executed::new(event.number, exec, &event.kind));
        let kind = match &event.kind {
            EventKind::Start { exec, .. } => ChangeKind::Start(executed(exec)),
            EventKind::Syscall {
                task: Some(TaskOp::Clone(CloneInfo { child, tgid, .. })),
                ..
            } => ChangeKind::Clone {
                child: *child,
                tgid: *tgid,
            },
            EventKind::Syscall {
                task: Some(TaskOp::Exec(exec)),
                ..
            } => ChangeKind::Exec {
                executed: executed(exec),
                tid: exec.tid,
            },
            EventKind::Exit { status } => ChangeKind::Exit(*status),
            _ => return None,
        };
        Some(Change {
            at: event.number,
            tid: event.tid,
            kind,
        })
    }
}

/// A process that lives, with its tasks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Living {
    pub(crate) pid: Tid,
    pub(crate) parent: Option<Tid>,
    pub(crate) tids: Vec<Tid>,
    /// It executed [`Living::program`] itself.
    pub(crate) executed: bool,
    /// The program that it executes, itself or because it was forked so.
    pub(crate) program: Option<Arc<Executed>>,
}

/// Processes in the order in which they came into being.
#[derive(Debug, Default)]
pub(crate) struct Lineage {
    all: BTreeMap<usize, Process>,
    /// The process of each task: numbers are reused.
    live: BTreeMap<Tid, usize>,
    next: usize,
}

impl Lineage {
    /// The processes that live after event `at`, where the recording begins now.
    pub(crate) fn from_living(at: EventNumber, living: Vec<Living>) -> Lineage {
        let mut lineage = Lineage::default();
        for one in living {
            let mut process = Process::new(one.pid, one.parent, at);
            let program = one.program.map(|program| program.moved_to(at));
            match one.executed {
                true => process.executed.extend(program),
                false => process.inherited = program,
            }
            lineage
                .live
                .extend(one.tids.iter().map(|tid| (*tid, lineage.next)));
            lineage.add(process);
        }
        lineage
    }

    /// The processes that live now.
    pub(crate) fn living(&self) -> Vec<Living> {
        let mut tids: BTreeMap<usize, Vec<Tid>> = BTreeMap::new();
        for (tid, n) in &self.live {
            tids.entry(*n).or_default().push(*tid);
        }
        let living = tids.into_iter().filter_map(|(n, tids)| {
            let process = self.all.get(&n)?;
            Some(Living {
                pid: process.pid,
                parent: process.parent,
                tids,
                executed: !process.executed.is_empty(),
                program: process.program().cloned(),
            })
        });
        living.collect()
    }

    /// Forgets the processes that have ended, and all but the last program of the others.
    pub(crate) fn forget_the_past(&mut self) {
        let live: std::collections::BTreeSet<usize> = self.live.values().copied().collect();
        self.all.retain(|n, _| live.contains(n));
        for process in self.all.values_mut() {
            let before_last = process.executed.len().saturating_sub(1);
            process.executed.drain(..before_last);
        }
    }

    /// Bytes of a table of all processes, about.
    pub(crate) fn table_bytes(&self) -> usize {
        let of = |process: &Process| {
            let programs = process.inherited.iter().chain(&process.executed);
            ENTRY_BYTES + programs.map(|program| program.table_bytes()).sum::<usize>()
        };
        self.all.values().map(of).sum()
    }

    /// All processes.
    pub(crate) fn into_all(self) -> Vec<Process> {
        self.all.into_values().collect()
    }

    /// Follows the next event. Returns what it changes, in order.
    pub(crate) fn follow_event(&mut self, event: &Event) -> [Option<Change>; 2] {
        let process = self.live.get(&event.tid).and_then(|n| self.all.get(n));
        let is_exit = matches!(event.kind, EventKind::Exit { .. });
        let goes_on = process.is_some_and(|process| process.ended.is_some()) && !is_exit;
        let goes_on = goes_on.then_some(Change {
            at: event.number,
            tid: event.tid,
            kind: ChangeKind::GoesOn,
        });
        let changes = [goes_on, Change::of(event)];
        for change in changes.iter().flatten() {
            self.follow(change);
        }
        changes
    }

    /// Follows the next change.
    pub(crate) fn follow(&mut self, change: &Change) {
        let owner = self.live.get(&change.tid).copied();
        let process = owner.and_then(|n| self.all.get_mut(&n));
        match &change.kind {
            ChangeKind::GoesOn => {
                if let Some(process) = process {
                    process.ended = None;
                }
            }
            ChangeKind::Start(executed) => {
                self.live.insert(change.tid, self.next);
                let mut first = Process::new(change.tid, None, change.at);
                first.executed.push(Arc::clone(executed));
                self.add(first);
            }
            ChangeKind::Clone { child, tgid } if child == tgid => {
                self.live.insert(*child, self.next);
                let parent = owner.and_then(|n| self.all.get(&n));
                let mut made = Process::new(*child, parent.map(|parent| parent.pid), change.at);
                made.inherited = parent.and_then(Process::program).cloned();
                self.add(made);
            }
            ChangeKind::Clone { child, .. } => {
                if let Some(n) = owner {
                    self.live.insert(*child, n);
                }
            }
            // A thread that executes a program takes over the tid of its process.
            ChangeKind::Exec { executed, tid } => {
                if let (Some(n), Some(process)) = (self.live.remove(&change.tid), process) {
                    process.executed.push(Arc::clone(executed));
                    self.live.insert(*tid, n);
                }
            }
            // The process ends with its last task.
            ChangeKind::Exit(status) => {
                if let (Some(n), Some(process)) = (self.live.remove(&change.tid), process) {
                    process.ended.get_or_insert(change.at);
                    process.status = (!self.live.values().any(|&m| m == n)).then_some(*status);
                }
            }
        }
    }

    fn add(&mut self, process: Process) {
        self.all.insert(self.next, process);
        self.next += 1;
    }
}
