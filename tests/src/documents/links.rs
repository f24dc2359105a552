//! Finds links and paths of documents that lead nowhere.
//!
//! A link to a file of the repository must name a file, and `#heading` a heading of it. A path in a code span
//! (`` `trace/src/lib.rs` ``) must name a file too. Links to other sites are not followed: a test needs no network.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use super::{read, root};

/// Endings of files of the repository that documents name in code spans.
const ENDINGS: [&str; 7] = ["rs", "md", "toml", "capnp", "py", "c", "h"];

/// The complaints about a document.
pub fn check(document: &Path) -> Vec<String> {
    let text = read(document);
    let mut complaints = Vec::new();
    for (number, line) in prose(&text) {
        let at = |complaint: String| format!("{}:{number}: {complaint}", document.display());
        complaints.extend(
            targets(line)
                .into_iter()
                .filter_map(|t| dead_end(document, t))
                .map(at),
        );
        let paths = code_spans(line).into_iter().filter(|span| is_path(span));
        let missing = paths.filter(|span| !root().join(span).exists());
        complaints.extend(missing.map(|span| at(format!("there is no file `{span}`"))));
    }
    complaints
}

/// The lines outside of fenced blocks, with their numbers.
pub(super) fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line));
    lines
        .filter(|(_, line)| {
            let fence = line.trim_start().starts_with("```");
            inside ^= fence;
            !inside && !fence
        })
        .collect()
}

/// The targets of the links in a line.
fn targets(line: &str) -> Vec<&str> {
    let after = line.split("](").skip(1);
    after
        .filter_map(|rest| rest.split_once(')').map(|(t, _)| t))
        .collect()
}

/// The code spans in a line.
pub(super) fn code_spans(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// Says if a code span is the path of a file of the repository, from its root.
fn is_path(span: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let ending = Path::new(span).extension().and_then(|e| e.to_str());
    let Some((first, _)) = span.split_once('/') else {
        return false;
    };
    span.chars().all(plain) && ending.is_some_and(|e| ENDINGS.contains(&e)) && root().join(first).is_dir()
}

/// A complaint about the target of a link, if it leads nowhere.
fn dead_end(document: &Path, target: &str) -> Option<String> {
    if target.contains("://") {
        return (!target.starts_with("https://")).then(|| format!("{target}: not https"));
    }
    let (path, heading) = match target.split_once('#') {
        Some((path, heading)) => (path, Some(heading)),
        None => (target, None),
    };
    let file = match path {
        "" => document.to_owned(),
        _ => normal(&document.parent().unwrap_or(Path::new("")).join(path)),
    };
    if !root().join(&file).exists() {
        return Some(format!("{target}: there is no {}", file.display()));
    }
    let heading = heading?;
    let found = file.extension().is_some_and(|e| e == "md") && headings(&read(&file)).contains(heading);
    (!found).then(|| format!("{target}: {} has no such heading", file.display()))
}

/// A path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

/// The anchors of the headings of a document, as GitHub makes them.
fn headings(text: &str) -> HashSet<String> {
    let lines = prose(text).into_iter().filter(|(_, line)| line.starts_with('#'));
    lines
        .map(|(_, line)| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_ends() {
        let dead = |target: &str| dead_end(Path::new("docs/usage.md"), target).is_some();
        assert!(
            !dead("ci.md") && !dead("../README.md") && !dead("#checkpoints") && !dead("../README.md#install")
        );
        assert!(!dead("https://rr-project.org"));
        assert!(dead("no.md") && dead("#no") && dead("../README.md#no") && dead("README.md"));
    }

    #[test]
    fn links_and_paths_in_a_line() {
        assert_eq!(targets("a [b](c.md) and [`d`](e.md#f)"), ["c.md", "e.md#f"]);
        let paths: Vec<&str> = code_spans("`trace/src/no.rs` `a/b.rs` `x.rs` `trace/`")
            .into_iter()
            .filter(|s| is_path(s))
            .collect();
        assert_eq!(paths, ["trace/src/no.rs"]);
        assert!(headings("# What it costs: a table\n```\n# no\n```\n").contains("what-it-costs-a-table"));
    }
}
