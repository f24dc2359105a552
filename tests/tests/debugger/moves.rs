//! Moving through a replay: steps, breakpoints, checkpoints, interrupts, both ways.

use std::time::{Duration, Instant};

use rr_tests::Rr;
use rr_tests::gdb::{Debugged, Program};
use rr_tests::terminal::Terminal;

use super::MODES;

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

/// The loop is executed through the library soon. The debugger sees the program's own instructions all
/// the same, and stops at each turn.
#[test]
fn a_loop_that_reads_the_counter() {
    let rr = Rr::new();
    for mode in MODES {
        let ticks = Debugged::record(&rr, mode, &Program::c("ticks"));
        ticks.check(
            &[],
            &[
                ("break main", "Breakpoint 1"),
                ("continue", "Breakpoint 1, main ()"),
                (
                    "x/3i before_read",
                    "mov    $0x55667788,%r9d … rdtsc … addq   $0x1,",
                ),
                // Each turn comes by at each of these places; the first one only from above.
                ("break *read_ticks", "Breakpoint 2"),
                ("break *before_read", "Breakpoint 3"),
                ("break *behind_read", "Breakpoint 4"),
                ("ignore 2 1000", ""),
                ("ignore 3 1000", ""),
                ("ignore 4 1000", ""),
                ("break {printed}", "Breakpoint 5"),
                ("continue", "Breakpoint 5, main ()"),
                (
                    "info breakpoints",
                    "already hit 60 times … already hit 2 times … already hit 60 times",
                ),
                (
                    "x/3i before_read",
                    "mov    $0x55667788,%r9d … rdtsc … addq   $0x1,",
                ),
                ("delete 2 3 4", ""),
                ("break *read_ticks if turns == 50", "Breakpoint 6"),
                ("reverse-continue", "Breakpoint 6"),
                ("save fifty", ""),
                ("stepi", ""),
                ("print $pc == (long)&behind_read", "= 1"),
                ("save read", ""),
                ("stepi", ""),
                ("print turns", "= 51"),
                ("reverse-stepi", ""),
                ("same read", ""),
                ("reverse-stepi", ""),
                ("same fifty", ""),
                ("tbreak *before_read", ""),
                ("reverse-continue", "Temporary breakpoint"),
                ("stepi", ""),
                ("print $pc == (long)&read_ticks", "= 1"),
                ("print turns", "= 30"),
                ("continue", "Breakpoint 6"),
                ("same fifty", ""),
            ],
        );
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
