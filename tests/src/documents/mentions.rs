//! Checks commands in the text of a document, outside of blocks: `` `rr verify --json` ``. They are not
//! run, because most have placeholders. But the command and its long options must exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{links, read};
use crate::run::run;

/// The commands of an rr, and the options of each from its `--help`.
pub struct Known<'a> {
    rr: &'a Path,
    commands: BTreeSet<String>,
    help: BTreeMap<String, String>,
}

impl<'a> Known<'a> {
    /// Asks an rr for its commands.
    pub fn new(rr: &'a Path) -> Known<'a> {
        let list = run(Command::new(rr).arg("-L"), Duration::from_secs(30)).expect_success();
        Known {
            rr,
            commands: list.out().lines().map(str::to_owned).collect(),
            help: BTreeMap::new(),
        }
    }

    fn help(&mut self, command: &str) -> &str {
        let rr = self.rr;
        self.help.entry(command.to_owned()).or_insert_with(|| {
            let mut help = Command::new(rr);
            help.args([command, "--help"]);
            run(&mut help, Duration::from_secs(30)).expect_success().out()
        })
    }

    /// A complaint about a code span, if it names a command of rr or an option that does not exist.
    fn fault(&mut self, span: &str) -> Option<String> {
        let mut words = span.strip_prefix("rr ")?.split_whitespace().peekable();
        // Global options come first.
        while words.peek().is_some_and(|word| word.starts_with('-')) {
            words.next();
        }
        let command = words.next()?;
        // `rr PID EVENT`, `rr ./prog` and `rr trace` are no commands.
        if !command.chars().all(|c| c.is_ascii_lowercase() || c == '-') || command == "trace" {
            return None;
        }
        if !self.commands.contains(command) {
            return Some(format!("`{span}`: rr has no command {command}"));
        }
        for word in words.take_while(|word| *word != "--") {
            let option = word.split('=').next().unwrap_or_default();
            let option = option.trim_matches(|c: char| "[](),…".contains(c));
            if option.starts_with("--") && !self.help(command).contains(option) {
                return Some(format!("`{span}`: rr {command} has no option {option}"));
            }
        }
        None
    }

    /// The complaints about a document.
    pub fn check(&mut self, document: &Path) -> Vec<String> {
        let text = read(document);
        let mut complaints = Vec::new();
        for (number, line) in links::prose(&text) {
            let faults = links::code_spans(line)
                .into_iter()
                .filter_map(|span| self.fault(span));
            complaints.extend(faults.map(|fault| format!("{}:{number}: {fault}", document.display())));
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults() {
        let rr = crate::Rr::new();
        let mut known = Known::new(rr.bin());
        for span in [
            "rr verify --json",
            "rr PID EVENT",
            "cargo test --x",
            "rr ./prog",
            "rr ci -- make --x",
        ] {
            assert_eq!(known.fault(span), None, "{span}");
        }
        assert!(known.fault("rr verifies").is_some());
        assert!(known.fault("rr verify --jsn").is_some());
    }
}
