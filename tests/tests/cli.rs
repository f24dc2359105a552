//! The commands as a user sees them: exit statuses, options, output and its streams.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rr_tests::matrix::{Plan, check_recording, same};
use rr_tests::rr::words;
use rr_tests::{Ending, Guest, Rr};

fn program(name: &str) -> Vec<OsString> {
    words([Guest::build(name).path])
}

/// Records a guest that does not end, kills *the guest* from outside, and checks the trace.
fn killed_from_outside(guest: &str, signal: Signal, interval: Option<u64>) {
    let rr = Rr::new();
    let options: Vec<String> = interval
        .iter()
        .flat_map(|n| ["--checkpoint-interval".into(), format!("{n}e")])
        .collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let (started, dir) = rr.start_recording(&options, &program(guest), &rr.new_dir());
    let deadline = Instant::now() + Duration::from_secs(30);
    let pid = loop {
        let out = String::from_utf8(started.stdout_so_far()).unwrap();
        if let Some(pid) = out
            .lines()
            .next()
            .filter(|_| out.contains('\n'))
            .and_then(|line| line.strip_prefix("pid "))
        {
            break pid.parse().expect("a pid");
        }
        assert!(
            Instant::now() < deadline && !started.ended(),
            "the guest never said its pid: {out:?}"
        );
        std::thread::sleep(Duration::from_millis(2));
    };
    std::thread::sleep(Duration::from_millis(60));
    kill(Pid::from_raw(pid), signal).expect("kill the tracee");
    let run = started.finish(rr.limit);
    assert!(!run.err().contains("panicked"), "{}", run.describe());
    let recording = rr.recording_from(dir, run);
    let mut plan = Plan::guest(Ending::Signal(signal as i32));
    plan.replays = 4;
    check_recording(&recording, &plan, interval);
}

#[test]
fn sigkill_from_outside() {
    killed_from_outside("forever", Signal::SIGKILL, None);
    killed_from_outside("forever", Signal::SIGKILL, Some(5));
}

#[test]
fn sigkill_from_outside_while_blocked() {
    killed_from_outside("forever_blocked", Signal::SIGKILL, None);
    killed_from_outside("forever_blocked", Signal::SIGKILL, Some(1));
}

#[test]
fn sigterm_from_outside() {
    killed_from_outside("forever", Signal::SIGTERM, Some(20));
    killed_from_outside("forever_blocked", Signal::SIGTERM, None);
}

#[test]
fn wait_option_records_daemons_to_their_end() {
    let rr = Rr::new();
    let recording = rr.record(&["-w", "--checkpoint-interval", "5e"], &program("daemon"));
    assert!(
        recording.run.out().ends_with("daemon done\n"),
        "{}",
        recording.run.describe()
    );
    let mut plan = Plan::guest(Ending::Exit(4));
    plan.replays = 5;
    check_recording(&recording, &plan, Some(5));
}

#[test]
fn env_option_sets_variables() {
    let rr = Rr::new();
    let recording = rr.record(&["-v", "FIRST=1 2", "--env=SECOND=x=y"], &words(["/usr/bin/env"]));
    let out = recording.run.out();
    for line in ["FIRST=1 2", "SECOND=x=y", "GUEST_RECORDED=1"] {
        assert!(
            out.lines().any(|l| l == line),
            "{line} is missing\n{}",
            recording.run.describe()
        );
    }
}

/// Thousands of reads and writes: without the buffer each is an event, with the buffer almost none.
#[test]
fn buffered_calls_are_no_events() {
    let rr = Rr::new();
    let copy = words([
        "dd",
        "if=/dev/zero",
        "of=zeros",
        "bs=1",
        "count=3000",
        "status=none",
    ]);
    let traced = rr.record(&["-n"], &copy);
    assert_eq!(traced.run.shell_status(), 0);
    assert!(traced.info().events > 6000);
    let buffered = rr.record(&[], &copy);
    assert_eq!(buffered.run.shell_status(), 0);
    assert!(buffered.info().events < 600);
    buffered.replay(&[]).expect_success();
    buffered.verify();
}

/// Short programs make most calls once, from the same places of the same libraries: later recordings know these places.
#[test]
fn later_recordings_know_the_call_sites_of_earlier_ones() {
    let rr = Rr::new();
    let program = words(["true"]);
    let first = rr.record(&[], &program).info();
    for _ in 0..2 {
        rr.record(&[], &program).remove();
    }
    let last = rr.record(&[], &program);
    let info = last.info();
    let (before, now) = (first.buffered_calls.unwrap(), info.buffered_calls.unwrap());
    assert!(now > before && info.events < first.events, "{before} {now}");
    last.replay(&[]).expect_success();
    last.verify();
    // A store without these notes, or with damaged ones, is as good as a new one.
    for note in std::fs::read_dir(rr.home().join("traces/.files/notes")).unwrap() {
        std::fs::write(note.unwrap().path(), "damaged").unwrap();
    }
    let anew = rr.record(&[], &program);
    assert_eq!(anew.info().events, first.events);
    anew.replay(&[]).expect_success();
}

#[test]
fn program_arguments_are_not_options_of_rr() {
    let rr = Rr::new();
    let recording = rr.record(&[], &words(["/bin/echo", "-o", "--until", "-v", "--", "-w"]));
    assert_eq!(recording.run.out(), "-o --until -v -- -w\n");
    assert_eq!(
        recording.replay(&[]).expect_success().out(),
        "-o --until -v -- -w\n"
    );
}

#[test]
fn a_program_is_looked_up_in_path() {
    let rr = Rr::new();
    let recording = rr.record(&[], &words(["true"]));
    recording.run.expect_status(0);
}

#[test]
fn quiet_replay_shows_nothing() {
    let rr = Rr::new();
    let recording = rr.record(&["--checkpoint-interval", "10e"], &program("stdio_mix"));
    let quiet = recording.replay(&["-q"]).expect_success();
    assert_eq!(quiet.out(), "");
    assert_eq!(quiet.program_stderr(), b"");
}

#[test]
fn replay_can_be_repeated_and_leaves_the_trace_alone() {
    let rr = Rr::new();
    let recording = rr.record(&["--checkpoint-interval", "7e"], &program("random"));
    let before = listing(&recording.dir);
    for _ in 0..5 {
        same(
            "replay",
            &recording.replay(&[]).expect_success().stdout,
            &recording.run.stdout,
        );
    }
    recording.verify();
    assert_eq!(before, listing(&recording.dir));
}

/// Paths, sizes and contents of all files in a directory.
fn listing(dir: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            all.extend(listing(&entry.path()));
        } else {
            all.push((entry.path(), std::fs::read(entry.path()).unwrap()));
        }
    }
    all.sort();
    all
}

/// I6: a trace can be moved, and does not need the files that it was recorded from.
#[test]
fn a_trace_can_be_moved_and_outlives_the_program() {
    let rr = Rr::new();
    let dir = rr.new_dir();
    let copy = dir.join("copy-of-program");
    rr_tests::rr::copy_program(&Guest::build("private_file").path, &copy);
    let recording = rr.record_in(&["--checkpoint-interval", "10e"], &words([copy.clone()]), &dir);
    recording.run.describe();
    std::fs::remove_file(&copy).unwrap();
    let moved = rr.new_dir().join("elsewhere");
    std::fs::rename(&recording.dir, &moved).unwrap();
    let stdout = recording.run.stdout.clone();
    let recording = rr.recording_from(moved, recording.run);
    same(
        "replay of a moved trace",
        &recording.replay(&[]).expect_success().stdout,
        &stdout,
    );
    recording.verify();
}

#[test]
fn verbose_replay_says_where_it_started() {
    let rr = Rr::new();
    let recording = rr.record(&["--checkpoint-interval", "10e"], &program("fork_many"));
    let info = recording.info();
    let checkpoint = info.checkpoints[info.checkpoints.len() / 2].event;
    let goal = (checkpoint + 1).to_string();
    let run = recording
        .replay(&["-v", "-q", "-g", &goal, "--until", &goal])
        .expect_success();
    let err = run.err();
    assert!(
        err.contains(&checkpoint.to_string()),
        "does not name checkpoint {checkpoint}\n{err}"
    );
    assert!(err.contains(&goal), "does not name event {goal}\n{err}");
    let from_start = recording
        .replay(&["-v", "-q", "--from-start", "-g", &goal, "--until", &goal])
        .expect_success();
    assert_ne!(err, from_start.err(), "--from-start makes no difference");
}

#[test]
fn until_stops_after_an_event() {
    let rr = Rr::new();
    let recording = rr.record(&[], &program("hello"));
    let info = recording.info();
    assert_eq!(recording.replay(&["--until", "1"]).expect_success().out(), "");
    let last = info.events.to_string();
    assert_eq!(
        recording.replay(&["--until", &last]).expect_success().out(),
        "hello, world\n"
    );
}

#[test]
fn latest_trace_and_names() {
    let rr = Rr::new();
    let traces = rr.home().join("traces");
    for _ in 0..2 {
        rr.rr(["record", "-v", "A=B", "/bin/echo", "one"])
            .expect_success();
    }
    rr.rr(["record", "/bin/sh", "-c", "echo two; exit 0"])
        .expect_success();
    let link = std::fs::read_link(traces.join("latest-trace")).expect("latest-trace is a link");
    assert_eq!(
        link,
        std::path::Path::new("sh-0"),
        "a relative link to the last trace"
    );
    assert!(traces.join("echo-0").is_dir() && traces.join("echo-1").is_dir());
    assert_eq!(rr.rr(["replay", "-a"]).expect_success().out(), "two\n");
    assert_eq!(rr.rr(["replay", "-a", "echo-1"]).expect_success().out(), "one\n");
    let list = rr.rr(["ls"]).expect_success().out();
    for name in ["echo-0", "echo-1", "sh-0"] {
        assert!(list.contains(name), "{name} is missing in\n{list}");
    }
    rr.rr(["rm", "echo-0"]).expect_success();
    assert!(!traces.join("echo-0").exists() && traces.join("echo-1").exists());
    rr.rr(["record", "echo", "again"]).expect_success();
    assert!(traces.join("echo-0").is_dir(), "the first free number is used");
}

/// The store's files of removed traces go with the last trace that uses them. Files that other traces
/// need stay.
#[test]
fn rm_cleans_the_store_of_mapped_files() {
    let rr = Rr::new();
    let traces = rr.home().join("traces");
    let count = |dir: &str| {
        let entries = std::fs::read_dir(traces.join(dir)).expect("a directory of the store");
        entries
            .filter(|e| !e.as_ref().unwrap().file_type().unwrap().is_dir())
            .count()
    };
    let copy = rr.new_dir().join("own-program");
    rr_tests::rr::copy_program(&Guest::build("hello").path, &copy);
    rr.rr(words(["record".as_ref(), copy.as_os_str()]))
        .expect_success();
    rr.rr(["record", "/bin/echo", "kept"]).expect_success();
    let both = count(".files");
    rr.rr(["rm", "own-program-0"]).expect_success();
    assert_eq!(count(".files"), both - 1, "the program's own file goes");
    assert_eq!(rr.rr(["replay", "-a", "echo-0"]).expect_success().out(), "kept\n");
    rr.rr(["rm", "echo-0"]).expect_success();
    assert_eq!([".files", ".files/index", ".files/notes"].map(count), [0, 0, 0]);
    rr.rr(["record", "/bin/echo", "again"]).expect_success();
    assert_eq!(rr.rr(["replay", "-a"]).expect_success().out(), "again\n");
}

#[test]
fn dump_shows_every_event() {
    let rr = Rr::new();
    let recording = rr.record(&[], &program("hello"));
    let info = recording.info();
    let out = recording.rr(&["dump"]).expect_success().out();
    assert!(out.contains("SYSCALL: write'") && out.contains("`EXIT'"), "{out}");
    assert!(
        out.lines().count() as u64 >= info.events,
        "fewer lines than events:\n{out}"
    );
}

#[test]
fn ps_lists_processes() {
    let rr = Rr::new();
    let recording = rr.record(
        &[],
        &words(["/bin/sh", "-c", "/bin/true; sh -c 'exit 3'; exit 5"]),
    );
    let out = recording.rr(&["ps"]).expect_success().out();
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("PID\tPPID\tEXIT\tCMD"));
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 3, "{out}");
    assert_eq!(rows[0][2], "5");
    assert!(
        rows.iter()
            .any(|row| row[2] == "0" && row[1] == rows[0][0] && row[3].contains("/bin/true")),
        "{out}"
    );
    assert!(
        rows.iter().any(|row| row[2] == "3" && row[1] == rows[0][0]),
        "{out}"
    );
}

#[test]
fn usage_errors() {
    let rr = Rr::new();
    for args in [
        &["no-such-command-or-program-at-all"][..],
        &["record"],
        &["record", "--no-such-option", "true"],
        &["record", "--checkpoint-interval", "x", "true"],
        &["record", "--checkpoint-interval", "0", "true"],
        &["replay", "-a", "-g", "x"],
        &["replay", "-a", "--until"],
        &["verify", "no-such-trace"],
        &["traceinfo", "/nonexistent/trace"],
        &["rm", "no-such-trace"],
    ] {
        let run = rr.rr(args);
        assert_ne!(run.shell_status(), 0, "{}", run.describe());
        assert!(
            run.status.code().is_some(),
            "died of a signal: {}",
            run.describe()
        );
        assert!(
            !run.stderr.is_empty() && !run.err().contains("panicked"),
            "{}",
            run.describe()
        );
    }
    rr.rr(["--version"]).expect_success();
    rr.rr(["--help"]).expect_success();
    rr.rr(["record", "--help"]).expect_success();
}

/// Options that scripts pass to the original and that need nothing here.
#[test]
fn options_of_the_original_are_accepted_without_a_word() {
    let rr = Rr::new();
    let options = [
        "--syscall-buffer-size=4",
        "--syscall-buffer-sig=SIGUSR2",
        "--scarce-fds",
        "--unmap-vdso",
        "--no-read-cloning",
        "--no-file-cloning",
        "--check-outside-mmaps",
        "--disable-cpuid-faulting",
        "--checksum=on-all-events",
        "--nested=error",
        "--suppress-environment-warnings",
    ];
    let recording = rr.record(&options, &program("hello"));
    assert_eq!(recording.run.err(), "");
    let options = ["--share-private-mappings", "--serve-files", "-C", "on-syscalls"];
    assert_eq!(recording.replay(&options).expect_success().err(), "");
}

#[test]
fn a_recording_inside_a_recording() {
    let rr = Rr::new();
    let record = |nested: &[&str]| {
        let own = [rr.bin().to_str().unwrap(), "record"];
        let words = own
            .iter()
            .chain(nested)
            .chain(&["sh", "-c", "echo inside; exit 7"]);
        rr.record(&[], &words.map(OsString::from).collect::<Vec<_>>())
    };
    let ignored = record(&["--nested=ignore"]);
    assert_eq!(ignored.run.shell_status(), 7, "{}", ignored.run.describe());
    assert_eq!(ignored.run.out(), "inside\n");
    assert_eq!(ignored.replay(&[]).out(), "inside\n");
    for nested in [
        &[][..],
        &["--nested=default"],
        &["--nested=error"],
        &["--nested=detach"],
    ] {
        let refused = record(nested);
        assert_eq!(
            (refused.run.out(), refused.run.shell_status()),
            (String::new(), 1)
        );
        assert!(
            refused.run.err().contains("--nested=ignore"),
            "{}",
            refused.run.describe()
        );
    }
}

#[test]
fn build_ids() {
    let rr = Rr::new();
    let guest = rr_tests::guest::Guest::build("hello").path;
    let mut readelf = std::process::Command::new("readelf");
    let known = rr_tests::run(readelf.arg("-n").arg(&guest), rr.limit)
        .expect_success()
        .out();
    let id = known
        .split("Build ID: ")
        .nth(1)
        .and_then(|rest| rest.lines().next())
        .expect("a build id");
    let named = |names: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "printf %s \"$1\" | \"$0\" buildid"]);
        rr_tests::run(command.arg(rr.bin()).arg(names), rr.limit)
    };
    let names = format!("{}\n/etc/passwd\n", guest.display());
    assert_eq!(named(&names).expect_success().out(), format!("{id}\n\n"));
    let missing = named("/no/such/file\n").expect_status(1);
    assert!(
        missing.err().contains("cannot read /no/such/file"),
        "{}",
        missing.describe()
    );
}
