//! The trace event format of Chrome and Perfetto: slices for what ran and what waited, instants for the rest, arrows from a
//! call to the task that it created.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::collect::{Kind, Step, Timeline};

/// Writes the file, an event a line.
pub fn write(out: &mut impl Write, timeline: &Timeline) -> Result<()> {
    write!(
        out,
        "{{\"displayTimeUnit\":\"ns\",\"otherData\":{},\"traceEvents\":[",
        json!({
            "command": timeline.command, "trace": timeline.trace,
        })
    )?;
    let mut separator = "\n";
    let mut put = |value: Value| -> Result<()> {
        write!(out, "{separator}{value}")?;
        separator = ",\n";
        Ok(())
    };
    for (n, row) in timeline.rows.iter().enumerate() {
        let program = row.program.rsplit('/').next().unwrap_or_default();
        let mut name = |what: &str, name: String| {
            put(json!({"ph": "M", "name": what, "pid": row.tgid.0, "tid": row.tid.0, "args": {"name": name}}))
        };
        if row.tid == row.tgid {
            name("process_name", program.to_owned())?;
        }
        name("thread_name", format!("{program} {}", row.tid))?;
        put(
            json!({"ph": "M", "name": "thread_sort_index", "pid": row.tgid.0, "tid": row.tid.0, "args": {"sort_index": n}}),
        )?;
    }
    let mut before = timeline.steps.first().map_or(0, |step| step.time_ns);
    // When the tasks have begun to wait.
    let mut waits = vec![None; timeline.rows.len()];
    for (n, step) in timeline.steps.iter().enumerate() {
        step_events(timeline, n, step, before, &mut waits, &mut put)?;
        before = step.time_ns;
    }
    for mark in &timeline.marks {
        put(json!({
            "ph": "i", "s": "g", "name": "checkpoint", "ts": micros(mark.time_ns), "pid": 0, "tid": 0,
            "args": {"event": mark.event.0, "pause_us": mark.pause_us, "bytes": mark.bytes, "made by": mark.maker},
        }))?;
    }
    writeln!(out, "\n]}}")?;
    Ok(())
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

fn step_events(
    timeline: &Timeline,
    n: usize,
    step: &Step,
    before: u64,
    waits: &mut [Option<u64>],
    put: &mut impl FnMut(Value) -> Result<()>,
) -> Result<()> {
    let row = &timeline.rows[step.row];
    let name = &*timeline.names[step.name];
    let (pid, tid) = (row.tgid.0, row.tid.0);
    let slice = |name: &str, category: &str, from: u64| {
        json!({
            "ph": "X", "name": name, "cat": category, "ts": micros(from), "dur": micros(step.time_ns.saturating_sub(from)),
            "pid": pid, "tid": tid, "args": {"event": step.number.0, "value": step.value, "buffered calls": step.buffered},
        })
    };
    let instant = |name: String| {
        json!({
            "ph": "i", "s": "t", "name": name, "ts": micros(step.time_ns), "pid": pid, "tid": tid,
            "args": {"event": step.number.0, "value": step.value},
        })
    };
    if step.ran {
        put(slice(if name.is_empty() { "run" } else { name }, "run", before))?;
    }
    let waited = waits[step.row].take();
    match step.kind {
        Kind::Enter => waits[step.row] = Some(step.time_ns),
        Kind::Return | Kind::Restart | Kind::Exit | Kind::Clone | Kind::Exec => {
            if let Some(from) = waited {
                put(slice(&format!("waits: {name}"), "wait", from))?;
            }
        }
        // A signal comes to a task that waits on.
        _ => waits[step.row] = waited,
    }
    match step.kind {
        Kind::Signal => put(instant(name.to_owned()))?,
        Kind::Exit => put(instant(format!("exits with {}", step.value)))?,
        Kind::Exec => put(instant(format!("executes {name}")))?,
        Kind::Clone => {
            let arrow = |ph: &str, time: u64, pid: i32, tid: i64| {
                json!({
                    "ph": ph, "bp": "e", "id": n, "name": "creates", "cat": "task", "ts": micros(time), "pid": pid, "tid": tid,
                })
            };
            put(arrow("s", step.time_ns, pid, tid.into()))?;
            let child = timeline
                .rows
                .iter()
                .find(|row| i64::from(row.tid.0) == step.value);
            if let Some(child) = child {
                put(arrow("f", step.time_ns, child.tgid.0, step.value))?;
            }
        }
        _ => {}
    }
    if step.written > 0 {
        put(instant(format!("writes {} bytes", step.written)))?;
    }
    Ok(())
}
