//! The first event: the launched child executes the program.

use std::sync::Arc;

use rr_trace::TraceWriter;
use rr_trace::event::EventKind;
use rr_tracee::task::{Resume, Stop, Waited};
use rr_tracee::{Running, Tid, procfs};

use crate::buffer::rewrite::rewrite_known;
use crate::checkpoint::capture::Capture;
use crate::drive::members::add_task;
use crate::drive::state::Drive;
use crate::error::{Error, Result};
use crate::log::event_log::EventLog;
use crate::log::events::emit;
use crate::policy::options::Options;
use crate::policy::options::Policy;
use crate::seccomp::Confined;
use crate::session::RecordSession;
use crate::signal::actions::Actions;
use crate::start::launch;
use crate::start::launch::Command;
use crate::task::exec::{NewSpace, take_over};
use crate::world::model::World;
use crate::world::task::{State, Task};

impl RecordSession {
    /// Starts `command`. `writer` gets the events; `capture` the checkpoints.
    pub fn start(
        command: &Command,
        options: Options,
        writer: TraceWriter,
        capture: Capture,
    ) -> Result<RecordSession> {
        let launched = launch::launch(command)?;
        let root = launched.task.tid();
        let mut world = World::new(Arc::clone(writer.files()));
        world.mapped.searched.with_components = options.processor.portable.is_some();
        let mut session = RecordSession {
            world,
            log: EventLog::new(writer),
            drive: Drive::new(options.schedule, root),
            policy: Policy::new(options, launched.program.display().to_string()),
            checkpoints: capture,
            root,
            root_status: None,
        };
        first_exec(&mut session, launched.task)?;
        Ok(session)
    }
}

/// Runs the launched child to the first event.
pub(crate) fn first_exec(session: &mut RecordSession, task: Running) -> Result<()> {
    let tid = task.tid();
    match try_first_exec(session, task) {
        Err(Error::Tracee(rr_tracee::Error::Died(_))) => {
            rr_tracee::task::kill(tid);
            Err(Error::Start {
                program: session.policy.program().to_owned(),
                why: "it was killed, and ended before it began".into(),
            })
        }
        other => other,
    }
}

fn try_first_exec(session: &mut RecordSession, task: Running) -> Result<()> {
    let tid = task.tid();
    let program = session.policy.program().to_owned();
    let died = |why: String| Error::Start {
        program: program.clone(),
        why,
    };
    let mut running = task;
    let mut executed = false;
    loop {
        let (stopped, stop) = match running.wait()? {
            Waited::Stopped(stopped, stop) => (stopped, stop),
            Waited::Gone(status) => {
                return Err(died(format!(
                    "it ended before it began (wait status {status:#x})"
                )));
            }
        };
        match stop {
            Stop::Exec { .. } => executed = true,
            Stop::Syscall if executed => {
                let taken = take_over(session, tid, tid, stopped).map_err(|e| match e {
                    Error::Unsupported { what, .. } => died(what.into()),
                    other => other,
                })?;
                return first_event(session, tid, taken);
            }
            Stop::Syscall => {
                let result = stopped.regs()?.result();
                rr_tracee::task::kill(tid);
                // Killed children report their end, which tells nothing more.
                let _ = stopped.resume(Resume::Cont, None)?.wait();
                let errno = nix::errno::Errno::from_raw(-result as i32);
                let hint = if errno == nix::errno::Errno::ENOEXEC {
                    " (a script needs a first line such as #!/bin/sh)"
                } else {
                    ""
                };
                return Err(died(format!("{errno}{hint}")));
            }
            _ => {}
        }
        running = stopped.resume(Resume::Syscall, None)?;
    }
}

fn first_event(session: &mut RecordSession, tid: Tid, taken: NewSpace) -> Result<()> {
    let NewSpace {
        stopped,
        after,
        memory,
        space,
        mut ops,
        mut writes,
        info,
    } = taken;
    let xstate = stopped.xstate()?;
    let mut task = Task::new(stopped, tid, info.space, after);
    task.memory = memory;
    task.life.exe = info.path.clone();
    task.settings.confined = Confined::inherited();
    task.signals.actions = Actions::inherited(procfs::signal_dispositions(tid)?.ignored);
    session.world.spaces.insert(info.space, space);
    add_task(session, task);
    if let State::Ready(stopped) = session.world.task_mut(tid)?.take_state() {
        let stopped = rewrite_known(session, tid, stopped, &mut ops, &mut writes)?;
        session.world.task_mut(tid)?.state = State::Ready(stopped);
    }
    emit(
        session,
        tid,
        EventKind::Start {
            exec: info,
            after,
            xstate,
        },
        ops,
        writes,
    )
}
