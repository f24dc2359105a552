//! `rr rerun`: registers at the events and instructions of a stretch.

use rr_tests::rr::words;
use rr_tests::{Guest, Rr};

/// A checkpoint at every few events, so that a stretch begins at one.
const CHECKPOINTS: [&str; 3] = ["--checkpoint-interval", "7e", "--checkpoint-wait"];

/// The value of a register in a line `name:0x1 name:0x2`.
#[track_caller]
fn value<'a>(line: &'a str, name: &str) -> &'a str {
    let found = line
        .split(' ')
        .find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name} in {line:?}"))
}

#[test]
fn registers_after_events_are_those_of_a_replay() {
    let rr = Rr::new();
    let recording = rr.record(&CHECKPOINTS, &words([Guest::build("nopie").path]));
    let last = recording.info().events;
    let (start, end) = (last / 2, last - 1);
    let (from, to) = (start.to_string(), end.to_string());
    let shown = recording.rr(&["rerun", "--event-regs=event,rax,ip,r15", "-s", &from, "-e", &to]);
    let shown = shown.expect_success().out();
    let next = (start + 1).to_string();
    let known = recording
        .replay(&["-q", "-t", &next, "--until", &to])
        .expect_success()
        .err();
    // The registers of a task that is gone are not printed.
    let known: Vec<&str> = known.lines().filter(|line| line.contains("rax:")).collect();
    assert_eq!(shown.lines().count(), known.len(), "{shown}\n{known:?}");
    assert!(known.len() > 5, "{known:?}");
    for (shown, known) in shown.lines().zip(known) {
        let event = known.split(' ').nth(2).unwrap().parse::<u64>().unwrap();
        assert_eq!(value(shown, "event"), format!("{event:#x}"));
        for (name, of_replay) in [("rax", "rax"), ("ip", "rip"), ("r15", "r15")] {
            assert_eq!(
                value(shown, name),
                value(known, of_replay),
                "{name} at event {event}"
            );
        }
    }
}

#[test]
fn each_instruction_of_a_stretch_is_shown() {
    let rr = Rr::new();
    let recording = rr.record(&CHECKPOINTS, &words([Guest::build("hello").path]));
    let last = recording.info().events;
    let steps = |start: u64, raw: &[&str]| {
        let (from, to) = (start.to_string(), (last - 2).to_string());
        let mut args = vec![
            "rerun",
            "--singlestep=event,icount,ip,flags",
            "-s",
            &from,
            "-e",
            &to,
        ];
        args.extend(raw);
        recording.rr(&args).expect_success()
    };
    let (all, few) = (steps(last - 6, &[]).out(), steps(last - 3, &[]).out());
    let counts = all.lines().map(|line| value(line, "icount").to_owned());
    let expected = (1..=all.lines().count()).map(|n| format!("{n:#x}"));
    assert!(counts.eq(expected), "{all}");
    // The same instructions, wherever the stretch begins.
    let without_count = |text: &str| -> Vec<[String; 3]> {
        let lines = text.lines();
        lines
            .map(|line| ["event", "ip", "flags"].map(|name| value(line, name).to_owned()))
            .collect()
    };
    let (all, few) = (without_count(&all), without_count(&few));
    assert!(!few.is_empty() && all.len() > few.len());
    assert_eq!(all[all.len() - few.len()..], few[..]);
    // As bytes: four words each.
    let raw = steps(last - 3, &["--raw"]).stdout;
    assert_eq!(raw.len(), few.len() * 4 * 8);
    let ip = u64::from_le_bytes(raw[16..24].try_into().unwrap());
    assert_eq!(format!("{ip:#x}"), few[0][1]);
}

#[test]
fn a_function_is_called_in_a_copy() {
    let rr = Rr::new();
    let recording = rr.record(&CHECKPOINTS, &words([Guest::build("callable").path]));
    let address = recording.run.out().trim().to_owned();
    let start = (recording.info().events - 2).to_string();
    let called = recording.rr(&[
        "rerun",
        "-s",
        &start,
        "-f",
        &address,
        "--singlestep=ip",
        "--event-regs=rax",
    ]);
    let called = called.expect_success().out();
    let lines: Vec<&str> = called.lines().collect();
    assert_eq!(lines.last(), Some(&"rax:0x2a"), "{called}");
    assert_eq!(value(lines[lines.len() - 2], "ip"), "0x0", "{called}");
    assert!(lines.len() > 5, "{called}");
    let nowhere = recording
        .rr(&["rerun", "-s", &start, "-f", "0x10"])
        .expect_status(1);
    assert!(nowhere.err().contains("did not return"), "{}", nowhere.describe());
    // The recording is what it was.
    recording.verify().expect_success();
}

#[test]
fn a_stretch_outside_of_the_recording_is_refused() {
    let rr = Rr::new();
    let recording = rr.record(&CHECKPOINTS, &words([Guest::build("hello").path]));
    for (args, why) in [
        (&["-s", "9", "-e", "8"], "before it begins"),
        (&["-s", "1", "-e", "100000"], "the last event"),
    ] {
        let run = recording.rr(&[&["rerun"], &args[..]].concat()).expect_status(1);
        assert!(run.err().contains(why), "{}", run.describe());
    }
}
