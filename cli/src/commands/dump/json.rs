//! Events as JSON. Addresses and registers are strings: not every program reads 64-bit numbers right.

use rr_trace::event::{Event, EventKind, TaskOp};
use rr_tracee::{Registers, SpaceOp, syscalls};
use serde_json::{Map, Value, json};

use super::line::Line;
use super::options::Options;
use super::{buffered, sockets, text};
use crate::registers;

/// The object for one event.
pub fn object(line: &Line<'_>, options: &Options) -> Value {
    let event = line.event;
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("event", event.number.0.into());
    put("time_ns", event.time_ns.into());
    put("tid", event.tid.0.into());
    put("type", line.name().into());
    put("state", line.state().into());
    if let Some(call) = &line.call {
        put("syscall", syscalls::name(call.syscall()).into());
        put("args", (0..6).map(|n| format!("{:#x}", call.arg(n))).collect());
    }
    match &event.kind {
        EventKind::Syscall { after, payload, .. } => {
            put("result", after.result().into());
            if let Some(digest) = payload {
                put("payload", digest.to_string().into());
            }
        }
        EventKind::Signal { signo, .. } => {
            put("signal", (*signo).into());
        }
        EventKind::Exit { status } => {
            put("status", (*status).into());
        }
        _ => {}
    }
    if let Some(regs) = event.kind.after().or_else(|| event.kind.before()) {
        put("registers", all_registers(regs));
    }
    if options.syscallbuf {
        put("buffered", buffered_calls(event));
    }
    if options.task_events
        && let Some(task) = task_event(line)
    {
        put("task", task);
    }
    if options.socket_addresses
        && let Some(address) = sockets::told(event, line.call.as_ref())
    {
        put("socket_address", address.into());
    }
    if options.mmaps {
        let others = event.others.iter().map(|(_, op)| op);
        put("mmaps", event.ops.iter().chain(others).map(space_op).collect());
    }
    if options.recorded_metadata {
        put("writes", writes(event));
    }
    Value::Object(object)
}

fn all_registers(regs: &Registers) -> Value {
    let named = registers::named(regs);
    let words = named.map(|(name, value)| (name.to_owned(), format!("{value:#x}").into()));
    Value::Object(words.into_iter().collect())
}

fn task_event(line: &Line<'_>) -> Option<Value> {
    if let Some(exec) = line.exec() {
        return Some(json!({ "exec": { "tid": exec.tid.0, "file": exec.path, "args": exec.args } }));
    }
    match &line.event.kind {
        EventKind::Syscall {
            task: Some(TaskOp::Clone(c)),
            ..
        } => Some(json!({ "clone": { "tid": c.child.0, "tgid": c.tgid.0, "flags": c.flags } })),
        EventKind::Exit { status } => Some(json!({ "exit": { "status": status } })),
        _ => None,
    }
}

fn space_op(op: &SpaceOp) -> Value {
    let SpaceOp::Map(mapping) = op else {
        return json!({ "op": format!("{op:?}") });
    };
    json!({
        "map_file": &*mapping.name,
        "addr": mapping.range.start.to_string(),
        "length": mapping.range.len(),
        "prot_flags": text::rights(mapping),
    })
}

fn buffered_calls(event: &Event) -> Value {
    let calls = buffered::calls(event).into_iter();
    calls
        .map(|call| {
            let mut object = json!({ "syscall": call.name, "result": call.result, "size": call.size });
            if let Some(digest) = call.payload {
                object["payload"] = digest.to_string().into();
            }
            object
        })
        .collect()
}

fn writes(event: &Event) -> Value {
    let write = |w: &rr_trace::event::MemWrite| json!({ "addr": w.addr.to_string(), "length": w.data.len() });
    event.writes.iter().map(write).collect()
}
