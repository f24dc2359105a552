//! The texts of the command line, compared with snapshots (`snapshots/`): the help of every command, and messages about what
//! people often get wrong. A text that changes is so seen in review.
//!
//! `INSTA_UPDATE=always cargo test -p rr-tests texts::` writes the snapshots anew.

use std::collections::BTreeSet;
use std::path::Path;

use rr_tests::Rr;

/// The home directory, as snapshots name it.
const HOME: &str = "HOME";

/// The directory of the snapshots.
fn snapshots() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"))
}

/// Compares a text with the snapshot of a name.
#[track_caller]
fn check(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(snapshots());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// A command as a user types it, everything that it prints, and its exit status.
fn typed(rr: &Rr, line: &str) -> String {
    let mut command = rr.command(line.split_whitespace());
    // The width of the terminal, and colours, are not for a pipe.
    command.env_remove("COLUMNS").env_remove("RR_LOG");
    let run = rr_tests::run(&mut command, rr.limit);
    let text = format!(
        "$ rr {line}\n{}{}exit status {}\n",
        run.out(),
        run.err(),
        run.shell_status()
    );
    text.replace(rr.home().to_str().unwrap(), HOME)
}

#[test]
fn help_of_every_command() {
    let rr = Rr::new();
    let commands = rr.rr(["--list-commands"]).expect_success().out();
    let mut expected = BTreeSet::from(["help.snap".to_owned(), "messages.snap".to_owned()]);
    check("help", &typed(&rr, "--help"));
    for command in commands.lines() {
        let name = format!("help_{command}");
        check(&name, &typed(&rr, &format!("{command} --help")));
        expected.insert(format!("{name}.snap"));
    }
    // Snapshots of commands that are gone would never be compared.
    let entries = std::fs::read_dir(snapshots()).unwrap();
    let there = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(there.collect::<BTreeSet<_>>(), expected);
}

#[test]
fn messages() {
    let rr = Rr::new();
    std::fs::write(rr.home().join("text"), "no trace\n").unwrap();
    std::fs::create_dir(rr.home().join("empty")).unwrap();
    let lines = [
        // Traces that are none.
        "replay",
        "replay nothing",
        "replay empty",
        "verify text",
        "nothing",
        // Programs that cannot start.
        "record",
        "record ./nothing",
        "record ./text",
        "recrod true",
        "ci",
        // Options and values that are none.
        "replay --bogus nothing",
        "record --checkpoint-interval 0 true",
        "record --checkpoint-budget 3T true",
        "record --keep-last 10x true",
        "timeline nothing",
        "completions tcsh",
    ];
    let text: Vec<String> = lines.iter().map(|line| typed(&rr, line)).collect();
    check("messages", &text.join("\n"));
}
