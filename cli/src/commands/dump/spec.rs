//! The events that the user names: `N`, `A-B` or `end`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rr_trace::TraceReader;
use rr_trace::event::EventNumber;

/// A specification as written: first and last event; `None` is the last of the recording.
fn parse(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let bound = |text: &str| match text {
        "end" => Some(None),
        number => number.parse().ok().map(Some),
    };
    match text.split_once('-') {
        Some((from, to)) => Some((bound(from)?, bound(to)?)),
        None => bound(text).map(|at| (at, at)),
    }
}

/// The trace, if the first word names one, and the specifications.
pub fn split(words: &[String]) -> (Option<PathBuf>, &[String]) {
    match words.split_first() {
        Some((first, rest)) if parse(first).is_none() || Path::new(first).exists() => {
            (Some(PathBuf::from(first)), rest)
        }
        _ => (None, words),
    }
}

/// Ranges of events, both ends included, as far as the trace has them.
pub fn ranges(specs: &[String], reader: &TraceReader) -> Result<Vec<(EventNumber, EventNumber)>> {
    let (first, last) = (reader.first_event().max(EventNumber(1)), reader.last_event());
    let mut ranges = Vec::new();
    for spec in specs {
        let (from, to) =
            parse(spec).with_context(|| format!("{spec} is neither an event, a range A-B nor `end`"))?;
        let number = |bound: Option<u64>| bound.map_or(last, EventNumber);
        if reader.begins_at().is_some() && number(from) < first {
            eprintln!(
                "rr: events before {first} were deleted while the recording was made (rr record --keep-last)"
            );
        }
        ranges.push((number(from).max(first), number(to).min(last)));
    }
    if specs.is_empty() {
        ranges.push((first, last));
    }
    ranges.retain(|(from, to)| from <= to);
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications() {
        assert_eq!(parse("7"), Some((Some(7), Some(7))));
        assert_eq!(parse("7-9"), Some((Some(7), Some(9))));
        assert_eq!(parse("7-end"), Some((Some(7), None)));
        assert_eq!(parse("end"), Some((None, None)));
        assert_eq!(parse("sh-0"), None);
    }

    #[test]
    fn the_trace_comes_first() {
        let words: Vec<String> = ["sh-0", "3-5"].map(str::to_owned).into();
        assert_eq!(split(&words), (Some("sh-0".into()), &words[1..]));
        assert_eq!(split(&words[1..]), (None, &words[1..]));
    }
}
