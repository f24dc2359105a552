//! rr under seccomp filters from outside, as containers have them: recording, buffering and replaying
//! need nothing that is forbidden there, and refused calls are replayed.

use std::ffi::OsString;

use rr_tests::rr::words;
use rr_tests::run::run;
use rr_tests::{Guest, Rr, Run};

/// Runs `rr ARGS` under a filter.
fn confined(rr: &Rr, filter: &str, args: &[OsString]) -> Run {
    let confine = rr.reachable(&Guest::build("confine").path);
    let mut command = rr.plain_command(confine.as_os_str(), &rr.new_dir());
    command.arg(filter).arg(rr.bin()).args(args);
    run(&mut command, rr.limit)
}

/// Records the guest under a filter and replays the trace there, and without the filter. Returns the
/// program's output.
fn check(rr: &Rr, filter: &str, options: &[&str]) -> String {
    let guest = rr.reachable(&Guest::build("confined").path);
    let trace = rr.new_trace();
    let mut args = words([
        "record",
        "--checkpoint-interval",
        "20e",
        "--checkpoint-wait",
        "-o",
    ]);
    args.push(trace.clone().into());
    args.extend(words(options));
    args.push(guest.into());
    let recorded = confined(rr, filter, &args).expect_success();
    let recording = rr.recording_from(trace.clone(), recorded);
    let out = recording.run.out();
    let args = [words(["replay", "-a"]), vec![trace.into()]].concat();
    assert_eq!(confined(rr, filter, &args).expect_success().out(), out);
    assert_eq!(recording.replay(&[]).expect_success().out(), out);
    recording.verify().expect_success();
    let buffered = recording.info().buffered_calls.unwrap();
    assert_eq!(
        buffered > 10,
        !options.contains(&"-n"),
        "{buffered} buffered calls"
    );
    recording.remove();
    out
}

#[test]
fn without_performance_counters() {
    let rr = Rr::new();
    for (filter, answer) in [("perf-eperm", "EPERM"), ("perf-enosys", "ENOSYS")] {
        let out = check(&rr, filter, &[]);
        let said = out.matches(&format!("perf_event_open: {answer}\n")).count();
        assert_eq!(said, 4, "{out}");
    }
}

/// The recorder's remote calls end with a `getpid` that is not made (`tracee/src/remote.rs`). Recording
/// works where a filter refuses that call.
#[test]
fn without_the_call_that_ends_remote_ones() {
    let rr = Rr::new();
    let guest = rr.reachable(&Guest::build("hello").path);
    let mut args = words(["record", "--checkpoint-interval", "5e", "--checkpoint-wait", "-o"]);
    args.extend([rr.new_trace().into(), guest.into()]);
    let recorded = confined(&rr, "getpid-eperm", &args).expect_success();
    assert_eq!(recorded.out(), "hello, world\n");
}

#[test]
fn under_dockers_profile() {
    let rr = Rr::new();
    for options in [&[][..], &["-n"]] {
        let out = check(&rr, "docker", options);
        for line in [
            "perf_event_open: EPERM",
            "keyctl: EPERM",
            "kcmp: EPERM",
            "socket: EPERM",
            "unshare: EPERM",
            "clone3: ENOSYS",
            "from a shell",
        ] {
            assert!(out.contains(line), "{line} is missing: {out}");
        }
    }
}

/// `rr record --stats`, and the number in `rr traceinfo`: of a whole recording and of a torn one.
#[test]
fn what_it_cost() {
    let rr = Rr::new();
    let run = rr.record(
        &["--stats"],
        &words([
            "/bin/sh",
            "-c",
            "for i in 1 2 3 4 5 6 7 8 9; do test -e /; done; sleep 0",
        ]),
    );
    let told = run.run.err();
    let number = |what: &str| {
        let line = told.lines().find(|line| line.ends_with(what));
        let line = line.unwrap_or_else(|| panic!("no line `{what}`: {told}"));
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let info = run.info();
    let whole = info.buffered_calls.unwrap();
    assert_eq!(
        (number(" events"), number(" buffered calls")),
        (info.events, whole)
    );
    assert!(whole >= 5, "{told}");
    assert!(number(" stops") > number(" system call entries"), "{told}");
    assert!(told.contains("sites that cannot be rewritten"), "{told}");
    // Without its end mark the trace is incomplete, and rr counts its existing events.
    let segment = std::fs::read_dir(run.dir.join("segments"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let length = segment.metadata().unwrap().len();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&segment)
        .unwrap()
        .set_len(length - 1)
        .unwrap();
    let torn = run.info();
    assert_eq!((torn.complete, torn.buffered_calls), (false, Some(whole)));
    run.remove();
}

/// `rr doctor` tells the container's deficiencies, and gives advice.
#[test]
fn a_doctor_tries_what_recording_needs() {
    let rr = Rr::new();
    let verdicts = |run: &Run| -> Vec<(String, String)> {
        let all: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let all = all.as_array().unwrap().iter();
        all.map(|one| (text(&one["what"]), text(&one["verdict"])))
            .collect()
    };
    let of = |run: &Run, what: &str| {
        let all = verdicts(run);
        all.into_iter().find(|(name, _)| name == what).unwrap().1
    };
    let args = words(["doctor", "--json", "-d", "/no/such/gdb"]);
    let works = confined(&rr, "docker", &args).expect_success();
    for what in ["ptrace", "seccomp", "recording", "replay"] {
        assert_eq!(of(&works, what), "good", "{}", works.describe());
    }
    assert_eq!(of(&works, "gdb"), "limited", "{}", works.describe());
    let fails = confined(&rr, "ptrace-eperm", &args).expect_status(1);
    for what in ["ptrace", "recording", "replay"] {
        assert_eq!(of(&fails, what), "bad", "{}", fails.describe());
    }
    // The output for people has advice.
    let told = confined(&rr, "ptrace-eperm", &words(["doctor"])).expect_status(1);
    assert!(
        told.out().contains("BAD") && told.out().contains("SYS_PTRACE"),
        "{}",
        told.describe()
    );
    let left = std::fs::read_dir(std::env::temp_dir()).unwrap();
    let ours = left.filter(|e| {
        e.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("rr-doctor-")
    });
    assert_eq!(ours.count(), 0);
}
