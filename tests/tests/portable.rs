//! `--portable`: a program is shown a level of the psABI, and its trace can be replayed on every processor of that level.
//!
//! There is one processor here. So an older one is simulated at replay (`RR_TEST_REPLAY_LEVEL`), and traces are changed.

use std::fs;
use std::process::Command;

use rr_tests::guest::Guest;
use rr_tests::programs::is_installed;
use rr_tests::rr::{Recording, Rr, words};
use rr_tests::run::{Run, run};
use rr_trace::{EventNumber, Header, TraceReader};
use rr_tracee::ExtendedState;
use rr_tracee::cpuid::{Level, Table};

const V2: &str = "--portable=x86-64-v2";
const V3: &str = "--portable=x86-64-v3";

/// What the guest is shown, and the option for that. `None`: this processor has not got that much.
fn shown(level: Level) -> Option<[&'static str; 5]> {
    let lines = match level {
        Level::V2 => [
            "sse4.2 1 aes 0 rdrand 0 osxsave 0 avx 0",
            "leaf 7: 0 00000000 00000000 00000000",
            "leaf 13: 0 0",
            "library: v2 1 v3 0 v4 0 fsgsbase 0",
            "raised: 10",
        ],
        Level::V3 => [
            "sse4.2 1 aes 0 rdrand 0 osxsave 1 avx 1",
            "leaf 7: 0 00000128 00000000 00000000",
            "leaf 13: 7 0",
            "library: v2 1 v3 1 v4 0 fsgsbase 0",
            "xgetbv: 7 0",
        ],
    };
    let here = Level::of(&Table::of_this_cpu());
    if here < Some(level) {
        eprintln!("skipped: this processor has {here:?}");
        return None;
    }
    Some(lines)
}

fn record<'a>(rr: &'a Rr, options: &[&str]) -> Recording<'a> {
    let program = words([rr.reachable(&Guest::build("portable").path)]);
    let recording = rr.record(options, &program);
    assert!(recording.run.status.success(), "{}", recording.run.describe());
    recording
}

/// A command on the trace, as on a processor that has nothing beyond a level.
fn on_older(rr: &Rr, recording: &Recording<'_>, level: Level, words: &[&str]) -> Run {
    let mut command = rr.command(words);
    command
        .arg(&recording.dir)
        .env("RR_TEST_REPLAY_LEVEL", level.name());
    run(&mut command, rr.limit)
}

/// All extended states of the events.
fn states(recording: &Recording<'_>) -> Vec<ExtendedState> {
    let reader = TraceReader::open(&recording.dir).unwrap();
    let events = reader.events_from(EventNumber(1)).unwrap();
    let mut states = Vec::new();
    for event in events {
        let mut kind = event.unwrap().kind;
        states.extend(kind.extended_state_mut().cloned());
    }
    states
}

#[test]
fn a_program_is_shown_a_level() {
    let rr = Rr::new();
    for (level, option, length) in [(Level::V2, V2, 576), (Level::V3, V3, 832)] {
        let Some(lines) = shown(level) else { continue };
        for (interval, more) in [
            ("5e", &[][..]),
            ("20e", &["-n"]),
            ("none", &["--disable-cpuid-faulting"]),
        ] {
            let options = [
                &[option, "--checkpoint-interval", interval, "--checkpoint-wait"][..],
                more,
            ]
            .concat();
            let recording = record(&rr, &options);
            let out = recording.run.out();
            for line in lines {
                assert!(
                    out.lines().any(|l| l == line),
                    "{option} {more:?}: no `{line}` in\n{out}"
                );
            }
            let states = states(&recording);
            assert!(states.len() > 3, "{}", states.len());
            let lengths = states.iter().map(|state| state.0.len());
            assert_eq!(lengths.filter(|n| *n != length).count(), 0, "{option} {more:?}");
            let replay = recording.replay(&[]).expect_success();
            assert_eq!(replay.out(), out, "{option} {more:?}");
            recording.verify();
            // On the oldest processor of the level, too.
            let replay = on_older(&rr, &recording, level, &["replay", "-a"]).expect_success();
            assert_eq!(replay.out(), out, "{option} {more:?}");
            on_older(&rr, &recording, level, &["verify"]).expect_success();
        }
    }
}

/// The level is x86-64-v2 if none is named, and the trace says so.
#[test]
fn the_level_is_in_the_trace() {
    let rr = Rr::new();
    for (options, level) in [
        (&[][..], None),
        (&["--portable"], Some(Level::V2)),
        (&[V3], Some(Level::V3)),
    ] {
        let recording = rr.record(options, &words(["true"]));
        let header = fs::read(recording.dir.join("header")).unwrap();
        assert_eq!(Header::from_bytes(&header).unwrap().portable, level);
        let info = recording.rr(&["traceinfo"]).expect_success().out();
        let expected = level.map_or("null".to_owned(), |level| format!("\"{level}\""));
        assert!(info.contains(&format!("\"portable\": {expected},")), "{info}");
    }
    let bad = rr.rr(["record", "--portable=x86-64-v9", "true"]);
    assert!(
        !bad.status.success() && bad.err().contains("x86-64-v2 or x86-64-v3"),
        "{}",
        bad.describe()
    );
}

/// `rr ci` hands the level on.
#[test]
fn a_test_is_recorded_for_a_level() {
    let rr = Rr::new();
    let failures = rr.new_dir().join("failures");
    let mut command = rr.command(["ci", "--no-pack", "--portable", "--artifacts"]);
    command.arg(&failures).args(["--", "false"]);
    let failed = run(&mut command, rr.limit);
    assert_eq!(failed.status.code(), Some(1), "{}", failed.describe());
    let entries = fs::read_dir(&failures).unwrap();
    let traces = entries.map(|entry| entry.unwrap().path().join("header"));
    let headers = traces.filter_map(|path| fs::read(path).ok());
    let levels: Vec<_> = headers
        .map(|bytes| Header::from_bytes(&bytes).unwrap().portable)
        .collect();
    assert_eq!(levels, [Some(Level::V2)]);
}

/// A processor that has not what the program was shown is refused before the first event.
#[test]
fn what_an_older_processor_has_not_is_named() {
    if shown(Level::V3).is_none() {
        return;
    }
    let rr = Rr::new();
    let v3 = record(&rr, &[V3]);
    for command in [&["replay", "-a"][..], &["verify"]] {
        let run = on_older(&rr, &v3, Level::V2, command);
        assert!(!run.status.success(), "{}", run.describe());
        let names = "fma, movbe, xsave, osxsave, avx, f16c, bmi1, avx2, bmi2, lzcnt (";
        assert!(run.err().contains(names), "{}", run.describe());
        assert_eq!(run.out(), "");
    }
    // A trace that was not recorded for that needs more than a level has, and the message says what would help.
    let all = record(&rr, &[]);
    let run = on_older(&rr, &all, Level::V3, &["replay", "-a"]);
    assert!(
        !run.status.success() && run.err().contains("rdtscp"),
        "{}",
        run.describe()
    );
    assert!(run.err().contains("rr record --portable"), "{}", run.describe());
}

/// The trace of a processor with more components of extended state replays here, and a warning says what may be different.
#[test]
fn other_components_of_state_are_no_obstacle() {
    if shown(Level::V3).is_none() {
        return;
    }
    let rr = Rr::new();
    let recording = record(&rr, &[V3, "--checkpoint-interval", "9e", "--checkpoint-wait"]);
    let path = recording.dir.join("header");
    let mut header = Header::from_bytes(&fs::read(&path).unwrap()).unwrap();
    let mut entries = header.cpuid.entries().to_vec();
    let sizes = entries
        .iter_mut()
        .filter(|entry| entry.leaf == 0xd && entry.sub == 0);
    sizes.for_each(|entry| entry.answer[1] = 11008);
    header.cpuid = Table::from_entries(entries).unwrap();
    fs::write(&path, header.to_bytes().unwrap()).unwrap();
    let replay = recording.replay(&[]).expect_success();
    assert_eq!(replay.out(), recording.run.out());
    assert!(
        replay.err().contains("other components of extended state"),
        "{}",
        replay.describe()
    );
    recording.verify();
}

/// Programs that choose their code by the processor choose that of the level: the loader's directories, and others.
#[test]
fn programs_choose_the_code_of_the_level() {
    let loader = "/lib64/ld-linux-x86-64.so.2";
    let rr = Rr::new();
    let help = Command::new(loader).arg("--help").output();
    let knows_levels =
        help.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("x86-64-v2 (supported"));
    if !knows_levels {
        eprintln!("skipped: this loader has no directories for levels");
        return;
    }
    for (option, supported) in [(V2, &["x86-64-v2"][..]), (V3, &["x86-64-v3", "x86-64-v2"])] {
        let recording = rr.record(&[option], &words([loader, "--help"]));
        let out = recording.run.out();
        let chosen: Vec<&str> = out
            .lines()
            .filter(|line| line.contains("(supported, searched)"))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| name.starts_with("x86-64-"))
            .collect();
        assert_eq!(chosen, supported, "{option}");
        assert_eq!(recording.replay(&[]).expect_success().out(), out);
    }
    for (program, arguments) in [
        (
            "python3",
            &[
                "-c",
                "import hashlib, zlib; print(hashlib.sha256(b'x' * 99999).hexdigest(), zlib.crc32(b'x' * 9999))",
            ][..],
        ),
        ("openssl", &["dgst", "-sha512", "/etc/passwd"]),
        (
            "perl",
            &[
                "-e",
                "print join(' ', sort { $a <=> $b } map { $_ * 7919 % 1009 } 1 .. 999), \"\\n\"",
            ],
        ),
    ] {
        if !is_installed(program) {
            eprintln!("skipped: {program} is not installed");
            continue;
        }
        let program = words([&[program], arguments].concat());
        let recording = rr.record(&["--portable"], &program);
        let native = rr.native(&program, rr.home());
        assert_eq!(recording.run.out(), native.out(), "{}", recording.run.describe());
        let replay = on_older(&rr, &recording, Level::V2, &["replay", "-a"]).expect_success();
        assert_eq!(replay.out(), native.out());
        recording.verify();
    }
}
