//! Programs of other languages, and another debugger.

use std::time::Duration;

use rr_tests::Rr;
use rr_tests::gdb::{Debugged, Program};
use rr_tests::run::run;

use super::MODES;

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
            // Go sends itself this signal when a goroutine runs for long, as on a busy machine; rr's script lets gdb stop at it.
            ("handle SIGURG nostop noprint pass", ""),
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
