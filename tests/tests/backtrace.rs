//! `rr backtrace`: the backtrace of a crash that a log shows.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rr_tests::rr::words;
use rr_tests::run::run;
use rr_tests::{Recording, Rr};

const THREAD: &str = r#"
#include <pthread.h>
#include <unistd.h>
static void *waits(void *p) { int secret = 4711; (void)secret; pause(); return p; }
static int boom(int depth, int *where) { int local = depth * 3; if (depth) return boom(depth - 1, where) + local; *where = local; return local; }
static void *crash(void *p) { usleep(1000); boom(3, p); return 0; }
int main(void) {
    pthread_t a, b;
    pthread_create(&a, 0, waits, 0);
    pthread_create(&b, 0, crash, (void *)16);
    pthread_join(b, 0);
    return 0;
}
"#;

const ASSERTION: &str = r#"
#include <assert.h>
static void check(int value) { int twice = 2 * value; assert(twice == 5); }
int main(int argc, char **argv) { (void)argv; check(argc + 1); return 0; }
"#;

const CHILDREN: &str = r#"
#include <sys/wait.h>
#include <unistd.h>
static int divide(int by) { return 10 / by; }
int main(void) {
    int status;
    if (!fork()) { volatile int zero = 0; return divide(zero); }
    wait(&status);
    if (!fork()) *(volatile int *)0 = 1;
    wait(&status);
    for (int n = 0; n < 200; n++) usleep(1);
    return 3;
}
"#;

const EXCEPTION: &str = r#"
#include <stdexcept>
#include <string>
static int find(const std::string &what) { int tries = 12; if (tries) throw std::runtime_error("not found: " + what); return tries; }
int main() { return find("three"); }
"#;

/// Compiles a program.
fn build(rr: &Rr, name: &str, source: &str) -> PathBuf {
    let (compiler, ending) = if source.contains("std::") {
        ("g++", "cpp")
    } else {
        ("gcc", "c")
    };
    let text = rr.home().join(format!("{name}.{ending}"));
    let program = rr.home().join(name);
    std::fs::write(&text, source).unwrap();
    let mut line = Command::new(compiler);
    line.args(["-g", "-O0", "-pthread", "-o"])
        .arg(&program)
        .arg(&text);
    run(&mut line, Duration::from_secs(60)).expect_success();
    program
}

fn backtrace(recording: &Recording, options: &[&str]) -> String {
    let run = recording.rr(&[&["backtrace"], options].concat()).expect_success();
    assert_eq!(run.err(), "", "{}", run.describe());
    run.out()
}

/// Checks that all of these parts are in the text, in this order.
fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part);
        rest = &rest[at.unwrap_or_else(|| panic!("{part:?} is not there, or too early:\n{text}"))..];
    }
}

#[test]
fn a_thread_that_crashes() {
    let rr = Rr::new();
    let program = build(&rr, "thread", THREAD);
    let recording = rr.record(&["--checkpoint-interval", "20e"], &words([&program]));
    let parts = [
        "=== 1 of 1",
        "SIGSEGV (SEGV_MAPERR) accessing 0x10",
        "rr replay -p",
        ">>> SIGSEGV",
        "Thread 3 (",
        "boom (depth=0, where=0x10) at",
        "local = 0",
        "crash (p=0x10)",
        "Thread 2 (",
        "secret = 4711",
        "Thread 1 (",
        "main () at",
    ];
    in_order(&backtrace(&recording, &[]), &parts);
    // The debugger now gets the files from the trace.
    std::fs::remove_file(&program).unwrap();
    let text = backtrace(&recording, &[]);
    in_order(&text, &parts);
    in_order(&text, &["crash (p=0x10)", "start_thread"]);
    for noise in ["GNU gdb", "warning", "debuginfod", "Reading", "--- rr"] {
        assert!(!text.contains(noise), "{noise}:\n{text}");
    }
    let few = backtrace(&recording, &["--frames", "2"]);
    assert!(
        few.contains("(at most 2 frames of a thread are shown: --frames)") && !few.contains("depth=2"),
        "{few}"
    );
}

#[test]
fn a_failed_assertion_and_an_uncaught_exception() {
    let rr = Rr::new();
    for (name, source, frames) in [
        (
            "assertion",
            ASSERTION,
            ["check (value=2)", "twice = 4", "main (argc=1"],
        ),
        (
            "exception",
            EXCEPTION,
            ["__cxa_throw", "tries = 12", "main () at"],
        ),
    ] {
        let program = build(&rr, name, source);
        let recording = rr.record(&[], &words([&program]));
        let text = backtrace(&recording, &[]);
        in_order(
            &text,
            &[
                "SIGABRT (SI_TKILL), sent by process",
                "abort",
                frames[0],
                frames[1],
                frames[2],
            ],
        );
    }
}

#[test]
fn children_crash_and_the_parent_goes_on() {
    let rr = Rr::new();
    let program = build(&rr, "children", CHILDREN);
    let recording = rr.record(&["-n", "--checkpoint-interval", "20e"], &words([&program]));
    let text = backtrace(&recording, &["--on-exit-status"]);
    let parts = [
        "=== 1 of 3",
        "SIGFPE (FPE_INTDIV)",
        "rr replay -f",
        "divide (by=0)",
        "zero = 0",
        "=== 2 of 3",
        "SIGSEGV (SEGV_MAPERR) accessing 0x0",
        "main () at",
        "=== 3 of 3",
        "exit with status 3",
        "rr replay -p",
        "exit (",
    ];
    in_order(&text, &parts);
    let one = backtrace(&recording, &["--limit", "1"]);
    in_order(
        &one,
        &["=== 1 of 2", "divide (by=0)", "1 more not shown (--limit)"],
    );
    assert!(!one.contains("=== 2"));
}

#[test]
fn nothing_to_show_and_nothing_to_show_it_with() {
    let rr = Rr::new();
    let fine = rr.record(&[], &words(["/bin/true"]));
    assert_eq!(backtrace(&fine, &[]), "no fatal signal in this recording\n");
    let program = build(&rr, "assertion", ASSERTION);
    let recording = rr.record(&[], &words([&program]));
    let without = recording.rr(&["backtrace", "-d", "/no/gdb"]).expect_status(2);
    in_order(&without.out(), &["=== 1 of 1", "SIGABRT", "rr replay -p"]);
    assert!(
        without.err().contains("there is no /no/gdb: backtraces need gdb"),
        "{}",
        without.err()
    );
    // A debugger that never answers.
    let slow = rr.home().join("slow");
    std::fs::write(
        &slow,
        "#!/bin/sh\ncase \"$*\" in *connect*|*target*) exec sleep 60;; esac\n",
    )
    .unwrap();
    std::fs::set_permissions(&slow, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let late = recording
        .rr(&["backtrace", "--timeout", "1", "-d", slow.to_str().unwrap()])
        .expect_status(2);
    in_order(
        &late.out(),
        &[
            "SIGABRT",
            "frames are missing: gdb was not done within the time limit",
        ],
    );
}
