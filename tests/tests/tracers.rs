//! Programs that trace others, under recording: they print the same as natively, and replay.

use std::path::Path;

use rr_tests::matrix::same;
use rr_tests::rr::words;
use rr_tests::{Guest, Rr};

/// Returns whether a tool is installed. If not, prints how to install it.
fn has(tool: &str) -> bool {
    let there = Path::new("/usr/bin").join(tool).exists();
    if !there {
        eprintln!("skipped: {tool} is not installed (Debian: apt-get install {tool})");
    }
    there
}

/// Records a program in several ways. Each time it prints this on standard error (or output), and so
/// does its replay.
fn check(program: &[&str], says: &[&str]) {
    check_ending(program, says, 0);
}

/// Same as [`check`], for a program that ends with another status.
fn check_ending(program: &[&str], says: &[&str], status: i32) {
    let rr = Rr::new();
    let ways: [&[&str]; 3] = [
        &["--checkpoint-interval", "none"],
        &["-n", "--checkpoint-interval", "200e"],
        &["--checkpoint-interval", "50e"],
    ];
    for options in ways {
        let recording = rr.record(options, &words(program.iter().copied()));
        let run = &recording.run;
        assert_eq!(run.shell_status(), status, "{}", run.describe());
        for word in says {
            let all = run.err() + &run.out();
            assert!(all.contains(word), "{word}\n{}", run.describe());
        }
        let replay = recording.replay(&[]).expect_success();
        same("replay: standard output", &replay.stdout, &run.stdout);
        same(
            "replay: standard error",
            &replay.program_stderr(),
            &run.program_stderr(),
        );
        recording.verify().expect_success();
    }
}

/// AddressSanitizer with its leak checker. (As a guest, with a checkpoint at each event, this takes a
/// minute.)
#[test]
fn a_leak_is_reported() {
    let guest = Guest::build("leak_asan");
    let path = guest.path.to_str().expect("a path in UTF-8");
    check_ending(&[path], &["LeakSanitizer: detected memory leaks"], 1);
}

/// Processes, a pipe and exec: every line comes from a stop that rr emulates.
#[test]
fn strace_follows_a_shell() {
    if !has("strace") {
        return;
    }
    let script = "/bin/true; echo one | cat; exit 3 & wait $!; kill -USR1 $$; echo $?";
    let program = [
        "strace",
        "-f",
        "sh",
        "-c",
        &format!("trap 'echo caught' USR1; {script}"),
    ];
    let says = [
        "execve(\"/bin/true\", [\"/bin/true\"]",
        "--- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_USER",
        "+++ exited with 3 +++",
        "+++ exited with 0 +++",
        "<unfinished ...>",
        "caught",
    ];
    check(&program, &says);
}

/// Breakpoints, single steps, a called function, and watchpoints by a debug register and by single
/// steps.
#[test]
fn gdb_debugs_a_program() {
    if !has("gdb") {
        return;
    }
    let guest = Guest::build("sum");
    let guest = Rr::new().reachable(&guest.path);
    let guest = guest.to_str().unwrap();
    let commands = [
        "set pagination off",
        "set startup-with-shell off",
        "break add",
        "run",
        "backtrace",
        "print n",
        "next",
        "stepi",
        "finish",
        "delete",
        "print add(1000)",
        "break add if n == 3",
        "continue",
        "watch total",
        "continue",
        "delete",
        "set can-use-hw-watchpoints 0",
        "watch total",
        "continue",
        "delete",
        "print total = 7",
        "continue",
    ];
    let mut program = vec!["gdb", "-nx", "-batch"];
    for command in commands {
        program.extend(["-ex", command]);
    }
    program.push(guest);
    let says = [
        "Breakpoint 1, add (n=1)",
        "#1  0x",
        "$1 = 1",
        "Value returned is $2 = 101",
        "$3 = 1101",
        "Breakpoint 2, add (n=3)",
        "Old value = 1103",
        "New value = 1106",
        "Hardware watchpoint 3: total",
        "Old value = 1106",
        "New value = 1110",
        "$4 = 7",
        "the sum is 7",
        "exited normally",
    ];
    check(&program, &says);
}
