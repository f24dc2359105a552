//! The examples of `replayer/examples/` work as described.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rr_tests::documents::root;
use rr_tests::gdb::Program;
use rr_tests::{Recording, Rr, Run, run};

/// The directory of the examples' executables. They are built in the profile of the tests if they do
/// not exist yet.
fn examples() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let exe = std::env::current_exe().unwrap();
        // target/<profile>/deps/<test>
        let profile = exe.ancestors().nth(2).unwrap();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            // Of the whole workspace: with fewer packages the libraries would have other features, and
            // would be built once more.
            .args(["build", "--quiet", "--workspace", "--examples", "--target-dir"])
            .arg(profile.parent().unwrap())
            .current_dir(root());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        run(&mut cargo, Duration::from_secs(900)).expect_success();
        profile.join("examples")
    })
}

fn example(name: &str, recording: &Recording, args: &[&str]) -> Run {
    let mut command = Command::new(examples().join(name));
    command.arg(&recording.dir).args(args);
    run(&mut command, Duration::from_secs(60)).expect_success()
}

/// A recording in which each call is an event, with a checkpoint every 100.
fn recorded(rr: &Rr) -> Recording<'_> {
    let options = ["-n", "--checkpoint-interval", "100e", "--checkpoint-wait"];
    let recording = rr.record(&options, &Program::c("sums").words);
    assert_eq!(recording.run.out(), "20100\n");
    recording
}

#[test]
fn all_calls_of_a_trace() {
    let rr = Rr::new();
    let recording = recorded(&rr);
    let count = |text: &str, word: &str| text.lines().filter(|l| l.contains(word)).count();
    let calls = example("calls", &recording, &[]).out();
    // The C library makes either call.
    let pipes = count(&calls, " pipe = 0") + count(&calls, " pipe2 = 0");
    assert_eq!(pipes, 200, "{calls}");
    assert_eq!(count(&calls, " read = 1"), 200);
    assert_eq!(count(&calls, "(buffered)"), 0);
    let buffered = rr.record(&[], &Program::c("sums").words);
    let calls = example("calls", &buffered, &[]).out();
    assert_eq!(count(&calls, " read = 1"), 200, "{calls}");
    assert!(count(&calls, "(buffered)") > 100);
}

#[test]
fn pages_between_two_checkpoints() {
    let rr = Rr::new();
    let recording = recorded(&rr);
    let pages = example("changed_pages", &recording, &["300", "400"]).out();
    let program = Program::c("sums");
    let name = program.path().to_str().unwrap();
    assert!(pages.lines().any(|l| l.ends_with(name)), "{pages}");
    assert!(pages.contains("[stack]"), "{pages}");
    let none = example("changed_pages", &recording, &["400", "400"]).out();
    assert_eq!(none, "0 pages differ between the events 400 and 400\n");
}

#[test]
fn a_variable_at_an_event() {
    let rr = Rr::new();
    let recording = recorded(&rr);
    let last = recording.info().events;
    let value = |event: u64| {
        let out = example("variable", &recording, &[&event.to_string(), "total"]).out();
        let value = out
            .strip_prefix("total = ")
            .and_then(|v| v.split(' ').next()?.parse::<i64>().ok());
        value.unwrap_or_else(|| panic!("{out}"))
    };
    assert_eq!(value(1), 0);
    // At every event, the value is a sum of the first numbers.
    let middle = value(500);
    assert!((1..200).any(|n| n * (n + 1) / 2 == middle), "{middle}");
    assert_eq!(value(last - 1), 20100);
}

#[test]
fn all_hits_on_all_cores() {
    let rr = Rr::new();
    let recording = recorded(&rr);
    let checkpoints = recording.info().checkpoints.len();
    let all = example("all_hits", &recording, &["add"]).out();
    let end = format!("200 hits in {} stretches\n", checkpoints + 1);
    assert!(all.ends_with(&end), "{all}");
    // A search with one thread finds the same.
    assert_eq!(example("all_hits", &recording, &["add", "1"]).out(), all);
}
