//! Bad input other than damaged traces: events that do not exist, programs that cannot start, places
//! that cannot be written or are full, names that lead elsewhere.
//!
//! rr promises a clear message on standard error, the documented exit status, no panic, and no loss of
//! recorded data.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use rr_tests::damage::{Tmpfs, victim};
use rr_tests::rr::words;
use rr_tests::{Guest, Rr, run};

#[test]
fn events_beyond_the_end() {
    let rr = Rr::new();
    let recording = victim(&rr);
    let last = recording.info().events;
    for args in [["-g", "4000000000"], ["--until", "4000000000"]] {
        let run = recording.replay(&args);
        assert_eq!(run.shell_status(), 1, "{}", run.describe());
        assert!(
            run.err().contains(&last.to_string()),
            "does not name the last event, {last}\n{}",
            run.describe()
        );
    }
    let before = (last + 1).to_string();
    assert_eq!(recording.replay(&["-g", &before]).shell_status(), 1);
}

#[test]
fn programs_that_cannot_start() {
    let rr = Rr::new();
    let dir = rr.new_dir();
    let plain = dir.join("plain");
    fs::write(&plain, "not a program").unwrap();
    for program in [
        "/nonexistent/program",
        "no-such-program-in-path",
        "/etc",
        plain.to_str().unwrap(),
    ] {
        let recording = rr.record(&[], &words([program]));
        assert_eq!(
            recording.run.shell_status(),
            69,
            "{program}\n{}",
            recording.run.describe()
        );
        assert!(
            recording.run.err().contains(program),
            "{program} is not named\n{}",
            recording.run.describe()
        );
    }
    // An empty recording is not the latest trace.
    rr.rr(["record", "/bin/echo", "good"]).expect_success();
    rr.rr(["record", "/nonexistent/program"]).expect_status(69);
    assert_eq!(rr.rr(["replay", "-a"]).expect_success().out(), "good\n");
}

#[test]
fn places_that_cannot_be_written() {
    let rr = Rr::new();
    let hello = Guest::build("hello").path;
    let there = rr.new_dir();
    for dir in [
        there.as_path(),
        Path::new("/proc/trace"),
        Path::new("/etc/passwd/trace"),
    ] {
        let args: Vec<OsString> = words([
            "record".into(),
            "-o".into(),
            dir.to_owned().into_os_string(),
            hello.clone().into(),
        ]);
        let run = rr.rr(args);
        assert_eq!(run.shell_status(), 1, "{}", run.describe());
        assert!(
            run.err().contains(dir.to_str().unwrap()),
            "{} is not named\n{}",
            dir.display(),
            run.describe()
        );
        assert_eq!(run.out(), "", "the program ran all the same");
    }
    assert_eq!(
        fs::read_dir(&there).unwrap().count(),
        0,
        "something was written into a directory that existed"
    );
    if let Some(rr) = Rr::unprivileged() {
        let hello = rr.reachable(&hello);
        let run = rr.rr(words([
            "record".into(),
            "-o".into(),
            "/root-only-trace".into(),
            hello.into_os_string(),
        ]));
        assert_eq!(run.shell_status(), 1, "{}", run.describe());
        assert!(run.err().contains("/root-only-trace"), "{}", run.describe());
    }
}

/// `rr rm` removes traces and nothing else, whatever the name.
#[test]
fn rm_removes_only_traces() {
    let rr = Rr::new();
    rr.rr(["record", "true"]).expect_success();
    let traces = rr.home().join("traces");
    let outside = rr.home().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    for name in [
        "../outside",
        "..",
        ".",
        "",
        "/",
        "no-such",
        outside.to_str().unwrap(),
    ] {
        let run = rr.rr(["rm", name]);
        assert_ne!(run.shell_status(), 0, "rm {name:?}\n{}", run.describe());
        assert!(!run.err().contains("panicked"), "{}", run.describe());
    }
    assert!(outside.join("precious").exists() && traces.join("true-0").is_dir());
    rr.rr(["rm", "true-0"]).expect_success();
    assert!(!traces.join("true-0").exists());
}

/// The disk fills up in the middle of a recording: everything recorded before is in the trace.
#[test]
fn full_trace_directory() {
    let rr = Rr::new();
    let place = rr.new_dir();
    let Some(_tmpfs) = Tmpfs::mount(&place, "16m") else {
        eprintln!("skipped: no right to mount a tmpfs");
        return;
    };
    let dir = place.join("trace");
    let mut command = rr.command(["record", "--checkpoint-interval", "100e", "-o"]);
    command.arg(&dir).arg(Guest::build("random_flood").path);
    let run = run(&mut command, rr.limit);
    assert!(!run.err().contains("panicked"), "{}", run.describe());
    assert!(
        run.err().to_lowercase().contains("space"),
        "nobody said that the disk is full\n{}",
        run.describe()
    );
    assert!(
        run.err().contains(place.to_str().unwrap()),
        "the place is not named\n{}",
        run.describe()
    );
    let recording = rr.recording_from(dir, run);
    let info = recording.info();
    assert!(!info.complete && info.events > 20, "{info:?}");
    let replay = recording.replay(&[]).expect_success();
    assert!(replay.err().contains("incomplete"), "{}", replay.describe());
    assert!(
        replay.stdout.len() > 20 && recording.run.stdout.starts_with(&replay.stdout),
        "{}",
        replay.describe()
    );
    recording.verify();
}
