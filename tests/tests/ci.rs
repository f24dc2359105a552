//! `rr ci`: a test's own result never changes; a successful run leaves nothing, a failed one its
//! recording.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use rr_tests::Rr;
use rr_tests::damage::Tmpfs;
use rr_tests::programs::is_installed;
use rr_tests::run::{Run, no_process_left_in, run, start};

const CRASH: &str = r#"
#include <assert.h>
static void check(int value) { int twice = 2 * value; assert(twice == 4711); }
int main(int argc, char **argv) { (void)argv; check(argc); return 0; }
"#;

/// The first exception is handled and forgotten; the second one makes the status.
const THROWER: &str = r#"
#include <stdexcept>
static void check(int value) {
    if (value == 1) throw std::runtime_error("first");
    if (value == 2) throw std::runtime_error("second");
}
int main() {
    int failures = 0;
    for (int value = 0; value < 4; value++)
        try { check(value); } catch (const std::exception &) { failures++; }
    return failures == 2 ? 3 : 0;
}
"#;

/// A directory of artefacts and the commands that fill it.
struct Ci {
    rr: Rr,
    artifacts: PathBuf,
}

impl Ci {
    fn new() -> Ci {
        let rr = Rr::new().with_limit(Duration::from_secs(60));
        let artifacts = rr.new_dir().join("failures");
        Ci { rr, artifacts }
    }

    fn command(&self, options: &[&str], test: &[&str]) -> Command {
        let mut words: Vec<OsString> = vec!["ci".into(), "--artifacts".into(), self.artifacts.clone().into()];
        words.extend(options.iter().map(Into::into));
        words.push("--".into());
        words.extend(test.iter().map(Into::into));
        self.rr.command(words)
    }

    #[track_caller]
    fn run(&self, options: &[&str], test: &[&str]) -> Run {
        run(&mut self.command(options, test), self.rr.limit)
    }

    /// The names of the artefacts, which are packs.
    fn kept(&self) -> Vec<String> {
        let name = |file: String| file.strip_suffix(".rrpack").expect("a pack").to_owned();
        names(&self.artifacts).into_iter().map(name).collect()
    }

    /// Checks that nothing is left in the directory of recordings, except the files that traces share.
    #[track_caller]
    fn expect_clean(&self) {
        let mut left = names(&self.rr.home().join("traces"));
        left.retain(|name| name != ".files");
        assert!(left.is_empty(), "{left:?}");
    }

    #[track_caller]
    fn replay(&self, name: &str) -> Run {
        let file = self.artifacts.join(format!("{name}.rrpack"));
        self.rr.rr(["replay".as_ref(), "-a".as_ref(), file.as_os_str()])
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_green_run_leaves_nothing_and_its_output_is_its_own() {
    let ci = Ci::new();
    let run = ci
        .run(&[], &["sh", "-c", "echo out; echo err >&2"])
        .expect_success();
    assert_eq!((run.out(), run.err()), ("out\n".into(), "err\n".into()));
    assert!(ci.kept().is_empty());
    ci.expect_clean();
}

/// Runners start tests in parallel: each `rr ci` looks for what killed ones have left while others begin and end.
#[test]
fn runs_at_the_same_time_leave_each_other_alone() {
    let ci = Ci::new();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..8 {
                    let run = ci.run(&[], &["true"]).expect_success();
                    assert_eq!(run.err(), "");
                }
            });
        }
    });
    ci.expect_clean();
}

/// The log shows where a panic came from, not only where the process exits.
#[test]
fn the_backtrace_of_an_exit_has_the_last_exception() {
    let ci = Ci::new();
    let dir = ci.rr.new_dir();
    let source = dir.join("thrower.cpp");
    std::fs::write(&source, THROWER).unwrap();
    let program = dir.join("thrower");
    run(
        Command::new("g++")
            .args(["-g", "-O0", "-o"])
            .args([&program, &source]),
        ci.rr.limit,
    )
    .expect_success();
    let red = ci.run(&[], &[program.to_str().unwrap()]).expect_status(3);
    let (_, thrower) = red
        .err()
        .split_once(">>> the last panic or exception before it:\n")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap_or_else(|| panic!("{}", red.describe()));
    let second = THROWER.lines().position(|line| line.contains("second")).unwrap() + 1;
    assert!(
        thrower.contains("check (value=2)") && thrower.contains(&format!("thrower.cpp:{second}")),
        "{thrower}"
    );
    let report = ci
        .rr
        .rr(["ci".as_ref(), "report".as_ref(), ci.artifacts.as_os_str()]);
    assert!(
        report.out().contains("check (value=2)") && !report.out().contains("__cxa_throw"),
        "{}",
        report.describe()
    );
    // A program that throws nothing has only the frames of its exit.
    let plain = ci.run(&[], &["sh", "-c", "exit 3"]).expect_status(3);
    assert!(
        plain.err().contains("exit with status 3 here") && !plain.err().contains("last panic"),
        "{}",
        plain.describe()
    );
}

#[test]
fn a_crash_leaves_its_recording_and_its_backtrace() {
    let ci = Ci::new();
    let source = ci.rr.home().join("check.c");
    std::fs::write(&source, CRASH).unwrap();
    let program = ci.rr.home().join("check");
    let mut compiler = Command::new("gcc");
    compiler.args(["-g", "-O0", "-o"]).arg(&program).arg(&source);
    run(&mut compiler, Duration::from_secs(60)).expect_success();
    let program = program.to_str().unwrap();

    let red = ci.run(&[], &[program]).expect_status(128 + libc::SIGABRT);
    assert!(
        red.err().contains("rr: check: killed by SIGABRT"),
        "{}",
        red.describe()
    );
    assert!(red.err().contains("rr replay "), "{}", red.describe());
    assert_eq!(ci.kept(), ["check-0"]);
    ci.expect_clean();
    ci.replay("check-0").expect_success();
    if is_installed("gdb") {
        assert!(red.err().contains("in check (value=1) at"), "{}", red.describe());
        assert!(red.err().contains("check.c:3"), "{}", red.describe());
        // The command in the log goes there, although the recording is a file now.
        let log = red.err();
        let command = log.lines().find_map(|line| line.split_once("to go there: rr "));
        let words = command.expect("a command").1.split(' ');
        let gdb = ["--", "-batch", "-ex", "backtrace"];
        let there = ci.rr.rr(words.chain(gdb).map(OsString::from)).expect_success();
        assert!(
            there.out().contains("in check (value=1) at"),
            "{}",
            there.describe()
        );
    }

    // A crash of a child is kept, but does not change the test's result.
    let script = format!("{program}; exit 0");
    let green = ci.run(&["--no-backtrace", "--name", "a test"], &["sh", "-c", &script]);
    let green = green.expect_success();
    assert!(
        green.err().contains("was killed by SIGABRT"),
        "{}",
        green.describe()
    );
    assert_eq!(ci.kept(), ["a-test-0", "check-0"]);

    let report = ci
        .rr
        .rr(["ci".as_ref(), "report".as_ref(), ci.artifacts.as_os_str()]);
    let report = report.expect_success().out();
    assert!(report.contains("| check | killed by SIGABRT |"), "{report}");
    let json = ci.rr.rr([
        "ci".as_ref(),
        "report".as_ref(),
        "--json".as_ref(),
        ci.artifacts.as_os_str(),
    ]);
    let json: serde_json::Value = serde_json::from_str(&json.expect_success().out()).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2, "{json}");
    assert_eq!(json[1]["test"]["outcome"]["signal"], libc::SIGABRT, "{json}");
}

#[test]
fn a_status_is_passed_on_and_kept() {
    let ci = Ci::new();
    ci.run(&["--no-backtrace"], &["sh", "-c", "exit 70"])
        .expect_status(70);
    ci.run(&["--no-backtrace"], &["sh", "-c", "kill -TERM $$"])
        .expect_status(128 + libc::SIGTERM);
    assert_eq!(ci.kept(), ["sh-0", "sh-1"]);
    ci.run(&["--keep", "always"], &["true"]).expect_success();
    assert_eq!(ci.kept(), ["sh-0", "sh-1", "true-0"]);
}

#[test]
fn a_time_out_ends_the_recording_where_the_threads_are() {
    let ci = Ci::new();
    let tests: [&[&str]; 2] = [
        &["sh", "-c", "sleep 100 & wait"],
        // A loop without system calls.
        &["sh", "-c", "while :; do :; done"],
    ];
    for (n, test) in tests.iter().enumerate() {
        let began = Instant::now();
        let red = ci
            .run(&["--timeout", "700ms", "--name", "slow"], test)
            .expect_status(124);
        assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
        assert!(red.err().contains("rr: slow: time-out"), "{}", red.describe());
        if is_installed("gdb") {
            assert!(
                red.err().contains("the end of the recording"),
                "{}",
                red.describe()
            );
            assert!(red.err().contains("#0 "), "{}", red.describe());
        }
        ci.replay(&format!("slow-{n}")).expect_success();
    }
}

#[test]
fn runs_are_repeated_to_find_a_failure_or_to_get_past_one() {
    let ci = Ci::new();
    let flag = ci.rr.home().join("flag");
    let flag = flag.to_str().unwrap();
    let second = format!("test -e {flag} && exit 9; touch {flag}");
    let options = ["--no-backtrace", "--until-failure", "5"];
    let red = ci.run(&options, &["sh", "-c", &second]).expect_status(9);
    assert!(red.err().contains("failed in run 2"), "{}", red.describe());
    assert_eq!(ci.kept().len(), 1);
    std::fs::remove_file(flag).unwrap();

    let first = format!("test -e {flag} || {{ touch {flag}; exit 9; }}");
    let green = ci.run(&["--no-backtrace", "--retries", "3"], &["sh", "-c", &first]);
    let green = green.expect_success();
    assert!(green.err().contains("passed in run 2"), "{}", green.describe());
    assert_eq!(ci.kept().len(), 2);

    let options = ["--no-backtrace", "--retries", "2", "--chaos-seed", "7"];
    let never = ci.run(&options, &["false"]).expect_status(1);
    for seed in [7, 8, 9] {
        let said = format!("Chaos seed {seed} ");
        assert!(never.err().contains(&said), "{}", never.describe());
    }
    let always = ci
        .run(&["--until-failure", "2", "--chaos"], &["true"])
        .expect_success();
    assert_eq!(always.err(), "rr: the test passed in run 2\n");
    ci.expect_clean();
}

#[test]
fn inside_another_one_the_test_just_runs() {
    let ci = Ci::new();
    let rr = ci.rr.bin().to_str().unwrap().to_owned();
    let run = ci.run(&[], &[&rr, "ci", "--", "sh", "-c", "echo inner; exit 4"]);
    let run = run.expect_status(4);
    assert_eq!(run.out(), "inner\n");
    assert_eq!(ci.kept().len(), 1, "{:?}", ci.kept());
}

#[test]
fn what_cannot_be_kept_or_recorded_does_not_change_the_result() {
    let mut ci = Ci::new();
    // The artefact directory is a file.
    std::fs::write(&ci.artifacts, "").unwrap();
    let red = ci
        .run(&["--no-backtrace"], &["sh", "-c", "exit 3"])
        .expect_status(3);
    assert!(
        red.err().contains("recordings of failures go to"),
        "{}",
        red.describe()
    );
    let traces = ci.rr.home().join("traces");
    assert_eq!(names(&traces), [".files", "sh-0.rrpack"]);

    ci.artifacts = ci.rr.new_dir();
    let none = ci.run(&[], &["/no/such/program"]).expect_status(127);
    assert!(none.err().contains("/no/such/program"), "{}", none.describe());
    // The program exists, but cannot be executed.
    let text = ci.rr.home().join("text");
    std::fs::write(&text, "no program").unwrap();
    ci.run(&[], &[text.to_str().unwrap()]).expect_status(126);
    assert!(ci.kept().is_empty());
}

/// Wherever the descriptors come to an end, the result is the test's, and everything else that is said is a line of rr.
#[test]
fn few_descriptors_do_not_change_the_result() {
    let ci = Ci::new();
    for limit in 4..36 {
        let mut command = ci.command(&["--no-backtrace"], &["sh", "-c", "exit 7"]);
        let few = move || Ok(setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?);
        // SAFETY: between fork and exec there is one system call.
        unsafe { command.pre_exec(few) };
        let run = run(&mut command, ci.rr.limit).expect_status(7);
        for line in run.err().lines() {
            assert!(
                line.starts_with("rr: "),
                "{limit} descriptors: {}",
                run.describe()
            );
        }
    }
}

#[test]
fn what_cannot_be_packed_stays_a_directory() {
    let ci = Ci::new();
    std::fs::create_dir(&ci.artifacts).unwrap();
    // There is room for the recording, but not for the pack beside it.
    let Some(_mounted) = Tmpfs::mount(&ci.artifacts, "4m") else {
        eprintln!("skipped: no right to mount");
        return;
    };
    let red = ci.run(&["--no-backtrace"], &["sh", "-c", "exit 3"]);
    let red = red.expect_status(3);
    assert!(
        red.err().contains("the recording stays a directory: "),
        "{}",
        red.describe()
    );
    assert!(
        red.err().contains("No space left on device"),
        "{}",
        red.describe()
    );
    assert_eq!(names(&ci.artifacts), ["sh-0"]);
    let dir = ci.artifacts.join("sh-0");
    ci.rr
        .rr(["replay".as_ref(), "-a".as_ref(), dir.as_os_str()])
        .expect_success();
    ci.expect_clean();
}

#[test]
fn a_runner_that_gives_up_gets_the_end_that_it_asks_for() {
    let ci = Ci::new();
    let script = "trap 'echo ended; exit 5' TERM; echo $$; while :; do sleep 0.05; done";
    let mut started = start(&mut ci.command(&["--no-backtrace"], &["sh", "-c", script]));
    started.written_pid(ci.rr.limit);
    kill(started.pid(), Signal::SIGTERM).unwrap();
    let red = started.finish(ci.rr.limit).expect_status(5);
    assert!(red.out().ends_with("ended\n"), "{}", red.describe());
    assert_eq!(ci.kept(), ["sh-0"]);
    ci.expect_clean();
}

#[test]
fn a_killed_one_ends_the_test_and_the_next_one_cleans_up() {
    let ci = Ci::new();
    let script = "echo $$; while :; do sleep 0.05; done";
    let mut started = start(&mut ci.command(&[], &["sh", "-c", script]));
    let test = started.written_pid(ci.rr.limit);
    kill(started.pid(), Signal::SIGKILL).unwrap();
    let _ = started.finish(ci.rr.limit);
    let began = Instant::now();
    while kill(test, None).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "the test goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The recorder still closes the recording: what it writes while the next run removes it stays for the one after that.
    no_process_left_in(ci.rr.home());
    ci.run(&[], &["true"]).expect_success();
    ci.expect_clean();
}
