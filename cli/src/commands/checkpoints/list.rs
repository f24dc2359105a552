//! The list, as a table for people and as JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use rr_checkpoint::{Checkpoint, CheckpointStats, bytes_on_disk};
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;
use serde_json::{Value, json};

use crate::size::Size;
use crate::traces;

/// A checkpoint by its event, if it can be used. (Opened, some hundred would have all the files that one may have open.)
type Row = (EventNumber, rr_checkpoint::Result<Facts>);

/// The facts about a checkpoint.
struct Facts {
    time_ns: u64,
    resident: u64,
    stats: CheckpointStats,
}

pub(super) fn run(trace: Option<&Path>, as_json: bool) -> Result<ExitCode> {
    let reader = traces::open(trace)?;
    if as_json {
        println!("{}", serde_json::to_string_pretty(&json(&reader)?)?);
        return Ok(ExitCode::SUCCESS);
    }
    let bytes = bytes(&reader)?;
    print!("{}", table(&rows(&reader)?, bytes));
    Ok(ExitCode::SUCCESS)
}

/// The bytes of all checkpoints on the disk.
fn bytes(reader: &TraceReader) -> Result<u64> {
    Ok(match reader.pack() {
        Some(pack) => pack.bytes_of_checkpoints(),
        None => bytes_on_disk(&reader.checkpoint_dir()?)?,
    })
}

fn rows(reader: &TraceReader) -> Result<Vec<Row>> {
    let uuid = reader.header().uuid;
    let facts = |checkpoint: Checkpoint| Facts {
        time_ns: checkpoint.image().time_ns,
        resident: checkpoint.resident_bytes(),
        stats: checkpoint.stats().clone(),
    };
    let row = |event| (event, Checkpoint::open_at(reader, event, &uuid).map(facts));
    Ok(reader.checkpoints()?.into_iter().map(row).collect())
}

fn table(rows: &[Row], bytes: u64) -> String {
    let mut text = String::new();
    let mut line = |event: &str, rest: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{event:>12}  {rest}");
    };
    if !rows.is_empty() {
        let names = format_args!(
            "{:>11}  {:>5}  {:>9}  {:>9}  {:>10}  made by",
            "time", "tasks", "resident", "stored", "pause"
        );
        line("event", names);
    }
    for (event, opened) in rows {
        match opened {
            Ok(Facts {
                time_ns,
                resident,
                stats,
            }) => {
                let seconds = *time_ns as f64 / 1e9;
                let pause = stats.pause_us as f64 / 1e3;
                let (resident, stored) = (Size(*resident), Size(stats.bytes));
                line(
                    &event.to_string(),
                    format_args!(
                        "{seconds:>9.3} s  {:>5}  {resident:>9}  {stored:>9}  {pause:>7.1} ms  {}",
                        stats.tasks, stats.maker
                    ),
                );
            }
            Err(e) => line(&event.to_string(), format_args!("cannot be used: {e}")),
        }
    }
    let unusable = rows.iter().filter(|(_, opened)| opened.is_err()).count();
    let _ = write!(text, "{} checkpoints", rows.len());
    if unusable > 0 {
        let _ = write!(text, ", {unusable} of which cannot be used");
    }
    let _ = writeln!(text, "; {} on the disk", Size(bytes));
    text
}

/// The same for programs.
pub fn json(reader: &TraceReader) -> Result<Value> {
    let rows = rows(reader)?;
    let unusable = rows.iter().filter(|(_, opened)| opened.is_err()).count();
    let object = |(event, opened): &Row| match opened {
        Ok(Facts {
            time_ns,
            resident,
            stats: s,
        }) => {
            json!({
                "event": event.0, "time_ns": time_ns, "tasks": s.tasks, "pause_us": s.pause_us,
                "resident": resident, "pages_scanned": s.pages_scanned,
                "pages_referenced": s.pages_referenced, "pages_stored": s.pages_stored, "pages_zero": s.pages_zero,
                "pages_unchanged": s.pages_unchanged, "bytes": s.bytes, "write_ms": s.write_ms, "method": s.method, "spaces_in_place": s.spaces_in_place,
                "maker": s.maker.to_string(),
            })
        }
        Err(e) => json!({ "event": event.0, "error": e.to_string() }),
    };
    Ok(json!({
        "checkpoints": rows.iter().map(object).collect::<Vec<_>>(),
        "totals": {
            "checkpoints": rows.len(),
            "unusable": unusable,
            "bytesOnDisk": bytes(reader)?,
        },
    }))
}
