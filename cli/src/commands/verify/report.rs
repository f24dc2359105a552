//! The report of `rr verify`: for people, and as JSON.

use rr_checkpoint::{Difference, PageTarget};
use rr_replayer::Mismatch;
use rr_replayer::verify::{Verdict, Verified};
use rr_trace::TraceReader;
use serde_json::{Value, json};

/// An error with all its causes.
fn chain(error: &rr_replayer::Error) -> String {
    let causes = anyhow::Chain::new(error).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ")
}

/// A stretch that is not what was recorded, in lines.
pub fn text(verified: &Verified) -> String {
    let Verified { stretch, verdict } = verified;
    let (what, details) = match verdict {
        Verdict::Differs { restored, mismatch } => (
            match restored {
                true => "what is restored is not what is stored",
                false => "the replay is not what was recorded",
            },
            mismatch.to_string(),
        ),
        Verdict::Failed(e) => ("it cannot be verified", chain(e)),
        Verdict::Same => ("image and pages identical", String::new()),
        Verdict::GivenUp => ("given up", String::new()),
    };
    let details: String = details.lines().map(|line| format!("  {line}\n")).collect();
    format!("rr: {stretch}: {what}\n{details}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn page(page: &Difference, symbol: Option<&String>) -> Value {
    let mut value = json!({
        "address": page.addr.to_string(),
        "mapping": page.mapping,
        "bytesDiffering": page.bytes,
        "line": page.line.addr.to_string(),
        "recorded": hex(&page.line.expected),
        "replayed": (!page.line.found.is_empty()).then(|| hex(&page.line.found)),
    });
    match page.target {
        PageTarget::Space(space) => value["space"] = space.0.into(),
        PageTarget::Object(object) => value["object"] = object.0.into(),
    }
    if let Some(symbol) = symbol {
        value["symbol"] = symbol.as_str().into();
    }
    value
}

fn mismatch(found: &Mismatch) -> Value {
    let pages = found.first.iter().enumerate();
    json!({
        "image": found.image,
        "pagesDiffering": found.pages,
        "firstPages": pages
            .map(|(n, first)| page(first, found.symbol.as_ref().filter(|_| n == 0)))
            .collect::<Vec<_>>(),
    })
}

fn stretch(verified: &Verified) -> Value {
    let Verified { stretch, verdict } = verified;
    let mut value = json!({
        "from": stretch.from.0,
        "to": stretch.to.last.0,
        "toCheckpoint": stretch.ends_stored,
    });
    value["verdict"] = match verdict {
        Verdict::Same => "identical",
        Verdict::Differs { restored: true, .. } => "restored differs",
        Verdict::Differs { .. } => "differs",
        Verdict::Failed(_) => "failed",
        Verdict::GivenUp => "given up",
    }
    .into();
    match verdict {
        Verdict::Differs { mismatch: found, .. } => value["differences"] = mismatch(found),
        Verdict::Failed(e) => value["error"] = chain(e).into(),
        Verdict::Same | Verdict::GivenUp => {}
    }
    value
}

/// All that was verified. `is_whole`: nothing was left out because of an interruption.
pub fn json(reader: &TraceReader, all: &[Verified], is_whole: bool) -> Value {
    let is_identical = |verified: &Verified| matches!(verified.verdict, Verdict::Same);
    json!({
        "path": reader.path(),
        "events": reader.last_event().0,
        "identical": is_whole && all.iter().all(is_identical),
        "complete": is_whole,
        "stretches": all.iter().map(stretch).collect::<Vec<_>>(),
    })
}
