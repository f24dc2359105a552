//! `rr ps`: the processes of a recording.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use rr_trace::event::{EventKind, EventNumber, TaskOp};
use rr_tracee::Tid;

use crate::traces;

/// The command line of `rr ps`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Trace directory or name; the latest one if omitted
    trace: Option<PathBuf>,
}

#[derive(Debug)]
struct Process {
    pid: Tid,
    parent: Option<Tid>,
    status: Option<i32>,
    command: Option<Vec<String>>,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let reader = traces::open(options.trace.as_deref())?;
    let mut all: Vec<Process> = Vec::new();
    // Which process a task belongs to: numbers are reused.
    let mut live: BTreeMap<Tid, usize> = BTreeMap::new();
    for event in reader.events_from(EventNumber(1))? {
        let event = event?;
        match &event.kind {
            EventKind::Start { exec, .. } => {
                live.insert(event.tid, all.len());
                all.push(Process {
                    pid: event.tid,
                    parent: None,
                    status: None,
                    command: Some(exec.args.clone()),
                });
            }
            EventKind::Syscall {
                task: Some(TaskOp::Clone(info)),
                ..
            } => {
                if info.tgid == info.child {
                    let parent = live.get(&event.tid).map(|&n| all[n].pid);
                    live.insert(info.child, all.len());
                    all.push(Process {
                        pid: info.child,
                        parent,
                        status: None,
                        command: None,
                    });
                } else if let Some(&n) = live.get(&event.tid) {
                    live.insert(info.child, n);
                }
            }
            EventKind::Syscall {
                task: Some(TaskOp::Exec(info)),
                ..
            } => {
                // A thread that executes a program takes over the tid of its process.
                if let Some(n) = live.remove(&event.tid) {
                    all[n].command = Some(info.args.clone());
                    live.insert(info.tid, n);
                }
            }
            // The process ends with its last task.
            EventKind::Exit { status } => {
                if let Some(n) = live.remove(&event.tid) {
                    all[n].status = (!live.values().any(|&m| m == n)).then_some(*status);
                }
            }
            _ => {}
        }
    }
    println!("PID\tPPID\tEXIT\tCMD");
    for process in &all {
        let parent = process.parent.map_or("--".into(), |p| p.to_string());
        let exit = match process.status {
            None => "none".into(),
            Some(status) if libc::WIFSIGNALED(status) => format!("-{}", libc::WTERMSIG(status)),
            Some(status) => libc::WEXITSTATUS(status).to_string(),
        };
        let command = process
            .command
            .as_ref()
            .map_or("(forked without exec)".into(), |c| c.join(" "));
        println!("{}\t{parent}\t{exit}\t{command}", process.pid);
    }
    Ok(ExitCode::SUCCESS)
}
