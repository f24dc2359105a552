//! Debugging replays with a real gdb, forwards and backwards.

// A broken expectation in a test is a failed test.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rr_tests::Rr;
use rr_tests::gdb::{Debugged, Program, check};
use rr_tests::rr::copy_program;
use rr_tests::run::{Started, run, start};
use rr_tests::terminal::Terminal;

/// With and without buffered calls.
const MODES: [&[&str]; 2] = [&[], &["-n"]];

#[test]
fn forwards_and_backwards() {
    let rr = Rr::new();
    for mode in MODES {
        let walk = Debugged::record(&rr, mode, &Program::c("walk"));
        assert_eq!(walk.recorded.shell_status(), 3);
        walk.check(
            &[],
            &[
                ("break main", "Breakpoint 1 at"),
                ("continue", "Breakpoint 1, main ()"),
                ("save main", ""),
                ("info threads", "* 1    Thread … \"walk\""),
                ("tbreak add", "Temporary breakpoint 2"),
                ("continue", "Temporary breakpoint 2, add (n=1)"),
                ("save add", ""),
                ("step", "twice (n=1)"),
                ("bt", "#0  twice (n=1) … #1 … add (n=1) … #2 … main ()"),
                ("next", "return result"),
                ("print result", "= 2"),
                ("reverse-next", "result = n * 2"),
                ("reverse-step", "add (n=1) … {add}"),
                ("step", "twice (n=1)"),
                ("finish", "Value returned is $2 = 2"),
                ("reverse-finish", ""),
                ("advance twice", "twice (n=1)"),
                ("up", "add (n=1)"),
                ("break twice if n == 7", "Breakpoint 3"),
                ("display total", ""),
                ("continue", "Breakpoint 3, twice (n=7) … total = 42"),
                ("undisplay 1", ""),
                ("reverse-continue", "Breakpoint 1, main ()"),
                ("same main", ""),
                ("reverse-continue", "No more reverse-execution history"),
                ("reverse-stepi", "No more reverse-execution history"),
                ("reverse-continue", "No more reverse-execution history"),
                ("tbreak add", ""),
                ("continue", "Breakpoint 1, main ()"),
                ("same main", ""),
                ("continue", "add (n=1)"),
                ("same add", ""),
                ("delete", ""),
                // Watchpoints, both ways.
                ("watch total", "atchpoint 5: total"),
                ("continue", "Old value = 0 … New value = 2"),
                ("save first", ""),
                ("continue", "Old value = 2 … New value = 6"),
                ("continue", "Old value = 6 … New value = 12"),
                ("reverse-continue", "Old value = 12 … New value = 6"),
                ("save twelve", ""),
                ("reverse-continue", "Old value = 6 … New value = 2"),
                ("reverse-continue", "Old value = 2 … New value = 0"),
                ("continue", "Old value = 0 … New value = 2"),
                ("same first", ""),
                ("delete", ""),
                ("break {raise}", ""),
                ("continue", "raise(SIGUSR1)"),
                ("save raise", ""),
                ("last total", "Old value = 110 … New value = 90"),
                ("info breakpoints", "!watchpoint"),
                ("stepi", ""),
                ("print total", "= 110"),
                ("reverse-stepi", ""),
                ("print total", "= 90"),
                ("continue", "raise(SIGUSR1)"),
                ("same raise", ""),
            ],
        );
    }
}

#[test]
fn signals_system_calls_and_the_end() {
    let rr = Rr::new();
    for mode in MODES {
        let walk = Debugged::record(&rr, mode, &Program::c("walk"));
        walk.check(
            &[],
            &[
                ("break {raise}", "Breakpoint 1"),
                ("continue", "Breakpoint 1, main ()"),
                ("save raise", ""),
                ("print $_siginfo", ""),
                ("continue", "Program received signal SIGUSR1"),
                ("print $_siginfo.si_signo", "= 10"),
                ("save signal", ""),
                ("break handler", "Breakpoint 2"),
                ("continue", "Breakpoint 2, handler (signo=10)"),
                ("save handler", ""),
                ("bt", "#0  handler (signo=10) … <signal handler called> … main ()"),
                ("reverse-continue", "Program received signal SIGUSR1"),
                ("same signal", ""),
                ("reverse-continue", "Breakpoint 1, main ()"),
                ("same raise", ""),
                ("handle SIGUSR1 nostop noprint pass", ""),
                ("continue", "Breakpoint 2, handler (signo=10)"),
                ("same handler", ""),
                ("finish", "<signal handler called>"),
                ("reverse-stepi", "handler (signo=10)"),
                ("reverse-continue", "Breakpoint 2, handler (signo=10)"),
                ("same handler", ""),
                ("delete", ""),
                // Passes sigreturn, forwards and backwards by instructions.
                ("break handler", ""),
                ("run", ""),
                ("continue", "handler (signo=10)"),
                ("python while gdb.newest_frame().name() != 'main': gdb.execute('stepi', to_string=True)", ""),
                ("print hits", "= 10"),
                ("save returned", ""),
                ("python while gdb.newest_frame().name() != 'handler': gdb.execute('reverse-stepi', to_string=True)", ""),
                ("bt 1", "handler (signo=10)"),
                ("delete", ""),
                ("tbreak {after}", ""),
                ("continue", "hits++"),
                ("next", "calls(5)"),
                ("print hits", "= 11"),
                ("save calls", ""),
                ("next", "copy(\"hello\")"),
                ("save copy", ""),
                ("reverse-next", "calls(5)"),
                ("same calls", ""),
                ("step", "calls (n=5)"),
                ("reverse-step", "main () … calls(5)"),
                ("next", "copy(\"hello\")"),
                ("same copy", ""),
                ("tbreak {print}", ""),
                ("continue", ""),
                ("print text", "hello"),
                ("next", "fflush"),
                ("next", "hello 110 11 … getpid"),
                ("catch syscall getpid", "Catchpoint"),
                ("continue", "call to syscall … getpid"),
                ("continue", "returned from syscall … getpid"),
                ("reverse-continue", "syscall getpid"),
                ("delete", ""),
                ("continue", "!exited"),
                ("info threads", "* 1"),
                ("when", "Completed event: "),
                ("continue", "exited"),
                ("when", "Completed event"),
                ("checkpoint", "The program is not being run."),
                ("run", ""),
                ("break main", ""),
                ("continue", "main ()"),
                ("kill", "killed"),
            ],
        );
    }
}

#[test]
fn changes_and_calls() {
    let rr = Rr::new();
    for mode in MODES {
        let walk = Debugged::record(&rr, mode, &Program::c("walk"));
        walk.check(
            &[],
            &[
                ("handle SIGUSR1 nostop noprint pass", ""),
                ("break {calls}", ""),
                ("continue", "calls(5)"),
                ("save calls", ""),
                // Only the stack below the frame differs. Changed memory stays changed until the replay
                // goes on.
                ("print twice(21)", "= 42"),
                ("print add(1)", "= 112"),
                ("print total", "= 112"),
                ("call (int) puts(\"from a call\")", ""),
                ("call (int) fflush(0)", "from a call"),
                ("print copy(\"made here\")", "made here"),
                ("print (char *) $", "made here"),
                ("print crash(1)", "SIGSEGV"),
                ("bt 1", "main ()"),
                ("print calls(3)", "void"),
                ("stepi", ""),
                ("print total", "= 110"),
                ("reverse-stepi", ""),
                ("same calls", ""),
                ("set var total = 5", ""),
                ("print total", "= 5"),
                ("print add(1)", "= 7"),
                ("next", "copy(\"hello\")"),
                ("print total", "= 110"),
                ("reverse-next", "calls(5)"),
                ("same calls", ""),
                ("set var $rax = 77", ""),
                ("print $rax", "= 77"),
                ("checkpoint", "Checkpoint 1"),
                ("restart 1", "calls(5)"),
                ("same calls", ""),
                ("break twice", ""),
                (
                    "print twice(4)",
                    "Breakpoint 2, twice (n=4) … stopped while in a function called from GDB",
                ),
                ("bt", "twice (n=4) … <function called from gdb> … main ()"),
                ("when", "Completed event"),
                ("finish", "= 8"),
                ("delete", ""),
                ("restart 1", "calls(5)"),
                ("same calls", ""),
                ("print (int) _exit(3)", "error"),
                ("restart 1", "calls(5)"),
                ("same calls", ""),
                ("print total", "= 110"),
            ],
        );
    }
}

/// A checkpoint stored from a session, with breakpoints in the code, equals the recorder's, and is
/// used.
#[test]
fn write_checkpoint() {
    let rr = Rr::new();
    let walk = Debugged::record(&rr, &[], &Program::c("walk"));
    walk.check(
        &[],
        &[
            ("info checkpoints", "No checkpoints. … !Stored in the trace"),
            ("handle SIGUSR1 nostop noprint pass", ""),
            ("break add", ""),
            ("continue", "add (n="),
            (
                "write-checkpoint",
                "Not stored: a checkpoint can be stored only at an event, and this is inside an interval (event  … `seek ",
            ),
            ("info checkpoints", "No checkpoints. … !Stored in the trace"),
            ("seek 40", ""),
            ("save forty", ""),
            // The checkpoint does not contain the user's changes.
            ("print $rax = 77", "77"),
            ("write-checkpoint", "Checkpoint at event 40 stored in the trace."),
            ("write-checkpoint", "The checkpoint at event 40 is in the trace already."),
            (
                "info checkpoints",
                "No checkpoints. … Stored in the trace: 1, from event 40 to event 40",
            ),
            ("seek 30", ""),
            ("write-checkpoint", "Checkpoint at event 30 stored in the trace."),
            ("info checkpoints", "Stored in the trace: 2, from event 30 to event 40"),
            ("seek 40", ""),
            ("same forty", ""),
            // At this place, breakpoints are in the code.
            ("seek 1", ""),
            ("catch syscall mmap", "Catchpoint"),
            ("continue", "call to syscall"),
            ("write-checkpoint", "at the end of the interval"),
            ("break main", ""),
            ("continue", "returned from syscall"),
            ("write-checkpoint", "stored in the trace."),
            ("delete", ""),
            ("break add", ""),
            ("continue", "add (n="),
            ("delete", ""),
            ("continue", ""),
            ("write-checkpoint", "at the end of the interval"),
            ("continue", "exited"),
            ("write-checkpoint", "The program is not being run."),
        ],
    );
    let verified = rr
        .rr([OsStr::new("verify"), walk.dir.as_os_str()])
        .expect_success();
    assert!(
        verified
            .out()
            .contains("3 checkpoints: image and pages identical"),
        "{}",
        verified.describe()
    );

    let output = walk.check(
        &["--log", "rr_replayer=debug", "-g", "40"],
        &[
            ("info checkpoints", "Stored in the trace: 3, from event "),
            ("when", "Completed event: 40\n"),
            ("handle SIGUSR1 nostop noprint pass", ""),
            ("save forty", ""),
            ("run 35", ""),
            ("when", "Completed event: 35\n"),
            ("seek 40", ""),
            ("same forty", ""),
            ("continue", ""),
            ("continue", "exited"),
        ],
    );
    for event in [30, 40] {
        let used = format!("starting from the checkpoint at event {event}");
        assert!(output.contains(&used), "{used:?}\n{output}");
    }
}

#[test]
fn places() {
    let rr = Rr::new();
    let walk = Debugged::record(&rr, &["--checkpoint-interval", "50e"], &Program::c("walk"));
    walk.check(
        &[],
        &[
            ("info checkpoints", "No checkpoints."),
            ("handle SIGUSR1 nostop noprint pass", ""),
            ("break add if n == 3", ""),
            ("continue", "add (n=3)"),
            ("checkpoint", "Checkpoint 1 at add () at"),
            ("save one", ""),
            ("when", "Completed event: "),
            ("when-end", "Event at end of recording: "),
            ("when-tid", "Current tid: "),
            ("elapsed-time", "Elapsed Time (s): 0."),
            ("info recording", "Path of recording: \""),
            ("tbreak {print}", ""),
            ("continue", "printf"),
            ("checkpoint", "Checkpoint 2 at main () at"),
            ("save two", ""),
            ("info checkpoints", "ID\tWhen\tWhere\n1\t … add … 2\t … main ()"),
            ("restart 1", "add (n=3)"),
            ("same one", ""),
            ("restart 2", "main ()"),
            ("same two", ""),
            ("back", "add (n=3)"),
            ("same one", ""),
            ("forward", "main ()"),
            ("same two", ""),
            ("delete checkpoint 1", "Deleted checkpoint 1."),
            ("delete checkpoint 1", "No checkpoint number 1."),
            ("delete checkpoint x", "Invalid checkpoint number x."),
            ("delete checkpoint", "'delete checkpoint' requires an argument"),
            ("restart 7", "Checkpoint 7 not found. … Valid checkpoints: 2"),
            ("same two", ""),
            ("run 40", ""),
            ("when", "Completed event: 40\n"),
            ("save hundred", ""),
            ("seek 30", ""),
            ("when", "Completed event: 30\n"),
            ("seek 40", ""),
            ("same hundred", ""),
            ("run", ""),
            ("when", "Completed event: 40\n"),
            ("run 99999", ""),
            ("when", "Completed event"),
            ("seek x", "error: seek: to which event?"),
            ("run c2", "main ()"),
            ("same two", ""),
            (
                "jump 3",
                "Execution of 'jump' is not possible in recorded executions.",
            ),
            ("when-ticks", "rr counts no ticks"),
            ("seek-ticks 5", "rr counts no ticks"),
            ("detach", ""),
        ],
    );
}

#[test]
fn threads() {
    let rr = Rr::new();
    for mode in MODES {
        let threads = Debugged::record(&rr, mode, &Program::c("threads"));
        assert_eq!(threads.recorded.out(), "shared 42\n");
        threads.check(
            &[],
            &[
                ("break {look}", ""),
                ("continue", "Breakpoint 1, main ()"),
                ("save look", ""),
                ("info threads", "\"threads\" … \"sleeper\" … \"writer\""),
                (
                    "thread apply all bt",
                    "Thread 3 … writer … Thread 2 … sleeper … Thread 1 … main ()",
                ),
                ("thread 2", ""),
                ("print own", "= 12"),
                ("thread 3", ""),
                ("print own", "= 11"),
                ("thread 1", ""),
                ("print own", "= 7"),
                ("print shared", "= 42"),
                ("same look", ""),
                ("watch shared", "atchpoint 2: shared"),
                (
                    "reverse-continue",
                    "Thread 3 \"writer\" hit … Old value = 42 … New value = 0 … store (value=42)",
                ),
                ("bt", "#0  … store … writer"),
                ("save store", ""),
                ("when-tid", "Current tid: "),
                ("reverse-continue", "No more reverse-execution history"),
                ("continue", "\"writer\" hit … Old value = 0 … New value = 42"),
                ("reverse-stepi", ""),
                ("same store", ""),
                ("delete", ""),
                ("tbreak {look}", ""),
                ("continue", "main ()"),
                ("same look", ""),
                ("next", ""),
                ("set scheduler-locking on", ""),
                ("next", ""),
                ("reverse-next", ""),
                ("set scheduler-locking replay", ""),
                ("handle SIGKILL stop", ""),
                ("continue", ""),
            ],
        );
    }
}

#[test]
fn families() {
    let rr = Rr::new();
    for mode in MODES {
        let family = Debugged::record(&rr, mode, &Program::c("family"));
        assert_eq!(
            family.recorded.shell_status(),
            5,
            "{}",
            family.recorded.describe()
        );
        let out = family.recorded.out();
        let pids = out.lines().last().expect("a line");
        let (first, second) = pids.split_once(' ').expect("two numbers");
        family.check(
            &["-f", first],
            &[
                ("info threads", "* 1"),
                ("when-tid", &format!("Current tid: {first}\n")),
                ("break in_child", ""),
                ("continue", "in_child (n=7)"),
                ("bt", "in_child (n=7) … main ("),
                ("print where", "= 0"),
                ("reverse-continue", "No more reverse-execution history"),
                ("bt", "fork … main"),
                ("continue", "in_child (n=7)"),
                ("print in_child(9)", "Breakpoint 1, in_child (n=9)"),
                ("kill", "killed"),
            ],
        );
        for process in [second, "again"] {
            family.check(
                &["-p", process],
                &[
                    ("when-tid", &format!("Current tid: {second}\n")),
                    ("break main", ""),
                    ("continue", "main (argc=2"),
                    ("save main", ""),
                    ("tbreak in_child", ""),
                    ("continue", "in_child (n=4)"),
                    ("watch where", ""),
                    ("continue", "Old value = 2 … New value = 4"),
                    ("reverse-continue", "Old value = 4 … New value = 2"),
                    ("reverse-continue", "Old value = 2 … New value = 0"),
                    ("reverse-continue", "main (argc=2"),
                    ("same main", ""),
                    ("info proc exe", "exe = "),
                ],
            );
        }
        family.check(
            &[],
            &[
                ("catch fork", "Catchpoint"),
                ("catch exec", "Catchpoint"),
                ("break main", ""),
                ("continue", "main (argc=1"),
                ("continue", &format!("forked process {first}")),
                ("continue", &format!("forked process {second}")),
                ("save second", ""),
                ("reverse-continue", &format!("forked process {first}")),
                ("continue", &format!("forked process {second}")),
                ("same second", ""),
                ("delete", ""),
                ("continue", "executed x"),
                ("continue", "exited with code 05"),
            ],
        );
        family.check(
            &["-f", second],
            &[
                ("catch exec", "Catchpoint"),
                ("continue", "exec'd"),
                ("save exec", ""),
                ("break main", ""),
                ("continue", "main (argc=2"),
                ("reverse-continue", "exec'd"),
                ("same exec", ""),
                // gdb has only the symbols of the last program that it has seen.
                ("reverse-continue", "No more reverse-execution history"),
                ("continue", "exec'd"),
                ("same exec", ""),
            ],
        );
        for options in [["-p", "no-such"], ["-f", "1"], ["-p", "1"]] {
            let run = family.run(&options, &[]);
            assert_eq!(run.shell_status(), 2, "{}", run.describe());
        }
    }
}

#[test]
fn crashes() {
    let rr = Rr::new();
    for mode in MODES {
        let crash = Debugged::record(&rr, mode, &Program::c("crash"));
        assert_eq!(crash.recorded.shell_status(), 139);
        crash.check(
            &["-e"],
            &[
                ("bt", "sum ( … main ("),
                ("print node", "(struct list *) 0x10"),
                ("save end", ""),
                ("reverse-continue", "SIGSEGV"),
                ("bt", "sum ( … main ("),
                ("print $_siginfo._sifields._sigfault.si_addr", "0x18"),
                ("save fault", ""),
                ("watch -l nodes[1].next", "atchpoint"),
                (
                    "reverse-continue",
                    "Old value = (struct list *) 0x10 … New value = … damage (node=",
                ),
                ("bt", "damage ( … main ("),
                ("delete", ""),
                ("continue", "SIGSEGV"),
                ("same fault", ""),
                ("continue", ""),
                ("same end", ""),
                ("continue", "terminated with signal SIGSEGV"),
            ],
        );
        let abort = Debugged::record(&rr, mode, &Program::c("crash").arg("abort"));
        assert_eq!(abort.recorded.shell_status(), 134);
        abort.check(
            &["-e"],
            &[
                ("bt", "abort () … main ("),
                ("reverse-continue", "SIGABRT"),
                ("break crash.c:{abort}", ""),
                ("reverse-continue", "Breakpoint 1, main ("),
                ("print nodes[1].next", "0x10"),
                (
                    "last nodes[1].next->next",
                    "last: nodes[1].next->next would lie at 0x10, where there is no memory",
                ),
                ("watch *(long *) 0x3420726562000000", "atchpoint"),
                ("reverse-stepi", "Could not insert hardware watchpoint"),
                ("delete", ""),
                ("last nodes[1].next", "damage (node="),
            ],
        );
    }
}

/// Steps over all instructions of a function and back. Compares the state at both ends, and in the
/// middle.
fn over(function: &'static str, result: &'static str) -> Vec<(String, &'static str)> {
    let forward = "python while gdb.newest_frame().name() != 'main': gdb.execute('stepi', to_string=True)";
    let back = "python while gdb.newest_frame().pc() != rr_pc: gdb.execute('reverse-stepi', to_string=True)";
    let mut script: Vec<(String, &str)> = vec![
        ("handle SIGUSR1 nostop noprint pass".into(), ""),
        (format!("break *{function}"), ""),
        ("continue".into(), "Breakpoint"),
        ("delete".into(), ""),
        (format!("save {function}"), ""),
        ("python rr_pc = gdb.newest_frame().pc()".into(), ""),
        (forward.into(), "!error"),
        (format!("save after-{function}"), ""),
        (format!("print {result}"), "="),
        (back.into(), "!error"),
        (format!("same {function}"), ""),
        ("finish".into(), "main"),
        (format!("same after-{function}"), ""),
    ];
    script.push((format!("print {result}"), "="));
    script
}

#[test]
fn instructions() {
    let rr = Rr::new();
    for mode in MODES {
        let odd = Debugged::record(&rr, mode, &Program::c("odd"));
        let mut script: Vec<(String, &str)> = Vec::new();
        let functions = [
            ("flags_of", "(flags & 0x100) == 0"),
            ("count", "counter != 0"),
            ("identify", "leaf != 0"),
            ("move", "to[3] == 'm'"),
            ("call", "$rax > 0"),
            // Once more, now that the recorder has rewritten the place.
            ("call", "$rax > 0"),
        ];
        for (function, result) in functions {
            let mut steps = over(function, result);
            for step in &mut steps {
                if step.1 == "=" {
                    step.1 = "= 1";
                }
            }
            script.extend(steps);
        }
        // The handler returns to the kernel's trampoline.
        let mut handler = over("handler", "caught");
        handler[11] = ("tbreak {caught}".into(), "");
        handler.insert(12, ("continue".into(), "main ()"));
        script.extend(handler);
        let script: Vec<(&str, &str)> = script.iter().map(|(c, t)| (c.as_str(), *t)).collect();
        odd.check(&[], &script);
    }
}

#[test]
fn lldb_breaks_steps_and_continues() {
    if !rr_tests::programs::is_installed("lldb") {
        eprintln!("skipped: there is no lldb here");
        return;
    }
    let rr = Rr::new();
    let walk = Debugged::record(&rr, &[], &Program::c("walk"));
    let mut command = walk.command(&["-d", "lldb"]);
    command.args(["--", "-x", "-b"]);
    let script = [
        ("breakpoint set -n add", "Breakpoint 1: where = walk`add"),
        ("continue", "stop reason = breakpoint 1.1"),
        ("frame variable", "(int) n = 1"),
        ("thread backtrace", "walk`add"),
        ("thread step-in", "stop reason = step in"),
        ("thread step-out", "stop reason = step out"),
        ("thread step-over", "stop reason = step over"),
        ("thread step-inst", "stop reason = instruction step into"),
        ("continue", "stop reason = breakpoint 1.1"),
        ("frame variable", "(int) n = 2"),
        ("breakpoint delete -f", "All breakpoints removed"),
        ("watchpoint set variable total", "Watchpoint created"),
        ("continue", "stop reason = watchpoint 1"),
        ("watchpoint delete -f", "All watchpoints removed"),
        ("process handle -s false SIGUSR1", "SIGUSR1"),
        // The last place before the exit.
        ("continue", "stop reason = signal SIGKILL"),
    ];
    for (line, _) in script {
        command.args(["-o", line]);
    }
    // The first "(lldb)" of each line is its echo.
    let output = run(&mut command, Duration::from_secs(60)).out();
    let mut rest = &*output;
    for (line, text) in script {
        let after = rest
            .split_once(&format!("(lldb) {line}\n"))
            .map(|(_, after)| after);
        rest = after.unwrap_or_else(|| panic!("{line:?} was not executed\n{output}"));
        let printed = rest.split("\n(lldb) ").next().unwrap_or(rest);
        assert!(printed.contains(text), "no {text:?} after {line:?}\n{output}");
    }
}

#[test]
fn exceptions_of_cpp() {
    let rr = Rr::new();
    let throw = Debugged::record(&rr, &[], &Program::build("throw.cc").expect("the tests need g++"));
    assert_eq!(throw.recorded.out(), "too many\n");
    throw.check(
        &[],
        &[
            ("catch throw", "Catchpoint 1 (throw)"),
            ("continue", "Catchpoint 1 (exception thrown)"),
            ("bt", "__cxa_throw … fail (n=3) … all ( … main ()"),
            ("save throw", ""),
            ("catch catch", "Catchpoint 2 (catch)"),
            ("continue", "Catchpoint 2 (exception caught)"),
            ("reverse-continue", "Catchpoint 1 (exception thrown)"),
            ("same throw", ""),
            ("up 1", ""),
            ("frame function fail", "fail (n=3)"),
            ("watch -l counter.n", "atchpoint 3"),
            ("continue", "Old value = 3 … New value = -1"),
            ("reverse-continue", "Old value = -1 … New value = 3"),
            ("delete", ""),
            ("break {catch}", ""),
            ("continue", "what = e.what()"),
            (
                "print numbers._M_impl._M_finish - numbers._M_impl._M_start",
                "= 3",
            ),
            ("print what.size()", "= 7"),
            ("next", ""),
            ("print what.size()", "= 8"),
            ("until {said}", "printf"),
            ("up", "error: Initial frame selected; you cannot go up."),
        ],
    );
}

#[test]
fn rust_programs() {
    let rr = Rr::new();
    let Some(program) = Program::build("points.rs") else {
        return;
    };
    for mode in MODES {
        let points = Debugged::record(&rr, mode, &program);
        assert_eq!(points.recorded.out(), "40\n");
        points.check(
            &[],
            &[
                ("break points::grow if n == 3", "Breakpoint 1"),
                ("continue", "points::grow (points="),
                ("print n", "= 3"),
                ("print points.len", "= 2"),
                ("save grow", ""),
                ("finish", "main"),
                ("break points::sum", ""),
                ("continue", "points::sum ("),
                ("info threads", "* 2 … points::sum"),
                ("bt -1", ""),
                ("delete 2", ""),
                ("reverse-continue", "points::grow"),
                ("same grow", ""),
                ("tbreak {print}", ""),
                ("continue", ""),
                ("print all", "= 40"),
            ],
        );
    }
}

/// A program without symbols, and breakpoints that are passed often.
#[test]
fn python_scripts() {
    let rr = Rr::new();
    let program = Program {
        source: rr_tests::gdb::sources().join("script.py"),
        words: vec![
            "/usr/bin/python3".into(),
            rr_tests::gdb::sources().join("script.py").into(),
        ],
    };
    for mode in MODES {
        let python = Debugged::record(&rr, mode, &program);
        assert_eq!(python.recorded.out(), "from python 41\n42\n");
        python.check(
            &[],
            &[
                ("set breakpoint pending on", ""),
                ("tbreak write if $rdi == 1", ""),
                ("continue", "write"),
                ("bt 3", "#0  … write"),
                ("save write", ""),
                ("x/s $rsi", "from python 41"),
                ("info threads", "python3"),
                ("finish", ""),
                ("print $rax", "= 15"),
                ("tbreak write if $rdi == 1 && *(char *)$rsi == '4'", ""),
                ("continue", "write"),
                ("x/s $rsi", "42"),
                ("tbreak write if *(char *)$rsi == 'f' && $rdi == 1", ""),
                ("reverse-continue", "write"),
                ("same write", ""),
            ],
        );
    }
}

/// Not in CI, because the toolchain is large.
#[test]
fn go_programs() {
    let rr = Rr::new();
    let Some(program) = Program::build("routines.go") else {
        return;
    };
    let go = Debugged::record(&rr, &[], &program);
    assert_eq!(go.recorded.out(), "12\n");
    go.check(
        &[],
        &[
            ("break main.double", ""),
            ("continue", "main.double (n="),
            ("save double", ""),
            ("bt", "main.double … main.main.func1"),
            ("delete", ""),
            ("break {print}", ""),
            ("continue", "main.main ()"),
            ("print sum", "= 12"),
            ("break main.double", ""),
            ("reverse-continue", "main.double"),
            ("reverse-continue", "main.double"),
            ("reverse-continue", "main.double"),
            ("same double", ""),
        ],
    );
}

/// Conditions are evaluated in the task: all kinds of operands, at many passes, forwards and backwards.
#[test]
fn conditions() {
    let rr = Rr::new();
    for mode in MODES {
        let conditions = Debugged::record(&rr, mode, &Program::c("conditions"));
        assert_eq!(conditions.recorded.shell_status(), 0);
        conditions.check(
            &[],
            &[
                ("break {begin}", "Breakpoint 1"),
                ("continue", "Breakpoint 1, main ()"),
                // A local variable, late.
                ("break {work} if local == 27777", "Breakpoint 2"),
                ("continue", "work (n=77777, m=233331"),
                ("save deep", ""),
                ("tbreak {between}", ""),
                ("continue", "main ()"),
                ("reverse-continue", "work (n=77777, m=233331"),
                ("same deep", ""),
                ("reverse-continue", "Breakpoint 1, main ()"),
                ("continue", "work (n=77777"),
                ("same deep", ""),
                ("stepi", ""),
                ("reverse-stepi", "work (n=77777"),
                ("same deep", ""),
                ("delete 2", ""),
                // Arguments in registers.
                ("tbreak *work if $rdi == 40000 && $rsi == 120000", "breakpoint 4"),
                ("reverse-continue", "breakpoint 4, work"),
                ("print $rdi", "= 40000"),
                // A global variable; one of two.
                ("break {work} if global == 500 || n == 99", "Breakpoint 5"),
                ("reverse-continue", "work (n=500,"),
                ("reverse-continue", "work (n=99,"),
                ("delete 5", ""),
                // Negative numbers, values of less than a word, of more than half a word, and pointers.
                ("tbreak {work} if local > -49891 && local < -49889", ""),
                ("continue", "work (n=110,"),
                (
                    "tbreak {work} if item->letter == 'd' && item->sign == -3 && item->byte == 253 && item->small == -900 && n > 1000",
                    "",
                ),
                ("continue", "work (n=1003,"),
                ("tbreak {work} if wide == 6442450944000", ""),
                ("continue", "work (n=1500,"),
                ("tbreak {work} if item->next->next->value == 66 && n > 2000", ""),
                ("continue", "work (n=2004,"),
                ("tbreak {work} if n % 1000 == 7 && !(n / 100 % 2)", ""),
                ("continue", "work (n=2007,"),
                ("tbreak {work} if (char) m == -5 ? n < 2100 : n == 2100", ""),
                ("continue", "work (n=2100"),
                ("save here", ""),
                // A condition's own access does not trigger a watchpoint.
                ("awatch watched", "watchpoint"),
                ("break {work} if n > 24900 && n < 25100 && watched == 25000 && n == 25002", "Breakpoint 13"),
                ("continue", "Old value = 0 … New value = 25000"),
                ("continue", "Breakpoint 13, work (n=25002,"),
                ("save watched", ""),
                ("continue", "Old value = 25000 … New value = 50000"),
                ("reverse-continue", "Old value = 50000 … New value = 25000"),
                ("reverse-continue", "Breakpoint 13, work (n=25002,"),
                ("same watched", ""),
                ("reverse-continue", "Old value = 25000 … New value = 0"),
                ("delete", ""),
                ("watch watched if watched > 60000", "atchpoint 14"),
                ("break {work} if watched == 50000 && n == 50001", ""),
                ("continue", "work (n=50001,"),
                ("continue", "New value = 75000"),
                ("reverse-continue", "work (n=50001,"),
                ("delete", ""),
                // A condition reads the program's own code everywhere.
                ("tbreak {work} if *(unsigned char *) work == 0x55 && n == 60000", ""),
                ("continue", "work (n=60000,"),
                ("tbreak {work} if *(unsigned char *) $pc == 0xcc || n == 60100", ""),
                ("continue", "work (n=60100,"),
                ("tbreak {work} if *((unsigned char *) $pc + global % 3) == 0xe9 || n == 60200", ""),
                ("continue", "work (n=60200,"),
            ],
        );
    }
}

/// Conditions that cannot read their operands, code that leaves no room, flags, and threads.
#[test]
fn conditions_at_odd_places() {
    let rr = Rr::new();
    for mode in MODES {
        let conditions = Debugged::record(&rr, mode, &Program::c("conditions"));
        let sum = format!("= {}", conditions.recorded.out().trim());
        let output = conditions.check(
            &[],
            &[
                ("break {between}", ""),
                ("continue", "main ()"),
                // A condition with an error counts as true.
                ("break {maybe} if item->value == 33", "Breakpoint 2"),
                ("continue", "Error in testing … maybe (item=0x0)"),
                ("continue", "Error in testing … maybe (item=0x0)"),
                ("delete 2", ""),
                ("break {maybe} if item && item->value == 33", "Breakpoint 3"),
                ("continue", "Breakpoint 3, maybe (item="),
                ("save maybe", ""),
                ("continue", "Breakpoint 3, maybe (item="),
                ("reverse-continue", "Breakpoint 3, maybe (item="),
                ("same maybe", ""),
                ("reverse-continue", "Breakpoint 1, main ()"),
                ("delete", ""),
                // A place two bytes after another, and a place that the code jumps to.
                ("break *two if sum == -1", "Breakpoint 4"),
                ("break *two_more if n == 1000", "Breakpoint 5"),
                ("continue", "Breakpoint 5, "),
                ("continue", "Breakpoint 5, "),
                ("print $rax", "= 1"),
                ("reverse-continue", "Breakpoint 5, "),
                ("print $rax", "= 0"),
                ("delete 5", ""),
                ("tbreak flags", ""),
                ("timed continue", "flags (n=0) … took"),
                ("delete", ""),
                ("tbreak *compared if $rcx == 9998 && $rdx > 5", ""),
                ("continue", "flags (n=9998)"),
                ("save flags", ""),
                // Two conditions at one place, and two threads.
                ("delete", ""),
                ("break {work} if n == 202500", ""),
                ("break {work} if n == 302500", ""),
                ("tbreak {end}", ""),
                ("continue", "work (n="),
                ("save first", ""),
                ("continue", "work (n="),
                ("save second", ""),
                ("continue", "main ()"),
                ("print sum", &sum),
                ("reverse-continue", "work (n="),
                ("same second", ""),
                ("reverse-continue", "work (n="),
                ("same first", ""),
                ("delete", ""),
                ("tbreak *compared if $rcx == 9998 && $rdx > 5", ""),
                ("reverse-continue", "flags (n=9998)"),
                ("same flags", ""),
            ],
        );
        let hits = |n| output.matches(&format!("work (n={n},")).count();
        assert_eq!((hits(202_500), hits(302_500)), (2, 2), "{output}");
    }
}

#[test]
fn interrupts() {
    let rr = Rr::new();
    let long = Debugged::record(&rr, &[], &Program::c("long"));
    let mut terminal = Terminal::run(&mut long.command(&["-o-nx", "-o-q", "-o-iex", "-oset confirm off"]));
    // The file is named because on a busy machine the first ^C comes while gdb still reads libraries,
    // and the place is in the loader.
    let line = long.program.line("loop").unwrap();
    terminal.types("", "(rr) ");
    terminal.types(&format!("break long.c:{line} if state == 0\n"), "(rr) ");
    // A long way forward …
    terminal.types("continue\n", "Continuing.");
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    terminal.types("\x03", "received signal SIGINT, Interrupt.");
    terminal.types("", "(rr) ");
    let forward = began.elapsed();
    let place = terminal.types("print i\n", "(rr) ");
    terminal.types("stepi\n", "(rr) ");
    terminal.types("reverse-stepi\n", "(rr) ");
    let again = terminal.types("print i\n", "(rr) ");
    let value = |text: &str| {
        text.rsplit(" = ")
            .next()
            .map(|v| v.trim().trim_end_matches("(rr)").trim().to_owned())
    };
    assert_eq!(value(&place), value(&again));
    terminal.types("delete\n", "(rr) ");
    terminal.types(
        &format!("tbreak long.c:{}\n", long.program.line("end").unwrap()),
        "(rr) ",
    );
    terminal.types("continue\n", "phase = 2");
    terminal.types(&format!("break long.c:{line} if state == 0\n"), "(rr) ");
    // … and back: an interrupt returns to the former place.
    terminal.types("reverse-continue\n", "Continuing.");
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    terminal.types("\x03", "received signal SIGINT, Interrupt.");
    terminal.types("", "(rr) ");
    let back = began.elapsed();
    terminal.types("print phase\n", " = 1");
    terminal.types("frame\n", "phase = 2");
    terminal.types("delete\n", "(rr) ");
    terminal.types("reverse-continue\n", "history");
    // A ^C with nothing to interrupt.
    terminal.types("\x03", "(rr) ");
    terminal.types("when\n", "Completed event: ");
    terminal.types("quit\n", "quit");
    assert_eq!(terminal.ends(), Some(0));
    // The promise is one second, but the machine is busy with other tests.
    assert!(
        forward < Duration::from_secs(5) && back < Duration::from_secs(5),
        "{forward:?} {back:?}"
    );
}

/// Serves a recording on a port. Returns the process, the port, and the command to start gdb.
fn serving(debugged: &Debugged, options: &[&str]) -> (Started, u16, String) {
    let mut server = start(&mut debugged.command(&[&["-s", "0"], options].concat()));
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let text = String::from_utf8(server.stdout_so_far()).unwrap();
        if let Some((_, after)) = text.split_once("127.0.0.1:")
            && let Some((port, _)) = after.split_once('\'')
        {
            let line = text.lines().nth(1).unwrap().trim().to_owned();
            return (server, port.parse().unwrap(), line);
        }
        assert!(Instant::now() < end && !server.ended(), "{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn asks(client: &mut TcpStream, packet: &str) -> String {
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.write_all(packet.as_bytes()).unwrap();
    let mut answer = String::new();
    while !answer.contains('#') {
        let mut buf = [0; 256];
        match client.read(&mut buf) {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.push_str(&String::from_utf8_lossy(&buf[..n])),
        }
    }
    answer
}

#[test]
fn servers() {
    let rr = Rr::new();
    let walk = Debugged::record(&rr, &[], &Program::c("walk"));
    let (mut server, port, line) = serving(&walk, &["-k"]);
    // A client disconnects in the middle. No second client is accepted meanwhile.
    let mut first = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(asks(&mut first, "$?#3f").contains("$T"));
    assert!(
        TcpStream::connect(("127.0.0.1", port)).is_err(),
        "a second client at once"
    );
    assert!(asks(&mut first, "+$qC#b4").contains("$QC"));
    assert!(asks(&mut first, "+$nonsense#00$qC#b4").contains('$'));
    first.write_all(b"+$vCont;c").unwrap();
    drop(first);
    // gdb by the printed command, and with our commands; twice.
    let gdbinit = rr.new_dir().join("rr.gdb");
    std::fs::write(&gdbinit, rr.rr(["gdbinit"]).expect_success().stdout).unwrap();
    let script: &[(&str, &str)] = &[
        ("break add", ""),
        ("continue", "add (n="),
        ("reverse-stepi", ""),
        ("when", "Completed event: "),
        ("run", ""),
        ("when", "Completed event: "),
        ("continue", "add (n=1)"),
        ("disconnect", ""),
    ];
    let file = walk.script(script);
    for _ in 0..2 {
        let line = line.replacen("gdb ", &format!("gdb -nx -batch -x {} ", gdbinit.display()), 1);
        let line = format!("{line} -x {} 2>&1", file.display());
        let mut command = rr.plain_command("sh".as_ref(), rr.home());
        let run = run(command.arg("-c").arg(&line), rr.limit);
        check(&walk.program, &run.out(), &line, script);
    }
    assert!(!server.ended());
    server.signal(Signal::SIGTERM);
    server.finish(rr.limit);
    // Without -k the server ends with its client.
    let (server, port, _) = serving(&walk, &[]);
    drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
    server.finish(rr.limit).expect_status(0);
}

/// The commands that VS Code (`remote`) and CLion (`extended-remote`) send.
#[test]
fn machine_interface() {
    let rr = Rr::new();
    let walk = Debugged::record(&rr, &[], &Program::c("walk"));
    let gdbinit = rr.new_dir().join("rr.gdb");
    std::fs::write(&gdbinit, rr.rr(["gdbinit"]).expect_success().stdout).unwrap();
    for (kind, with_script) in [("remote", false), ("extended-remote", true)] {
        let (server, port, _) = serving(&walk, &[]);
        let mut commands = format!(
            "-gdb-set mi-async off\n-gdb-set sysroot /\n-enable-pretty-printing\n\
             -file-exec-and-symbols {}\n-target-select {kind} 127.0.0.1:{port}\n\
             -interpreter-exec console \"handle SIGUSR1 nostop noprint pass\"\n\
             -break-insert add\n-exec-continue\n-stack-list-frames\n-stack-list-variables --all-values\n\
             -thread-info\n-exec-step\n-exec-finish\n-exec-next --reverse\n-exec-step --reverse\n\
             -exec-continue --reverse\n-exec-continue\n-data-evaluate-expression total\n\
             -data-list-register-values x\n-var-create - * n\n-break-watch total\n-exec-continue\n",
            walk.program.path().display()
        );
        if with_script {
            commands += "-interpreter-exec console \"when\"\n-interpreter-exec console \"checkpoint\"\n\
                         -interpreter-exec console \"restart 1\"\n-interpreter-exec console \"reverse-continue\"\n";
        }
        commands += "-target-disconnect\n-gdb-exit\n";
        let file = rr.new_dir().join("commands");
        std::fs::write(&file, commands).unwrap();
        let script = if with_script {
            format!("-x {}", gdbinit.display())
        } else {
            String::new()
        };
        let line = format!("exec gdb -nx -q -i=mi {script} < {} 2>&1", file.display());
        let mut command = rr.plain_command("sh".as_ref(), rr.home());
        let out = run(command.arg("-c").arg(&line), rr.limit).out();
        let mut texts = vec![
            "^connected",
            "^done,bkpt={number=\"1\"",
            "*stopped,reason=\"breakpoint-hit\"",
            "^done,stack=[frame={level=\"0\"",
            "func=\"add\"",
            "^done,variables=[{name=\"n\"",
            "^done,threads=[",
            "*stopped,reason=\"end-stepping-range\"",
            "func=\"twice\"",
            "*stopped,reason=\"function-finished\"",
            "func=\"add\"",
            "*stopped",
            "*stopped",
            // gdb 13 and 16 report the end of history in different words.
            "history",
            "*stopped",
            "*stopped,reason=\"breakpoint-hit\"",
            "^done,value=\"0\"",
            "register-values",
            "^done,name=\"var1\"",
            "^done,wpt={number=\"2\"",
            "*stopped,reason=\"watchpoint-trigger\"",
            "value={old=\"0\",new=\"2\"}",
        ];
        if with_script {
            texts.extend([
                "Completed event: ",
                "Checkpoint 1 at",
                "*stopped",
                "*stopped,reason=\"watchpoint-trigger\"",
            ]);
        }
        texts.push("^exit");
        let mut rest = out.as_str();
        for text in texts {
            match rest.split_once(text) {
                Some((_, after)) => rest = after,
                None => panic!("no {text:?} (in this order)\n{out}"),
            }
        }
        server.finish(rr.limit).expect_status(0);
    }
}

#[test]
fn files_that_are_gone_and_output() {
    let rr = Rr::new();
    let mut program = Program::c("walk");
    let copy = rr.new_dir().join("gone");
    copy_program(program.path(), &copy);
    program.words = vec![copy.clone().into()];
    let gone = Debugged::record(&rr, &[], &program);
    let script: &[(&str, &str)] = &[
        ("handle SIGUSR1 nostop noprint pass", ""),
        ("break add", ""),
        ("continue", "Breakpoint 1, add (n=1)"),
        ("bt", "#1 … main ()"),
        ("info sharedlibrary", "libc.so"),
        ("delete", ""),
        ("tbreak write", ""),
        ("continue", "write"),
        ("bt", "main ()"),
    ];
    std::fs::write(&copy, "something else").unwrap();
    gone.check(&[], script);
    std::fs::remove_file(&copy).unwrap();
    gone.check(&[], script);
    gone.check(&["--serve-files"], script);
    // The program's output appears when going forwards, once it is written; not with -q, and elsewhere
    // with --tty.
    let forward: &[(&str, &str)] = &[
        ("handle SIGUSR1 nostop noprint pass", ""),
        ("break {pid}", ""),
        ("continue", "hello 110 11"),
        ("reverse-stepi", "!hello"),
        ("continue", ""),
    ];
    gone.check(&[], forward);
    let quiet: Vec<(&str, &str)> = forward
        .iter()
        .map(|(c, t)| (*c, if t.starts_with("hello") { "!hello" } else { *t }))
        .collect();
    gone.check(&["-q"], &quiet);
    let file = rr.new_dir().join("output");
    gone.check(&["--tty", file.to_str().unwrap()], &quiet);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hello 110 11\n");
}

/// The kernel marks the name of an executable that was removed or replaced. A debugger must get the
/// path all the same.
#[test]
fn an_executable_that_lost_its_name_before_it_was_executed() {
    let rr = Rr::new();
    let unnamed = Debugged::record(&rr, &[], &Program::c("unnamed"));
    assert_eq!(unnamed.recorded.shell_status(), 0);
    let script = [
        ("info inferiors", "rr-unnamed- … !(deleted)"),
        ("break inside", "Breakpoint 1"),
        ("reverse-continue", "Breakpoint 1, inside (n=2)"),
        ("bt", "#1 … main (argc=2"),
    ];
    unnamed.check(&["-e"], &script);
}

#[test]
fn what_cannot_be_debugged() {
    let rr = Rr::new();
    let walk = Debugged::record(&rr, &[], &Program::c("walk"));
    let refused = |options: &[&str], status: i32, text: &str| {
        let run = run(&mut walk.command(options), rr.limit).expect_status(status);
        assert!(run.out().contains(text), "{}", run.describe());
    };
    refused(&["-g", "99999"], 1, "the recording has the events 1 to ");
    refused(
        &["-d", "/no/such/gdb"],
        1,
        "there is no debugger /no/such/gdb: install gdb",
    );
    refused(&["-p", "4"], 2, "no process 4");
    refused(&["-f", "4"], 2, "no process 4");
    refused(&["-k"], 4, "-s");
    let pass = ("handle SIGUSR1 nostop noprint pass", "");
    let events = walk.check(
        &["-g", "30"],
        &[("when", "Completed event: 30\n"), ("when-end", "")],
    );
    let end = events
        .split("Event at end of recording: ")
        .nth(1)
        .and_then(|t| t.lines().next())
        .unwrap();
    walk.check(
        &["-g", end],
        &[
            pass,
            ("when", "Completed event"),
            ("reverse-continue", "No more reverse-execution history"),
        ],
    );
}

/// The promised times are for an idle machine. Here they must only be in the same range.
#[test]
fn times() {
    let rr = Rr::new();
    let times = Debugged::record(&rr, &["-n"], &Program::c("times"));
    let output = times.check(
        &[],
        &[
            ("break {after}", ""),
            ("continue", "state++"),
            ("save after", ""),
            ("timed reverse-next", "calls(); … took"),
            ("next", ""),
            ("same after", ""),
            ("reverse-stepi", ""),
            (
                "timed python for n in range(20): gdb.execute('reverse-stepi', to_string=True)",
                "took",
            ),
            ("delete", ""),
            ("watch written", ""),
            (
                "timed reverse-continue",
                "Old value = 9999 … New value = 9998 … took",
            ),
            (
                "timed reverse-continue",
                "Old value = 9998 … New value = 9997 … took",
            ),
        ],
    );
    let took: Vec<u64> = output
        .split("took ")
        .skip(1)
        .map(|t| t.split_once(' ').unwrap().0.parse().unwrap())
        .collect();
    eprintln!(
        "reverse-next over 1,000 system calls, 20 × reverse-stepi, 2 × reverse-continue to a write: {took:?} ms"
    );
    for (took, promised) in took.iter().zip([1000, 2000, 5000, 5000]) {
        assert!(*took < 4 * promised, "{took} ms, promised are {promised}");
    }
}
