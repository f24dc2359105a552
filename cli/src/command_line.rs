//! The step before clap: global options may stand before the command, and the command word may be left out.
//!
//! `rr ./prog` records and `rr trace-dir` replays, as with the original rr.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Global options with a value; the value may be attached (`-AX`, `--log=X`) or the next word.
const WITH_VALUE: [&str; 4] = ["--log", "--resource-path", "--microarch", "-A"];
/// Global options without one.
const FLAGS: [&str; 13] = [
    "-S",
    "--suppress-environment-warnings",
    "-E",
    "--fatal-errors",
    "-K",
    "--check-cached-mmaps",
    "-M",
    "--mark-stdio",
    "-F",
    "--force-things",
    "--non-interactive",
    "-N",
    "-L",
];
/// Options that ask rr about itself: no command is meant.
const ABOUT: [&str; 6] = ["-h", "--help", "-N", "--version", "-L", "--list-commands"];

/// The number of words of `args`, beginning with this one, that are a global option.
fn global(arg: &OsStr) -> usize {
    let Some(text) = arg.to_str() else { return 0 };
    let attached = |name: &&str| {
        text.strip_prefix(*name)
            .is_some_and(|rest| rest.starts_with('=') || (!name.starts_with("--") && !rest.is_empty()))
    };
    if FLAGS.contains(&text) || WITH_VALUE.iter().any(attached) {
        1
    } else if WITH_VALUE.contains(&text) {
        2
    } else {
        0
    }
}

/// Puts the command word in where it was left out. `known` are the commands.
pub fn with_command_word(mut args: Vec<OsString>, known: &[&str]) -> Vec<OsString> {
    let mut at = 1;
    while let Some(arg) = args.get(at) {
        if ABOUT.iter().any(|about| arg == about) {
            return args;
        }
        match global(arg) {
            0 => break,
            n => at += n,
        }
    }
    let Some(word) = args.get(at) else { return args };
    if known.iter().any(|known| word == known) {
        return args;
    }
    let is_option = word.as_bytes().starts_with(b"-");
    let path = Path::new(word);
    let command = if !is_option && (path.is_dir() || rr_trace::pack::is_pack(path)) {
        "replay"
    } else {
        "record"
    };
    args.insert(at, command.into());
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> String {
        let known = ["record", "replay", "ps"];
        let args = std::iter::once("rr")
            .chain(line.split_whitespace())
            .map(OsString::from);
        let words = with_command_word(args.collect(), &known);
        let words: Vec<_> = words[1..]
            .iter()
            .map(|w| w.to_string_lossy().into_owned())
            .collect();
        words.join(" ")
    }

    #[test]
    fn a_command_stays_where_it_is() {
        for line in [
            "",
            "ps",
            "-M replay -a",
            "--log all:debug ps",
            "--log=warn -A zen ps x",
            "--help",
            "-S -N",
        ] {
            assert_eq!(completed(line), line);
        }
    }

    #[test]
    fn programs_are_recorded_and_directories_replayed() {
        assert_eq!(completed("./prog ps"), "record ./prog ps");
        assert_eq!(completed("-M -Azen ./prog -N"), "-M -Azen record ./prog -N");
        assert_eq!(completed("-w ./prog"), "record -w ./prog");
        assert_eq!(completed("/tmp -a"), "replay /tmp -a");
        assert_eq!(completed("--log info /tmp"), "--log info replay /tmp");
    }
}
