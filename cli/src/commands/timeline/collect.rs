//! The contents of a picture of a recording: a few words about each event, and the tasks that they belong to.
//!
//! An interval is executed between the event before (of any task, I1) and its own event. A call that others went on during has two
//! events; between them its task waits.

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use rr_checkpoint::Checkpoint;
use rr_trace::TraceReader;
use rr_trace::event::{Event, EventKind, EventNumber, OutputSource, TaskOp};
use rr_tracee::{Tid, syscalls};

use crate::signals;

/// A kind of event. The page knows them by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A system call, made without a wait.
    Call = 0,
    /// A system call begins to wait.
    Enter = 1,
    /// A system call that has waited returns.
    Return = 2,
    /// A call that a signal has interrupted goes back to its instruction.
    Restart = 3,
    /// An instruction that reads the outside world.
    Trap = 4,
    /// A signal.
    Signal = 5,
    /// An execution point.
    Point = 6,
    /// The task exits.
    Exit = 7,
    /// A task is created.
    Clone = 8,
    /// A program is executed.
    Exec = 9,
    /// A task that traces this one has set its registers.
    Set = 10,
}

/// An event.
#[derive(Debug)]
pub struct Step {
    /// Its number.
    pub number: EventNumber,
    /// Nanoseconds since the recording began.
    pub time_ns: u64,
    /// The row of its task.
    pub row: usize,
    /// The kind of event.
    pub kind: Kind,
    /// True if the task has executed an interval before it.
    pub ran: bool,
    /// The name of the call, of the signal, or of the program: an index.
    pub name: usize,
    /// The result of the call, the status of the exit, or the new task.
    pub value: i64,
    /// Buffered calls of the interval.
    pub buffered: u64,
    /// The number of bytes that it wrote to standard output or error.
    pub written: u64,
}

/// A task.
#[derive(Debug)]
pub struct Row {
    /// The task.
    pub tid: Tid,
    /// Its process.
    pub tgid: Tid,
    /// The program that it executes last.
    pub program: String,
    /// True if its process executes a program, so that `-p` finds it.
    pub executes: bool,
}

/// A stored checkpoint.
#[derive(Debug)]
pub struct Mark {
    /// Its event.
    pub event: EventNumber,
    /// When.
    pub time_ns: u64,
    /// The time that the program stood still for it, in microseconds.
    pub pause_us: u64,
    /// The bytes of its file.
    pub bytes: u64,
    /// Its maker.
    pub maker: String,
}

/// A recording, for a picture.
#[derive(Debug)]
pub struct Timeline {
    /// The trace as the user would name it.
    pub trace: String,
    /// The command that was recorded.
    pub command: String,
    /// True if the recording ended properly.
    pub complete: bool,
    /// The tasks, processes together.
    pub rows: Vec<Row>,
    /// The events.
    pub steps: Vec<Step>,
    /// Names that steps refer to.
    pub names: Vec<String>,
    /// The checkpoints.
    pub marks: Vec<Mark>,
    /// The bytes that the program wrote, by the index of the step. Empty, unless the recording was replayed for it.
    pub outputs: Vec<(usize, String)>,
}

/// Reads a recording.
pub fn collect(reader: &TraceReader) -> Result<Timeline> {
    let header = reader.header();
    let words = header.args.iter().map(|arg| arg.to_string_lossy());
    let mut collector = Collector {
        timeline: Timeline {
            trace: reader.path().display().to_string(),
            command: words.collect::<Vec<_>>().join(" "),
            complete: reader.is_complete(),
            rows: Vec::new(),
            steps: Vec::new(),
            names: Vec::new(),
            marks: marks(reader)?,
            outputs: Vec::new(),
        },
        names: HashMap::new(),
        rows: HashMap::new(),
        calls: HashMap::new(),
        executing: HashSet::new(),
    };
    for event in reader.events_from(reader.first_event().max(EventNumber(1)))? {
        collector.add(&event?);
    }
    let mut timeline = collector.timeline;
    for row in &mut timeline.rows {
        row.executes = collector.executing.contains(&row.tgid);
    }
    sort_rows(&mut timeline);
    Ok(timeline)
}

/// The checkpoints that can be read.
fn marks(reader: &TraceReader) -> Result<Vec<Mark>> {
    let mut marks = Vec::new();
    for event in reader.checkpoints()? {
        // One that cannot be used is no place to start from.
        let Ok(checkpoint) = Checkpoint::open_at(reader, event, &reader.header().uuid) else {
            continue;
        };
        let stats = checkpoint.stats();
        marks.push(Mark {
            event,
            time_ns: checkpoint.image().time_ns,
            pause_us: stats.pause_us,
            bytes: stats.bytes,
            maker: stats.maker.to_string(),
        });
    }
    Ok(marks)
}

/// Puts the threads of a process below each other; processes stay in the order in which they came into being.
fn sort_rows(timeline: &mut Timeline) {
    let mut first = HashMap::new();
    for (n, row) in timeline.rows.iter().enumerate() {
        first.entry(row.tgid).or_insert(n);
    }
    let mut order: Vec<usize> = (0..timeline.rows.len()).collect();
    order.sort_by_key(|&n| (first[&timeline.rows[n].tgid], n));
    let mut place = vec![0; order.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old] = new;
    }
    for step in &mut timeline.steps {
        step.row = place[step.row];
    }
    let mut rows: Vec<(usize, Row)> = std::mem::take(&mut timeline.rows)
        .into_iter()
        .enumerate()
        .map(|(old, row)| (place[old], row))
        .collect();
    rows.sort_by_key(|(new, _)| *new);
    timeline.rows = rows.into_iter().map(|(_, row)| row).collect();
}

struct Collector {
    timeline: Timeline,
    names: HashMap<String, usize>,
    /// The rows of the tasks that live.
    rows: HashMap<Tid, usize>,
    /// The calls that tasks wait in.
    calls: HashMap<Tid, i64>,
    /// The processes that execute a program.
    executing: HashSet<Tid>,
}

impl Collector {
    fn name(&mut self, name: &str) -> usize {
        if let Some(n) = self.names.get(name) {
            return *n;
        }
        let n = self.timeline.names.len();
        self.timeline.names.push(name.to_owned());
        self.names.insert(name.to_owned(), n);
        n
    }

    /// The row of a task; a new one, if it is not known.
    fn row(&mut self, tid: Tid) -> usize {
        match self.rows.get(&tid) {
            Some(row) => *row,
            None => self.new_row(tid, tid, String::new()),
        }
    }

    fn new_row(&mut self, tid: Tid, tgid: Tid, program: String) -> usize {
        let n = self.timeline.rows.len();
        let row = Row {
            tid,
            tgid,
            program,
            executes: false,
        };
        self.timeline.rows.push(row);
        self.rows.insert(tid, n);
        n
    }

    /// The task of a row executes a program.
    fn executes(&mut self, row: usize, path: &str) {
        let row = &mut self.timeline.rows[row];
        path.clone_into(&mut row.program);
        self.executing.insert(row.tgid);
    }

    fn add(&mut self, event: &Event) {
        let row = self.row(event.tid);
        let mut step = Step {
            number: event.number,
            time_ns: event.time_ns,
            row,
            kind: Kind::Call,
            ran: event.kind.before().is_some(),
            name: 0,
            value: 0,
            buffered: event.buffered_calls(),
            written: 0,
        };
        let mut name = String::new();
        match &event.kind {
            EventKind::Start { exec, .. } => {
                step.kind = Kind::Exec;
                name.clone_from(&exec.path);
                self.executes(row, &exec.path);
            }
            EventKind::SyscallEnter { entry } => {
                step.kind = Kind::Enter;
                self.calls.insert(event.tid, entry.syscall());
                name = syscalls::name(entry.syscall()).into_owned();
            }
            EventKind::Syscall {
                entry,
                after,
                task,
                output,
                ..
            } => {
                let waited = self.calls.remove(&event.tid);
                if entry.is_none() {
                    step.kind = Kind::Return;
                }
                let call = entry.as_ref().map(|entry| entry.syscall()).or(waited);
                name = call.map_or_else(String::new, |call| syscalls::name(call).into_owned());
                step.value = after.rax as i64;
                if let Some(output) = output {
                    step.written = match &output.source {
                        OutputSource::Memory(parts) => parts.iter().map(|(_, len)| len).sum(),
                        OutputSource::Bytes(bytes) => bytes.len() as u64,
                    };
                }
                match task {
                    Some(TaskOp::Clone(info)) => {
                        step.kind = Kind::Clone;
                        step.value = info.child.0.into();
                        let program = self.timeline.rows[row].program.clone();
                        self.new_row(info.child, info.tgid, program);
                    }
                    Some(TaskOp::Exec(exec)) => {
                        step.kind = Kind::Exec;
                        name.clone_from(&exec.path);
                        self.executes(row, &exec.path);
                        // A thread that executes a program takes over the number of its process.
                        if exec.tid != event.tid {
                            self.rows.remove(&event.tid);
                            self.rows.insert(exec.tid, row);
                        }
                    }
                    None => {}
                }
            }
            EventKind::Restart { .. } => {
                step.kind = Kind::Restart;
                let call = self.calls.remove(&event.tid);
                name = call.map_or_else(String::new, |call| syscalls::name(call).into_owned());
            }
            EventKind::SetRegisters { .. } => step.kind = Kind::Set,
            EventKind::Trap { .. } => step.kind = Kind::Trap,
            EventKind::Point { .. } => step.kind = Kind::Point,
            EventKind::Signal { signo, .. } => {
                step.kind = Kind::Signal;
                name = signals::name(*signo);
            }
            EventKind::Exit { status } => {
                step.kind = Kind::Exit;
                step.value = (*status).into();
                self.rows.remove(&event.tid);
                self.calls.remove(&event.tid);
            }
        }
        step.name = self.name(&name);
        self.timeline.steps.push(step);
    }
}
