//! Compares a documented output with the real one.
//!
//! Each run prints other addresses, process ids, event numbers, times and sizes. These are compared by
//! their roles, and everything else literally:
//!
//! - An address, a process id or an event number of the document stands for one of the real output, the
//!   same wherever it appears in the document. Two different documented ones stand for two different
//!   real ones. Commands of the document that contain one are run with the real one ([`Roles::real`]).
//! - A time stands for a time, a size for a size, a number of events for a number of events.
//! - `…` stands for any text in a line, a line `…` for any lines.

use std::collections::HashMap;

/// Role of a number in an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    Address,
    Task,
    Event,
    Time,
    Size,
    Count,
}

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Number(Role, &'a str),
    Anything,
}

/// Pairs of numbers: of the document, and of the real output.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    real: HashMap<(Role, String), String>,
    documented: HashMap<(Role, String), String>,
}

const BEFORE_TASK: [&str; 11] = [
    "process ",
    "thread ",
    "Thread ",
    "task ",
    "pid ",
    "tid ",
    "PID ",
    "-p ",
    "-f ",
    "processes ",
    "tid:",
];
const BEFORE_EVENT: [&str; 8] = [
    "event ",
    "event: ",
    "events ",
    "-g ",
    "global_time:",
    "event:",
    "run ",
    "seek ",
];
const TIMES: [&str; 6] = ["ms", "us", "µs", "ns", "s", "min"];
const SIZES: [&str; 11] = [
    "B", "kB", "KB", "MB", "GB", "KiB", "MiB", "GiB", "bytes", "K", "M",
];

/// Splits a line into pieces. Characters that are no number are pieces of their own.
fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut last = None;
    while let Some(c) = line[at..].chars().next() {
        let before = &line[..at];
        let in_word = before
            .chars()
            .next_back()
            .is_some_and(|c| c.is_alphanumeric() || c == '_');
        if c == '…' {
            pieces.push(Piece::Anything);
            at += c.len_utf8();
            continue;
        }
        if c.is_ascii_digit() && !in_word {
            let (length, role) = number(line, at, last);
            let text = &line[at..at + length];
            match role {
                Some(role) => {
                    last = Some((role, at + length));
                    pieces.push(Piece::Number(role, text));
                }
                None => pieces.push(Piece::Text(text)),
            }
            at += length;
            continue;
        }
        pieces.push(Piece::Text(&line[at..at + c.len_utf8()]));
        at += c.len_utf8();
    }
    pieces
}

/// Length and role of the number at a place of a line. `last` is the role of the number before, and its
/// end.
fn number(line: &str, at: usize, last: Option<(Role, usize)>) -> (usize, Option<Role>) {
    let (before, rest) = line.split_at(at);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    if let Some(hex) = rest.strip_prefix("0x") {
        let length = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
        return (2 + length, (length >= 5).then_some(Role::Address));
    }
    let whole = digits(rest);
    let fraction = rest[whole..].strip_prefix('.').map_or(0, digits);
    let measured = whole + if fraction > 0 { 1 + fraction } else { 0 };
    let after = rest[measured..].trim_start_matches(' ');
    let unit: &str = &after[..after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len())];
    if TIMES.contains(&unit) {
        return (measured, Some(Role::Time));
    }
    if SIZES.contains(&unit) {
        return (measured, Some(Role::Size));
    }
    if unit == "events" {
        return (whole, Some(Role::Count));
    }
    let follows = |words: &[&str]| {
        words.iter().any(|word| {
            before
                .strip_suffix(word)
                .is_some_and(|b| !word.starts_with(char::is_alphabetic) || !b.ends_with(char::is_alphabetic))
        })
    };
    let again = last.filter(|&(role, end)| match role {
        // gdb's "Thread 12.13".
        Role::Task => &line[end..at] == ".",
        Role::Event => [" of ", " to ", " and ", "-"].contains(&&line[end..at]),
        _ => false,
    });
    let role = if let Some((role, _)) = again {
        Some(role)
    } else if follows(&BEFORE_TASK) {
        Some(Role::Task)
    } else if follows(&BEFORE_EVENT) {
        Some(Role::Event)
    } else {
        None
    };
    (whole, role)
}

impl Roles {
    /// A command of the document with the numbers of the real outputs.
    pub fn real(&self, command: &str) -> String {
        let mut text = String::new();
        for piece in pieces(command) {
            match piece {
                Piece::Text(t) => {
                    // `rr dump d 43-44`: nothing before the number says that it is an event number.
                    let event = self.real.get(&(Role::Event, t.to_owned()));
                    text.push_str(event.map_or(t, |e| e));
                }
                Piece::Anything => text.push('…'),
                Piece::Number(role, t) => {
                    let real = self.real.get(&(role, t.to_owned()));
                    text.push_str(real.map_or(t, |r| r));
                }
            }
        }
        text
    }

    /// Notes that a number of the document stands for a real one. False if one of them already stands
    /// for another.
    fn note(&mut self, role: Role, documented: &str, real: &str) -> bool {
        if matches!(role, Role::Time | Role::Size | Role::Count) {
            return true;
        }
        let there = self
            .real
            .entry((role, documented.to_owned()))
            .or_insert_with(|| real.to_owned());
        let back = self
            .documented
            .entry((role, real.to_owned()))
            .or_insert_with(|| documented.to_owned());
        there == real && back == documented
    }

    /// Compares lines of a document with a real output. The pairs of numbers are kept for the next
    /// outputs.
    pub fn compare<S: AsRef<str>>(&mut self, documented: &[S], real: &[S]) -> bool {
        let Some((first, others)) = documented.split_first() else {
            return real.is_empty();
        };
        if first.as_ref().trim() == "…" {
            return (0..=real.len()).any(|left_out| self.attempt(|r| r.compare(others, &real[left_out..])));
        }
        let Some((line, lines)) = real.split_first() else {
            return false;
        };
        let (first, line) = (pieces(first.as_ref()), pieces(line.as_ref()));
        self.attempt(|r| r.compare_line(&first, &line, &mut |r| r.compare(others, lines)))
    }

    /// Compares a line, and then the rest.
    fn compare_line(
        &mut self,
        documented: &[Piece],
        real: &[Piece],
        rest: &mut dyn FnMut(&mut Roles) -> bool,
    ) -> bool {
        match (documented, real) {
            ([], []) => rest(self),
            ([Piece::Anything, others @ ..], _) => {
                (0..=real.len()).any(|n| self.attempt(|r| r.compare_line(others, &real[n..], rest)))
            }
            ([Piece::Text(a), others @ ..], [Piece::Text(b), more @ ..]) if a == b => {
                self.compare_line(others, more, rest)
            }
            ([Piece::Number(role, a), others @ ..], [Piece::Number(same, b), more @ ..])
                if role == same && self.note(*role, a, b) =>
            {
                self.compare_line(others, more, rest)
            }
            _ => false,
        }
    }

    /// Tries `f`, and restores the pairs of numbers if `f` fails.
    fn attempt(&mut self, f: impl FnOnce(&mut Roles) -> bool) -> bool {
        let before = self.clone();
        let success = f(self);
        if !success {
            *self = before;
        }
        success
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(documented: &str, real: &str) -> bool {
        let lines = |text: &'static str| -> Vec<&str> { text.lines().collect() };
        let (documented, real) = (documented.to_owned().leak(), real.to_owned().leak());
        Roles::default().compare(&lines(documented), &lines(real))
    }

    #[test]
    fn texts_are_compared_literally() {
        assert!(same("a b 12", "a b 12"));
        assert!(!same("a b 12", "a b 13"));
        assert!(!same("a", "a\nb"));
        assert!(!same("a\nb", "a"));
        assert!(!same("main () at a.c:12", "main () at a.c:13"));
        assert!(!same("3 orders", "4 orders"));
    }

    #[test]
    fn numbers_have_roles() {
        assert!(same("process 12, thread 12", "process 3456, thread 3456"));
        assert!(!same("process 12, thread 12", "process 3456, thread 3457"));
        assert!(!same("process 12, thread 13", "process 3456, thread 3456"));
        assert!(same("event 42 of 43", "event 47 of 43"));
        assert!(!same("event 42", "event none"));
        assert!(same("o = 0x55e3121c92d0", "o = 0x55e3121c9000"));
        assert!(!same("o = 0x55e3121c92d0", "o = 0x0"));
        assert!(!same("0x55555 0x55555", "0x66666 0x77777"));
        assert!(same("Thread 42.43 \"x\"", "Thread 1.2 \"x\""));
        assert!(same("in 2.5 ms, 3 MB", "in 13 ms, 17.25 MB"));
        assert!(same("(3 MB, 112 events)", "(4 MB, 99 events)"));
        assert!(!same("3 events", "3 orders"));
        assert!(!same("in 2.5 ms", "in 13 MB"));
        assert!(!same("in 2.5 ms", "in 13 µs"));
    }

    #[test]
    fn dots_stand_for_anything() {
        assert!(same("a\n…\nz", "a\nb\nc\nz"));
        assert!(same("a\n…\nz", "a\nz"));
        assert!(!same("a\n…\nz", "a\nb\nc"));
        assert!(same("__strcpy_… () at …", "__strcpy_evex () at x.S:1"));
        assert!(!same("__strcpy_… () at …", "strcpy () at x.S:1"));
    }

    #[test]
    fn commands_get_the_real_numbers() {
        let mut roles = Roles::default();
        assert!(roles.compare(
            &["event 42 of 43; rr replay -p 12"],
            &["event 50 of 51; rr replay -p 99"]
        ));
        assert_eq!(
            roles.real("rr replay -p 12 -g 42 x42"),
            "rr replay -p 99 -g 50 x42"
        );
        assert!(!roles.compare(&["event 43"], &["event 50"]));
    }
}
