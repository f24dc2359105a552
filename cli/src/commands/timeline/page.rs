//! The page: data, style and program in one file.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::collect::Timeline;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const PROGRAM: &str = include_str!("page.js");

/// Writes the page.
pub fn write(out: &mut impl Write, timeline: &Timeline) -> Result<()> {
    let data = serde_json::to_string(&data(timeline))?;
    // A `</script>` in a name of the recording must not end the data.
    let data = data.replace('<', "\\u003c");
    for part in PAGE.split_inclusive("-->") {
        match part.rsplit_once("<!--") {
            Some((before, "STYLE-->")) => write!(out, "{before}<style>\n{STYLE}</style>")?,
            Some((before, "DATA-->")) => {
                write!(
                    out,
                    "{before}<script id=\"data\" type=\"application/json\">{data}</script>"
                )?;
            }
            Some((before, "PROGRAM-->")) => write!(out, "{before}<script>\n{PROGRAM}</script>")?,
            _ => write!(out, "{part}")?,
        }
    }
    Ok(())
}

/// The data, by columns: a tenth of what an object for each event would take.
fn data(timeline: &Timeline) -> Value {
    let steps = &timeline.steps;
    let mut last = 0;
    let times: Vec<i64> = steps
        .iter()
        .map(|step| {
            let delta = step.time_ns as i64 - last;
            last = step.time_ns as i64;
            delta
        })
        .collect();
    let rows: Vec<Value> = (timeline.rows.iter())
        .map(|row| json!([row.tid.0, row.tgid.0, row.program, row.executes]))
        .collect();
    let marks: Vec<Value> = (timeline.marks.iter())
        .map(|mark| json!([mark.event.0, mark.time_ns, mark.pause_us, mark.bytes, mark.maker]))
        .collect();
    // Few events have these.
    let rare = |value: fn(&super::collect::Step) -> u64| -> Vec<(usize, u64)> {
        let values = steps.iter().map(value).enumerate();
        values.filter(|(_, value)| *value > 0).collect()
    };
    json!({
        "trace": timeline.trace,
        "command": timeline.command,
        "complete": timeline.complete,
        "first": steps.first().map_or(1, |step| step.number.0),
        "rows": rows,
        "names": timeline.names,
        "marks": marks,
        "time": times,
        "row": steps.iter().map(|step| step.row).collect::<Vec<_>>(),
        // The lowest bit says if the task has run before it.
        "kind": steps.iter().map(|step| step.kind as u8 * 2 + u8::from(step.ran)).collect::<Vec<_>>(),
        "name": steps.iter().map(|step| step.name).collect::<Vec<_>>(),
        // Addresses are more than a JavaScript number can say.
        "value": steps.iter().map(|step| value(step.value)).collect::<Vec<_>>(),
        "buffered": rare(|step| step.buffered),
        "written": rare(|step| step.written),
        "outputs": timeline.outputs,
    })
}

/// A number that JavaScript can say, or its text.
fn value(value: i64) -> Value {
    match value.unsigned_abs() < 1 << 53 {
        true => json!(value),
        false => json!(format!("{value:#x}")),
    }
}
