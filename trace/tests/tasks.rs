//! Events of tasks that start, clone, execute programs and exit.

use super::common::typical;
use rr_trace::event::{CloneInfo, ExecInfo, TaskOp};
use rr_trace::{Event, EventKind};
use rr_tracee::{ExtendedState, Registers, SpaceId, Tid};

fn program(path: &str, args: &[&str], tid: i32) -> ExecInfo {
    ExecInfo {
        path: path.into(),
        args: args.iter().map(|arg| (*arg).into()).collect(),
        space: SpaceId(3),
        tid: Tid(tid),
    }
}

/// An event of a task.
fn of(mut event: Event, tid: i32) -> Event {
    event.tid = Tid(tid);
    event
}

/// The first event: a task starts with a program.
pub fn start(number: u64, tid: i32, path: &str) -> Event {
    let mut event = of(typical(number, vec![]), tid);
    event.kind = EventKind::Start {
        exec: program(path, &[path], tid),
        xstate: ExtendedState(vec![]),
        after: Registers {
            rsp: 0x7000,
            ..Default::default()
        },
    };
    event
}

/// A call that does nothing to tasks.
pub fn call(number: u64, tid: i32) -> Event {
    of(typical(number, vec![1, 2, 3]), tid)
}

/// A call that does something to tasks.
fn call_that(number: u64, tid: i32, op: TaskOp) -> Event {
    let mut event = call(number, tid);
    if let EventKind::Syscall { task, .. } = &mut event.kind {
        *task = Some(op);
    }
    event
}

/// A new task: a process if `child` and `tgid` are equal, else a thread of that process.
pub fn clone(number: u64, tid: i32, child: i32, tgid: i32) -> Event {
    let info = CloneInfo {
        child: Tid(child),
        tgid: Tid(tgid),
        space: SpaceId(2),
        flags: 0,
        regs: Registers::default(),
    };
    call_that(number, tid, TaskOp::Clone(info))
}

/// A task of the process `leader` executes a program with the argument `x`.
pub fn exec(number: u64, tid: i32, leader: i32, path: &str) -> Event {
    call_that(number, tid, TaskOp::Exec(program(path, &[path, "x"], leader)))
}

/// A task exits.
pub fn exit(number: u64, tid: i32) -> Event {
    let mut event = of(typical(number, vec![]), tid);
    event.kind = EventKind::Exit { status: 0 };
    event
}
