//! The bytes that a replayed program hands to the outside world are the recorded ones, or the replay
//! reports the difference (I7).

use std::path::Path;
use std::process::Command;

use rr_tests::gdb::Program;
use rr_tests::guest::{Ending, Guest};
use rr_tests::matrix::{Plan, check_recording, same};
use rr_tests::rr::words;
use rr_tests::{Rr, run};

/// RDRAND in code that the program generates, which rr cannot find. The program writes its value, which
/// differs in replay and has the same length. The report names the call and shows the bytes.
#[test]
fn other_bytes_are_noticed_where_they_are_written() {
    if !std::is_x86_feature_detected!("rdrand") {
        eprintln!("skipped: this CPU has no RDRAND");
        return;
    }
    let rr = Rr::new();
    let guest = rr.reachable(&Guest::build("writes_unrecorded").path);
    let ways = [
        ("file", "write(3, ...) = 25"),
        ("vector", "writev(3, ...) = 25"),
        ("pipe", "write("),
        ("socket", "sendto("),
        ("message", "sendmsg("),
        ("out", "write(1, ...) = 25"),
        ("large", "write(3, ...) = 1048576"),
    ];
    for (way, call) in ways {
        for options in [&[][..], &["-n"]] {
            let recording = rr.record(options, &words([guest.to_str().unwrap(), way]));
            assert!(recording.run.status.success(), "{}", recording.run.describe());
            let replay = recording.replay(&[]).expect_status(1);
            let report = replay.err();
            assert!(report.contains("the replay diverged"), "{way}: {report}");
            let line = |begin: &str| report.lines().find(|l| l.trim().starts_with(begin)).unwrap();
            let (recorded, replayed) = (line("recorded:"), line("replayed:"));
            assert!(
                recorded.contains(call) && replayed.contains(call),
                "{way}: {report}"
            );
            assert!(recorded.contains("only the digest is in the trace"), "{report}");
            assert!(replayed.contains("first line is \""), "{report}");
            let shown = replayed.contains("a number: ");
            assert!(shown || way == "large", "{way}: {report}");
        }
    }
}

/// `rr dump` shows the digests, of traced and buffered calls: equal for equal bytes.
#[test]
fn digests_are_dumped() {
    let rr = Rr::new();
    let guest = rr.reachable(&Guest::build("writes_unrecorded").path);
    let recording = rr.record(&[], &words([guest.to_str().unwrap(), "file"]));
    let dump = recording.rr(&["dump", "-b", "--json"]).expect_success();
    let mut traced = Vec::new();
    let mut buffered = Vec::new();
    for line in dump.out().lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let digest = |call: &serde_json::Value| call["payload"].as_str().map(str::to_owned);
        let is_write = |call: &serde_json::Value| call["syscall"] == "write" && call["result"] == 25;
        traced.extend(Some(&event).filter(|e| is_write(e)).and_then(digest));
        let calls = event["buffered"].as_array().into_iter().flatten();
        buffered.extend(calls.filter(|c| is_write(c)).filter_map(digest));
    }
    assert!(
        !traced.is_empty() && !buffered.is_empty(),
        "{traced:?} {buffered:?}"
    );
    // All but the last write the same bytes.
    let all: Vec<&String> = traced.iter().chain(&buffered).collect();
    assert_eq!(all.len(), 5, "{all:?}");
    assert!(all[..4].windows(2).all(|two| two[0] == two[1]), "{all:?}");
    assert_ne!(all[3], all[4]);
    let text = recording.rr(&["dump", "-b"]).expect_success().out();
    assert!(text.contains(&format!("payload:{}", all[0])), "{text}");
}

/// The processor's random numbers, in functions of the C++ library that no symbol names, and in a
/// static program without any symbols: recorded, and replayed from the start and from checkpoints.
#[test]
fn random_numbers_of_the_processor_are_recorded() {
    let rr = Rr::new();
    let program = Program::build("random_device.cc").expect("the tests need g++");
    let fixed = rr.new_dir().join("static_random");
    let mut compile = Command::new("g++");
    compile
        .args(["-O1", "-static", "-s", "-o"])
        .arg(&fixed)
        .arg(&program.source);
    run::run(&mut compile, rr.limit).expect_success();
    for path in [program.path(), &fixed] {
        let words = words([rr.reachable(path)]);
        let plain = rr.record(&[], &words);
        let many = plain
            .run
            .out()
            .lines()
            .filter(|l| l.starts_with("rdrand "))
            .count();
        if std::is_x86_feature_detected!("rdrand") {
            assert_eq!(many, 1000, "{}", plain.run.describe());
        }
        for interval in [None, Some(1), Some(7), Some(50)] {
            for traced in [&[][..], &["-n"]] {
                let number = interval.map_or("0".into(), |n: u64| n.to_string());
                let mut options = traced.to_vec();
                if interval.is_some() {
                    options.extend(["--checkpoint-interval", &number]);
                }
                let recording = rr.record(&options, &words);
                let mut plan = Plan::guest(Ending::Exit(0));
                plan.replays = 3;
                check_recording(&recording, &plan, interval);
                recording.remove();
            }
        }
    }
}

/// A program that translates code must find the file's bytes in its mappings: no site is rewritten
/// there.
#[test]
fn translators_see_code_as_it_is() {
    if !Path::new("/usr/bin/valgrind").exists() {
        eprintln!("skipped: valgrind is not installed (Debian: apt-get install valgrind)");
        return;
    }
    let rr = Rr::new();
    let guest = Guest::build("leaks");
    let guest = rr.reachable(&guest.path);
    let guest = guest.to_str().unwrap();
    let checks: [(&[&str], &str); 2] = [
        (&["valgrind", "/bin/true"], "ERROR SUMMARY: 0 errors"),
        (
            &["valgrind", "--leak-check=full", guest],
            "definitely lost: 1,234 bytes in 1 blocks",
        ),
    ];
    for (program, finding) in checks {
        for options in [&[][..], &["-n"], &["--checkpoint-interval", "50"]] {
            let recording = rr.record(options, &words(program.iter().copied()));
            assert!(recording.run.status.success(), "{}", recording.run.describe());
            assert!(
                recording.run.err().contains(finding),
                "{}",
                recording.run.describe()
            );
            let replay = recording.replay(&[]).expect_success();
            same(
                "replay: standard error",
                &replay.program_stderr(),
                &recording.run.program_stderr(),
            );
            recording.verify().expect_success();
            recording.remove();
        }
    }
}
